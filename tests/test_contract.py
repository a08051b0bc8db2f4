"""Every flow of the package, and a user's plain function, keeps the one contract."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from contract import CHECKS, Subject, compilations
from jaxtyping import Array

import curlflow as cf

P, N, M, STATES = 2, 4, 3, 3
D1, D2 = [1.0, -1.0, 1.0], [1.0, 1.0, -1.0, -1.0]
MASK = np.where(np.random.default_rng(0).random((N, M)) < 0.5, -1.0, 1.0)


class DeepLoss(eqx.Module):
    """The loss of a network of two tanh layers, which carries its data."""

    inputs: Array
    targets: Array

    def __call__(self, parameters: dict[str, Array]) -> Array:
        hidden = jnp.tanh(self.inputs @ parameters["in"].T)
        return jnp.mean((self.targets - jnp.tanh(hidden @ parameters["out"].T)) ** 2)


def normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


def covariance(scale: float) -> Array:
    return cf.ensembles.sample_covariance(jax.random.key(5), M=M, samples=7, standard_deviation=scale)


def pendulum(t: Any, y: dict[str, Array], args: dict[str, Array]) -> dict[str, Array]:
    """A user's own vector field over a dict, driven in time."""
    pull = -args["gravity"] * jnp.sin(y["angle"]) + args["drive"] * jnp.cos(1.0 + t)
    return {"angle": y["speed"], "speed": pull}


def curl_flow(scale: float, C: Array | None = None) -> cf.CurlFlow:
    return cf.CurlFlow(scale * normal(1, P, M), D1, D2, C)


def hebbian(scale: float, order: int | None = None) -> cf.models.HebbianFlow:
    mask = np.where(np.random.default_rng(1).random((N, N)) < 0.5, -1.0, 1.0)
    return cf.models.HebbianFlow(scale * normal(14, N, 2), D2, mask, decay=0.5, order=order)


CIRCUIT = cf.models.CircuitWeights(
    normal(17, STATES, 2, M) / 2, normal(18, STATES, P, 2) / 2, normal(19, STATES, 2, P) / 2
)
WEIGHTS = cf.Weights(normal(2, STATES, N, M), normal(3, STATES, P, N))


def student(scale: float, activation: Any, **settings: Any) -> cf.models.StudentFlow:
    X = scale * normal(13, 6, M)
    targets = jnp.tanh(X @ normal(1, P, M).T)
    return cf.models.StudentFlow(X, targets, cf.Weights(D1, D2), activation=activation, **settings)


def biased_student(scale: float) -> cf.models.StudentFlow:
    plain = student(scale, "tanh", activate_output=True)
    signs = (cf.models.Layer(D1, D2), cf.models.Layer(D2, [1.0, -1.0]))
    return cf.models.StudentFlow(plain.X, plain.targets, signs, activation="tanh", activate_output=True)


BIASES = (cf.models.Layer(False, True), cf.models.Layer(False, True))


def minibatch_descent(
    scale: float, activation: Any, teacher: cf.models.Teacher | None = None
) -> cf.models.MinibatchDescent:
    flow = student(scale, activation)
    return cf.models.MinibatchDescent(
        flow, learning_rate=0.1, batch_size=2, key=jax.random.key(14), teacher=teacher
    )


def teacher(scale: float, activation: Any) -> cf.models.Teacher:
    return cf.models.Teacher((scale * normal(21, 2, M), normal(22, P, 2)), activation=activation)


def population_flow(scale: float, activation: Any) -> cf.SignedGradientFlow:
    return cf.SignedGradientFlow(cf.models.PopulationLoss(teacher(scale, activation)), cf.Weights(D1, D2))


GRAM = cf.GramFlow.from_flow(curl_flow(1.0))

