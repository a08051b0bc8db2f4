"""How a run ended: converged, not converged, blew up, at rest, on a cycle, or why the solver stopped."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, PyTree

from curlflow.chaos.engine.problem import COLUMN_LOST, STEP_LIMIT, STEP_TOO_SMALL, Problem, State
from curlflow.outcome import Ending, Outcome

LONGEST_CYCLE = 64
# A map's state counts as returned when it differs by less than this many units in the last place of its largest entry.
ROUNDINGS = 1e5


def early_end(problem: Problem, state: State, escape: float) -> Outcome | None:
    """Why a run ended before its time; None if it did not."""
    t = float(state.time)
    if np.isfinite(escape):
        message = (
            f"The largest entry of the state passed {float(problem.blow_up):g} at t = {escape:.6g}. "
            "The exponents are averages up to there."
        )
        return Outcome(Ending.BLEW_UP, escape, message)
    status = int(state.status)
    if status == STEP_LIMIT:
        message = (
            f"{int(problem.max_steps)} steps did not reach the next QR from t = {t:.6g}. Raise `max_steps`, loosen `rtol`, "
            'or, if the system is small and stiff, take solver="kvaerno5".'
        )
        return Outcome(Ending.STEP_LIMIT, t, message)
    if status == STEP_TOO_SMALL:
        message = (
            f"The step size vanished at t = {t:.6g}: the vector field is singular, discontinuous or not finite there, "
            "or `rtol` is tighter than rounding allows."
        )
        return Outcome(Ending.STEP_TOO_SMALL, t, message)
    if status == COLUMN_LOST:
        message = (
            f"A tangent vector vanished at t = {t:.6g} in less than a millionth of `dt`: "
            "ask for fewer exponents, or look for a state at which the Jacobian is not finite."
        )
        return Outcome(Ending.SOLVER_FAILED, t, message)
    return None


def is_at_rest(problem: Problem, y: PyTree[Array], t: float) -> bool:
    """Whether the state moves by no more than the solver's errors in an interval dt."""
    if problem.solver is None:
        return cycle_length(problem, y, t) == 1
    return bool(_moves_little(problem, y, jnp.asarray(t)))


def cycle_length(problem: Problem, y: PyTree[Array], t: float) -> int:
    """After how many steps, at most 64, a map comes back to y; 0 if it does not."""
    return int(_cycle_length(problem, y, jnp.asarray(round(t), jnp.int64)))


def is_autonomous(problem: Problem, y: PyTree[Array], t: float) -> bool:
    """Whether the vector field at y is the same at a later time."""
    here, later = _two_times(problem, y, jnp.asarray(t))
    pairs = zip(jtu.tree_leaves(here), jtu.tree_leaves(later), strict=True)
    return all(bool(np.array_equal(a, b)) for a, b in pairs)


@eqx.filter_jit
def _moves_little(problem: Problem, y: PyTree[Array], t: Array) -> Array:
    velocity = problem.system(t, y, problem.args)
    tolerance = problem.atol + problem.rtol * optx.max_norm(y)
    return optx.max_norm(velocity) * problem.dt <= 10 * tolerance


@eqx.filter_jit
def _cycle_length(problem: Problem, y: PyTree[Array], n: Array) -> Array:
    scale = ROUNDINGS * jnp.finfo(jnp.float64).eps * optx.max_norm(y)

    def step(point: Any, i: Array) -> Any:
        point = problem.system.step(n + i, point, problem.args)
        distance = optx.max_norm(jtu.tree_map(jnp.subtract, point, y))
        return point, distance <= scale

    _, returned = jax.lax.scan(step, y, jnp.arange(LONGEST_CYCLE))
    return jnp.where(returned.any(), jnp.argmax(returned) + 1, 0)


@eqx.filter_jit
def _two_times(problem: Problem, y: PyTree[Array], t: Array) -> Any:
    # An irrational fraction of the interval, so that a forcing with a simple period is not met at the same phase.
    later = t + problem.dt / jnp.pi
    return problem.system(t, y, problem.args), problem.system(later, y, problem.args)
