"""The compiled solve behind `integrate`: the one place that knows diffrax's controllers, events and save points."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from curlflow._compile import compiled
from curlflow._trees import float64, size
from curlflow.orbits.controller import adaptive_steps
from curlflow.orbits.solvers import RungeKuttaChebyshev
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Flow, State, Time

DEFAULT_MAX_STEPS = 1_000_000

Stop: TypeAlias = Literal["fixed point"] | Callable[[Time, State, Args], Any]
Observe: TypeAlias = Callable[[Time, State, Args], Any]


class Section(eqx.Module):
    """A hyperplane that ends a run where the orbit passes it in the direction of the normal.

    Coordinates which are angles have a period, all others the period 0; None means that there are no angles. A section
    through an angle is met again after every period.
    """

    point: State
    normal: State
    periods: State | None = None

    def height(self, y: State) -> Float[Array, ""]:
        """How far the state is on the side of the normal, in units of the normal's length."""
        offset = jtu.tree_map(jnp.subtract, y, self.point)
        if self.periods is not None:
            offset = jtu.tree_map(_around, offset, self.periods)
        return _inner(self.normal, offset)


def _around(offset: Array, period: Array) -> Array:
    """A smooth offset that repeats itself with the period, and is the offset itself where that is small or no angle's."""
    radius = jnp.where(period > 0, period, 1.0) / (2 * jnp.pi)
    return jnp.where(period > 0, radius * jnp.sin(offset / radius), offset)


class Problem(eqx.Module):
    """What to integrate and how. Numbers are arrays, so that new ones do not recompile; the rest is compiled in."""

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    blow_up: Float[Array, ""]
    args: Args
    system: Flow
    solver: diffrax.AbstractSolver[Any]
    stop: Stop | None = None
    section: Section | None = None
    is_batch: bool = False
    dense: bool = False
    max_steps: int = DEFAULT_MAX_STEPS
    progress: bool = False
    observe: Observe | None = None

    def is_at_rest(self, t: Array, y: State, velocity: State, args: Any) -> Array:
        """Whether the state has less than the tolerance left to go, as its deceleration tells.

        The velocity v falls at the rate −⟨v, a⟩ / ⟨v, v⟩ with a = J v; divided by that rate it is the distance left.
        (The velocity alone does not tell: where steps are as long as is stable, it does not fall below tolerance × rate.)
        """
        _, acceleration = jax.jvp(lambda y: self.system(t, y, args), (y,), (velocity,))
        speed_squared, slowing = _inner(velocity, velocity), -_inner(velocity, acceleration)
        speed = jnp.sqrt(speed_squared / size(y))
        return speed * speed_squared <= (self.atol + self.rtol * optx.max_norm(y)) * slowing


@compiled
def solve(problem: Problem, y0: State, times: Array) -> diffrax.Solution:
    """Diffrax's solution: what is saved at the times asked for, and the state at the end."""
    if problem.is_batch:
        term, y0, norm, event = (
            diffrax.ODETerm(_batch_field(problem)),
            _batch_state(problem, y0),
            _batch_norm(problem),
            None,
        )
    else:
        term, norm, event = diffrax.ODETerm(problem.system), optx.rms_norm, _event(problem)
    proportional, integral = _controller_coefficients(problem.solver)
    return diffrax.diffeqsolve(
        term,
        problem.solver,
        problem.t0,
        problem.t1,
        None,
        y0,
        problem.args,
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=times, fn=_saver(problem)), diffrax.SubSaveAt(t1=True)],
            dense=problem.dense,
        ),
        stepsize_controller=adaptive_steps(
            problem.rtol,
            problem.atol,
            pcoeff=proportional,
            icoeff=integral,
            norm=norm,
            dtmin=_smallest_step(problem),
            # One singular member must not end the whole batch: there it is stepped over, and held still from then on.
            force_dtmin=problem.is_batch,
        ),
        event=event,
        # Nothing is differentiated through the solve, and this adjoint has the cheapest loop.
        adjoint=diffrax.ForwardMode(),
        max_steps=problem.max_steps,
        throw=False,
        progress_meter=diffrax.TqdmProgressMeter() if problem.progress else diffrax.NoProgressMeter(),
    )


