"""Iteration of maps: `iterate` → `Trajectory`, with observables folded over the steps."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int
from tqdm import tqdm

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._traced import require_arguments, shapes_of
from curlflow._trees import float64, floats_to_arrays
from curlflow.orbits.pieces import DAY, PIECE, Interrupted, Pace
from curlflow.orbits.solve import Observe
from curlflow.orbits.streams import Streamed
from curlflow.orbits.trajectory import Trajectory
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Map, State, StateLike, map_state

# As many states as integration saves by default.
DEFAULT_SAMPLES = 256

# Most saved states in a piece.
CHUNK = 64
# Steps of the first piece, and the most of one.
FIRST_STEPS, MOST_STEPS = 16, 10**9
# What can be counted.
MOST_COUNTED = 2**62
# A run keeps no more numbers than this: 80 GB of them.
MOST_NUMBERS = 10**10


class Problem(eqx.Module):
    """What to iterate, what to save of its states, and what to fold over its steps."""

    system: Map
    args: Args
    observe: Observe | None
    fold: Mapping[str, Streamed]
    blow_up: Float[Array, ""]


def iterate(
    system: Map,
    y0: StateLike,
    steps: int,
    *,
    n0: int = 0,
    every: int | None = None,
    observe: Observe | None = None,
    fold: Mapping[str, Streamed] | None = None,
    args: Args = None,
    blow_up: float | None = None,
    progress: bool = False,
) -> Trajectory:
    """Iterate a map y ← step(n, y, args).

    Parameters
    ----------
    system
        A map of this package, such as `DescentMap`, or any object with a method step(n, y, args) that returns a state like y.
    y0
        The initial state: an array or any pytree of float64 arrays.
    steps
        How many steps to take.
    n0
        The number of the first step. To go on from the end of another run, give its last number and its final state.
    every
        Save every so many steps (and the last); None means about 256 times in all.
    observe
        A function (n, y, args) whose value, any pytree of arrays, is saved in place of the state.
    fold
        Observables to fold over all steps, by name: objects with `start`, `add` and `value` such as `OrderParameter()` or
        `Peak(error)`. Nothing of the orbit is kept for them. Their values are in the trajectory's `folded`.
    args
        Passed on to the system. Python floats in it become arrays, so that new ones do not compile anew.
    blow_up
        Largest magnitude that any entry of a saved state may have; beyond it the run ends with the outcome "blew up". None
        means 1.3e154, beyond which float64 has no squares: a bounded motion may be of any size.
    progress
        Show a progress bar.

    Returns
    -------
    Trajectory
        Step numbers as times, states (or what was observed of them), the outcome, and the folded values. The final state
        itself is in `final_state`. After a blow-up, the last state is the first beyond the limit, and folded values end with
        the last interval of `every` steps that stayed within it. A run whose rest would take more than a day ends soon, with
        the outcome "budget exceeded".

    Raises
    ------
    ValueError
        If the system is no map, an argument is out of range, the state is not one the system can move, or what is to be saved
        does not fit into memory.
    Interrupted
        At Ctrl-C, with the trajectory up to there in its attribute `trajectory`.

    Examples
    --------
    >>> import curlflow as cf
    >>> descent = cf.DescentMap(cf.CurlFlow(S=[1.0], d1=[1], d2=[1]), learning_rate=0.1)
    >>> run = cf.iterate(
    ...     descent, cf.Weights(W1=[[1.0]], W2=[[0.5]]), 500, fold={"q": cf.orbits.OrderParameter()}
    ... )
    >>> print(run.outcome)
    completed: Took 500 steps.
    >>> bool(run.loss()[-1] < 1e-12), sorted(run.folded)
    (True, ['q'])
    """
    args = floats_to_arrays(args)
    y0 = map_state(system, y0, args, "y0")
    steps = _checks.positive_integer("steps", steps)
    first = _checks.whole_number("n0", n0)
    if abs(first) + steps > MOST_COUNTED:
        raise ValueError(f"`steps` and `n0` must not exceed {MOST_COUNTED:.2g}, but are {steps} and {first}.")
    every = max(steps // DEFAULT_SAMPLES, 1) if every is None else _checks.positive_integer("every", every)
    limit = float64(_checks.blow_up_limit(blow_up, y0))
    problem = Problem(system, args, observe, _checked_fold(fold), limit)
    _require_room(problem, y0, steps // every + 2)
    return iterated(problem, y0, first, steps, every, progress)


def _checked_fold(fold: Mapping[str, Streamed] | None) -> dict[str, Streamed]:
    """The observables by name, or a refusal of what has no name or cannot be folded."""
    if fold is None:
        return {}
    if not isinstance(fold, Mapping):
        raise ValueError(f"`fold` must name its observables, e.g. {{'peak': Peak(error)}}, but is {fold!r}.")
    for name, each in fold.items():
        if not isinstance(each, Streamed):
            raise ValueError(
                f"`fold` must hold objects with `start`, `add` and `value`, but {name!r} is {each!r}."
            )
    return dict(fold)


def _require_room(problem: Problem, y0: State, states: int) -> None:
    saved = y0
    if problem.observe is not None:
        require_arguments("observe", problem.observe, ("n", "y", "args"))
        saved = shapes_of("observe", lambda: _observed(problem, jnp.asarray(0), y0))
    numbers = sum(leaf.size for leaf in jtu.tree_leaves(saved))
    if states * numbers > MOST_NUMBERS:
        raise ValueError(
            f"`every` must be so large that what is saved fits into memory, but {states} states of {numbers} numbers "
            "do not. Save fewer, or fold what you need of them over the steps."
        )


def iterated(
    problem: Problem, y0: State, first: int, steps: int, every: int, progress: bool = False
) -> Trajectory:
    """The trajectory of a problem that was checked, from step number `first` on."""
    course, pace = _Course(problem, y0, first, steps, every), Pace(FIRST_STEPS, MOST_STEPS)
    with tqdm(total=steps, disable=not progress) as bar:
        try:
            while not course.ending:
                began = time.perf_counter()
                taken = course.go_on(pace.steps)
                pace.took(taken, time.perf_counter() - began)
                bar.update(taken)
                course.give_up_what_takes_days(pace)
        except KeyboardInterrupt:
            course.ending = "interrupted"
    if course.ending == "interrupted":
        raise Interrupted(course.trajectory()) from None
    return course.trajectory()


class _Run(NamedTuple):
    """Where the iteration stands: the state before step n, and what the observables keep."""

    n: Int[Array, ""]
    y: State
    kept: dict[str, Any]


class _Limits(NamedTuple):
    """The first step's number, every how many a state is saved, the number at which to end, and at which to look up."""

    first: Int[Array, ""]
    every: Int[Array, ""]
    last: Int[Array, ""]
    until: Int[Array, ""]


