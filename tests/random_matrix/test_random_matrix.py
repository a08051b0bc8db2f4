"""The limiting law against exact special cases, sampled networks, and itself by another route."""

from itertools import pairwise
from math import inf

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from curlflow.random_matrix import (
    critical_alpha,
    finite_size_margin,
    instability_probability,
    instability_window,
    is_stable,
    lowest_outlier,
    spectral_atoms,
    spectral_cdf,
    spectral_density,
    spectral_edges,
    stability_boundary,
    stability_margin,
)

# (c, αh, αr, κ): one band, two, two beside an atom, four beside one and two atoms, one outside the paper's κ = 1.
LAWS = [
    (0.25, 0.5, 0.0, 1.0),
    (1.0, 0.0, 0.05, 1.0),
    (2.0, 0.1, 0.0, 0.4),
    (4.0, 0.3, 0.2, 1.0),
    (5.0, 0.4, 0.3, 1.0),
    (0.5, 0.2, 0.1, 2.5),
]

ratios = st.floats(0.02, 20.0)
fractions = st.floats(0.0, 1.0)
inner_fractions = st.floats(0.01, 0.99)
variance_ratios = st.floats(0.1, 5.0)


def sampled_eigenvalues(c, alpha_h, alpha_r, kappa, M, seed=0):
    rng = np.random.default_rng(seed)
    N = round(M / c)
    W1 = rng.normal(size=(N, M)) / np.sqrt(M)
    d1 = np.where(np.arange(M) < round(alpha_h * M), -1.0, 1.0)
    d2 = np.where(np.arange(N) < round(alpha_r * N), -1.0, 1.0)
    return np.linalg.eigvalsh(kappa * np.diag(d1) + W1.T @ (d2[:, None] * W1))


def band_nodes(law, points=400):
    """Quadrature nodes and weights on every band, exact for the square roots at the edges."""
    angle = (np.arange(points) + 0.5) * np.pi / points
    left, right = np.asarray(spectral_edges(*law)).reshape(-1, 2, 1).swapaxes(0, 1)
    half = (right - left) / 2
    return left + half * (1 - np.cos(angle)), half * np.sin(angle) * np.pi / points


def integral(law, function):
    nodes, weights = band_nodes(law)
    atoms = spectral_atoms(*law)
    return np.sum(weights * np.asarray(spectral_density(nodes, *law)) * function(nodes)) + np.sum(
        np.asarray(atoms.masses) * function(np.asarray(atoms.positions))
    )


# ------------------------------------------------------------------------------------------- the law itself


@pytest.mark.parametrize("law", [*LAWS, (1.0, 0.0, 0.0, 1.0), (0.5, 1e-6, 1e-7, 1.0), (1.0, 1.0, 1.0, 0.5)])
def test_density_and_atoms_have_the_exact_mass_mean_and_variance(law):
    c, alpha_h, alpha_r, kappa = law
    mean = kappa * (1 - 2 * alpha_h) + (1 - 2 * alpha_r) / c
    variance = 4 * kappa**2 * alpha_h * (1 - alpha_h) + 1 / c  # second free cumulants add
    assert integral(law, np.ones_like) == pytest.approx(1, abs=1e-12)
    assert integral(law, lambda x: x) == pytest.approx(mean, abs=1e-12)
    assert integral(law, lambda x: (x - mean) ** 2) == pytest.approx(variance, abs=1e-11)


@pytest.mark.slow
@given(st.integers(1, 200), st.integers(0, 20), st.integers(0, 20), variance_ratios)
@example(20, 0, 10, 1.0)  # a divergence inside the band
@example(60, 15, 15, 1.0)  # a cusp
def test_mass_is_one_everywhere(twentieths_of_c, twentieths_hidden, twentieths_readout, kappa):
    law = (twentieths_of_c / 20, twentieths_hidden / 20, twentieths_readout / 20, kappa)
    density = jax.jit(spectral_density)
    mass = np.sum(spectral_atoms(*law).masses)
    for left, right in np.asarray(spectral_edges(*law)).reshape(-1, 2):
        cuts = [left, *(x for x in (-kappa, kappa) if left < x < right), right]
        mass += sum(quad(density, *ends, args=law, limit=500)[0] for ends in pairwise(cuts))
    assert mass == pytest.approx(1, abs=1e-6)


