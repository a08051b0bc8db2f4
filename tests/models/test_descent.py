"""Descent maps: the rule they state, its exact reduction, and the order at which they approach the flow."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import curlflow as cf

N, M, P, SAMPLES, BATCH = 4, 3, 2, 20, 5
D1, D2 = [1.0, -1.0, 1.0], [1.0, 1.0, -1.0, 1.0]
X = jax.random.normal(jax.random.key(0), (SAMPLES, M))
S = jax.random.normal(jax.random.key(1), (P, M))
W0 = cf.ensembles.gaussian_weights(jax.random.key(2), N=N, M=M, P=P)
FLOW = cf.CurlFlow(S, D1, D2, X.T @ X / SAMPLES)
LINEAR = cf.models.StudentFlow(X, X @ S.T, cf.Weights(D1, D2), activation="linear")


def minibatch(
    rate: float, key: jax.Array, renormalise: bool = True, batch_size: int = BATCH
) -> cf.models.MinibatchDescent:
    return cf.models.MinibatchDescent(
        LINEAR, learning_rate=rate, batch_size=batch_size, key=key, renormalise=renormalise
    )


@jax.jit
def after(descent: cf.DescentMap | cf.models.MinibatchDescent, y: cf.Weights, steps: jax.Array) -> cf.Weights:
    return jax.lax.fori_loop(0, steps, lambda n, y: descent.step(n, y), y)


def distance(a: cf.Weights, b: cf.Weights) -> float:
    return max(
        float(jnp.abs(x - y).max()) for x, y in zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True)
    )


def rescaled(W: cf.Weights, like: cf.Weights) -> cf.Weights:
    return jtu.tree_map(lambda a, b: a * np.linalg.norm(b) / np.linalg.norm(a), W, like)


def test_a_step_is_the_rule_written_out():
    E = S - W0.W2 @ W0.W1
    C = X.T @ X / SAMPLES
    expected = cf.Weights(
        W0.W1 + 0.1 * W0.W2.T @ E @ C @ np.diag(D1), W0.W2 + 0.1 * E @ C @ W0.W1.T @ np.diag(D2)
    )
    assert distance(cf.DescentMap(FLOW, 0.1).step(0, W0), expected) < 1e-14
    assert distance(cf.DescentMap(FLOW, 0.1, renormalise=True).step(0, W0), rescaled(expected, W0)) < 1e-14


def test_an_epoch_is_a_loop_over_its_batches():
    key = jax.random.key(7)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 3), SAMPLES))
    W1, W2 = np.asarray(W0.W1), np.asarray(W0.W2)
    for batch in order.reshape(-1, BATCH):
        change1, change2 = np.zeros_like(W1), np.zeros_like(W2)
        for x in np.asarray(X)[batch]:
            e = np.asarray(S) @ x - W2 @ W1 @ x
            change1 += np.outer(W2.T @ e, x * D1) / BATCH
            change2 += np.outer(e, (W1 @ x) * D2) / BATCH
        step = 0.1 * BATCH / SAMPLES
        moved = cf.Weights(W1 + step * change1, W2 + step * change2)
        W1, W2 = map(np.asarray, jtu.tree_leaves(rescaled(moved, cf.Weights(W1, W2))))
    assert distance(minibatch(0.1, key).step(3, W0), cf.Weights(W1, W2)) < 1e-13
    assert (
        distance(minibatch(0.1, key).step(4, W0), cf.Weights(W1, W2)) > 1e-4
    )  # each epoch has an order of its own


@pytest.mark.parametrize("renormalise", [False, True])
def test_one_batch_of_all_samples_is_full_batch_descent(renormalise: bool):
    descent = minibatch(0.1, jax.random.key(3), renormalise, batch_size=SAMPLES)
    full = cf.DescentMap(LINEAR.curl_flow(), 0.1, renormalise)
    assert distance(after(descent, W0, 5), after(full, W0, 5)) < 1e-13


@pytest.mark.parametrize("renormalise", [False, True])
def test_full_batch_approaches_the_flow_with_order_one(renormalise: bool):
    flow = cf.NormConstrained(FLOW) if renormalise else FLOW
    limit = cf.integrate(flow, W0, 1.0, ts=[1.0], rtol=1e-12, atol=1e-13, solver="tsit5").final_state
    errors = np.array(
        [distance(after(cf.DescentMap(FLOW, 1 / n, renormalise), W0, n), limit) for n in (500, 1000, 2000)]
    )
    assert errors[0] > 1e-5
    ratios = errors[:-1] / errors[1:]
    np.testing.assert_allclose(ratios, 2.0, atol=0.03)
    assert abs(ratios[1] - 2) < abs(ratios[0] - 2)


def test_minibatches_approach_the_flow_with_order_one_and_fluctuate_with_order_three_halves():
    limit = cf.integrate(cf.NormConstrained(FLOW), W0, 1.0, ts=[1.0], rtol=1e-12, solver="tsit5").final_state
    keys = jax.random.split(jax.random.key(11), 400)

    def mean_error_and_spread(epochs: int) -> tuple[float, float]:
        ends = jax.vmap(lambda key: after(minibatch(1 / epochs, key), W0, jnp.asarray(epochs)).W1)(keys)
        return float(jnp.linalg.norm(ends.mean(0) - limit.W1)), float(jnp.linalg.norm(ends.std(0)))

    (error, spread), (finer_error, finer_spread) = mean_error_and_spread(40), mean_error_and_spread(160)
    # A quarter of the step. The relative standard error of a ratio of spreads is about √(2/400)/√(entries).
    assert abs(np.log(error / finer_error) / np.log(4) - 1.0) < 0.1
    assert abs(np.log(spread / finer_spread) / np.log(4) - 1.5) < 0.06


def test_rescaling_to_the_norm_before_is_rescaling_to_the_first_norm():
    end = after(cf.DescentMap(FLOW, 0.1, renormalise=True), W0, 20_000)
    for layer, start in zip(jtu.tree_leaves(end), jtu.tree_leaves(W0), strict=True):
        assert abs(float(jnp.linalg.norm(layer) / jnp.linalg.norm(start)) - 1) < 1e-11


@pytest.mark.parametrize("renormalise", [False, True])
def test_descent_in_gram_variables_is_the_networks(renormalise: bool):
    flow = cf.GramFlow.from_flow(FLOW)
    full = after(cf.DescentMap(FLOW, 0.05, renormalise), W0, 20)
    reduced = after(cf.DescentMap(flow, 0.05, renormalise), flow.reduce(W0), 20)
    for a, b in zip(jtu.tree_leaves(reduced), jtu.tree_leaves(flow.reduce(full)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    euler = flow(0.0, flow.reduce(W0))
    naive = jtu.tree_map(lambda y, rate: y + 0.05 * rate, flow.reduce(W0), euler)
    exact = cf.DescentMap(flow, 0.05).step(0, flow.reduce(W0))
    assert (
        float(jnp.abs(naive.inputs - exact.inputs).max()) > 1e-4
    )  # an Euler step of the Gram matrices is not it


def test_time_reaches_a_users_own_field():
    descent = cf.DescentMap(lambda t, y, args: {"x": args * t * jnp.ones(1)}, 0.5)
    np.testing.assert_allclose(descent.step(3, {"x": jnp.zeros(1)}, 2.0)["x"], [2.0 * 1.5 * 0.5])
    assert not hasattr(descent, "loss")


def test_exponents_of_descent_on_a_straight_line_are_logarithms_of_its_factors():
    rates = jnp.array([0.3, -0.2, 0.1])
    descent = cf.DescentMap(lambda t, y, args: rates * y, 0.5)
    ls = cf.lyapunov_spectrum(descent, jnp.zeros(3), T=50, Ttr=500)
    np.testing.assert_allclose(ls.exponents, np.sort(np.log1p(0.5 * rates))[::-1], atol=1e-12)


def test_exponents_of_descent_per_time_approach_the_flows():
    solution = cf.ensembles.gaussian_weights(jax.random.key(4), N=N, M=M, P=P)
    flow = cf.CurlFlow(solution.end_to_end, np.ones(M), np.ones(N))
    slowest = np.sort(np.linalg.eigvals(np.asarray(cf.jacobian(flow, solution))).real)
    ls = cf.lyapunov_spectrum(cf.DescentMap(flow, 1e-3), solution, T=2000, Ttr=20_000, dt=200)
    np.testing.assert_allclose(ls.exponents[-1], np.log1p(1e-3 * slowest[0]), rtol=1e-6)


def test_exponents_of_minibatch_descent_follow_the_epochs_own_orders():
    ls = cf.lyapunov_spectrum(minibatch(0.05, jax.random.key(5)), W0, k=2, T=64, dt=4)
    assert np.isfinite(ls.exponents).all()
    assert ls.exponents[0] >= ls.exponents[1]


def test_wrong_arguments_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`learning_rate` must be positive"):
        cf.DescentMap(FLOW, -0.1)
    with pytest.raises(ValueError, match="`learning_rate` must have shape"):
        cf.DescentMap(FLOW, [0.1, 0.2])
    with pytest.raises(ValueError, match="must be a vector field"):
        cf.DescentMap(3.0, 0.1)
    with pytest.raises(ValueError, match="nonzero norm to be rescaled"):
        cf.DescentMap(FLOW, 0.1, renormalise=True).check_state(cf.Weights(W0.W1, 0 * W0.W2))
    with pytest.raises(ValueError, match="`batch_size` must divide the number of samples, 20, but is 7"):
        minibatch(0.1, key, batch_size=7)
    with pytest.raises(
        ValueError, match="`flow` must be a flow over a data set, such as StudentFlow, but is"
    ):
        cf.models.MinibatchDescent(FLOW, learning_rate=0.1, batch_size=5, key=key)
    with pytest.raises(ValueError, match="`teacher` must have a method draw"):
        cf.models.MinibatchDescent(LINEAR, learning_rate=0.1, batch_size=5, key=key, teacher=W0)
    with pytest.raises(ValueError, match="`key` must be one JAX random key"):
        minibatch(0.1, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="weights of layer 1 must have shape"):
        minibatch(0.1, key).check_state(cf.Weights(W0.W1.T, W0.W2))
