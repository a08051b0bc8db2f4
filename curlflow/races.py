"""Which of two rules learns faster: paired times to a threshold, of which some may never have come."""

from dataclasses import fields

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result

__all__ = [
    "compare_times",
    "TimesComparison",
    "survival_curve",
    "SurvivalCurve",
]


@result
class SurvivalCurve:
    """The share of runs still above the threshold, against time: a Kaplan–Meier estimate, made by `survival_curve`.

    Attributes
    ----------
    times
        When the share falls: the distinct times at which runs reached the threshold, ascending, after a first entry 0.
    share
        The share of runs still above it from each of these times on; 1 from time 0.
    lower, upper
        Exact (Clopper–Pearson) confidence limits of the share at the level asked for.
    horizon
        Until when the runs were followed.
    """

    times: Float[np.ndarray, " events"]
    share: Float[np.ndarray, " events"]
    lower: Float[np.ndarray, " events"]
    upper: Float[np.ndarray, " events"]
    horizon: float

    def to_xarray(self) -> "xr.Dataset":
        """Share and confidence limits along `time`; the horizon as attribute."""
        return xr.Dataset(
            {name: ("time", getattr(self, name)) for name in ("share", "lower", "upper")},
            coords={"time": self.times},
            attrs={"horizon": self.horizon},
        )

    def __str__(self) -> str:
        left = f"{self.share[-1]:.3g} [{self.lower[-1]:.3g}, {self.upper[-1]:.3g}]"
        return f"SurvivalCurve: a share of {left} still above at the horizon {self.horizon:g}; {len(self.times) - 1} times"


@result
class TimesComparison:
    """Two rules compared over the same seeds, by the times they took to a threshold; made by `compare_times`.

    Attributes
    ----------
    names
        What the two rules are called.
    first, second
        Their times, shape (pairs,), infinite where a run never reached the threshold.
    horizon
        Until when the runs were followed.
    first_faster, second_faster, undecided
        Counts of pairs: which rule was there first. Undecided are equal times, and pairs of which neither run got there.
    sign_test
        p-value of the sign test: that the decided pairs are a fair coin's.
    signed_rank_test
        p-value of the exact (or sampled) signed-rank test of Wilcoxon. A pair of which only one run got there ranks above
        all pairs with known differences, which is right whenever the horizon is beyond all of them, and valid always.
    t_test
        p-value of the paired t-test, as in the paper, of the times; None if a run never reached the threshold, or if all
        differences are equal and not 0, because a sample without spread says nothing of its error.
    ratio_of_medians
        (lowest, highest) value of median(second) / median(first): above 1 if the first rule is faster. Both are the ratio
        itself unless a median lies beyond the horizon; then only a bound is known, and the other end is 0 or infinity.
    ratio_of_medians_interval
        Its confidence interval, by bootstrap over pairs; an end is 0 or infinite where the data set no limit.
    geometric_mean_ratio
        exp⟨log(second / first)⟩; None if a run never reached the threshold.
    geometric_mean_ratio_interval
        Its confidence interval, or None: that of Student's t for the mean of the logarithms, exact for log-normal ratios of
        however few pairs.
    confidence
        The level of the intervals.
    """

    names: tuple[str, str]
    first: Float[np.ndarray, " pairs"]
    second: Float[np.ndarray, " pairs"]
    horizon: float
    first_faster: int
    second_faster: int
    undecided: int
    sign_test: float
    signed_rank_test: float
    t_test: float | None
    ratio_of_medians: tuple[float, float]
    ratio_of_medians_interval: tuple[float, float]
    geometric_mean_ratio: float | None
    geometric_mean_ratio_interval: tuple[float, float] | None
    confidence: float

    def survival_curves(self) -> tuple[SurvivalCurve, SurvivalCurve]:
        """The share of runs still above the threshold against time, for each rule."""
        first, second = (
            survival_curve(times, horizon=self.horizon, confidence=self.confidence)
            for times in (self.first, self.second)
        )
        return first, second

    def to_xarray(self) -> "xr.Dataset":
        """The times of both rules along `pair`; as attributes whatever is known of the rest."""
        arrays = {name: ("pair", getattr(self, name)) for name in ("first", "second")}
        rest = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in arrays}
        return xr.Dataset(arrays, attrs={name: value for name, value in rest.items() if value is not None})

    def __str__(self) -> str:
        (a, b), pairs = self.names, len(self.first)
        low, high = self.ratio_of_medians_interval
        undecided = f", {self.undecided} undecided" if self.undecided else ""
        t_test = "" if self.t_test is None else f", paired t-test p = {self.t_test:.2g}"
        return (
            f"TimesComparison: {a} faster than {b} in {self.first_faster} of {pairs} pairs, "
            f"slower in {self.second_faster}{undecided}: "
            f"median time of {b} over {a} {_known(*self.ratio_of_medians)} [{low:.3g}, {high:.3g}]; "
            f"sign test p = {self.sign_test:.2g}, signed-rank p = {self.signed_rank_test:.2g}{t_test}"
        )