def _saver(problem: Problem) -> Callable[..., State]:
    """What is saved of a state: itself, or what is to be observed of it."""
    if problem.observe is None:
        return lambda t, y, args: y
    # Unlike events, what is saved is shown the system's own time.
    return lambda t, y, args: jtu.tree_map(jnp.asarray, problem.observe(t, y, args))  # pyright: ignore[reportOptionalCall]


def _controller_coefficients(solver: diffrax.AbstractSolver) -> tuple[float, float]:
    """Proportional and integral: Gustafsson's where stability limits the steps, which without them grow until they fail.

    Half of the steps of `RungeKuttaChebyshev` along steep valleys were in vain. Methods of high order keep to the integral
    part: at tolerances near rounding errors the other would not let short steps grow again.
    """
    return (0.4, 0.3) if isinstance(solver, RungeKuttaChebyshev) else (0.0, 1.0)


def _smallest_step(problem: Problem) -> Array:
    """A step of a few units in the last place of the time: below it time stands still."""
    return 16 * jnp.finfo(jnp.float64).eps * jnp.maximum(jnp.abs(problem.t0), jnp.abs(problem.t1))


def _event(problem: Problem) -> diffrax.Event:
    # Diffrax runs its own clock forwards, and shows that clock to events even where it integrates backwards.
    direction = jnp.sign(problem.t1 - problem.t0)

    def blow_up(t: Any, y: State, args: Any, **_: Any) -> Array:
        # In logarithms, because Newton's method must find the crossing of something that grows without bound.
        return jnp.log(jnp.maximum(optx.max_norm(y), 1e-300)) - jnp.log(problem.blow_up)

    def fixed_point(t: Any, y: State, args: Any, **_: Any) -> Array:
        return problem.is_at_rest(direction * t, y, problem.system(direction * t, y, args), args)

    def stop(t: Any, y: State, args: Any, **_: Any) -> Array:
        return jnp.asarray(problem.stop(direction * t, y, args), bool)  # pyright: ignore[reportCallIssue, reportOptionalCall]

    def section(t: Any, y: State, args: Any, **_: Any) -> Array:
        # Of a height that falls diffrax takes no notice where it begins at 0: on the section itself.
        return -problem.section.height(y)  # pyright: ignore[reportOptionalMemberAccess]

    conditions: dict[str, Callable[..., Array]] = {"blow_up": blow_up}
    if callable(problem.stop):
        conditions["stop"] = stop
    elif problem.stop is not None:
        conditions["fixed_point"] = fixed_point
    if problem.section is not None:
        conditions["section"] = section
    # What blows up may be too steep for the crossing to be met to this tolerance. Newton's method then ends at its
    # iteration limit, as close as rounding allows, and `outcome_of` takes that for the success it is.
    falling = {name: False if name == "section" else None for name in conditions}
    return diffrax.Event(conditions, optx.Newton(rtol=1e-12, atol=1e-12), falling)


# A batch is one system: (members' states, members' clocks). The members travel on the trailing axis, because one solve
# over it is an order of magnitude cheaper than `vmap` over solves. A member that blows up, comes to rest or ceases to be
# finite is held still, by a condition on its own state, while the others go on; its clock, which runs while it moves,
# then tells when that was. Clocks start at t1 − t0, so that their errors are relative to the whole time span.


def _batch_state(problem: Problem, y0: State) -> tuple[State, Array]:
    members = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, -1), y0)
    return members, jnp.full(jtu.tree_leaves(y0)[0].shape[0], problem.t1 - problem.t0)


def _elapsed(problem: Problem, clocks: Array) -> Array:
    return clocks - (problem.t1 - problem.t0)


def _batch_field(problem: Problem) -> Callable[..., Any]:
    def member_field(t: Array, y: State, args: Any) -> tuple[State, Array]:
        velocity = problem.system(t, y, args)
        moves = optx.max_norm(y) < problem.blow_up
        if problem.stop is not None:
            moves &= ~problem.is_at_rest(t, y, velocity, args)
        return jtu.tree_map(lambda leaf: jnp.where(moves, leaf, 0.0), velocity), jnp.where(moves, 1.0, 0.0)

    def batch_field(t: Array, state: tuple[State, Array], args: Any) -> tuple[State, Array]:
        return jax.vmap(member_field, in_axes=(None, -1, None), out_axes=-1)(t, state[0], args)

    return batch_field


