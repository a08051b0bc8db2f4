"""Hebbian flows: the paper's equations entry by entry, their objectives, and the limit of fast neurons.

Which of these rules follow a gradient is tested in test_origins.py.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array

import curlflow as cf

N, K = 4, 3


def normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


F_IN = normal(0, N, K)
SIGMA = F_IN @ F_IN.T / K
D = np.array([1.0, -1.0, 1.0, -1.0])
MASK = np.where(np.random.default_rng(0).random((N, N)) < 0.5, -1.0, 1.0)
SYMMETRIC_MASK = np.where(MASK + MASK.T > 0, 1.0, -1.0)
W0 = normal(1, N, N) / 5


def symmetric(seed: int) -> Array:
    W = normal(seed, N, N) / 6
    return W + W.T


# ------------------------------------------------------------------------------- the paper's equations


def test_first_order_is_eq_2_and_eq_24():
    WD = W0 * D
    flow = cf.models.HebbianFlow(F_IN, D, decay=0.7, order=1)
    np.testing.assert_allclose(
        flow(0.0, W0), SIGMA + WD @ SIGMA + SIGMA @ np.diag(D) @ W0.T - 0.7 * W0, rtol=0, atol=1e-14
    )
    mixed = cf.models.HebbianFlow(F_IN, M=MASK, order=1)
    np.testing.assert_allclose(mixed(0.0, W0), (SIGMA + SIGMA @ W0.T + W0 @ SIGMA) * MASK, rtol=0, atol=1e-14)


def test_third_order_is_eqs_42_and_43():
    """All ten terms as printed, for inputs to excitatory neurons only, where D Σ = Σ D = Σ."""
    f = jnp.asarray(F_IN).at[D < 0].set(0.0)
    S, Dm, W = f @ f.T / K, np.diag(D), np.asarray(W0)
    WD, DWt = W @ Dm, Dm @ W.T
    first = S + W @ S + S @ W.T + WD @ WD @ S + W @ S @ W.T + S @ DWt @ DWt
    second = WD @ WD @ WD @ S + WD @ WD @ S @ W.T + W @ S @ DWt @ DWt + S @ DWt @ DWt @ DWt
    np.testing.assert_allclose(
        cf.models.HebbianFlow(f, D, order=3)(0.0, W0), first + second, rtol=0, atol=1e-13
    )


def test_the_exact_rule_is_the_outer_product_of_activities_at_rest():
    flow = cf.models.HebbianFlow(F_IN, D, MASK, decay=0.3)
    y = flow.steady_activity(W0)
    np.testing.assert_allclose(y, W0 @ np.diag(D) @ y + F_IN, rtol=0, atol=1e-13)
    np.testing.assert_allclose(flow.neural_velocity(y, W0), 0, atol=1e-13)
    expected = sum(np.outer(column, column) for column in np.asarray(y).T) / K * MASK - 0.3 * W0
    np.testing.assert_allclose(flow(0.0, W0), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_the_expansion_is_right_up_to_its_order(order: int):
    """Its distance from the exact rule falls as the size of W to the power order + 1."""
    exact, expanded = cf.models.HebbianFlow(F_IN, D, MASK), cf.models.HebbianFlow(F_IN, D, MASK, order=order)
    sizes = np.array([1e-1, 1e-2])
    errors = [float(jnp.abs(exact(0.0, size * W0) - expanded(0.0, size * W0)).max()) for size in sizes]
    assert np.log10(errors[0] / errors[1]) == pytest.approx(order + 1, abs=0.1)


def test_neurons_run_away_where_an_eigenvalue_of_WD_passes_one():
    flow = cf.models.HebbianFlow([1.0, 1.0], [1, -1])
    assert float(flow.neural_growth_rate(jnp.diag(jnp.array([1.5, 9.0])))) == pytest.approx(0.5)
    assert float(flow.neural_growth_rate(jnp.diag(jnp.array([0.5, 9.0])))) == pytest.approx(-0.5)


@given(st.integers(0, 2**31 - 1), st.permutations(range(N)), st.sampled_from([None, 1, 3]))
def test_neurons_have_no_order(seed: int, order: list[int], expansion: int | None):
    """Renaming the neurons renames the velocity's rows and columns."""
    W, p = normal(seed, N, N) / 5, np.array(order)
    flow = cf.models.HebbianFlow(F_IN, D, MASK, decay=0.2, order=expansion)
    renamed = cf.models.HebbianFlow(F_IN[p], D[p], MASK[np.ix_(p, p)], decay=0.2, order=expansion)
    np.testing.assert_allclose(renamed(0.0, W[np.ix_(p, p)]), flow(0.0, W)[np.ix_(p, p)], rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------------ symmetric weights


def test_coordinates_of_symmetric_weights_keep_the_inner_product():
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(F_IN, D))
    A, B = symmetric(2), symmetric(3)
    np.testing.assert_allclose(flow.lift(flow.reduce(A)), A, rtol=0, atol=1e-15)
    assert float(flow.reduce(A) @ flow.reduce(B)) == pytest.approx(float(jnp.vdot(A, B)), rel=1e-13)


