"""Networks on data: gradients against autodiff, exact limits, kinks, feedback alignment, the population limit."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from jaxtyping import Array
from scipy.integrate import quad

import curlflow as cf
from curlflow.models import Layer

SAMPLES, M, N, P = 30, 4, 5, 2
D1, D2 = [1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, 1.0, -1.0, 1.0]
PLUS = cf.Weights(np.ones(M), np.ones(N))
FUNCTIONS = {
    "linear": lambda z: z,
    "tanh": jnp.tanh,
    "erf": jax.scipy.special.erf,
    "relu": lambda z: jnp.maximum(z, 0.0),
}
NAMES = list(FUNCTIONS)


def normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


X, W = normal(0, SAMPLES, M), cf.Weights(normal(1, N, M), normal(2, P, N))
TARGETS = jax.random.uniform(jax.random.key(3), (SAMPLES, P), jnp.float64)  # in the range of every activation
DEEP = (normal(4, 6, M), normal(5, 3, 6), normal(6, P, 3))
# The middle layer has none.
BIASED = (Layer(DEEP[0], normal(40, 6)), DEEP[1], Layer(DEEP[2], normal(41, P)))
TWO_BIASED = (Layer(W.W1, normal(42, N)), Layer(W.W2, normal(43, P)))
BIAS_SIGNS = (Layer(D1, [1.0, -1.0, 1.0, 1.0, -1.0]), Layer(D2, [-1.0, 1.0]))


def student(signs=PLUS, activation="tanh", targets=TARGETS, **settings) -> cf.models.StudentFlow:
    return cf.models.StudentFlow(X, targets, signs, activation=activation, **settings)


def summed(h: Array, layer) -> Array:
    return h @ layer.W.T + layer.b if isinstance(layer, Layer) else h @ layer.T


def written_out(activation: str, activate_output: bool):
    """½⟨e²⟩ of a network, in one line per layer."""
    phi = FUNCTIONS[activation]

    def loss(weights) -> Array:
        h, layers = X, weights if isinstance(weights, tuple) else jtu.tree_leaves(weights)
        for layer in layers[:-1]:
            h = phi(summed(h, layer))
        z = summed(h, layers[-1])
        return 0.5 * jnp.mean(jnp.sum((TARGETS - (phi(z) if activate_output else z)) ** 2, axis=1))

    return loss


def assert_same(actual, expected, tolerance: float) -> None:
    for a, b in zip(jtu.tree_leaves(actual), jtu.tree_leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(b).max()))


def negative(tree):
    return jtu.tree_map(jnp.negative, tree)


@pytest.mark.parametrize("activate_output", [False, True])
@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize(
    "weights", [W, DEEP, (normal(7, P, M),), BIASED], ids=["two", "three", "one", "biases"]
)
def test_gradient_flow_is_autodiffs(weights, activation: str, activate_output: bool):
    signs = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape[-1]), weights)
    flow = student(signs, activation, activate_output=activate_output)
    loss = written_out(activation, activate_output)
    np.testing.assert_allclose(flow.loss(weights), loss(weights), rtol=1e-13)
    assert_same(flow(0.0, weights), negative(jax.grad(loss)(weights)), 1e-12)
    assert_same(flow(0.0, weights), negative(jax.grad(flow.loss)(weights)), 1e-12)


@pytest.mark.parametrize("activation", NAMES)
def test_the_papers_rule_is_the_gradient_of_the_matching_loss(activation: str):
    flow = student(activation=activation, activate_output=True, objective="matching")
    assert_same(flow(0.0, W), negative(jax.grad(flow.loss)(W)), 1e-12)
    z = FUNCTIONS[activation](X @ W.W1.T) @ W.W2.T
    residual = TARGETS - FUNCTIONS[activation](z)  # no derivative of the output
    np.testing.assert_allclose(
        flow(0.0, W).W2, residual.T @ FUNCTIONS[activation](X @ W.W1.T) / SAMPLES, rtol=1e-12
    )
    if activation != "linear":
        true_gradient = student(activation=activation, activate_output=True)(0.0, W)
        assert float(jnp.abs(true_gradient.W2 - flow(0.0, W).W2).max()) > 1e-3


def test_biases_are_the_weights_of_an_input_that_is_one():
    """Each layer in turn as a layer without biases on inputs to which a 1 is appended: whatever the rule."""
    appended = jnp.concatenate([X, jnp.ones((SAMPLES, 1))], axis=1)
    rules = [
        {},
        {"activate_output": True},
        {"objective": "matching", "activate_output": True},
        {"feedback": normal(10, N, P)},
    ]
    for rule in rules:
        flow = student(BIAS_SIGNS, **rule)
        hidden = flow(0.0, (TWO_BIASED[0], Layer(W.W2, [0.0, 0.0])))[0]
        joined = jnp.concatenate([W.W1, TWO_BIASED[0].b[:, None]], axis=1)
        mask = jnp.concatenate([jnp.tile(jnp.array(D1), (N, 1)), BIAS_SIGNS[0].b[:, None]], axis=1)
        bare = cf.models.StudentFlow(appended, TARGETS, (mask, D2), activation="tanh", **rule)
        assert_same(
            jnp.concatenate([hidden.W, hidden.b[:, None]], axis=1), bare(0.0, (joined, W.W2))[0], 1e-13
        )
        # The readout sees the hidden units, which a network of one layer is given as its inputs.
        h = jnp.concatenate([jnp.tanh(appended @ joined.T), jnp.ones((SAMPLES, 1))], axis=1)
        last = jnp.concatenate([W.W2, TWO_BIASED[1].b[:, None]], axis=1)
        mask = jnp.concatenate([jnp.tile(jnp.array(D2), (P, 1)), BIAS_SIGNS[1].b[:, None]], axis=1)
        rule = {name: value for name, value in rule.items() if name != "feedback"}
        bare = cf.models.StudentFlow(h, TARGETS, (mask,), activation="tanh", **rule)
        readout = flow(0.0, TWO_BIASED)[1]
        assert_same(jnp.concatenate([readout.W, readout.b[:, None]], axis=1), bare(0.0, (last,))[0], 1e-13)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_biases_of_zero_change_nothing_and_linear_networks_may_have_them(activation: str):
    silent = (Layer(W.W1, np.zeros(N)), Layer(W.W2, np.zeros(P)))
    moved, plain = (
        student(BIAS_SIGNS, activation)(0.0, silent),
        student((D1, D2), activation)(0.0, (W.W1, W.W2)),
    )
    assert_same((moved[0].W, moved[1].W), plain, 1e-13)


def test_a_biased_network_is_gradient_flow_on_the_matching_loss_too():
    flow = student(BIAS_SIGNS, activate_output=True, objective="matching").gradient_flow()
    assert_same(flow(0.0, TWO_BIASED), negative(jax.grad(flow.loss)(TWO_BIASED)), 1e-12)


def test_single_precision_reaches_biases():
    flow, single = student(BIAS_SIGNS), student(BIAS_SIGNS, precision="float32")
    velocity = single(0.0, TWO_BIASED)
    assert {leaf.dtype for leaf in jtu.tree_leaves(velocity)} == {jnp.dtype(jnp.float64)}
    assert_same(velocity, flow(0.0, TWO_BIASED), 3e-6)
    assert float(jnp.abs(velocity[0].b - flow(0.0, TWO_BIASED)[0].b).max()) > 1e-12


def test_beside_a_teacher_with_biases_errors_decay_by_the_tangent_kernel():
    teacher = cf.models.Teacher(TWO_BIASED, activation="tanh")
    inputs, answers = teacher.draw(jax.random.key(44), 20)
    np.testing.assert_allclose(
        answers, summed(jnp.tanh(summed(inputs, TWO_BIASED[0])), TWO_BIASED[1]), rtol=1e-12
    )
    flow = cf.models.StudentFlow(inputs, answers, BIAS_SIGNS, activation="tanh")
    assert float(flow.loss(TWO_BIASED)) == 0.0
    spectrum = cf.manifold.error_spectrum(flow.gradient_flow(), TWO_BIASED)
    jacobian = jax.jacobian(lambda weights: teacher_answers(weights, inputs).ravel())(TWO_BIASED)
    J = np.concatenate([np.asarray(leaf).reshape(40, -1) for leaf in jtu.tree_leaves(jacobian)], axis=1)
    np.testing.assert_allclose(
        np.sort(spectrum.eigenvalues.real), np.sort(-np.linalg.eigvalsh(J @ J.T / 20)), atol=1e-12
    )


def teacher_answers(weights, inputs: Array) -> Array:
    return summed(jnp.tanh(summed(inputs, weights[0])), weights[1])


@pytest.mark.parametrize("activation", NAMES)
def test_the_matching_loss_is_zero_at_a_perfect_answer_and_positive_elsewhere(activation: str):
    answers = student(activation=activation, activate_output=True).output(W, X)
    flow = student(activation=activation, targets=answers, activate_output=True, objective="matching")
    assert abs(float(flow.loss(W))) < 1e-14
    assert float(flow.loss(cf.Weights(W.W1, 1.1 * W.W2))) > 1e-6


def test_the_matching_loss_without_output_activation_is_the_squared_error():
    flow = student(objective="matching")
    np.testing.assert_allclose(flow.loss(W), written_out("tanh", False)(W), rtol=1e-13)


@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(X @ normal(8, P, M).T, id="noiseless", marks=pytest.mark.slow),
        pytest.param(TARGETS, id="not linear"),
    ],
)
def test_a_linear_student_is_the_curl_flow_of_the_sample_covariance(targets: Array):
    flow = student(cf.Weights(D1, D2), "linear", targets)
    C = np.asarray(X.T @ X) / SAMPLES
    S = np.linalg.solve(C, np.asarray(X.T @ targets) / SAMPLES).T
    curl = cf.CurlFlow(S, D1, D2, C)
    assert_same(flow(0.0, W), curl(0.0, W), 1e-12)
    assert_same(flow.curl_flow()(0.0, W), curl(0.0, W), 1e-12)
    pair = (cf.NormConstrained(flow), cf.NormConstrained(curl))
    ends = [cf.integrate(each, W, 2.0, ts=[2.0], rtol=1e-12, atol=1e-13).final_state for each in pair]
    assert_same(ends[0], ends[1], 1e-10)
    unlearnable = flow.loss(W) - curl.loss(W)
    np.testing.assert_allclose(unlearnable, np.mean(np.sum((targets - X @ S.T) ** 2, 1)) / 2, atol=1e-12)


def test_deep_linear_networks_do_not_take_the_short_cut_of_two_layers():
    deep = (normal(9, N, M), jnp.eye(N), normal(2, P, N))
    flow = student(tuple(jnp.ones(k) for k in (M, N, N)), "linear")
    shallow = student(activation="linear")
    expected = shallow(0.0, cf.Weights(deep[0], deep[2]))
    assert_same((flow(0.0, deep)[0], flow(0.0, deep)[2]), (expected.W1, expected.W2), 1e-13)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_signs_flip_neurons_or_single_synapses(activation: str):
    plain = student(activation=activation)(0.0, W)
    per_neuron = student(cf.Weights(D1, D2), activation)(0.0, W)
    assert_same(per_neuron, cf.Weights(plain.W1 * np.array(D1), plain.W2 * np.array(D2)), 1e-15)
    entering = student(cf.Weights(np.array(D2)[:, None], np.ones(N)), activation)(0.0, W)
    assert_same(entering.W1, plain.W1 * np.array(D2)[:, None], 1e-15)
    mask = np.where(np.random.default_rng(0).random((N, M)) < 0.5, -1.0, 1.0)
    per_synapse = student(cf.Weights(mask, np.ones(N)), activation)(0.0, W)
    assert_same(per_synapse, cf.Weights(plain.W1 * mask, plain.W2), 1e-15)


@pytest.mark.parametrize("activation", NAMES)
def test_feedback_alignment_replaces_the_transposed_weights_and_nothing_else(activation: str):
    signs = cf.Weights(D1, D2)
    with_transpose = student(signs, activation, feedback=W.W2.T, activate_output=True)
    assert_same(with_transpose(0.0, W), student(signs, activation, activate_output=True)(0.0, W), 1e-14)
    B = normal(10, N, P)
    aligned, swapped = student(signs, activation, feedback=B)(0.0, W), cf.Weights(W.W1, B.T)
    plain = student(signs, activation)(0.0, W)
    assert_same(aligned.W2, plain.W2, 1e-15)
    # The hidden layer moves as if the readout were Bᵀ, with the error of the true readout.
    shifted = (
        TARGETS - student(signs, activation).output(W, X) + student(signs, activation).output(swapped, X)
    )
    assert_same(aligned.W1, student(signs, activation, targets=shifted)(0.0, swapped).W1, 1e-13)


def test_direct_feedback_reaches_every_hidden_layer_from_the_output():
    B = (normal(11, 6, P), normal(12, 3, P))
    signs = tuple(jnp.ones(layer.shape[1]) for layer in DEEP)
    moved = student(signs, feedback=B)(0.0, DEEP)
    h1 = np.tanh(X @ DEEP[0].T)
    h2 = np.tanh(h1 @ DEEP[1].T)
    e = (TARGETS - h2 @ DEEP[2].T) / SAMPLES
    assert_same(moved[2], e.T @ h2, 1e-13)
    assert_same(moved[1], ((e @ B[1].T) * (1 - h2**2)).T @ h1, 1e-13)
    assert_same(moved[0], ((e @ B[0].T) * (1 - h1**2)).T @ X, 1e-13)


def test_gradient_flow_has_neither_flips_nor_feedback():
    flow = student(cf.Weights(D1, D2), feedback=normal(10, N, P)).gradient_flow()
    assert_same(flow(0.0, W), negative(jax.grad(written_out("tanh", False))(W)), 1e-12)


def test_at_its_kink_a_relu_has_derivative_zero():
    """One sample, on which the first unit stands exactly at zero and the second is active."""
    flow = cf.models.StudentFlow([[1.0, 1.0]], [1.0], cf.Weights([1.0, 1.0], [1.0, 1.0]), activation="relu")
    at_kink = cf.Weights([[1.0, -1.0], [1.0, 0.0]], [[1.0, 0.5]])
    np.testing.assert_array_equal(flow(0.0, at_kink).W1, [[0.0, 0.0], [0.25, 0.25]])
    np.testing.assert_array_equal(flow(0.0, at_kink).W2, [[0.0, 0.5]])


def test_orbits_cross_a_kink_exactly():
    """w1 falls through 0, where the unit falls silent for good: ẇ1 = w2 (y − w2 w1) with y < 0 while w1 > 0, then nothing."""
    flow = cf.models.StudentFlow([[1.0]], [-1.0], cf.Weights([1.0], [1.0]), activation="relu")
    run = cf.integrate(flow, cf.Weights([[1.0]], [[1.0]]), 5.0, rtol=1e-10, atol=1e-12)
    assert run.outcome.ok
    # w2² − w1² is conserved while the unit is active, and is 0 here: w1 = w2 = w with ẇ = −w (1 + w²), which never gets to 0.
    w = np.exp(-5.0) / np.sqrt(2 - np.exp(-10.0))
    np.testing.assert_allclose(run.final_state.W1, [[w]], rtol=1e-7)
    # With w2² − w1² = 1 it does, and then both weights stand still.
    crossing = cf.integrate(flow, cf.Weights([[1.0]], [[2.0**0.5]]), 5.0, rtol=1e-10, atol=1e-12)
    assert crossing.outcome.ok
    assert crossing.stats["rejected"] > run.stats["rejected"]
    np.testing.assert_allclose(crossing.final_state.W2, [[1.0]], rtol=1e-6)
    assert -1e-6 < float(crossing.final_state.W1[0, 0]) <= 0.0
    assert flow(0.0, crossing.final_state) == cf.Weights([[0.0]], [[0.0]])


@pytest.mark.slow
def test_orbits_that_slide_along_a_kink_end_with_an_outcome_and_stay_on_it():
    """Two samples, one on each side, both with targets below zero, push the unit towards silence on both: w1 → 0."""
    flow = cf.models.StudentFlow([[1.0], [-1.0]], [-1.0, -1.0], cf.Weights([1.0], [1.0]), activation="relu")
    assert float(flow(0.0, cf.Weights([[1e-9]], [[1.0]])).W1[0, 0]) < -0.4
    assert float(flow(0.0, cf.Weights([[-1e-9]], [[1.0]])).W1[0, 0]) > 0.4
    start = cf.Weights([[0.3]], [[1.0]])
    run = cf.integrate(flow, start, 20.0, max_steps=2000)
    assert run.outcome.ending == "step limit reached"
    assert abs(float(run.final_state.W1[0, 0])) < 1e-8
    loose = cf.integrate(flow, start, 2.0, rtol=1e-3, atol=1e-3)
    assert loose.outcome.ok
    assert abs(float(loose.final_state.W1[0, 0])) < 2e-2


@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.slow)])
def test_norms_are_kept_when_constrained(activation: str):
    flow = cf.NormConstrained(student(cf.Weights(D1, D2), activation))
    run = cf.integrate(flow, W, 0.5, rtol=1e-8)
    assert run.outcome.ok
    for end, start in zip(jtu.tree_leaves(run.final_state), jtu.tree_leaves(W), strict=True):
        np.testing.assert_allclose(jnp.linalg.norm(end), jnp.linalg.norm(start), rtol=1e-6)


@pytest.mark.slow
def test_full_batch_descent_and_minibatches_follow_the_flow():
    flow = student(cf.Weights(D1, D2))
    limit = cf.integrate(cf.NormConstrained(flow), W, 1.0, ts=[1.0], rtol=1e-10).final_state

    def distance(descent, steps: int) -> float:
        end = cf.iterate(descent, W, steps).final_state
        return max(
            float(jnp.abs(a - b).max())
            for a, b in zip(jtu.tree_leaves(end), jtu.tree_leaves(limit), strict=True)
        )

    full = [distance(cf.DescentMap(flow, 1 / n, renormalise=True), n) for n in (50, 100, 200)]
    np.testing.assert_allclose(np.divide(full[:-1], full[1:]), 2.0, atol=0.1)
    batches = [
        distance(
            cf.models.MinibatchDescent(flow, learning_rate=1 / n, batch_size=5, key=jax.random.key(1)), n
        )
        for n in (20, 320)
    ]
    assert batches[0] > 1e-4
    assert batches[1] < batches[0] / 4


def test_an_epoch_of_fresh_samples_never_looks_at_the_data():
    teacher = cf.models.Teacher(W, activation="tanh")
    key = jax.random.key(20)
    flows = [cf.models.StudentFlow(data, TARGETS, PLUS, activation="tanh") for data in (X, X + 1)]
    ends = [
        cf.models.MinibatchDescent(
            flow, learning_rate=0.1, batch_size=10, key=key, renormalise=False, teacher=teacher
        ).step(3, cf.Weights(-W.W1, 2 * W.W2))
        for flow in flows
    ]
    assert_same(ends[0], ends[1], 0.0)
    y = cf.Weights(-W.W1, 2 * W.W2)
    for each in jax.random.split(jax.random.fold_in(key, 3), SAMPLES // 10):
        rate = flows[0].velocity_on(y, *teacher.draw(each, 10))
        y = jtu.tree_map(lambda layer, change: layer + 0.1 * 10 / SAMPLES * change, y, rate)
    assert_same(ends[0], y, 1e-14)


def test_a_teacher_answers_and_draws_what_it_says():
    teacher = cf.models.Teacher(DEEP, activation="relu", activate_output=True, standard_deviation=2.0)
    inputs, answers = teacher.draw(jax.random.key(0), 4000)
    np.testing.assert_allclose(answers, teacher.output(inputs))
    assert float(answers.min()) == 0.0
    np.testing.assert_allclose(inputs.std(), 2.0, rtol=0.05)
    flow = cf.models.StudentFlow(
        inputs,
        answers,
        jtu.tree_map(lambda W: jnp.ones(W.shape[1]), DEEP),
        activation="relu",
        activate_output=True,
    )
    assert float(flow.loss(DEEP)) == 0.0


def test_prediction_error_of_a_nonlinear_network():
    flow = student()
    error = cf.orbits.PredictionError(X, TARGETS, network=flow)
    np.testing.assert_allclose(error(0.0, W), flow.error(W), rtol=1e-14)
    with pytest.raises(ValueError, match="`network` must have a method output"):
        cf.orbits.PredictionError(X, TARGETS, network=3)


@pytest.mark.slow
def test_single_precision_is_in_the_sums_only():
    flow, single = student(cf.Weights(D1, D2)), student(cf.Weights(D1, D2), precision="float32")
    velocity = single(0.0, W)
    assert velocity.W1.dtype == velocity.W2.dtype == jnp.float64
    assert_same(velocity, flow(0.0, W), 3e-6)
    assert float(jnp.abs(velocity.W1 - flow(0.0, W).W1).max()) > 1e-12
    assert cf.integrate(single, W, 1.0, rtol=1e-5).final_state.W1.dtype == jnp.float64
    lines = str(jax.make_jaxpr(lambda W: single(0.0, W))(W)).splitlines()
    products = [line for line in lines if "dot_general" in line]
    assert products
    assert all(":f32[" in line for line in products)
    assert single.loss(W).dtype == jnp.float64


# ---------------------------------------------------------------------------------- the population limit


def relu_mean(u: np.ndarray, v: np.ndarray) -> float:
    """⟨relu(u·x) relu(v·x)⟩ in the plane of u and v, over the direction of x; the mean of its squared length is 2."""
    angle = np.arccos(min(np.dot(u, v) / np.linalg.norm(u) / np.linalg.norm(v), 1.0))
    mean, _ = quad(lambda a: np.cos(a) * np.cos(a - angle), angle - np.pi / 2, np.pi / 2, epsabs=1e-13)
    return 2 * np.linalg.norm(u) * np.linalg.norm(v) * mean / (2 * np.pi)


def erf_mean(u: np.ndarray, v: np.ndarray) -> float:
    """⟨erf(u·x) erf(v·x)⟩ by Gauss–Hermite quadrature in the plane of u and v."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x, y = np.meshgrid(nodes, nodes)
    along = np.dot(u, v) / np.linalg.norm(u)
    across = np.sqrt(max(np.dot(v, v) - along**2, 0.0))
    values = jax.scipy.special.erf(np.linalg.norm(u) * x) * jax.scipy.special.erf(along * x + across * y)
    return float(weights @ np.asarray(values) @ weights) / (2 * np.pi)


