"""What the function returned for one call, checked and brought into the shape in which it is stored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from curlflow.outcome import Ending, Outcome
from curlflow.sweeps.grid import RESERVED, Call

# What a computation raises when its numbers fail. Anything else is a mistake in the function, or the machine's failure.
NUMERICAL_FAILURES = (ArithmeticError, np.linalg.LinAlgError, eqx.EquinoxRuntimeError)


@dataclass(frozen=True)
class Answer:
    """The numbers and outcomes of the cells of one call.

    Attributes
    ----------
    values
        Name → array of shape (cells along each axis …, the value's own shape …); empty if there are no numbers.
    outcomes
        One per cell.
    seconds
        The wall time of the whole call.
    """

    values: dict[str, np.ndarray]
    outcomes: tuple[Outcome, ...]
    seconds: float


def evaluate(fn: Callable[..., Any], call: Call) -> Answer:
    """Call the function; a numerical failure is an answer too."""
    started = time.perf_counter()
    try:
        returned = jax.block_until_ready(fn(**call.arguments))
    except NUMERICAL_FAILURES as failure:
        message = f"{type(failure).__name__}: {failure}"
        return failed(call, Ending.SOLVER_FAILED, message, time.perf_counter() - started)
    seconds = time.perf_counter() - started
    if not isinstance(returned, Mapping):
        raise ValueError(
            f"`fn` must return a mapping of names to numbers, but returned {type(returned).__name__}."
        )
    values = {name: _as_stored(name, value, call) for name, value in returned.items() if name != "outcome"}
    return Answer(values, _outcomes(returned.get("outcome"), values, call), seconds)


def failed(call: Call, ending: Ending, message: str, seconds: float) -> Answer:
    """An answer without numbers: every cell of the call ended in the same way."""
    return Answer({}, (Outcome(ending, None, message),) * call.cells, seconds)


def _as_stored(name: Any, value: Any, call: Call) -> np.ndarray:
    """Numbers as float64 or complex128, of shape (cells along each axis …, own shape …)."""
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED or name in call.arguments:
        raise ValueError(
            f"`fn` must return names of its own, other than its parameters and {', '.join(RESERVED)}, "
            f"but returned {name!r}."
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"`fn` must return numbers, but returned {value!r} as `{name}`.")
    if call.is_batch and (array.ndim == 0 or len(array) != call.cells):
        raise ValueError(
            f"`fn` must return one entry for each of the {call.cells} cells of a batch, "
            f"but returned shape {array.shape} as `{name}`."
        )
    stored = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    if array.dtype.kind in "iu" and not np.array_equal(stored.astype(array.dtype), array):
        raise ValueError(
            f"`fn` must return whole numbers below 2^53, which float64 can hold, but `{name}` has {array.max()}."
        )
    return stored.reshape(call.shape + (array.shape[1:] if call.is_batch else array.shape))


def _outcomes(given: Any, values: dict[str, np.ndarray], call: Call) -> tuple[Outcome, ...]:
    """The outcomes the function gave; without one, a cell whose numbers are NaN is undecided."""
    if given is None:
        return tuple(_own_outcome(values, index) for index in np.ndindex(call.shape))
    outcomes: tuple[Any, ...] = tuple(given) if isinstance(given, Sequence) and call.is_batch else (given,)
    if len(outcomes) != call.cells or not all(isinstance(outcome, Outcome) for outcome in outcomes):
        wanted = f"a list of {call.cells} Outcomes" if call.is_batch else "an Outcome"
        raise ValueError(f"`fn` must return {wanted} as `outcome`, but returned {given!r}.")
    return outcomes


def _own_outcome(values: dict[str, np.ndarray], index: tuple[int, ...]) -> Outcome:
    unknown = [name for name, value in values.items() if np.isnan(value[index]).any()]
    if unknown:
        return Outcome(Ending.UNDECIDED, None, f"`{unknown[0]}` is NaN, and no `outcome` says why.")
    return Outcome(Ending.COMPLETED, None, "Computed.")
