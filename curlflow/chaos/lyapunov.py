"""`lyapunov_spectrum`: checks what it is asked, runs the engine with an eye on the clock, and hands back the result."""

from typing import Any, Literal, overload

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from curlflow import _checks
from curlflow._trees import size
from curlflow.chaos.engine import frames, runner
from curlflow.chaos.engine import intervals as engine
from curlflow.chaos.engine.problem import Problem, State
from curlflow.chaos.result import LyapunovEnsemble, LyapunovSpectrum, intervals
from curlflow.orbits.solvers import Dopri8, Tsit5
from curlflow.system import check_state, require_flow

DEFAULT_RTOL, DEFAULT_ATOL = 1e-8, 1e-10
DEFAULT_MAX_STEPS = 1_000_000

Solver = Literal["tsit5", "dopri8", "kvaerno5"] | diffrax.AbstractSolver


@overload
def lyapunov_spectrum(
    system: Any, y0: PyTree[ArrayLike], k: int | None = None, *, T: float, batch: None = None, **options: Any
) -> LyapunovSpectrum: ...


@overload
def lyapunov_spectrum(
    system: Any,
    y0: PyTree[ArrayLike],
    k: int | None = None,
    *,
    T: float,
    batch: Literal["states", "systems"],
    **options: Any,
) -> LyapunovEnsemble: ...


