"""What a user's function must be so that JAX can follow it, in the words of those who wrote it for NumPy."""

import inspect
import linecache
import os
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import Any

import equinox as eqx
import jax

# Lines of these are not the user's own.
LIBRARIES = tuple(
    str(Path(folder)) + os.sep
    for folder in (Path(__file__).parent, *map(sysconfig.get_path, ("purelib", "platlib", "stdlib")))
)
# So much of a line is shown.
LONGEST_SHOWN = 60
TIMES = frozenset({"t", "time", "tau", "n", "step"})


class NotTraceable(ValueError):
    """A function that JAX cannot follow."""


# From the more to the less special: what JAX raises, what the function did, and what to write in its place.
REMEDIES: tuple[tuple[type[Exception], str, str], ...] = (
    (
        jax.errors.TracerArrayConversionError,
        "calls NumPy with values that JAX follows",
        "Use jax.numpy in its place, import jax.numpy as jnp: jnp.sin, jnp.array, jnp.stack",
    ),
    (
        jax.errors.TracerBoolConversionError,
        "decides by `if`, `while`, `and`, `or`, `min` or `max` on values that JAX follows",
        "Write jnp.where(condition, this, that), jnp.minimum or jnp.maximum",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "uses a value that JAX follows as a whole number of Python",
        "Write array[index] with jnp arrays",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "makes Python numbers of values that JAX follows, by float(), int() or the module math",
        "Use jax.numpy in its place: jnp.sin for math.sin, and no float()",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "picks entries by a condition",
        "Write jnp.where(condition, this, that)",
    ),
)


def require_arguments(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Refuse a function that does not take these arguments in this order, as far as its signature tells.

    Raises
    ------
    NotTraceable
        A sentence with the arguments that it takes.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables made in C have none
        return
    wanted = f"({', '.join(arguments)})"
    bare = inspect.Parameter.empty
    taken = [str(given.replace(annotation=bare, default=bare)) for given in signature.parameters.values()]
    called = getattr(function, "__name__", type(function).__name__)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise NotTraceable(
            f"`{name}` must be a function of {len(arguments)} arguments, {wanted}, but {called} takes "
            f"({', '.join(taken)}). It is given all of them, also those that it does not use."
        ) from error
    if len(taken) > 1 and taken[1] in TIMES and taken[0] not in TIMES:
        raise NotTraceable(
            f"`{name}` must take its arguments in the order {wanted}, time first, but {called} takes ({', '.join(taken)})."
        )


def shapes_of(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes and dtypes of what a function returns, as `equinox.filter_eval_shape`.

    Raises
    ------
    NotTraceable
        Where the function does what JAX cannot follow: a sentence that names it, the line, and what to write instead.
    """
    try:
        return eqx.filter_eval_shape(function, *arguments)
    except tuple(kind for kind, _, _ in REMEDIES) as error:
        did, instead = next((did, instead) for kind, did, instead in REMEDIES if isinstance(error, kind))
        raise NotTraceable(
            f"`{name}` must be written with jax.numpy, but {_own_line(error.__traceback__)}{did}. {instead}."
        ) from error
    except Exception as error:
        error.add_note(f"Raised by `{name}`, shown arguments of these shapes: {eqx.tree_pformat(arguments)}")
        raise


def _own_line(traceback: TracebackType | None) -> str:
    """The last line of the user's own in a traceback, with the words around it; nothing if there is none."""
    place = ""
    while traceback is not None:
        file, number = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        if not file.startswith(LIBRARIES):
            text = linecache.getline(file, number).strip()
            shown = f", “{shorten(text, LONGEST_SHOWN, placeholder=' …')}”," if text else ""
            place = f"line {number} of {Path(file).name}{shown} "
        traceback = traceback.tb_next
    return place
