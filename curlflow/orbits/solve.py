"""The compiled solve behind `integrate`: the one place that knows diffrax's controllers, save points and interpolation."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float
from tqdm import tqdm

from curlflow._compile import compiled
from curlflow._trees import float64, size
from curlflow.orbits.controller import adaptive_steps, smallest_step
from curlflow.orbits.events import Event, Passages, Sighted, Watch, looks_in_a_step, sighted
from curlflow.orbits.pieces import PIECE, Pace
from curlflow.orbits.solvers import RungeKuttaChebyshev
from curlflow.system import Args, Flow, State, Time

DEFAULT_MAX_STEPS = 1_000_000
# About how many velocities a step takes.
STAGES = 14
# Steps whose interpolation is kept at a time, and numbers in them.
MOST_KEPT, FEWEST_KEPT, KEPT_NUMBERS = 256, 4, 2**20
# After a stop that turned out to be none, the next is looked for after this part of the time that has passed.
PATIENCE = 0.1
# What blows up has grown by this factor. (Where a state passes through zero, its rate of growth says nothing.)
GROWN = 10.0

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
        return inner(self.normal, offset)


def _around(offset: Array, period: Array) -> Array:
    """A smooth offset that repeats itself with the period, and is the offset itself where that is small or no angle's."""
    radius = jnp.where(period > 0, period, 1.0) / (2 * jnp.pi)
    return jnp.where(period > 0, radius * jnp.sin(offset / radius), offset)


class Problem(eqx.Module):
    """What to integrate and how. Numbers are arrays, so that new ones do not recompile; the rest is compiled in.

    The clock of a solve starts at 0 and goes to `span`: how finely it is divided does not depend on where t0 lies.
    """

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    blow_up: Float[Array, ""]
    args: Args
    system: Flow
    solver: diffrax.AbstractSolver[Any]
    stops: dict[str, Event] = eqx.field(default_factory=dict)
    events: dict[str, Event] = eqx.field(default_factory=dict)
    ends_at_rest: bool = False
    section: Section | None = None
    is_batch: bool = False
    dense: bool = False
    dtmax: Float[Array, ""] = eqx.field(default=math.inf, converter=float64)
    max_steps: int = DEFAULT_MAX_STEPS
    progress: bool = False
    observe: Observe | None = None

    @property
    def span(self) -> Float[Array, ""]:
        """How long to integrate; negative backwards."""
        return self.t1 - self.t0

    def velocity(self, clock: Any, y: State) -> State:
        """The system's velocity at a time of the clock."""
        return self.system(self.t0 + clock, y, self.args)

    def tolerance(self, y: State) -> Float[Array, ""]:
        """What an error of the state may be."""
        return self.atol + self.rtol * optx.max_norm(y)

    def is_at_rest(self, clock: Array, y: State, velocity: State) -> Array:
        """Whether the state has less than the tolerance left to go, as its deceleration tells.

        The velocity v falls at the rate −⟨v, a⟩ / ⟨v, v⟩ with a = J v; divided by that rate it is the distance left.
        (The velocity alone does not tell: where steps are as long as is stable, it does not fall below tolerance × rate.)
        """
        _, acceleration = jax.jvp(lambda y: self.velocity(clock, y), (y,), (velocity,))
        speed_squared, slowing = inner(velocity, velocity), -inner(velocity, acceleration)
        speed = jnp.sqrt(speed_squared / size(y))
        return speed * speed_squared <= self.tolerance(y) * slowing

    def outgrows_time(self, clock: Array, y: State, velocity: State, start: Array) -> Array:
        """Whether the state has grown beyond its size at the start, and multiplies within a hundred of the shortest steps.

        Only the end of a blow-up in finite time looks so: what grows like a power of the time that has passed does so at a
        rate of the order of its inverse.
        """
        largest = optx.max_norm(y)
        grown = largest > GROWN * jnp.maximum(start, self.atol / self.rtol)
        scaled, rate = (jtu.tree_map(lambda leaf: leaf / largest, tree) for tree in (y, velocity))
        growth = jnp.sign(self.span) * inner(scaled, rate)
        return grown & (100 * smallest_step(clock) * growth > inner(scaled, scaled))


