"""GramFlow: the reduction against the network it reduces, its start at infinite width, and what it conserves."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curlflow as cf

N, M, P = 9, 3, 2
D1 = [1.0, -1.0, 1.0]
TIMES = np.linspace(0, 50, 26)
D2 = {"+": np.ones(N), "-": -np.ones(N), "±": np.array([1, -1, 1, 1, -1, -1, 1, -1, 1.0])}


def full_flow(signs: str, constrained: bool, S_scale: float = 1.0) -> cf.CurlFlow | cf.NormConstrained:
    S = S_scale * jax.random.normal(jax.random.key(0), (P, M))
    C = cf.ensembles.sample_covariance(jax.random.key(1), M=M, samples=7)
    flow = cf.CurlFlow(S, D1, D2[signs], C)
    return cf.NormConstrained(flow) if constrained else flow


def weights(seed: int, scale: float = 1.0) -> cf.Weights:
    W = cf.ensembles.gaussian_weights(jax.random.key(seed), N=N, M=M, P=P)
    return jtu.tree_map(lambda layer: scale * layer, W)


def assert_same(actual: cf.models.Gram, expected: cf.models.Gram, tolerance: float) -> None:
    for a, b in zip(jtu.tree_leaves(actual), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@jax.jit
def step_both(
    full: cf.CurlFlow | cf.NormConstrained, flow: cf.GramFlow, W: cf.Weights
) -> list[cf.models.Gram]:
    """The reduction of what the network does and what the reduction does: a velocity, its product form, a step of descent."""
    velocity = full(0.0, W)
    stepped = jtu.tree_map(lambda layer, rate: layer + 0.3 * rate, W, velocity)
    y, expected = jax.jvp(flow.reduce, (W,), (velocity,))
    product = y.matrices @ flow.unit_generators(y)
    as_product = cf.models.Gram.from_matrices(product + jnp.swapaxes(product, 1, 2), P)
    return [expected, flow(0.0, y), as_product, flow.reduce(stepped), flow.descend(y, 0.3)]


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("signs", D2)
@given(seed=st.integers(0, 2**31))
def test_velocity_and_descent_are_those_of_the_network(signs: str, constrained: bool, seed: int):
    full = full_flow(signs, constrained)
    expected, rate, as_product, stepped, descended = step_both(
        full, cf.GramFlow.from_flow(full), weights(seed)
    )
    assert_same(rate, expected, 1e-12)
    assert_same(as_product, expected, 1e-12)
    assert_same(descended, stepped, 1e-12)


@given(seed=st.integers(0, 2**31))
def test_rotations_within_a_group_change_nothing_and_across_groups_do(seed: int):
    flow, W = cf.GramFlow.from_flow(full_flow("±", False)), weights(seed)

    def turned(i: int, j: int) -> cf.models.Gram:
        R = np.eye(N)
        R[[i, i, j, j], [i, j, i, j]] = [0.6, 0.8, -0.8, 0.6]
        return flow.reduce(cf.Weights(R @ W.W1, W.W2 @ R.T))

    y = flow.reduce(W)
    assert_same(turned(0, 2), y, 1e-12)
    assert float(jnp.abs(turned(0, 1).inputs - y.inputs).max()) > 1e-3


@pytest.mark.parametrize(
    ("constrained", "signs", "scale"),
    [
        (True, "±", 1.0),
        pytest.param(False, "+", 1.0, marks=pytest.mark.slow),
        (False, "±", 0.1),
    ],
)
def test_shared_observables_agree_along_a_trajectory(constrained: bool, signs: str, scale: float):
    # The free flow with flips in both layers blows up within a few time units, unless all that drives it is weak.
    full, W = full_flow(signs, constrained, S_scale=scale**2), weights(3, scale)
    flow = cf.GramFlow.from_flow(full)
    options = {"rtol": 1e-13, "atol": 1e-15, "ts": TIMES, "solver": "tsit5"}
    exact = cf.integrate(full, W, 50.0, **options)
    reduced = cf.integrate(flow, flow.reduce(W), 50.0, **options)
    assert exact.outcome.ok
    assert reduced.outcome.ok
    np.testing.assert_allclose(reduced.loss(), exact.loss(), rtol=0, atol=1e-9)
    assert_same(reduced.ys, jax.vmap(flow.reduce)(exact.ys), 1e-9)
    np.testing.assert_allclose(
        jax.vmap(lambda y: y.end_to_end)(reduced.ys), jax.vmap(lambda W: W.end_to_end)(exact.ys), atol=1e-9
    )
    moved = jnp.abs(reduced.ys.cross[-1] - reduced.ys.cross[0]).max() / jnp.abs(reduced.ys.cross[0]).max()
    assert moved > 0.1


def test_blow_up_comes_at_the_networks_time():
    full, W = full_flow("±", False), weights(3)
    flow = cf.GramFlow.from_flow(full)
    exact = cf.integrate(full, W, 50.0, rtol=1e-12, blow_up=1e5, ts=TIMES, solver="tsit5")
    reduced = cf.integrate(flow, flow.reduce(W), 50.0, rtol=1e-12, blow_up=1e10, ts=TIMES, solver="tsit5")
    assert exact.outcome.ending == reduced.outcome.ending == cf.Ending.BLEW_UP
    assert abs(exact.outcome.time - reduced.outcome.time) < 1e-4


@pytest.mark.parametrize("signs", D2)
@given(seed=st.integers(0, 2**31))
def test_a_lifted_state_is_that_of_a_network(signs: str, seed: int):
    flow, W = cf.GramFlow.from_flow(full_flow(signs, False)), weights(seed)
    y = flow.reduce(W)
    lifted = flow.lift(y)
    assert_same(flow.reduce(lifted), y, 1e-12)
    np.testing.assert_allclose(lifted.end_to_end, W.end_to_end, atol=1e-12)


def test_lifting_needs_enough_hidden_units_and_a_positive_matrix():
    narrow = cf.GramFlow.from_flow(cf.CurlFlow(np.ones((P, M)), D1, [1, 1, 1, -1]))
    W = cf.ensembles.gaussian_weights(jax.random.key(0), N=4, M=M, P=P)
    y = narrow.reduce(W)  # ranks 3 and 1 of 5: as many as there are units
    assert_same(narrow.reduce(narrow.lift(y)), y, 1e-12)
    swapped = jtu.tree_map(lambda leaf: leaf[::-1], y)
    with pytest.raises(
        ValueError, match=r"at most the rank of the network's 1 hidden units, but .* has rank 3"
    ):
        narrow.lift(swapped)
    with pytest.raises(
        ValueError, match=r"must hold positive semidefinite .* of the group with sign \+1 has the eigen"
    ):
        narrow.lift(jtu.tree_map(jnp.negative, y))


def test_only_signs_that_occur_get_a_group():
    assert [len(cf.GramFlow.from_flow(full_flow(signs, True)).signs) for signs in D2] == [1, 1, 2]
    y = cf.GramFlow.from_flow(full_flow("±", True)).reduce(weights(0))
    assert sum(leaf.size for leaf in jtu.tree_leaves(y)) == 2 * (M + P) * (M + P + 1) // 2


def test_matrices_and_their_blocks():
    W, flow = weights(5), cf.GramFlow.from_flow(full_flow("±", False))
    y, Q = flow.reduce(W), np.concatenate([W.W1, W.W2.T], axis=1)
    for sign, matrix in zip(flow.signs, y.matrices, strict=True):
        np.testing.assert_allclose(matrix, Q[D2["±"] == sign].T @ Q[D2["±"] == sign], atol=1e-13)
    np.testing.assert_allclose(y.input_gram, W.W1.T @ W.W1, atol=1e-13)
    np.testing.assert_allclose(y.output_gram, W.W2 @ W.W2.T, atol=1e-13)
    np.testing.assert_allclose(flow.norms(y), [np.sum(W.W1**2), np.sum(W.W2**2)], rtol=1e-13)
    assert_same(cf.models.Gram.from_matrices(y.matrices, P), y, 0.0)


def test_the_free_flow_conserves_the_powers_of_what_the_network_conserves():
    full, W = full_flow("±", False), weights(6)
    flow = cf.GramFlow.from_flow(full)
    values = flow.conserved(flow.reduce(W))
    balance = np.asarray(full.conserved(W))
    for group, sign in enumerate(flow.signs):
        units = np.flatnonzero(D2["±"] == sign)
        own = balance[np.ix_(units, units)]
        powers = [np.trace(np.linalg.matrix_power(own, k)) for k in range(1, M + P + 1)]
        np.testing.assert_allclose(values[group], powers, rtol=1e-11)
    _, rate = jax.jvp(flow.conserved, (flow.reduce(W),), (flow(0.0, flow.reduce(W)),))
    np.testing.assert_allclose(rate / jnp.abs(values).max(), 0.0, atol=1e-13)


def test_the_constraint_holds_to_rounding_over_a_long_time_even_with_crude_steps():
    flow = cf.GramFlow.from_flow(full_flow("±", True))
    y = flow.reduce(weights(3))
    run = cf.integrate(flow, y, 1e4, rtol=1e-3, atol=1e-3, ts=TIMES, solver="tsit5")
    assert run.outcome.ok
    assert float(run.conserved_drift().max()) < 1e-11
    assert float(jnp.abs(run.final_state.cross - y.cross).max()) > 0.1


@pytest.mark.slow
def test_infinite_width_is_the_limit_of_wide_networks():
    d1, alpha_r, norms = np.array([1.0, -1.0, 1.0]), 0.25, (1.5, 0.8)
    times = np.linspace(0, 3, 13)
    wide = cf.GramFlow([1.0, 2.0, -1.0], d1, [1.0, -1.0])
    limit = cf.integrate(wide, wide.wide_start(*norms, alpha_r=alpha_r), 3.0, ts=times)

    def worst_error(width: int) -> float:
        errors = []
        for seed in range(8):
            W = cf.ensembles.gaussian_weights(jax.random.key(seed), N=width, M=3)
            W = cf.Weights(*(n * L / jnp.linalg.norm(L) for n, L in zip(norms, (W.W1, W.W2), strict=True)))
            full = cf.CurlFlow([1.0, 2.0, -1.0], d1, cf.ensembles.sign_pattern(width, fraction=alpha_r))
            flow = cf.GramFlow.from_flow(full)
            run = cf.integrate(wide, flow.reduce(W), 3.0, ts=times)
            errors.append(float(jnp.abs(run.loss() - limit.loss()).max()))
        return float(np.sqrt(np.mean(np.square(errors))))

    narrow, broad = worst_error(400), worst_error(40_000)
    assert 5 < narrow / broad < 20  # a hundred times the width, a tenth of the error


def test_a_wide_start_has_the_norms_and_shares_asked_for():
    flow = cf.GramFlow(np.ones((P, M)), D1, [1.0, -1.0])
    y = flow.wide_start(3.0, 2.0, alpha_r=0.25)
    np.testing.assert_allclose(flow.norms(y), [9.0, 4.0])
    np.testing.assert_allclose(y.matrices[1], np.diag([0.75] * M + [0.5] * P))
    one = cf.GramFlow(np.ones((P, M)), D1, [1.0])
    np.testing.assert_allclose(one.norms(one.wide_start(3.0, 2.0)), [9.0, 4.0])
    for system, alpha_r in ((flow, None), (one, 0.5), (flow, 1.5)):
        with pytest.raises(ValueError, match="`alpha_r` must"):
            system.wide_start(3.0, 2.0, alpha_r=alpha_r)


def test_rescaling_brings_back_the_norms_and_is_the_networks():
    flow, W, V = cf.GramFlow.from_flow(full_flow("±", False)), weights(1), weights(2, 3.0)
    scaled = cf.Weights(
        V.W1 * jnp.linalg.norm(W.W1) / jnp.linalg.norm(V.W1),
        V.W2 * jnp.linalg.norm(W.W2) / jnp.linalg.norm(V.W2),
    )
    assert_same(flow.rescale(flow.reduce(V), like=flow.reduce(W)), flow.reduce(scaled), 1e-12)


@pytest.mark.slow
def test_a_million_hidden_units_cost_no_more_numbers_than_ten():
    d1 = cf.ensembles.sign_pattern(20, fraction=0.5)
    for width in (10, 1_000_000):
        flow = cf.GramFlow.from_flow(cf.NormConstrained(cf.CurlFlow(np.ones(20), d1, np.ones(width))))
        y = flow.reduce(cf.ensembles.gaussian_weights(jax.random.key(0), N=width, M=20))
        assert sum(leaf.size for leaf in jtu.tree_leaves(y)) == 21 * 22 // 2
        assert np.isfinite(flow.loss(flow(0.0, y)))


def test_fixed_points_are_found_and_classified():
    full = cf.CurlFlow([1.0], [1.0], [1.0, 1.0])
    flow = cf.GramFlow.from_flow(full)
    solution = flow.reduce(cf.Weights([[1.0], [2.0]], [[3.0, -1.0]]))
    point = cf.classify(flow, solution)
    # A = 5, G = 10 are what the learning rule sees; the other two of three directions run along W2 W1 = S.
    np.testing.assert_allclose(np.sort(np.real(point.eigenvalues)), [-15.0, 0.0, 0.0], atol=1e-9)
    assert (point.n_stable, point.n_manifold) == (1, 2)


def test_wrong_arguments_are_refused():
    flow = cf.GramFlow(np.ones((P, M)), D1, [1.0])
    constrained = cf.GramFlow(np.ones((P, M)), D1, [1.0], norm_constrained=True)
    with pytest.raises(ValueError, match="made by `from_flow`"):
        flow.reduce(weights(0))
    with pytest.raises(ValueError, match="`flow` must be a CurlFlow or NormConstrained"):
        cf.GramFlow.from_flow(cf.NormConstrained(cf.toy_flow()))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="must be a Gram, but is Weights"):
        flow(0.0, weights(0))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`cross` must have shape \(groups, P, M\)"):
        flow.check_state(cf.models.Gram(np.zeros((1, 6)), np.zeros((1, M, P)), np.zeros((1, 3))))
    with pytest.raises(ValueError, match="must have a nonzero norm"):
        constrained.check_state(cf.models.Gram(np.zeros((1, 6)), np.zeros((1, P, M)), np.ones((1, 3))))
    with pytest.raises(ValueError, match="must hold only"):
        cf.GramFlow(np.ones((P, M)), D1, [0.5])
    with pytest.raises(ValueError, match="`signs` must list"):
        cf.GramFlow(np.ones((P, M)), D1, 1.0)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda d2: cf.GramFlow.from_flow(cf.CurlFlow(np.ones(M), D1, d2)).signs)(np.ones(N))
