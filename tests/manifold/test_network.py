"""The spectrum of a network from its Gram variables, predicted against computed: with full rank, and where rank is lost."""

import jax
import numpy as np
import pytest

import curlflow as cf

T = 1000.0


def setting(
    N: int, M: int, seed: int, P: int = 1, alpha_r: float = 0.0
) -> tuple[cf.NormConstrained, cf.Weights]:
    teacher = cf.ensembles.gaussian_weights(jax.random.key(100 + seed), N=N, M=M, P=P)
    student = cf.ensembles.gaussian_weights(jax.random.key(seed), N=N, M=M, P=P)
    d1, d2 = cf.ensembles.sign_pattern(M, fraction=0.5), cf.ensembles.sign_pattern(N, fraction=alpha_r)
    return cf.NormConstrained(cf.CurlFlow(teacher.end_to_end, d1, d2)), student


def both(
    full: cf.NormConstrained, W: cf.Weights
) -> tuple[np.ndarray, cf.LyapunovSpectrum, cf.manifold.NetworkSpectrum]:
    flow = cf.GramFlow.from_flow(full)
    reduced = cf.lyapunov_spectrum(flow, flow.reduce(W), T=T, Ttr=T / 2)
    computed = cf.lyapunov_spectrum(full, W, T=T, Ttr=T / 2).exponents
    return computed, reduced, cf.manifold.network_spectrum(reduced)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 4])
def test_where_rank_is_lost_hidden_units_decay_at_half_the_rate_of_their_squares(seed: int):
    full, W = setting(N=4, M=2, seed=seed)
    computed, reduced, predicted = both(full, W)
    assert predicted.ranks == (2,)
    assert predicted.mismatch < 1e-6
    # Zeros are known to about log(T)/T.
    np.testing.assert_allclose(predicted.exponents, computed, atol=4e-3)
    beta = predicted.units[0, -1]
    assert beta < -0.05
    assert np.sum(np.abs(predicted.exponents - beta) < 1e-12) == 2
    assert np.min(np.abs(reduced.exponents - 2 * beta)) < 1e-6
    # Without the rule, by adding zeros only, the two would differ.
    naive = np.sort(np.concatenate([reduced.exponents, np.zeros(6)]))[::-1]
    assert np.abs(naive - computed).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_with_full_rank_there_are_only_more_zeros(seed: int):
    full, W = setting(N=4, M=2, seed=seed)
    computed, reduced, predicted = both(full, W)
    assert predicted.ranks == (3,)
    assert predicted.mismatch == 0
    np.testing.assert_allclose(predicted.exponents, computed, atol=4e-3)
    assert sorted(predicted.exponents) == sorted([*reduced.exponents, *np.zeros(6)])
    wider = cf.manifold.network_spectrum(reduced, widths=[100])
    assert len(wider.exponents) == 300
    np.testing.assert_array_equal(wider.exponents[-2:], predicted.exponents[-2:])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_with_fewer_units_than_the_gram_matrix_has_rows_its_other_directions_are_no_exponents(seed: int):
    full, W = setting(N=2, M=3, seed=seed)
    computed, reduced, predicted = both(full, W)
    assert predicted.ranks[0] <= 2
    assert len(computed) == len(predicted.exponents) == 8
    assert len(reduced.exponents) == 10
    np.testing.assert_allclose(predicted.exponents, computed, atol=4e-3)


def test_unit_exponents_of_a_constant_matrix_are_the_real_parts_of_its_eigenvalues():
    # At E = S, W2 W1 = 0 with both layers zero nothing moves, and B is constant: its eigenvalues are ±|S| and zeros.
    flow = cf.GramFlow([3.0, 4.0, 0.0], [1, 1, 1], [1.0])
    rest = cf.models.Gram(np.zeros((1, 6)), np.zeros((1, 1, 3)), np.zeros((1, 1)))
    units = cf.manifold.unit_exponents(flow, rest, T=30.0)
    np.testing.assert_allclose(units, [[5.0, 0.0, 0.0, -5.0]], atol=1e-6)


def test_wrong_arguments_are_refused():
    flow = cf.GramFlow([3.0], [1], [1.0])
    y = cf.models.Gram(np.ones((1, 1)), np.full((1, 1, 1), 0.5), np.full((1, 1), 0.25))
    spectrum = cf.lyapunov_spectrum(flow, y, T=5.0)
    with pytest.raises(ValueError, match="must give each of the 1 groups at least one hidden unit"):
        cf.manifold.network_spectrum(spectrum, widths=[4, 4])
    with pytest.raises(ValueError, match="`spectrum` must be that of a GramFlow"):
        cf.manifold.network_spectrum(cf.lyapunov_spectrum(cf.toy_flow(), np.array([1.0, 0.5]), T=5.0))
    with pytest.raises(ValueError, match="must have all 3 exponents"):
        cf.manifold.network_spectrum(cf.lyapunov_spectrum(flow, y, k=2, T=5.0))