class Place(eqx.Module):
    """Where a solve stands, and what it has to know to go on: its clock, the state, the next step, the sides of the events.

    `start` is the size of the state at the start. Of a batch, `held` are the members that ended for a reason of their own.
    """

    clock: Float[Array, ""]
    y: Any
    next_step: Float[Array, ""]
    rest_from: Float[Array, ""]
    sides: Float[Array, " events"]
    held: Bool[Array, "..."]
    start: Float[Array, "..."]


class Piece(eqx.Module):
    """Some steps of a solve: where they lead, what was saved on the way, and how they ended."""

    place: Place
    saved: State
    count: Array
    steps: Array
    accepted: Array
    result: Any
    happened: dict[str, Array]
    interpolation: diffrax.DenseInterpolation | None
    seen: Sighted | None


@dataclass
class Solved:
    """What a solve came to. `ending` says why it ended, in one word, and `name` which stop condition did it."""

    place: Place
    ending: str = ""
    name: str = ""
    steps: int = 0
    accepted: int = 0
    saved: list[list[np.ndarray]] = field(default_factory=list)
    dense: list[diffrax.DenseInterpolation] = field(default_factory=list)
    passages: list[tuple[str, float, State]] = field(default_factory=list)
    # Of a batch: the clocks at which members were held, and the words for why.
    held: dict[int, tuple[float, str]] = field(default_factory=dict)
    mean_step: float = math.inf

    @property
    def clock(self) -> float:
        """The time since the start; negative backwards."""
        return float(self.place.clock)

    @property
    def count(self) -> int:
        """How many times were saved."""
        return sum(len(leaves[0]) for leaves in self.saved)


# What may be doubted about how a run seems to end: takes the problem and where it stands, and says whether it is so.
Judge: TypeAlias = Callable[[Problem, Solved], Any]


def solve(
    problem: Problem,
    y0: State,
    times: Float[np.ndarray, " times"],
    *,
    is_surely_at_rest: Judge,
    meets_jump: Judge,
    seconds_per_velocity: float = 0.0,
) -> Solved:
    """A solve from the problem's start to one of its ends, in pieces; interrupted, what there is of it."""
    run = Solved(_start(problem, y0))
    bare = eqx.tree_at(lambda p: (p.max_steps, p.progress), problem, (0, False))
    pace, clocks = Pace(PIECE / max(STAGES * seconds_per_velocity, 1e-9)), times - float(problem.t0)
    span = float(problem.span)
    with tqdm(total=100.0, disable=not problem.progress, bar_format=BAR) as bar:
        try:
            while not run.ending:
                run = _further(problem, bare, run, clocks, pace)
                run = _doubted(problem, run, is_surely_at_rest, meets_jump)
                bar.update(100 * abs(run.clock / span) - bar.n)
        except KeyboardInterrupt:
            run.ending = "interrupted"
    return run


BAR = "{percentage:.2f}%|{bar}| [{elapsed}<{remaining}]"


def _start(problem: Problem, y0: State) -> Place:
    zero, members = float64(0.0), jtu.tree_leaves(y0)[0].shape[:1] if problem.is_batch else ()
    unknown = jnp.full(len(problem.stops) + len(problem.events), jnp.nan)
    y = _batch_state(problem, y0) if problem.is_batch else y0
    sizes = [np.abs(np.asarray(leaf)).reshape(*members, -1).max(axis=-1) for leaf in jtu.tree_leaves(y0)]
    start = jnp.asarray(np.max(sizes, axis=0))
    return Place(zero, y, zero, zero, unknown, jnp.zeros(members, bool), start)


