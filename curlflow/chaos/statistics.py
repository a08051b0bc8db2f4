"""Error bars of time averages, and the numbers derived from a spectrum."""

import math

import numpy as np
from jaxtyping import Float

# The variance of block averages is measured for these numbers of blocks.
BLOCK_COUNTS = (64, 48, 32, 24, 16, 12, 8)
FEWEST_INTERVALS = 4
# In series at least this long, diffusion is taken for none where a fit without it is nearly as good: its residual sum of
# squares less than this many times larger. (Measured on 1000 runs of the Lorenz system: otherwise the error bars of its zero
# exponent are 15 % too long; in shorter series, diffusion would be overlooked where there is some.)
LONG_SERIES = 200
NEARLY_AS_GOOD = 1.5


def standard_error(series: Float[np.ndarray, "times k"]) -> Float[np.ndarray, " k"]:
    r"""The standard error of the mean of a correlated series.

    The mean over b values has the variance V(b)/b, where V(b) → D + c/b once b exceeds the correlation time: D is the
    diffusion constant of the running sum, and c collects what the sum's ends contribute. Both are fitted to the variances
    of block averages, and the mean over the whole series has the variance (D + c/m)/m. The term c matters: the local
    exponents of a direction along the flow are differences of a bounded function (D = 0), so that their mean converges
    like 1/T, while a single block size would promise the slower 1/√T.

    Returns
    -------
    Array
        Infinity where the series has fewer than four values; 0 where it is constant, or infinite from one time on.
    """
    m, k = series.shape
    if m < FEWEST_INTERVALS:
        return np.full(k, np.inf)
    finite = np.isfinite(series).all(axis=0)
    counts = [count for count in BLOCK_COUNTS if m >= 2 * count] or [m // 2, 2]
    lengths = np.array([m // count for count in counts])
    scaled = np.array([_block_variance(np.where(finite, series, 0.0), int(b)) * b for b in lengths])
    return np.sqrt(_extrapolate(lengths, scaled, m) / m)


def _block_variance(series: np.ndarray, length: int) -> np.ndarray:
    """The variance of the averages over overlapping blocks of `length` values, around the average over all."""
    sums = np.concatenate([np.zeros((1, series.shape[1])), np.cumsum(series - series.mean(axis=0), axis=0)])
    averages = (sums[length:] - sums[:-length]) / length
    return np.mean(averages**2, axis=0)


def _extrapolate(
    lengths: np.ndarray, scaled: Float[np.ndarray, "lengths k"], m: int
) -> Float[np.ndarray, " k"]:
    """V(m) of every column from the fit V(b) = D + c/b with D ≥ 0, weighted by the number of blocks.

    Blocks scatter around the sample's own average, which follows them: their variance is V(b)/b − V(m)/m.
    """
    # The variance of a constant series is 0, or rounding: no weight may be so large that its square overflows.
    weights = np.sqrt(m / lengths)[:, None] / np.maximum(scaled, 1e-150)
    design = np.stack([1 - lengths / m, (1 - (lengths / m) ** 2) / lengths], axis=1)
    weighted = np.moveaxis(design[:, None, :] * weights[..., None], 0, 1)
    targets = (scaled * weights).T[..., None]
    D, c = (np.linalg.pinv(weighted) @ targets)[..., 0].T
    c_alone = np.average(scaled / design[:, 1:], weights=m / lengths, axis=0)

    def misfit(D: np.ndarray, c: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.sum(((design @ np.stack([D, c]) - scaled) * weights) ** 2, axis=0)

    nearly_as_good = misfit(np.zeros_like(D), c_alone) <= NEARLY_AS_GOOD * misfit(D, c)
    no_diffusion = (D < 0) | (nearly_as_good & (m >= LONG_SERIES))
    D, c = np.where(no_diffusion, 0.0, D), np.where(no_diffusion, c_alone, c)
    return np.maximum(D + c / m, 0.0)


def is_stationary(series: Float[np.ndarray, "times k"], stderr: Float[np.ndarray, " k"]) -> np.ndarray:
    """Whether the averages over the two halves of a series agree within what its standard error allows.

    The halves' difference has a standard deviation of twice the whole's error, or up to 3.5 times where that error falls like
    1/T; the halves' own errors tell which. Three standard deviations are allowed.
    """
    halves = np.array_split(series, 2)
    if len(halves[0]) < FEWEST_INTERVALS:
        return np.full(series.shape[1], False)
    with np.errstate(invalid="ignore"):
        difference = np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0))
        expected = np.hypot(*(standard_error(half) for half in halves))
        allowed = 3 * np.clip(expected, 2 * stderr, 3.5 * stderr)
        rounding = 1e-9 * np.abs(series).mean(axis=0) + 1e-12
        return ~(difference > allowed + rounding)


def resolution(
    stderr: Float[np.ndarray, "*members k"], intervals: int, dt: float, rtol: float
) -> Float[np.ndarray, "*members k"]:
    """How far from 0 exponents averaged over so many intervals dt must be to count as different from it.

    Three standard errors; log(T/dt)/T, because neighbouring orbits that separate like a power of time show that much; and
    the solver's error.
    """
    return 3 * stderr + math.log(intervals + 1) / (max(intervals, 1) * dt) + 10 * rtol


def kaplan_yorke(exponents: Float[np.ndarray, " k"], n: int) -> float | None:
    """The Kaplan–Yorke dimension of descending exponents; None where unknown ones of the n exponents are needed to tell."""
    known = exponents[: int(np.argmax(np.isnan(exponents)))] if np.isnan(exponents).any() else exponents
    sums, exponents = np.cumsum(known), known
    below = np.flatnonzero(sums < 0)
    if not len(below):
        return float(n) if len(exponents) == n else None
    j = int(below[0])
    previous = sums[j - 1] if j else 0.0
    return float(j + previous / abs(exponents[j]))
