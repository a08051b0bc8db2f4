"""One cell of the paper's Fig. 3a, inset: 20 000 epochs of 25 minibatches as a plain NumPy loop, against the flow.

    taskset -c 0 pytest tests/benchmarks/bench_descent.py -n 0 --benchmark-enable --benchmark-group-by=group

Both end at flow time 2000. The NumPy loop is timed over 40 epochs, so its times count 500-fold. The flow is integrated
in Gram variables, until T = 2000 or until the error is far below the 1e-10 at which the colours end. One group is one
cell: on the stable side, beside the boundary, and twice on the unstable side.
"""

import equinox as eqx
import jax
import numpy as np
import pytest

import curlflow as cf
from curlflow.orbits.solvers import RungeKuttaChebyshev

CELLS = {"stable": (0.1, 0.5), "boundary": (0.3, 0.4), "unstable": (0.4, 0.3), "far": (0.7, 0.6)}
EPOCHS, TIMED_EPOCHS, BATCH, SAMPLES, RATE = 20_000, 40, 10, 250, 0.1
T = EPOCHS * RATE


class Solved(eqx.Module):
    """Whether nothing is left to be learnt."""

    flow: cf.GramFlow

    def __call__(self, t, y, args):
        return self.flow.loss(y) < 1e-14


def cell(c, alpha_h, seed=0):
    """Data, signs, student and flow, as in the paper's simulations."""
    M, N = int(220 / (1 + 1 / c)), int(220 / (1 + c))
    keys = jax.random.split(jax.random.key(seed), 3)
    teacher = cf.ensembles.uniform_weights(keys[0], N=N, M=M)
    student = cf.ensembles.uniform_weights(keys[1], N=N, M=M)
    X = jax.random.normal(keys[2], (SAMPLES, M)) / np.sqrt(2)
    signs = cf.ensembles.sign_pattern(M, fraction=alpha_h)
    flow = cf.NormConstrained(cf.CurlFlow(teacher.end_to_end, signs, np.ones(N), X.T @ X / SAMPLES))
    return X, signs, teacher, student, flow


def numpy_descent(X, targets, d1, W1, W2, epochs):
    rng = np.random.default_rng(0)
    norm1, norm2 = np.linalg.norm(W1), np.linalg.norm(W2)
    step = RATE * BATCH / len(X)
    for _ in range(epochs):
        for batch in rng.permutation(len(X)).reshape(-1, BATCH):
            x = X[batch]
            hidden = x @ W1.T
            error = targets[batch] - hidden @ W2.T
            change1 = (W2.T @ (error.T @ x)) * d1
            change2 = error.T @ hidden
            W1 = W1 + step / BATCH * change1
            W2 = W2 + step / BATCH * change2
            W1 *= norm1 / np.linalg.norm(W1)
            W2 *= norm2 / np.linalg.norm(W2)
    return W1, W2


@pytest.mark.parametrize("name", CELLS)
def test_numpy_minibatch_loop(benchmark, name):
    benchmark.group = f"{name} c, αh = {CELLS[name]}"
    X, d1, teacher, student, _ = cell(*CELLS[name])
    start = [np.array(leaf) for leaf in (X, X @ teacher.end_to_end.T, d1, student.W1, student.W2)]
    W1, _ = benchmark.pedantic(lambda: numpy_descent(*start, TIMED_EPOCHS), rounds=3)
    assert np.isfinite(W1).all()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("solver", ["tsit5", "chebyshev"])
def test_gram_flow(benchmark, name, solver):
    benchmark.group = f"{name} c, αh = {CELLS[name]}"
    *_, student, flow = cell(*CELLS[name])
    reduced = cf.GramFlow.from_flow(flow)
    start = reduced.reduce(student)

    method, rtol = (RungeKuttaChebyshev(10), 1e-3) if solver == "chebyshev" else ("tsit5", 1e-6)

    def run():
        stop = Solved(reduced)
        return cf.integrate(reduced, start, T, ts=[T], rtol=rtol, atol=rtol / 1e3, solver=method, stop=stop)

    benchmark.extra_info["loss"] = float(reduced.loss(run().final_state))
    assert benchmark.pedantic(run, rounds=3).outcome.ok