def _further(problem: Problem, bare: Problem, run: Solved, clocks: np.ndarray, pace: Pace) -> Solved:
    """The run after one more piece."""
    # What was saved is not saved again. Times that are no numbers are never reached.
    ahead = np.concatenate([clocks[run.count :], np.full(run.count, np.nan)])
    began, budget = time.perf_counter(), min(pace.steps, problem.max_steps - run.steps)
    piece = _piece(bare, run.place, jnp.asarray(budget), jnp.asarray(ahead))
    steps, accepted, count = (int(each) for each in (piece.steps, piece.accepted, piece.count))
    pace.took(steps, time.perf_counter() - began)
    after = replace(
        run,
        place=piece.place,
        steps=run.steps + steps,
        accepted=run.accepted + accepted,
        saved=[*run.saved, [np.asarray(leaf)[:count] for leaf in jtu.tree_leaves(piece.saved)]],
        mean_step=abs(float(piece.place.clock) - run.clock) / max(steps, 1),
    )
    after.ending = _ending_of(problem, after, piece)
    if problem.dense:
        after.dense = [*run.dense, _kept(piece.interpolation, accepted)]
    return after if piece.seen is None else _with_events(problem, run, after, piece.seen)


def _ending_of(problem: Problem, run: Solved, piece: Piece) -> str:
    happened = [name for name, mask in piece.happened.items() if mask]
    if happened:
        return happened[0]
    if run.clock == float(problem.span):
        return "completed"
    if piece.result == diffrax.RESULTS.max_steps_reached:
        return "" if run.steps < problem.max_steps else "step_limit"
    return "step_vanished" if piece.result == diffrax.RESULTS.dt_min_reached else "failed"


def _with_events(problem: Problem, before: Solved, after: Solved, seen: Sighted) -> Solved:
    """The run with the events of its last piece, ended by the first of them that is to end it."""
    # JAX takes dicts in the order of their keys.
    names, stops = [*sorted(problem.stops), *sorted(problem.events)], set(problem.stops)
    sign = math.copysign(1, float(problem.span))
    if before.steps == 0:
        true = dict(zip(names, np.asarray(seen.true_at_start), strict=True))
        at_once = [name for name in problem.stops if true[name]]
        if at_once:
            return replace(before, ending="stop", name=at_once[0], saved=after.saved, dense=after.dense)
    count = int(seen.number)
    which, when = np.asarray(seen.which)[:count], np.asarray(seen.when)[:count]
    order = np.argsort(sign * when, kind="stable")
    ends = [i for i in order if names[which[i]] in stops and sign * when[i] <= sign * after.clock]
    if ends:
        clock, state = float(when[ends[0]]), jtu.tree_map(lambda leaf: leaf[ends[0]], seen.states)
        place = eqx.tree_at(lambda p: (p.clock, p.y), after.place, (float64(clock), state))
        after = replace(after, place=place, ending="stop", name=names[which[ends[0]]])
    passages = [
        (names[which[i]], float(when[i]), jtu.tree_map(lambda leaf, i=i: leaf[i], seen.states))
        for i in order
        if names[which[i]] not in stops and sign * when[i] <= sign * after.clock
    ]
    return replace(after, passages=[*before.passages, *passages])


def _doubted(problem: Problem, run: Solved, is_surely_at_rest: Judge, meets_jump: Judge) -> Solved:
    """The run, going on where its end is none, and ended where to go on is in vain."""
    if run.ending == "fixed_point" and not is_surely_at_rest(problem, run):
        later = max((1 + PATIENCE) * abs(run.clock), 1e-300)
        return replace(run, ending="", place=eqx.tree_at(lambda p: p.rest_from, run.place, float64(later)))
    left = problem.max_steps - run.steps
    crawls = run.mean_step * left < abs(float(problem.span) - run.clock)
    if run.ending in ("", "step_limit") and crawls:
        jumps = np.atleast_1d(np.asarray(meets_jump(problem, run)))
        if problem.is_batch:
            return _holding(run, np.flatnonzero(jumps & ~np.asarray(run.place.held)))
        if jumps[0]:
            return replace(run, ending="discontinuous")
    return run


def _holding(run: Solved, members: np.ndarray) -> Solved:
    """A batch with some members held from now on, so that the others can go on."""
    if not len(members) or run.ending:
        return run
    place = eqx.tree_at(lambda p: p.held, run.place, run.place.held.at[members].set(True))
    return replace(run, place=place, held=run.held | {int(i): (run.clock, "discontinuous") for i in members})


