"""The propositions of the paper's Appendix A: which learning rules follow a gradient, in general and in every special case.

Each is tested on random instances by a search that tries to break it, and where the paper's statement needs a condition, or
has a slip, on the instance that shows it.
"""

import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jaxtyping import Array

import curlflow as cf

SEEDS = st.integers(0, 2**31 - 1)


def normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


def signs(length: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.sampled_from([-1.0, 1.0]), min_size=length, max_size=length).map(np.array)


def mixed(values: Any) -> bool:
    return np.ptp(values) > 0


def symmetric_mask(entries: np.ndarray, N: int) -> np.ndarray:
    M = np.zeros((N, N))
    M[np.triu_indices(N)] = entries
    return np.triu(M) + np.triu(M, 1).T


def constant(found: cf.gradient.GradientTest) -> cf.gradient.ConstantMetric:
    assert found.constant_metric is not None
    return found.constant_metric


# --------------------------------------------------------------------------------------- A.1 curl descent


class OneLayer(eqx.Module):
    """Curl flow of one layer while the other is held fixed."""

    flow: cf.CurlFlow
    fixed: Array
    layer: str = eqx.field(static=True)

    def __call__(self, t: Any, W: Array, args: Any = None) -> Array:
        state = cf.Weights(W, self.fixed) if self.layer == "W1" else cf.Weights(self.fixed, W)
        return getattr(self.flow(t, state), self.layer)


N, M = 3, 2


def weights(seed: int, count: int = 3) -> cf.Weights:
    return cf.Weights(normal(seed, count, N, M), normal(seed + 1, count, 1, N))


@given(SEEDS, signs(M), signs(N))
def test_curl_descent_is_a_gradient_only_if_all_signs_agree(seed: int, d1: np.ndarray, d2: np.ndarray):
    flow = cf.CurlFlow(normal(seed, 1, M), d1, d2)
    found, all_signs = cf.is_gradient(flow, weights(seed)), np.concatenate([d1, d2])
    assert found.is_gradient == (not mixed(all_signs))
    metric = constant(found)
    assert (metric.kind, metric.dimension) == ("indefinite" if mixed(all_signs) else "positive", 1)
    per_synapse = np.concatenate([np.tile(d1, N), d2])
    G = metric.G
    assert G is not None
    np.testing.assert_allclose(G * np.sign(np.trace(G * per_synapse)), np.diag(per_synapse), atol=1e-6)


@given(SEEDS, signs(N))
def test_a_readout_layer_alone_follows_a_gradient_only_if_its_signs_agree(seed: int, d2: np.ndarray):
    """Eq. 22, for hidden activities that are correlated: h hᵀ D2 must be symmetric."""
    layer = OneLayer(cf.CurlFlow(normal(seed, 1, M), np.ones(M), d2), normal(seed + 1, N, M), "W2")
    assert cf.is_gradient(layer, normal(seed + 2, 2, 1, N)).is_gradient == (not mixed(d2))


@given(SEEDS, signs(2))
def test_a_readout_layer_of_uncorrelated_units_follows_a_gradient_whatever_its_signs(
    seed: int, d2: np.ndarray
):
    """Eq. 22 forces D2 = ±I only where h hᵀ connects all units: with ⟨h hᵀ⟩ diagonal it is symmetric for every D2."""
    W1 = jnp.linalg.qr(normal(seed, 2, 2))[0]
    layer = OneLayer(cf.CurlFlow(normal(seed, 1, 2), np.ones(2), d2), W1, "W2")
    assert cf.is_gradient(layer, normal(seed + 2, 2, 1, 2))