class _Course:
    """An iteration in pieces: where it stands, where it stood when a state was last saved, what was saved, and its end."""

    def __init__(self, problem: Problem, y0: State, first: int, steps: int, every: int):
        self.problem, self.first, self.every, self.last = problem, first, every, first + steps
        self.now = self.mark = _start(problem, jnp.asarray(first), y0)
        self.records, self.numbers, self.ending = [], [], ""
        self.pieces, self.days = 0, 0.0
        self._record_now()

    def go_on(self, budget: int) -> int:
        """Take up to so many steps; return how many were taken."""
        before = int(self.now.n)
        limits = _Limits(*map(jnp.asarray, (self.first, self.every, self.last, before + budget)))
        self.now, self.mark, inside, numbers, saved, kept = _go_on(self.problem, self.now, self.mark, limits)
        kept = np.flatnonzero(np.asarray(kept))
        self.records.append([np.asarray(leaf)[kept] for leaf in jtu.tree_leaves(saved)])
        self.numbers.extend(np.asarray(numbers)[kept].tolist())
        self.pieces += 1
        taken = int(self.now.n) - before
        if not bool(inside):
            self._go_to_the_escape()
        elif int(self.now.n) == self.last:
            self.ending = "completed"
        return max(taken, 0)

    def _go_to_the_escape(self) -> None:
        """The first state beyond the limit, found step by step from the last that was saved."""
        self.now, escaped = self.mark, False
        while not escaped:
            self.now, goes_on = _to_the_escape(self.problem, self.now, self.now.n + MOST_STEPS)
            escaped = not bool(goes_on)
        self._record_now()
        self.ending = "blow_up"

    def give_up_what_takes_days(self, pace: Pace) -> None:
        """End a run that would take more than a day, as soon as a piece tells that is long, and not for being compiled."""
        seconds = (self.last - int(self.now.n)) * pace.seconds_per_step
        if not self.ending and self.pieces > 1 and pace.seconds > PIECE / 4 and seconds > DAY:
            self.ending, self.days = "too_long", seconds / DAY

    def _record_now(self) -> None:
        observed = jtu.tree_map(lambda leaf: leaf[None], _observed(self.problem, self.now.n, self.now.y))
        self.structure = jtu.tree_structure(observed)
        self.records.append([np.asarray(leaf) for leaf in jtu.tree_leaves(observed)])
        self.numbers.append(int(self.now.n))

    def outcome(self) -> Outcome:
        """How the iteration ended."""
        n = int(self.now.n)
        if self.ending == "completed":
            return Outcome(Ending.COMPLETED, float(n), f"Took {n - self.first} steps.")
        if self.ending == "blow_up":
            return Outcome(Ending.BLEW_UP, float(n), _escaped(self.problem, n))
        remedy = f"Go on from `final_state` with n0 = {n}."
        if self.ending == "interrupted":
            return Outcome(Ending.INTERRUPTED, float(n), f"Interrupted at step {n}. {remedy}")
        reason = f"Ended at step {n}, because the rest would take {self.days:.3g} days at this pace."
        return Outcome(Ending.OUT_OF_BUDGET, float(n), f"{reason} Ask for fewer steps. {remedy}")

    def trajectory(self) -> Trajectory:
        """What was computed."""
        if self.numbers[-1] != int(self.now.n):
            self._record_now()
        problem = self.problem
        leaves = [jnp.asarray(np.concatenate(parts)) for parts in zip(*self.records, strict=True)]
        return Trajectory(
            ts=np.asarray(self.numbers, float),
            ys=jtu.tree_unflatten(self.structure, leaves),
            outcome=self.outcome(),
            stats={"steps": int(self.now.n) - self.first, "every": self.every},
            final_state=self.now.y,
            # What was observed of a state has no loss.
            system=problem.system if problem.observe is None else None,
            args=problem.args,
            folded={name: each.value(self.now.kept[name]) for name, each in problem.fold.items()},
        )


