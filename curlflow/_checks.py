"""Argument checks. One sentence form: "`x` must …, but …".

Every check looks at concrete values only: a traced array (inside `jax.jit` or `jax.vmap`) passes the value checks,
because its values are not known there. Shapes and dtypes are always known and always checked.
"""

import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jax.core import Tracer
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

# Below the smallest relative tolerance rounding decides the step size; at the largest, errors of a step are no longer small.
SMALLEST_RTOL = 100 * float(np.finfo(np.float64).eps)
LARGEST_RTOL = 0.1
FLOAT64_BYTES = 8
LARGEST_INTEGER = 2**63 - 1


# Beyond it squares, and with them norms and scalar products, are no numbers any more.
LARGEST_STATE = float(np.finfo(np.float64).max) ** 0.5


def blow_up_limit(blow_up: float | None, y0: PyTree[Array]) -> float:
    """Return the largest magnitude that a run from `y0` may reach, as a number beyond that of `y0` itself.

    None means `LARGEST_STATE`: a bounded motion may be of any size, and what blows up passes every limit in next to no time.
    """
    largest = float(optx.max_norm(y0))
    limit = LARGEST_STATE if blow_up is None else _as_number("blow_up", blow_up)
    if not limit > largest:
        raise ValueError(f"`blow_up` must exceed the largest entry of y0, {largest:g}, but is {limit:g}.")
    return limit


def require_float64() -> None:
    """Refuse to compute in JAX's default float32."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "curlflow must compute in float64, but JAX is set to float32. "
            'Run jax.config.update("jax_enable_x64", True) before making any array.'
        )


def float64_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as a finite float64 array; integers, booleans and lists convert, float32 and complex do not."""
    require_float64()
    array = as_array(name, value)
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise ValueError(f"`{name}` must be an array of numbers, but its dtype is {array.dtype}.")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"`{name}` must be real, but its dtype is {array.dtype}.")
    if jnp.issubdtype(array.dtype, jnp.floating) and array.dtype != jnp.float64:
        raise ValueError(
            f"`{name}` must be float64, but its dtype is {array.dtype}. Convert it by .astype(float); of a JAX array, "
            'run jax.config.update("jax_enable_x64", True) before making it.'
        )
    array = array.astype(jnp.float64)
    require_finite(name, array)
    return array


def as_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as an array, if it is one or can be made one."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, but is {value!r}.") from error


def require_finite(name: str, array: Array | np.ndarray) -> None:
    """Refuse NaN and infinity, naming the first place that holds one."""
    if is_traced(array):
        return
    values = np.asarray(array)
    offender = _first(values, ~np.isfinite(values))
    if offender:
        raise ValueError(f"`{name}` must be finite, but has {offender}.")


def require_shape(name: str, array: Array, expected: tuple[int, ...], meaning: str) -> None:
    """Refuse an array whose shape is not `expected`; `meaning` spells the shape in the mathematics' letters."""
    if array.shape != expected:
        raise ValueError(f"`{name}` must have shape {meaning} = {expected}, but has shape {array.shape}.")


def require_signs(name: str, array: Array) -> None:
    """Refuse anything but +1 and −1, naming the first offender."""
    if is_traced(array):
        return
    values = np.asarray(array)
    offender = _first(values, np.abs(values) != 1)
    if offender:
        raise ValueError(f"`{name}` must hold only +1 and −1, but has {offender}.")


def require_positive_semidefinite(name: str, array: Array) -> None:
    """Refuse a square matrix that is not symmetric positive semidefinite, up to rounding."""
    if is_traced(array):
        return
    matrix = np.asarray(array)
    scale = float(np.abs(matrix).max(initial=0.0))
    rounding = 8 * matrix.shape[0] * float(np.finfo(np.float64).eps) * scale
    asymmetry = float(np.abs(matrix - matrix.T).max(initial=0.0))
    if asymmetry > rounding:
        raise ValueError(f"`{name}` must be symmetric, but differs from its transpose by {asymmetry:.3g}.")
    smallest = float(np.linalg.eigvalsh(matrix).min(initial=0.0))
    if smallest < -rounding:
        raise ValueError(
            f"`{name}` must be positive semidefinite, but its smallest eigenvalue is {smallest:.3g}."
        )


def finite_number(name: str, value: float) -> float:
    """Return `value` as a finite Python float."""
    number = _as_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite, but is {number}.")
    return number


def positive_number(name: str, value: float) -> float:
    """Return `value` as a finite float above zero."""
    number = finite_number(name, value)
    if number <= 0:
        raise ValueError(f"`{name}` must be positive, but is {number:g}.")
    return number


def relative_tolerance(name: str, value: float) -> float:
    """Return `value` as a relative tolerance that float64 can honour and that still controls an error."""
    number = positive_number(name, value)
    if not SMALLEST_RTOL <= number < LARGEST_RTOL:
        raise ValueError(
            f"`{name}` must lie between {SMALLEST_RTOL:.2g}, a hundred times float64's precision, and {LARGEST_RTOL}, "
            f"but is {number:g}."
        )
    return number


def non_negative_number(name: str, value: float) -> float:
    """Return `value` as a finite float of at least zero."""
    number = finite_number(name, value)
    if number < 0:
        raise ValueError(f"`{name}` must not be negative, but is {number:g}.")
    return number


