"""Exponents where numbers are extreme: units, rates, quiet fields, pulses, members that fail, derivatives that are wrong."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference_systems import Henon, Linear, Logistic, lorenz

import curlflow as cf
from curlflow.chaos import statistics
from curlflow.chaos.remarks import remarks
from curlflow.outcome import Ending

# ------------------------------------------------------------------------------------------------------- quiet at first


def test_a_field_that_is_zero_at_its_first_moment_is_not_constant():
    # y = exp(cos t − 1): over whole periods the exponent is 0, over half a period −2/π.
    ls = cf.lyapunov_spectrum(lambda t, y, args: -jnp.sin(t) * y, jnp.array([1.0]), T=np.pi, dt=np.pi / 8)
    assert ls.exponents[0] == pytest.approx(-2 / np.pi, rel=1e-7)


def test_a_constant_field_has_exponents_zero():
    ls = cf.lyapunov_spectrum(lambda t, y, args: jnp.array([1.0, 2**0.5]), jnp.zeros(2), T=20.0)
    np.testing.assert_array_equal(ls.exponents, [0.0, 0.0])


@pytest.mark.slow
def test_a_field_that_is_silent_for_a_while():
    def switched_on(t: Any, y: Any, args: Any) -> Any:
        return jnp.where(t < 5, 0.0, 1.0) * lorenz(t, y, args)

    ls = cf.lyapunov_spectrum(switched_on, jnp.array([1.0, 2.0, 3.0]), T=300.0, Ttr=20.0)
    assert abs(ls.exponents[0] - 0.9056) < 3 * ls.stderr[0]


def test_pulses_shorter_than_a_step_are_met_with_dtmax():
    def pulsed(t: Any, y: Any, args: Any) -> Any:
        return -(10 * jnp.exp(-0.5 * ((jnp.mod(t, 50.0) - 25.3) / 0.02) ** 2) + 1e-3) * y

    right = -10 * 0.02 * np.sqrt(2 * np.pi) / 50 - 1e-3
    met = cf.lyapunov_spectrum(pulsed, jnp.ones(1), T=200.0, dt=10.0, dtmax=0.05)
    assert met.exponents[0] == pytest.approx(right, rel=1e-5)
    assert met.stats["steps"] >= 200 / 0.05
    missed = cf.lyapunov_spectrum(pulsed, jnp.ones(1), T=200.0, dt=10.0)
    assert missed.exponents[0] == pytest.approx(-1e-3, rel=1e-6)  # what the documentation warns of


def test_dtmax_must_be_positive():
    with pytest.raises(ValueError, match="`dtmax` must be positive"):
        cf.chaos.TangentSystem(lorenz, dtmax=0.0)


# ---------------------------------------------------------------------------------------------------- rates and units


@pytest.mark.parametrize("rate", [-360.0, -1000.0, 2000.0])
def test_a_leading_exponent_may_be_as_large_as_it_likes(rate):
    ls = cf.lyapunov_spectrum(
        lambda t, y, rate: rate * y, jnp.array([0.0 if rate > 0 else 1.0]), T=10.0, Ttr=2.0, args=rate
    )
    assert ls.exponents[0] == pytest.approx(rate, rel=1e-8)
    assert ls.stats["qr_interval"] < 1


def test_a_fast_circuit_has_both_its_exponents():
    A = jnp.array([[0.0, 1e3], [-1e3, -1e3]])
    ls = cf.lyapunov_spectrum(Linear(A), jnp.array([1.0, 0.0]), T=10.0)
    np.testing.assert_allclose(ls.exponents, [-500.0, -500.0], rtol=1e-3)
    assert ls.exponents.sum() == pytest.approx(-1000.0, rel=1e-9)


def test_gali_of_a_fast_system_is_a_volume():
    times, volume = cf.chaos.gali(Linear(jnp.diag(jnp.array([-900.0, -900.5]))), jnp.ones(2), T=8.0)
    np.testing.assert_allclose(volume[1:] / volume[:-1], np.exp(-0.5), rtol=0.5)
    assert np.isfinite(volume).all()
    assert len(times) == 8


@pytest.mark.parametrize("dt", [5, 1])
def test_a_map_that_contracts_beyond_float64_in_an_interval_is_divided(dt):
    class Contraction:
        def step(self, n: Any, y: Any, args: Any) -> Any:
            return 1e-200 * y

    ls = cf.lyapunov_spectrum(Contraction(), jnp.array([0.3]), T=50, dt=dt)
    assert ls.exponents[0] == pytest.approx(-200 * np.log(10), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("units", [[1e-6, 1e6, 1.0], [1e-8, 1e3, 1.0]])
def test_the_units_of_the_coordinates_do_not_matter(units):
    units = jnp.array(units)

    def in_units(t: Any, y: Any, args: Any) -> Any:
        return units * lorenz(t, y / units, args)

    ls = cf.lyapunov_spectrum(
        in_units, units * jnp.array([1.0, 2.0, 3.0]), T=100.0, Ttr=20.0, atol=1e-16, blow_up=1e12
    )
    assert np.all(np.abs(ls.exponents - [0.9056, 0.0, -14.572]) < 4 * ls.stderr)
    assert ls.exponents.sum() == pytest.approx(-41 / 3, rel=1e-6)
    assert ls.stats["qr_interval"] >= 0.25
    assert ls.stats["steps"] < 5000
    V = np.asarray(ls.final_frame)
    np.testing.assert_allclose(V @ V.T, np.eye(3), atol=1e-12)


def test_a_maps_units_do_not_matter_either():
    units = jnp.array([1e-10, 1e6])

    class InUnits:
        def step(self, n: Any, y: Any, args: Any) -> Any:
            return units * Henon().step(n, y / units)

    ls = cf.lyapunov_spectrum(InUnits(), units * 0.1, T=2000, Ttr=100, blow_up=1e12)
    plain = cf.lyapunov_spectrum(Henon(), jnp.array([0.1, 0.1]), T=2000, Ttr=100)
    assert np.all(np.abs(ls.exponents - plain.exponents) < 4 * np.hypot(ls.stderr, plain.stderr))
    assert ls.exponents.sum() == pytest.approx(np.log(0.3), abs=1e-10)


def test_ordinary_coordinates_are_measured_as_they_are():
    assert cf.lyapunov_spectrum(lorenz, jnp.array([1.0, 2.0, 3.0]), T=3.0).tangent_system.units is None


# ------------------------------------------------------------------------------------------------- members that fail


def test_a_member_that_cannot_go_on_ends_alone():
    """ẏ = a − √y: with a = 0 it is at 0 at t = 4 and no more; with a = 1 it rests at 1, where the exponent is −1/2."""
    ensemble = cf.lyapunov_spectrum(
        lambda t, y, a: a - jnp.sqrt(y),
        jnp.full((12, 1), 4.0),
        args=jnp.r_[0.0, jnp.ones(11)],
        T=20.0,
        Ttr=30.0,
        dt=0.5,
        batch="systems",
    )
    assert ensemble[0].outcome.ending is Ending.STEP_TOO_SMALL
    assert ensemble[0].outcome.time == pytest.approx(4.0, abs=1e-5)
    assert "No interval was averaged" in ensemble[0].outcome.message
    np.testing.assert_allclose(ensemble.exponents[1:], -0.5, rtol=1e-4)
    assert all(outcome.ok for outcome in ensemble.outcome[1:])
    assert ensemble[1].T == 20.0


def test_a_member_that_is_not_a_number_from_the_start_ends_alone():
    ensemble = cf.lyapunov_spectrum(
        lambda t, y, args: -jnp.sqrt(y), jnp.array([[-2.0], [1.0]]), T=1.0, dt=0.1, batch="states"
    )
    assert [outcome.ending for outcome in ensemble.outcome] == [Ending.STEP_TOO_SMALL, Ending.COMPLETED]
    # From y = 1 to ¼ at t = 1: the tangent vector shrinks like √y.
    assert ensemble[1].exponents[0] == pytest.approx(np.log(0.5), rel=1e-7)
    assert str(ensemble)


@pytest.mark.slow
def test_stiff_members_leave_the_others_their_exponents():
    rates = jnp.array([1.0, 10.0, 100.0, 1e4])
    ensemble = cf.lyapunov_spectrum(
        lambda t, y, a: -a * y, jnp.ones((4, 1)), args=rates, T=10.0, batch="systems"
    )
    np.testing.assert_allclose(ensemble.exponents[:, 0], -rates, rtol=1e-6)
    short = cf.lyapunov_spectrum(
        lambda t, y, a: -a * y, jnp.ones((4, 1)), args=rates, T=10.0, batch="systems", max_steps=300
    )
    assert [outcome.ending is Ending.STEP_LIMIT for outcome in short.outcome] == [False, False, False, True]
    np.testing.assert_allclose(short.exponents[:3, 0], -rates[:3], rtol=1e-6)


# -------------------------------------------------------------------------------------------- what a system says itself


class SaysItself:
    """ẏ = −y − y³ with a tangent and a divergence of its own, each times a factor."""

    def __init__(self, tangent: Any = 1.0, divergence: Any = 1.0):
        self.factors = tangent, divergence

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return -y - y**3

    def tangent(self, t: Any, y: Any, V: Any, args: Any) -> Any:
        return -self.factors[0] * (1 + 3 * y**2) * V

    def divergence(self, t: Any, y: Any, args: Any) -> Any:
        return -self.factors[1] * jnp.sum(1 + 3 * y**2)


@pytest.mark.parametrize(
    ("factors", "name"), [((-1.0, 1.0), "tangent"), ((1.0, 1.001), "divergence"), ((1.001, 1.0), "tangent")]
)
def test_wrong_derivatives_of_its_own_are_refused(factors, name):
    with pytest.raises(
        ValueError, match=f"`{name}` that returns .* differs by .* from automatic differentiation"
    ):
        cf.lyapunov_spectrum(SaysItself(*factors), jnp.array([0.5, 1.0]), T=5.0)


def test_right_derivatives_of_its_own_are_taken():
    ls = cf.lyapunov_spectrum(SaysItself(), jnp.array([0.5, 1.0]), T=5.0)
    assert "add up" not in ls.outcome.message
    assert ls.mean_divergence == pytest.approx(ls.exponents.sum(), rel=1e-7)


def test_a_derivative_that_is_right_where_all_is_zero_is_refused_beside_it():
    class Switched:
        def __call__(self, t: Any, y: Any, args: Any) -> Any:
            return -jnp.sin(t) * y

        def tangent(self, t: Any, y: Any, V: Any, args: Any) -> Any:
            return jnp.sin(t) * V

    with pytest.raises(ValueError, match=r"at t = 0\.31831 beside y0"):
        cf.lyapunov_spectrum(Switched(), jnp.ones(1), T=5.0)


def test_a_sum_that_is_not_the_mean_divergence_is_told():
    state: Any = type("State", (), {"escape": np.inf})()
    run = replace(cf.lyapunov_spectrum(lorenz, jnp.ones(3), T=5.0).run, n=2)
    told = remarks(run, state, np.array([1.0, -2.0]), 5.0, intervals=9)
    assert len(told) == 1
    assert "add up to -1 and not to the mean divergence 5" in told[0]
    assert not remarks(run, state, np.array([1.0, -2.0]), -1.0, intervals=9)
    assert not remarks(run, state, np.array([1.0]), 5.0, intervals=9)


# ------------------------------------------------------------------------------------------------------ words, numbers


@pytest.mark.parametrize("r", [2.0, 1 + 5**0.5], ids=["fixed point", "period 2"])
def test_superstable_is_minus_infinity_in_words(r):
    ls = cf.lyapunov_spectrum(Logistic(r), jnp.asarray(0.3), T=200, Ttr=100)
    assert ls.exponents[0] == -np.inf
    assert "superstable" in ls.outcome.message
    assert ls.outcome.ok
    assert ls.kaplan_yorke == 0


def test_a_strongly_stable_cycle_is_not_superstable():
    class Product:
        def step(self, n: Any, y: Any, args: Any) -> Any:
            return jnp.stack([3.2 * y[0] * (1 - y[0]), 1e-20 * y[1]])

    ls = cf.lyapunov_spectrum(Product(), jnp.array([0.3, 0.1]), T=200, Ttr=100)
    assert ls.exponents[1] == pytest.approx(-20 * np.log(10), rel=1e-12)
    assert "superstable" not in ls.outcome.message


def test_nothing_is_claimed_of_averages_over_nothing():
    class Escaping:
        def step(self, n: Any, y: Any, args: Any) -> Any:
            return jnp.stack([1 - 1.75 * y[0] ** 2 + y[1], 0.3 * y[0]])

    ls = cf.lyapunov_spectrum(Escaping(), jnp.zeros(2), T=1000, Ttr=100)
    assert ls.kaplan_yorke is None
    assert "No interval was averaged" in ls.outcome.message
    assert "averages up to" not in ls.outcome.message
    assert "raise `blow_up`" in ls.outcome.message
    later = cf.lyapunov_spectrum(Escaping(), jnp.zeros(2), T=1000)
    assert "The exponents are averages up to there." in later.outcome.message


def test_the_kaplan_yorke_dimension_of_the_unknown_is_none():
    assert statistics.kaplan_yorke(np.array([np.nan, np.nan]), 2) is None
    assert statistics.kaplan_yorke(np.array([-0.9, np.nan]), 2) == 0
    assert statistics.kaplan_yorke(np.array([0.5, np.nan]), 2) is None
    assert statistics.kaplan_yorke(np.array([0.5, -np.inf]), 2) == 1
    assert cf.lyapunov_spectrum(lambda t, y, args: -0.9 * y, jnp.ones(1), T=1.0).kaplan_yorke is None


@pytest.mark.parametrize(
    ("solver", "other"), [("kvaerno5", "explicit solver"), ("dopri8", 'solver="kvaerno5"')]
)
def test_the_step_limit_names_another_solver(solver, other):
    ls = cf.lyapunov_spectrum(
        lambda t, y, args: -1e3 * (y - jnp.cos(t)), jnp.ones(1), T=5.0, max_steps=5, solver=solver
    )
    assert ls.outcome.ending is Ending.STEP_LIMIT
    assert other in ls.outcome.message
    assert solver not in ls.outcome.message


def test_lists_and_numbers_are_states():
    expected = cf.lyapunov_spectrum(lorenz, jnp.array([1.0, 2.0, 3.0]), T=3.0)
    assert cf.lyapunov_spectrum(lorenz, [1, 2.0, np.float64(3.0)], T=3.0) == expected


def test_numbers_among_the_arguments_compile_once():
    traces = []

    def field(t: Any, y: Any, rate: Any) -> Any:
        traces.append(1)
        return -rate * y

    class Step:
        def step(self, n: Any, y: Any, rate: Any) -> Any:
            traces.append(1)
            return rate * y

    step = Step()
    for run in (
        lambda rate: cf.lyapunov_spectrum(field, jnp.ones(1), T=3.0, args=rate),
        lambda rate: cf.iterate(step, jnp.ones(1), 20, args={"rate": rate}["rate"]),
    ):
        run(0.5)
        once = len(traces)
        run(0.25)
        # The check of the first state traces; no program does.
        assert len(traces) - once <= 1
