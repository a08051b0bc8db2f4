"""CurlFlow: its velocity, its loss rate, what it conserves, and its symmetries."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import curlflow as cf

N, M = 4, 3  # hidden units, inputs


def real(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape, elements=st.floats(-3, 3, width=16))


def signs(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, n, elements=st.sampled_from([-1.0, 1.0]))


@st.composite
def networks(draw: st.DrawFn, P: int = 2) -> tuple[cf.CurlFlow, cf.Weights]:
    """A flow with any signs and a covariance of any rank, and weights."""
    X = draw(real(2, M))
    flow = cf.CurlFlow(draw(real(P, M)), draw(signs(M)), draw(signs(N)), X.T @ X)
    return flow, cf.Weights(draw(real(N, M)), draw(real(P, N)))


def with_numbers(flow: cf.CurlFlow, **numbers: Any) -> cf.CurlFlow:
    """The flow with some of S, d1, d2, C exchanged."""
    return cf.CurlFlow(**({"S": flow.S, "d1": flow.d1, "d2": flow.d2, "C": flow.C} | numbers))


def numpy_velocity(flow: cf.CurlFlow, W: cf.Weights) -> tuple[np.ndarray, np.ndarray]:
    """The paper's equation, index by index."""
    S, d1, d2, C, W1, W2 = map(np.asarray, (flow.S, flow.d1, flow.d2, flow.C, W.W1, W.W2))
    EC = np.einsum("pk,kj->pj", S - np.einsum("pi,ij->pj", W2, W1), C)
    return np.einsum("pi,pj,j->ij", W2, EC, d1), np.einsum("pj,ij,i->pi", EC, W1, d2)