def lyapunov_spectrum(  # pyright: ignore[reportInconsistentOverload]
    system: Any,
    y0: PyTree[ArrayLike],
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Any = None,
    batch: Literal["states", "systems"] | None = None,
    divergence: bool | None = None,
    solver: Solver | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int | None = None,
    blow_up: float = 1e6,
    progress: bool = False,
) -> LyapunovSpectrum | LyapunovEnsemble:
    r"""Lyapunov exponents of a flow or a map: all of them or the k largest, with error bars and their whole history.

    k tangent vectors are pushed along the orbit by the linearised system, V̇ = J(y) V, and made orthonormal every `dt` by
    a QR factorisation. The exponents are the time averages of the logarithms of R's diagonal,

    .. math::  \lambda_j = \frac{1}{T} \sum_i \log R^{(i)}_{jj},

    in natural logarithms per unit time (per step for maps).

    Parameters
    ----------
    system
        A flow: any function f(t, y, args) that returns a pytree like the state. Or a map: any object with a method
        step(n, y, args) that returns the next state. A flow with a method tangent(t, y, V, args), which returns J V for k
        tangent vectors at once, is differentiated by it; V is a pytree like the state, with an axis of length k before the
        last axis of every leaf (the only axis of a leaf that is a number).
    y0
        The initial state: an array or any pytree of float64 arrays, n numbers in all.
    k
        How many leading exponents, between 1 and n; None means all n.
    T
        Time over which to average (a number of steps for maps), rounded up to a multiple of `dt`.
    Ttr
        Transient time before that, which state and tangent vectors spend to reach the attractor and to align themselves; also
        rounded up.
    dt
        Time between two QRs, and the time resolution of the history. Where a tangent vector would be lost in between, the
        interval is divided by two until it is not, and remains so.
    key
        JAX random key of the first tangent vectors; None means `jax.random.key(0)`.
    t0
        Initial time (the number of the first step for maps).
    args
        Passed on to the system.
    batch
        "states": `y0` has a leading axis of members, which are computed in one go. "systems": so have the arrays of the
        system and of `args`.
    divergence
        Whether to average the divergence tr J along the orbit too (ln abs(det J) for maps): the exact sum of all exponents.
        None means yes if all exponents are computed.
    solver
        Flows only: "tsit5", "dopri8", "kvaerno5" (implicit, for small stiff systems), or any diffrax solver with an error
        estimate. None takes Dopri8.
    rtol, atol
        Flows only: relative and absolute tolerance on the local error of a step in the state, 1e-8 and 1e-10 by default. The
        error of a tangent vector is held to `rtol` times its length.
    max_steps
        Flows only: most steps of the solver between two QRs; None means a million.
    blow_up
        Largest magnitude that any entry of the state may reach; beyond it the run ends with the outcome "blew up".
    progress
        Show a progress bar.

    Returns
    -------
    LyapunovSpectrum
        Exponents, standard errors, history and outcome. An ensemble returns a `LyapunovEnsemble` of them.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape, not finite or not float64, if a flow's option is given for a
        map, or if the vector field does not depend on its state.

    References
    ----------
    G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, Meccanica 15, 9 (1980); K. Geist, U. Parlitz, W. Lauterborn,
    Prog. Theor. Phys. 83, 875 (1990).

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> from curlflow.chaos import lyapunov_spectrum
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> ls = lyapunov_spectrum(flow, jnp.array([2.0, 1.0]), T=100.0, Ttr=50.0)
    >>> w = (
    ...     ls.final_state
    ... )  # attracted by a point of the solution manifold: one zero, one exponent w1² − w2² < 0
    >>> bool(abs(ls.exponents[1] - (w[0] ** 2 - w[1] ** 2)) < 1e-6)
    True
    """
    is_map = hasattr(system, "step")
    if not is_map:
        require_flow(system)
    _checks.require_one_of("batch", batch, (None, "states", "systems"))
    y0 = _checks.state_pytree("y0", y0)
    members = 1 if batch is None else _checks.leading_axis("y0", y0, "members")
    n = size(y0) // members
    k = _exponent_count(k, n)
    T, Ttr, dt = _times(T, Ttr, dt, is_map)
    if is_map:
        _refuse_flow_options(solver=solver, rtol=rtol, atol=atol, max_steps=max_steps)
    rtol = _relative_tolerance(DEFAULT_RTOL if rtol is None else rtol)
    atol = _checks.non_negative_number("atol", DEFAULT_ATOL if atol is None else atol)
    max_steps = _checks.positive_integer("max_steps", DEFAULT_MAX_STEPS if max_steps is None else max_steps)
    problem = Problem(
        system=system,
        args=args,
        t0=_array(_checks.finite_number("t0", t0)),
        dt=_array(dt),
        rtol=_array(rtol),
        atol=_array(atol),
        blow_up=_array(_checks.blow_up_limit(blow_up, y0)),
        max_steps=jnp.asarray(max_steps, jnp.int64),
        solver=None if is_map else _choose_solver(solver, rtol, atol),
        with_divergence=k == n if divergence is None else bool(divergence),
        members=batch,
    )
    key = jax.random.key(0) if key is None else key
    _check_start(problem, y0, key)
    state = _start(problem, y0, k, key)
    run = runner.begin(problem, state, intervals(Ttr, dt), n, progress)
    run = runner.go_on(run, intervals(T, dt), progress)
    return LyapunovSpectrum(run) if batch is None else LyapunovEnsemble(run)


def _start(problem: Problem, y0: PyTree[Array], k: int, key: PRNGKeyArray) -> State:
    if problem.members is None:
        return _compiled_start(problem, y0, frames.random_frame(key, y0, k))
    members = jtu.tree_leaves(y0)[0].shape[0]
    bases = jax.vmap(lambda key, y: frames.random_frame(key, y, k))(jax.random.split(key, members), y0)
    y0, bases = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, -1), (y0, bases))
    return _compiled_start(problem, y0, bases)


_compiled_start = eqx.filter_jit(engine.start)


def _exponent_count(k: int | None, n: int) -> int:
    if k is None:
        return n
    if not 1 <= _checks.positive_integer("k", k) <= n:
        raise ValueError(f"`k` must lie between 1 and the state's size {n}, but is {k}.")
    return k


def _times(T: float, Ttr: float, dt: float, is_map: bool) -> tuple[float, float, float]:
    T, dt = _checks.positive_number("T", T), _checks.positive_number("dt", dt)
    Ttr = _checks.non_negative_number("Ttr", Ttr)
    if dt > T:
        raise ValueError(f"`dt` must not be longer than T = {T:g}, but is {dt:g}.")
    if is_map and dt != round(dt):
        raise ValueError(f"`dt` must be a whole number of steps for a map, but is {dt:g}.")
    return T, Ttr, dt


