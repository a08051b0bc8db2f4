"""Adaptive integration of flows: `integrate` → `Trajectory`."""

import dataclasses
import math
import time
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._traced import require_arguments, shapes_of
from curlflow._trees import float64, floats_to_arrays, size, take
from curlflow.orbits.ends import (
    batch_outcomes_of,
    is_surely_at_rest,
    masked_members,
    meets_jump,
    member_ends,
    members_that_move_on,
    outcome_of,
)
from curlflow.orbits.events import Event, Events, Stop, check_events, named_events
from curlflow.orbits.pieces import Interrupted
from curlflow.orbits.solve import (
    DEFAULT_MAX_STEPS,
    Observe,
    Problem,
    dense_output,
    final_state,
    passages,
    saved,
    solve,
)
from curlflow.orbits.solvers import Dopri8, SolverChoice, Tsit5, chosen_solver
from curlflow.orbits.trajectory import Trajectory
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Flow, State, StateLike, check_state, require_flow, require_same_structure

# Without chosen times a trajectory is sampled often enough to be drawn.
DEFAULT_SAMPLES = 257
# Dense output keeps every stage of every step in a buffer of this many steps.
DEFAULT_MAX_DENSE_STEPS = 4096
# Dopri8 takes the fewest steps, but its many stages compile and stream slowly in large systems.
LARGEST_DOPRI8_SYSTEM = 64
# What a call of a compiled function may take, in seconds, without the function itself.
SLOW_CALL = 3e-4


