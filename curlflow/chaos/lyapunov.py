"""`lyapunov_spectrum`: makes the tangent system, runs it with an eye on the clock, and hands back the result."""

from typing import Literal, overload

from jaxtyping import PRNGKeyArray

from curlflow import _checks
from curlflow.chaos.engine import runner
from curlflow.chaos.engine.runner import Run, intervals
from curlflow.chaos.engine.start import started
from curlflow.chaos.engine.tangent_system import Members, TangentSystem, as_tangent_system
from curlflow.chaos.result import LyapunovEnsemble, LyapunovSpectrum, ensemble_of, spectrum_of
from curlflow.orbits.solvers import SolverChoice
from curlflow.system import Args, StateLike, System


@overload
def lyapunov_spectrum(
    system: System | TangentSystem,
    y0: StateLike,
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    batch: None = None,
    divergence: bool | None = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    dtmax: float | None = None,
    max_steps: int | None = None,
    blow_up: float | None = None,
    progress: bool = False,
) -> LyapunovSpectrum: ...


@overload
def lyapunov_spectrum(
    system: System | TangentSystem,
    y0: StateLike,
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    batch: Literal["states", "systems"],
    divergence: bool | None = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    dtmax: float | None = None,
    max_steps: int | None = None,
    blow_up: float | None = None,
    progress: bool = False,
) -> LyapunovEnsemble: ...


def lyapunov_spectrum(
    system: System | TangentSystem,
    y0: StateLike,
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    batch: Members | None = None,
    divergence: bool | None = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    dtmax: float | None = None,
    max_steps: int | None = None,
    blow_up: float | None = None,
    progress: bool = False,
) -> LyapunovSpectrum | LyapunovEnsemble:
    r"""Lyapunov exponents of a flow or a map: all of them or the k largest, with error bars and their whole history.

    k tangent vectors are pushed along the orbit by the linearised system, V̇ = J(y) V, and made orthonormal every `dt` by
    a QR factorisation. The exponents are the time averages of the logarithms of R's diagonal,

    .. math::  \lambda_j = \frac{1}{T} \sum_i \log R^{(i)}_{jj},

    in natural logarithms per unit time (per step for maps). The vector field must have a derivative along the orbit: where it
    jumps (dry friction, impacts), tangent vectors jump too (saltation), which the derivative does not know, and the
    exponents are those of the smooth parts alone.

    Parameters
    ----------
    system
        A flow: any function f(t, y, args) that returns a pytree like the state. Or a map: any object with a method
        step(n, y, args) that returns the next state. A flow with a method tangent(t, y, V, args), which returns J V for k
        tangent vectors at once, is differentiated by it; V is a pytree like the state, with an axis of length k before the
        last axis of every leaf (the only axis of a leaf that is a number). It is compared with automatic differentiation
        at the start. Or a `TangentSystem` of either, which has its own
        `dt`, `t0`, `args`, `batch`, `divergence`, `solver`, tolerances, `max_steps` and `blow_up`.
    y0
        The initial state: an array, a list of numbers, or any pytree of float64 arrays, n numbers in all.
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
        Passed on to the system. Python floats in it become arrays, so that new ones do not compile anew.
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
    dtmax
        Flows only: the longest step of the solver. Events shorter than a step, such as pulses after a quiet stretch, are
        stepped over unseen if they are shorter than the steps that the quiet allows. None means no limit but `dt`.
    max_steps
        Flows only: most steps of the solver between two QRs; None means a million.
    blow_up
        Largest magnitude that any entry of the state may reach; beyond it the run ends with the outcome "blew up". None means
        1.3e154: a bounded motion may be of any size, and a blow-up in finite time is told by its growth.
        `jnp.inf` means no limit.
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
        map, an option of the tangent system beside one that is made already, or if a flow's own `tangent` or `divergence`
        is not what automatic differentiation says at the start. Soon after the start, if the run would take more than a day.

    References
    ----------
    G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, Meccanica 15, 9 (1980); K. Geist, U. Parlitz, W. Lauterborn,
    Prog. Theor. Phys. 83, 875 (1990).

    Examples
    --------
    An orbit attracted by a point of the solution manifold has a zero, and an exponent w1² − w2² < 0:

    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> ls = cf.lyapunov_spectrum(flow, jnp.array([2.0, 1.0]), T=100.0, Ttr=50.0)
    >>> w = ls.final_state
    >>> bool(abs(ls.exponents[1] - (w[0] ** 2 - w[1] ** 2)) < 1e-6)
    True
    """
    tangent = as_tangent_system(
        system,
        dt=dt,
        t0=t0,
        args=args,
        batch=batch,
        divergence=divergence,
        solver=solver,
        rtol=rtol,
        atol=atol,
        dtmax=dtmax,
        max_steps=max_steps,
        blow_up=blow_up,
    )
    run = averaged(tangent, y0, k, T=T, Ttr=Ttr, key=key, progress=progress)
    return spectrum_of(run) if tangent.members is None else ensemble_of(run)


def averaged(
    tangent: TangentSystem,
    y0: StateLike,
    k: int | None,
    *,
    T: float,
    Ttr: float,
    key: PRNGKeyArray | None,
    progress: bool = False,
    at_least: int = 1,
) -> Run:
    """The tangent system run over its transient and then over the time to average, both checked.

    It has k tangent vectors, but at least so many, where there are so many dimensions.
    """
    dt, T, Ttr = float(tangent.dt), _checks.positive_number("T", T), _checks.non_negative_number("Ttr", Ttr)
    if dt > T:
        raise ValueError(f"`dt` must not be longer than T = {T:g}, but is {dt:g}.")
    tangent, state, n = started(tangent, y0, k, key, at_least)
    run = runner.begin(tangent, state, intervals(Ttr, dt), n, progress)
    return runner.go_on(run, intervals(T, dt), progress)
