"""Indicators of chaos that do not trust one number."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import nolds
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.chaos.engine import frames
from curlflow.chaos.engine import intervals as engine
from curlflow.chaos.engine.problem import Problem, State
from curlflow.chaos.engine.runner import Run
from curlflow.chaos.lyapunov import lyapunov_spectrum
from curlflow.chaos.result import LyapunovSpectrum, intervals
from curlflow.orbits import autocorrelation

# Gottwald and Melbourne's 0–1 test: so many frequencies, away from 0 and π where resonances with the sampling lie.
FREQUENCIES = 100
FREQUENCY_RANGE = (np.pi / 5, 4 * np.pi / 5)
GROWTH_POINTS = 100


@dataclass(frozen=True)
class Growth:
    """Whether tangent vectors grow exponentially or like a power of time, made by `tangent_growth`.

    Attributes
    ----------
    kind
        "exponential", "algebraic", or "undecided" if neither describes the growth clearly better.
    rate
        The fitted exponent λ of e^{λt}.
    power
        The fitted exponent p of t^p.
    residuals
        Root-mean-square residuals of the two fits of the logarithm, exponential first.
    """

    kind: str
    rate: float
    power: float
    residuals: tuple[float, float]


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


def zero_one_test(series: ArrayLike, *, key: PRNGKeyArray | None = None) -> float:
    """The 0–1 test for chaos of a recorded series: near 1 for chaotic, near 0 for regular motion.

    The series drives a rotation p + iq = Σ x_j e^{icj}; its mean-square displacement grows linearly for chaotic motion
    and stays bounded for regular motion. The result is the median over frequencies c of its correlation with time.

    Parameters
    ----------
    series
        Values at equal times, shape (times,), at least 200 of them. A flow must not be sampled too finely: take the time in
        which its autocorrelation vanishes.
    key
        JAX random key of the frequencies; None means `jax.random.key(0)`.

    References
    ----------
    G. A. Gottwald, I. Melbourne, SIAM J. Appl. Dyn. Syst. 8, 129 (2009).
    """
    x = np.asarray(_checks.float64_array("series", series))
    if x.ndim != 1 or len(x) < 200:
        raise ValueError(f"`series` must hold at least 200 values along one axis, but has shape {x.shape}.")
    low, high = FREQUENCY_RANGE
    draw = jax.random.uniform(
        jax.random.key(0) if key is None else key, (FREQUENCIES,), jnp.float64, low, high
    )
    return float(np.median([_growth_correlation(x, float(c)) for c in draw]))


def _growth_correlation(x: np.ndarray, c: float) -> float:
    steps = np.arange(1, len(x) + 1)
    path = np.cumsum(x * np.exp(1j * c * steps))
    lags = np.arange(1, len(x) // 10 + 1)
    kept = len(x) - len(lags)
    displacement = np.array([np.mean(np.abs(path[n : n + kept] - path[:kept]) ** 2) for n in lags])
    # The mean of the series adds an oscillation that is known exactly.
    displacement = displacement - x.mean() ** 2 * (1 - np.cos(lags * c)) / (1 - np.cos(c))
    if np.ptp(displacement) == 0:
        return 0.0
    return float(np.corrcoef(lags, displacement)[0, 1])


def tangent_growth(spectrum: LyapunovSpectrum) -> Growth:
    """Whether the leading tangent vector of a computed spectrum grew exponentially or like a power of time.

    Algebraic separation, λ1 ~ log T / T, is not chaos. Both laws, log growth = a + λt and a + p log t, are fitted to the last
    nine tenths of the run; one is chosen if its residual is less than half the other's.
    """
    t = spectrum.times - spectrum.times[0] + spectrum.dt
    if len(t) < 20:
        raise ValueError(f"`spectrum` must cover at least 20 intervals, but has {len(t)}.")
    log_growth = np.cumsum(spectrum.local[:, 0]) * spectrum.dt
    # Averages over neighbouring intervals: what oscillates along the orbit says nothing about growth.
    width = max(len(t) // GROWTH_POINTS, 1)
    t, log_growth = (x[: len(x) // width * width].reshape(-1, width).mean(axis=1) for x in (t, log_growth))
    kept = slice(len(t) // 10, None)
    (rate, exponential), (power, algebraic) = (_line(x[kept], log_growth[kept]) for x in (t, np.log(t)))
    kind = "undecided"
    if exponential < algebraic / 2:
        kind = "exponential"
    elif algebraic < exponential / 2:
        kind = "algebraic"
    return Growth(kind, rate, power, (exponential, algebraic))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and root-mean-square residual of a straight line."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((y - slope * x - intercept) ** 2)))


def exponent_of_series(
    series: ArrayLike, dt: float = 1.0, *, emb_dim: int = 3, lag: int | None = None, fit: int = 20
) -> float:
    """The largest exponent of a recorded series by Rosenstein's method (nolds): a cross-check of a run from outside.

    It depends on its parameters and says little about exponents near zero; where equations are at hand, trust
    `lyapunov_spectrum`.

    Parameters
    ----------
    series
        Values at equal times, shape (times,).
    dt
        Time between two values.
    emb_dim, lag
        Embedding dimension and delay in samples; None takes the first zero of the autocorrelation for the delay.
    fit
        Number of samples over which the divergence of neighbours is fitted.

    Returns
    -------
    float
        In natural logarithms per unit time.
    """
    x = np.asarray(_checks.float64_array("series", series))
    dt = _checks.positive_number("dt", dt)
    lag = decorrelation(x) if lag is None else _checks.positive_integer("lag", lag)
    value = nolds.lyap_r(
        x, emb_dim=emb_dim, lag=lag, min_tsep=max(10, 2 * lag * emb_dim), trajectory_len=fit, fit="poly"
    )
    return float(value) / dt  # pyright: ignore[reportArgumentType]


def decorrelation(x: np.ndarray) -> int:
    """After how many samples the autocorrelation first vanishes."""
    below = np.flatnonzero(autocorrelation(x, lags=len(x)) <= 0)
    return int(below[0]) if len(below) else 1
