"""How runs end: what looks like an end looked at again, and every end in a sentence that names the remedy."""

from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._trees import size
from curlflow.orbits.solve import Place, Problem, Solved, elapsed
from curlflow.outcome import Ending, Outcome
from curlflow.system import State

# States of more numbers are believed to be at rest by their deceleration alone: their Jacobian is too large.
LARGEST_JACOBIAN = 512
# A state is at rest where Newton's step is shorter than this many tolerances: along slow directions errors gather.
NEWTON_STEPS = 3.0
# A field jumps if it changes by this part of itself between neighbouring numbers.
JUMP = 0.01
# How many mean steps away a jump is looked for.
REACH = 30.0
# Along a power of the time left, (speed)² / (size · acceleration) is p / (p + 1); along a logarithm it is 0.03 or less.
SLOWEST_POWER = 0.06


def is_surely_at_rest(problem: Problem, run: Solved) -> bool:
    """Whether the nearest fixed point, by Newton's step, is within tolerance.

    The deceleration tells of the fastest direction that still moves. Behind it, in a stiff system, the slow ones have hardly
    begun.
    """
    place = run.place
    return size(place.y) > LARGEST_JACOBIAN or bool(_is_near_rest(problem, place.clock, place.y))


def members_that_move_on(problem: Problem, run: Solved, ends: "MemberEnds") -> list[int]:
    """The members of a batch that were held as if at rest, and have a way to go."""
    members, clocks = run.place.y
    rests = [i for i, word in enumerate(ends.words) if word == "fixed_point"]
    if not rests or size(jtu.tree_map(lambda leaf: leaf[..., 0], members)) > LARGEST_JACOBIAN:
        return []
    near = np.asarray(_are_near_rest(problem, elapsed(problem, clocks), members))
    return [i for i in rests if not near[i]]


@compiled
def _are_near_rest(problem: Problem, clocks: Array, members: State) -> Bool[Array, " members"]:
    return jax.vmap(lambda clock, y: _newton_step_is_short(problem, clock, y), in_axes=(0, -1))(
        clocks, members
    )


def _newton_step_is_short(problem: Problem, clock: Array, state: State) -> Bool[Array, ""]:
    """Newton's step by singular values, without the directions in which the velocity is nothing but rounding."""
    y, unravel = ravel_pytree(state)

    def field(y: Array) -> Array:
        return ravel_pytree(problem.velocity(clock, unravel(y)))[0]

    velocity, J = field(y), jax.jacfwd(field)(y)
    rounding = 4 * jnp.finfo(jnp.float64).eps * (jnp.abs(J) @ jnp.abs(y))
    U, stretch, Vt = jnp.linalg.svd(J)
    along, noise = U.T @ velocity, jnp.abs(U.T) @ rounding
    counts = (jnp.abs(along) > noise) & (stretch > 0)
    step = Vt.T @ jnp.where(counts, along / jnp.where(counts, stretch, 1.0), 0.0)
    return jnp.sqrt(jnp.mean(step**2)) <= NEWTON_STEPS * problem.tolerance(state)


_is_near_rest = compiled(_newton_step_is_short)


def meets_jump(problem: Problem, run: Solved) -> np.ndarray:
    """Whether the field jumps close by, so that the steps must stay as short as they are; of a batch, for every member."""
    return np.asarray(_jumps(problem, run.place, jnp.asarray(REACH * run.mean_step)))


@compiled
def _jumps(problem: Problem, place: Place, reach: Array) -> Bool[Array, "..."]:
    def one(y: State) -> Array:
        return _jumps_near(problem, place.clock, y, reach * jnp.sign(problem.span))

    return jax.vmap(one, in_axes=-1)(place.y[0]) if problem.is_batch else one(place.y)