def integrate(
    system: Flow,
    y0: StateLike,
    t1: float,
    *,
    t0: float = 0.0,
    ts: ArrayLike | None = None,
    args: Args = None,
    batch: bool = False,
    dense: bool = False,
    observe: Observe | None = None,
    stop: Stop | None = None,
    events: Events | None = None,
    blow_up: float | None = None,
    solver: SolverChoice | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    dtmax: float | None = None,
    max_steps: int | None = None,
    progress: bool = False,
) -> Trajectory:
    r"""Integrate a flow ẏ = f(t, y, args) from chosen initial conditions, with adaptive steps.

    Parameters
    ----------
    system
        A flow of this package, or any function f(t, y, args) that returns a pytree like the state. Functions and modules are
        compiled once each: pass numbers that change through `args` or as array fields of an `equinox.Module`, not through
        new closures.
    y0
        The initial state: an array or any pytree of float64 arrays. With `batch=True` every leaf has a leading axis of
        members, which are integrated in one solve with common steps, the error of each member held to the tolerance.
    t1
        The final time, in the flow's units; before `t0` to integrate backwards.
    t0
        The initial time.
    ts
        Times to save at, strictly increasing from `t0` towards `t1`; None means 257 equally spaced ones.
    args
        Passed on to the system. Python floats in it become arrays, so that new ones do not compile anew.
    batch
        Whether `y0` holds several initial conditions along its leading axis.
    dense
        Keep the solver's interpolation, so that the trajectory can be called at any time. One initial condition only.
    observe
        A function (t, y, args) whose value, any pytree of arrays, is saved in place of the state: for systems whose history
        would not fit into memory. One initial condition only.
    stop
        When to end early: "fixed point", a condition, or several of these as a list, or by name in a dict; the outcome says
        which it was. "fixed point": the state has less than the tolerance left to go, by its deceleration and, in states of
        up to 512 numbers, by Newton's step to where the field is zero; so close a passage by a saddle counts too. A
        condition is a function (t, y, args) → real number, whose zeros end the run, or → bool, which ends it when it
        becomes true (or is so at the start), or an `orbits.Event`, which also has a direction. The time is located on the
        solver's interpolation, to the last digit. Conditions are looked at 16 times in every step (4 times in states of more
        than 64 numbers): one that changes and changes back between two looks is missed, and `dtmax` brings the looks closer
        together. A real value that is zero at the start is no end there.
    events
        Conditions, as for `stop`, that do not end the run: when they were met, and in what states, is in the trajectory's
        `events` by name.
    blow_up
        Largest magnitude that any entry of the state may reach; beyond it the run ends with the outcome "blew up". None
        means 1.3e154, beyond which float64 has no squares: a bounded motion may be of any size. What grows without bound in
        finite time is told by its growth, with any `blow_up`.
    solver
        "tsit5", "dopri8" (explicit), "kvaerno5" (implicit, for stiff systems), or any diffrax solver with an error estimate.
        None takes Dopri8 for states of up to 64 numbers and Tsit5 for larger ones.
    rtol, atol
        Relative and absolute tolerance on the local error of a step: its root mean square over the state, in units of
        atol + rtol · abs(y), is kept below 1.
    dtmax
        Longest step, in the flow's units, positive; None means any. Steps grow where nothing happens, and may then pass over
        what is shorter than they are, such as a pulse: set it to the length of the shortest such event.
    max_steps
        Most steps to take, accepted or rejected; None means a million, or 4096 if `dense`.
    progress
        Show a progress bar.

    Returns
    -------
    Trajectory
        Times, states, the outcome (one per member of a batch), and the evidence. A run that ends early holds everything
        computed until then.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape, not finite, or not float64; the message says which.
    Interrupted
        At Ctrl-C, within a second or as soon as the running step and compilation allow, with the trajectory up to there in
        its attribute `trajectory`.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> traj = cf.integrate(flow, jnp.array([0.5, 1.5]), 20.0)
    >>> print(traj.outcome)
    completed: Reached t = 20.
    >>> bool(traj.loss()[-1] < 1e-12)
    True

    When a ball thrown upwards is highest, and when it is back:

    >>> run = cf.integrate(
    ...     lambda t, y, args: jnp.array([y[1], -10.0]),
    ...     jnp.array([0.0, 20.0]),
    ...     9.0,
    ...     stop=lambda t, y, args: y[0] < 0,
    ...     events={"top": lambda t, y, args: y[1]},
    ... )
    >>> print(run.outcome, run.events["top"].ts)
    stopped: The stop condition held at t = 4. [2.]

    Flips in both layers can blow up in finite time; that is a result, not an error:

    >>> both = cf.CurlFlow(S=[1.0], d1=[-1], d2=[-1])
    >>> cf.integrate(both, cf.Weights(W1=[[2.0]], W2=[[1.0]]), 10.0).outcome.ending
    <Ending.BLEW_UP: 'blew up'>
    """
    require_flow(system)
    y0 = _checks.state_pytree("y0", y0)
    members = _checks.leading_axis("y0", y0, "members") if batch else 1
    stops, recorded = named_events("stop", stop), named_events("events", events)
    located = {name: each for name, each in stops.items() if isinstance(each, Event)}
    if batch and (dense or located or recorded or observe is not None):
        raise ValueError(
            "`dense`, `observe`, `events` and a `stop` function must be used with one initial condition, "
            "but y0 is a batch."
        )
    args = floats_to_arrays(args)
    problem = Problem(
        t0=float64(_checks.finite_number("t0", t0)),
        t1=float64(_checks.finite_number("t1", t1)),
        rtol=float64(_checks.relative_tolerance("rtol", rtol)),
        atol=float64(_checks.non_negative_number("atol", atol)),
        blow_up=float64(_checks.blow_up_limit(blow_up, y0)),
        args=args,
        system=system,
        stops=located,
        events={name: each for name, each in recorded.items() if isinstance(each, Event)},
        ends_at_rest=len(located) < len(stops),
        solver=chosen_solver(solver, default_solver(size(y0) // members)),
        is_batch=batch,
        dense=dense,
        dtmax=math.inf if dtmax is None else _checks.positive_number("dtmax", dtmax),
        max_steps=_step_budget(max_steps, dense),
        progress=progress,
        observe=observe,
    )
    times = _save_times(ts, float(problem.t0), float(problem.t1))
    seconds = _check_start(system, problem.t0, y0, args, batch)
    check_events("stop", problem.stops, problem.t0, y0, args)
    check_events("events", problem.events, problem.t0, y0, args)
    if observe is not None:
        require_arguments("observe", observe, ("t", "y", "args"))
        shapes_of("observe", observe, problem.t0, y0, args)
    return solved(problem, y0, times, seconds)


def solved(
    problem: Problem, y0: State, times: Float[np.ndarray, " times"], seconds_per_velocity: float = 0.0
) -> Trajectory:
    """The trajectory of a problem that was checked, saved at the given times."""
    run = solve(
        problem,
        y0,
        times,
        is_surely_at_rest=is_surely_at_rest,
        meets_jump=meets_jump,
        seconds_per_velocity=seconds_per_velocity,
    )
    ts, ys = saved(problem, run, times)
    ends = member_ends(problem, run) if problem.is_batch else None
    trajectory = Trajectory(
        ts=ts,
        ys=ys if ends is None else masked_members(problem, ends, ts, ys),
        outcome=outcome_of(problem, run) if ends is None else batch_outcomes_of(problem, run, ends),
        stats={
            "solver": type(problem.solver).__name__,
            "rtol": float(problem.rtol),
            "atol": float(problem.atol),
            "steps": run.steps,
            "accepted": run.accepted,
            "rejected": run.steps - run.accepted,
        },
        # What was observed of a state has no loss.
        system=problem.system if problem.observe is None else None,
        args=problem.args,
        interpolation=dense_output(problem, run),
        rerun=partial(_again, problem, y0, len(times)),
        final_state=final_state(problem, run),
        events=passages(problem, run),
    )
    if run.ending == "interrupted":
        raise Interrupted(trajectory) from None
    for index in [] if ends is None else members_that_move_on(problem, run, ends):
        trajectory = _going_on_alone(problem, trajectory, index)
    return trajectory


def _again(problem: Problem, y0: State, room: int, times: Float[np.ndarray, " times"]) -> Trajectory:
    """The same solve, saved at other times: by the same program, if there was room for as many."""
    padded = np.full(max(room, len(times)), np.nan)
    padded[: len(times)] = times
    return solved(dataclasses.replace(problem, progress=False), y0, padded)


def _going_on_alone(problem: Problem, batch: Trajectory, index: int) -> Trajectory:
    """A batch in which a member that was held goes on by itself from there, to the times that follow."""
    outcomes = list(batch.outcome)  # pyright: ignore[reportArgumentType]
    begin = float64(outcomes[index].time)
    rows = np.flatnonzero((batch.ts - float(begin)) * np.sign(float(problem.span)) > 0)
    times = np.full(len(batch.ts), np.nan)
    times[: len(rows)] = batch.ts[rows]
    alone = dataclasses.replace(problem, t0=begin, is_batch=False, progress=False)
    run = solved(alone, take(batch.final_state, index), times)
    outcomes[index] = run.outcome
    rests = isinstance(run.outcome, Outcome) and run.outcome.ending is Ending.FIXED_POINT
    reached = np.searchsorted(np.abs(run.ts - float(begin)), np.abs(batch.ts[rows] - float(begin)))

    def row(kept: Array, own: Array) -> Array:
        late = np.expand_dims(reached >= len(own), tuple(range(1, own.ndim)))
        stays = own[-1] if rests else jnp.nan
        return kept.at[rows, index].set(jnp.where(late, stays, own[np.minimum(reached, len(own) - 1)]))

    final = jtu.tree_map(lambda kept, own: kept.at[index].set(own), batch.final_state, run.final_state)
    stats = batch.stats | {
        name: batch.stats[name] + run.stats[name] for name in ("steps", "accepted", "rejected")
    }
    ys = jtu.tree_map(row, batch.ys, run.ys)
    return dataclasses.replace(batch, ys=ys, outcome=tuple(outcomes), final_state=final, stats=stats)


def default_solver(numbers: int) -> diffrax.AbstractSolver[Any]:
    """The solver for states of so many numbers."""
    return Dopri8() if numbers <= LARGEST_DOPRI8_SYSTEM else Tsit5()


def _step_budget(max_steps: int | None, dense: bool) -> int:
    if max_steps is None:
        return DEFAULT_MAX_DENSE_STEPS if dense else DEFAULT_MAX_STEPS
    return _checks.positive_integer("max_steps", max_steps)


def _save_times(ts: ArrayLike | None, t0: float, t1: float) -> np.ndarray:
    if t0 == t1:
        raise ValueError(f"`t1` must differ from `t0`, but both are {t0:g}.")
    if ts is None:
        return np.linspace(t0, t1, DEFAULT_SAMPLES)
    times = np.asarray(_checks.float64_array("ts", ts))
    if times.ndim != 1 or not len(times):
        raise ValueError(f"`ts` must be a list of at least one time, but has shape {times.shape}.")
    wrong = np.flatnonzero(np.diff(times) * np.sign(t1 - t0) <= 0)
    if len(wrong):
        first, second = (float(each) for each in times[wrong[0] : wrong[0] + 2])
        raise ValueError(
            f"`ts` must run strictly from `t0` towards `t1`, but is not in that order: "
            f"{second!r} follows {first!r} at index {wrong[0] + 1}."
        )
    # The last of three steps of 0.1 is 0.30000000000000004: rounding of a unit or two in the last place is no mistake.
    inside = np.clip(times, min(t0, t1), max(t0, t1))
    if np.any(np.abs(times - inside) > 4 * np.spacing(max(abs(t0), abs(t1)))):
        first, last = float(times[0]), float(times[-1])
        raise ValueError(
            f"`ts` must lie between t0 = {t0!r} and t1 = {t1!r}, but spans {first!r} to {last!r}."
        )
    return inside


def _check_start(system: Flow, t0: Array, y0: State, args: Args, batch: bool) -> float:
    """Refuse a state that the system cannot move, or a system that is not finite there, before anything is compiled.

    Return how many seconds it takes to compute a velocity.
    """
    first = take(y0, 0) if batch else y0
    check_state(system, first)
    require_same_structure(lambda y: system(t0, y, args), first)
    velocity, seconds = _timed_velocity(system, t0, y0, args, batch)
    for path, leaf in jtu.tree_leaves_with_path(velocity):
        _checks.require_finite("f(t0, y0, args)" + jtu.keystr(path), leaf)
    return seconds


def _timed_velocity(system: Flow, t0: Array, y0: State, args: Args, batch: bool) -> tuple[State, float]:
    """The velocity and its seconds, without those of the call; what took long is called again, now that it is compiled."""
    velocity, seconds = None, []
    while not seconds or (seconds[-1] > SLOW_CALL and len(seconds) < 2):
        began = time.perf_counter()
        velocity = jax.block_until_ready(_velocity(system, t0, y0, args, batch))
        seconds.append(time.perf_counter() - began)
    return velocity, max(min(seconds) - SLOW_CALL, 0.0)


@eqx.filter_jit
def _velocity(system: Flow, t: Array, y0: State, args: Args, batch: bool) -> State:
    return jax.vmap(lambda y: system(t, y, args))(y0) if batch else system(t, y0, args)
