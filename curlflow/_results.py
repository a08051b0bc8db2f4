"""The one make of all results: frozen, comparable, and printed in lines that fit."""

import textwrap
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

import jax.tree_util as jtu
import numpy as np
from jax import Array
from jax.core import Tracer
from numpy.typing import ArrayLike

Result = TypeVar("Result")

# Of a terminal of 80 columns.
WIDTH = 79
ARRAYS = (np.ndarray, np.generic, Array)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def result(cls: type[Result]) -> type[Result]:
    """A frozen dataclass whose arrays do not get in the way.

    Two results are equal if they are of one class and all their fields are, arrays number by number (NaN equals NaN) and
    fields marked `compare=False` left out. What they say of themselves in `__str__` is folded where it is printed; inside of
    another sentence it is not, and their representation is its first line. A result that holds arrays also has `to_xarray`.
    """
    made: Any = dataclass(frozen=True, repr=False)(cls)
    made._says = cls.__str__
    made.__eq__, made.__str__, made.__format__, made.__repr__ = _equal, _printed, _inside, _first_line
    return made


def _printed(self: Any) -> str:
    return _folded(self._says())


def _inside(self: Any, how: str) -> str:
    return format(self._says(), how)


def _first_line(self: Any) -> str:
    return self._says().split("\n", 1)[0]


def _folded(text: str) -> str:
    """Text in lines of a terminal's width, what goes on indented further than what it goes on from."""
    return "\n".join(_folded_line(line) for line in text.split("\n"))


def _folded_line(line: str) -> str:
    # As deep as the words of the line itself, and then some.
    deep = len(line) - len(line.lstrip(" -")) + (0 if line.lstrip().startswith("- ") else 4)
    return textwrap.fill(
        line, WIDTH, subsequent_indent=" " * deep, break_long_words=False, break_on_hyphens=False
    )


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def pytree_result(cls: type[Result]) -> type[Result]:
    """A result which JAX's transformations take and return: all its fields are arrays, and the leaves of a pytree."""
    made: Any = result(cls)
    return jtu.register_dataclass(made, data_fields=[each.name for each in fields(made)], meta_fields=[])


def in_words(values: ArrayLike) -> str:
    """A number, a few numbers, or the range of many and their shape; what JAX says of them where it knows only that."""
    if isinstance(values, Tracer) or np.asarray(values).dtype == object:
        return str(values)
    array = np.asarray(values)
    if array.ndim == 0:
        return _entry(array.item())
    if array.ndim == 1 and array.size <= 6:
        return f"[{', '.join(map(_entry, array.tolist()))}]"
    span = f"{_entry(array.min().item())} … {_entry(array.max().item())}, " if array.size else ""
    return f"[{span}shape {array.shape}]"


def _entry(value: bool | float) -> str:
    return str(value) if isinstance(value, bool) else f"{value:.6g}"


def same(one: Any, other: Any) -> bool:
    """Whether two values, or pytrees of them, are equal number by number; NaN equals NaN."""
    (leaves, structure), (others, other_structure) = jtu.tree_flatten(one), jtu.tree_flatten(other)
    return structure == other_structure and all(map(_same_leaf, leaves, others))


def _same_leaf(one: Any, other: Any) -> bool:
    if not (isinstance(one, ARRAYS) or isinstance(other, ARRAYS)):
        return bool(one == other) or (one != one and other != other)
    a, b = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.inexact)))


def _equal(self: Any, other: Any) -> bool:
    if type(self) is not type(other):
        return NotImplemented
    return all(
        same(getattr(self, each.name), getattr(other, each.name)) for each in fields(self) if each.compare
    )