@given(ratios, variance_ratios, st.floats(0.001, 0.999))
def test_without_flips_it_is_marchenko_pastur(c, kappa, position):
    left, right = (1 - np.sqrt(c)) ** 2 / c, (1 + np.sqrt(c)) ** 2 / c
    np.testing.assert_allclose(spectral_edges(c, 0.0, 0.0, kappa), [kappa + left, kappa + right], rtol=1e-13)
    y = left + (right - left) * position
    density = np.sqrt((right - y) * (y - left)) / (2 * np.pi * y)
    assert spectral_density(kappa + y, c, 0.0, 0.0, kappa) == pytest.approx(density, rel=1e-6)


@given(ratios, fractions, fractions, variance_ratios)
def test_flipping_every_unit_mirrors_the_spectrum(c, alpha_h, alpha_r, kappa):
    # Fractions whose complement is exact: otherwise a law with 1e-20 of a layer flipped is compared with one with none.
    alpha_h, alpha_r = (round(alpha * 2**50) / 2**50 for alpha in (alpha_h, alpha_r))
    law, mirrored = (c, alpha_h, alpha_r, kappa), (c, 1 - alpha_h, 1 - alpha_r, kappa)
    edges, scale = np.asarray(spectral_edges(*law)), kappa + 4 / c
    np.testing.assert_allclose(spectral_edges(*mirrored), -edges[::-1], atol=1e-12 * scale)
    x = np.linspace(edges[0], edges[-1], 11)[1:-1]
    np.testing.assert_allclose(spectral_cdf(x, *law), 1 - spectral_cdf(-x, *mirrored), atol=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_cdf_is_the_integral_of_the_density(law):
    nodes, _ = band_nodes(law, points=7)
    slope = jax.vmap(jax.grad(lambda x: spectral_cdf(x, *law)))(nodes.ravel())
    np.testing.assert_allclose(slope, spectral_density(nodes.ravel(), *law), rtol=1e-8)


@pytest.mark.parametrize("law", LAWS)
def test_atoms_are_the_jumps_of_the_cdf(law):
    atoms = spectral_atoms(*law)
    jumps = spectral_cdf(atoms.positions, *law) - spectral_cdf(atoms.positions - 1e-9, *law)
    np.testing.assert_allclose(jumps, atoms.masses, atol=1e-7)


def test_on_an_atom_the_density_is_zero_and_flat():
    law = (5.0, 0.4, 0.3, 1.0)
    assert spectral_density(1.0, *law) == 0
    assert jax.grad(spectral_density)(1.0, *law) == 0


@pytest.mark.parametrize(("c", "alpha_h", "minus", "plus"), [(4.0, 0.3, 0.05, 0.45), (2.0, 0.0, 0.0, 0.5)])
def test_atoms_are_where_the_kernel_of_W1_meets_an_eigenspace(c, alpha_h, minus, plus):
    eigenvalues = sampled_eigenvalues(c, alpha_h, 0.4, 0.7, M=200)
    at = [np.mean(np.abs(eigenvalues - position) < 1e-9) for position in (-0.7, 0.7)]
    np.testing.assert_allclose(at, [minus, plus], atol=1e-12)
    np.testing.assert_allclose(spectral_atoms(c, alpha_h, 0.4, 0.7).masses, [minus, plus], atol=1e-12)


@pytest.mark.parametrize(
    ("law", "bands"),
    [
        ((0.25, 0.5, 0.0), 1),
        ((0.3, 0.1, 0.0), 2),  # a gap of 0.002
        ((4.0, 0.1, 0.1), 3),
        ((2.4, 0.3, 0.2), 4),  # one of the gaps 0.0001
    ],
)
def test_bands_are_where_the_density_is_positive(law, bands):
    edges = np.asarray(spectral_edges(*law))
    assert edges.shape == (2 * bands,)
    assert np.all(np.diff(edges) > 0)
    outside = np.concatenate([[edges[0] - 1], (edges[1:-1:2] + edges[2::2]) / 2, [edges[-1] + 1]])
    np.testing.assert_array_equal(spectral_density(outside, *law), 0)
    just_inside = np.concatenate([edges[::2] + 1e-6, edges[1::2] - 1e-6])
    assert np.all(spectral_density(just_inside, *law) > 0)


@pytest.mark.parametrize("alpha_h", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("c", [0.2, 0.6, 3.0])
def test_edges_are_double_roots_of_the_papers_polynomial(c, alpha_h):
    """Eqs. 118–122: the quartic in ω, whose a0 = 0, has a double root where x is an edge."""
    delta = 1 - 2 * alpha_h
    for x in np.asarray(spectral_edges(c, alpha_h, 0.0)):
        cubic = [
            4 * (x**2 - 1),
            (-4 * delta * c - 8 * c * x**2 - 4 * c * x + 8 * c + 8 * x) / c,
            (8 * delta * c**2 + 4 * c**2 * x**2 + 8 * c**2 * x - 4 * c**2 - 8 * c * x - 4 * c + 4) / c**2,
            (-4 * delta * c - 4 * c * x + 4) / c,
        ]
        first, second = sorted(np.roots(cubic), key=lambda root: abs(np.polyval(np.polyder(cubic), root)))[:2]
        assert abs(first - second) < 1e-5


@pytest.mark.slow
def test_shapes_follow_the_arguments():
    c = np.array([[0.3], [2.0]])
    alpha = np.array([0.1, 0.2, 0.3])
    edges = spectral_edges(c, alpha, 0.1)
    assert edges.shape == (2, 3, 8)
    single = spectral_edges(2.0, 0.2, 0.1)
    np.testing.assert_allclose(edges[1, 1, : len(single)], single, rtol=1e-14)
    np.testing.assert_allclose(edges[1, 1, len(single) :], single[-1], rtol=1e-14)
    np.testing.assert_allclose(jax.jit(spectral_edges)(2.0, 0.2, 0.1), edges[1, 1], rtol=1e-14)
    assert is_stable(c, alpha, 0.1).shape == (2, 3)
    assert stability_boundary(alpha_h=alpha, kappa=c).shape == (2, 3)
    assert critical_alpha(c, layer="readout", other=alpha).shape == (2, 3)
    assert spectral_density(0.5, c, alpha, 0.1).shape == (2, 3)


# --------------------------------------------------------------------------------------- sampled networks


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_two_thousand_eigenvalues_lie_where_the_law_says(law):
    M = 2000
    eigenvalues = sampled_eigenvalues(*law, M=M)
    atoms = np.asarray(spectral_atoms(*law).positions)
    in_bulk = np.min(np.abs(eigenvalues[:, None] - atoms), axis=1) > 1e-9
    fraction = np.asarray(spectral_cdf(eigenvalues, *law))[in_bulk]
    below, up_to = np.arange(M)[in_bulk] / M, np.arange(1, M + 1)[in_bulk] / M
    assert max(np.max(up_to - fraction), np.max(fraction - below)) < 0.01

    edges = np.asarray(spectral_edges(*law))
    tolerance = 3 * M ** (-2 / 3) * (edges[-1] - edges[0])
    middles = [-inf, *((edges[1:-1:2] + edges[2::2]) / 2), inf]
    bulk = eigenvalues[in_bulk]
    for band, (left, right) in enumerate(edges.reshape(-1, 2)):
        inside = bulk[(bulk > middles[band]) & (bulk < middles[band + 1])]
        assert inside[0] == pytest.approx(left, abs=tolerance)
        assert inside[-1] == pytest.approx(right, abs=tolerance)


@pytest.mark.parametrize(("c", "alpha_r"), [(0.5, 0.0), (1.0, 0.1), (0.1, 0.0)])
def test_a_few_flipped_inputs_put_the_smallest_eigenvalue_where_predicted(c, alpha_r):
    M = 900
    smallest = sampled_eigenvalues(c, 1 / M, alpha_r, 1.0, M=M)[0]
    assert smallest == pytest.approx(float(lowest_outlier(c, alpha_r=alpha_r).position), abs=4 / np.sqrt(M))


@pytest.mark.parametrize(("c", "alpha_h", "kappa"), [(1.0, 0.0, 1.0), (3.0, 0.0, 0.5), (2.0, 0.3, 1.0)])
def test_a_few_flipped_hidden_units_put_the_smallest_eigenvalue_where_predicted(c, alpha_h, kappa):
    M = 900
    smallest = sampled_eigenvalues(c, alpha_h, c / M, kappa, M=M)[0]
    outlier = lowest_outlier(c, alpha_h=alpha_h, kappa=kappa)
    assert outlier.detached
    assert smallest == pytest.approx(float(outlier.position), abs=4 / np.sqrt(M))


# ---------------------------------------------------------------------------------------------- outliers


def test_outlier_thresholds_without_other_flips():
    assert lowest_outlier(2 / 3, alpha_r=0.0).position == pytest.approx(0, abs=1e-15)
    np.testing.assert_array_equal(lowest_outlier([0.111, 0.112], alpha_r=0.0).detached, [False, True])
    np.testing.assert_array_equal(lowest_outlier([0.249, 0.251], alpha_h=0.0).detached, [False, True])
    assert lowest_outlier(0.1, alpha_r=0.0).position == pytest.approx(float(spectral_edges(0.1, 0, 0)[0]))
    c = np.array([0.5, 1.0, 4.0])
    np.testing.assert_allclose(
        lowest_outlier(c, alpha_h=0.0, kappa=2.0).position, 1 + 1 / (2 * c), rtol=1e-14
    )


@given(ratios, inner_fractions, variance_ratios)
def test_a_vanishing_fraction_puts_its_band_on_the_outlier(c, alpha, kappa):
    for few, fraction in ((1e-13, alpha), (1e-13, 0.0)):
        hidden, readout = spectral_edges(c, few, fraction, kappa), spectral_edges(c, fraction, few, kappa)
        scale = kappa + 4 / c
        expected = lowest_outlier(c, alpha_r=fraction, kappa=kappa).position
        assert hidden[0] == pytest.approx(float(expected), abs=1e-5 * scale)
        expected = lowest_outlier(c, alpha_h=fraction, kappa=kappa).position
        assert readout[0] == pytest.approx(float(expected), abs=1e-5 * scale)


@pytest.mark.parametrize("few", [2.0**-30, 2.0**-40, 2.0**-48])
def test_a_vanishing_fraction_of_unflipped_inputs_makes_a_band_of_the_exact_width(few):
    c, kappa = 1.0, 2.0
    w = 1 / (2 * kappa)  # the Cauchy transform of −κ at κ
    slope = 1 - w**2 / (1 - w) ** 2 / c
    edges = spectral_edges(c, 1 - few, 0.0, kappa)
    assert edges[3] - edges[2] == pytest.approx(4 * np.sqrt(few / c * slope) / (1 - w), rel=1e-4)


# --------------------------------------------------------------------------------------------- stability


@given(st.floats(0.001, 0.999), variance_ratios)
def test_hidden_boundary_is_the_closed_curve(position, kappa):
    z = -kappa - np.sqrt(kappa) * position
    delta = -((z**2 - kappa**2) ** 2 + 2 * kappa**2 * z) / (z**2 + kappa**2) / kappa
    c = (z**2 - kappa**2) / (z * (z + kappa * delta + kappa**2 - z**2))
    assert stability_boundary(alpha_h=(1 - delta) / 2, kappa=kappa) == pytest.approx(c, rel=1e-10)
    assert 2 * c * z**3 + (1 - c) * z**2 + kappa**2 == pytest.approx(0, abs=1e-9)


@given(st.floats(-0.99, -0.01))
def test_readout_boundary_is_the_closed_curve(w):
    matrix = [[1 / (1 - w), -1 / (1 + w)], [1 / (1 - w) ** 2, 1 / (1 + w) ** 2]]
    p, q = np.linalg.solve(matrix, [-(1 + w) / w, 1 / w**2])
    assert stability_boundary(alpha_r=q / (p + q)) == pytest.approx(1 / (p + q), rel=1e-9)


@pytest.mark.parametrize("kappa", [1.0, 0.3, 4.0])
def test_boundaries_have_their_exact_ends(kappa):
    hidden = stability_boundary(alpha_h=[0.0, 1.0], kappa=kappa)
    np.testing.assert_allclose(hidden, [2 / (1 + 2 * kappa), 1 / (1 + np.sqrt(kappa)) ** 2], rtol=1e-14)
    for few in (1e-14, 1e-30, 1e-140):
        assert stability_boundary(alpha_h=few, kappa=kappa) == pytest.approx(float(hidden[0]), rel=1e-6)
        assert instability_window(few, 0.0, kappa).lower == pytest.approx(float(hidden[0]), rel=1e-6)
    readout = stability_boundary(alpha_r=[0.0, 0.5, 0.8], kappa=kappa)
    few = 1 / (2 * (1 - kappa)) if kappa < 1 else inf
    np.testing.assert_allclose(readout, [few, 0, 0], rtol=1e-14)
    # Near one half the boundary comes down as (1 − 2αr)²/4, for every κ.
    assert stability_boundary(alpha_r=0.5 - 1e-5, kappa=kappa) == pytest.approx(1e-10, rel=1e-4)


def ends(window):
    return window.lower, window.upper


def test_gradient_flow_is_stable_and_gradient_ascent_is_not():
    assert ends(instability_window(0.0, 0.0)) == (inf, inf)
    assert ends(instability_window(1.0, 1.0)) == (0, inf)
    assert np.all(is_stable(np.logspace(-3, 3, 7), 0.0, 0.0))
    assert not np.any(is_stable(np.logspace(-3, 3, 7), 1.0, 1.0))


@pytest.mark.parametrize(
    ("alpha_h", "alpha_r", "kappa"),
    [(0.2, 0.0, 1.0), (0.9, 0.0, 0.3), (0.0, 0.2, 1.0), (0.3, 0.2, 1.0), (0.7, 0.4, 3.0), (0.05, 0.01, 0.5)],
)
def test_boundary_is_where_the_general_edge_search_finds_zero(alpha_h, alpha_r, kappa):
    found = brentq(lambda c: spectral_edges(c, alpha_h, alpha_r, kappa)[0], 1e-3, 1.0, xtol=1e-12, rtol=1e-12)
    assert instability_window(alpha_h, alpha_r, kappa).lower == pytest.approx(found, abs=1e-8)
    if 0 in (alpha_h, alpha_r):
        layer = {"alpha_h": alpha_h} if alpha_r == 0 else {"alpha_r": alpha_r}
        assert stability_boundary(**layer, kappa=kappa) == pytest.approx(found, abs=1e-8)


@given(ratios, fractions, fractions, variance_ratios)
def test_window_margin_and_distribution_agree_on_stability(c, alpha_h, alpha_r, kappa):
    law = (c, alpha_h, alpha_r, kappa)
    margin = float(stability_margin(*law))
    lower, upper = ends(instability_window(alpha_h, alpha_r, kappa))
    if abs(margin) > 1e-9:
        assert bool(is_stable(*law)) == (margin > 0) == (not lower < c < upper)
    support = np.concatenate(
        [spectral_edges(*law)[:1], spectral_atoms(*law).positions[spectral_atoms(*law).masses > 0]]
    )
    assert margin == pytest.approx(np.min(support), abs=1e-12 * (kappa + 4 / c))
    assert spectral_cdf(margin - 1e-6, *law) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kappa", [1.5, 2.0, 4.0])
def test_with_strong_readout_weights_compressive_networks_are_stable_again(kappa):
    # All readouts flipped: X = κ − W1ᵀ W1 is stable above c = 1/(√κ − 1)².
    upper = 1 / (np.sqrt(kappa) - 1) ** 2
    np.testing.assert_allclose(ends(instability_window(0.0, 1.0, kappa)), [0, upper], rtol=1e-12)
    # The window opens at αr = (1 − 1/κ)/2.
    opening = (1 - 1 / kappa) / 2
    assert ends(instability_window(0.0, opening - 1e-3, kappa)) == (inf, inf)
    lower, upper = ends(instability_window(0.0, opening + 1e-3, kappa))
    inside, outside = np.sqrt(lower * upper), np.array([lower * 0.99, upper * 1.01])
    assert not is_stable(inside, 0.0, opening + 1e-3, kappa)
    assert np.all(is_stable(outside, 0.0, opening + 1e-3, kappa))


@given(inner_fractions, variance_ratios)
def test_critical_alpha_inverts_the_boundary(alpha, kappa):
    c = stability_boundary(alpha_h=alpha, kappa=kappa)
    assert critical_alpha(c, layer="hidden", kappa=kappa) == pytest.approx(alpha, abs=1e-8)
    alpha, kappa = alpha / 2, min(kappa, 1.0)
    c = stability_boundary(alpha_r=alpha, kappa=kappa)
    if np.isfinite(c):
        assert critical_alpha(c, layer="readout", kappa=kappa) == pytest.approx(alpha, abs=1e-8)


def test_critical_alpha_of_mixed_flips_and_its_ends():
    lower = instability_window(0.3, 0.1).lower
    assert critical_alpha(lower, layer="hidden", other=0.1) == pytest.approx(0.3, abs=1e-9)
    assert critical_alpha(lower, layer="readout", other=0.3) == pytest.approx(0.1, abs=1e-9)
    np.testing.assert_array_equal(critical_alpha([0.2, 0.25, 0.7, 9.0], layer="hidden"), [1, 1, 0, 0])
    np.testing.assert_array_equal(critical_alpha([0.5, 9.0], layer="readout", other=1.0), [0, 0])
    assert critical_alpha(6.0, layer="readout", kappa=2.0) == 1  # above 1/(√2 − 1)² = 5.83


def test_whole_diagrams_agree_with_their_boundaries():
    c, alpha = np.linspace(0.01, 1, 60), np.linspace(0.01, 1, 50)[:, None]
    hidden, readout = is_stable(c, alpha, 0.0), is_stable(c, 0.0, alpha)
    np.testing.assert_array_equal(hidden, c < stability_boundary(alpha_h=alpha))
    np.testing.assert_array_equal(readout, c < stability_boundary(alpha_r=alpha))
    assert 0 < np.mean(hidden) < 1
    assert 0 < np.mean(readout) < 1


# ------------------------------------------------------------------------------------------- finite sizes


@pytest.mark.parametrize("law", [(0.3, 0.5, 0.0, 1.0), (1.0, 0.0, 0.05, 1.0), (0.5, 0.2, 0.1, 2.5)])
def test_edge_eigenvalue_spreads_as_the_density_at_the_edge_demands(law):
    c, M = law[0], 1e12  # so that terms of order 1/M do not show
    limit, edge = float(stability_margin(*law)), float(spectral_edges(*law)[0])
    # Weights of kurtosis 1 have a fixed norm, so only the Tracy–Widom law is left: mean −1.2065 and variance 1.6078.
    margin = finite_size_margin(M / c, M, *law[1:], kurtosis=1.0)
    width = float(margin.standard_deviation) / np.sqrt(1.6077810346) * M ** (2 / 3)
    beside = 1e-7
    density = np.sqrt(beside) / (np.pi * width**1.5)
    assert spectral_density(edge + beside, *law) == pytest.approx(density, rel=1e-4)
    assert margin.mean - limit == pytest.approx(1.2065335746 * width * M ** (-2 / 3), rel=1e-3)


@pytest.mark.parametrize("c", [0.1, 0.5, 3.0])
def test_real_entries_shift_the_edge_by_half_a_unit(c: float):
    """Of W1ᵀ W1 the smallest eigenvalue is centred at (√(N − ½) − √(M − ½))²/M, not (√N − √M)²/M."""
    M = 1e9
    N = M / c
    margin = finite_size_margin(N, M, 0.0, 0.0, kurtosis=1.0)
    width = float(margin.standard_deviation) / np.sqrt(1.6077810346)
    shift = float(margin.mean) - float(stability_margin(c, 0.0, 0.0)) - 1.2065335746 * width
    # Its derivative, because the difference of two such squares is rounding.
    assert shift == pytest.approx((1 - np.sqrt(c)) ** 2 / (2 * np.sqrt(c) * M), rel=0.02)


def test_where_nothing_is_flipped_nothing_is_unstable():
    """X = ‖W2‖² + W1ᵀ W1; and less than one unit is none."""
    N, M = np.array([2, 3, 5, 10, 10, 60, 60, 60]), np.array([20, 3, 50, 10, 200, 42, 42, 42])
    alpha_h, alpha_r = np.zeros(8), np.zeros(8)
    alpha_h[5], alpha_r[6], alpha_h[7] = 0.02, 0.016, 0.024
    probability = instability_probability(N, M, alpha_h, alpha_r)
    np.testing.assert_array_equal(probability[:7], 0)
    assert probability[7] > 0.5


def test_more_flipped_inputs_than_hidden_units_are_unstable_for_certain():
    """W1 leaves some of them alone, so X has the eigenvalue −‖W2‖², whose mean is −κ and variance 2κ²/N."""
    assert instability_probability(20, 60, 0.5, 0.0) == 1
    margin = finite_size_margin(200, 600, 0.5, 0.0, 1.5)
    assert margin.mean == pytest.approx(-1.5, rel=1e-3)
    assert margin.standard_deviation == pytest.approx(1.5 * np.sqrt(2 / 200), rel=1e-3)


def test_the_norm_of_the_readout_weights_dominates_in_wide_networks():
    N = np.array([1e12, 4e12])
    margin = finite_size_margin(N, 0.3 * N, 0.5, 0.0, 2.0, kurtosis=1.8)
    slope = (stability_margin(0.3, 0.5, 0.0, 2.001) - stability_margin(0.3, 0.5, 0.0, 1.999)) / 0.002
    np.testing.assert_allclose(
        margin.standard_deviation * np.sqrt(N), abs(slope) * 2 * np.sqrt(0.8), rtol=3e-4
    )
    np.testing.assert_allclose(margin.mean, stability_margin(0.3, 0.5, 0.0, 2.0), rtol=1e-6)
    law = {"alpha_h": 0.5, "alpha_r": 0.0}
    np.testing.assert_allclose(instability_probability(N[0], 0.3 * N[0], **law), 0, atol=1e-12)
    np.testing.assert_allclose(instability_probability(N[0], 0.32 * N[0], **law), 1, atol=1e-12)
    boundary = float(stability_boundary(alpha_h=0.5))
    # On the boundary the Tracy–Widom shift over the Gaussian spread, of order N^(−1/6), is still there.
    assert 0.4 < instability_probability(N[0], boundary * N[0], **law) < 0.5


# ------------------------------------------------------------------------------------------- derivatives


@pytest.mark.slow
@pytest.mark.parametrize("z", [-1.2, -1.5, -1.9])
def test_boundary_has_the_slope_and_curvature_of_the_closed_curve(z):
    def curve(z):
        delta = -(z**4 - 2 * z**2 + 2 * z + 1) / (z**2 + 1)
        return (1 - delta) / 2, (z**2 - 1) / (z * (1 + z + delta - z**2))

    def slope(z):
        d_alpha, d_c = jax.jvp(curve, (z,), (1.0,))[1]
        return d_c / d_alpha

    curvature = jax.grad(slope)(z) / jax.grad(lambda z: curve(z)[0])(z)
    alpha = curve(z)[0]
    boundary = jax.grad(lambda alpha: stability_boundary(alpha_h=alpha))
    assert boundary(alpha) == pytest.approx(float(slope(z)), rel=1e-9)
    assert jax.grad(boundary)(alpha) == pytest.approx(float(curvature), rel=1e-7)
    c = curve(z)[1]
    inverse = jax.grad(lambda c: critical_alpha(c, layer="hidden"))(c)
    assert inverse == pytest.approx(float(1 / slope(z)), rel=1e-7)


@pytest.mark.slow
def test_thresholds_of_a_few_flipped_units_have_their_exact_slopes():
    hidden = jax.grad(lambda kappa: stability_boundary(alpha_h=0.0, kappa=kappa))(0.6)
    readout = jax.grad(lambda kappa: stability_boundary(alpha_r=0.0, kappa=kappa))(0.6)
    assert hidden == pytest.approx(-4 / 2.2**2, rel=1e-12)
    assert readout == pytest.approx(1 / (2 * 0.4**2), rel=1e-12)


@pytest.mark.parametrize(
    "law",
    [
        (0.4, 0.3, 0.2, 1.0),
        pytest.param((4.0, 0.3, 0.2, 0.8), marks=pytest.mark.slow),
        pytest.param((5.0, 0.4, 0.0, 1.0), marks=pytest.mark.slow),
    ],
)
def test_derivatives_of_edges_and_density_are_those_of_finite_differences(law):
    x = 0.7 * spectral_edges(*law)[0] + 0.3 * spectral_edges(*law)[1]
    step = 1e-5
    law = jnp.array(law)
    for quantity in (spectral_edges, stability_margin, lambda *law: spectral_density(x, *law)):
        function = jax.jit(lambda law, quantity=quantity: quantity(*law))
        derivative = jax.jacrev(function)(law)
        for i in np.flatnonzero(law > 0):
            difference = (function(law.at[i].add(step)) - function(law.at[i].add(-step))) / (2 * step)
            np.testing.assert_allclose(derivative[..., i], difference, rtol=2e-5, atol=1e-6)


# ----------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: spectral_edges(0.0, 0.1, 0.1), r"`c` must be positive, but is 0\."),
        (lambda: spectral_edges([1.0, -2.0], 0.1, 0.1), r"`c` must be positive, but is -2 at index 1\."),
        (lambda: is_stable(1.0, 1.5, 0.1), r"`alpha_h` must lie between 0 and 1, but is 1\.5\."),
        (
            lambda: is_stable(1.0, 0.5, [[-0.1]]),
            r"`alpha_r` must lie between 0 and 1, but is -0\.1 at index \(0, 0\)\.",
        ),
        (lambda: stability_margin(1.0, 0.5, 0.1, 0.0), r"`kappa` must be positive, but is 0\."),
        (
            lambda: stability_boundary(),
            r"Exactly one of `alpha_h` and `alpha_r` must be given, but neither is\.",
        ),
        (lambda: stability_boundary(alpha_h=0.1, alpha_r=0.1), r"must be given, but both are\."),
        (lambda: stability_boundary(alpha_h=0.1, kappa=-1), r"`kappa` must be positive, but is -1\."),
        (lambda: stability_boundary(alpha_r=1.1), r"`alpha_r` must lie between 0 and 1, but is 1\.1\."),
        (lambda: lowest_outlier(1.0), r"must be given, but neither is\."),
        (lambda: lowest_outlier(1.0, alpha_h=0.1, alpha_r=0.1), r"must be given, but both are\."),
        (
            lambda: critical_alpha(1.0, layer="output"),
            r"`layer` must be one of 'hidden', 'readout', but is 'output'\.",
        ),
        (lambda: critical_alpha(-1.0, layer="hidden"), r"`c` must be positive, but is -1\."),
        (
            lambda: critical_alpha(1.0, layer="hidden", other=2),
            r"`other` must lie between 0 and 1, but is 2\.",
        ),
        (lambda: instability_window(0.1, np.nan), r"`alpha_r` must be finite, but"),
        (lambda: spectral_density(np.inf, 1.0, 0.1, 0.1), r"`x` must be finite, but"),
        (lambda: spectral_cdf(np.zeros(3), np.ones(2), 0.1, 0.1), r"must broadcast to a common shape, but"),
        (lambda: finite_size_margin(0, 10, 0.1, 0.1), r"`N` must be positive, but is 0\."),
        (
            lambda: instability_probability(9, 9, 0.1, 0.1, kurtosis=0.3),
            r"`kurtosis` must be at least 1, but is 0\.3",
        ),
        (lambda: spectral_atoms(np.float32(1), 0.1, 0.1), r"`c` must be float64, but its dtype is float32\."),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