def _jumps_near(problem: Problem, clock: Array, y: State, reach: Array) -> Bool[Array, ""]:
    """Whether the velocity differs between two neighbouring points of the line through the state along the velocity.

    Halved again and again, an interval over which a smooth field changes comes to change as little as is computed at all. One
    with a jump in it keeps the jump.
    """
    direction = problem.velocity(clock, y)

    def velocity(part: Array) -> Array:
        point = jtu.tree_map(lambda leaf, v: leaf + part * reach * v, y, direction)
        return ravel_pytree(problem.velocity(clock + part * reach, point))[0]

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        at_low, at_middle, at_high = velocity(low), velocity(middle), velocity(high)
        jumps_first = optx.max_norm(at_middle - at_low) >= optx.max_norm(at_high - at_middle)
        return jnp.where(jumps_first, low, middle), jnp.where(jumps_first, middle, high)

    low, high = jax.lax.fori_loop(0, 60, halve, (jnp.asarray(-1.0), jnp.asarray(1.0)))
    change = optx.max_norm(velocity(high) - velocity(low))
    return change > JUMP * jnp.maximum(optx.max_norm(velocity(high)), optx.max_norm(velocity(low)))


def _grows_without_bound(problem: Problem, clock: Array, y: State, start: Array) -> Bool[Array, ""]:
    """Whether a state that the steps cannot follow any more grows like a power of the time left, as in a blow-up."""
    velocity = problem.velocity(clock, y)
    one = (jnp.ones_like(clock), velocity)
    _, acceleration = jax.jvp(problem.velocity, (clock, y), one)
    steep = follows_a_power(y, velocity, acceleration)
    return steep & problem.outgrows_time(10 * clock, y, velocity, start)


def follows_a_power(y: State, velocity: State, acceleration: State) -> Bool[Array, ""]:
    """Whether a state grows like a power of the time left: |v|² / (|y| |a|) is then p / (p + 1), whatever the time."""
    position, speed, change = (optx.max_norm(each) for each in (y, velocity, acceleration))
    return speed * (speed / change) > SLOWEST_POWER * position


_grows = compiled(_grows_without_bound)


def outcome_of(problem: Problem, run: Solved) -> Outcome:
    """How the run from one initial condition ended."""
    ending = run.ending
    if ending == "step_vanished" and bool(_grows(problem, run.place.clock, run.place.y, run.place.start)):
        ending = "grows"
    return _outcome(problem, run, ending, _end_time(problem, run), run.place.y)


class MemberEnds(NamedTuple):
    """When each member of a batch ended by its own clock, whether before the others, and why, in one word."""

    clocks: np.ndarray
    early: np.ndarray
    words: list[str]


def member_ends(problem: Problem, run: Solved) -> MemberEnds:
    """How the members of a batch ended."""
    _, clocks = run.place.y
    own = np.asarray(elapsed(problem, clocks))
    # Every step rounds the clocks, which began at the whole time span.
    rounding = run.steps * np.finfo(float).eps * abs(float(problem.span))
    early = (np.abs(own - run.clock) > 1e-9 * abs(run.clock) + rounding) | np.isin(
        np.arange(len(own)), list(run.held)
    )
    if not early.any():
        return MemberEnds(own, early, [run.ending] * len(own))
    largest, grows = (np.asarray(each) for each in _of_members(problem, run.place))
    words = np.select(
        [~early, ~np.isfinite(largest), largest > (1 - 1e-6) * float(problem.blow_up), grows],
        [run.ending, "not_finite", "blow_up", "grows"],
        "fixed_point" if problem.ends_at_rest else "step_vanished",
    )
    return MemberEnds(own, early, [run.held.get(i, (0.0, str(word)))[1] for i, word in enumerate(words)])


@compiled
def _of_members(problem: Problem, place: Place) -> tuple[Array, Array]:
    """Each member's largest entry, and whether it grows without bound."""
    members, clocks = place.y
    # The members' clocks resolve the whole time span only, within which all else may have happened at once.
    finest = jnp.finfo(jnp.float64).eps * problem.span
    own = jnp.where(jnp.abs(elapsed(problem, clocks)) > jnp.abs(finest), elapsed(problem, clocks), finest)

    def one(clock: Array, y: State, start: Array) -> tuple[Array, Array]:
        return optx.max_norm(y), _grows_without_bound(problem, clock, y, start)

    return jax.vmap(one, in_axes=(0, -1, 0))(own, members, place.start)


def batch_outcomes_of(problem: Problem, run: Solved, ends: MemberEnds) -> tuple[Outcome, ...]:
    """How each member of a batch ended."""
    t_own = np.where(ends.early, float(problem.t0) + ends.clocks, _end_time(problem, run))
    members, _ = run.place.y
    return tuple(
        _outcome(problem, run, word, float(t), jtu.tree_map(lambda leaf, i=i: leaf[..., i], members))
        for i, (word, t) in enumerate(zip(ends.words, t_own, strict=True))
    )


