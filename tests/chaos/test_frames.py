"""The tangent block: hand-written tangents against autodiff, frames, and QR factorisations of every kind."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curlflow as cf
from curlflow.chaos.engine import frames
from curlflow.system import pushed


def network(seed, N=5, M=4, P=2, with_covariance=True):
    keys = jax.random.split(jax.random.key(seed), 5)
    teacher = cf.ensembles.gaussian_weights(keys[0], N=N, M=M, P=P)
    flow = cf.CurlFlow(
        teacher.end_to_end,
        d1=cf.ensembles.sign_pattern(M, fraction=0.5, key=keys[1]),
        d2=cf.ensembles.sign_pattern(N, fraction=0.4, key=keys[2]),
        C=cf.ensembles.sample_covariance(keys[3], M=M, samples=9) if with_covariance else None,
    )
    return flow, cf.ensembles.gaussian_weights(keys[4], N=N, M=M, P=P)


FLOWS = {
    "curl": lambda flow: flow,
    "norm-constrained": cf.NormConstrained,
    "norm-constrained without a tangent of its own": lambda flow: cf.NormConstrained(
        lambda t, y, args: flow(t, y, args)
    ),
}


@pytest.mark.parametrize("wrap", FLOWS.values(), ids=FLOWS.keys())
@pytest.mark.parametrize("P", [1, 2])
@pytest.mark.parametrize("with_covariance", [True, False])
def test_hand_written_tangents_equal_autodiff(wrap, P, with_covariance):
    flow, W = network(0, P=P, with_covariance=with_covariance)
    system = wrap(flow)
    V = frames.random_frame(jax.random.key(1), W, 3)
    velocity, derivative = pushed(lambda y: system(0.0, y, None), W, V)
    pairs = (system.tangent(0.0, W, V), derivative), (system(0.0, W, None), velocity)
    for own, autodiff in pairs:
        jtu.tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), own, autodiff)


def test_a_norm_constraint_on_numbers_and_vectors_has_the_right_tangent():
    system = cf.NormConstrained(
        lambda t, y, args: {"a": jnp.sin(y["b"]).sum() + y["a"], "b": y["a"] * y["b"] ** 2}
    )
    y = {"a": jnp.asarray(0.7), "b": jnp.array([1.0, -2.0, 0.5])}
    V = frames.random_frame(jax.random.key(1), y, 2)
    _, derivative = pushed(lambda y: system(0.0, y, None), y, V)
    jtu.tree_map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13),
        system.tangent(0.0, y, V),
        derivative,
    )


STATES = {
    "vector": jnp.zeros(3),
    "tree": {
        "a": jnp.zeros(()),
        "b": jnp.zeros(7),
        "c": jnp.zeros((4, 5)),
    },
    "tall": cf.Weights(jnp.zeros((30, 9)), jnp.zeros((1, 30))),
}


def some_frame(y, k, key):
    """A frame whose columns are neither orthogonal nor of one length."""
    mix = jnp.tril(jax.random.normal(key, (k, k))) + 2 * jnp.eye(k)
    return frames.like(frames.random_frame(key, y, k), mix @ frames.columns(frames.random_frame(key, y, k)))


@pytest.mark.parametrize(
    ("name", "k"), [("vector", 1), ("vector", 3), ("tree", 3), ("tree", 12), ("tall", 3), ("tall", 12)]
)
def test_qr_of_every_kind_gives_an_orthonormal_frame_and_numpys_diagonal(name, k):
    y = STATES[name]
    V = some_frame(y, k, jax.random.key(2))
    frame, diagonal, left = frames.orthonormalise(V)
    matrix = np.asarray(frames.columns(V))
    R = np.abs(np.diagonal(np.linalg.qr(matrix.T)[1]))
    np.testing.assert_allclose(diagonal, R, rtol=1e-12)
    np.testing.assert_allclose(left, np.min(R / np.linalg.norm(matrix, axis=1)), rtol=1e-12)
    Q = np.asarray(frames.columns(frame))
    np.testing.assert_allclose(Q @ Q.T, np.eye(k), atol=1e-13)
    assert jtu.tree_structure(frame) == jtu.tree_structure(V)
    # Column j of the frame is a combination of the first j columns of V, with a positive last coefficient.
    coefficients = Q @ matrix.T
    np.testing.assert_allclose(np.tril(coefficients, -1), 0, atol=1e-12 * np.abs(matrix).max())
    assert (np.diagonal(coefficients) > 0).all()


@given(st.integers(0, 1000))
def test_a_frame_survives_flattening(seed):
    y = STATES["tree"]
    V = frames.random_frame(jax.random.key(seed), y, 4)
    back = frames.like(V, frames.columns(V))
    assert all(
        bool(jnp.array_equal(a, b)) for a, b in zip(jtu.tree_leaves(V), jtu.tree_leaves(back), strict=True)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_frame_survives_blocks(count):
    V = frames.random_frame(jax.random.key(0), STATES["tree"], 5)
    blocks = frames.in_blocks(V, count)
    back = frames.from_blocks(blocks, 5, count)
    jtu.tree_map(np.testing.assert_array_equal, back, V)
    if count > 1:
        second = jtu.tree_map(lambda leaf: leaf[1], blocks)
        width = -(-5 // count)
        numbers = np.minimum(np.arange(width, 2 * width), 4)  # the last one fills the block
        np.testing.assert_array_equal(frames.columns(second), frames.columns(V)[numbers])


def test_columns_are_flattened_as_the_state_is():
    y = STATES["tree"]
    system = lambda state: jtu.tree_map(lambda leaf: 2.0 * leaf, state)  # noqa: E731
    frame = frames.like(frames.random_frame(jax.random.key(0), y, 28), jnp.eye(28))
    np.testing.assert_array_equal(frames.columns(pushed(system, y, frame)[1]), 2 * np.eye(28))
    one = jtu.tree_map(lambda leaf: leaf[..., 5, :] if leaf.ndim > 1 else leaf[5], frame)
    flat, _ = jax.flatten_util.ravel_pytree(one)
    np.testing.assert_array_equal(flat, np.eye(28)[5])


def test_trace_and_determinant_of_a_known_matrix():
    A = jnp.array([[1.0, 2.0, 0.0], [0.5, -3.0, 1.0], [0.0, 4.0, 2.5]])
    y = jnp.array([0.1, 0.2, 0.3])
    assert float(frames.trace(lambda y: A @ y, y)) == pytest.approx(0.5, rel=1e-14)
    exact = np.log(abs(np.linalg.det(np.asarray(A))))
    assert float(frames.log_determinant(lambda y: A @ y, y)) == pytest.approx(exact, rel=1e-13)
