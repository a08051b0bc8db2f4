"""Adaptive integration of flows: `integrate` → `Trajectory`. The one place that knows diffrax's controllers and events."""

from collections.abc import Callable
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._compile import compiled
from curlflow.outcome import Ending, Outcome
from curlflow.solvers import Dopri8, Tsit5
from curlflow.trajectory import Trajectory

# Without chosen times a trajectory is sampled often enough to be drawn.
DEFAULT_SAMPLES = 257
DEFAULT_MAX_STEPS = 1_000_000
# Dense output keeps every stage of every step in a buffer of this many steps.
DEFAULT_MAX_DENSE_STEPS = 4096
# Dopri8 takes the fewest steps, but its many stages compile and stream slowly in large systems.
LARGEST_DOPRI8_SYSTEM = 64

Solver = Literal["tsit5", "dopri8", "kvaerno5"] | diffrax.AbstractSolver
Stop = Literal["fixed point"] | Callable[[Any, PyTree[Array], Any], Any]


def integrate(
    system: Any,
    y0: PyTree[ArrayLike],
    t1: float,
    *,
    t0: float = 0.0,
    ts: ArrayLike | None = None,
    args: Any = None,
    batch: bool = False,
    dense: bool = False,
    stop: Stop | None = None,
    blow_up: float = 1e6,
    solver: Solver | None = None,
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
    stop
        When to end early: "fixed point" (at its present speed the state would move by less than the tolerance over the whole
        time span; a slow passage by a saddle counts too) or a function (t, y, args) → bool, checked after every step.
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
    _checks.require_flow(system)
    y0 = _checks.state_pytree("y0", y0)
    members = _checks.leading_axis("y0", y0, "members") if batch else 1
    if batch and (dense or callable(stop)):
        raise ValueError(
            "`dense` and a `stop` function must be used with one initial condition, but y0 is a batch."
        )
    args = jtu.tree_map(lambda leaf: _array(leaf) if isinstance(leaf, float) else leaf, args)
    problem = _Problem(
        t0=_array(_checks.finite_number("t0", t0)),
        t1=_array(_checks.finite_number("t1", t1)),
        rtol=_array(_relative_tolerance(rtol)),
        atol=_array(_checks.non_negative_number("atol", atol)),
        blow_up=_array(_blow_up(blow_up, y0)),
        args=args,
        system=system,
        stop=_check_stop(stop),
        solver=_choose_solver(solver, _size(y0) // members),
        is_batch=batch,
        dense=dense,
        max_steps=_step_budget(max_steps, dense),
        progress=progress,
    )
    times = jnp.asarray(_save_times(ts, float(problem.t0), float(problem.t1)))
    _check_start(system, float(t0), y0, args, batch)
    if callable(stop):
        _check_verdict(stop, float(t0), y0, args)
    solution = _solve(problem, y0, times)
    outcome = _batch_outcomes(problem, solution) if batch else _outcome(problem, solution)
    ts, ys = _saved(problem, solution)
    stats = {
        "solver": type(problem.solver).__name__,
        "rtol": float(rtol),
        "atol": float(atol),
        "steps": int(solution.stats["num_steps"]),
        "accepted": int(solution.stats["num_accepted_steps"]),
        "rejected": int(solution.stats["num_rejected_steps"]),
    }
    return Trajectory(ts, ys, outcome, stats, system, args, solution.interpolation)


class _Problem(eqx.Module):
    """What to integrate and how. Numbers are arrays, so that new ones do not recompile; the rest is compiled in."""

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    blow_up: Float[Array, ""]
    args: Any
    system: Any
    stop: Stop | None
    solver: diffrax.AbstractSolver
    is_batch: bool
    dense: bool
    max_steps: int
    progress: bool

    def is_at_rest(self, y: PyTree[Array], velocity: PyTree[Array]) -> Array:
        """Whether, at this velocity, the state would move by less than the tolerance over the whole time span."""
        distance = _largest(velocity) * jnp.abs(self.t1 - self.t0)
        return distance <= self.atol + self.rtol * _largest(y)


@compiled
def _solve(problem: _Problem, y0: PyTree[Array], times: Array) -> diffrax.Solution:
    if problem.is_batch:
        term, y0, norm, event = (
            diffrax.ODETerm(_batch_field(problem)),
            _batch_state(y0),
            _largest_member_norm,
            None,
        )
    else:
        term, norm, event = diffrax.ODETerm(problem.system), optx.rms_norm, _event(problem)
    return diffrax.diffeqsolve(
        term,
        problem.solver,
        problem.t0,
        problem.t1,
        None,
        y0,
        problem.args,
        saveat=diffrax.SaveAt(
            subs=[diffrax.SubSaveAt(ts=times), diffrax.SubSaveAt(t1=True)], dense=problem.dense
        ),
        stepsize_controller=diffrax.PIDController(
            problem.rtol,
            problem.atol,
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


def _smallest_step(problem: _Problem) -> Array:
    """A step of a few units in the last place of the time: below it time stands still."""
    return 16 * jnp.finfo(jnp.float64).eps * jnp.maximum(jnp.abs(problem.t0), jnp.abs(problem.t1))


def _event(problem: _Problem) -> diffrax.Event:
    # Diffrax runs its own clock forwards, and shows that clock to events even where it integrates backwards.
    direction = jnp.sign(problem.t1 - problem.t0)

    def blow_up(t: Any, y: PyTree[Array], args: Any, **_: Any) -> Array:
        # In logarithms, because Newton's method must find the crossing of something that grows without bound.
        return jnp.log(jnp.maximum(_largest(y), 1e-300)) - jnp.log(problem.blow_up)

    def fixed_point(t: Any, y: PyTree[Array], args: Any, **_: Any) -> Array:
        return problem.is_at_rest(y, problem.system(direction * t, y, args))

    def stop(t: Any, y: PyTree[Array], args: Any, **_: Any) -> Array:
        return jnp.asarray(problem.stop(direction * t, y, args), bool)  # pyright: ignore[reportCallIssue, reportOptionalCall]

    conditions: dict[str, Callable[..., Array]] = {"blow_up": blow_up}
    if callable(problem.stop):
        conditions["stop"] = stop
    elif problem.stop is not None:
        conditions["fixed_point"] = fixed_point
    # Newton ends on its steps in time alone: the size of what blows up is not known better than time's rounding allows.
    return diffrax.Event(conditions, optx.Newton(rtol=1e-12, atol=1e-15, cauchy_termination=False))


# A batch is one system: (members' states, members' clocks). The members travel on the trailing axis, because one solve
# over it is an order of magnitude cheaper than `vmap` over solves. A member that blows up, comes to rest or ceases to be
# finite is held still, by a condition on its own state, while the others go on; its clock, which runs while it moves,
# then tells when that was.


def _batch_state(y0: PyTree[Array]) -> tuple[PyTree[Array], Array]:
    members = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, -1), y0)
    return members, jnp.zeros(jtu.tree_leaves(y0)[0].shape[0])


def _batch_field(problem: _Problem) -> Callable[..., Any]:
    def member_field(t: Array, y: PyTree[Array], args: Any) -> tuple[PyTree[Array], Array]:
        velocity = problem.system(t, y, args)
        moves = _largest(y) < problem.blow_up
        if problem.stop is not None:
            moves &= ~problem.is_at_rest(y, velocity)
        return jtu.tree_map(lambda leaf: jnp.where(moves, leaf, 0.0), velocity), jnp.where(moves, 1.0, 0.0)

    def batch_field(t: Array, state: tuple[PyTree[Array], Array], args: Any) -> tuple[PyTree[Array], Array]:
        return jax.vmap(member_field, in_axes=(None, -1, None), out_axes=-1)(t, state[0], args)

    return batch_field


def _largest_member_norm(error: PyTree[Array]) -> Array:
    """The root-mean-square error of the worst member: one member's error is not averaged away by the others'."""
    leaves = jtu.tree_leaves(error)
    squares = sum(jnp.sum(leaf**2, axis=tuple(range(leaf.ndim - 1))) for leaf in leaves)
    # The error of a step that ceases to be finite is infinite; of a member that already was not, it is NaN and no matter.
    worst = jnp.max(jnp.where(jnp.isnan(squares), 0.0, squares))
    return jnp.sqrt(worst / sum(leaf[..., 0].size for leaf in leaves))


def _outcome(problem: _Problem, solution: diffrax.Solution) -> Outcome:
    t_end = _end_time(solution)
    # The mask, not the solver's result, which reports instead how Newton's method ended.
    happened = [name for name, mask in solution.event_mask.items() if mask]  # pyright: ignore[reportOptionalMemberAccess]
    if happened:
        return _stopped_outcome(happened[0], t_end, problem)
    if solution.result == diffrax.RESULTS.dt_min_reached and _outgrows_time(problem, solution):
        largest = float(_largest(_final_state(solution)))
        message = f"The state grows without bound at t = {t_end:.6g}: {largest:.3g} there, and too fast to be followed."
        return Outcome(Ending.BLEW_UP, t_end, message)
    return _solver_outcome(problem, solution, t_end)


def _outgrows_time(problem: _Problem, solution: diffrax.Solution) -> bool:
    """Whether the state, at its present rate, multiplies within the shortest steps: the end of a blow-up in finite time."""
    y = _final_state(solution)
    velocity = problem.system(_array(_end_time(solution)), y, problem.args)
    growth = sum(jnp.vdot(*pair) for pair in zip(jtu.tree_leaves(y), jtu.tree_leaves(velocity), strict=True))
    size = sum(jnp.vdot(leaf, leaf) for leaf in jtu.tree_leaves(y))
    return bool(1000 * _smallest_step(problem) * growth > size)


def _batch_outcomes(problem: _Problem, solution: diffrax.Solution) -> tuple[Outcome, ...]:
    t_end, (final, clocks) = _end_time(solution), _final_state(solution)
    t_own = float(problem.t0) + np.asarray(clocks)
    stopped_early = np.abs(t_own - t_end) > 1e-9 * abs(t_end - float(problem.t0))
    largest = np.asarray(jax.vmap(_largest, in_axes=-1)(final))
    blew_up = largest > (1 - 1e-6) * float(problem.blow_up)
    ends = np.select([np.isnan(largest), blew_up], ["not_finite", "blow_up"], "fixed_point")
    common = _solver_outcome(problem, solution, t_end)
    return tuple(
        _stopped_outcome(end, float(t), problem) if early else common
        for t, early, end in zip(t_own, stopped_early, ends, strict=True)
    )


def _stopped_outcome(event: str, t: float, problem: _Problem) -> Outcome:
    if event == "blow_up":
        message = f"The largest entry of the state passed {float(problem.blow_up):g} at t = {t:.6g}."
        return Outcome(Ending.BLEW_UP, t, message)
    if event == "fixed_point":
        return Outcome(
            Ending.FIXED_POINT, t, f"From t = {t:.6g} on the state moves by less than the tolerance."
        )
    if event == "not_finite":
        return _vanished_step_outcome(t)
    return Outcome(Ending.STOPPED, t, f"The stop condition held at t = {t:.6g}.")


def _solver_outcome(problem: _Problem, solution: diffrax.Solution, t: float) -> Outcome:
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


def _final_state(solution: diffrax.Solution) -> PyTree[Array]:
    return jtu.tree_map(lambda leaf: leaf[-1], solution.ys[1])  # pyright: ignore[reportOptionalSubscript]


def _saved(problem: _Problem, solution: diffrax.Solution) -> tuple[np.ndarray, PyTree[Array]]:
    """The times and states up to the end of the run, the end itself included."""
    t_end, forwards = _end_time(solution), float(problem.t1) > float(problem.t0)
    ts = np.asarray(solution.ts[0])  # pyright: ignore[reportOptionalSubscript]
    kept = np.flatnonzero(np.isfinite(ts) & ((ts < t_end) if forwards else (ts > t_end)))
    pairs = zip(jtu.tree_leaves(solution.ys[0]), jtu.tree_leaves(_final_state(solution)), strict=True)  # pyright: ignore[reportOptionalSubscript]
    leaves = [jnp.concatenate([saved[kept], final[None]]) for saved, final in pairs]
    ys = jtu.tree_unflatten(jtu.tree_structure(_final_state(solution)), leaves)
    ts = np.append(ts[kept], t_end)
    return ts, _masked_members(problem, ts, ys) if problem.is_batch else ys


def _masked_members(problem: _Problem, ts: np.ndarray, state: tuple[PyTree[Array], Array]) -> PyTree[Array]:
    """The members' states, times first and members second, NaN where a member had already blown up."""
    ys, clocks = state
    blown = jax.vmap(jax.vmap(_largest, in_axes=-1))(ys) >= problem.blow_up
    # The first state past the threshold is a member's last one.
    over = blown & (jnp.abs(clocks) < jnp.abs(ts - problem.t0)[:, None])

    def mask(leaf: Array) -> Array:
        leaf = jnp.moveaxis(leaf, -1, 1)
        return jnp.where(jnp.expand_dims(over, tuple(range(2, leaf.ndim))), jnp.nan, leaf)

    return jtu.tree_map(mask, ys)


def _largest(y: PyTree[Array]) -> Array:
    """The largest magnitude of any entry of the pytree."""
    return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jtu.tree_leaves(y) if leaf.size]).max()