def _refuse_flow_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out for a map, which is iterated and not integrated, but is {value!r}."
            )


def _relative_tolerance(rtol: float) -> float:
    rtol = _checks.positive_number("rtol", rtol)
    if not _checks.SMALLEST_RTOL <= rtol < 0.1:
        raise ValueError(
            f"`rtol` must lie between {_checks.SMALLEST_RTOL:.2g}, a hundred times float64's precision, and 0.1, "
            f"but is {rtol:g}."
        )
    return rtol


def _choose_solver(solver: Solver | None, rtol: float, atol: float) -> diffrax.AbstractSolver:
    if solver is None:
        return Dopri8()
    named = {"tsit5": Tsit5, "dopri8": Dopri8, "kvaerno5": diffrax.Kvaerno5}
    chosen = named[solver]() if isinstance(solver, str) and solver in named else solver
    if not isinstance(chosen, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"`solver` must be one of {', '.join(map(repr, named))}, or a diffrax solver with an error estimate, "
            f"but is {solver!r}."
        )
    if isinstance(chosen, diffrax.AbstractImplicitSolver):
        # An implicit solver's equations are solved as accurately as its steps are.
        root_finder = diffrax.VeryChord(rtol=rtol, atol=max(atol, rtol * 1e-3))
        chosen = eqx.tree_at(lambda s: s.root_finder, chosen, root_finder)
    return chosen


def _check_start(problem: Problem, y0: PyTree[Array], key: PRNGKeyArray) -> None:
    """Refuse a state that the system cannot move, and a vector field that is not finite or the same everywhere."""
    system, args, first = problem.system, problem.args, y0
    if problem.members is not None:
        first = jtu.tree_map(lambda leaf: leaf[0], y0)
    if problem.members == "systems":
        system, args = _first_member(problem, jtu.tree_leaves(y0)[0].shape[0])
    check_state(system, first)
    if problem.solver is None:
        _checks.require_same_structure(
            lambda n, y, args: system.step(jnp.round(n).astype(jnp.int64), y, args), first, args
        )
        return
    _checks.require_same_structure(system, first, args, float(problem.t0))
    velocity, rates = _two_rates(system, args, problem.t0, first, key)
    for path, leaf in jtu.tree_leaves_with_path(velocity):
        _checks.require_finite("f(t0, y0, args)" + jtu.keystr(path), leaf)
    if not any(np.any(np.asarray(leaf)) for leaf in jtu.tree_leaves(rates)):
        raise ValueError(
            "`system` must depend on its state, but its Jacobian is zero at y0 and beside it: a constant vector field, "
            "whose exponents are all 0."
        )


def _first_member(problem: Problem, members: int) -> Any:
    for path, leaf in jtu.tree_leaves_with_path(eqx.filter((problem.system, problem.args), eqx.is_array)):
        if leaf.ndim == 0 or leaf.shape[0] != members:
            raise ValueError(
                f"`system` and `args` must have a leading axis of {members} members on every array, "
                f"but one has shape {leaf.shape} ({jtu.keystr(path)})."
            )
    return jtu.tree_map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, (problem.system, problem.args))


@eqx.filter_jit
def _two_rates(system: Any, args: Any, t: Array, y: PyTree[Array], key: PRNGKeyArray) -> Any:
    """The velocity at y, and the rates of one random tangent vector at y and at a random point beside it."""
    frame = frames.random_frame(key, y, 1)
    leaves, structure = jtu.tree_flatten(y)
    keys = jax.random.split(key, len(leaves))
    beside = [
        leaf + jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)
    ]
    velocity, here = frames.push_flow(system, t, y, frame, args)
    _, there = frames.push_flow(system, t, jtu.tree_unflatten(structure, beside), frame, args)
    return velocity, (here, there)


def _array(value: float) -> Array:
    return jnp.asarray(value, jnp.float64)