def _batch_norm(problem: Problem) -> Callable[[tuple[State, Array]], Array]:
    # A clock stops within a step, and finding when takes short steps. A member that comes to rest hardly moves in them:
    # were they much shorter than a millionth of the time span, rounding would hold it still before it is at rest.
    weight = jnp.minimum(1e6 * problem.rtol, 1.0)

    def worst_member_error(error: tuple[State, Array]) -> Array:
        """The root-mean-square error of the worst member: one member's error is not averaged away by the others'."""
        leaves, clocks = jtu.tree_leaves(error[0]), error[1]
        squares = sum(jnp.sum(leaf**2, axis=tuple(range(leaf.ndim - 1))) for leaf in leaves)
        means = squares / sum(leaf[..., 0].size for leaf in leaves)
        # The error of a step that ceases to be finite is infinite; of a member that already was not, it is NaN and no matter.
        worst = jnp.max(jnp.where(jnp.isnan(means), 0.0, means))
        return jnp.maximum(jnp.sqrt(worst), weight * jnp.max(jnp.abs(clocks)))

    return worst_member_error


def outcome_of(problem: Problem, solution: diffrax.Solution) -> Outcome:
    """How the run from one initial condition ended."""
    t_end = _end_time(solution)
    # The mask, not the solver's result, which reports instead how Newton's method ended.
    happened = [name for name, mask in solution.event_mask.items() if mask]  # pyright: ignore[reportOptionalMemberAccess]
    if happened:
        return _stopped_outcome(happened[0], t_end, problem)
    if solution.result == diffrax.RESULTS.dt_min_reached and _outgrows_time(problem, solution):
        largest = float(optx.max_norm(_final_state(solution)))
        message = f"The state grows without bound at t = {t_end:.6g}: {largest:.3g} there, and too fast to be followed."
        return Outcome(Ending.BLEW_UP, t_end, message)
    return _solver_outcome(problem, solution, t_end)


def _outgrows_time(problem: Problem, solution: diffrax.Solution) -> bool:
    """Whether the state, at its present rate, multiplies within the shortest steps: the end of a blow-up in finite time."""
    y = _final_state(solution)
    velocity = problem.system(float64(_end_time(solution)), y, problem.args)
    return bool(1000 * _smallest_step(problem) * _inner(y, velocity) > _inner(y, y))


def batch_outcomes_of(problem: Problem, solution: diffrax.Solution) -> tuple[Outcome, ...]:
    """How each member of a batch ended."""
    t_end, (final, clocks) = _end_time(solution), _final_state(solution)
    t_own = float(problem.t0) + np.asarray(_elapsed(problem, clocks))
    stopped_early = np.abs(t_own - t_end) > 1e-9 * abs(t_end - float(problem.t0))
    largest = np.asarray(jax.vmap(optx.max_norm, in_axes=-1)(final))
    blew_up = largest > (1 - 1e-6) * float(problem.blow_up)
    ends = np.select([np.isnan(largest), blew_up], ["not_finite", "blow_up"], "fixed_point")
    common = _solver_outcome(problem, solution, t_end)
    return tuple(
        _stopped_outcome(end, float(t), problem) if early else common
        for t, early, end in zip(t_own, stopped_early, ends, strict=True)
    )


def _stopped_outcome(event: str, t: float, problem: Problem) -> Outcome:
    if event == "blow_up":
        message = f"The largest entry of the state passed {float(problem.blow_up):g} at t = {t:.6g}."
        return Outcome(Ending.BLEW_UP, t, message)
    if event == "fixed_point":
        return Outcome(
            Ending.FIXED_POINT, t, f"At t = {t:.6g} the state has less than the tolerance left to go."
        )
    if event == "not_finite":
        return _vanished_step_outcome(t)
    if event == "section":
        return Outcome(Ending.STOPPED, t, f"The orbit passed the section at t = {t:.6g}.")
    return Outcome(Ending.STOPPED, t, f"The stop condition held at t = {t:.6g}.")


