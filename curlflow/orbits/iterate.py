"""Iteration of maps: `iterate` → `Trajectory`, with observables folded over the steps."""

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
from curlflow._trees import float64, floats_to_arrays
from curlflow.orbits.solve import Observe
from curlflow.orbits.streams import Streamed
from curlflow.orbits.trajectory import Trajectory
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Map, State, StateLike, map_state

# As many states as integration saves by default.
DEFAULT_SAMPLES = 256

# Saved states computed between two looks at the clock.
CHUNK = 64


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
    blow_up: float = 1e6,
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
        Largest magnitude that any entry of a saved state may have; beyond it the run ends with the outcome "blew up".
    progress
        Show a progress bar.

    Returns
    -------
    Trajectory
        Step numbers as times, states (or what was observed of them), the outcome, and the folded values. The final state
        itself is in `final_state`. After a blow-up, the last state is the first beyond the limit, and folded values end with
        the last interval of `every` steps that stayed within it.

    Raises
    ------
    ValueError
        If the system is no map, an argument is out of range, or the state is not one the system can move.

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
    first = int(_checks.finite_number("n0", n0))
    every = max(steps // DEFAULT_SAMPLES, 1) if every is None else _checks.positive_integer("every", every)
    limit = float64(_checks.blow_up_limit(blow_up, y0))
    return iterated(
        Problem(system, args, observe, dict(fold or {}), limit), y0, first, steps, every, progress
    )


def iterated(
    problem: Problem, y0: State, first: int, steps: int, every: int, progress: bool = False
) -> Trajectory:
    """The trajectory of a problem that was checked, from step number `first` on."""
    run = _start(problem, jnp.asarray(first), y0)
    records, numbers = [jtu.tree_map(lambda leaf: leaf[None], _observed(problem, run.n, y0))], [first]
    with tqdm(total=steps, disable=not progress) as bar:
        while int(run.n) < first + steps and bool(run.inside):
            before = int(run.n)
            run, ns, saved, kept = _go_on(problem, run, jnp.asarray(every), jnp.asarray(first + steps))
            kept = np.flatnonzero(np.asarray(kept))
            records.append(jtu.tree_map(lambda leaf, kept=kept: leaf[kept], saved))
            numbers.extend(np.asarray(ns)[kept].tolist())
            bar.update(int(run.n) - before)
    outcome = Outcome(Ending.COMPLETED, float(first + steps), f"Took {steps} steps.")
    if not bool(run.inside):
        run = _to_the_escape(problem, run)
        records.append(jtu.tree_map(lambda leaf: leaf[None], _observed(problem, run.n, run.y)))
        numbers.append(int(run.n))
        message = f"The largest entry of the state passed {float(problem.blow_up):g} at step {int(run.n)}."
        outcome = Outcome(Ending.BLEW_UP, float(run.n), message)
    ys = jtu.tree_map(lambda *leaves: jnp.concatenate(leaves), *records)
    return Trajectory(
        ts=np.asarray(numbers, float),
        ys=ys,
        outcome=outcome,
        stats={"steps": int(run.n) - first, "every": every},
        final_state=run.y,
        # What was observed of a state has no loss.
        system=problem.system if problem.observe is None else None,
        args=problem.args,
        folded={name: each.value(run.kept[name]) for name, each in problem.fold.items()},
    )


class _Run(NamedTuple):
    """Where the iteration stands: the state before step n, and what the observables keep."""

    n: Int[Array, ""]
    y: State
    kept: dict[str, Any]
    inside: Bool[Array, ""]


@eqx.filter_jit
def _start(problem: Problem, n: Array, y: State) -> _Run:
    kept = {name: each.start(n, y, problem.args) for name, each in problem.fold.items()}
    return _Run(n, y, kept, jnp.asarray(True))


@eqx.filter_jit
def _observed(problem: Problem, n: Array, y: State) -> State:
    if problem.observe is None:
        return y
    return jtu.tree_map(jnp.asarray, problem.observe(n, y, problem.args))


@compiled
def _go_on(
    problem: Problem, run: _Run, every: Array, last: Array
) -> tuple[_Run, Int[Array, " chunk"], State, Bool[Array, " chunk"]]:
    """A chunk of intervals of `every` steps, each saved at its end; an interval in which the state escaped is not taken."""

    def one_step(run: _Run) -> _Run:
        y = problem.system.step(run.n, run.y, problem.args)
        n = run.n + 1
        kept = {name: each.add(run.kept[name], n, y, problem.args) for name, each in problem.fold.items()}
        return _Run(n, y, kept, run.inside)

    def interval(run: _Run, _: None) -> tuple[_Run, Any]:
        goal = jnp.where(run.inside, jnp.minimum(run.n + every, last), run.n)
        after = jax.lax.while_loop(lambda run: run.n < goal, one_step, run)
        inside = optx.max_norm(after.y) < problem.blow_up
        moved = (after.n > run.n) & inside
        run = jtu.tree_map(lambda new, old: jnp.where(inside, new, old), after, run)
        run = run._replace(inside=run.inside & inside)
        return run, (run.n, _observed(problem, run.n, run.y), moved)

    run, (ns, saved, kept) = jax.lax.scan(interval, run, None, length=CHUNK)
    return run, ns, saved, kept


@compiled
def _to_the_escape(problem: Problem, run: _Run) -> _Run:
    """The first state beyond the limit, found step by step."""

    def goes_on(run: _Run) -> Array:
        return optx.max_norm(run.y) < problem.blow_up

    def one_step(run: _Run) -> _Run:
        return run._replace(n=run.n + 1, y=problem.system.step(run.n, run.y, problem.args))

    return jax.lax.while_loop(goes_on, one_step, run)
