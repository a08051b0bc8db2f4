"""Alignment of tangent vectors, which chaos forces and regular motion does not."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.chaos.engine import frames
from curlflow.chaos.engine import intervals as engine
from curlflow.chaos.engine.problem import Problem, State
from curlflow.chaos.engine.runner import Run
from curlflow.chaos.lyapunov import lyapunov_spectrum
from curlflow.chaos.result import intervals


def gali(
    system: Any, y0: PyTree[ArrayLike], k: int = 2, *, T: float, dt: float = 1.0, **options: Any
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, " times"]]:
    """Generalised alignment index GALI_k: the volume of k tangent vectors of length one that are never made orthogonal.

    It decays exponentially on chaotic orbits, as all vectors turn towards the direction of strongest growth, and stays of
    order one, or decays like a power of time, on regular ones.

    Parameters
    ----------
    system, y0, T, dt
        As for `lyapunov_spectrum`.
    k
        How many tangent vectors, at least 2.
    **options
        Further options of `lyapunov_spectrum`: `Ttr`, `args`, `key`, tolerances.

    Returns
    -------
    tuple
        Times and the index, shape (times,).

    References
    ----------
    Ch. Skokos, T. Bountis, Ch. Antonopoulos, Physica D 231, 30 (2007).
    """
    if _checks.positive_integer("k", k) < 2:
        raise ValueError(f"`k` must be at least 2, but is {k}.")
    spectrum = lyapunov_spectrum(system, y0, k, T=dt, dt=dt, divergence=False, **options)
    return aligned_volumes(spectrum.run, intervals(T, dt))


def aligned_volumes(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and volumes of the run's tangent vectors over its next intervals, scaled to length one but not orthogonal."""
    times = float(run.problem.t0) + float(run.problem.dt) * (
        int(run.state.interval) + np.arange(1, count + 1)
    )
    return times, np.asarray(_volumes(run.problem, run.state, count))


@eqx.filter_jit
def _volumes(problem: Problem, state: State, count: int) -> Float[Array, " times"]:
    def one_interval(state: State, nothing: None) -> tuple[State, Array]:
        begin, end = (problem.t0 + (state.interval + i) * problem.dt for i in (0, 1))
        after = engine.advance(problem, state, begin, end)[0]
        lengths = jnp.sqrt(frames.column_squares(after.frame))
        frame = frames.scale(after.frame, 1 / lengths)
        volume = jnp.prod(jnp.linalg.svd(frames.columns(frame), compute_uv=False))
        return eqx.tree_at(lambda s: (s.frame, s.interval), after, (frame, state.interval + 1)), volume

    return jax.lax.scan(one_interval, state, length=count)[1]
