"""Gram variables against the weights, from 200 hidden units to 100 000; and against the weights in square networks.

taskset -c 0 pytest tests/benchmarks/bench_gram.py -n 0 --benchmark-enable --benchmark-group-by=group
"""

import jax
import numpy as np
import pytest

import curlflow as cf

T = 20.0


def flows(N, M, alpha_h=0.3):
    teacher = cf.ensembles.gaussian_weights(jax.random.key(0), N=N, M=M)
    student = cf.ensembles.gaussian_weights(jax.random.key(1), N=N, M=M)
    # The layers' norms do not grow with the width, so that neither do the rates.
    scale = np.sqrt(200 / N)
    student = cf.Weights(scale * student.W1, student.W2)
    S = scale * teacher.end_to_end
    full = cf.NormConstrained(cf.CurlFlow(S, cf.ensembles.sign_pattern(M, fraction=alpha_h), np.ones(N)))
    return full, student


def run(flow, y):
    return cf.integrate(flow, y, T, ts=[T], rtol=1e-6, atol=1e-9, solver="tsit5")


@pytest.mark.parametrize(("N", "M"), [(200, 20), (2_000, 20), (100_000, 20), (122, 98), (157, 63)])
def test_gram_variables(benchmark, N, M):
    benchmark.group = f"M = {M}"
    full, student = flows(N, M)
    flow = cf.GramFlow.from_flow(full)
    y = flow.reduce(student)
    run(flow, y)
    assert benchmark.pedantic(lambda: run(flow, y), rounds=5).outcome.ok


@pytest.mark.parametrize(("N", "M"), [(200, 20), (2_000, 20), (122, 98), (157, 63)])
def test_weights(benchmark, N, M):
    benchmark.group = f"M = {M}"
    full, student = flows(N, M)
    run(full, student)
    assert benchmark.pedantic(lambda: run(full, student), rounds=3).outcome.ok