def _size(y: PyTree[Array]) -> int:
    return sum(leaf.size for leaf in jtu.tree_leaves(y))


def _array(value: float) -> Array:
    return jnp.asarray(value, jnp.float64)


def _relative_tolerance(rtol: float) -> float:
    rtol = _checks.positive_number("rtol", rtol)
    if rtol < _checks.SMALLEST_RTOL:
        raise ValueError(
            f"`rtol` must be at least {_checks.SMALLEST_RTOL:.2g}, a hundred times float64's precision, but is {rtol:g}."
        )
    return rtol


def _blow_up(blow_up: float, y0: PyTree[Array]) -> float:
    if not blow_up > float(_largest(y0)):
        raise ValueError(
            f"`blow_up` must exceed the largest entry of y0, {float(_largest(y0)):g}, but is {blow_up:g}."
        )
    return float(blow_up)


def _check_stop(stop: Stop | None) -> Stop | None:
    if not (stop is None or callable(stop) or stop == "fixed point"):
        raise ValueError(
            f'`stop` must be "fixed point", a function (t, y, args) → bool, or None, but is {stop!r}.'
        )
    return stop


def _choose_solver(solver: Solver | None, size: int) -> diffrax.AbstractSolver:
    if isinstance(solver, diffrax.AbstractAdaptiveSolver):
        return solver
    named = {"tsit5": Tsit5, "dopri8": Dopri8, "kvaerno5": diffrax.Kvaerno5}
    if isinstance(solver, str) and solver in named:
        return named[solver]()
    if solver is None:
        return Dopri8() if size <= LARGEST_DOPRI8_SYSTEM else Tsit5()
    raise ValueError(
        f"`solver` must be one of {', '.join(map(repr, named))}, or a diffrax solver with an error estimate, "
        f"but is {solver!r}."
    )


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