def _solver_outcome(problem: Problem, solution: diffrax.Solution, t: float) -> Outcome:
    if solution.result == diffrax.RESULTS.successful:
        return Outcome(Ending.COMPLETED, t, f"Reached t = {t:.6g}.")
    if solution.result == diffrax.RESULTS.max_steps_reached:
        message = (
            f"{problem.max_steps} steps reached only t = {t:.6g}. Raise `max_steps`, loosen `rtol` and `atol`, "
            'or, if the system is stiff, take solver="kvaerno5".'
        )
        return Outcome(Ending.STEP_LIMIT, t, message)
    if solution.result == diffrax.RESULTS.dt_min_reached:
        return _vanished_step_outcome(t)
    message = (
        f"{type(problem.solver).__name__} failed at t = {t:.6g}. Try another solver or other tolerances."
    )
    return Outcome(Ending.SOLVER_FAILED, t, message)


def _vanished_step_outcome(t: float) -> Outcome:
    message = (
        f"The step size vanished at t = {t:.6g}: the vector field is singular, discontinuous or not finite there, "
        "or `rtol` and `atol` are tighter than rounding allows."
    )
    return Outcome(Ending.STEP_TOO_SMALL, t, message)


def _end_time(solution: diffrax.Solution) -> float:
    return float(solution.ts[1][-1])  # pyright: ignore[reportOptionalSubscript]


def final_state(problem: Problem, solution: diffrax.Solution) -> State:
    """The state at the end of the run; of a batch every member's own, on a leading axis."""
    if not problem.is_batch:
        return _final_state(solution)
    members, _ = _final_state(solution)
    return jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, -1, 0), members)


def _final_state(solution: diffrax.Solution) -> Any:
    return jtu.tree_map(lambda leaf: leaf[-1], solution.ys[1])  # pyright: ignore[reportOptionalSubscript]


def saved(problem: Problem, solution: diffrax.Solution) -> tuple[np.ndarray, State]:
    """The times and states up to the end of the run, the end itself included."""
    t_end, forwards = _end_time(solution), float(problem.t1) > float(problem.t0)
    ts = np.asarray(solution.ts[0])  # pyright: ignore[reportOptionalSubscript]
    kept = np.flatnonzero(np.isfinite(ts) & ((ts < t_end) if forwards else (ts > t_end)))
    final = _final_state(solution)
    if problem.observe is not None:
        final = jtu.tree_map(jnp.asarray, problem.observe(float64(t_end), final, problem.args))
    pairs = zip(jtu.tree_leaves(solution.ys[0]), jtu.tree_leaves(final), strict=True)  # pyright: ignore[reportOptionalSubscript]
    leaves = [jnp.concatenate([saved[kept], final[None]]) for saved, final in pairs]
    ys = jtu.tree_unflatten(jtu.tree_structure(final), leaves)
    ts = np.append(ts[kept], t_end)
    return ts, _masked_members(problem, ts, ys) if problem.is_batch else ys


def _masked_members(problem: Problem, ts: np.ndarray, state: tuple[State, Array]) -> State:
    """The members' states, times first and members second, NaN where a member had already blown up."""
    ys, clocks = state
    blown = jax.vmap(jax.vmap(optx.max_norm, in_axes=-1))(ys) >= problem.blow_up
    # The first state past the threshold is a member's last one.
    over = blown & (jnp.abs(_elapsed(problem, clocks)) < jnp.abs(ts - problem.t0)[:, None])

    def mask(leaf: Array) -> Array:
        leaf = jnp.moveaxis(leaf, -1, 1)
        return jnp.where(jnp.expand_dims(over, tuple(range(2, leaf.ndim))), jnp.nan, leaf)

    return jtu.tree_map(mask, ys)


def _inner(x: State, y: State) -> Array:
    products = [jnp.vdot(*pair) for pair in zip(jtu.tree_leaves(x), jtu.tree_leaves(y), strict=True)]
    return jnp.sum(jnp.stack(products))