def compare_times(
    first: ArrayLike,
    second: ArrayLike,
    *,
    horizon: float,
    names: tuple[str, str] = ("first", "second"),
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> TimesComparison:
    """Compare two learning rules over the same seeds, by the times (or epochs) their runs took to reach a threshold.

    Runs that never got there are data: their times are known to be longer than the horizon, and no more. They are neither
    left out, which favours the rule that fails often, nor counted as the horizon, which favours the slower one.

    Parameters
    ----------
    first, second
        Times of the two rules, shape (pairs,), entry i of both from the same seed; infinity where the run never reached the
        threshold, as `FirstPassage` and `time_to_threshold` give it. A run that blew up never reached it.
    horizon
        How long the runs were followed, in the units of the times.
    names
        What to call the two rules.
    confidence
        Level of the intervals, between 0 and 1.
    resamples
        Bootstrap samples; also the most sign flips drawn for the signed-rank test, which is exact up to 13 decided pairs
        at the default.
    seed
        Seed of the resampling.

    Returns
    -------
    TimesComparison
        Counts, two-sided tests, ratios with intervals; prints as one line.

    Raises
    ------
    ValueError
        If the times are not two lists of equal length of at least two, are not positive, or exceed the horizon while finite;
        or if no run at all reached the threshold.

    References
    ----------
    The paper compares epochs by the paired t-test: arXiv:2510.02765, Fig. 5.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> curl, gradient = [3.0, 4.0, 5.0, 6.0, 8.0, 9.0], [6.0, 9.0, 7.0, 20.0, np.inf, 30.0]
    >>> result = cf.races.compare_times(curl, gradient, horizon=50.0, names=("curl", "gradient"))
    >>> result.first_faster, result.sign_test, result.ratio_of_medians[0].__round__(3)
    (6, 0.03125, 2.636)
    """
    first, second, horizon = _pairs(first, second, _checks.positive_number("horizon", horizon))
    confidence = _level(confidence)
    resamples, seed = _checks.positive_integer("resamples", resamples), _checks.random_seed("seed", seed)
    faster, slower = int((first < second).sum()), int((first > second).sum())
    all_there = bool(np.isfinite(first).all() and np.isfinite(second).all())
    ratio, ratio_interval = _geometric_mean(first, second, confidence)
    return TimesComparison(
        names=names,
        first=first,
        second=second,
        horizon=horizon,
        first_faster=faster,
        second_faster=slower,
        undecided=len(first) - faster - slower,
        sign_test=float(scipy.stats.binomtest(faster, faster + slower).pvalue) if faster + slower else 1.0,
        signed_rank_test=_signed_rank_test(first, second, resamples, seed),
        t_test=_t_test(first, second) if all_there else None,
        ratio_of_medians=_ratio_bounds(first, second, horizon),
        ratio_of_medians_interval=_medians_interval(first, second, horizon, confidence, resamples, seed),
        geometric_mean_ratio=ratio,
        geometric_mean_ratio_interval=ratio_interval,
        confidence=confidence,
    )


def survival_curve(times: ArrayLike, *, horizon: float, confidence: float = 0.95) -> SurvivalCurve:
    """The share of runs that are still above a threshold, against time (Kaplan–Meier).

    Parameters
    ----------
    times
        When each run reached the threshold, shape (runs,); infinity for never.
    horizon
        How long the runs were followed.
    confidence
        Level of the confidence limits, between 0 and 1.

    Returns
    -------
    SurvivalCurve
        Times, shares and confidence limits. It has one entry, 1 at time 0, if no run got there.

    Raises
    ------
    ValueError
        If a time is not positive, or exceeds the horizon while finite.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> curve = cf.races.survival_curve([2.0, 3.0, 3.0, np.inf], horizon=10.0)
    >>> curve.times, curve.share
    (array([0., 2., 3.]), array([1.  , 0.75, 0.25]))
    """
    horizon = _checks.positive_number("horizon", horizon)
    values = _times("times", times, horizon)
    confidence = _level(confidence)
    there = np.isfinite(values)
    if not there.any():
        return SurvivalCurve(np.zeros(1), np.ones(1), np.ones(1), np.ones(1), horizon)
    data = scipy.stats.CensoredData(uncensored=values[there], right=np.full((~there).sum(), horizon))
    events = np.unique(values[there])
    share = np.asarray(scipy.stats.ecdf(data).sf.evaluate(events))
    lower, upper = _limits(share, len(values), confidence)
    return SurvivalCurve(
        np.append(0.0, events), *(np.append(1.0, each) for each in (share, lower, upper)), horizon=horizon
    )


def _limits(share: np.ndarray, runs: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's limits: with one horizon for all runs, the number above at any time is binomial."""
    above = np.round(share * runs).astype(int)
    intervals = [scipy.stats.binomtest(int(k), runs).proportion_ci(confidence, method="exact") for k in above]
    return np.array([each.low for each in intervals]), np.array([each.high for each in intervals])


def _signed_rank_test(first: np.ndarray, second: np.ndarray, resamples: int, seed: int) -> float:
    """Wilcoxon's test, its null distribution from flipping signs of pairs.

    Under the null hypothesis the two runs of a pair are exchangeable, so that flipping is valid for any scores which
    depend on the pair but not on its order: also for the top rank that pairs with one missing time get.
    """
    differences = _ranked_differences(first, second)
    decided = differences[differences != 0]
    if len(decided) < 2:  # one coin toss shows nothing
        return 1.0
    draws = scipy.stats.PermutationMethod(n_resamples=resamples, rng=np.random.default_rng(seed))
    return float(scipy.stats.wilcoxon(decided, method=draws).pvalue)


def _ranked_differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """second − first; 0 if neither run got there, and more than any known difference if one did."""
    both, neither = np.isfinite(first) & np.isfinite(second), np.isinf(first) & np.isinf(second)
    known = np.zeros_like(first)
    known[both] = second[both] - first[both]
    beyond = 2 * np.abs(known).max() + 1
    return np.where(both | neither, known, np.where(first < second, beyond, -beyond))


def _t_test(first: np.ndarray, second: np.ndarray) -> float | None:
    differences = second - first
    if np.ptp(differences) == 0:  # no spread to compare the mean with
        return 1.0 if differences[0] == 0 else None
    return float(scipy.stats.ttest_rel(second, first).pvalue)


def _ratio_bounds(first: np.ndarray, second: np.ndarray, horizon: float) -> tuple[float, float]:
    """The least and the largest ratio of medians that unknown times beyond the horizon leave possible."""
    lowest, least_inverse = _lowest_ratio(first, second, horizon), _lowest_ratio(second, first, horizon)
    if np.isfinite([np.median(first), np.median(second)]).all():
        return float(lowest), float(lowest)
    return float(lowest), float(1 / least_inverse) if least_inverse > 0 else np.inf


def _lowest_ratio(
    below: np.ndarray, above: np.ndarray, horizon: float, axis: int = -1
) -> np.ndarray | np.float64:
    """The least value of median(above) / median(below): missing times are the horizon above, and infinite below."""
    return np.median(np.minimum(above, horizon), axis=axis) / np.median(below, axis=axis)


def _medians_interval(
    first: np.ndarray, second: np.ndarray, horizon: float, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """The lower limit from the lowest ratios, the upper from the highest, which as inverses are finite in all resamples."""

    def lower_end(below: np.ndarray, above: np.ndarray) -> float:
        interval = scipy.stats.bootstrap(
            (below, above),
            lambda below, above, axis: _lowest_ratio(below, above, horizon, axis),
            paired=True,
            confidence_level=confidence,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return float(interval.low)

    low, inverse_high = lower_end(first, second), lower_end(second, first)
    return low, 1 / inverse_high if inverse_high > 0 else np.inf


def _geometric_mean(
    first: np.ndarray, second: np.ndarray, confidence: float
) -> tuple[float | None, tuple[float, float] | None]:
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None, None
    logarithms = np.log(second) - np.log(first)
    mean = logarithms.mean()
    half_width = scipy.stats.t.ppf((1 + confidence) / 2, len(first) - 1) * scipy.stats.sem(logarithms)
    with np.errstate(over="ignore"):  # of two pairs far apart: the data set no limit
        return float(np.exp(mean)), (float(np.exp(mean - half_width)), float(np.exp(mean + half_width)))


def _known(low: float, high: float) -> str:
    if low == high:
        return f"{low:.3g}"
    if np.isinf(high):
        return f"at least {low:.3g}" if low > 0 else "unknown"
    return f"at most {high:.3g}"


def _pairs(first: ArrayLike, second: ArrayLike, horizon: float) -> tuple[np.ndarray, np.ndarray, float]:
    one, other = _times("first", first, horizon), _times("second", second, horizon)
    if one.shape != other.shape or len(one) < 2:
        raise ValueError(
            "`first` and `second` must hold the times of the same seeds, at least two, "
            f"but have shapes {one.shape} and {other.shape}."
        )
    if np.isinf(one).all() and np.isinf(other).all():
        raise ValueError(
            "`first` and `second` must hold at least one run that reached the threshold, "
            f"but none did within the horizon {horizon:g}. Raise the threshold, or follow the runs for longer."
        )
    return one, other, horizon


def _times(name: str, values: ArrayLike, horizon: float) -> np.ndarray:
    times = _checks.measured_array(name, values)
    if times.ndim != 1 or not len(times):
        raise ValueError(f"`{name}` must be a list of times, but has shape {times.shape}.")
    wrong = np.flatnonzero(~(times > 0))
    if len(wrong):
        raise ValueError(
            f"`{name}` must hold positive times, or infinity for runs that never reached the threshold, "
            f"but has {times[wrong[0]]:g} at index {wrong[0]}."
        )
    late = np.flatnonzero(np.isfinite(times) & (times > horizon))
    if len(late):
        raise ValueError(
            f"`{name}` must hold times up to the horizon {horizon:g}, but has {times[late[0]]:g} at index {late[0]}."
        )
    return times


def _level(confidence: float) -> float:
    if not 0 < _checks.finite_number("confidence", confidence) < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, but is {confidence:g}.")
    return float(confidence)