def steps_kept(problem: Problem, y: State) -> int:
    """How many steps' interpolation is kept at a time."""
    return int(np.clip(KEPT_NUMBERS // (looks_in_a_step(y) * size(y)), FEWEST_KEPT, MOST_KEPT))


@compiled
def _piece(problem: Problem, place: Place, budget: Array, times: Array) -> Piece:
    """At most `budget` steps from a place, saved at those of the times that they pass."""
    watched = [*problem.stops.values(), *problem.events.values()]
    keeps = problem.dense or bool(watched)
    solution = _solution(problem, place, budget, times, steps_kept(problem, place.y) if keeps else None)
    saved, (end,) = solution.ts  # pyright: ignore[reportGeneralTypeIssues]
    ys: Any = solution.ys
    seen = _seen(problem, place, watched, solution.interpolation) if watched else None
    after = Place(
        clock=end,
        y=jtu.tree_map(lambda leaf: leaf[-1], ys[1]),
        next_step=solution.controller_state.next_step,  # pyright: ignore[reportOptionalMemberAccess]
        rest_from=place.rest_from,
        sides=place.sides if seen is None else seen.sides,
        held=place.held,
        start=place.start,
    )
    return Piece(
        place=after,
        saved=ys[0],
        count=jnp.sum(jnp.isfinite(saved)),
        steps=solution.stats["num_steps"],
        accepted=solution.stats["num_accepted_steps"],
        result=solution.result,
        happened={} if solution.event_mask is None else solution.event_mask,
        interpolation=solution.interpolation if problem.dense else None,
        seen=seen,
    )


def _solution(
    problem: Problem, place: Place, budget: Array, times: Array, kept: int | None
) -> diffrax.Solution:
    if problem.is_batch:
        field, norm, event = _batch_field(problem, place), _batch_norm(problem), None
    else:
        field, norm, event = (
            lambda clock, y, _: problem.velocity(clock, y),
            optx.rms_norm,
            _event(problem, place),
        )
    proportional, integral = _controller_coefficients(problem.solver)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        problem.solver,
        place.clock,
        problem.span,
        None,
        place.y,
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=times, fn=_saver(problem)), diffrax.SubSaveAt(t1=True)],
            dense=kept is not None,
            controller_state=True,
        ),
        stepsize_controller=adaptive_steps(
            problem.rtol,
            problem.atol,
            first_step=place.next_step,
            budget=budget,
            pcoeff=proportional,
            icoeff=integral,
            norm=norm,
            dtmax=problem.dtmax,
            # One singular member must not end the whole batch: there it is stepped over, and held still from then on.
            force_dtmin=problem.is_batch,
        ),
        event=event,
        # Nothing is differentiated through the solve, and this adjoint has the cheapest loop.
        adjoint=diffrax.ForwardMode(),
        max_steps=kept,
        throw=False,
    )


def _seen(
    problem: Problem, place: Place, watched: Sequence[Event], interpolation: diffrax.DenseInterpolation | None
) -> Sighted:
    def value_at(event: Event, clock: Array, y: State) -> Array:
        return jnp.asarray(event.condition(problem.t0 + clock, y, problem.args))

    assert interpolation is not None
    is_truth = [value_at(event, place.clock, place.y).dtype == bool for event in watched]
    return sighted(Watch(tuple(watched), interpolation, value_at), place.y, place.sides, is_truth)


def _saver(problem: Problem) -> Callable[..., State]:
    """What is saved of a state: itself, or what is to be observed of it."""
    if problem.observe is None:
        return lambda clock, y, _: y

    def with_decimals(value: Array) -> Array:
        # Diffrax fills what is not saved yet with infinity, which truth values and whole numbers have not.
        return value if jnp.issubdtype(value.dtype, jnp.inexact) else value.astype(jnp.float64)

    return lambda clock, y, _: jtu.tree_map(with_decimals, observed(problem, clock, y))


def observed(problem: Problem, clock: Any, y: State) -> State:
    """What is to be observed of a state."""
    values = problem.observe(problem.t0 + clock, y, problem.args)  # pyright: ignore[reportOptionalCall]
    return jtu.tree_map(jnp.asarray, values)


