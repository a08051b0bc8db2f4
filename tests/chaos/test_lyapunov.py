"""Lyapunov spectra against exact and published values, and the contracts of their result."""

from functools import partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_systems import (
    GOLDEN,
    CatMap,
    Henon,
    Linear,
    Logistic,
    henon_heiles,
    henon_heiles_energy,
    lorenz,
    lorenz96,
    rossler,
    van_der_pol,
)

import curlflow as cf
from curlflow._compile import in_one_kernel
from curlflow.chaos import lyapunov_spectrum, statistics
from curlflow.chaos.engine import flow_steps, tangent_system
from curlflow.orbits import solvers
from curlflow.outcome import Ending

START = jnp.array([1.0, 2.0, 3.0])


def within(spectrum, values, errors=3.0):
    """Whether every value lies within so many standard errors of its exponent."""
    return np.abs(spectrum.exponents - values) <= errors * spectrum.stderr


# ------------------------------------------------------------------------------------------------ exact values


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_a_linear_flow_has_the_real_parts_of_its_eigenvalues(seed):
    A = jax.random.normal(jax.random.key(seed), (4, 4)) / 2
    ls = lyapunov_spectrum(Linear(A), jnp.zeros(4), T=3000.0, Ttr=1000.0, dt=2.0, rtol=1e-10)
    exact = np.sort(np.linalg.eigvals(np.asarray(A)).real)[::-1]
    # A complex pair shares its exponent with an oscillation of bounded size: 1/T is what is left of it.
    np.testing.assert_allclose(ls.exponents, exact, atol=3e-3)
    assert ls.exponents.sum() == pytest.approx(float(jnp.trace(A)), abs=1e-8)
    assert ls.outcome.ending is Ending.FIXED_POINT


def test_real_eigenvalues_are_found_exactly():
    basis = jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    A = basis @ jnp.diag(jnp.array([0.4, -0.3, -1.2])) @ jnp.linalg.inv(basis)
    ls = lyapunov_spectrum(Linear(A), jnp.zeros(3), T=50.0, Ttr=100.0, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ls.exponents, [0.4, -0.3, -1.2], atol=1e-11)
    assert ls.stderr.max() < 1e-11


def test_the_cat_map_is_exact():
    ls = lyapunov_spectrum(CatMap(), jnp.array([0.3, 0.1]), T=200, Ttr=30)
    np.testing.assert_allclose(ls.exponents, [np.log(GOLDEN), -np.log(GOLDEN)], atol=1e-13)
    assert ls.outcome.ok


@pytest.mark.slow
def test_a_stable_fixed_point_has_the_real_parts_of_its_eigenvalues_and_no_zero():
    def weak_lorenz(t, y, args):
        x, y, z = y
        return jnp.stack([10.0 * (y - x), x * (14.0 - z) - y, x * y - 8 / 3 * z])

    ls = lyapunov_spectrum(weak_lorenz, jnp.array([5.0, 6.0, 13.0]), T=2000.0, Ttr=200.0)
    eigenvalues = np.linalg.eigvals(np.asarray(cf.jacobian(weak_lorenz, ls.final_state))).real
    np.testing.assert_allclose(ls.exponents, np.sort(eigenvalues)[::-1], atol=2e-3)
    assert ls.outcome.ending is Ending.FIXED_POINT
    assert ls.exponents[0] < -0.1
    assert ls.kaplan_yorke == 0


@pytest.mark.slow
def test_a_limit_cycle_has_one_zero():
    ls = lyapunov_spectrum(
        van_der_pol, jnp.array([1.0, 1.0]), T=2000.0, Ttr=50.0, args=jnp.asarray(1.0), rtol=1e-9
    )
    assert abs(ls.exponents[0]) < 2e-3
    assert ls.exponents[1] < -1
    # Exponents alone do not tell a cycle from a slow way to a fixed point: see test_ending.py.
    assert ls.outcome.ending is Ending.COMPLETED
    assert "as on a limit cycle" in ls.outcome.message
    assert ls.kaplan_yorke == 1


@pytest.mark.slow
def test_the_toy_flow_has_two_zeros_inside_the_separatrix():
    ls = lyapunov_spectrum(cf.toy_flow(), jnp.array([0.5, 0.3]), T=4000.0, rtol=1e-10)
    # On circles of different radii the period differs: neighbours separate like t, and the exponent decays like log(T)/T.
    assert np.abs(ls.exponents).max() < 2 * np.log(4000.0) / 4000.0
    assert abs(ls.exponents.sum()) < 1e-4


