"""Lyapunov spectra against other people's packages, in one process on one core.

    pip install -e ".[test,bench]"
    taskset -c 0 pytest tests/benchmarks/bench_lyapunov.py -n 0 --benchmark-enable --benchmark-group-by=group

Compare within a group only, and look at the minima: other programs on the machine lengthen everything else.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from reference_systems import lorenz

import curlflow as cf
from curlflow.chaos import lyapunov_spectrum
from curlflow.chaos.engine import frames
from curlflow.chaos.engine import intervals as engine

# What other packages warn about is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

T, RTOL = 1000, 1e-9
TRUTH = [0.9056, 0.0, -14.5723]
MEMBERS = 1024


def measure(benchmark, run, rounds=5):
    run()
    return benchmark.pedantic(run, rounds=rounds, iterations=1)


def lorenz_derivatives(y):
    """Velocity and Jacobian, for peers that take them as NumPy functions."""
    velocity = [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]
    jacobian = [[-10, 10, 0], [28 - y[2], -1, -y[0]], [y[1], y[0], -8 / 3]]
    return velocity, jacobian


# ------------------------------------------------------------------------- Lorenz, full spectrum, T = 1000, rtol 1e-9


def test_lorenz_curlflow(benchmark):
    benchmark.group = "Lorenz, three exponents"

    def run():
        return lyapunov_spectrum(
            lorenz, jnp.ones(3), T=T, Ttr=10.0, rtol=RTOL, atol=RTOL, divergence=False
        ).exponents

    np.testing.assert_allclose(measure(benchmark, run), TRUTH, atol=0.03)


def test_lorenz_heyoka(benchmark):
    hy = pytest.importorskip("heyoka")
    benchmark.group = "Lorenz, three exponents"
    x, y, z = hy.make_vars("x", "y", "z")
    field = [(x, 10.0 * (y - x)), (y, x * (28.0 - z) - y), (z, x * y - 8.0 / 3 * z)]
    integrator = hy.taylor_adaptive(
        hy.var_ode_sys(field, hy.var_args.vars, order=1), [1.0, 1.0, 1.0], tol=RTOL
    )

    def run():
        integrator.time = 0.0
        integrator.state[:] = np.concatenate([np.ones(3), np.eye(3).ravel()])
        total = np.zeros(3)
        for i in range(T + 10):
            integrator.propagate_until(i + 1.0)
            Q, R = np.linalg.qr(integrator.state[3:].reshape(3, 3))
            total += np.log(np.abs(np.diagonal(R))) * (i >= 10)
            integrator.state[3:] = Q.ravel()
        return total / T

    np.testing.assert_allclose(measure(benchmark, run), TRUTH, atol=0.03)


def test_lorenz_jitcode(benchmark, monkeypatch, tmp_path):
    jitcode = pytest.importorskip("jitcode")
    # Its build reads the pyproject.toml of the working directory, fails on ours, and falls back to slow Python functions.
    monkeypatch.chdir(tmp_path)
    benchmark.group = "Lorenz, three exponents"
    ode = jitcode.jitcode_lyap(
        lorenz_derivatives([jitcode.y(i) for i in range(3)])[0], n_lyap=3, verbose=False
    )
    ode.set_integrator("dop853", rtol=RTOL, atol=RTOL)

    def run():
        ode.set_initial_value(np.ones(3), 0.0)
        return np.mean([ode.integrate(float(i))[1] for i in range(1, T + 11)][10:], axis=0)

    np.testing.assert_allclose(measure(benchmark, run, rounds=3), TRUTH, atol=0.03)


def test_lorenz_scipy(benchmark):
    benchmark.group = "Lorenz, three exponents"

    def field(t, state):
        velocity, jacobian = lorenz_derivatives(state[:3])
        return np.concatenate([velocity, (np.array(jacobian) @ state[3:].reshape(3, 3)).ravel()])

    def run():
        state, total = np.concatenate([np.ones(3), np.eye(3).ravel()]), np.zeros(3)
        for i in range(T + 10):
            state = scipy.integrate.solve_ivp(
                field, (i, i + 1.0), state, method="DOP853", rtol=RTOL, atol=RTOL, t_eval=[i + 1.0]
            ).y[:, -1]
            Q, R = np.linalg.qr(state[3:].reshape(3, 3))
            total += np.log(np.abs(np.diagonal(R))) * (i >= 10)
            state[3:] = Q.ravel()
        return total / T

    np.testing.assert_allclose(measure(benchmark, run, rounds=1), TRUTH, atol=0.03)


def test_lorenz_pynamicalsys(benchmark):
    pynamicalsys = pytest.importorskip("pynamicalsys")
    benchmark.group = "Lorenz, three exponents"
    system = pynamicalsys.ContinuousDynamicalSystem(model="lorenz system")
    system.integrator("rk45", atol=RTOL, rtol=RTOL)

    def run():
        return system.lyapunov([1.0, 1.0, 1.0], T, parameters=[10.0, 28.0, 8 / 3], transient_time=10)

    np.testing.assert_allclose(np.ravel(measure(benchmark, run, rounds=1)), TRUTH, atol=0.03)


def test_lorenz_compiles(benchmark):
    benchmark.group = "compilation"

    def run():
        jax.clear_caches()
        lyapunov_spectrum(lorenz, jnp.ones(3), T=1.0, divergence=False)

    benchmark.pedantic(run, rounds=3, iterations=1)


# ------------------------------------------------------------------------------- an ensemble of 1024, 5 time units


def test_ensemble_curlflow(benchmark):
    benchmark.group = "1024 Lorenz members, 5 time units"
    starts = jnp.array([0.0, 0.0, 25.0]) + 5 * jax.random.normal(jax.random.key(0), (MEMBERS, 3))
    run = lyapunov_spectrum(lorenz, starts, T=5.0, rtol=RTOL, atol=RTOL, divergence=False, batch="states").run

    def five_units():
        return jax.block_until_ready(engine.run_chunk(run.tangent, run.state, jnp.asarray(5)))

    measure(benchmark, five_units)


def test_ensemble_heyoka(benchmark):
    hy = pytest.importorskip("heyoka")
    benchmark.group = "1024 Lorenz members, 5 time units"
    x, y, z = hy.make_vars("x", "y", "z")
    field = [(x, 10.0 * (y - x)), (y, x * (28.0 - z) - y), (z, x * y - 8.0 / 3 * z)]
    lanes = hy.recommended_simd_size()
    start = np.zeros((12, lanes))
    start[:3] = np.array([0.0, 0.0, 25.0])[:, None] + 5 * np.random.default_rng(0).normal(size=(3, lanes))
    start[3:] = np.eye(3).ravel()[:, None]
    integrator = hy.taylor_adaptive_batch(hy.var_ode_sys(field, hy.var_args.vars, order=1), start, tol=RTOL)

    def five_units():
        for _ in range(MEMBERS // lanes):
            for _ in range(5):
                integrator.propagate_for(1.0)
                Q, _ = np.linalg.qr(np.moveaxis(integrator.state[3:].reshape(3, 3, lanes), -1, 0))
                integrator.state[3:] = np.moveaxis(Q, 0, -1).reshape(9, lanes)

    measure(benchmark, five_units)


# ------------------------------------------------------ norm-constrained curl flow, (N, M) = (122, 98), one time unit


def network():
    N, M = 122, 98
    keys = jax.random.split(jax.random.key(0), 2)
    S = cf.ensembles.gaussian_weights(keys[0], N=N, M=M).end_to_end
    d1 = cf.ensembles.sign_pattern(M, fraction=0.6)
    flow = cf.NormConstrained(cf.CurlFlow(S, d1=d1, d2=jnp.ones(N)))
    return flow, cf.ensembles.gaussian_weights(keys[1], N=N, M=M)


@functools.cache
def network_run(k):
    """A run of four time units, from whose end everyone goes on."""
    flow, W = network()
    return lyapunov_spectrum(flow, W, k, T=2.0, Ttr=2.0, rtol=RTOL, atol=RTOL).run


@pytest.mark.parametrize("k", [16, 64])
def test_network_curlflow(benchmark, k):
    benchmark.group = f"network, {k} exponents, one time unit"
    run = network_run(k)

    def one_unit():
        return jax.block_until_ready(engine.run_chunk(run.tangent, run.state, jnp.asarray(1)))

    after, _ = measure(benchmark, one_unit)
    steps = int(after.steps - run.state.steps)
    floor = steps * passes_per_step(run.tangent.solver) * seconds_per_pass(run.state.frame.W1)
    benchmark.extra_info["steps"] = steps
    benchmark.extra_info["floor in ms"] = floor * 1e3
    benchmark.extra_info["times the floor"] = benchmark.stats["min"] / floor


def passes_per_step(solver):
    """How often any program that steps by this method must read or write the tangent block.

    A stage's sum reads the block and the velocities whose coefficient is not 0, and writes the stage; the vector field
    reads the stage and writes its velocity; the error reads velocities.
    """
    tableau = solver.tableau
    sums = sum(np.count_nonzero(row) for row in tableau.a_lower)
    return sums + 4 * len(tableau.c) + np.count_nonzero(tableau.b_error)


def seconds_per_pass(block):
    """The time to read or write the block once: seven are read and one is written, again and again in one program."""
    rounds = 20
    others = tuple(block + i for i in range(6))

    def stream(i, block):
        return sum((0.1 + 0.01 * i * j) * other for j, other in enumerate((block, *others)))

    program = jax.jit(
        lambda block: jax.lax.fori_loop(0, rounds, stream, block),
        compiler_options={"xla_cpu_use_fusion_emitters": False},
    )
    jax.block_until_ready(program(block))
    best = np.inf
    for _ in range(20):
        clock = time.perf_counter()
        jax.block_until_ready(program(block))
        best = min(best, time.perf_counter() - clock)
    return best / rounds / 8


@pytest.mark.parametrize("k", [16, 64])
def test_network_scipy(benchmark, k):
    benchmark.group = f"network, {k} exponents, one time unit"
    flow, state = network()[0], network_run(k).state
    W, V = state.y, state.frame
    (N, M), S, d1 = W.W1.shape, np.asarray(flow.flow.S[0]), np.asarray(flow.flow.d1)

    def project(F, dF, layer, V):
        """The norm constraint and its derivative, for one layer and all tangent vectors as rows."""
        square, along = layer @ layer, F @ layer
        change = (dF @ layer + V @ F) / square - 2 * along * (V @ layer) / square**2
        return F - along / square * layer, dF - along / square * V - change[:, None] * layer

    def field(t, point):
        W1, W2 = point[: N * M].reshape(N, M), point[N * M : N * (M + 1)]
        V1 = point[N * (M + 1) :].reshape(k, -1)[:, : N * M].reshape(k, N, M)
        V2 = point[N * (M + 1) :].reshape(k, -1)[:, N * M :]
        e = S - W2 @ W1
        de = -(W2 @ V1 + V2 @ W1)
        F1, F2 = np.outer(W2, e * d1), W1 @ e
        dF1 = V2[:, :, None] * (e * d1) + W2[:, None] * (de * d1)[:, None, :]
        dF2 = V1 @ e + de @ W1.T
        G1, dG1 = project(F1.ravel(), dF1.reshape(k, -1), W1.ravel(), V1.reshape(k, -1))
        G2, dG2 = project(F2, dF2, W2, V2)
        return np.concatenate([G1, G2, np.concatenate([dG1, dG2], axis=1).ravel()])

    point = np.concatenate([np.ravel(W.W1), np.ravel(W.W2), np.asarray(frames.columns(V)).ravel()])
    rate = frames.columns(flow.tangent(0.0, W, V))
    np.testing.assert_allclose(field(0, point)[N * (M + 1) :].reshape(k, -1), rate, atol=1e-12)

    def one_unit():
        scipy.integrate.solve_ivp(field, (0, 1), point, method="DOP853", rtol=RTOL, atol=RTOL, t_eval=[1.0])

    benchmark.pedantic(one_unit, rounds=2, iterations=1)


def test_network_compiles(benchmark):
    benchmark.group = "compilation"
    flow, W = network()
    run = lyapunov_spectrum(flow, W, 16, T=1.0).run

    def compile_only():
        jax.clear_caches()
        engine.run_chunk.lower(run.tangent, run.state, jnp.asarray(1)).compile()

    benchmark.pedantic(compile_only, rounds=2, iterations=1)
