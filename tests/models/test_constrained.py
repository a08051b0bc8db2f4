"""NormConstrained: layers of constant norm, and the limit of the paper's rescaling after every step."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curlflow as cf

N, M = 4, 3
FREE = cf.CurlFlow([1.0, -2.0, 0.5], [1, -1, 1], [1, 1, -1, 1])
FLOW = cf.NormConstrained(FREE)


def weights(seed: int) -> cf.Weights:
    return cf.ensembles.gaussian_weights(jax.random.key(seed), N=N, M=M)


@jax.jit
def flow_and_invariants(W: cf.Weights) -> tuple[cf.Weights, cf.Weights, jax.Array, jax.Array]:
    velocity = FLOW(0.0, W)
    return velocity, FREE(0.0, W), *jax.jvp(FLOW.conserved, (W,), (velocity,))


@given(st.integers(0, 2**31))
def test_every_layer_moves_on_its_sphere_and_as_the_free_flow_does_along_it(seed: int):
    W = weights(seed)
    velocity, free, norms, rate = flow_and_invariants(W)
    np.testing.assert_allclose(norms, [np.sum(W.W1**2), np.sum(W.W2**2)], rtol=1e-14)
    np.testing.assert_allclose(rate, 0.0, atol=1e-12)
    for layer, moved, free_layer in zip(*map(jtu.tree_leaves, (W, velocity, free)), strict=True):
        removed = np.asarray(free_layer - moved)
        along = np.asarray(layer) * np.sum(removed * layer) / np.sum(layer**2)
        np.testing.assert_allclose(removed, along, atol=1e-13)


@jax.jit
def rescaled_euler(W: cf.Weights, step: jax.Array, steps: jax.Array) -> cf.Weights:
    """The paper's rule: a step of descent, then every layer back to its initial norm."""

    def descend(_: int, V: cf.Weights) -> cf.Weights:
        moved = jtu.tree_map(lambda layer, velocity: layer + step * velocity, V, FREE(0.0, V))
        return jtu.tree_map(
            lambda layer, start: layer * jnp.linalg.norm(start) / jnp.linalg.norm(layer), moved, W
        )

    return jax.lax.fori_loop(0, steps, descend, W)


@pytest.fixture(scope="module")
def trajectory() -> cf.Trajectory:
    return cf.integrate(
        FLOW, weights(0), 1.0, ts=np.linspace(0, 1, 9), rtol=1e-12, atol=1e-13, solver="tsit5"
    )


def test_it_is_the_limit_of_rescaled_steps_with_an_error_of_first_order(trajectory: cf.Trajectory):
    def error(steps: int) -> float:
        end = rescaled_euler(weights(0), jnp.asarray(1.0 / steps), jnp.asarray(steps))
        differences = jtu.tree_map(lambda a, b: jnp.abs(a - b).max(), end, trajectory.final_state)
        return max(map(float, jtu.tree_leaves(differences)))

    errors = np.array([error(steps) for steps in (500, 1000, 2000)])
    assert errors[0] > 1e-5
    # Halving the step halves the error, up to a correction which itself halves.
    ratios = errors[:-1] / errors[1:]
    np.testing.assert_allclose(ratios, 2.0, atol=0.02)
    assert abs(ratios[1] - 2) < abs(ratios[0] - 2)


def test_norms_are_kept_along_a_trajectory(trajectory: cf.Trajectory):
    assert trajectory.outcome.ok
    assert float(trajectory.conserved_drift().max()) < 1e-11
    free_drift = jax.vmap(FREE.conserved)(trajectory.ys)
    assert (
        float(jnp.abs(free_drift[-1] - free_drift[0]).max()) > 1e-2
    )  # the free flow's invariants are given up


def test_loss_and_gradient_flow_are_the_wrapped_flows():
    W = weights(1)
    assert FLOW.loss(W) == FREE.loss(W)
    expected = cf.NormConstrained(FREE.gradient_flow())(0.0, W)
    for layer, other in zip(*map(jtu.tree_leaves, (FLOW.gradient_flow()(0.0, W), expected)), strict=True):
        np.testing.assert_array_equal(layer, other)


def test_time_and_arguments_reach_a_users_own_field_which_need_have_no_loss():
    flow = cf.NormConstrained(lambda t, y, args: {"a": args * y["b"] + t, "b": -y["a"]})
    y = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([0.0, 1.0])}
    velocity = flow(10.0, y, 3.0)
    np.testing.assert_allclose(velocity["a"], [10 - 36 / 5, 13 - 72 / 5], rtol=1e-14)
    np.testing.assert_allclose(velocity["b"], [-1.0, 0.0], rtol=1e-14)
    assert not hasattr(flow, "loss")