def _escaped(problem: Problem, n: int) -> str:
    limit = float(problem.blow_up)
    if limit >= _checks.LARGEST_STATE:
        return f"The state passed {limit:.3g}, near the end of what float64 can hold, at step {n}."
    return f"The largest entry of the state passed {limit:g} at step {n}. If the motion is bounded, raise `blow_up`."


@eqx.filter_jit
def _start(problem: Problem, n: Array, y: State) -> _Run:
    kept = {name: each.start(n, y, problem.args) for name, each in problem.fold.items()}
    return _Run(n, y, kept)


@eqx.filter_jit
def _observed(problem: Problem, n: Array, y: State) -> State:
    if problem.observe is None:
        return y
    return jtu.tree_map(jnp.asarray, problem.observe(n, y, problem.args))


@compiled
def _go_on(problem: Problem, run: _Run, mark: _Run, limits: _Limits) -> tuple[Any, ...]:
    """A chunk of intervals of `every` steps, each saved at its end; after one in which the state escaped nothing moves.

    The last interval may stay unfinished, to be gone on with. The state's size is looked at where one is finished: what ends
    a run must not depend on how fast it was.
    """

    def one_step(run: _Run) -> _Run:
        y = problem.system.step(run.n, run.y, problem.args)
        n = run.n + 1
        kept = {name: each.add(run.kept[name], n, y, problem.args) for name, each in problem.fold.items()}
        return _Run(n, y, kept)

    def interval(state: tuple[_Run, _Run, Array], _: None) -> tuple[Any, Any]:
        run, mark, inside = state
        done = (run.n - limits.first) // limits.every
        finish = jnp.minimum(limits.first + (done + 1) * limits.every, limits.last)
        goal = jnp.where(inside, jnp.minimum(finish, limits.until), run.n)
        after = jax.lax.while_loop(lambda run: run.n < goal, one_step, run)
        finished = (after.n > run.n) & (after.n == finish)
        size = optx.max_norm(after.y)
        inside &= jnp.where(finished, size < problem.blow_up, jnp.isfinite(size))
        saves = finished & inside
        mark = jtu.tree_map(lambda new, old: jnp.where(saves, new, old), after, mark)
        return (after, mark, inside), (after.n, _observed(problem, after.n, after.y), saves)

    state, saved = jax.lax.scan(interval, (run, mark, jnp.asarray(True)), None, length=CHUNK)
    return *state, *saved


@compiled
def _to_the_escape(problem: Problem, run: _Run, until: Array) -> tuple[_Run, Bool[Array, ""]]:
    """The first state beyond the limit or not finite, if it comes before a step; what is folded ends where it begins."""

    def inside(run: _Run) -> Array:
        return optx.max_norm(run.y) < problem.blow_up

    def one_step(run: _Run) -> _Run:
        return run._replace(n=run.n + 1, y=problem.system.step(run.n, run.y, problem.args))

    run = jax.lax.while_loop(lambda run: inside(run) & (run.n < until), one_step, run)
    return run, inside(run)
