"""How a run ended: converged, not converged, blew up, at rest, on a cycle, or why the solver stopped."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from curlflow._trees import size
from curlflow.chaos.engine.map_steps import turn
from curlflow.chaos.engine.tangent_system import (
    COLUMN_LOST,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    RunState,
    TangentSystem,
)
from curlflow.orbits.ends import follows_a_power
from curlflow.orbits.solve import inner
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, State

LONGEST_CYCLE = 64
# A map's state counts as returned when it differs by less than this many units in the last place of its largest entry.
ROUNDINGS = 1e5
# An orbit at rest has less left to go than this share of the way that it has come, or of its own size.
LEFT_OF_THE_WAY = 1e-3
# Shares of the time passed at which a vector field is looked at again: irrational, so that no simple period of a forcing
# meets them all at one phase.
LOOKS_BACK = np.modf(np.arange(1, 9) * (5**0.5 - 1) / 2)[0]
# A rate counts as positive at a state of rest above this share of the Jacobian's norm, if it had time for this growth.
ROUNDED_RATE, SMALLEST_GROWTH = 1e-6, 0.1
# A blow-up is followed until so many units in the last place of the time are left.
MOST_ROUNDINGS = 1e4
# Jacobians of up to so many dimensions are decomposed; in larger systems the tangent vectors of the run must tell.
LARGEST_DECOMPOSED = 500


class Looks(NamedTuple):
    """What one look at the final state tells: of one run, or of every member of an ensemble.

    Attributes
    ----------
    at_rest
        Whether a flow has no further to go than the solver's errors, as its deceleration tells; of a map, whether it stays.
    cycle
        After how many steps, at most 64, a map comes back again and again; 0 if it does not, and for flows.
    autonomous
        Whether a vector field was the same at other times; True for maps, which are not asked.
    stayed
        Whether the state is where it began, before the transient.
    """

    at_rest: Bool[np.ndarray, "*members"]
    cycle: Int[np.ndarray, "*members"]
    autonomous: Bool[np.ndarray, "*members"]
    stayed: Bool[np.ndarray, "*members"]


def look(tangent: TangentSystem, start: State, y: State, t: Float[np.ndarray, "*members"]) -> Looks:
    """Look at the final state, or states (members last), of a run that has come from `start` to the time t."""
    return Looks(*map(np.asarray, _look(tangent, start, y, jnp.asarray(t))))


@eqx.filter_jit
def _look(tangent: TangentSystem, start: State, y: State, t: Array) -> tuple[Array, Array, Array, Array]:
    of_member = _look_at_map if tangent.is_map else _look_at_flow

    def member(
        system: Any, args: Args, t: Array, start: State, y: State
    ) -> tuple[Array, Array, Array, Array]:
        way = optx.max_norm(jtu.tree_map(jnp.subtract, y, start))
        stayed = way <= 64 * jnp.finfo(jnp.float64).eps * optx.max_norm(y)
        return *of_member(tangent, system, args, t, way, y), stayed

    return tangent.over_systems(member)(t, start, y)


def _look_at_flow(
    tangent: TangentSystem, system: Any, args: Args, t: Array, way: Array, y: State
) -> tuple[Array, Array, Array]:
    tolerance = 10 * (tangent.atol + tangent.rtol * optx.max_norm(y))

    def at(time: Array) -> tuple[State, State]:
        return jax.jvp(lambda y: system(time, y, args), (y,), (system(time, y, args),))

    times = jnp.append(t, tangent.t0 + jnp.asarray(LOOKS_BACK) * (t - tangent.t0))
    velocity, acceleration = jax.vmap(at)(times)
    left = jax.vmap(_distance_left)(velocity, acceleration)
    same = jnp.stack(
        [jnp.all((v == v[0]) | (jnp.isnan(v) & jnp.isnan(v[0]))) for v in jtu.tree_leaves(velocity)]
    )
    # A motion all of which is smaller than the tolerance is not at rest for that.
    size_of_motion = jnp.maximum(way, optx.max_norm(y))
    at_rest = jnp.all(left <= jnp.minimum(tolerance, LEFT_OF_THE_WAY * size_of_motion))
    return at_rest, jnp.zeros((), int), jnp.all(same)


def _distance_left(velocity: State, acceleration: State) -> Array:
    """How far it is to the fixed point, per coordinate: v falls at the rate |J v| / |v|, and v divided by that is the way.

    Whatever the unit of time; and a slow motion is not near its end.
    """
    speed, change = optx.rms_norm(velocity), optx.rms_norm(acceleration)
    return jnp.where(speed == 0, 0.0, speed * speed / change)


def _look_at_map(
    tangent: TangentSystem, system: Any, args: Args, t: Array, _: Array, y: State
) -> tuple[Array, Array, Array]:
    n = jnp.round(t).astype(jnp.int64)
    rounding = jnp.finfo(jnp.float64).eps * optx.max_norm(y)

    def step(point: State, i: Array) -> tuple[State, Array]:
        point = system.step(n + i, point, args)
        return point, optx.max_norm(jtu.tree_map(jnp.subtract, point, y))

    _, distances = jax.lax.scan(step, y, jnp.arange(2 * LONGEST_CYCLE))
    returned = _returns_for_good(distances, ROUNDINGS * rounding, rounding)
    cycle = jnp.where(returned.any(), jnp.argmax(returned) + 1, 0)
    return cycle == 1, cycle, jnp.asarray(True)


def _returns_for_good(distances: Array, near: Array, rounding: Array) -> Array:
    """After which numbers of steps p the map is back, at every multiple of p, and does not drift away by and by.

    Slow motion drifts: it is as much farther away after the second half of the steps as after the first.
    """
    steps, periods = np.arange(1, 2 * LONGEST_CYCLE + 1), np.arange(1, LONGEST_CYCLE + 1)
    multiples = steps[None] % periods[:, None] == 0
    farthest = jnp.where(multiples, distances, 0.0)
    first, second = (jnp.max(half, axis=1) for half in jnp.split(farthest, 2, axis=1))
    return (jnp.maximum(first, second) <= near) & (second <= 1.5 * first + 16 * rounding)


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
    # Who starts a run at an unstable fixed point asks for its exponents.
    if (looks.at_rest or looks.cycle) and not looks.stayed and _grows_there(tangent, state, looks, local, T):
        return Outcome(Ending.UNDECIDED, t, _unstable_sentence(tangent, t))
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
    message = f"The two halves of T = {T:g} agree within their standard errors."
    if not tangent.is_map and looks.autonomous and _as_on_a_cycle(local.mean(axis=0), resolution):
        message += (
            " One exponent is 0 and the others are negative, as on a limit cycle or a slow way to a fixed point: "
            "`verdict` looks whether the orbit closes."
        )
    return Outcome(Ending.COMPLETED, t, message)


def _grows_there(
    tangent: TangentSystem, state: RunState, looks: Looks, local: Float[np.ndarray, "intervals k"], T: float
) -> bool:
    """Whether tangent vectors grow where a run has come to rest, or on the cycle of a map, and had the time to show it."""
    if size(state.y) > LARGEST_DECOMPOSED or tangent.generator is not None:
        last = local[-1] if len(local) else np.zeros(1)
        return bool(np.max(last) > max(ROUNDED_RATE * np.max(np.abs(last)), SMALLEST_GROWTH / max(T, 1e-300)))
    steps = int(looks.cycle)
    J = np.asarray(_jacobian_there(tangent, state.y, jnp.asarray(float(state.time)), steps))
    if not np.isfinite(J).all():
        return False
    eigenvalues = np.linalg.eigvals(J)
    if tangent.is_map:
        return bool(
            np.log(np.abs(eigenvalues).max() + 1e-300) / steps
            > max(ROUNDED_RATE, SMALLEST_GROWTH / max(T, 1e-300))
        )
    return bool(
        eigenvalues.real.max() > max(ROUNDED_RATE * np.linalg.norm(J, 2), SMALLEST_GROWTH / max(T, 1e-300))
    )


@eqx.filter_jit
def _jacobian_there(tangent: TangentSystem, y: State, t: Array, steps: int) -> Array:
    """The Jacobian of a flow, or of so many steps of a map, on flattened states."""
    flat, unravel = ravel_pytree(y)
    system: Any = tangent.system
    if tangent.is_map:
        return jax.jacfwd(turn(tangent, y, jnp.round(t).astype(jnp.int64), steps))(flat)
    return jax.jacfwd(lambda flat: ravel_pytree(system(t, unravel(flat), tangent.args))[0])(flat)


def _unstable_sentence(tangent: TangentSystem, t: float) -> str:
    if tangent.is_map:
        return (
            f"At t = {t:.6g} the map repeats itself although tangent vectors grow there: an unstable point or cycle that "
            "rounding holds, as where the binary digits of a state run out (2x mod 1). The exponents are those of that place."
        )
    return (
        f"At t = {t:.6g} the state is at rest although tangent vectors grow there: an unstable fixed point, which rounding "
        "or a symmetry holds or the orbit is about to leave. Start beside it to see where orbits go."
    )


def _as_on_a_cycle(exponents: Float[np.ndarray, " k"], resolution: Float[np.ndarray, " k"]) -> bool:
    if len(exponents) < 2:
        return False
    zero, next_one = exponents[:2]
    return bool(abs(zero) <= resolution[0] and next_one < -resolution[1])


def _early_end(tangent: TangentSystem, state: RunState) -> Outcome | None:
    """Why a run ended before its time; None if it did not."""
    t, status = float(state.escape), int(state.status)
    if not np.isfinite(t):
        return None
    if status == STEP_LIMIT:
        other = (
            "an explicit solver"
            if tangent.is_implicit
            else 'solver="kvaerno5", if the system is small and stiff'
        )
        message = (
            f"{int(tangent.max_steps)} steps did not reach the next QR from t = {t:.6g}. Raise `max_steps`, loosen `rtol`, "
            f"or take {other}."
        )
        return Outcome(Ending.STEP_LIMIT, t, message)
    if status == STEP_TOO_SMALL and bool(_grows_without_bound(tangent, state.y, jnp.asarray(t))):
        message = f"The state grows without bound at t = {t:.6g}, too fast to be followed."
        return Outcome(Ending.BLEW_UP, t, message)
    if status == STEP_TOO_SMALL:
        message = (
            f"The step size vanished at t = {t:.6g}: the vector field is singular, discontinuous or not finite there, "
            "or `rtol` is tighter than rounding allows."
        )
        return Outcome(Ending.STEP_TOO_SMALL, t, message)
    if status == COLUMN_LOST:
        message = (
            f"A tangent vector vanished at t = {t:.6g} in less than a millionth of `dt`: take a shorter `dt`, ask for fewer "
            "exponents, rescale the variables, or look for a state at which the Jacobian is not finite."
        )
        return Outcome(Ending.SOLVER_FAILED, t, message)
    message = (
        f"The largest entry of the state passed `blow_up` = {float(tangent.blow_up):g} at t = {t:.6g}. If the orbit is "
        "bounded, or only visits far places, raise `blow_up`."
    )
    return Outcome(Ending.BLEW_UP, t, message)


@eqx.filter_jit
def _grows_without_bound(tangent: TangentSystem, y: State, t: Array) -> Array:
    """Whether a state that the steps cannot follow grows like a power of the time left, as in a blow-up in finite time.

    That time is |y| / |v|, then, and about as long as the smallest step.
    """
    system: Any = tangent.system
    velocity, acceleration = jax.jvp(
        lambda y: system(t, y, tangent.args), (y,), (system(t, y, tangent.args),)
    )
    time = jnp.maximum(jnp.abs(t), tangent.dt) * jnp.finfo(jnp.float64).eps * MOST_ROUNDINGS
    grows = (inner(y, velocity) > 0) & follows_a_power(y, velocity, acceleration)
    return grows & (optx.max_norm(y) < time * optx.max_norm(velocity))
