"""Seeded draws: their distributions, their counts, their seeds."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import curlflow as cf
from curlflow import ensembles

KEY = jax.random.key(7)
N, M, P = 60, 40, 3
# A sample of the right distribution falls below this once in ten thousand seeds; ours is fixed.
SMALLEST_P_VALUE = 1e-4


def follows(sample: jax.Array, distribution: stats.rv_continuous) -> bool:
    return stats.kstest(np.ravel(sample), distribution.cdf).pvalue > SMALLEST_P_VALUE


def test_gaussian_weights_have_the_stated_variances():
    W = ensembles.gaussian_weights(KEY, N=N, M=M, P=P, sigma1=0.7, sigma2=2.0)
    assert (W.W1.shape, W.W2.shape) == ((N, M), (P, N))
    assert W.W1.dtype == W.W2.dtype == jnp.float64
    assert follows(W.W1, stats.norm(scale=0.7 / np.sqrt(M)))
    assert follows(W.W2, stats.norm(scale=2.0 / np.sqrt(N)))


def test_gaussian_weights_have_unit_scales_and_one_output_by_default():
    W = ensembles.gaussian_weights(KEY, N=N, M=M)
    assert W.W2.shape == (1, N)
    assert follows(W.W1 * np.sqrt(M), stats.norm)
    assert follows(W.W2 * np.sqrt(N), stats.norm)


def test_uniform_weights_fill_plus_minus_scale_over_root_fan_in():
    W = ensembles.uniform_weights(KEY, N=N, M=M, P=P, scale=0.3)
    assert (W.W1.shape, W.W2.shape) == ((N, M), (P, N))
    for layer, fan_in in ((W.W1, M), (W.W2, N)):
        bound = 0.3 / np.sqrt(fan_in)
        assert float(jnp.abs(layer).max()) <= bound
        assert follows(layer, stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize("draw", [ensembles.gaussian_weights, ensembles.uniform_weights])
def test_weights_belong_to_their_key(draw):
    first, again, other = draw(KEY, N=4, M=4), draw(KEY, N=4, M=4), draw(jax.random.key(8), N=4, M=4)
    for a, b, c in zip(*map(jtu.tree_leaves, (first, again, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.isin(a, c).any()
    # The layers are drawn independently: not the same numbers at another scale.
    assert np.unique(np.abs(np.concatenate([first.W1[0], first.W2[0]]))).size == 8


@pytest.mark.parametrize("n", [1, 7, 20, 49, 100])
def test_sign_pattern_flips_the_first_units_by_count_or_by_fraction(n: int):
    for count in range(n + 1):
        expected = np.where(np.arange(n) < count, -1.0, 1.0)
        for signs in (ensembles.sign_pattern(n, count=count), ensembles.sign_pattern(n, fraction=count / n)):
            np.testing.assert_array_equal(signs, expected)
            assert signs.dtype == jnp.float64
            assert not signs.weak_type


@given(st.integers(1, 200), st.floats(0, 1))
def test_sign_pattern_rounds_a_fraction_down(n: int, fraction: float):
    flipped = int((np.asarray(ensembles.sign_pattern(n, fraction=fraction)) < 0).sum())
    assert flipped <= fraction * n * (1 + 1e-11)
    assert flipped > fraction * n - 1


def test_sign_pattern_with_a_key_flips_units_at_random():
    draw = jax.vmap(lambda key: ensembles.sign_pattern(10, count=3, key=key))
    signs = np.asarray(draw(jax.random.split(KEY, 2000)))
    np.testing.assert_array_equal((signs < 0).sum(axis=1), 3)
    # Every unit is flipped in 3 of 10 draws: 600 ± 20.5 of 2000.
    assert np.abs((signs < 0).sum(axis=0) - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)
    np.testing.assert_array_equal(
        ensembles.sign_pattern(10, fraction=0.3, key=KEY), ensembles.sign_pattern(10, count=3, key=KEY)
    )


def test_sample_covariance_is_wisharts():
    draw = jax.vmap(lambda key: ensembles.sample_covariance(key, M=3, samples=5, standard_deviation=0.5))
    C = np.asarray(draw(jax.random.split(KEY, 3000)))
    np.testing.assert_array_equal(C, C.transpose(0, 2, 1))
    # n vᵀC v / (σ² |v|²) is χ² with n degrees of freedom for every v, and n tr C / σ² with n M.
    v = np.array([1.0, -2.0, 0.5])
    assert follows(5 * np.einsum("i,nij,j->n", v, C, v) / (0.25 * v @ v), stats.chi2(5))
    assert follows(5 * np.trace(C, axis1=1, axis2=2) / 0.25, stats.chi2(15))


def test_sample_covariance_of_few_samples_is_singular_and_still_accepted():
    C = ensembles.sample_covariance(KEY, M=6, samples=2)
    assert np.linalg.matrix_rank(C) == 2
    cf.CurlFlow(np.ones(6), np.ones(6), [1.0], C)


@pytest.mark.parametrize("distance", [1e-6, 0.1, 30.0])
def test_near_solution_is_at_its_distance_and_normal_to_the_manifold(distance: float):
    teacher = ensembles.gaussian_weights(jax.random.key(1), N=5, M=3, P=2)
    student = ensembles.near_solution(KEY, teacher, distance=distance)
    step = jtu.tree_map(jnp.subtract, student, teacher)
    vector = np.concatenate([np.ravel(leaf) for leaf in jtu.tree_leaves(step)])
    assert np.linalg.norm(vector) == pytest.approx(distance, rel=1e-14 + 1e-14 / distance)
    # Normal to the manifold: in the row space of the end-to-end map's Jacobian, which is normal to its null space.
    slope = jax.jacobian(lambda W: W.end_to_end)(teacher)
    J = np.concatenate([np.reshape(leaf, (6, -1)) for leaf in jtu.tree_leaves(slope)], axis=1)
    along = vector - np.linalg.pinv(J) @ (J @ vector)
    np.testing.assert_allclose(along, 0.0, atol=1e-14 * (1 + distance))


def test_near_solution_steps_in_a_direction_of_its_keys_own():
    teacher = ensembles.gaussian_weights(jax.random.key(1), N=5, M=3, P=2)
    here, there = (ensembles.near_solution(jax.random.key(i), teacher, distance=0.1) for i in (2, 3))
    assert float(jnp.abs(here.W1 - there.W1).max()) > 1e-3
    np.testing.assert_array_equal(
        here.W1, ensembles.near_solution(jax.random.key(2), teacher, distance=0.1).W1
    )


def test_near_solution_works_where_one_layer_is_zero():
    solution = cf.Weights(np.zeros((4, 3)), np.ones((1, 4)))
    student = ensembles.near_solution(KEY, solution, distance=0.5)
    assert float(jnp.linalg.norm(student.W1)) == pytest.approx(0.5, rel=1e-14)
    np.testing.assert_array_equal(student.W2, solution.W2)