def assert_same(actual: cf.Weights, W1: Any, W2: Any) -> None:
    """Equal up to the rounding of sums of numbers of order 3⁴ N M."""
    np.testing.assert_allclose(actual.W1, W1, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(actual.W2, W2, rtol=1e-12, atol=1e-11)


velocity = jax.jit(lambda flow, W: flow(0.0, W))


# --------------------------------------------------------------------------------------- the equation


@given(networks())
def test_velocity_is_the_papers_equation(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    assert_same(velocity(flow, W), *numpy_velocity(flow, W))


@given(networks())
def test_velocity_is_the_signed_gradient_of_the_loss(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    slope = gradient(flow, W)
    assert_same(velocity(flow, W), -slope.W1 * flow.d1, -slope.W2 * flow.d2)


@given(networks())
def test_loss_is_half_the_weighted_square_of_the_error(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    E = np.asarray(flow.S) - np.asarray(W.W2) @ np.asarray(W.W1)
    np.testing.assert_allclose(flow.error(W), E, atol=1e-12)
    np.testing.assert_allclose(
        flow.loss(W), np.trace(E @ np.asarray(flow.C) @ E.T) / 2, rtol=1e-12, atol=1e-11
    )


def test_a_row_is_one_output_and_no_covariance_is_the_identity():
    W = cf.Weights(W1=np.arange(12.0).reshape(N, M), W2=np.arange(4.0)[None])
    row = cf.CurlFlow([1.0, -2.0, 0.5], [1, -1, 1], [1, 1, -1, 1])
    matrix = cf.CurlFlow([[1.0, -2.0, 0.5]], [1, -1, 1], [1, 1, -1, 1], np.eye(M))
    assert row.S.shape == (1, M)
    assert row.C is None
    assert_same(row(0.0, W), *numpy_velocity(matrix, W))
    assert float(row.loss(W)) == pytest.approx(float(matrix.loss(W)), rel=1e-14)


def test_each_sign_flips_the_synapses_leaving_its_unit_and_no_others():
    flow = cf.CurlFlow(S=np.full((1, M), 5.0), d1=np.ones(M), d2=np.ones(N))
    W = cf.Weights(W1=np.arange(1.0, 13.0).reshape(N, M), W2=np.array([[0.5, -0.25, 1.0, 2.0]]))
    base = flow(0.0, W)
    for j in range(M):
        flipped = with_numbers(flow, d1=np.where(np.arange(M) == j, -1.0, 1.0))(0.0, W)
        np.testing.assert_array_equal(
            flipped.W1 / base.W1, np.where(np.arange(M) == j, -1.0, 1.0)[None] * np.ones((N, 1))
        )
        np.testing.assert_array_equal(flipped.W2, base.W2)
    for i in range(N):
        flipped = with_numbers(flow, d2=np.where(np.arange(N) == i, -1.0, 1.0))(0.0, W)
        np.testing.assert_array_equal(flipped.W2 / base.W2, np.where(np.arange(N) == i, -1.0, 1.0)[None])
        np.testing.assert_array_equal(flipped.W1, base.W1)


# ------------------------------------------------------------------------ loss rate, conserved quantities


@jax.jit
def gradient(flow: cf.CurlFlow, W: cf.Weights) -> cf.Weights:
    return jax.grad(lambda W: flow.loss(W))(W)


@jax.jit
def loss_rate(flow: cf.CurlFlow, W: cf.Weights) -> jax.Array:
    return jax.jvp(flow.loss, (W,), (flow(0.0, W),))[1]


@jax.jit
def conserved_and_rate(flow: cf.CurlFlow, W: cf.Weights) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(flow.conserved, (W,), (flow(0.0, W),))


@given(networks())
def test_loss_falls_by_the_kept_gradient_and_rises_by_the_flipped(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    slope = gradient(flow, W)
    squares = np.concatenate([np.ravel(slope.W1**2), np.ravel(slope.W2**2)])
    sign = np.concatenate([np.ravel(np.ones((N, 1)) * flow.d1), np.ravel(np.ones((2, 1)) * flow.d2)])
    expected = -squares[sign > 0].sum() + squares[sign < 0].sum()
    np.testing.assert_allclose(loss_rate(flow, W), expected, rtol=1e-11, atol=1e-11 * squares.sum())


@given(networks())
def test_loss_never_rises_under_gradient_flow_and_never_falls_under_its_opposite(
    network: tuple[cf.CurlFlow, cf.Weights],
):
    flow, W = network
    assert loss_rate(flow.gradient_flow(), W) <= 0
    assert loss_rate(with_numbers(flow, d1=-np.ones(M), d2=-np.ones(N)), W) >= 0


@given(networks())
def test_conserved_quantities_do_not_change(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    value, rate = conserved_and_rate(flow, W)
    d2 = np.asarray(flow.d2)
    W1, W2 = np.asarray(W.W1), np.asarray(W.W2)
    expected = W1 @ np.diag(flow.d1) @ W1.T - np.diag(d2) @ W2.T @ W2
    np.testing.assert_allclose(value, np.where(np.outer(d2, d2) > 0, expected, 0.0), atol=1e-11)
    np.testing.assert_allclose(rate, 0.0, atol=1e-9)


def test_what_is_left_out_of_the_conserved_quantities_is_not_conserved():
    flow = cf.CurlFlow([1.0, 2.0, -1.0], [1, -1, 1], [1, -1, 1, -1])
    W = cf.ensembles.gaussian_weights(jax.random.key(0), N=N, M=M)

    def everything(W: cf.Weights) -> jax.Array:
        return (W.W1 * flow.d1) @ W.W1.T - flow.d2[:, None] * (W.W2.T @ W.W2)

    _, rate = jax.jvp(everything, (W,), (flow(0.0, W),))
    mixed = np.outer(flow.d2, flow.d2) < 0
    assert np.abs(rate)[mixed].min() > 1e-3
    np.testing.assert_array_equal(np.asarray(flow.conserved(W))[mixed], 0.0)


# ------------------------------------------------------------------------------------------- symmetries


def rotation(skew: np.ndarray) -> np.ndarray:
    """An orthogonal matrix by Cayley's transform of a skew-symmetric one."""
    K = skew - skew.T
    return np.linalg.solve(np.eye(len(K)) + K, np.eye(len(K)) - K)


@given(networks(), real(N, N))
def test_rotations_among_hidden_units_of_equal_sign_commute_with_the_flow(
    network: tuple[cf.CurlFlow, cf.Weights], skew: np.ndarray
):
    flow, W = network
    Q = rotation(np.where(np.outer(flow.d2, flow.d2) > 0, skew, 0.0))
    rotated, moved = velocity(flow, cf.Weights(Q @ W.W1, W.W2 @ Q.T)), velocity(flow, W)
    assert_same(rotated, Q @ moved.W1, moved.W2 @ Q.T)


def test_rotations_that_mix_signs_do_not_commute_with_the_flow():
    flow = cf.CurlFlow([1.0, 2.0, -1.0], [1, 1, 1], [1, 1, -1, -1])
    W = cf.ensembles.gaussian_weights(jax.random.key(0), N=N, M=M)
    Q = rotation(np.triu(np.ones((N, N)), 2))
    rotated, moved = flow(0.0, cf.Weights(Q @ W.W1, W.W2 @ Q.T)), flow(0.0, W)
    assert np.abs(rotated.W2 - moved.W2 @ Q.T).max() > 0.1


@given(networks(), real(2, 2))
def test_rotations_of_the_outputs_commute_with_the_flow(
    network: tuple[cf.CurlFlow, cf.Weights], skew: np.ndarray
):
    flow, W = network
    R = rotation(skew)
    rotated = velocity(with_numbers(flow, S=R @ flow.S), cf.Weights(W.W1, R @ W.W2))
    moved = velocity(flow, W)
    assert_same(rotated, moved.W1, R @ moved.W2)


@given(networks())
def test_changing_the_sign_of_all_weights_commutes_with_the_flow(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    mirrored, moved = velocity(flow, jtu.tree_map(jnp.negative, W)), velocity(flow, W)
    assert_same(mirrored, -moved.W1, -moved.W2)


@given(networks(), st.permutations(range(N)), st.permutations(range(M)))
def test_permutations_of_units_commute_with_the_flow(
    network: tuple[cf.CurlFlow, cf.Weights], hidden: list[int], inputs: list[int]
):
    flow, W = network
    i, j = np.array(hidden), np.array(inputs)
    renamed = cf.CurlFlow(flow.S[:, j], flow.d1[j], flow.d2[i], flow.C[np.ix_(j, j)])
    permuted, moved = velocity(renamed, cf.Weights(W.W1[np.ix_(i, j)], W.W2[:, i])), velocity(flow, W)
    assert_same(permuted, moved.W1[np.ix_(i, j)], moved.W2[:, i])


@given(networks(), st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_larger_teacher_or_covariance_is_a_faster_clock(
    network: tuple[cf.CurlFlow, cf.Weights], a: float, b: float
):
    flow, W = network
    scaled = with_numbers(flow, S=a * flow.S, C=b * flow.C)
    fast, moved = velocity(scaled, jtu.tree_map(lambda w: np.sqrt(a) * w, W)), velocity(flow, W)
    factor = b * a**1.5
    assert_same(jtu.tree_map(lambda w: w / factor, fast), moved.W1, moved.W2)


def test_flipping_every_sign_runs_time_backwards():
    flow = cf.CurlFlow([1.0, 2.0, -1.0], [1, -1, 1], [1, 1, -1, -1])
    W = cf.ensembles.gaussian_weights(jax.random.key(0), N=N, M=M)
    back = with_numbers(flow, d1=-flow.d1, d2=-flow.d2)(0.0, W)
    assert_same(back, -flow(0.0, W).W1, -flow(0.0, W).W2)


# ------------------------------------------------------------------------------------- fixed points


def test_flips_move_no_fixed_point():
    teacher = cf.ensembles.gaussian_weights(jax.random.key(1), N=N, M=M, P=2)
    origin = jtu.tree_map(jnp.zeros_like, teacher)
    for d1, d2 in (([1, 1, 1], [1, 1, 1, 1]), ([1, -1, -1], [-1, 1, -1, 1])):
        flow = cf.CurlFlow(teacher.end_to_end, d1, d2)
        for W in (teacher, origin):
            assert_same(flow(0.0, W), np.zeros((N, M)), np.zeros((2, N)))


def test_weights_are_a_pytree_of_two_layers():
    W = cf.Weights([[1.0, 0.5], [0.0, 2.0]], [[3.0, 1.0]])
    assert [leaf.shape for leaf in jtu.tree_leaves(W)] == [(2, 2), (1, 2)]
    np.testing.assert_array_equal(W.end_to_end, [[3.0, 3.5]])
    doubled = jtu.tree_map(lambda layer: 2 * layer, W)
    assert isinstance(doubled, cf.Weights)
    np.testing.assert_array_equal(doubled.end_to_end, 4 * W.end_to_end)


def test_its_symmetries_are_directions_along_which_the_flow_turns_with_the_state():
    """J(W) X = dX(F): the velocity at a turned state is the turned velocity."""
    flow = cf.CurlFlow([[1.0, 2.0], [0.5, -1.0]], d1=[1, -1], d2=[1, -1, 1, -1, 1])
    keys = jax.random.split(jax.random.key(3), 2)
    W = cf.Weights(
        jax.random.normal(keys[0], (5, 2), jnp.float64), jax.random.normal(keys[1], (2, 5), jnp.float64)
    )
    directions = flow.symmetries(W)
    assert directions.W1.shape == (3 + 1, 5, 2)
    turned_velocity = flow.symmetries(flow(0.0, W))
    for i in range(4):
        direction = jtu.tree_map(lambda leaf, i=i: leaf[i], directions)
        _, change = jax.jvp(lambda W: flow(0.0, W), (W,), (direction,))
        np.testing.assert_allclose(change.W1, turned_velocity.W1[i], atol=1e-13)
        np.testing.assert_allclose(change.W2, turned_velocity.W2[i], atol=1e-13)
        assert float(jnp.vdot(direction.W1, W.W1)) == pytest.approx(0.0, abs=1e-13)


def test_hidden_units_of_different_sign_cannot_be_rotated():
    assert cf.CurlFlow([1.0], d1=[1], d2=[1, -1]).symmetries(
        cf.Weights([[1.0], [2.0]], [[1.0, 1.0]])
    ).W1.shape == (0, 2, 1)