def positive_integer(name: str, value: int) -> int:
    """Return `value` as a Python integer of at least one."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"`{name}` must be a whole number, but is {value!r}.")
    if not 1 <= value <= LARGEST_INTEGER:
        raise ValueError(
            f"`{name}` must be {'at least 1' if value < 1 else 'less than 2⁶³'}, but is {value}."
        )
    return int(value)


def whole_number(name: str, value: float) -> int:
    """Return `value`, which may come as a float, as a Python integer that 64 bits can hold."""
    number = finite_number(name, value)
    if number != round(number) or abs(number) > LARGEST_INTEGER:
        raise ValueError(f"`{name}` must be a whole number below 2⁶³, but is {value!r}.")
    return round(number)


def truth_value(name: str, value: bool) -> bool:
    """Return `value` as True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False, but is {value!r}.")
    return bool(value)


def measured_array(name: str, values: ArrayLike) -> np.ndarray:
    """Return `values` as floats, infinity and NaN among them: what is known of runs that blew up or never arrived."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, but is {values!r}.") from error


def fraction(name: str, value: float) -> float:
    """Return `value` as a float between 0 and 1, both included."""
    number = finite_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"`{name}` must lie between 0 and 1, but is {number:g}.")
    return number


def require_made(name: str, value: Any, kind: type, by: str) -> None:
    """Refuse what is not a result of that kind; `by` names the function that makes one."""
    if not isinstance(value, kind):
        raise ValueError(
            f"`{name}` must be a {kind.__name__}, made by {by}, but is a {type(value).__name__}."
        )


def random_key(name: str, key: Any) -> Array:
    """Return `key` if it is one JAX random key, of the new kind or the old."""
    if isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        one = key.shape == ()
    else:
        one = isinstance(key, Array) and key.dtype == jnp.uint32 and key.shape == (2,)
    if not one:
        raise ValueError(f"`{name}` must be one JAX random key, e.g. jax.random.key(0), but is {key!r}.")
    return key


def random_seed(name: str, value: int) -> int:
    """Return `value` as a seed that JAX and NumPy both take."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not 0 <= value <= LARGEST_INTEGER
    ):
        raise ValueError(f"`{name}` must be a whole number from 0 to {LARGEST_INTEGER}, but is {value!r}.")
    return int(value)


def require_room(name: str, numbers: int) -> None:
    """Refuse an array of more numbers than the machine's memory holds: XLA would end the process over it."""
    room = _memory() // FLOAT64_BYTES
    if numbers > room:
        raise ValueError(
            f"`{name}` must be small enough for this machine's memory, which holds {room:.2g} numbers, "
            f"but asks for an array of {numbers:.2g}."
        )


def _memory() -> int:
    """The machine's memory in bytes; a terabyte where the system does not say."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    known = hasattr(os, "sysconf") and all(name in os.sysconf_names for name in names)
    return math.prod(map(os.sysconf, names)) if known else 2**40


def require_one_of(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is not among `choices`."""
    if not any(value is choice or value == choice for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}, but is {value!r}.")


def state_pytree(name: str, y: PyTree[ArrayLike]) -> PyTree[Array]:
    """Return the state `y` with every leaf a finite float64 array; refuse a state without any numbers in it.

    A list of numbers is taken for an array of them, as NumPy does.
    """
    leaves = jtu.tree_leaves_with_path(y, is_leaf=_is_list_of_numbers)
    structure = jtu.tree_structure(y, is_leaf=_is_list_of_numbers)
    arrays = [float64_array(name + jtu.keystr(path), leaf) for path, leaf in leaves]
    if sum(array.size for array in arrays) == 0:
        raise ValueError(f"`{name}` must hold at least one number, but is empty.")
    return jtu.tree_unflatten(structure, arrays)


def _is_list_of_numbers(value: Any) -> bool:
    """Whether `value` is a list, or a list of lists, of bare numbers."""
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(item, (bool, int, float, np.generic)) or _is_list_of_numbers(item) for item in value
    )


def leading_axis(name: str, tree: PyTree[Array], holds: str) -> int:
    """Return the length of the leading axis that every leaf of `tree` must share; `holds` says what it counts."""
    shapes = [leaf.shape for leaf in jtu.tree_leaves(tree)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"`{name}` must have one leading axis of {holds} on every leaf, but the leaves have shapes {shapes}."
        )
    return lengths.pop()


def writable_file(name: str, path: str | Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Return `path`, or refuse it if a file with one of the suffixes could not be written there."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"`{name}` must end in {' or '.join(suffixes)}, but is {path.name!r}.")
    if path.is_dir():
        raise ValueError(f"`{name}` must be a file, but {path} is a folder.")
    if not path.parent.is_dir():
        raise ValueError(f"`{name}` must lie in an existing folder, but {path.parent} is none.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"`{name}` must be writable, but {path} is not.")
    return path


def is_traced(value: Any) -> bool:
    """Whether `value` is inside a JAX transformation, where its numbers are not known."""
    return isinstance(value, Tracer)


def _as_number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` must be a number, but is {value!r}.") from error


def _first(values: np.ndarray, bad: np.ndarray | np.bool_) -> str:
    """The first bad value and where it stands, in words; empty if there is none."""
    places = np.argwhere(bad)
    if not len(places):
        return ""
    index = [int(i) for i in places[0]]
    where = "" if not index else f" at index {index[0] if len(index) == 1 else tuple(index)}"
    return f"{values[tuple(index)]}{where}"