@given(SEEDS, signs(M))
def test_a_hidden_layer_alone_follows_a_gradient_on_white_inputs(seed: int, d1: np.ndarray):
    """Against "an analogous derivation … shows that it too cannot": C D1 is symmetric for C = I, and ½ Σ d_j E_j² falls."""
    S, W2, W1 = normal(seed, 1, M), normal(seed + 1, 1, N), normal(seed + 2, 2, N, M)
    layer = OneLayer(cf.CurlFlow(S, d1, np.ones(N)), W2, "W1")
    assert cf.is_gradient(layer, W1)
    slope = jax.grad(lambda W: jnp.sum(d1 * (S - W2 @ W) ** 2) / 2)(W1[0])
    np.testing.assert_allclose(layer(0.0, W1[0]), -slope, rtol=0, atol=1e-11)


@given(SEEDS, signs(M))
def test_a_hidden_layer_alone_follows_no_gradient_on_correlated_inputs_if_its_signs_differ(
    seed: int, d1: np.ndarray
):
    C = jnp.array([[1.0, 0.5], [0.5, 1.0]])
    layer = OneLayer(cf.CurlFlow(normal(seed, 1, M), d1, np.ones(N), C), normal(seed + 1, 1, N), "W1")
    assert cf.is_gradient(layer, normal(seed + 2, 2, N, M)).is_gradient == (not mixed(d1))


# ------------------------------------------------------------------------ A.2 Hebbian and anti-Hebbian


def matrices(seed: int, N: int, count: int = 4) -> Array:
    return normal(seed, count, N, N) / (4 * N**0.5)


@pytest.mark.parametrize("order", [1, None], ids=["first order", "exact"])
@given(SEEDS, signs(9))
def test_no_mask_makes_a_recurrent_network_follow_a_gradient(order: int | None, seed: int, mask: np.ndarray):
    flow = cf.models.HebbianFlow(normal(seed, 3), M=mask.reshape(3, 3), order=order)
    found = cf.is_gradient(flow, matrices(seed + 1, 3))
    assert not found
    assert found.asymmetry > 1e-3


@given(st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([0.0, 1.0, 2.0]), st.booleans(), signs(3))
def test_inputs_of_equal_variance_are_the_only_exception(
    a: float, b: float, correlated: bool, mask: np.ndarray
):
    """Eq. 28 holds for Σ = σ I and M = Mᵀ alone: not for one input, nor for two uncorrelated ones of unequal size."""
    F = np.sqrt(2) * np.array([[a, 0.0], [0.3 if correlated and a and b else 0.0, b]])
    assume(F.any())
    for M in (symmetric_mask(mask, 2), np.array([[mask[0], mask[1]], [-mask[1], mask[2]]])):
        flow = cf.models.HebbianFlow(F, M=M, order=1)
        Sigma = np.asarray(flow.input_covariance())
        white = np.abs(Sigma - Sigma[0, 0] * np.eye(2)).max() < 1e-12
        found = cf.is_gradient(flow, matrices(0, 2))
        assert found.is_gradient == (white and bool((M == M.T).all()))


@pytest.mark.parametrize("order", [1, None], ids=["first order", "exact"])
@given(SEEDS, signs(6))
def test_symmetric_weights_follow_a_gradient_only_under_a_uniform_mask(
    order: int | None, seed: int, mask: np.ndarray
):
    """A.2.1: M = ±11ᵀ, for generic inputs. Any other symmetric mask is curl descent with the mask's own signs."""
    M = symmetric_mask(mask, 3)
    f = 0.5 + jnp.abs(normal(seed, 3))
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(f, M=M, order=order))
    found = cf.is_gradient(flow, normal(seed + 1, 5, 6) / 10)
    assert found.is_gradient == (not mixed(M))
    g = found.diagonal_metric
    assert g is not None
    np.testing.assert_allclose(g * np.sign(g @ mask), mask, atol=1e-6)


