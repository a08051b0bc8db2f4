"""One point of the paper's Fig. 5c: 10⁵ epochs of 200 minibatches as a plain NumPy loop, as `iterate`, and as a flow.

    taskset -c 0 pytest tests/benchmarks/bench_student_teacher.py -n 0 --benchmark-enable

A tanh student of 10 hidden units and 100 inputs, 2000 samples, the paper's rule, norms held fixed, with one readout synapse
flipped ("curl") and without ("gradient"). The NumPy loop is timed over 20 epochs, so its times count 5000-fold; the same
map in JAX over 200, so 500-fold. The flow is integrated to the same time, 10⁴, or, as the figure needs, until the test
error is below 10⁻³; compilation is outside the timing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf

N, M, SAMPLES, BATCH, RATE, THRESHOLD = 10, 100, 2000, 10, 0.1, 1e-3
EPOCHS, NUMPY_EPOCHS, JAX_EPOCHS = 100_000, 20, 200
FLIPPED = {"curl": 1, "gradient": 0}


def point(rule: str, seed: int = 0, samples: int = SAMPLES, activation="tanh"):
    """Flow, student and test error, as in the paper's simulations: teacher of scale 1, student of scale 2."""
    keys = jax.random.split(jax.random.key(seed), 4)
    teacher = cf.models.Teacher(
        cf.ensembles.uniform_weights(keys[0], N=N, M=M), activation=activation, activate_output=True
    )
    student = cf.ensembles.uniform_weights(keys[1], N=N, M=M, scale=2.0)
    signs = cf.Weights(np.ones(M), cf.ensembles.sign_pattern(N, count=FLIPPED[rule]))
    flow = cf.models.StudentFlow(
        *teacher.draw(keys[2], samples),
        signs,
        activation=activation,
        activate_output=True,
        objective="matching",
    )
    return flow, student, cf.orbits.PredictionError(*teacher.draw(keys[3], 100), network=flow)


class Learned(eqx.Module):
    """Whether the test error is below the threshold."""

    error: cf.orbits.PredictionError

    def __call__(self, t, y, args):
        return self.error(t, y) < THRESHOLD


def numpy_descent(X, targets, d2, W1, W2, epochs):
    rng = np.random.default_rng(0)
    norm1, norm2 = np.linalg.norm(W1), np.linalg.norm(W2)
    step = RATE / len(X)
    for _ in range(epochs):
        for batch in rng.permutation(len(X)).reshape(-1, BATCH):
            x = X[batch]
            hidden = np.tanh(x @ W1.T)
            error = targets[batch] - np.tanh(hidden @ W2.T)
            change1 = ((error @ W2) * (1 - hidden**2)).T @ x
            change2 = (error.T @ hidden) * d2
            W1 = W1 + step * change1
            W2 = W2 + step * change2
            W1 *= norm1 / np.linalg.norm(W1)
            W2 *= norm2 / np.linalg.norm(W2)
    return W1, W2


@pytest.mark.parametrize("rule", FLIPPED)
def test_numpy_minibatch_loop(benchmark, rule):
    flow, student, _ = point(rule)
    start = [np.array(leaf) for leaf in (flow.X, flow.targets, flow.signs.W2, student.W1, student.W2)]
    W1, _ = benchmark.pedantic(lambda: numpy_descent(*start, NUMPY_EPOCHS), rounds=3)
    assert np.isfinite(W1).all()


@pytest.mark.parametrize("rule", FLIPPED)
def test_minibatch_map(benchmark, rule):
    flow, student, _ = point(rule)
    descent = cf.models.MinibatchDescent(flow, learning_rate=RATE, batch_size=BATCH, key=jax.random.key(1))
    cf.iterate(descent, student, JAX_EPOCHS)
    run = benchmark.pedantic(lambda: cf.iterate(descent, student, JAX_EPOCHS), rounds=3)
    assert run.outcome.ok


@pytest.mark.parametrize("rule", FLIPPED)
@pytest.mark.parametrize("until", ["threshold", "end"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_norm_constrained_flow(benchmark, rule, until, precision):
    flow, student, error = point(rule)
    flow = cf.NormConstrained(
        cf.models.StudentFlow(
            flow.X,
            flow.targets,
            flow.signs,
            activation="tanh",
            activate_output=True,
            objective="matching",
            precision=precision,
        )
    )
    stop = Learned(error) if until == "threshold" else None
    T = EPOCHS * RATE

    def run():
        return cf.integrate(flow, student, T, ts=[T], rtol=1e-4, atol=1e-6, solver="tsit5", stop=stop)

    first = run()
    benchmark.extra_info.update(
        steps=first.stats["steps"],
        t=float(first.ts[-1]),
        error=float(error(0.0, jax.tree.map(jnp.asarray, first.final_state))),
    )
    assert benchmark.pedantic(run, rounds=2).outcome.ok