def test_a_map_on_a_cycle_ends_as_one():
    ls = lyapunov_spectrum(Logistic(3.2), jnp.asarray(0.3), T=1000, Ttr=200)
    cycle = [float(ls.final_state), 3.2 * float(ls.final_state) * (1 - float(ls.final_state))]
    exact = np.mean([np.log(abs(3.2 * (1 - 2 * y))) for y in cycle])
    assert ls.exponents[0] == pytest.approx(exact, abs=1e-12)
    assert ls.outcome.ending is Ending.CYCLE
    assert "2 steps" in ls.outcome.message


# -------------------------------------------------------------------------------------------- published values


@pytest.fixture(scope="module")
def lorenz_spectrum():
    return lyapunov_spectrum(lorenz, START, T=4000.0, Ttr=50.0, rtol=1e-9, atol=1e-9)


def test_lorenz(lorenz_spectrum):
    assert within(lorenz_spectrum, [0.9056, 0.0, -14.5723]).all()
    assert lorenz_spectrum.exponents.sum() == pytest.approx(-41 / 3, abs=1e-6)
    assert lorenz_spectrum.mean_divergence == pytest.approx(-41 / 3, abs=1e-12)
    assert lorenz_spectrum.kaplan_yorke == pytest.approx(2.062, abs=2e-3)
    assert lorenz_spectrum.stderr[0] < 0.005
    assert lorenz_spectrum.outcome.ending is Ending.COMPLETED


def test_the_standard_error_shrinks_with_the_square_root_of_time(lorenz_spectrum):
    quarter = lyapunov_spectrum(lorenz, START, T=1000.0, Ttr=50.0, rtol=1e-9, atol=1e-9)
    assert 1.4 < quarter.stderr[0] / lorenz_spectrum.stderr[0] < 2.9


def test_the_error_of_the_exponent_along_the_flow_shrinks_like_one_over_time(lorenz_spectrum):
    # The rate along the orbit is the change of log |f|, a bounded function: its average over T is of the order 1/T.
    assert lorenz_spectrum.stderr[1] < 4.0 / lorenz_spectrum.T
    assert abs(lorenz_spectrum.exponents[1]) < 4.0 / lorenz_spectrum.T


def test_rossler():
    ls = lyapunov_spectrum(rossler, jnp.ones(3), T=6000.0, Ttr=500.0)
    assert within(ls, [0.0714, 0.0, -5.3943]).all()
    assert ls.exponents.sum() == pytest.approx(ls.mean_divergence, rel=1e-6)
    assert ls.kaplan_yorke == pytest.approx(2.013, abs=2e-3)


def test_henon():
    ls = lyapunov_spectrum(Henon(), jnp.array([0.1, 0.1]), T=100_000, Ttr=1000)
    assert within(ls, [0.4189, -1.6229]).all()
    assert ls.exponents.sum() == pytest.approx(np.log(0.3), abs=1e-12)
    assert ls.mean_divergence == pytest.approx(np.log(0.3), abs=1e-12)


def test_logistic():
    ls = lyapunov_spectrum(Logistic(4.0), jnp.asarray(0.3), T=100_000, Ttr=1000)
    assert within(ls, [np.log(2)]).all()
    assert ls.stderr[0] < 1e-3


@pytest.mark.slow
def test_lorenz_96():
    start = 8.0 + 0.01 * jax.random.normal(jax.random.key(0), (40,))
    ls = lyapunov_spectrum(lorenz96, start, T=800.0, Ttr=100.0)
    assert abs(ls.exponents[0] - 1.71) < 3 * np.hypot(0.02, ls.stderr[0])
    assert (ls.exponents > ls.resolution).sum() == 13
    assert ls.kaplan_yorke == pytest.approx(27.0, abs=0.3)
    assert ls.exponents.sum() == pytest.approx(-40, abs=1e-6)


@pytest.mark.slow
def test_henon_heiles_comes_in_pairs():
    start = {"q": jnp.array([0.0, -0.25]), "p": jnp.array([0.42081, 0.0])}
    ls = lyapunov_spectrum(henon_heiles, start, T=20_000.0, Ttr=100.0, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ls.exponents, -ls.exponents[::-1], atol=1e-3)
    assert abs(ls.exponents.sum()) < 1e-7
    assert 0.02 < ls.exponents[0] < 0.08
    drift = henon_heiles_energy(ls.final_state) - henon_heiles_energy(start)
    assert abs(float(drift)) < 1e-7


