"""NormConstrained: layers of constant norm, and the limit of the paper's rescaling after every step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curlflow as cf
from curlflow.models import Layer

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


# ------------------------------------------------------------------------------------------------------ free leaves

X, TARGETS = jax.random.normal(jax.random.key(5), (10, M)), jax.random.normal(jax.random.key(6), (10, 2))
NETWORK = (
    Layer(jax.random.normal(jax.random.key(7), (N, M)), np.zeros(N)),
    Layer(jax.random.normal(jax.random.key(8), (2, N)), np.zeros(2)),
)
BIASED = cf.models.StudentFlow(
    X, TARGETS, (Layer([1, -1, 1], np.ones(N)), Layer([1, 1, -1, 1], [1, -1])), activation="tanh"
)
WITHOUT_BIASES = cf.models.StudentFlow(X, TARGETS, ([1, -1, 1], [1, 1, -1, 1]), activation="tanh")
BIASES = (Layer(False, True), Layer(False, True))


def assert_same(actual, expected, tolerance: float) -> None:
    for a, b in zip(jtu.tree_leaves(actual), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_free_leaves_move_as_in_the_wrapped_flow_and_the_others_keep_their_norms():
    flow = cf.NormConstrained(BIASED, free=BIASES)
    velocity, free = flow(0.0, NETWORK), BIASED(0.0, NETWORK)
    assert_same([layer.b for layer in velocity], [layer.b for layer in free], 0.0)
    # With biases of zero the weights move as without.
    expected = cf.NormConstrained(WITHOUT_BIASES)(0.0, tuple(layer.W for layer in NETWORK))
    assert_same([layer.W for layer in velocity], expected, 1e-13)
    norms, rates = jax.jvp(flow.conserved, (NETWORK,), (velocity,))
    np.testing.assert_allclose(norms, [jnp.sum(layer.W**2) for layer in NETWORK], rtol=1e-14)
    np.testing.assert_allclose(rates, 0.0, atol=1e-13)


def test_gradient_flow_leaves_the_same_leaves_free():
    flow = cf.NormConstrained(BIASED, BIASES).gradient_flow()
    expected = cf.NormConstrained(BIASED.gradient_flow(), free=BIASES)
    assert flow.free == expected.free
    assert_same(flow(0.0, NETWORK), expected(0.0, NETWORK), 0.0)


class KnowsItsTangent(eqx.Module):
    """A flow with a tangent map of its own, over a state of one held and one free leaf."""

    def __call__(self, t, y, args):
        return {"a": jnp.sin(y["b"]).sum() * y["a"][::-1], "b": y["a"][:2] * y["b"]}

    def tangent(self, t, y, V, args):
        rates = (V["b"] @ jnp.cos(y["b"]))[:, None]
        a = jnp.sin(y["b"]).sum() * V["a"][:, ::-1] + y["a"][::-1] * rates
        return {"a": a, "b": V["a"][:, :2] * y["b"] + y["a"][:2] * V["b"]}


@pytest.mark.parametrize(
    "flow", [KnowsItsTangent(), lambda t, y, args: KnowsItsTangent()(t, y, args)], ids=["own", "autodiff"]
)
def test_tangents_beside_free_leaves_are_the_jacobians(flow):
    constrained = cf.NormConstrained(flow, free={"a": False, "b": True})
    y = {"a": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([0.3, 0.0])}
    V = jtu.tree_map(lambda leaf: jax.random.normal(jax.random.key(9), (4, *leaf.shape)), y)
    expected = jax.vmap(lambda v: jax.jvp(lambda y: constrained(0.0, y), (y,), (v,))[1])(V)
    assert_same(constrained.tangent(0.0, y, V), expected, 1e-14)


def test_descent_maps_leave_the_same_leaves_free():
    unscaled = cf.DescentMap(BIASED, 0.1).step(0, NETWORK)
    maps = [
        cf.DescentMap(BIASED, 0.1, renormalise=True, free=BIASES),
        cf.models.MinibatchDescent(
            BIASED, learning_rate=0.1, batch_size=10, key=jax.random.key(0), free=BIASES
        ),
    ]
    for descent in maps:
        descent.check_state(NETWORK)
        moved = descent.step(0, NETWORK)
        for layer, before, free in zip(moved, NETWORK, unscaled, strict=True):
            np.testing.assert_allclose(layer.b, free.b, rtol=1e-13)
            scale = jnp.linalg.norm(before.W) / jnp.linalg.norm(free.W)
            np.testing.assert_allclose(layer.W, scale * free.W, rtol=1e-13)
    # Of a constrained flow the map takes what is free over.
    inherited = cf.DescentMap(cf.NormConstrained(BIASED, BIASES), 0.1, renormalise=True)
    inherited.check_state(NETWORK)
    assert all(jnp.any(layer.b) for layer in inherited.gradient_flow().step(0, NETWORK))


@pytest.mark.parametrize(
    ("free", "message"),
    [
        (None, r"y\[0\].b is zero. Biases that start at zero are left free by `free`"),
        ((False, True), "`free` must be a pytree like the state, but is"),
        ((Layer(False, True), Layer(False, False)), r"y\[1\].b is zero"),
        ((Layer(True, True), Layer(True, True)), "`free` must be False at one leaf at least"),
        ((Layer(False, 1.0), Layer(False, True)), r"`free\[0\].b` must be True or False, but is"),
    ],
)
def test_what_is_free_must_be_said_clearly(free, message: str):
    key = jax.random.key(0)
    makes = [
        lambda: cf.NormConstrained(BIASED, free),
        lambda: cf.DescentMap(BIASED, 0.1, renormalise=True, free=free),
        lambda: cf.models.MinibatchDescent(BIASED, learning_rate=0.1, batch_size=5, key=key, free=free),
    ]
    for make in makes:
        with pytest.raises(ValueError, match=message):
            make().check_state(NETWORK)


def test_gram_variables_know_no_free_layers():
    constrained = cf.NormConstrained(FREE, free=cf.Weights(False, True))
    with pytest.raises(ValueError, match="`flow` must hold the norms of both layers, or of none"):
        cf.GramFlow.from_flow(constrained)
