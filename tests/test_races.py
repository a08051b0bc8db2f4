"""Comparisons of times to a threshold: exact small cases, missing times, symmetry of the two rules."""

from fractions import Fraction
from itertools import product

import hypothesis.strategies as st
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings

import curlflow as cf
from curlflow.races import _geometric_mean

NEVER = np.inf


def compare(first, second, horizon=100.0, resamples=999, **rest):
    return cf.races.compare_times(first, second, horizon=horizon, resamples=resamples, **rest)


def test_the_sign_test_of_eight_wins_in_nine():
    first = np.arange(1.0, 11.0)
    second = first + np.array([1, 1, 1, 1, 1, 1, 1, 1, -0.5, 0])
    result = compare(first, second)
    assert (result.first_faster, result.second_faster, result.undecided) == (8, 1, 1)
    np.testing.assert_allclose(result.sign_test, float(Fraction(2 * (1 + 9), 2**9)))


def exact_signed_rank_p(scores) -> float:
    """Two-sided p-value: the share of all sign patterns whose sum is at least as far from zero."""
    sums = np.array([np.dot(signs, scores) for signs in product([-1, 1], repeat=len(scores))])
    observed = np.sum(scores)
    return min(2 * min(np.mean(sums >= observed), np.mean(sums <= observed)), 1.0)


def test_the_signed_rank_test_ranks_known_differences():
    result = compare([1.0, 5.0, 7.0, 9.0, 20.0], [2.0, 8.0, 5.0, 13.0, 25.0])
    np.testing.assert_allclose(result.signed_rank_test, exact_signed_rank_p([1, 3, -2, 4, 5]), rtol=1e-12)


def test_a_missing_time_ranks_above_all_known_differences():
    """Differences 1, −40, >: the last is the pair of which the second run never came, though 99 is close to the horizon."""
    result = compare([1.0, 50.0, 99.0, 2.0], [2.0, 10.0, NEVER, 4.0])
    np.testing.assert_allclose(result.signed_rank_test, exact_signed_rank_p([1, -3, 4, 2]), rtol=1e-12)
    two = compare([1.0, 50.0, 99.0, NEVER, NEVER], [2.0, 10.0, NEVER, 5.0, NEVER])
    np.testing.assert_allclose(two.signed_rank_test, exact_signed_rank_p([1, -2, 3.5, -3.5]), rtol=1e-12)
    assert (two.first_faster, two.second_faster, two.undecided) == (2, 2, 1)


def test_the_paired_t_test_is_the_textbooks():
    first, second = np.array([4.0, 6.0, 8.0, 10.0]), np.array([5.0, 8.0, 9.0, 14.0])
    t = 2.0 / (np.sqrt(2.0) / 2)  # differences 1, 2, 1, 4: mean 2, variance 2
    # Two-sided, three degrees of freedom.
    tail = 1 - 2 / np.pi * (np.arctan(t / np.sqrt(3)) + np.sqrt(3) * t / (t**2 + 3))
    np.testing.assert_allclose(compare(first, second).t_test, tail, rtol=1e-10)
    assert compare(first, [5.0, 8.0, 9.0, NEVER]).t_test is None
    assert (compare(first, first).t_test, compare(first, first + 1).t_test) == (1.0, None)


