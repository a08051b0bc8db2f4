"""Which cells there are, and which of them are computed together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from curlflow import _checks

RESERVED = ("seed", "ending", "end_time", "message", "wall_time", "outcome")


@dataclass(frozen=True)
class Call:
    """The cells that one call of the function computes: one chunk of every array in the store.

    Attributes
    ----------
    region
        Where they lie in the grid: one slice per axis.
    shape
        How many they are along each axis.
    arguments
        What the function is called with: a number or text for each axis, or, along the axes of a batch, an array with one
        entry per cell.
    is_batch
        Whether there are such axes.
    """

    region: tuple[slice, ...]
    shape: tuple[int, ...]
    arguments: dict[str, Any]
    is_batch: bool

    @property
    def cells(self) -> int:
        """How many cells."""
        return prod(self.shape)

    def __str__(self) -> str:
        return ", ".join(f"{name} = {_in_words(value)}" for name, value in self.arguments.items())


@dataclass(frozen=True)
class Grid:
    """Named axes, the seeds last, and the names of those which one call spans.

    Attributes
    ----------
    axes
        The values along each axis, each an array of shape (values,).
    batch
        The names of the axes along which one call computes all cells.
    """

    axes: dict[str, np.ndarray]
    batch: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values along each axis."""
        return tuple(len(values) for values in self.axes.values())

    @property
    def call_shape(self) -> tuple[int, ...]:
        """How many cells one call spans along each axis."""
        return tuple(len(values) if name in self.batch else 1 for name, values in self.axes.items())

    @property
    def cells(self) -> int:
        """How many cells there are in all."""
        return prod(self.shape)

    def calls(self) -> list[Call]:
        """All calls, in the order of the axes."""
        corners = product(
            *(range(0, size, step) for size, step in zip(self.shape, self.call_shape, strict=True))
        )
        return [self._call(corner) for corner in corners]

    def _call(self, corner: tuple[int, ...]) -> Call:
        region = tuple(
            slice(first, first + step) for first, step in zip(corner, self.call_shape, strict=True)
        )
        values = [axis[part] for axis, part in zip(self.axes.values(), region, strict=True)]
        cells = dict(zip(self.axes, np.meshgrid(*values, indexing="ij"), strict=True))
        arguments = {
            name: cell.ravel() if name in self.batch else cell.flat[0].item() for name, cell in cells.items()
        }
        return Call(region, self.call_shape, arguments, bool(self.batch))


def make_grid(
    axes: Mapping[str, Sequence[Any] | np.ndarray], seeds: int | Sequence[int], batch: Sequence[str]
) -> Grid:
    """Check the axes, the seeds and the batch, and put them together."""
    if not isinstance(axes, Mapping):
        raise ValueError(f"`axes` must map each parameter's name to its values, but is {axes!r}.")
    for name in axes:
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            raise ValueError(
                f"`axes` must have the names of parameters, other than {', '.join(RESERVED)}, but has {name!r}."
            )
    values = {name: _axis_values(f"axes[{name!r}]", given) for name, given in axes.items()}
    values["seed"] = _seed_values(seeds)
    names = (batch,) if isinstance(batch, str) else tuple(batch)
    for name in names:
        _checks.require_one_of("batch", name, tuple(values))
    return Grid(values, names)


def _axis_values(name: str, given: Any) -> np.ndarray:
    """Distinct numbers or texts as an array of shape (values,)."""
    values = np.asarray(given)
    is_text = [isinstance(value, str) for value in given] if values.ndim == 1 else []
    if values.shape == (0,):
        raise ValueError(f"`{name}` must hold at least one value, but is empty.")
    if values.ndim != 1 or values.dtype.kind not in "biufU" or any(is_text) != all(is_text):
        raise ValueError(
            f"`{name}` must be a list of numbers or of texts, but is {given!r}. "
            "For anything else, list names and let the function look them up."
        )
    if len(np.unique(values)) < len(values):
        raise ValueError(f"`{name}` must hold distinct values, but is {given!r}.")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"`{name}` must hold numbers, but holds NaN.")
    return values


def _seed_values(seeds: int | Sequence[int]) -> np.ndarray:
    if isinstance(seeds, (int, np.integer)):
        return np.arange(_checks.positive_integer("seeds", int(seeds) if seeds is not True else seeds))
    values = _axis_values("seeds", seeds)
    if values.dtype.kind not in "iu":
        raise ValueError(f"`seeds` must be whole numbers, or how many to take from 0 on, but is {seeds!r}.")
    return values.astype(np.int64)


def _in_words(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"{value:g}" if isinstance(value, float) else str(value)
    first, last = value[0].item(), value[-1].item()
    return _in_words(first) if first == last else f"{_in_words(first)} … {_in_words(last)}"
