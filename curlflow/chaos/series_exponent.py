"""The largest exponent of a recorded series, from how fast neighbours in an embedding separate."""

import numpy as np
import scipy
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.outcome import Ending, Outcome

FEWEST_VALUES = 200
# A neighbour is a false one if one more coordinate moves it this many times farther away, or beyond two standard deviations.
# The dimension is the first at which so few are false.
FALSE_STRETCH, FALSE_FRACTION = 10.0, 0.02
LARGEST_DIMENSION = 8
# Separations are followed for so many mean periods, and samples; the growth is over once they are within e of their largest.
PERIODS, FEWEST_FOLLOWED = 20, 50
E_FOLDS_BELOW_SATURATION = 1.0
FEWEST_FITTED = 4
# Below so many samples in a mean period a series is one of a map.
SHORTEST_PERIOD = 8
PARTS = 10
# Of flows the method comes out low, because neighbours also lie along the orbit, where nothing grows: by 5 to 11 % for the
# Lorenz system at three settings, by 23 % for Rössler's (12 series of 5000 values each). The root mean square of the four:
SYSTEMATIC_OF_FLOWS = 0.13


@result
class SeriesExponent:
    """The largest exponent of a recorded series, made by `exponent_of_series`.

    Attributes
    ----------
    value
        In natural logarithms per unit time; NaN where the series does not tell. `float` of this result is the same.
    stderr
        Its standard error: the scatter between parts of the series, by how much the two halves of the fitted range differ in
        slope, and, of flows, 13 % of the value, by which the method itself is off.
    fitted
        The range of times after the start over which the growth was fitted.
    emb_dim, lag
        Embedding dimension, and delay in samples.
    times
        Times after the start, shape (times,).
    log_separation
        The mean logarithm of the distance between neighbours, so long after, shape (times,).
    outcome
        Completed, or undecided and why.
    """

    value: float
    stderr: float
    fitted: tuple[float, float]
    emb_dim: int
    lag: int
    times: Float[np.ndarray, " times"]
    log_separation: Float[np.ndarray, " times"]
    outcome: Outcome

    def __float__(self) -> float:
        return self.value

    def to_xarray(self) -> "xr.Dataset":
        """The separation along `time`; the rest as attributes."""
        numbers = {name: getattr(self, name) for name in ("value", "stderr", "emb_dim", "lag")}
        attributes = numbers | {"fitted": list(self.fitted), "outcome": f"{self.outcome}"}
        return xr.Dataset({"log_separation": ("time", self.log_separation)}, {"time": self.times}, attributes)

    def __str__(self) -> str:
        low, high = self.fitted
        setting = f"fitted from {low:g} to {high:g}, dimension {self.emb_dim}, lag {self.lag}"
        return f"SeriesExponent: {self.value:.4g} ± {self.stderr:.1g}, {setting}; {self.outcome}"