def test_the_antisymmetric_part_only_decays():
    flow = cf.models.HebbianFlow(0.3 * F_IN, D, SYMMETRIC_MASK, decay=1.0)
    end = cf.integrate(flow, W0, 2.0, rtol=1e-11, atol=1e-13).final_state
    np.testing.assert_allclose(end - end.T, np.exp(-2.0) * (W0 - W0.T), rtol=0, atol=1e-9)


def test_among_symmetric_weights_the_flow_is_the_full_one():
    full = cf.models.HebbianFlow(0.3 * F_IN, D, decay=1.0)
    flow = cf.models.SymmetricWeights(full)
    x = flow.reduce(symmetric(4))
    end = cf.integrate(flow, x, 2.0, rtol=1e-11, atol=1e-13).final_state
    expected = cf.integrate(full, symmetric(4), 2.0, rtol=1e-11, atol=1e-13).final_state
    np.testing.assert_allclose(flow.lift(end), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [None, 0, 1, 2, 3])
@given(
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=N, max_size=N),
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=N * N, max_size=N * N),
)
def test_on_symmetric_weights_every_rule_is_curl_descent(
    order: int | None, d: list[float], mask: list[float]
):
    """Excitatory or inhibitory, Hebbian or anti-Hebbian: Ẇ = −signs ⊙ ∇L with the signs d_i d_j M_ij."""
    M = np.triu(np.reshape(mask, (N, N)), 1)
    M = M + M.T + np.diag(mask[:N])
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(F_IN, d, M, decay=0.4, order=order))
    x = flow.reduce(symmetric(5))
    np.testing.assert_array_equal(flow.signs, flow.reduce(np.outer(d, d) * M) / flow.reduce(np.ones((N, N))))
    np.testing.assert_allclose(flow(0.0, x), -flow.signs * jax.grad(flow.loss)(x), rtol=0, atol=1e-11)


def test_eq_32_has_half_of_the_objective():
    """−½ ∇ of −tr(Σ W + W Σ W), as printed, is half of Ẇ at every symmetric W; it counts each entry's mirror image too."""
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(F_IN, order=1))
    x = flow.reduce(symmetric(5))

    def printed(x: Array) -> Array:
        W = flow.lift(x)
        return -jnp.trace(SIGMA @ W + W @ SIGMA @ W)

    np.testing.assert_allclose(-0.5 * jax.grad(printed)(x), 0.5 * flow(0.0, x), rtol=0, atol=1e-12)
    assert float(flow.loss(x)) == pytest.approx(float(printed(x)), rel=1e-12)


