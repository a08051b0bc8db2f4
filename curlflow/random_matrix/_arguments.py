"""The arguments of the random-matrix laws: arrays that broadcast against each other."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from curlflow import _checks


def law_arguments(
    c: ArrayLike, alpha_h: ArrayLike, alpha_r: ArrayLike, kappa: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Return the four parameters of the law of X as checked float64 arrays that broadcast."""
    checked = (
        positive_array("c", c),
        fraction_array("alpha_h", alpha_h),
        fraction_array("alpha_r", alpha_r),
        positive_array("kappa", kappa),
    )
    require_broadcastable(("c", "alpha_h", "alpha_r", "kappa"), checked)
    return checked


def positive_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float64 array with every entry above zero."""
    array = _checks.float64_array(name, value)
    _refuse_where(name, array, lambda entries: np.asarray(entries <= 0), "be positive")
    return array


def at_least_one_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float64 array with no entry below one."""
    array = _checks.float64_array(name, value)
    _refuse_where(name, array, lambda entries: np.asarray(entries < 1), "be at least 1")
    return array


def fraction_array(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float64 array with every entry between 0 and 1, both included."""
    array = _checks.float64_array(name, value)
    _refuse_where(
        name, array, lambda entries: np.asarray((entries < 0) | (entries > 1)), "lie between 0 and 1"
    )
    return array


def not_exactly_one(first: str, second: str, *, given: bool) -> ValueError:
    """The refusal of both (`given`) or neither of two arguments."""
    found = "both are" if given else "neither is"
    return ValueError(f"Exactly one of `{first}` and `{second}` must be given, but {found}.")


def require_broadcastable(names: tuple[str, ...], arrays: tuple[Array, ...]) -> None:
    """Refuse arrays whose shapes do not broadcast to a common one."""
    try:
        np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError as error:
        listed = ", ".join(f"`{name}` {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(f"The arguments must broadcast to a common shape, but have {listed}.") from error


def along_axes(values: ArrayLike, *own: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Values as a variable of a dataset: along the axes of the arguments, axis0, axis1, …, and dimensions of their `own`."""
    array = np.asarray(values)
    return (*(f"axis{i}" for i in range(array.ndim - len(own))), *own), array


def _refuse_where(name: str, array: Array, bad: Callable[[np.ndarray], np.ndarray], demand: str) -> None:
    if _checks.is_traced(array):
        return
    entries = np.asarray(array)
    places = np.argwhere(bad(entries))
    if len(places):
        index = [int(i) for i in places[0]]
        where = f" at index {index[0] if len(index) == 1 else tuple(index)}" if index else ""
        raise ValueError(f"`{name}` must {demand}, but is {entries[tuple(index)]:g}{where}.")