@pytest.mark.parametrize(("activation", "mean"), [("relu", relu_mean), ("erf", erf_mean)])
def test_kernels_are_the_integrals_they_stand_for(activation: str, mean):
    scale, T1 = 0.5**0.5, np.asarray(normal(30, 1, 3))
    student1 = 0.7 * np.asarray(normal(31, 1, 3))
    loss = cf.models.PopulationLoss(
        cf.models.Teacher(cf.Weights(T1, [[1.5]]), activation=activation, standard_deviation=scale)
    )
    u, v = scale * student1[0], scale * T1[0]
    expected = (2.0**2 * mean(u, u) - 2 * 2.0 * 1.5 * mean(u, v) + 1.5**2 * mean(v, v)) / 2
    np.testing.assert_allclose(loss(cf.Weights(student1, [[2.0]])), expected, rtol=1e-11)


@pytest.mark.parametrize(
    "activation",
    ["linear", pytest.param("erf", marks=pytest.mark.slow), pytest.param("relu", marks=pytest.mark.slow)],
)
def test_the_population_loss_is_the_mean_over_many_samples(activation: str):
    teacher = cf.models.Teacher(cf.Weights(normal(32, 3, M), normal(33, P, 3)), activation=activation)
    loss = cf.models.PopulationLoss(teacher)
    runs = [
        cf.models.StudentFlow(*teacher.draw(jax.random.key(k), 20_000), PLUS, activation=activation)
        for k in range(10)
    ]
    velocities = np.array([np.asarray(run(0.0, W).W1) for run in runs])
    standard_error = velocities.std(0, ddof=1) / np.sqrt(10)
    z = (velocities.mean(0) + np.asarray(jax.grad(loss)(W).W1)) / standard_error
    assert np.sqrt(np.mean(z**2)) < 1.6
    assert np.abs(velocities.mean(0)).max() > 20 * standard_error.max()