def exponent_of_series(
    series: ArrayLike,
    dt: float = 1.0,
    *,
    emb_dim: int | None = None,
    lag: int | None = None,
    fit: int | None = None,
) -> SeriesExponent:
    """The largest exponent of a recorded series by the method of Rosenstein: a cross-check of a run from outside.

    The series is embedded by delays; the nearest neighbour of every point, at least a mean period away in time, is followed,
    and a straight line is fitted to the mean logarithm of their distances between the first turn of the orbit and
    saturation. Dimension, delay and range are chosen from the data. Where equations are at hand, trust `lyapunov_spectrum`:
    the method says little about exponents near zero, and comes out low for flows: by 5 to 11 % for the Lorenz system, by a
    quarter for Rössler's.

    Parameters
    ----------
    series
        Values at equal times, shape (times,), at least 200 of them.
    dt
        Time between two values.
    emb_dim
        Embedding dimension; None takes the first, up to 8, in which less than one in fifty neighbours is a false one.
    lag
        Delay in samples; None takes the time in which the autocorrelation falls to 1 − 1/e.
    fit
        Number of samples over which to fit, from the start; None finds the range of straight growth.

    Returns
    -------
    SeriesExponent
        The exponent with its error, and what it was read off. The value is NaN, and the outcome says why, for noise, for
        series that repeat themselves exactly, and where separations saturate before they have grown e-fold.

    Raises
    ------
    ValueError
        If an argument is out of range, or the series is not one of at least 200 finite numbers that vary.

    References
    ----------
    M. T. Rosenstein, J. J. Collins, C. J. De Luca, Physica D 65, 117 (1993); M. B. Kennel, R. Brown, H. D. I. Abarbanel,
    Phys. Rev. A 45, 3403 (1992).

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> x = np.empty(1000)
    >>> x[0] = 0.3
    >>> for i in range(999):
    ...     x[i + 1] = 4 * x[i] * (1 - x[i])
    >>> found = cf.chaos.exponent_of_series(x)
    >>> bool(abs(found.value - np.log(2)) < 3 * found.stderr)
    True
    """
    x = _series(series)
    dt = _checks.positive_number("dt", dt)
    period = _mean_period(x)
    lag = _delay(x) if lag is None else _checks.positive_integer("lag", lag)
    apart = max(int(np.ceil(period)), lag)
    if emb_dim is None:
        emb_dim, false = _dimension(x, lag, apart)
        if false > FALSE_FRACTION:
            why = f"In {emb_dim} dimensions {false:.0%} of all neighbours are still false: the series is noise, or too short."
            return _undecided(emb_dim, lag, why)
    emb_dim = _checks.positive_integer("emb_dim", emb_dim)
    parts = _log_separations(_embedded(x, emb_dim, lag), apart, int(max(PERIODS * period, FEWEST_FOLLOWED)))
    curve, times = parts.mean(axis=0), np.arange(parts.shape[1]) * dt
    if not np.isfinite(curve).all():
        why = "Neighbours do not separate at all: the series repeats itself exactly."
        return _undecided(emb_dim, lag, why, times, curve)
    first = 0 if fit is not None else _after_first_turn(emb_dim, lag, period)
    last = (
        _last_fitted(curve, first, _saturation(x, emb_dim, lag)) if fit is None else _fit_length(fit, curve)
    )
    if last - first < FEWEST_FITTED - 1 or (
        last < len(curve) - 1 and fit is None and curve[last] - curve[first] < 1
    ):
        why = "Separations saturate before they have grown e-fold: take a longer series, or one sampled more finely."
        return _undecided(emb_dim, lag, why, times, curve)
    value, stderr = _slope(parts[:, first : last + 1], dt)
    if period >= SHORTEST_PERIOD:
        stderr = float(np.hypot(stderr, SYSTEMATIC_OF_FLOWS * value))
    fitted = (float(times[first]), float(times[last]))
    message = f"Separations grew by a factor of {np.exp(curve[last] - curve[first]):.3g}."
    outcome = Outcome(Ending.COMPLETED, None, message)
    return SeriesExponent(value, stderr, fitted, emb_dim, lag, times, curve, outcome)


def _series(series: ArrayLike) -> Float[np.ndarray, " times"]:
    x = np.asarray(_checks.float64_array("series", series))
    if x.ndim != 1 or len(x) < FEWEST_VALUES:
        raise ValueError(
            f"`series` must hold at least {FEWEST_VALUES} values along one axis, but has shape {x.shape}."
        )
    if np.ptp(x) == 0:
        raise ValueError(f"`series` must vary, but is {x[0]:g} throughout.")
    return (x - x.mean()) / np.abs(x - x.mean()).max()


def _undecided(
    emb_dim: int, lag: int, why: str, times: np.ndarray | None = None, curve: np.ndarray | None = None
) -> SeriesExponent:
    outcome = Outcome(Ending.UNDECIDED, None, why)
    times, curve = np.zeros(0) if times is None else times, np.zeros(0) if curve is None else curve
    return SeriesExponent(np.nan, np.nan, (np.nan, np.nan), emb_dim, lag, times, curve, outcome)


def _mean_period(x: Float[np.ndarray, " times"]) -> float:
    """The reciprocal of the mean frequency, in samples."""
    power, frequency = np.abs(np.fft.rfft(x)) ** 2, np.fft.rfftfreq(len(x))
    return float(power.sum() / (frequency * power).sum())


def _delay(x: Float[np.ndarray, " times"]) -> int:
    """After how many samples the autocorrelation is below 1 − 1/e."""
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(x)]
    return max(int(np.argmax(correlation < (1 - 1 / np.e) * correlation[0])), 1)


def _embedded(
    x: Float[np.ndarray, " times"], dimension: int, lag: int
) -> Float[np.ndarray, "points dimension"]:
    count = len(x) - (dimension - 1) * lag
    if count < FEWEST_VALUES // 2:
        raise ValueError(
            f"`series` must be longer for {dimension} dimensions with a lag of {lag}, but has {len(x)} values."
        )
    return np.stack([x[i * lag : i * lag + count] for i in range(dimension)], axis=1)