def _end_time(problem: Problem, run: Solved) -> float:
    return float(problem.t1) if run.ending == "completed" else float(problem.t0) + run.clock


def _outcome(problem: Problem, run: Solved, ending: str, t: float, y: State) -> Outcome:
    if ending == "completed":
        return Outcome(Ending.COMPLETED, t, f"Reached t = {t:.6g}.")
    if ending == "blow_up":
        return Outcome(Ending.BLEW_UP, t, _passed(problem, t))
    if ending == "grows":
        largest = float(optx.max_norm(y))
        message = (
            f"The state grows without bound at t = {t:.6g}: {largest:.3g} there, and too fast to be followed."
        )
        return Outcome(Ending.BLEW_UP, t, message)
    if ending == "fixed_point":
        return Outcome(
            Ending.FIXED_POINT, t, f"At t = {t:.6g} the state has less than the tolerance left to go."
        )
    if ending == "section":
        return Outcome(Ending.STOPPED, t, f"The orbit passed the section at t = {t:.6g}.")
    if ending == "stop":
        which = "" if run.name == "stop" else f" `{run.name}`"
        return Outcome(Ending.STOPPED, t, f"The stop condition{which} held at t = {t:.6g}.")
    if ending == "interrupted":
        message = f"Interrupted at t = {t:.6g}. Go on from `final_state` with t0 = {t!r}."
        return Outcome(Ending.INTERRUPTED, t, message)
    return _failure(problem, run, ending, t)


def _passed(problem: Problem, t: float) -> str:
    limit = float(problem.blow_up)
    passed = f"The largest entry of the state passed {limit:.3g} at t = {t:.6g}"
    if limit >= _checks.LARGEST_STATE:
        return (
            f"{passed}, near the end of what float64 can hold. Choose other units if the motion is bounded."
        )
    return f"{passed}. If the motion is bounded, raise `blow_up`."


def _failure(problem: Problem, run: Solved, ending: str, t: float) -> Outcome:
    if ending == "step_limit":
        message = (
            f"{problem.max_steps} steps reached only t = {t:.6g}. Raise `max_steps`, {_easier(problem)}."
        )
        return Outcome(Ending.STEP_LIMIT, t, message)
    if ending == "discontinuous":
        message = (
            f"The step size vanished at t = {t:.6g}: the vector field is discontinuous there, and on both sides "
            "leads back to the jump, which the steps cannot leave. Make the jump a steep slope, "
            "e.g. sign(x) a tanh(x / width), or write down the motion along the jump."
        )
        return Outcome(Ending.STEP_TOO_SMALL, t, message)
    if ending in ("step_vanished", "not_finite"):
        message = (
            f"The step size vanished at t = {t:.6g}: the vector field is singular, discontinuous or not finite there, "
            "or `rtol` and `atol` are tighter than rounding allows."
        )
        return Outcome(Ending.STEP_TOO_SMALL, t, message)
    name = type(problem.solver).__name__
    return Outcome(
        Ending.SOLVER_FAILED, t, f"{name} failed at t = {t:.6g}. Try another solver or other tolerances."
    )


def _easier(problem: Problem) -> str:
    """What makes steps longer, the solver in use left out."""
    if isinstance(problem.solver, diffrax.AbstractImplicitSolver):
        return "loosen `rtol` and `atol`, or, if the system is not stiff, take an explicit solver"
    return 'loosen `rtol` and `atol`, or, if the system is stiff, take solver="kvaerno5"'


def masked_members(problem: Problem, ends: MemberEnds, ts: np.ndarray, ys: Any) -> State:
    """The members' states, times first and members second, NaN where a member had already ended, unless it came to rest."""
    leaves_room = ends.early & (np.array(ends.words) != "fixed_point")
    # The first state after its end is a member's last one.
    after = np.abs(ends.clocks) < np.abs(ts - float(problem.t0))[:, None]
    over = leaves_room & after

    def mask(leaf: Array) -> Array:
        leaf = jnp.moveaxis(leaf, -1, 1)
        return jnp.where(jnp.expand_dims(over, tuple(range(2, leaf.ndim))), jnp.nan, leaf)

    return jtu.tree_map(mask, ys[0])