SUBJECTS: dict[str, Subject] = {
    "curl": Subject(lambda scale: (curl_flow(scale), None), WEIGHTS),
    "curl-covariance": Subject(lambda scale: (curl_flow(scale, covariance(scale)), None), WEIGHTS),
    "gram": Subject(
        lambda scale: (cf.GramFlow.from_flow(curl_flow(scale, covariance(scale))), None),
        jax.vmap(GRAM.reduce)(WEIGHTS),
    ),
    "gram-norm-constrained": Subject(
        lambda scale: (cf.GramFlow.from_flow(cf.NormConstrained(curl_flow(scale))), None),
        jax.vmap(GRAM.reduce)(WEIGHTS),
    ),
    "descent": Subject(lambda scale: (cf.DescentMap(curl_flow(scale), 0.1), None), WEIGHTS),
    "descent-renormalised": Subject(
        lambda scale: (cf.DescentMap(curl_flow(scale), 0.1 * scale, renormalise=True), None), WEIGHTS
    ),
    "minibatch-descent": Subject(lambda scale: (minibatch_descent(scale, "linear"), None), WEIGHTS),
    "minibatch-descent-tanh": Subject(lambda scale: (minibatch_descent(scale, "tanh"), None), WEIGHTS),
    "minibatch-descent-fresh": Subject(
        lambda scale: (minibatch_descent(scale, "relu", teacher(scale, "relu")), None), WEIGHTS
    ),
    "student-linear": Subject(lambda scale: (student(scale, "linear"), None), WEIGHTS),
    "student-tanh": Subject(
        lambda scale: (student(scale, "tanh", activate_output=True, objective="matching"), None), WEIGHTS
    ),
    "student-relu": Subject(lambda scale: (student(scale, "relu"), None), WEIGHTS),
    "student-feedback": Subject(
        lambda scale: (student(scale, "erf", feedback=scale * normal(23, N, P), activate_output=True), None),
        WEIGHTS,
    ),
    "student-biases": Subject(
        lambda scale: (cf.NormConstrained(biased_student(scale), free=BIASES), None),
        (
            cf.models.Layer(WEIGHTS.W1, normal(24, STATES, N)),
            cf.models.Layer(WEIGHTS.W2, normal(25, STATES, P)),
        ),
    ),
    "student-norm-constrained": Subject(
        lambda scale: (cf.NormConstrained(student(scale, "tanh")), None), WEIGHTS
    ),
    "population-linear": Subject(lambda scale: (population_flow(scale, "linear"), None), WEIGHTS),
    "population-relu": Subject(lambda scale: (population_flow(scale, "relu"), None), WEIGHTS),
    "norm-constrained": Subject(lambda scale: (cf.NormConstrained(curl_flow(scale)), None), WEIGHTS),
    "signed": Subject(
        lambda scale: (
            cf.SignedGradientFlow(
                DeepLoss(scale * normal(6, 5, M), normal(7, 5, P)), {"in": MASK, "out": np.array(D2)}
            ),
            None,
        ),
        {"in": normal(8, STATES, N, M), "out": normal(9, STATES, P, N)},
    ),
    "toy": Subject(lambda scale: (cf.toy_flow(scale), None), normal(10, STATES, 2)),
    "hebbian": Subject(lambda scale: (hebbian(scale), None), normal(13, STATES, N, N) / 4),
    "hebbian-first-order": Subject(
        lambda scale: (hebbian(scale, order=1), None), normal(13, STATES, N, N) / 4
    ),
    "symmetric-weights": Subject(
        lambda scale: (
            cf.models.SymmetricWeights(cf.models.HebbianFlow(scale * normal(14, N, 2), D2, decay=1.0)),
            None,
        ),
        normal(15, STATES, N * (N + 1) // 2) / 8,
    ),
    "similarity-matching": Subject(
        lambda scale: (cf.models.SimilarityMatching(scale * normal(16, M, 5), 2, P, decay=1.0), None), CIRCUIT
    ),
    "fast-neurons": Subject(
        lambda scale: (cf.models.FastNeurons(hebbian(scale), 0.1 * scale), None),
        cf.models.NetworkState(normal(20, STATES, N, 2), normal(13, STATES, N, N) / 4),
    ),
    "user": Subject(
        lambda scale: (pendulum, {"gravity": jnp.asarray(scale), "drive": jnp.asarray(0.5)}),
        {"angle": normal(11, STATES), "speed": normal(12, STATES)},
    ),
}


SLOW = ("population-relu",)  # the compilation


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(subject, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, subject in SUBJECTS.items()
    ],
)
def test_contract(subject: Subject, check: Callable[[Subject], None]):
    check(subject)


def test_compilations_are_counted():
    with compilations() as seen:
        jax.jit(lambda x: 3 * x + 1)(2.0).block_until_ready()
    assert seen


@pytest.mark.parametrize(
    "name",
    ["curl", "curl-covariance", "norm-constrained", "signed", "student-tanh", "student-feedback", "toy"],
)
def test_gradient_flow_descends_its_loss(name: str):
    system, _ = SUBJECTS[name].make(1.0)
    flow, y = system.gradient_flow(), SUBJECTS[name].state(0)
    assert type(flow) is type(system)
    _, rate = jax.jvp(flow.loss, (y,), (flow(0.0, y, None),))
    assert rate < 0
    if name != "norm-constrained":  # there the velocity is the gradient's projection
        expected = jtu.tree_map(jnp.negative, jax.grad(flow.loss)(y))
        for leaf, slope in zip(jtu.tree_leaves(flow(0.0, y)), jtu.tree_leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, slope, rtol=1e-12, atol=1e-13)
