"""Spectra from small symmetric problems against the full Jacobian by autodiff, and samples against their law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf
from curlflow.manifold import origin_spectrum, sample_stability, transverse_spectrum
from curlflow.random_matrix import finite_size_margin, instability_probability, is_stable, stability_margin

# (N, M, P, rank of C, distribution); rank None is C = I.
NETWORKS = [
    (7, 4, 1, None, "gaussian"),
    (5, 6, 1, 6, "uniform"),
    (7, 4, 2, 4, "gaussian"),
    (3, 5, 2, None, "uniform"),
    (5, 4, 7, 4, "gaussian"),
    (6, 5, 2, 3, "gaussian"),
]


def covariance(M, rank, seed=0):
    root = np.random.default_rng(seed).normal(size=(M, rank))
    return root @ root.T


def network(N, M, P, rank, weights, seed=0):
    rng = np.random.default_rng(seed)
    draw = cf.ensembles.gaussian_weights if weights == "gaussian" else cf.ensembles.uniform_weights
    W = draw(jax.random.key(seed), N=N, M=M, P=P)
    C = None if rank is None else covariance(M, rank, seed)
    return cf.CurlFlow(W.end_to_end, rng.choice([-1, 1], M), rng.choice([-1, 1], N), C), W


def autodiff_eigenvalues(flow, W):
    return np.linalg.eigvals(np.asarray(cf.jacobian(flow, W)))


def origin_of(flow):
    (P, M), (N,) = flow.S.shape, flow.d2.shape
    return cf.Weights(jnp.zeros((N, M)), jnp.zeros((P, N)))


# ------------------------------------------------------------------------------------- the solution manifold


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", NETWORKS)
def test_full_spectrum_is_that_of_the_jacobian(sizes, seed):
    flow, W = network(*sizes, seed=seed)
    spectrum = transverse_spectrum(flow, W)
    full = autodiff_eigenvalues(flow, W)
    np.testing.assert_allclose(full.imag, 0, atol=1e-9)
    np.testing.assert_allclose(np.sort(spectrum.all_eigenvalues()), np.sort(full.real), atol=1e-9)
    assert np.all(np.diff(spectrum.all_eigenvalues()) <= 0)
    assert np.all(np.diff(spectrum.eigenvalues, axis=1) <= 0)
    np.testing.assert_allclose(spectrum.readout_gains, np.linalg.eigvalsh(W.W2 @ W.W2.T), atol=1e-12)


@pytest.mark.parametrize("sizes", NETWORKS)
def test_zeros_are_the_directions_along_the_manifold(sizes):
    flow, W = network(*sizes)
    spectrum, point = transverse_spectrum(flow, W), cf.classify(flow, W)
    assert point.n_manifold == spectrum.n_manifold
    assert point.n_unstable == spectrum.n_unstable
    assert spectrum.stable == (point.kind == "stable node")


@pytest.mark.parametrize("seed", range(5))
def test_stability_does_not_depend_on_the_covariance(seed):
    flow, W = network(9, 5, 2, None, "gaussian", seed)
    spectra = [transverse_spectrum(flow, W)]
    for other in range(4):
        C = covariance(5, 5, other) * 10.0 ** (other - 2)
        spectra.append(transverse_spectrum(cf.CurlFlow(flow.S, flow.d1, flow.d2, C), W))
    assert len({spectrum.n_unstable for spectrum in spectra}) == 1
    assert len({round(spectrum.leading, 9) for spectrum in spectra}) == len(spectra)


def test_gradient_flow_contracts_and_gradient_ascent_expands():
    flow, W = network(7, 4, 2, 4, "gaussian")
    descent = transverse_spectrum(flow.gradient_flow(), W)
    ascent = transverse_spectrum(cf.CurlFlow(flow.S, -np.ones(4), -np.ones(7), flow.C), W)
    assert descent.stable
    assert descent.n_unstable == 0
    assert ascent.n_unstable == 8
    np.testing.assert_allclose(np.sort(ascent.eigenvalues), np.sort(-descent.eigenvalues), rtol=1e-12)


def test_the_result_says_what_it_is():
    flow, W = network(7, 4, 2, None, "gaussian")
    spectrum = transverse_spectrum(flow.gradient_flow(), W)
    assert str(spectrum).startswith(
        "TransverseSpectrum: 8 eigenvalues across a 34-dimensional manifold, stable,"
    )
    data = spectrum.to_xarray()
    assert data["eigenvalue"].dims == ("output", "mode")
    np.testing.assert_array_equal(data["readout_gain"], spectrum.readout_gains)


# ------------------------------------------------------------------------------------------------ the origin


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", NETWORKS)
def test_spectrum_at_the_origin_is_that_of_the_jacobian(sizes, seed):
    flow, _ = network(*sizes, seed=seed)
    spectrum = origin_spectrum(flow)
    full = autodiff_eigenvalues(flow, origin_of(flow))
    # Every eigenvalue is real or imaginary, so its square tells it up to a sign; pairs have both.
    np.testing.assert_allclose(np.sort((spectrum.eigenvalues**2).real), np.sort((full**2).real), atol=1e-9)
    np.testing.assert_allclose((full**2).imag, 0, atol=1e-9)
    assert np.all(np.diff(spectrum.eigenvalues.real) <= 0)
    assert 2 * (spectrum.n_saddle_planes + spectrum.n_centre_planes) + spectrum.n_zero == full.size
    assert spectrum.n_saddle_planes == np.sum(full.real > 1e-6)
    assert spectrum.n_centre_planes == np.sum(full.imag > 1e-6)


def test_saddles_and_centres_swap_when_sigma_is_negative():
    d2 = [1, 1, 1, -1]
    positive = origin_spectrum(cf.CurlFlow([2.0, 1.0], [1, -1], d2))
    negative = origin_spectrum(cf.CurlFlow([1.0, 2.0], [1, -1], d2))
    assert positive.teacher_gains == pytest.approx([3])
    assert negative.teacher_gains == pytest.approx([-3])
    assert (positive.n_saddle_planes, positive.n_centre_planes) == (3, 1)
    assert (negative.n_saddle_planes, negative.n_centre_planes) == (1, 3)
    assert str(negative) == "OriginSpectrum: 1 saddle planes, 3 centre planes, 4 zero eigenvalues"
    data = negative.to_xarray()
    np.testing.assert_array_equal(data["real"] + 1j * data["imaginary"], negative.eigenvalues)
    np.testing.assert_array_equal(data["teacher_gain"], negative.teacher_gains)


def test_teacher_gains_that_cancel_are_zero():
    spectrum = origin_spectrum(cf.CurlFlow([0.1 + 0.2, 0.3], [1, -1], [1, -1, 1]))
    assert (spectrum.n_saddle_planes, spectrum.n_centre_planes, spectrum.n_zero) == (0, 0, 9)


# ------------------------------------------------------------------------------------------- random networks


@pytest.mark.parametrize("P", [1, 3])
def test_margins_are_the_slowest_rates_of_the_drawn_networks(P):
    N, M = 20, 8
    sample = sample_stability(
        jax.random.key(3), N=N, M=M, P=P, alpha_h=0.3, alpha_r=0.1, kappa=2.0, samples=4
    )
    draws = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(3))))
    d1, d2 = cf.ensembles.sign_pattern(M, fraction=0.3), cf.ensembles.sign_pattern(N, fraction=0.1)
    for margin in sample.margins:
        W1, W2 = draws.standard_normal((N, M)) / np.sqrt(M), draws.standard_normal((P, N)) * np.sqrt(2 / N)
        W = cf.Weights(W1, W2)
        spectrum = transverse_spectrum(cf.CurlFlow(W.end_to_end, d1, d2), W)
        assert margin == pytest.approx(-spectrum.leading, abs=1e-12)


def test_same_key_same_networks():
    sizes = {"N": 20, "M": 8, "alpha_h": 0.5, "samples": 3}
    first, again = (sample_stability(jax.random.key(1), **sizes).margins for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == sample_stability(jax.random.key(2), **sizes).margins)


def test_probability_counts_the_unstable_networks():
    sample = sample_stability(jax.random.key(0), N=40, M=16, alpha_h=0.5, samples=60)
    assert sample.probability == np.mean(sample.margins <= 0)
    assert 0 < sample.probability < 1
    p = sample.probability
    assert sample.standard_error == pytest.approx(np.sqrt(p * (1 - p) / 60), rel=0.05)
    assert str(sample).startswith(f"StabilitySample: {round(60 * p)} of 60 networks unstable")
    stable = sample_stability(jax.random.key(0), N=40, M=8, samples=20)
    assert stable.probability == 0
    assert stable.standard_error > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("N", "M", "alpha_h", "alpha_r", "weights"),
    [(400, 120, 0.5, 0.0, "gaussian"), (400, 120, 0.5, 0.0, "uniform"), (200, 200, 0.0, 0.05, "gaussian")],
)
def test_margins_of_finite_networks_have_the_predicted_mean_and_spread(N, M, alpha_h, alpha_r, weights):
    samples = 300
    arguments = {"N": N, "M": M, "alpha_h": alpha_h, "alpha_r": alpha_r}
    sample = sample_stability(jax.random.key(1), **arguments, weights=weights, samples=samples)
    kurtosis = 3.0 if weights == "gaussian" else 9 / 5
    margin = finite_size_margin(**arguments, kurtosis=kurtosis)
    mean, deviation = float(margin.mean), float(margin.standard_deviation)
    assert sample.margins.std() == pytest.approx(deviation, rel=0.15)  # its own standard error is 4 %
    assert sample.margins.mean() == pytest.approx(mean, abs=3 * deviation / np.sqrt(samples))
    predicted = float(instability_probability(**arguments, kurtosis=kurtosis))
    assert sample.probability == pytest.approx(predicted, abs=3 * sample.standard_error)


@pytest.mark.parametrize(
    ("N", "M", "alpha_h", "alpha_r"),
    [(150, 50, 0.5, 0.0), (60, 60, 0.0, 1 / 15), (20, 8, 0.5, 0.0), (40, 20, 0.0, 0.2), (100, 40, 0.1, 0.03)],
)
def test_samples_agree_with_the_probability_of_instability(N, M, alpha_h, alpha_r):
    sample = sample_stability(jax.random.key(3), N=N, M=M, alpha_h=alpha_h, alpha_r=alpha_r, samples=2000)
    predicted = float(instability_probability(N, M, alpha_h, alpha_r))
    assert 0.2 < sample.probability < 0.8
    assert sample.probability == pytest.approx(predicted, abs=0.03)


def test_one_flipped_unit_destabilises_as_often_as_predicted():
    for layer, N, M in (("alpha_h", 60, 42), ("alpha_h", 10, 6), ("alpha_r", 20, 20)):
        flips = {"alpha_h": 0.0, "alpha_r": 0.0, layer: 1 / (M if layer == "alpha_h" else N)}
        sample = sample_stability(jax.random.key(4), N=N, M=M, **flips, samples=2000)
        predicted = float(instability_probability(N, M, **flips))
        assert sample.probability == pytest.approx(predicted, abs=0.03)


@pytest.mark.slow
def test_large_networks_are_stable_on_one_side_of_the_boundary_and_unstable_on_the_other():
    for c, stable in ((0.25, True), (0.4, False)):
        M = 600
        sample = sample_stability(jax.random.key(2), N=round(M / c), M=M, alpha_h=0.5, samples=5)
        assert bool(is_stable(c, 0.5, 0.0)) == stable
        np.testing.assert_array_equal(sample.unstable, not stable)
        assert sample.margins.mean() == pytest.approx(float(stability_margin(c, 0.5, 0.0)), abs=0.1)


# ------------------------------------------------------------------------------------------- wrong arguments


def test_wrong_arguments_are_refused_in_a_sentence():
    flow, W = network(4, 3, 1, None, "gaussian")
    off = cf.Weights(W.W1 + 0.1, W.W2)
    with pytest.raises(
        ValueError, match=r"`W` must lie on the solution manifold W2 W1 = S, but the error map's norm"
    ):
        transverse_spectrum(flow, off)
    with pytest.raises(ValueError, match=r"`W1` must have shape \(N, M\) = \(4, 3\), but"):
        transverse_spectrum(flow, cf.Weights(jnp.zeros((3, 3)), W.W2))
    with pytest.raises(ValueError, match=r"`flow` must be a CurlFlow, but is ToyFlow\."):
        transverse_spectrum(cf.toy_flow(), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"`flow` must be a CurlFlow, but is str\."):
        origin_spectrum("flow")
    narrow, V = network(2, 3, 3, None, "gaussian")
    with pytest.raises(
        ValueError, match=r"at least as many hidden units as inputs or outputs, but N = 2, M = 3, P = 3"
    ):
        transverse_spectrum(narrow, V)
    with pytest.raises(
        ValueError, match=r"`weights` must be one of 'gaussian', 'uniform', but is 'cauchy'\."
    ):
        sample_stability(jax.random.key(0), N=3, M=3, weights="cauchy")
    with pytest.raises(ValueError, match=r"`alpha_h` must lie between 0 and 1, but is 1\.5\."):
        sample_stability(jax.random.key(0), N=3, M=3, alpha_h=1.5)
    with pytest.raises(ValueError, match=r"`kappa` must be positive, but is 0\."):
        sample_stability(jax.random.key(0), N=3, M=3, kappa=0.0)
    with pytest.raises(ValueError, match=r"`N` must be at least 1, but is 0\."):
        sample_stability(jax.random.key(0), N=0, M=3)