@pytest.mark.parametrize("times", [50, 300])
def test_a_constant_series_has_no_error(times):
    series = np.array([0.7, 0.0, -1e8]) + np.zeros((times, 3))
    np.testing.assert_allclose(statistics.standard_error(series), 0.0, atol=1e-6)


def test_error_bars_are_calibrated():
    """Of 600 runs from random starts, the stated 68 % interval covers the long-run value in 60–76 %, of all exponents."""
    starts = jnp.array([0.0, 0.0, 25.0]) + 5 * jax.random.normal(jax.random.key(11), (600, 3))
    runs = lyapunov_spectrum(lorenz, starts, T=300.0, Ttr=30.0, batch="states")
    covered = np.abs(runs.exponents - [0.9057, 0.0, -14.5724]) <= runs.stderr
    assert (covered.mean(axis=0) >= 0.60).all()
    assert (covered.mean(axis=0) <= 0.76).all()


# ------------------------------------------------------------------------------------------------- curl flows


def network(N=4, M=3, P=1, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    S = cf.ensembles.gaussian_weights(keys[0], N=N, M=M, P=P).end_to_end
    flow = cf.CurlFlow(S, d1=[-1.0] + [1.0] * (M - 1), d2=jnp.ones(N))
    return flow, cf.ensembles.gaussian_weights(keys[1], N=N, M=M, P=P)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda flow: flow, cf.NormConstrained], ids=["free", "norm-constrained"])
def test_the_sum_of_a_curl_flows_spectrum_is_its_mean_divergence(wrap):
    flow, W = network()
    ls = lyapunov_spectrum(wrap(flow), W, T=60.0, rtol=1e-10, atol=1e-12)
    assert ls.exponents.sum() == pytest.approx(ls.mean_divergence, rel=1e-6)


@pytest.mark.slow
def test_a_hand_written_tangent_and_autodiff_give_the_same_spectrum():
    flow, W = network()
    own = lyapunov_spectrum(flow, W, T=20.0)
    autodiff = lyapunov_spectrum(lambda t, y, args: flow(t, y, args), W, T=20.0)
    np.testing.assert_allclose(own.exponents, autodiff.exponents, atol=1e-7)


def test_reversing_time_negates_and_reverses_the_spectrum():
    A = Linear(jnp.array([[0.1, 1.0, 0.0], [-1.0, 0.1, 0.3], [0.0, 0.0, -0.7]]))
    forwards = lyapunov_spectrum(A, jnp.zeros(3), T=400.0, Ttr=200.0)
    backwards = lyapunov_spectrum(lambda t, y, args: -A(t, y), jnp.zeros(3), T=400.0, Ttr=200.0)
    np.testing.assert_allclose(backwards.exponents, -forwards.exponents[::-1], atol=2e-3)


@pytest.mark.slow
def test_reversing_a_curl_flow_at_a_solution_negates_and_reverses():
    flow, solution = cf.toy_flow(), jnp.array([2.0, 0.5])
    forwards = lyapunov_spectrum(flow, solution, T=50.0, Ttr=20.0)
    backwards = lyapunov_spectrum(lambda t, y, args: -flow(t, y), solution, T=50.0, Ttr=20.0)
    np.testing.assert_allclose(forwards.exponents, [3.75, 0.0], atol=1e-6)
    np.testing.assert_allclose(backwards.exponents, -forwards.exponents[::-1], atol=1e-6)


# --------------------------------------------------------------------------------------------------- contracts


def test_an_extended_run_is_exactly_one_long_run():
    short = lyapunov_spectrum(lorenz, START, T=70.0, Ttr=10.0)
    long = lyapunov_spectrum(lorenz, START, T=200.0, Ttr=10.0)
    extended = short.extend(200.0)
    np.testing.assert_array_equal(extended.local, long.local)
    np.testing.assert_array_equal(extended.times, long.times)
    np.testing.assert_array_equal(extended.final_state, long.final_state)
    assert short.T == 70.0