def test_silent_inhibitory_neurons_leave_an_objective_of_the_first_order():
    """With D Σ = Σ D the first-order rule is the plain gradient of tr(Σ W + W D Σ W), beside its curl descent."""
    f = jnp.asarray(F_IN).at[D < 0].set(0.0)
    flow = cf.models.SymmetricWeights(cf.models.HebbianFlow(f, D, order=1))
    Sigma, x = flow.flow.input_covariance(), flow.reduce(symmetric(6))

    def objective(x: Array) -> Array:
        W = flow.lift(x)
        return jnp.trace(Sigma @ W + W @ np.diag(D) @ Sigma @ W)

    np.testing.assert_allclose(flow(0.0, x), jax.grad(objective)(x), rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------- similarity matching

X = normal(7, 3, 6)
TIED = cf.models.CircuitWeights(normal(8, 4, 3) / 2, normal(9, 2, 4) / 2)
UNTIED = cf.models.CircuitWeights(normal(8, 4, 3) / 2, normal(9, 2, 4) / 2, normal(10, 4, 2) / 2)
# Inhibition that nearly mirrors excitation, so that the neurons are far from running away.
NEARLY_TIED = cf.models.CircuitWeights(
    TIED.feedforward, TIED.to_inhibitory, TIED.inhibition + normal(10, 4, 2) / 10
)


def circuit(order: int | None = None, decay: float = 0.0) -> cf.models.SimilarityMatching:
    return cf.models.SimilarityMatching(X, excitatory=4, inhibitory=2, decay=decay, order=order)


def test_the_circuit_at_rest_is_solved_in_blocks():
    y = circuit().steady_activity(UNTIED)
    y_E = np.linalg.solve(np.eye(4) + UNTIED.disynaptic_inhibition, UNTIED.feedforward @ X)
    np.testing.assert_allclose(y, np.concatenate([X, y_E, UNTIED.to_inhibitory @ y_E]), rtol=0, atol=1e-13)
    velocity, y_I = circuit(decay=0.3)(0.0, UNTIED), UNTIED.to_inhibitory @ y_E
    assert velocity.from_inhibitory is not None
    np.testing.assert_allclose(velocity.feedforward, y_E @ X.T / 6 - 0.3 * UNTIED.feedforward, atol=1e-13)
    np.testing.assert_allclose(
        velocity.to_inhibitory, y_I @ y_E.T / 6 - 0.3 * UNTIED.to_inhibitory, atol=1e-13
    )
    np.testing.assert_allclose(
        velocity.from_inhibitory, y_E @ y_I.T / 6 - 0.3 * UNTIED.inhibition, atol=1e-13
    )


def test_the_circuit_at_third_order_is_eq_44():
    velocity, W = circuit(order=3)(0.0, UNTIED), UNTIED
    Sigma = X @ X.T / 6
    rec = W.feedforward @ Sigma @ W.feedforward.T
    assert velocity.from_inhibitory is not None
    np.testing.assert_allclose(
        velocity.feedforward, (np.eye(4) - W.inhibition @ W.to_inhibitory) @ W.feedforward @ Sigma, atol=1e-13
    )
    np.testing.assert_allclose(velocity.to_inhibitory, W.to_inhibitory @ rec, atol=1e-13)
    np.testing.assert_allclose(velocity.from_inhibitory, rec @ W.to_inhibitory.T, atol=1e-13)


@pytest.mark.parametrize("order", [None, 3])
def test_the_circuit_is_a_network_of_excitatory_and_inhibitory_neurons(order: int | None):
    """Its velocity is that of the whole network, on the synapses that exist."""
    small, W = circuit(order, decay=0.2), UNTIED
    d = np.array([1.0] * 7 + [-1.0] * 2)
    f = jnp.concatenate([X, jnp.zeros((6, 6))])
    whole = np.asarray(cf.models.HebbianFlow(f, d, decay=0.2, order=order)(0.0, small.matrix(W)))
    velocity = small(0.0, W)
    np.testing.assert_allclose(velocity.feedforward, whole[3:7, :3], atol=1e-14)
    np.testing.assert_allclose(velocity.to_inhibitory, whole[7:, 3:7], atol=1e-14)
    np.testing.assert_allclose(velocity.from_inhibitory, whole[3:7, 7:], atol=1e-14)


@pytest.mark.parametrize("order", [None, 3])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_one_layer_of_the_circuit_descends_and_the_other_climbs(order: int | None, decay: float):
    flow = circuit(order, decay)
    velocity, slope = flow(0.0, TIED), jax.grad(flow.objective)(TIED)
    np.testing.assert_allclose(velocity.feedforward, -slope.feedforward, rtol=0, atol=1e-13)
    np.testing.assert_allclose(velocity.to_inhibitory, slope.to_inhibitory, rtol=0, atol=1e-13)
    assert np.abs(velocity.to_inhibitory).min() > 1e-4


def test_eq_45_term_by_term():
    """With each of the three layers counted, −∇ of ½ tr((M − I) Σ_rec) is Ẇ in the first, and −½ Ẇ in the other two."""
    flow = circuit(order=3)
    W = cf.models.CircuitWeights(TIED.feedforward, TIED.to_inhibitory, TIED.inhibition)
    velocity, slope = flow(0.0, W), jax.grad(flow.objective)(W)
    assert velocity.from_inhibitory is not None
    assert slope.from_inhibitory is not None
    np.testing.assert_allclose(-slope.feedforward, velocity.feedforward, rtol=0, atol=1e-13)
    np.testing.assert_allclose(-slope.to_inhibitory, -velocity.to_inhibitory / 2, rtol=0, atol=1e-13)
    np.testing.assert_allclose(-slope.from_inhibitory, -velocity.from_inhibitory / 2, rtol=0, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_two_inhibitory_layers_approach_each_other_only_by_decay(decay: float):
    """Their difference decays as e^(−γ t): without decay it stays, where the paper assumes that they converge."""
    flow = circuit(decay=decay)
    end = cf.integrate(flow, UNTIED, 1.5, rtol=1e-11, atol=1e-13).final_state
    difference = UNTIED.inhibition - UNTIED.to_inhibitory.T
    np.testing.assert_allclose(
        end.inhibition - end.to_inhibitory.T, np.exp(-1.5 * decay) * difference, rtol=0, atol=1e-9
    )


@pytest.mark.slow
def test_tied_weights_move_as_untied_ones_do_where_they_agree():
    flow = circuit(decay=0.5)
    both = cf.models.CircuitWeights(TIED.feedforward, TIED.to_inhibitory, TIED.inhibition)
    end, expected = (cf.integrate(flow, W, 2.0, rtol=1e-11, atol=1e-13).final_state for W in (TIED, both))
    for leaf, other in zip(jtu.tree_leaves(end), jtu.tree_leaves(expected), strict=False):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-9)


# --------------------------------------------------------------------------------------- fast neurons


def distances(flow: Any, W: Any, T: float, epsilons: tuple[float, ...]) -> np.ndarray:
    """How far the weights of a network with fast neurons are from the flow's after the time T."""
    slow = jtu.tree_leaves(cf.integrate(flow, W, T, rtol=1e-11, atol=1e-13).final_state)
    found = []
    for epsilon in epsilons:
        network = cf.models.FastNeurons(flow, epsilon)
        end = cf.integrate(network, network.at_rest(W), T, rtol=1e-10, atol=1e-12).final_state
        pairs = zip(jtu.tree_leaves(end.W), slow, strict=True)
        found.append(max(float(np.abs(a - b).max()) for a, b in pairs))
    return np.array(found)


@pytest.mark.parametrize(
    ("flow", "W"),
    [
        pytest.param(
            cf.models.HebbianFlow(0.4 * F_IN, D, decay=1.0),
            W0,
            id="excitatory-inhibitory",
            marks=pytest.mark.slow,
        ),
        pytest.param(cf.models.HebbianFlow(0.4 * F_IN, M=MASK, decay=1.0), W0, id="mixed"),
        pytest.param(cf.models.SimilarityMatching(0.4 * X, 4, 2, decay=1.0), NEARLY_TIED, id="circuit"),
    ],
)
def test_weights_with_fast_neurons_follow_the_flow_to_first_order_in_the_time_scales(flow: Any, W: Any):
    errors = distances(flow, W, 1.0, (0.02, 0.01, 0.005))
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 1.0, atol=0.1)
    assert errors[-1] < 0.01