def _controller_coefficients(solver: diffrax.AbstractSolver) -> tuple[float, float]:
    """Proportional and integral: Gustafsson's where stability limits the steps, which without them grow until they fail.

    Half of the steps of `RungeKuttaChebyshev` along steep valleys were in vain. Methods of high order keep to the integral
    part: at tolerances near rounding errors the other would not let short steps grow again.
    """
    return (0.4, 0.3) if isinstance(solver, RungeKuttaChebyshev) else (0.0, 1.0)


def _event(problem: Problem, place: Place) -> diffrax.Event:
    """What is looked at after steps only. Diffrax runs its own clock forwards, and shows that clock to events."""
    direction = jnp.sign(problem.span)

    def blow_up(t: Any, y: State, args: Any, **_: Any) -> Array:
        # In logarithms, because Newton's method must find the crossing of something that grows without bound.
        return jnp.log(jnp.maximum(optx.max_norm(y), 1e-300)) - jnp.log(problem.blow_up)

    def fixed_point(t: Any, y: State, args: Any, **_: Any) -> Array:
        clock = direction * t
        return (t >= place.rest_from) & problem.is_at_rest(clock, y, problem.velocity(clock, y))

    def section(t: Any, y: State, args: Any, **_: Any) -> Array:
        # Of a height that falls diffrax takes no notice where it begins at 0: on the section itself.
        return -problem.section.height(y)  # pyright: ignore[reportOptionalMemberAccess]

    conditions: dict[str, Callable[..., Array]] = {"blow_up": blow_up}
    if problem.ends_at_rest:
        conditions["fixed_point"] = fixed_point
    if problem.section is not None:
        conditions["section"] = section
    # What blows up may be too steep for the crossing to be met to this tolerance. Newton's method then ends at its
    # iteration limit, as close as rounding allows, and `_ending_of` takes that for the success it is.
    falling = {name: False if name == "section" else None for name in conditions}
    return diffrax.Event(conditions, optx.Newton(rtol=1e-12, atol=1e-12), falling)


# A batch is one system: (members' states, members' clocks). The members travel on the trailing axis, because one solve
# over it is an order of magnitude cheaper than `vmap` over solves. A member that blows up, comes to rest or ceases to be
# finite is held still, by a condition on its own state, while the others go on; its clock, which runs while it moves,
# then tells when that was. Clocks start at t1 − t0, so that their errors are relative to the whole time span.


def _batch_state(problem: Problem, y0: State) -> tuple[State, Array]:
    members = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, -1), y0)
    return members, jnp.full(jtu.tree_leaves(y0)[0].shape[0], problem.span)


def elapsed(problem: Problem, clocks: Array) -> Array:
    """How long the members' clocks ran."""
    return clocks - problem.span


def _batch_field(problem: Problem, place: Place) -> Callable[..., Any]:
    def member_field(clock: Array, y: State, held: Array, start: Array) -> tuple[State, Array]:
        velocity = problem.velocity(clock, y)
        moves = ~held & (optx.max_norm(y) < problem.blow_up)
        moves &= ~problem.outgrows_time(clock, y, velocity, start)
        if problem.ends_at_rest:
            moves &= ~problem.is_at_rest(clock, y, velocity)
        return jtu.tree_map(lambda leaf: jnp.where(moves, leaf, 0.0), velocity), jnp.where(moves, 1.0, 0.0)

    def batch_field(clock: Array, state: tuple[State, Array], _: Any) -> tuple[State, Array]:
        members = jax.vmap(member_field, in_axes=(None, -1, 0, 0), out_axes=-1)
        return members(clock, state[0], place.held, place.start)

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


def final_state(problem: Problem, run: Solved) -> State:
    """The state at the end of the run; of a batch every member's own, on a leading axis."""
    if not problem.is_batch:
        return run.place.y
    members, _ = run.place.y
    return jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, -1, 0), members)