def test_ratios_of_known_times():
    result = compare([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert result.ratio_of_medians == (2.0, 2.0)
    np.testing.assert_allclose(result.geometric_mean_ratio, 2.0)
    np.testing.assert_allclose(result.geometric_mean_ratio_interval, 2.0)
    np.testing.assert_allclose(compare([1.0, 2.0], [2.0, 16.0]).geometric_mean_ratio, 4.0)


@pytest.mark.parametrize(
    ("first", "second", "bounds", "words"),
    [
        ([1.0, 2.0, 4.0], [3.0, 6.0, NEVER], (3.0, 3.0), " 3 ["),
        ([1.0, 2.0, 4.0], [3.0, NEVER, NEVER], (50.0, np.inf), " at least 50 ["),
        ([3.0, NEVER, NEVER], [1.0, 2.0, 4.0], (0.0, 0.02), " at most 0.02 ["),
        ([3.0, NEVER, NEVER], [1.0, NEVER, NEVER], (0.0, np.inf), " unknown ["),
        ([1.0, 3.0], [5.0, NEVER], (26.25, np.inf), " at least 26.2 ["),
    ],
)
def test_a_median_beyond_the_horizon_leaves_bounds(first, second, bounds, words):
    result = compare(first, second)
    np.testing.assert_allclose(result.ratio_of_medians, bounds)
    assert words in str(result)
    assert result.geometric_mean_ratio is None
    assert result.geometric_mean_ratio_interval is None


def test_missing_times_open_the_interval_upwards():
    first = np.full(9, 2.0)
    second = np.array([4.0] * 5 + [NEVER] * 4)  # about 37 % of resamples have most runs missing
    result = compare(first, second)
    assert result.ratio_of_medians == (2.0, 2.0)
    assert result.ratio_of_medians_interval == (2.0, np.inf)


def test_the_interval_of_the_geometric_mean_is_students():
    """Logarithms 0, 1, 2 in units of ln 2: mean 1, standard error 1/√3, and the quantile of t for two degrees of freedom."""
    low, high = compare([1.0, 1.0, 1.0], [1.0, 2.0, 4.0]).geometric_mean_ratio_interval
    quantile = np.sqrt(2 * 0.95**2 / (1 - 0.95**2))
    np.testing.assert_allclose([low, high], 2 ** (1 + np.array([-1, 1]) * quantile / np.sqrt(3)), rtol=1e-12)


@pytest.mark.parametrize("pairs", [3, 6, 10])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says_however_few_the_pairs(pairs: int):
    rng, trials = np.random.default_rng(11), 1000
    covered = 0
    for _ in range(trials):
        first = rng.lognormal(0, 0.7, pairs)
        second = 2 * first * rng.lognormal(0, 0.5, pairs)
        low, high = _geometric_mean(first, second, 0.95)[1]
        covered += low < 2 < high
    assert abs(covered / trials - 0.95) < 3 * np.sqrt(0.95 * 0.05 / trials)


times = st.lists(
    st.tuples(*[st.one_of(st.floats(0.5, 50.0), st.just(NEVER))] * 2), min_size=2, max_size=7
).filter(lambda pairs: np.isfinite(pairs).any())


@settings(max_examples=25, deadline=None)
@given(times)
def test_exchanging_the_rules_turns_the_answer_round(pairs):
    first, second = np.array(pairs).T
    one, other = compare(first, second, resamples=200), compare(second, first, resamples=200)
    assert (one.first_faster, one.undecided) == (other.second_faster, other.undecided)
    np.testing.assert_allclose(
        [one.sign_test, one.signed_rank_test], [other.sign_test, other.signed_rank_test]
    )
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(one.ratio_of_medians, 1 / np.array(other.ratio_of_medians)[::-1])
        np.testing.assert_allclose(
            one.ratio_of_medians_interval, 1 / np.array(other.ratio_of_medians_interval)[::-1], rtol=1e-9
        )
    low, high = one.ratio_of_medians_interval
    assert low <= high
    assert not np.isnan([low, high, one.sign_test, one.signed_rank_test]).any()


def test_survival_falls_by_hand():
    curve = cf.races.survival_curve([3.0, 1.0, NEVER, 3.0, 8.0], horizon=10.0)
    np.testing.assert_array_equal(curve.times, [0.0, 1.0, 3.0, 8.0])
    np.testing.assert_allclose(curve.share, [1.0, 0.8, 0.4, 0.2])
    assert np.all(curve.lower <= curve.share)
    assert np.all(curve.share <= curve.upper)
    one = cf.races.survival_curve([2.0], horizon=10.0)
    np.testing.assert_allclose(one.upper, [1.0, 0.975])  # no run above in one: 1 − α/2
    nobody = cf.races.survival_curve([NEVER, NEVER], horizon=10.0)
    assert (nobody.times.tolist(), nobody.share.tolist()) == ([0.0], [1.0])
    np.testing.assert_array_equal(curve.to_xarray()["share"].sel(time=3.0), 0.4)
    assert f"{curve}".startswith(
        "SurvivalCurve: a share of 0.2 [0.00505, 0.716] still above at the horizon 10; 3 times"
    )


def test_the_dataset_of_a_comparison_leaves_out_what_is_not_known():
    data = compare([1.0, 2.0, 4.0], [3.0, 6.0, NEVER]).to_xarray()
    np.testing.assert_array_equal(data["second"], [3.0, 6.0, NEVER])
    assert data.attrs["first_faster"] == 3
    assert not {"t_test", "geometric_mean_ratio"} & set(data.attrs)


def test_the_figure_shows_the_curves():
    result = compare([1.0, 2.0, 4.0], [3.0, 6.0, NEVER], names=("curl", "gradient"))
    lines = cf.plot.survival(result, unit="epochs")
    np.testing.assert_array_equal(lines[0].get_xdata(), [0.0, 1.0, 2.0, 4.0, 4.0])
    np.testing.assert_allclose(lines[0].get_ydata(), [1, 2 / 3, 1 / 3, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(lines[1].get_xdata(), [0.0, 3.0, 6.0, 100.0])
    np.testing.assert_allclose(lines[1].get_ydata(), [1, 2 / 3, 1 / 3, 1 / 3])
    assert [line.get_label() for line in lines] == ["curl", "gradient"]
    assert lines[0].axes.get_xlabel() == "epochs"
    plt.close("all")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0, 2.0], [1.0], "same seeds, at least two, but have shapes"),
        ([1.0], [1.0], "same seeds, at least two, but have shapes"),
        ([NEVER, NEVER], [NEVER, NEVER], "none did within the horizon 100. Raise the threshold, or follow"),
        (
            [1.0, np.nan],
            [1.0, 2.0],
            "`first` must hold positive times, or infinity .* but has nan at index 1",
        ),
        ([1.0, 2.0], [0.0, 2.0], "`second` must hold positive times, .* but has 0 at index 0"),
        ([1.0, 2.0], [1.0, 200.0], "`second` must hold times up to the horizon 100, but has 200 at index 1"),
        ([[1.0]], [[1.0]], "`first` must be a list of times"),
    ],
)
def test_wrong_times_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        compare(first, second)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1, but is 95"):
        compare([1.0, 2.0], [2.0, 3.0], confidence=95)
    with pytest.raises(ValueError, match="`horizon` must be positive"):
        compare([1.0, 2.0], [2.0, 3.0], horizon=0.0)
    with pytest.raises(ValueError, match="`resamples` must be at least 1"):
        compare([1.0, 2.0], [2.0, 3.0], resamples=0)