@pytest.mark.slow
def test_an_extended_map_and_an_extended_ensemble_are_exact_too():
    henon = lyapunov_spectrum(Henon(), jnp.array([0.1, 0.1]), T=50).extend(900)
    np.testing.assert_array_equal(henon.local, lyapunov_spectrum(Henon(), jnp.array([0.1, 0.1]), T=900).local)
    starts = jnp.stack([START, 2 * START])
    ensemble = lyapunov_spectrum(lorenz, starts, T=20.0, batch="states")
    whole = lyapunov_spectrum(lorenz, starts, T=50.0, batch="states")
    np.testing.assert_array_equal(ensemble.extend(50.0).exponents, whole.exponents)


def test_leading_exponents_are_those_of_the_full_spectrum():
    full = lyapunov_spectrum(lorenz, START, T=500.0, Ttr=20.0)
    leading = lyapunov_spectrum(lorenz, START, 1, T=500.0, Ttr=20.0)
    assert leading.exponents.shape == (1,)
    assert abs(leading.exponents[0] - full.exponents[0]) < 3 * np.hypot(leading.stderr[0], full.stderr[0])
    assert leading.mean_divergence is None
    assert leading.kaplan_yorke is None


def test_history_local_exponents_and_averages_fit_together():
    ls = lyapunov_spectrum(lorenz, START, T=60.0, Ttr=10.0, dt=0.5)
    assert ls.local.shape == (120, 3)
    np.testing.assert_allclose(ls.history[-1], ls.exponents, rtol=1e-12)
    np.testing.assert_allclose(ls.local.mean(axis=0), ls.exponents, rtol=1e-12)
    np.testing.assert_allclose(ls.times, 10.0 + 0.5 * np.arange(1, 121))
    np.testing.assert_allclose(ls.finite_time(5.0).mean(axis=0), ls.exponents, rtol=1e-12)
    assert (np.diff(ls.exponents) < 0).all()
    entropy, error = ls.entropy
    assert entropy == pytest.approx(ls.exponents[0], rel=1e-14)
    assert error == pytest.approx(ls.stderr[0], rel=1e-12)


def test_a_long_interval_is_divided_and_changes_nothing():
    short = lyapunov_spectrum(lorenz, START, T=200.0, Ttr=10.0, dt=0.5)
    long = lyapunov_spectrum(lorenz, START, T=200.0, Ttr=10.0, dt=10.0)
    assert long.stats["qr_interval"] < 2.0
    assert long.exponents.sum() == pytest.approx(-41 / 3, abs=1e-6)
    assert abs(long.exponents[2] - short.exponents[2]) < 3 * np.hypot(long.stderr[2], short.stderr[2])


def test_an_extreme_contraction_between_two_qrs_is_not_lost():
    ls = lyapunov_spectrum(Linear(jnp.diag(jnp.array([0.5, -900.0]))), jnp.zeros(2), T=20.0, Ttr=1.0)
    np.testing.assert_allclose(ls.exponents, [0.5, -900.0], rtol=1e-6)


def test_a_collapsing_direction_of_a_map_is_minus_infinity():
    class Projection:
        def step(self, n, y, args):
            return jnp.stack([0.5 * y[0], 0.0 * y[1]])

    ls = lyapunov_spectrum(Projection(), jnp.ones(2), T=50, Ttr=2)
    assert ls.exponents[0] == pytest.approx(np.log(0.5), rel=1e-14)
    assert ls.exponents[1] == -np.inf


def test_a_run_that_would_take_days_says_so_soon():
    with pytest.raises(ValueError, match="`T` and `Ttr` must be so short that the run ends within a day"):
        lyapunov_spectrum(lambda t, y, args: y**2 - y, jnp.array([0.1]), T=1e14)


def test_blow_up_keeps_what_was_computed():
    ls = lyapunov_spectrum(lambda t, y, args: y**2, jnp.array([0.1]), T=100.0)
    assert ls.outcome.ending is Ending.BLEW_UP
    assert ls.outcome.time == pytest.approx(10.0, abs=1e-3)
    assert ls.times[-1] == 9.0
    # ẏ = y²: the tangent vector grows like (1 − y0 t)⁻².
    assert ls.exponents[0] == pytest.approx(-2 * np.log(0.1) / 9.0, rel=1e-6)


