"""Long computations in pieces: compiled loops come back to Python often enough for Ctrl-C and second thoughts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curlflow.orbits.trajectory import Trajectory

# How long a piece is to take, in seconds.
PIECE = 0.4
MOST_STEPS, FEWEST_STEPS = 20_000, 4
# How many times as many steps as the one before a piece may have.
GROWTH = 8
# What would take longer, in seconds, is not begun.
DAY = 86_400.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. What was computed until then is in `trajectory`, and `trajectory.final_state` goes on from there.

    It ends a program as any `KeyboardInterrupt` does. After one that nobody caught, Python and IPython keep it as
    `sys.last_value`.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> try:
    ...     run = cf.integrate(cf.toy_flow(), jnp.array([0.5, 1.0]), 20.0)
    ... except cf.orbits.Interrupted as interrupted:
    ...     run = interrupted.trajectory
    >>> print(run.outcome)
    completed: Reached t = 20.
    """

    def __init__(self, trajectory: Trajectory):
        super().__init__(f"{_ended(trajectory)} What was computed is in this exception's `trajectory`.")
        self.trajectory = trajectory


def _ended(trajectory: Trajectory) -> str:
    outcome: Any = trajectory.outcome
    return (outcome[-1] if isinstance(outcome, tuple) else outcome).message


class Pace:
    """How many steps to take in the next piece."""

    def __init__(self, first: float, most: int = MOST_STEPS):
        self.most = most
        self.steps = self._within(first)
        self.seconds_per_step = self.seconds = 0.0

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a piece. After a long one, which may have been compiled, the next is only somewhat shorter."""
        self.seconds, self.seconds_per_step = seconds, seconds / max(steps, 1)
        wanted = PIECE / max(self.seconds_per_step, 1e-12)
        self.steps = self._within(min(max(wanted, 0.25 * self.steps), GROWTH * self.steps))

    def _within(self, steps: float) -> int:
        return int(min(max(steps, FEWEST_STEPS), self.most))