@given(SEEDS, signs(3))
def test_uncorrelated_groups_may_have_a_sign_for_every_pair_of_groups(seed: int, pair: np.ndarray):
    """A.2.1 beyond the generic case: inputs to neurons 1–2 and 3–4 uncorrelated, M constant on every pair of groups."""
    F = (
        jnp.zeros((4, 2))
        .at[:2, 0]
        .set(1.0 + normal(seed, 2) ** 2)
        .at[2:, 1]
        .set(1.0 + normal(seed + 1, 2) ** 2)
    )
    M = np.kron(np.array([[pair[0], pair[1]], [pair[1], pair[2]]]), np.ones((2, 2)))
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(F, M=M, order=1))
    assert cf.is_gradient(flow, normal(seed + 2, 3, 10) / 10)


def test_in_plain_coordinates_the_gradient_needs_the_metric_of_the_entries_counted_twice():
    """W_11, W_12, W_22 as they are: W_12 stands for two synapses, and the metric is (1, 2, 1)."""
    flow = cf.models.HebbianFlow([1.0, 0.4], order=1)

    def field(t, w, args):
        velocity = flow(t, jnp.array([[w[0], w[1]], [w[1], w[2]]]))
        return jnp.stack([velocity[0, 0], velocity[0, 1], velocity[1, 1]])

    found = cf.is_gradient(field, normal(0, 4, 3))
    assert not found
    np.testing.assert_allclose(found.diagonal_metric, [0.5, 1.0, 0.5], rtol=1e-9)


# ---------------------------------------------------------------------- A.3 excitatory and inhibitory


@pytest.mark.parametrize("order", [1, None], ids=["first order", "exact"])
@given(SEEDS, signs(3))
def test_excitatory_and_inhibitory_networks_follow_no_gradient(order: int | None, seed: int, d: np.ndarray):
    """Among all weights not even with all neurons excitatory; among symmetric ones only with all of one kind."""
    flow = cf.models.HebbianFlow(0.3 + jnp.abs(normal(seed, 3)), d, decay=1.0, order=order)
    assert not cf.is_gradient(flow, matrices(seed + 1, 3))
    found = cf.is_gradient(cf.models.SymmetricWeights(flow), normal(seed + 2, 5, 6) / 10)
    assert found.is_gradient == (not mixed(d))


@given(SEEDS, signs(4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_at_first_order_the_input_must_not_reach_neurons_of_both_kinds(
    seed: int, d: np.ndarray, reached: list[bool]
):
    """Eq. 37, f_i f_j (d_i − d_j) = 0: silent inhibitory neurons are one way, silent excitatory ones another."""
    f = np.where(reached, 0.5 + np.abs(normal(seed, 4)), 0.0)
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(f, d, order=1))
    both = mixed(d[reached]) if any(reached) else False
    assert cf.is_gradient(flow, normal(seed + 1, 2, 10)).is_gradient == (not both)


@pytest.mark.parametrize("silent", [-1.0, 1.0], ids=["inhibitory silent", "excitatory silent"])
def test_uncorrelated_inputs_to_both_kinds_are_a_third_way(silent: float):
    """Against "only when the inhibitory neurons receive no external input": they may, uncorrelated with the others'."""
    d = np.array([1.0, 1.0, -1.0])
    F = jnp.diag(jnp.array([1.0, 0.7, 0.5])) @ jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(F, d, order=1))
    assert cf.is_gradient(flow, normal(0, 3, 6))
    alone = cf.models.SymmetricWeights(cf.models.HebbianFlow(F * (d != silent)[:, None], d, order=1))
    assert cf.is_gradient(alone, normal(0, 3, 6))


@given(SEEDS, signs(3))
def test_beyond_first_order_silent_inhibitory_neurons_do_not_help(seed: int, d: np.ndarray):
    """They are driven by the others: the exact rule is curl descent, Ẇ = −d_i d_j ∇L, whatever the input."""
    assume(mixed(d))
    f = np.where(d > 0, 0.5 + np.abs(normal(seed, 3)), 0.0)
    found = cf.is_gradient(
        cf.models.SymmetricWeights(cf.models.HebbianFlow(f, d)), normal(seed + 1, 6, 6) / 6
    )
    assert not found
    g, expected = found.diagonal_metric, np.outer(d, d)[np.triu_indices(3)]
    assert found.metric == "indefinite"
    assert g is not None
    np.testing.assert_allclose(g * np.sign(g @ expected), expected, atol=1e-6)


