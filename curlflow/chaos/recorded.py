"""Indicators of chaos of recorded series: the 0–1 test."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.orbits import autocorrelation

# Gottwald and Melbourne's 0–1 test: so many frequencies, away from 0 and π where resonances with the sampling lie.
FREQUENCIES = 100

FREQUENCY_RANGE = (np.pi / 5, 4 * np.pi / 5)


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
        jax.random.key(0) if key is None else _checks.random_key("key", key),
        (FREQUENCIES,),
        jnp.float64,
        low,
        high,
    )
    if np.ptp(x) == 0:
        return 0.0
    # The test is of fluctuations: where the series has its origin does not matter.
    fluctuations = x - x.mean()
    return float(np.median([_growth_correlation(fluctuations, float(c)) for c in draw]))


def _growth_correlation(x: np.ndarray, c: float) -> float:
    steps = np.arange(1, len(x) + 1)
    path = np.cumsum(x * np.exp(1j * c * steps))
    lags = np.arange(1, len(x) // 10 + 1)
    kept = len(x) - len(lags)
    displacement = np.array([np.mean(np.abs(path[n : n + kept] - path[:kept]) ** 2) for n in lags])
    return float(np.corrcoef(lags, displacement)[0, 1])


def decorrelation(x: np.ndarray) -> int:
    """After how many samples the autocorrelation first vanishes."""
    below = np.flatnonzero(autocorrelation(x, lags=len(x)) <= 0)
    return int(below[0]) if len(below) else 1