@pytest.mark.slow
def test_a_member_that_blows_up_leaves_the_others_alone():
    starts = jnp.array([[0.1], [-1.0], [0.02]])
    field = lambda t, y, args: y**2 - 1e-9  # noqa: E731
    ensemble = lyapunov_spectrum(field, starts, T=30.0, batch="states", rtol=1e-10)
    assert [outcome.ending is Ending.BLEW_UP for outcome in ensemble.outcome] == [True, False, False]
    for member in (1, 2):
        alone = lyapunov_spectrum(field, starts[member], T=30.0, rtol=1e-10)
        np.testing.assert_allclose(ensemble[member].exponents, alone.exponents, rtol=1e-7)
    assert ensemble[0].times[-1] == 9.0
    assert np.isfinite(ensemble.exponents).all()


@pytest.mark.slow
def test_members_of_a_large_ensemble_are_what_they_are_alone():
    starts = START + jax.random.normal(jax.random.key(1), (70, 3))
    options = {"Ttr": 2.0, "rtol": 1e-10, "atol": 1e-12}
    ensemble = lyapunov_spectrum(lorenz, starts, T=3.0, batch="states", **options)
    assert ensemble.run.state.steps.shape == (3,)
    whole = lyapunov_spectrum(lorenz, starts, T=7.0, batch="states", **options)
    np.testing.assert_array_equal(ensemble.extend(7.0).exponents, whole.exponents)
    assert len(whole) == 70
    keys = jax.random.split(jax.random.key(0), 70)
    for member in (0, 23, 24, 69):
        alone = lyapunov_spectrum(lorenz, starts[member], T=3.0, key=keys[member], **options)
        np.testing.assert_allclose(ensemble[member].local, alone.local, atol=1e-5)
        np.testing.assert_allclose(ensemble[member].final_state, alone.final_state, rtol=1e-5)
        np.testing.assert_allclose(ensemble[member].final_frame, alone.final_frame, atol=1e-5)


@pytest.mark.slow
def test_systems_of_a_large_ensemble_keep_their_own_exponents():
    rates = jnp.linspace(-1.0, 0.5, 150)
    matrices = jax.vmap(jnp.diag)(jnp.stack([rates, rates - 1], axis=1))
    ensemble = lyapunov_spectrum(Linear(matrices), jnp.zeros((150, 2)), T=20.0, Ttr=60.0, batch="systems")
    assert ensemble.run.state.steps.shape == (3,)
    np.testing.assert_allclose(ensemble.exponents, np.stack([rates, rates - 1], axis=1), atol=1e-6)


@pytest.mark.slow
def test_a_block_of_members_that_cannot_go_on_leaves_the_others_alone():
    # y² = y0² − t: singular at y = 0, which only the members of the second block reach.
    starts = jnp.where(jnp.arange(250) < 128, 100.0, 3.0)[:, None]
    field = lambda t, y, args: -0.5 / y  # noqa: E731
    ensemble = lyapunov_spectrum(field, starts, T=20.0, batch="states").extend(25.0)
    first, second = ensemble[0], ensemble[249]
    assert first.T == 25.0
    assert first.final_state[0] == pytest.approx(np.sqrt(1e4 - 25), rel=1e-7)
    assert first.exponents[0] == pytest.approx(-np.log(1 - 25e-4) / 2 / 25, rel=1e-6)
    assert second.outcome.ending is Ending.STEP_TOO_SMALL
    assert second.outcome.time == pytest.approx(9.0, abs=1e-5)
    assert second.T == 8.0
    assert second.exponents[0] == pytest.approx(np.log(9) / 2 / 8, rel=1e-6)
    with pytest.raises(ValueError, match="able to go on"):
        lyapunov_spectrum(field, starts[128:], T=20.0, batch="states").extend(25.0)


@pytest.mark.slow
def test_an_ensemble_of_systems_gives_each_its_own_exponents():
    rates = jnp.array([[[-1.0, 0.0], [0.0, -2.0]], [[0.5, 0.0], [0.0, 0.25]]])
    ensemble = lyapunov_spectrum(Linear(rates), jnp.zeros((2, 2)), T=50.0, batch="systems", Ttr=80.0)
    np.testing.assert_allclose(ensemble.exponents, [[-1.0, -2.0], [0.5, 0.25]], atol=1e-6)
    maps = lyapunov_spectrum(Logistic(jnp.array([4.0, 3.2])), jnp.array([0.3, 0.3]), T=2000, batch="systems")
    assert abs(maps.exponents[0, 0] - np.log(2)) < 0.01
    assert maps.outcome[1].ending is Ending.CYCLE