def _neighbours(
    points: Float[np.ndarray, "points dimension"], apart: int
) -> tuple[Int[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """The nearest neighbour of every point that is more than so many samples away in time, and its distance; −1 for none."""
    tree, count = scipy.spatial.KDTree(points), len(points)
    nearest, distance = np.full(count, -1), np.full(count, np.inf)
    left, asked = np.arange(count), 4
    while len(left) and asked < 4 * count:
        d, j = map(np.asarray, tree.query(points[left], k=min(asked, count)))
        far = np.abs(j - left[:, None]) > apart
        found, which = far.any(axis=1), far.argmax(axis=1)
        rows = np.flatnonzero(found)
        nearest[left[rows]], distance[left[rows]] = j[rows, which[rows]], d[rows, which[rows]]
        left, asked = left[~found], 4 * asked
    return nearest, distance


def _dimension(x: Float[np.ndarray, " times"], lag: int, apart: int) -> tuple[int, float]:
    """The first dimension in which hardly any neighbour is a false one, and the fraction that still is."""
    fraction, dimension = 1.0, 0
    while fraction > FALSE_FRACTION and dimension < LARGEST_DIMENSION:
        dimension += 1
        points = _embedded(x, dimension + 1, lag)
        nearest, distance = _neighbours(points[:, :-1], apart)
        here = np.flatnonzero(nearest >= 0)
        stretch = np.abs(points[here, -1] - points[nearest[here], -1])
        is_false = (stretch > FALSE_STRETCH * distance[here]) | (
            np.hypot(stretch, distance[here]) > 2 * x.std()
        )
        fraction = float(is_false.mean()) if len(here) else 1.0
    return dimension, fraction


def _log_separations(
    points: Float[np.ndarray, "points dimension"], apart: int, horizon: int
) -> Float[np.ndarray, "parts times"]:
    """The mean logarithm of the distance between neighbours, so many samples later, of every part of the series."""
    horizon = min(horizon, len(points) // 4)
    nearest, _ = _neighbours(points[: len(points) - horizon], apart)
    here = np.flatnonzero(nearest >= 0)
    later = range(horizon + 1)
    distances = [np.linalg.norm(points[here + k] - points[nearest[here] + k], axis=1) for k in later]
    parts = np.array_split(np.stack(distances, axis=1), PARTS)
    return np.stack([_mean_log(part) for part in parts])


def _mean_log(distances: Float[np.ndarray, "pairs times"]) -> Float[np.ndarray, " times"]:
    """The mean logarithm of those distances that are not 0; NaN if all are."""
    positive = distances > 0
    logs = np.log(np.where(positive, distances, 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return logs.sum(axis=0) / positive.sum(axis=0)


def _saturation(x: Float[np.ndarray, " times"], dimension: int, lag: int) -> float:
    """The mean logarithm of the distance between points that have nothing to do with each other."""
    points = _embedded(x, dimension, lag)
    pairs = np.random.default_rng(0).integers(0, len(points), (2, 4000))
    return float(_mean_log(np.linalg.norm(points[pairs[0]] - points[pairs[1]], axis=1)[:, None])[0])


def _after_first_turn(dimension: int, lag: int, period: float) -> int:
    """When neighbours have turned towards the direction of growth: of a flow, after half a mean period."""
    window = (dimension - 1) * lag
    return window if period < SHORTEST_PERIOD else max(window, int(period / 2))


def _last_fitted(curve: Float[np.ndarray, " times"], first: int, saturation: float) -> int:
    """Where the growth comes near its end: near the distance of unrelated points, or the level at which it stays."""
    if curve.max() - curve[min(first, len(curve) - 1)] > 1:
        saturation = min(saturation, float(curve[-len(curve) // 4 :].mean()))
    above = np.flatnonzero(curve > saturation - E_FOLDS_BELOW_SATURATION)
    return int(above[0]) - 1 if len(above) else len(curve) - 1


def _fit_length(fit: int, curve: Float[np.ndarray, " times"]) -> int:
    if _checks.positive_integer("fit", fit) >= len(curve):
        raise ValueError(
            f"`fit` must be less than the {len(curve)} samples that can be followed, but is {fit}."
        )
    return fit


def _slope(parts: Float[np.ndarray, "parts times"], dt: float) -> tuple[float, float]:
    """The slope of the mean over all parts; its error from their scatter and from the difference between its two halves."""
    times = np.arange(parts.shape[1]) * dt
    slopes = np.array([np.polyfit(times, part, 1)[0] for part in parts])
    scatter = slopes.std(ddof=1) / len(slopes) ** 0.5
    halves = np.array_split(np.arange(len(times)), 2)
    first, second = (np.polyfit(times[half], parts.mean(axis=0)[half], 1)[0] for half in halves)
    return float(slopes.mean()), float(np.hypot(scatter, first - second))