def test_fast_neurons_settle_from_anywhere():
    """One time unit is a hundred time constants of the neurons: where they start matters only by what W learned meanwhile."""
    flow = cf.models.HebbianFlow(0.4 * F_IN, D, decay=1.0)
    network = cf.models.FastNeurons(flow, 0.01)
    end = cf.integrate(network, cf.models.NetworkState(jnp.zeros((N, K)), W0), 1.0).final_state
    np.testing.assert_allclose(end.y, flow.steady_activity(end.W), atol=0.02)


# --------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cf.models.HebbianFlow(jnp.zeros((2, 2, 2))), r"`f` must have shape \(N, K\)"),
        (lambda: cf.models.HebbianFlow([1.0, 2.0], [1.0]), r"`d` must have shape \(N,\) = \(2,\)"),
        (lambda: cf.models.HebbianFlow([1.0, 2.0], [1.0, 0.0]), "`d` must hold only \\+1 and −1"),
        (lambda: cf.models.HebbianFlow([1.0, 2.0], M=[1.0, 1.0]), r"`M` must have shape \(N, N\)"),
        (lambda: cf.models.HebbianFlow([1.0], M=[[0.0]]), "`M` must hold only \\+1 and −1"),
        (lambda: cf.models.HebbianFlow([1.0], decay=-1.0), "`decay` must not be negative"),
        (lambda: cf.models.HebbianFlow([1.0], order=-1), "`order` must be a whole number"),
        (lambda: cf.models.HebbianFlow([1.0], order=1.0), "`order` must be a whole number"),
        (
            lambda: cf.models.HebbianFlow([1.0, 2.0])(0.0, jnp.zeros((3, 3))),
            r"`W` must have shape \(N, N\) = \(2, 2\)",
        ),
        (lambda: cf.models.SymmetricWeights(cf.toy_flow()), "`flow` must be a HebbianFlow, but is ToyFlow"),
        (
            lambda: cf.models.SymmetricWeights(cf.models.HebbianFlow(F_IN, M=MASK)),
            "`flow` must have a symmetric mask",
        ),
        (
            lambda: cf.models.SymmetricWeights(cf.models.HebbianFlow(F_IN))(0.0, jnp.zeros(3)),
            r"`x` must have shape .* = \(10,\)",
        ),
        (lambda: cf.models.SimilarityMatching(X, 0, 1), "`excitatory` must be at least 1"),
        (lambda: cf.models.SimilarityMatching(X, 1, 1.5), "`inhibitory` must be a whole number"),
        (lambda: cf.models.SimilarityMatching(jnp.zeros((1, 1, 1)), 1, 1), r"`f` must have shape \(F, K\)"),
        (lambda: circuit()(0.0, W0), "must be CircuitWeights, but is ArrayImpl"),
        (
            lambda: cf.models.SimilarityMatching(X, 3, 2)(0.0, TIED),
            r"`feedforward` must have shape \(E, F\) = \(3, 3\), but has shape \(4, 3\)",
        ),
        (lambda: circuit(order=2).objective(TIED), "`order` must be 3 or None"),
        (lambda: cf.models.FastNeurons(cf.toy_flow(), 0.1), "`flow` must be a HebbianFlow or a Sim"),
        (lambda: cf.models.FastNeurons(circuit(order=3), 0.1), "is expanded to order 3"),
        (lambda: cf.models.FastNeurons(circuit(), 0.0), "`epsilon` must be positive"),
        (lambda: cf.models.FastNeurons(circuit(), 0.1)(0.0, UNTIED), "must be NetworkState"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(make: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        make()
