"""Exponents of recorded series: those of Rosenstein's table by defaults alone, and series that do not tell."""

import nolds
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from curlflow.chaos import exponent_of_series
from curlflow.outcome import Ending


def of_map(step, x, count):
    values = []
    for n in range(count + 100):
        x = step(x)
        if n >= 100:
            values.append(x[0] if isinstance(x, tuple) else x)
    return np.array(values)


def lorenz_series(sigma, rho, beta, dt, count):
    def field(t, y):
        return [sigma * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - beta * y[2]]

    times = 20.0 + dt * np.arange(count)
    return solve_ivp(field, (0, times[-1]), [1.0, 2.0, 3.0], t_eval=times, rtol=1e-9, atol=1e-9).y[0]


# Rosenstein, Collins and De Luca 1993, Table 1, and the logistic map beside it at another parameter (0.4945: its own
# average of ln |r (1 − 2x)|).
MAPS = {
    "logistic": (lambda x: 4 * x * (1 - x), 0.4, np.log(2)),
    "logistic at 3.9": (lambda x: 3.9 * x * (1 - x), 0.4, 0.4945),
    "Hénon": (lambda p: (1 - 1.4 * p[0] ** 2 + p[1], 0.3 * p[0]), (0.1, 0.1), 0.418),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_by_defaults_alone(name):
    step, start, exponent = MAPS[name]
    found = exponent_of_series(of_map(step, start, 5000))
    assert found.outcome.ending is Ending.COMPLETED
    assert abs(found.value - exponent) < 2 * found.stderr
    assert found.stderr < 0.1 * exponent
    assert float(found) == found.value


@pytest.mark.parametrize(
    ("parameters", "dt", "exponent"),
    [
        ((16.0, 45.92, 4.0), 0.01, 1.50),
        ((10.0, 28.0, 8 / 3), 0.01, 0.906),
        ((10.0, 28.0, 8 / 3), 0.05, 0.906),
    ],
)
def test_flows_by_defaults_alone(parameters, dt, exponent):
    found = exponent_of_series(lorenz_series(*parameters, dt, 5000), dt)
    assert abs(found.value - exponent) < 2 * found.stderr
    assert found.value > 2 * found.stderr  # chaos is seen
    assert abs(found.value - exponent) < 0.1 * exponent


def test_units_of_value_and_time_do_not_matter():
    x = of_map(*MAPS["Hénon"][:2], 1000)
    one, other = exponent_of_series(x), exponent_of_series(1e8 + 1e3 * x, 0.5)
    assert other.value == pytest.approx(2 * one.value, rel=1e-3)
    assert (other.emb_dim, other.lag) == (one.emb_dim, one.lag) == (2, 1)


def test_a_torus_has_no_growth():
    t = 0.1 * np.arange(4000)
    found = exponent_of_series(np.cos(t) + 0.5 * np.cos(np.sqrt(2) * t), 0.1)
    assert abs(found.value) < 1e-3
    assert found.stderr < 1e-3


@pytest.mark.parametrize(
    ("series", "why"),
    [
        (np.random.default_rng(0).standard_normal(2000), "the series is noise"),
        (np.tile([0.1, 0.5, 0.9, 0.4], 500), "repeats itself exactly"),
    ],
    ids=["noise", "period 4"],
)
def test_what_does_not_tell_is_undecided_in_words(series, why):
    found = exponent_of_series(series)
    assert found.outcome.ending is Ending.UNDECIDED
    assert why in found.outcome.message
    assert np.isnan(found.value)


def test_the_choices_can_be_made_by_hand():
    found = exponent_of_series(of_map(*MAPS["logistic"][:2], 500), emb_dim=1, lag=1, fit=5)
    assert found.value == pytest.approx(np.log(2), abs=0.03)
    assert found.fitted == (0.0, 5.0)


@pytest.mark.parametrize(
    ("message", "series", "options"),
    [
        ("`series` must vary, but is 1 throughout", np.ones(1000), {}),
        (r"at least 200 values along one axis, but has shape \(500, 2\)", np.eye(500, 2), {}),
        ("`fit` must be less than", np.sin(np.arange(300.0)), {"fit": 299}),
        ("`series` must be longer for 50 dimensions", np.sin(np.arange(300.0)), {"emb_dim": 50, "lag": 5}),
    ],
)
def test_bad_arguments_are_refused(message, series, options):
    with pytest.raises(ValueError, match=message):
        exponent_of_series(series, **options)


def test_with_the_same_choices_it_is_the_method_of_nolds():
    # The same embedding, distance in time and range: an independent program of the same method.
    series = of_map(lambda x: 4 * x * (1 - x), 0.3, 1000)
    theirs = nolds.lyap_r(series, emb_dim=1, lag=1, min_tsep=2, trajectory_len=5, fit="poly")
    ours = exponent_of_series(series, emb_dim=1, lag=1, fit=5)
    assert ours.value == pytest.approx(theirs, abs=2 * ours.stderr)
    assert ours.value == pytest.approx(np.log(2), abs=3 * ours.stderr)
