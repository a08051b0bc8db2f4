"""Alignment of tangent vectors, which chaos forces and regular motion does not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from curlflow import _checks
from curlflow.chaos.engine import frames, runner
from curlflow.chaos.engine.intervals import advance
from curlflow.chaos.engine.runner import Run, intervals
from curlflow.chaos.engine.start import started
from curlflow.chaos.engine.tangent_system import RunState, TangentSystem, as_tangent_system
from curlflow.orbits.solvers import SolverChoice
from curlflow.system import Args, StateLike, System


def gali(
    system: System | TangentSystem,
    y0: StateLike,
    k: int = 2,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    dtmax: float | None = None,
    max_steps: int | None = None,
    blow_up: float | None = None,
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, " times"]]:
    """Generalised alignment index GALI_k: the volume of k tangent vectors of length one that are never made orthogonal.

    It decays exponentially on chaotic orbits, as all vectors turn towards the direction of strongest growth, and stays of
    order one, or decays like a power of time, on regular ones.

    Parameters
    ----------
    system
        A flow, a map, or a `TangentSystem` of either.
    k
        How many tangent vectors, at least 2.
    y0, T, Ttr, dt, key, t0, args, solver, rtol, atol, dtmax, max_steps, blow_up
        As for `lyapunov_spectrum`. The vectors start random and orthonormal after the transient.

    Returns
    -------
    tuple
        Times and the index, shape (times,).

    Raises
    ------
    ValueError
        If k is below 2, the tangent system is one of an ensemble, or as `lyapunov_spectrum` does.

    References
    ----------
    Ch. Skokos, T. Bountis, Ch. Antonopoulos, Physica D 231, 30 (2007).

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> times, index = cf.chaos.gali(cf.toy_flow(s=1.0, flip="readout"), jnp.array([1.0, 0.0]), T=50.0)
    >>> bool(index[-1] > 1e-4)  # shear aligns the vectors like a power of time
    True
    """
    if _checks.positive_integer("k", k) < 2:
        raise ValueError(f"`k` must be at least 2, but is {k}.")
    tangent = as_tangent_system(
        system,
        dt=dt,
        t0=t0,
        args=args,
        solver=solver,
        rtol=rtol,
        atol=atol,
        dtmax=dtmax,
        max_steps=max_steps,
        blow_up=blow_up,
    ).averaging_divergence(False)
    if tangent.members is not None:
        raise ValueError(
            "`system` must be one system with one initial state, but is an ensemble: call `gali` for each."
        )
    T, Ttr = _checks.positive_number("T", T), _checks.non_negative_number("Ttr", Ttr)
    tangent, state, n = started(tangent, y0, k, key)
    run = runner.begin(tangent, state, intervals(Ttr, float(tangent.dt)), n, progress=False)
    return aligned_volumes(run, intervals(T, float(tangent.dt)))


def aligned_volumes(run: Run, count: int) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, " times"]]:
    """Times and volumes of the run's tangent vectors over its next intervals, scaled to length one but not orthogonal."""
    ends = int(run.state.interval) + np.arange(1, count + 1)
    times = float(run.tangent.t0) + float(run.tangent.dt) * ends
    return times, np.asarray(_volumes(run.tangent, run.state, count))


@eqx.filter_jit
def _volumes(tangent: TangentSystem, state: RunState, count: int) -> Float[Array, " times"]:
    def one_interval(state: RunState, nothing: None) -> tuple[RunState, Array]:
        begin, end = (tangent.t0 + (state.interval + i) * tangent.dt for i in (0, 1))

        def goes_on(state: RunState) -> Array:
            return (state.time < end) & (state.escape == jnp.inf)

        # A piece ends before its time where lengths come near the ends of float64.
        begun = eqx.tree_at(lambda s: s.time, state, begin)
        after = jax.lax.while_loop(goes_on, lambda state: _with_lengths_one(tangent, state, end), begun)
        volume = jnp.prod(jnp.linalg.svd(frames.columns(after.frame), compute_uv=False))
        return eqx.tree_at(lambda s: s.interval, after, state.interval + 1), volume

    return jax.lax.scan(one_interval, state, length=count)[1]


def _with_lengths_one(tangent: TangentSystem, state: RunState, end: Array) -> RunState:
    """The run at time `end`, or before, with tangent vectors of length one."""
    after = advance(tangent, state, state.time, end)[0]
    lengths = jnp.sqrt(frames.column_squares(after.frame))
    return eqx.tree_at(lambda s: s.frame, after, frames.scale(after.frame, 1 / lengths))