def _check_start(system: Any, t0: float, y0: PyTree[Array], args: Any, batch: bool) -> None:
    """Refuse a state that the system cannot move, or a system that is not finite there, before anything is compiled."""
    first = jtu.tree_map(lambda leaf: leaf[0], y0) if batch else y0
    _checks.require_state(system, first)
    _checks.require_same_structure(system, first, args, t0)
    for path, leaf in jtu.tree_leaves_with_path(_velocity(system, _array(t0), y0, args, batch)):
        _checks.require_finite("f(t0, y0, args)" + jtu.keystr(path), leaf)


@eqx.filter_jit
def _velocity(system: Any, t: Array, y0: PyTree[Array], args: Any, batch: bool) -> PyTree[Array]:
    return jax.vmap(lambda y: system(t, y, args))(y0) if batch else system(t, y0, args)


def _check_verdict(stop: Callable[..., Any], t0: float, y0: PyTree[Array], args: Any) -> None:
    """Refuse a stop condition whose value is not one truth value: a number would count as true."""
    verdict = eqx.filter_eval_shape(lambda: jnp.asarray(stop(_array(t0), y0, args)))
    if verdict.shape != () or verdict.dtype != bool:
        raise ValueError(
            f"`stop` must return one truth value, but returned {verdict.dtype}{list(verdict.shape)}."
        )