def saved(problem: Problem, run: Solved, times: np.ndarray) -> tuple[np.ndarray, State]:
    """The times and states up to the end of the run, the end itself included."""
    t_end, forwards = float(problem.t0) + run.clock, float(problem.span) > 0
    if run.ending == "completed":
        t_end = float(problem.t1)
    ts = times[: run.count]
    kept = int(np.sum((ts < t_end) if forwards else (ts > t_end)))
    final = run.place.y
    if problem.observe is not None:
        final = observed(problem, run.place.clock, final)
    structure = jtu.tree_structure(final)
    columns = zip(*run.saved, jtu.tree_leaves(final), strict=True)
    leaves = [jnp.asarray(_joined(column, kept)) for column in columns]
    return np.append(ts[:kept], t_end), jtu.tree_unflatten(structure, leaves)


def _joined(column: Sequence[Any], kept: int) -> np.ndarray:
    """One leaf's saved parts, of which the first `kept` states count, and its final value."""
    *parts, final = column
    final = np.asarray(final)
    joined = np.empty((kept + 1, *final.shape), final.dtype)
    filled = 0
    for part in parts:
        fits = part[: kept - filled]
        joined[filled : filled + len(fits)] = fits
        filled += len(fits)
    joined[kept] = final
    return joined


def passages(problem: Problem, run: Solved) -> dict[str, Passages]:
    """When each event was passed, and in what states."""
    found = {name: ([], []) for name in problem.events}
    for name, clock, state in run.passages:
        found[name][0].append(float(problem.t0) + clock)
        found[name][1].append(state)
    y = run.place.y
    return {
        name: Passages(np.array(ts), jtu.tree_map(lambda leaf, *states: _stacked(leaf, states), y, *states))
        for name, (ts, states) in found.items()
    }


def _stacked(like: Array, states: Sequence[Array]) -> Array:
    return jnp.asarray(np.stack(states) if states else np.empty((0, *like.shape)))


class DenseOutput(eqx.Module):
    """The solver's interpolation over a whole run, at the system's own times."""

    t0: Float[Array, ""]
    interpolation: diffrax.DenseInterpolation

    def evaluate(self, t: Array) -> State:
        """The state at a time."""
        return self.interpolation.evaluate(t - self.t0)


def _kept(interpolation: diffrax.DenseInterpolation | None, steps: int) -> diffrax.DenseInterpolation:
    """The interpolation of the steps taken, without the room for others, in main memory."""
    assert interpolation is not None
    ts, infos = np.asarray(interpolation.ts)[: steps + 1], interpolation.infos
    infos = jtu.tree_map(lambda leaf: np.asarray(leaf)[:steps].copy(), infos)
    return eqx.tree_at(lambda i: (i.ts, i.infos), interpolation, (ts.copy(), infos))


def dense_output(problem: Problem, run: Solved) -> DenseOutput | None:
    """The interpolations of a run's pieces in one."""
    if not run.dense:
        return None
    first = run.dense[0]
    steps = sum(len(part.ts) - 1 for part in run.dense)
    # Room for a power of two of steps, so that runs of other lengths are evaluated by the same program.
    room = 2 ** math.ceil(math.log2(max(steps, 16)))

    def padded(*leaves: np.ndarray) -> Array:
        filled = np.full((room, *leaves[0].shape[1:]), np.inf)
        filled[:steps] = np.concatenate(leaves)
        return jnp.asarray(filled)

    ts = np.full(room + 1, np.inf)
    ts[: steps + 1] = np.concatenate([first.ts[:1], *(part.ts[1:] for part in run.dense)])
    infos = jtu.tree_map(padded, *(part.infos for part in run.dense))
    whole = eqx.tree_at(
        lambda i: (i.ts, i.ts_size, i.infos), first, (jnp.asarray(ts), jnp.asarray(steps + 1), infos)
    )
    return DenseOutput(problem.t0, whole)


def inner(x: State, y: State) -> Array:
    """The scalar product of two states."""
    products = [jnp.vdot(*pair) for pair in zip(jtu.tree_leaves(x), jtu.tree_leaves(y), strict=True)]
    return jnp.sum(jnp.stack(products))
