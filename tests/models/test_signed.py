"""SignedGradientFlow: CurlFlow where the network is linear, and any loss over any pytree."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from jaxtyping import Array

import curlflow as cf

N, M = 4, 3
D1, D2 = np.array([1.0, -1.0, 1.0]), np.array([-1.0, 1.0, 1.0, -1.0])


class QuadraticLoss(eqx.Module):
    """The two-layer linear network's loss, written with the weights' own names."""

    S: Array
    C: Array

    def __call__(self, W: cf.Weights) -> Array:
        error = self.S - W.W2 @ W.W1
        return jnp.trace(error @ self.C @ error.T) / 2


def deep_loss(parameters: dict[str, list[Array] | Array]) -> Array:
    """A network of three layers: two matrices in a list, and a vector of gains."""
    first, second = parameters["layers"]
    return jnp.sum(parameters["gains"] * jnp.tanh(second @ jnp.sin(first)) ** 2)


@pytest.mark.parametrize("P", [1, 2])
def test_it_is_curl_flow_for_the_linear_network(P: int):
    teacher, student = (cf.ensembles.gaussian_weights(jax.random.key(i), N=N, M=M, P=P) for i in range(2))
    C = cf.ensembles.sample_covariance(jax.random.key(2), M=M, samples=5)
    curl = cf.CurlFlow(teacher.end_to_end, D1, D2, C)
    signed = cf.SignedGradientFlow(QuadraticLoss(teacher.end_to_end, C), cf.Weights(D1, D2))
    assert float(signed.loss(student)) == pytest.approx(float(curl.loss(student)), rel=1e-13)
    for flow, expected in ((signed, curl), (signed.gradient_flow(), curl.gradient_flow())):
        for layer, other in zip(
            jtu.tree_leaves(flow(0.0, student)), jtu.tree_leaves(expected(0.0, student)), strict=True
        ):
            np.testing.assert_allclose(layer, other, rtol=0, atol=1e-14)


def test_a_full_mask_gives_every_synapse_a_sign_of_its_own():
    rng = np.random.default_rng(0)
    parameters = {
        "layers": [rng.normal(size=(N, M)), rng.normal(size=(2, N))],
        "gains": np.array([[1.0], [0.5]]),
    }
    parameters = jtu.tree_map(jnp.asarray, parameters)
    mask = jtu.tree_map(lambda leaf: rng.choice([-1.0, 1.0], leaf.shape), parameters)
    velocity = cf.SignedGradientFlow(deep_loss, mask)(0.0, parameters)
    slope = jax.grad(deep_loss)(parameters)
    assert jtu.tree_structure(velocity) == jtu.tree_structure(parameters)
    for v, sign, g in zip(*map(jtu.tree_leaves, (velocity, mask, slope)), strict=True):
        assert (np.abs(g) > 1e-3).all()
        np.testing.assert_array_equal(v, -sign * g)


def test_one_sign_serves_a_whole_layer():
    flow = cf.SignedGradientFlow(
        lambda y: jnp.sum(y["a"] ** 2) + jnp.sum(y["b"] ** 3), {"a": -1.0, "b": np.array([1.0, -1.0])}
    )
    velocity = flow(0.0, {"a": jnp.ones((2, 2)), "b": jnp.array([1.0, 2.0])})
    np.testing.assert_array_equal(velocity["a"], [[2.0, 2.0], [2.0, 2.0]])
    np.testing.assert_array_equal(velocity["b"], [-3.0, 12.0])


def test_loss_rate_is_the_flipped_less_the_kept_gradient():
    parameters = jnp.array([1.0, 2.0, 3.0])
    flow = cf.SignedGradientFlow(lambda y: jnp.sum(y**2) / 2 + jnp.prod(y), jnp.array([1.0, -1.0, 1.0]))
    _, rate = jax.jvp(flow.loss, (parameters,), (flow(0.0, parameters),))
    assert float(rate) == pytest.approx(-((1 + 6) ** 2) + (2 + 3) ** 2 - (3 + 2) ** 2)


def test_time_and_arguments_do_not_matter():
    flow = cf.SignedGradientFlow(lambda y: jnp.sum(y**4), -1.0)
    y = jnp.array([0.5, -2.0])
    np.testing.assert_array_equal(flow(0.0, y), flow(7.0, y, {"anything": 1.0}))
