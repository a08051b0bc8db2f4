"""How a computation ended, in sentences that name the remedy."""

from enum import StrEnum

from curlflow._results import result


class Ending(StrEnum):
    """The ways a computation can end."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FIXED_POINT = "reached a fixed point"
    CYCLE = "reached a cycle"
    BLEW_UP = "blew up"
    STEP_LIMIT = "step limit reached"
    STEP_TOO_SMALL = "step size vanished"
    SOLVER_FAILED = "solver failed"
    NOT_CONVERGED = "not converged"
    OUT_OF_BUDGET = "budget exceeded"
    UNDECIDED = "undecided"
    INTERRUPTED = "interrupted"


@result
class Outcome:
    """How a computation ended, and when.

    Attributes
    ----------
    ending
        One of the `Ending` values, e.g. ``Ending.BLEW_UP``; compares equal to its text, ``"blew up"``.
    time
        The system's time at which it ended, or None where time has no meaning.
    message
        One sentence: what happened and, where something can be done about it, the remedy.

    Examples
    --------
    >>> outcome = Outcome(Ending.BLEW_UP, 3.25, "The largest entry passed 1e+06 at t = 3.25.")
    >>> outcome.ending == "blew up", outcome.ok
    (True, False)
    >>> print(outcome)
    blew up: The largest entry passed 1e+06 at t = 3.25.
    """

    ending: Ending
    time: float | None
    message: str

    @property
    def ok(self) -> bool:
        """Whether what was asked for was delivered: completed, or stopped where the caller asked for it."""
        return self.ending in (Ending.COMPLETED, Ending.STOPPED, Ending.FIXED_POINT, Ending.CYCLE)

    def __str__(self) -> str:
        return f"{self.ending.value}: {self.message}"