@pytest.mark.parametrize("activation", ["linear", "erf", pytest.param("relu", marks=pytest.mark.slow)])
def test_the_population_loss_vanishes_at_the_teacher_with_its_gradient(activation: str):
    weights = cf.Weights(normal(32, 3, M), normal(33, P, 3))
    loss = cf.models.PopulationLoss(cf.models.Teacher(weights, activation=activation))
    assert abs(float(loss(weights))) < 1e-13
    for leaf in jtu.tree_leaves(jax.grad(loss)(weights)):
        assert float(jnp.abs(leaf).max()) < 1e-7  # arccos at parallel units: half the digits
    grown = jtu.tree_map(lambda layer: jnp.concatenate([layer, 0 * layer], axis=layer.shape[0] == P), weights)
    assert abs(float(loss(grown))) < 1e-13
    assert all(np.isfinite(leaf).all() for leaf in jtu.tree_leaves(jax.grad(loss)(grown)))


def test_a_linear_population_is_the_curl_flow_of_white_inputs():
    teacher = cf.models.Teacher(W, activation="linear")
    flow = cf.SignedGradientFlow(cf.models.PopulationLoss(teacher), cf.Weights(D1, D2))
    curl = cf.CurlFlow(W.end_to_end, D1, D2, 0.5 * np.eye(M))
    y = cf.Weights(normal(34, N, M), normal(35, P, N))
    assert_same(flow(0.0, y), curl(0.0, y), 1e-12)


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: student(activation="sigmoid"), "`activation` must be one of 'linear', 'tanh', 'erf', 'relu'"),
        (lambda: student(objective="mse"), "`objective` must be one of 'squared error', 'matching', but"),
        (lambda: student(precision="float16"), "`precision` must be one of 'float64', 'float32', but"),
        (lambda: student(targets=TARGETS[:-1]), r"`targets` must have shape \(samples, P\) = \(30, P\), but"),
        (lambda: student(cf.Weights([0.5] * M, D2)), r"`signs.W1` must hold only \+1 and −1"),
        (
            lambda: student(targets=2 * TARGETS, activate_output=True, objective="matching"),
            "`targets` must lie in the range of 'tanh', from -1 to 1, for the matching loss",
        ),
        (lambda: student(feedback=jnp.ones((N, 3))), r"`feedback` must have shape \(N, P\) = \(N, 2\), but"),
        (lambda: student(feedback=[jnp.ones((N, P))] * 2), "one matrix for each of the 1 hidden layers"),
        (lambda: cf.models.StudentFlow(X[0], [1.0], PLUS, activation="tanh"), r"`X` must have shape \(samples, M\)"),
        (lambda: cf.models.Teacher(cf.Weights(W.W1, W.W2.T), activation="tanh"), r"layer 2 must have shape \(units, 5\)"),
        (lambda: cf.models.Teacher(W, activation="tanh", standard_deviation=0.0), "`standard_deviation` must be pos"),
        (
            lambda: cf.models.PopulationLoss(cf.models.Teacher(W, activation="tanh")),
            "two layers, an activation among 'linear'",
        ),
        (
            lambda: cf.models.PopulationLoss(cf.models.Teacher(W, activation="relu", activate_output=True)),
            "also at the output. Give it to MinibatchDescent",
        ),
        (lambda: student().curl_flow(), "`curl_flow` must be asked of a two-layer linear network"),
        (lambda: student(BIAS_SIGNS, "linear").curl_flow(), r"signs of shapes \[\(4,\), \(5,\)\], biases"),
        (lambda: student((Layer(D1, [0.5] * N), Layer(D2, [1, 1]))), r"`signs\[0\].b` must hold only \+1 and −1"),
        (
            lambda: cf.models.Teacher((Layer(W.W1, [0.0]), W.W2), activation="tanh"),
            r"biases of layer 1 must have shape \(5,\), one for each of its units, but have shape \(1,\)",
        ),
        (
            lambda: cf.models.PopulationLoss(cf.models.Teacher(TWO_BIASED, activation="erf")),
            "no biases, but has 2 layers with biases",
        ),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("flow", "weights", "message"),
    [
        (student(), DEEP, "The weights must be a pytree like the signs"),
        (
            student(),
            cf.Weights(W.W1[:, 1:], W.W2),
            r"weights of layer 1 must have shape \(units, 4\), but have shape \(5, 3\)",
        ),
        (student(), cf.Weights(W.W1, W.W2[:1]), "a row for each of the 2 outputs, but have 1"),
        (
            student(cf.Weights(np.ones(M), np.ones(N + 1))),
            W,
            r"signs of layer 2 must broadcast to its weights' shape \(2, 5\)",
        ),
        (
            student((Layer(D1, D2), Layer(D2, D2))),
            TWO_BIASED,
            r"signs of layer 2 must broadcast to its biases' shape \(2,\), but have shape \(5,\)",
        ),
        (
            student(BIAS_SIGNS),
            (TWO_BIASED[0], W.W2),
            "Layer 2 must have biases just if its signs have, but its signs",
        ),
        (student(), TWO_BIASED, "Layer 1 must have biases just if its signs have, but it has some"),
        (
            student(BIAS_SIGNS),
            (Layer(W.W1, np.zeros(M)), TWO_BIASED[1]),
            r"biases of layer 1 must have shape \(5,\), one for each of its units, but have shape \(4,\)",
        ),
        (
            student(feedback=normal(0, N + 1, P)),
            W,
            "feedback to layer 1 must have a row for each of its 5 units, but has 6",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(flow: cf.models.StudentFlow, weights, message: str):
    with pytest.raises(ValueError, match=message):
        cf.integrate(flow, weights, 1.0)