@given(SEEDS, signs(6), signs(3))
def test_the_mask_that_undoes_the_signs_restores_the_gradient(seed: int, mask: np.ndarray, d: np.ndarray):
    """Exactly, not only at first order: anti-Hebbian synapses between neurons of different kinds, M_ij = d_i d_j."""
    f = 0.5 + jnp.abs(normal(seed, 3))
    ys = normal(seed + 1, 5, 6) / 10
    M = symmetric_mask(mask, 3)
    for choice in (M, np.outer(d, d)):
        found = cf.is_gradient(cf.models.SymmetricWeights(cf.models.HebbianFlow(f, d, choice, decay=0.5)), ys)
        assert found.is_gradient == (not mixed(choice * np.outer(d, d)))


@given(SEEDS, signs(3))
def test_the_exact_rule_has_no_constant_metric_among_all_weights(seed: int, d: np.ndarray):
    """Only the antisymmetric part of W, which decays by itself, leaves singular ones: 3 directions, 6 matrices."""
    flow = cf.models.HebbianFlow(0.3 + jnp.abs(normal(seed, 3)), d, decay=1.0)
    found = constant(cf.is_gradient(flow, matrices(seed + 1, 3, count=6)))
    assert (found.kind, found.G, found.dimension, found.rank) == ("none", None, 6, 3)
    assert found.residual > 1e-5


@given(SEEDS, signs(3), st.integers(1, 4))
def test_at_first_order_it_is_a_natural_gradient(seed: int, d: np.ndarray, patterns: int):
    """Eq. 2 is linear in W, with the real eigenvalues λ_i + λ_j − γ and −γ, λ those of D Σ: a positive metric exists."""
    F, gamma = normal(seed, 3, patterns), 0.7
    flow = cf.models.HebbianFlow(F, d, decay=gamma, order=1)
    eigenvalues = np.linalg.eigvals(d[:, None] * np.asarray(flow.input_covariance()))
    np.testing.assert_allclose(eigenvalues.imag, 0, atol=1e-7)
    sums = eigenvalues.real[:, None] + eigenvalues.real
    expected = np.sort(np.concatenate([sums[np.triu_indices(3)] - gamma, np.full(3, -gamma)]))
    ys = matrices(seed + 1, 3, count=2)
    found_eigenvalues = np.sort(np.linalg.eigvals(np.asarray(cf.jacobian(flow, ys[0]))).real)
    np.testing.assert_allclose(found_eigenvalues, expected, atol=1e-6)
    # Where two eigenvalues of D Σ nearly cancel, the metric is nearly singular.
    far = np.abs(sums[np.abs(sums) > 1e-9])
    assume(far.min() > 0.05 and np.linalg.cond(np.linalg.eig(d[:, None] * flow.input_covariance())[1]) < 1e3)
    assert constant(cf.is_gradient(flow, ys)).kind == "positive"


def test_at_first_order_a_single_input_that_balances_both_kinds_is_the_exception():
    """fᵀ D f = 0: D Σ is nilpotent, the rule has a Jordan block, and no metric is positive definite."""
    flow = cf.models.HebbianFlow([1.0, 1.0], [1, -1], decay=1.0, order=1)
    assert constant(cf.is_gradient(flow, matrices(0, 2))).kind == "indefinite"


# ----------------------------------------------------------------------------- A.4 similarity matching