@pytest.mark.slow
def test_plain_diffrax_solvers_agree_with_the_unrolled_ones():
    options = {"T": 20.0, "rtol": 1e-10, "atol": 1e-12, "dt": 0.5}
    y0 = jnp.array([0.5, 0.3])
    ours = lyapunov_spectrum(cf.toy_flow(), y0, **options)
    for solver in (diffrax.Dopri8(), diffrax.Tsit5(), "tsit5", "kvaerno5"):
        theirs = lyapunov_spectrum(cf.toy_flow(), y0, solver=solver, **options)
        np.testing.assert_allclose(theirs.local, ours.local, atol=1e-7)


def test_the_same_key_gives_the_same_frame_and_another_key_another():
    runs = [lyapunov_spectrum(lorenz, START, T=3.0, key=jax.random.key(seed)).local for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_run_too_short_for_its_transient_is_not_converged():
    ls = lyapunov_spectrum(lambda t, y, args: -(y**3), jnp.array([1.0]), T=400.0)
    assert ls.outcome.ending is Ending.NOT_CONVERGED
    assert "Ttr" in ls.outcome.message
    assert not ls.outcome.ok


def test_a_spectrum_prints_itself_and_converts(lorenz_spectrum, tmp_path):
    text = str(lorenz_spectrum)
    assert "3 of 3 exponents over T = 4000" in text
    assert "±" in text
    assert "completed" in text
    dataset = lorenz_spectrum.to_xarray()
    np.testing.assert_array_equal(dataset.exponents, lorenz_spectrum.exponents)
    assert dataset.attrs["solver"] == "Dopri8"
    dataset.to_netcdf(tmp_path / "spectrum.nc")


BAD = {
    "k must lie between 1 and": {"k": 4},
    "`k` must be at least 1": {"k": 0},
    "`T` must be positive": {"T": 0.0},
    "`dt` must not be longer": {"dt": 20.0},
    "`dt` must be positive": {"dt": -1.0},
    "`Ttr` must not be negative": {"Ttr": -1.0},
    "`rtol` must": {"rtol": 1e-20},
    "`solver` must be one of": {"solver": "euler"},
    "`blow_up` must exceed": {"blow_up": 0.5},
    "`batch` must be one of": {"batch": "rows"},
}


@pytest.mark.parametrize(("message", "options"), BAD.items(), ids=BAD.keys())
def test_bad_arguments_are_refused_in_words(message, options):
    with pytest.raises(ValueError, match=message.replace("k must", "`k` must")):
        lyapunov_spectrum(lorenz, START, **({"T": 10.0} | options))


@pytest.mark.parametrize(
    "option", [{"rtol": 1e-9}, {"atol": 1e-9}, {"solver": "tsit5"}, {"max_steps": 5}, {"dtmax": 0.1}]
)
def test_a_maps_run_refuses_a_flows_options(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be left out for a map"):
        lyapunov_spectrum(Henon(), jnp.zeros(2), T=10, **option)


def test_a_maps_interval_is_a_whole_number_of_steps():
    with pytest.raises(ValueError, match="whole number of steps"):
        lyapunov_spectrum(Henon(), jnp.zeros(2), T=10, dt=1.5)


def test_extension_refuses_what_it_cannot_do():
    ls = lyapunov_spectrum(lambda t, y, args: y**2, jnp.array([0.1]), T=100.0)
    with pytest.raises(ValueError, match="ended early"):
        ls.extend(200.0)
    ensemble = lyapunov_spectrum(Henon(), jnp.zeros((2, 2)), T=10, batch="states")
    with pytest.raises(ValueError, match="`T` must be longer"):
        ensemble.extend(10)
    with pytest.raises(ValueError, match="whole ensemble"):
        ensemble[0].extend(20)


def test_the_step_limit_ends_a_run_with_an_outcome():
    ls = lyapunov_spectrum(lorenz, START, T=50.0, max_steps=5)
    assert ls.outcome.ending is Ending.STEP_LIMIT
    assert "max_steps" in ls.outcome.message


# ---------------------------------------------------------------------------------------------- explained zeros


@pytest.mark.slow
def test_the_zeros_of_a_solution_manifold_are_counted_by_rank():
    flow, W = network(N=3, M=2)
    ls = lyapunov_spectrum(flow, W, T=400.0, Ttr=200.0)
    assert ls.outcome.ending is Ending.FIXED_POINT
    zeros = ls.zeros()
    # N (M + P) − P M directions along the manifold.
    assert (zeros.manifold, zeros.observed, zeros.unexplained) == (7, 7, 0)


def test_the_zeros_of_a_moving_network_come_from_rotations_and_conserved_quantities():
    flow, W = network(N=3, M=2)
    zeros = lyapunov_spectrum(flow, W, 1, T=1.0, dt=0.5).zeros()
    # Three rotations; six conserved inner products, of which three do not commute with the rotations.
    assert (zeros.time_shift, zeros.symmetries, zeros.conserved, zeros.manifold) == (1, 3, 3, 0)


def test_the_toy_flow_has_one_zero_from_time_and_one_from_its_circle():
    zeros = lyapunov_spectrum(cf.toy_flow(), jnp.array([0.5, 0.3]), T=2000.0).zeros()
    assert (zeros.time_shift, zeros.conserved, zeros.observed, zeros.unexplained) == (1, 1, 2, 0)


def test_a_users_conserved_quantity_explains_a_zero():
    start = {"q": jnp.array([0.0, 0.1]), "p": jnp.array([0.2, 0.05])}
    ls = lyapunov_spectrum(henon_heiles, start, T=100.0)
    assert ls.zeros().explained == 1
    assert ls.zeros(conserved=henon_heiles_energy).explained == 2
    assert "conserved quantities 1" in str(ls.zeros(conserved=henon_heiles_energy))


def test_a_forced_flow_has_no_zero_from_time():
    ls = lyapunov_spectrum(lambda t, y, args: -y + jnp.cos(t), jnp.ones(1), T=50.0)
    assert ls.zeros().explained == 0
    with pytest.raises(ValueError, match="must be asked of a flow"):
        lyapunov_spectrum(Henon(), jnp.zeros(2), T=10).zeros()


# ------------------------------------------------------------------------------------------- how it is computed


@pytest.mark.slow
def test_blocks_of_tangent_vectors_and_loops_over_stages_change_nothing(monkeypatch):
    flow, W = network(N=4, M=3)
    exponents = []
    for numbers in (flow_steps.LARGEST_BLOCK, 20):  # five tangent vectors of 16 numbers: four blocks
        monkeypatch.setattr(flow_steps, "LARGEST_BLOCK", numbers)
        for room in (tangent_system, flow_steps):
            monkeypatch.setattr(room, "LARGEST_PACKED", numbers)
        monkeypatch.setattr(solvers, "LARGEST_UNROLLED", numbers)
        jax.clear_caches()
        exponents.append(lyapunov_spectrum(cf.NormConstrained(flow), W, 5, T=5.0).exponents)
    jax.clear_caches()
    np.testing.assert_allclose(exponents[1], exponents[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda y, args: jnp.linalg.solve(args, y), id="library call", marks=pytest.mark.slow),
        pytest.param(lambda y, args: args @ (args @ y), id="products"),
        pytest.param(
            lambda y, args: y.at[jnp.argsort(y)].set(jnp.sort(y)),
            id="sort and scatter",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda y, args: jnp.sin(jnp.sum(args)) * 0 + y, id="superfluous argument"),
    ],
)
def test_a_kernel_of_all_steps_takes_any_vector_field(change):
    """All of these change y by nothing, whether or not their operations fit into one kernel."""
    A = jnp.array([[-0.5, 2.0, 0.0], [-2.0, -0.5, 1.0], [0.3, 0.0, -1.0]])
    y0 = jnp.array([1.0, -0.5, 2.0])
    exponents = [
        lyapunov_spectrum(lambda t, y, args, f=f: A @ f(y, args), y0, args=jnp.eye(3), T=20.0).exponents
        for f in (lambda y, args: y, change)
    ]
    np.testing.assert_allclose(exponents[1], exponents[0], rtol=0, atol=1e-9)


def test_a_loop_in_one_kernel_gives_what_the_loop_gives():
    def loop(start):
        unused = jnp.ones(3)

        def body(carry):
            i, y, unused = carry
            return i + 1, y + 0.1 * jnp.stack([-y[1], y[0]]), unused

        return jax.lax.while_loop(lambda carry: carry[0] < 50, body, (0, start, unused))[1]

    kernel = jax.jit(partial(in_one_kernel, loop))
    start = jnp.array([1.0, 0.0])
    assert "xla_cpu_small_call" in kernel.lower(start).as_text()
    np.testing.assert_allclose(kernel(start), loop(start), rtol=1e-13)
