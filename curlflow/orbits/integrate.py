"""Adaptive integration of flows: `integrate` → `Trajectory`."""

from collections.abc import Callable
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
from curlflow._trees import float64, floats_to_arrays, size, take
from curlflow.orbits.solve import (
    DEFAULT_MAX_STEPS,
    Observe,
    Problem,
    Stop,
    batch_outcomes_of,
    final_state,
    outcome_of,
    saved,
    solve,
)
from curlflow.orbits.solvers import Dopri8, SolverChoice, Tsit5, chosen_solver
from curlflow.orbits.trajectory import Trajectory
from curlflow.system import Args, Flow, State, StateLike, check_state, require_flow, require_same_structure

# Without chosen times a trajectory is sampled often enough to be drawn.
DEFAULT_SAMPLES = 257
# Dense output keeps every stage of every step in a buffer of this many steps.
DEFAULT_MAX_DENSE_STEPS = 4096
# Dopri8 takes the fewest steps, but its many stages compile and stream slowly in large systems.
LARGEST_DOPRI8_SYSTEM = 64


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
    blow_up: float = 1e6,
    solver: SolverChoice | None = None,
    rtol: float = 1e-8,
    atol: float = 1e-10,
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
        When to end early: "fixed point" (by its deceleration the state has less than the tolerance left to go; so close a
        passage by a saddle counts too) or a function (t, y, args) → bool, checked after every step.
    blow_up
        Largest magnitude that any entry of the state may reach; beyond it the run ends with the outcome "blew up".
    solver
        "tsit5", "dopri8" (explicit), "kvaerno5" (implicit, for stiff systems), or any diffrax solver with an error estimate.
        None takes Dopri8 for states of up to 64 numbers and Tsit5 for larger ones.
    rtol, atol
        Relative and absolute tolerance on the local error of a step: its root mean square over the state, in units of
        atol + rtol · abs(y), is kept below 1.
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

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> traj = cf.integrate(flow, jnp.array([0.5, 1.5]), 20.0)
    >>> print(traj.outcome)
    completed: Reached t = 20.
    >>> bool(traj.loss()[-1] < 1e-12)
    True

    Flips in both layers can blow up in finite time; that is a result, not an error:

    >>> both = cf.CurlFlow(S=[1.0], d1=[-1], d2=[-1])
    >>> cf.integrate(both, cf.Weights(W1=[[2.0]], W2=[[1.0]]), 10.0).outcome.ending
    <Ending.BLEW_UP: 'blew up'>
    """
    require_flow(system)
    y0 = _checks.state_pytree("y0", y0)
    members = _checks.leading_axis("y0", y0, "members") if batch else 1
    if batch and (dense or callable(stop) or observe is not None):
        raise ValueError(
            "`dense`, `observe` and a `stop` function must be used with one initial condition, but y0 is a batch."
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
        stop=_check_stop(stop),
        solver=chosen_solver(solver, default_solver(size(y0) // members)),
        is_batch=batch,
        dense=dense,
        max_steps=_step_budget(max_steps, dense),
        progress=progress,
        observe=observe,
    )
    times = _save_times(ts, float(problem.t0), float(problem.t1))
    _check_start(system, float(t0), y0, args, batch)
    if callable(stop):
        _check_verdict(stop, float(t0), y0, args)
    return solved(problem, y0, times)


def solved(problem: Problem, y0: State, times: Float[np.ndarray, " times"]) -> Trajectory:
    """The trajectory of a problem that was checked, saved at the given times."""
    solution = solve(problem, y0, jnp.asarray(times))
    ts, ys = saved(problem, solution)
    return Trajectory(
        ts=ts,
        ys=ys,
        outcome=(batch_outcomes_of if problem.is_batch else outcome_of)(problem, solution),
        stats={
            "solver": type(problem.solver).__name__,
            "rtol": float(problem.rtol),
            "atol": float(problem.atol),
            "steps": int(solution.stats["num_steps"]),
            "accepted": int(solution.stats["num_accepted_steps"]),
            "rejected": int(solution.stats["num_rejected_steps"]),
        },
        # What was observed of a state has no loss.
        system=problem.system if problem.observe is None else None,
        args=problem.args,
        interpolation=solution.interpolation,
        final_state=final_state(problem, solution),
    )


def _check_stop(stop: Stop | None) -> Stop | None:
    if not (stop is None or callable(stop) or stop == "fixed point"):
        raise ValueError(
            f'`stop` must be "fixed point", a function (t, y, args) → bool, or None, but is {stop!r}.'
        )
    return stop


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
    direction = np.sign(t1 - t0)
    if np.any(np.diff(times) * direction <= 0):
        raise ValueError("`ts` must run strictly from `t0` towards `t1`, but is not in that order.")
    if times.min() < min(t0, t1) or times.max() > max(t0, t1):
        raise ValueError(
            f"`ts` must lie between t0 = {t0:g} and t1 = {t1:g}, but spans {times[0]:g} to {times[-1]:g}."
        )
    return times


def _check_start(system: Flow, t0: float, y0: State, args: Args, batch: bool) -> None:
    """Refuse a state that the system cannot move, or a system that is not finite there, before anything is compiled."""
    first = take(y0, 0) if batch else y0
    check_state(system, first)
    require_same_structure(lambda y: system(float64(t0), y, args), first)
    for path, leaf in jtu.tree_leaves_with_path(_velocity(system, float64(t0), y0, args, batch)):
        _checks.require_finite("f(t0, y0, args)" + jtu.keystr(path), leaf)


@eqx.filter_jit
def _velocity(system: Flow, t: Array, y0: State, args: Args, batch: bool) -> State:
    return jax.vmap(lambda y: system(t, y, args))(y0) if batch else system(t, y0, args)


def _check_verdict(stop: Callable[..., Any], t0: float, y0: State, args: Args) -> None:
    """Refuse a stop condition whose value is not one truth value: a number would count as true."""
    verdict = eqx.filter_eval_shape(lambda: jnp.asarray(stop(float64(t0), y0, args)))
    if verdict.shape != () or verdict.dtype != bool:
        raise ValueError(
            f"`stop` must return one truth value, but returned {verdict.dtype}{list(verdict.shape)}."
        )
