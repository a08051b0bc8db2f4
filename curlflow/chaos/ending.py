"""How a run ended: converged, not converged, blew up, at rest, on a cycle, or why the solver stopped."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from curlflow.chaos.engine.tangent_system import (
    COLUMN_LOST,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    RunState,
    TangentSystem,
)
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, State

LONGEST_CYCLE = 64
# A map's state counts as returned when it differs by less than this many units in the last place of its largest entry.
ROUNDINGS = 1e5


class Looks(NamedTuple):
    """What one look at the final state tells: of one run, or of every member of an ensemble.

    Attributes
    ----------
    at_rest
        Whether the state moves by no more than the solver's errors in an interval dt; of a map, whether it stays.
    cycle
        After how many steps, at most 64, a map comes back; 0 if it does not, and for flows.
    autonomous
        Whether a vector field is the same at a later time; True for maps, which are not asked.
    """

    at_rest: Bool[np.ndarray, "*members"]
    cycle: Int[np.ndarray, "*members"]
    autonomous: Bool[np.ndarray, "*members"]


def look(tangent: TangentSystem, y: State, t: Float[np.ndarray, "*members"]) -> Looks:
    """Look at the final state, or states (members last), of a run that has come to the time t."""
    return Looks(*map(np.asarray, _look(tangent, y, jnp.asarray(t))))


@eqx.filter_jit
def _look(tangent: TangentSystem, y: State, t: Array) -> tuple[Array, Array, Array]:
    of_member = _look_at_map if tangent.is_map else _look_at_flow

    def member(system: Any, args: Args, t: Array, y: State) -> tuple[Array, Array, Array]:
        return of_member(tangent, system, args, t, y)

    return tangent.over_systems(member)(t, y)


def _look_at_flow(
    tangent: TangentSystem, system: Any, args: Args, t: Array, y: State
) -> tuple[Array, Array, Array]:
    velocity = system(t, y, args)
    # An irrational fraction of the interval, so that a forcing with a simple period is not met at the same phase.
    later = system(t + tangent.dt / jnp.pi, y, args)
    tolerance = tangent.atol + tangent.rtol * optx.max_norm(y)
    at_rest = optx.max_norm(velocity) * tangent.dt <= 10 * tolerance
    pairs = zip(jtu.tree_leaves(velocity), jtu.tree_leaves(later), strict=True)
    same = jnp.stack([jnp.all((a == b) | (jnp.isnan(a) & jnp.isnan(b))) for a, b in pairs])
    return at_rest, jnp.zeros((), int), jnp.all(same)


def _look_at_map(
    tangent: TangentSystem, system: Any, args: Args, t: Array, y: State
) -> tuple[Array, Array, Array]:
    n = jnp.round(t).astype(jnp.int64)
    scale = ROUNDINGS * jnp.finfo(jnp.float64).eps * optx.max_norm(y)

    def step(point: State, i: Array) -> tuple[State, Array]:
        point = system.step(n + i, point, args)
        distance = optx.max_norm(jtu.tree_map(jnp.subtract, point, y))
        return point, distance <= scale

    _, returned = jax.lax.scan(step, y, jnp.arange(LONGEST_CYCLE))
    cycle = jnp.where(returned.any(), jnp.argmax(returned) + 1, 0)
    return cycle == 1, cycle, jnp.asarray(True)


def outcome_of(
    tangent: TangentSystem,
    state: RunState,
    looks: Looks,
    local: Float[np.ndarray, "intervals k"],
    agree: Bool[np.ndarray, " k"],
    resolution: Float[np.ndarray, " k"],
) -> Outcome:
    """How one run ended: `agree` says of which exponents the two halves of the run agree."""
    early = _early_end(tangent, state)
    if early is not None:
        return early
    t, T = float(state.time), len(local) * float(tangent.dt)
    if looks.at_rest:
        message = f"At t = {t:.6g} the state is at rest: the exponents are those of a fixed point."
        return Outcome(Ending.FIXED_POINT, t, message)
    if looks.cycle:
        return Outcome(Ending.CYCLE, t, f"At t = {t:.6g} the state repeats itself every {looks.cycle} steps.")
    if not agree.all():
        message = (
            f"The averages over the two halves of the run differ by more than their errors in {int((~agree).sum())} of "
            f"{len(agree)} exponents. Take a longer `T`, or a longer `Ttr` if the start was far from the attractor."
        )
        return Outcome(Ending.NOT_CONVERGED, t, message)
    if not tangent.is_map and looks.autonomous and _looks_like_a_cycle(local.mean(axis=0), resolution):
        message = f"One exponent is 0 and the others are negative over T = {T:g}: the orbit is a limit cycle."
        return Outcome(Ending.CYCLE, t, message)
    return Outcome(Ending.COMPLETED, t, f"The two halves of T = {T:g} agree within their standard errors.")


def _looks_like_a_cycle(exponents: Float[np.ndarray, " k"], resolution: Float[np.ndarray, " k"]) -> bool:
    if len(exponents) < 2:
        return False
    zero, next_one = exponents[:2]
    return bool(abs(zero) <= resolution[0] and next_one < -resolution[1])


def _early_end(tangent: TangentSystem, state: RunState) -> Outcome | None:
    """Why a run ended before its time; None if it did not."""
    t, escape = float(state.time), float(state.escape)
    if np.isfinite(escape):
        message = (
            f"The largest entry of the state passed {float(tangent.blow_up):g} at t = {escape:.6g}. "
            "The exponents are averages up to there."
        )
        return Outcome(Ending.BLEW_UP, escape, message)
    status = int(state.status)
    if status == STEP_LIMIT:
        message = (
            f"{int(tangent.max_steps)} steps did not reach the next QR from t = {t:.6g}. Raise `max_steps`, loosen `rtol`, "
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