@pytest.mark.parametrize("order", [3, None], ids=["third order", "exact"])
@given(SEEDS)
def test_the_circuit_descends_in_one_layer_and_climbs_in_the_other(order: int | None, seed: int):
    """Against "can be expressed as a gradient flow": the only constant metric is + for W_FE and − for the tied W_EI."""
    flow = cf.models.SimilarityMatching(normal(seed, 2, 5), 2, 2, order=order)
    W = cf.models.CircuitWeights(normal(seed + 1, 4, 2, 2) / 2, normal(seed + 2, 4, 2, 2) / 2)
    found = cf.is_gradient(flow, W)
    assert not found
    assert found.asymmetry > 1e-2
    assert (constant(found).kind, constant(found).dimension) == ("indefinite", 1)
    g = found.diagonal_metric
    assert g is not None
    np.testing.assert_allclose(g * g[0], [1.0] * 4 + [-1.0] * 4, atol=1e-6)


@given(SEEDS)
def test_anti_hebbian_synapses_would_make_the_circuit_a_gradient_flow(seed: int):
    """What Eq. 45 states is true of the circuit whose synapses to and from inhibitory neurons are anti-Hebbian."""
    flow = AntiHebbianCircuit(cf.models.SimilarityMatching(normal(seed, 2, 5), 2, 2, order=3))
    W = cf.models.CircuitWeights(normal(seed + 1, 4, 2, 2) / 2, normal(seed + 2, 4, 2, 2) / 2)
    assert cf.is_gradient(flow, W)
    slope = jax.grad(flow.circuit.objective)(jax.tree.map(lambda leaf: leaf[0], W))
    velocity = flow(0.0, jax.tree.map(lambda leaf: leaf[0], W))
    np.testing.assert_allclose(velocity.feedforward, -slope.feedforward, rtol=0, atol=1e-10)
    np.testing.assert_allclose(velocity.to_inhibitory, -slope.to_inhibitory, rtol=0, atol=1e-10)


class AntiHebbianCircuit(eqx.Module):
    circuit: cf.models.SimilarityMatching

    def __call__(self, t: Any, W: cf.models.CircuitWeights, args: Any = None) -> cf.models.CircuitWeights:
        velocity = self.circuit(t, W)
        return cf.models.CircuitWeights(velocity.feedforward, -velocity.to_inhibitory)


@given(SEEDS)
def test_untied_the_circuit_has_no_constant_metric(seed: int):
    flow = cf.models.SimilarityMatching(normal(seed, 2, 5), 2, 1)
    W = cf.models.CircuitWeights(
        *(normal(seed + i, 5, *shape) / 2 for i, shape in enumerate([(2, 2), (1, 2), (2, 1)], 1))
    )
    found = constant(cf.is_gradient(flow, W))
    assert (found.kind, found.rank) == ("none", 2)  # the difference of the two inhibitory layers stands still
    assert found.residual > 1e-4


# ------------------------------------------------------------------------------------- a user's own rules


@pytest.mark.slow
def test_the_rules_of_the_documentation_come_back_with_the_right_answers():
    """Run from the page itself: a natural gradient, a curl descent, and an excitatory–inhibitory Hebbian rule."""
    page = (Path(__file__).parents[2] / "docs" / "origins.md").read_text(encoding="utf-8")
    cells = re.findall(r"^```\{code-cell\}\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile("\n".join(cells[:3]), "origins.md", "exec"), names)
    rules = cells[1]
    assert sum(bool(line.strip()) for line in rules.splitlines()) <= 10

    natural = constant(cf.is_gradient(names["natural"], names["points"][3]))
    assert (natural.kind, natural.dimension) == ("positive", 1)
    assert natural.G is not None
    np.testing.assert_allclose(natural.G, names["fisher"] / 2, atol=1e-9)

    curl = constant(cf.is_gradient(names["curl_descent"], names["points"][3]))
    assert (curl.kind, curl.dimension) == ("indefinite", 1)
    np.testing.assert_allclose(curl.G, np.diag(names["signs"]), atol=1e-9)

    hebbian = constant(cf.is_gradient(names["hebbian"], names["points"][9]))
    assert (hebbian.kind, hebbian.G) == ("none", None)
    assert hebbian.residual > 0.05
