"""Observables of recorded series: states or values with a leading time axis."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._trees import flatten_states
from curlflow.system import StateLike


def order_parameter(ys: StateLike) -> float:
    r"""The paper's order parameter q of recorded states: fluctuations in time against the spread among weights.

    .. math::  q = \frac{\mathbb{E}\left[\langle (w - \langle w \rangle)^2 \rangle\right]}{\mathbb{V}[\langle w \rangle]}

    Parameters
    ----------
    ys
        States: a pytree whose leaves have a leading time axis, e.g. `Trajectory.ys`. The streaming form for `iterate` is
        `OrderParameter`.

    Returns
    -------
    float
        q, dimensionless.

    Raises
    ------
    ValueError
        If the leaves share no leading axis of times, or all numbers have the same mean.

    References
    ----------
    arXiv:2510.02765, Eq. 15.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> cf.orbits.order_parameter(np.array([[1.0, -1.0], [3.0, -1.0]]))  # variances 1 and 0, means 2 and −1
    0.2222222222222222
    """
    ys = _checks.state_pytree("ys", ys)
    _checks.leading_axis("ys", ys, "times")
    states = flatten_states(ys)
    spread = states.mean(axis=0).var()
    if not spread > 0:
        raise ValueError(
            "`ys` must hold numbers whose means differ, but all have the same: there is no spread to compare with."
        )
    return float(states.var(axis=0).mean() / spread)


def autocorrelation(values: ArrayLike, lags: int | None = None) -> Float[np.ndarray, "lags *series"]:
    r"""The autocorrelation of recorded series around their means, normalised to 1 at lag 0.

    .. math::  a_\ell = \sum_{t} (w_{t+\ell} - \bar w)(w_t - \bar w) \Big/ \sum_t (w_t - \bar w)^2

    Parameters
    ----------
    values
        Equally spaced values, shape (times, …): several series stand along further axes.
    lags
        How many lags, from 0 on; None means half of the times.

    Returns
    -------
    Array
        Shape (lags, …). A series that is constant has correlation 1 at lag 0 and 0 elsewhere.

    Raises
    ------
    ValueError
        If a value is not finite, or there are not more times than lags.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> cf.orbits.autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), lags=2)
    array([ 1.  , -0.75])
    """
    series = np.asarray(_checks.float64_array("values", values))
    if series.ndim == 0 or len(series) < 2:
        raise ValueError(f"`values` must hold at least two times, but has shape {series.shape}.")
    lags = max(len(series) // 2, 1) if lags is None else _checks.positive_integer("lags", lags)
    if lags > len(series):
        raise ValueError(f"`lags` must not exceed the number of times, {len(series)}, but is {lags}.")
    deviations = series / np.abs(series).max(initial=np.finfo(float).tiny)  # so that no square overflows
    deviations = deviations - deviations.mean(axis=0)
    size = 2 * len(series)  # zero padding, so that the ends do not meet
    power = np.abs(np.fft.rfft(deviations, n=size, axis=0)) ** 2
    covariance = np.fft.irfft(power, n=size, axis=0)[:lags]
    varies = np.ptp(series, axis=0) > 0
    correlation = covariance / np.where(varies, covariance[0], 1.0)
    at_lag_zero = (np.arange(lags) == 0).reshape(-1, *[1] * (series.ndim - 1))
    return np.where(varies, correlation, at_lag_zero.astype(float))


@result
class PrincipalComponents:
    """A cloud of states in its directions of largest variance, made by `principal_components`.

    Attributes
    ----------
    scores
        The states in the new coordinates, around their mean, shape (times, k).
    directions
        Orthonormal rows, shape (k, numbers), in the state's pytree order.
    mean
        The mean state, flattened, shape (numbers,).
    explained
        The fraction of the variance along each direction, shape (k,), descending.
    """

    scores: Float[np.ndarray, "times k"]
    directions: Float[np.ndarray, "k numbers"]
    mean: Float[np.ndarray, " numbers"]
    explained: Float[np.ndarray, " k"]

    def to_xarray(self) -> "xr.Dataset":
        """Scores along `time` and `component`, directions along `component` and `number`, the mean along `number`."""
        return xr.Dataset(
            {
                "score": (("time", "component"), self.scores),
                "direction": (("component", "number"), self.directions),
                "mean": ("number", self.mean),
                "explained": ("component", self.explained),
            }
        )

    def __str__(self) -> str:
        (times, k), n = self.scores.shape, self.mean.size
        return f"PrincipalComponents: {k} of {n} directions explain {self.explained.sum():.1%} of the variance; {times} times"


def principal_components(ys: StateLike, k: int = 2) -> PrincipalComponents:
    """The first k principal components of recorded states.

    Parameters
    ----------
    ys
        States: a pytree whose leaves have a leading time axis, e.g. `Trajectory.ys`.
    k
        How many components.

    Returns
    -------
    PrincipalComponents
        Scores, directions (each with its largest entry positive), mean, and fractions of the variance.

    Raises
    ------
    ValueError
        If the states do not vary, or there are fewer times or numbers than components.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    >>> circle = np.stack([3 + 2 * np.cos(t), np.sin(t), 0 * t], axis=1)
    >>> cf.orbits.principal_components(circle).explained.round(6)
    array([0.8, 0.2])
    """
    ys = _checks.state_pytree("ys", ys)
    times = _checks.leading_axis("ys", ys, "times")
    states = flatten_states(ys)
    if not 1 <= _checks.positive_integer("k", k) <= min(states.shape):
        raise ValueError(
            f"`k` must not exceed the {times} times or the {states.shape[1]} numbers of the states, but is {k}."
        )
    if not np.ptp(states, axis=0).any():
        raise ValueError("`ys` must vary in time to have principal components, but all states are the same.")
    return leading_components(states, k)


def leading_components(states: Float[np.ndarray, "times numbers"], k: int) -> PrincipalComponents:
    """The first k principal components of states as rows, or as many as there are."""
    mean = states.mean(axis=0)
    left, singular, right = np.linalg.svd(states - mean, full_matrices=False)
    left, singular, right = left[:, :k], singular[:k], right[:k]
    total = ((states - mean) ** 2).sum()
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    return PrincipalComponents(
        left * singular * signs, right * signs[:, None], mean, singular**2 / (total or 1.0)
    )


def time_to_threshold(ts: ArrayLike, values: ArrayLike, threshold: float) -> float:
    """The first of the times at which a recorded value is below a threshold; infinity if none is.

    Parameters
    ----------
    ts
        Times, shape (times,).
    values
        An observable at these times, shape (times,).
    threshold
        The threshold, in the observable's units.

    Raises
    ------
    ValueError
        If the shapes differ, or the threshold is not finite.

    Examples
    --------
    >>> import curlflow as cf
    >>> cf.orbits.time_to_threshold([0.0, 1.0, 2.0], [1.0, 0.1, 0.01], 0.5)
    1.0
    """
    times, series = _checks.measured_array("ts", ts), _checks.measured_array("values", values)
    if times.ndim != 1 or times.shape != series.shape:
        raise ValueError(
            f"`values` must have one value for each of the times, shape {times.shape}, but has shape {series.shape}."
        )
    below = np.flatnonzero(series < _checks.finite_number("threshold", threshold))
    return float(times[below[0]]) if len(below) else float("inf")
