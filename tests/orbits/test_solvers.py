"""The unrolled solvers: the same numbers as diffrax's own, at their order, in every use diffrax makes of a solver."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from jaxtyping import Array
from scipy.linalg import expm

import curlflow as cf
from curlflow.orbits import solvers
from curlflow.orbits.solvers import Dopri8, RungeKuttaChebyshev, Tsit5

PAIRS = {"tsit5": (Tsit5(), diffrax.Tsit5(), 5), "dopri8": (Dopri8(), diffrax.Dopri8(), 8)}
each_solver = pytest.mark.parametrize("name", PAIRS)

A = np.array([[-0.5, 2.0, 0.0], [-2.0, -0.5, 1.0], [0.3, 0.0, -1.0]])
Y0 = np.array([1.0, -0.5, 2.0])


def linear(t: Any, y: Array, args: Any) -> Array:
    return jnp.asarray(A) @ y


def kicked(t: Any, y: dict[str, Array], args: Array) -> dict[str, Array]:
    """A pendulum over a dict, whose gravity changes suddenly at t = 1."""
    gravity = jnp.where(t < 1, args, -args)
    return {"angle": y["speed"], "speed": -gravity * jnp.sin(y["angle"])}


@eqx.filter_jit
def solve_kicked(solver: diffrax.AbstractSolver, save: Array) -> diffrax.Solution:
    # Loose, so that rounding hardly moves the error estimates, which choose the steps.
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-6)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(kicked),
        solver,
        0.0,
        3.0,
        0.2,
        {"angle": jnp.array([0.3, 2.0]), "speed": jnp.array([0.0, 1.0])},
        jnp.asarray(2.0),
        saveat=diffrax.SaveAt(ts=save),
        stepsize_controller=diffrax.ClipStepSizeController(controller, jump_ts=jnp.array([1.0])),
        max_steps=1024,
    )


@each_solver
def test_steps_and_states_are_diffraxs_own(name: str):
    unrolled, own, _ = PAIRS[name]
    save = jnp.linspace(0.01, 2.99, 50)  # between the steps, too: the interpolation is the same
    ours, theirs = solve_kicked(unrolled, save), solve_kicked(own, save)
    for statistic in ("num_steps", "num_accepted_steps", "num_rejected_steps"):
        assert int(ours.stats[statistic]) == int(theirs.stats[statistic])
    assert int(ours.stats["num_steps"]) > 7
    for key in ("angle", "speed"):
        np.testing.assert_allclose(ours.ys[key], theirs.ys[key], rtol=0, atol=1e-9)


def two_exact_problems(t: Any, y: dict[str, Array], args: Any) -> dict[str, Array]:
    """A linear system, whose solution is a matrix exponential, and ẏ = 2 y cos t, whose is exp(2 sin t)."""
    return {"linear": jnp.asarray(A) @ y["linear"], "driven": 2 * y["driven"] * jnp.cos(t)}


@eqx.filter_jit
def final(solver: diffrax.AbstractSolver, step: Array) -> dict[str, Array]:
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(two_exact_problems),
        solver,
        0.0,
        4.0,
        step,
        {"linear": jnp.asarray(Y0), "driven": jnp.asarray(1.0)},
        stepsize_controller=diffrax.ConstantStepSize(),
        max_steps=10_000,
    )
    return {key: values[0] for key, values in solution.ys.items()}


@each_solver
def test_the_error_of_fixed_steps_falls_with_the_solvers_order(name: str):
    solver, _, order = PAIRS[name]
    numbers = np.array({5: [64, 128, 256], 8: [16, 24, 32]}[order])
    errors = [
        abs(float(final(solver, jnp.asarray(4 / n))["driven"]) - np.exp(2 * np.sin(4))) for n in numbers
    ]
    assert errors[-1] > 1e-13  # above rounding, where the order would be lost
    seen = -np.diff(np.log(errors)) / np.diff(np.log(numbers))
    np.testing.assert_allclose(seen, order, atol=0.2)
    assert abs(seen[-1] - order) < min(abs(seen[0] - order), 0.1)


@each_solver
def test_many_fixed_steps_reach_the_matrix_exponential(name: str):
    solver, _, _ = PAIRS[name]
    reached = final(solver, jnp.asarray(4 / 1000))["linear"]
    np.testing.assert_allclose(reached, expm(4 * A) @ Y0, rtol=0, atol=1e-14)


@each_solver
def test_the_error_estimate_is_diffraxs_own(name: str):
    unrolled, own, _ = PAIRS[name]
    estimates = []
    for solver in (unrolled, own):
        terms, y0 = diffrax.ODETerm(linear), jnp.asarray(Y0)
        state = solver.init(terms, 0.0, 0.3, y0, None)
        y, error, dense, _, result = solver.step(terms, 0.0, 0.3, y0, None, state, made_jump=False)
        assert result == diffrax.RESULTS.successful
        middle = solver.interpolation_cls(t0=0.0, t1=0.3, **dense).evaluate(0.1)
        estimates.append((y, error, middle))
    assert np.abs(estimates[1][1]).max() > 1e-10
    for ours, theirs in zip(*estimates, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


@each_solver
def test_the_order_is_known_to_diffrax(name: str):
    unrolled, own, order = PAIRS[name]
    term = diffrax.ODETerm(linear)
    assert unrolled.order(term) == own.order(term) == order
    assert unrolled.error_order(term) == own.error_order(term)


@each_solver
def test_a_loop_over_the_stages_takes_the_same_step(name: str, monkeypatch: pytest.MonkeyPatch):
    unrolled, _, _ = PAIRS[name]
    terms, y0 = diffrax.ODETerm(kicked), {"angle": jnp.array([0.3, 2.0]), "speed": jnp.array([0.0, 1.0])}
    gravity = jnp.asarray(2.0)
    state = unrolled.init(terms, 0.9, 1.1, y0, gravity)
    steps = []
    for largest_unrolled in (100, 1):
        monkeypatch.setattr(solvers, "LARGEST_UNROLLED", largest_unrolled)
        steps.append(unrolled.step(terms, 0.9, 1.1, y0, gravity, state, made_jump=False))
    for ours, theirs in zip(*map(jtu.tree_leaves, steps), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-15)


def test_gradients_go_through_an_unrolled_solver():
    def end(angle: Array) -> Array:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -args * y),
            Tsit5(),
            0.0,
            1.0,
            None,
            jnp.asarray(1.0),
            angle,
            stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-12),
        ).ys[0]

    assert float(jax.grad(end)(jnp.asarray(0.7))) == pytest.approx(-np.exp(-0.7), rel=1e-8)


@pytest.mark.parametrize("stages", [2, 5, 10])
def test_runge_kutta_chebyshev_has_order_two(stages: int):
    def swing(t, y, args):
        return jnp.stack([y[1] + jnp.sin(t), -y[0]])

    def error(steps: int) -> float:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(swing), RungeKuttaChebyshev(stages), 0.0, 2.0, 2.0 / steps, jnp.array([1.0, 0.0])
        )
        # y'' + y = cos t from y = 1, y' = 0: y = cos t + (t/2) sin t; and y' − sin t.
        exact = np.array([np.cos(2.0) + np.sin(2.0), np.cos(2.0) - 1.5 * np.sin(2.0)])
        return float(np.linalg.norm(np.asarray(solution.ys[0]) - exact))

    assert 3.8 < error(400) / error(800) < 4.2


@pytest.mark.parametrize("stages", [5, 10])
def test_runge_kutta_chebyshev_is_stable_far_down_the_real_axis(stages: int):
    def end(reach: float) -> float:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -reach * (stages**2 - 1) * y),
            RungeKuttaChebyshev(stages), 0.0, 40.0, 1.0, jnp.array(1.0),
        )  # fmt: skip
        return abs(float(solution.ys[0]))

    assert end(0.64) < 0.2
    assert end(0.75) > 1e3


def test_runge_kutta_chebyshev_takes_long_steps_in_steep_valleys_and_interpolates():
    def valley(t, y, args):
        return jnp.stack([-1000.0 * (y[0] - jnp.cos(t)), -y[1]])

    ts, start = np.linspace(0, 10, 11), jnp.array([1.0, 1.0])
    run = cf.integrate(valley, start, 10.0, ts=ts, rtol=1e-4, atol=1e-6, solver=RungeKuttaChebyshev(20))
    explicit = cf.integrate(valley, start, 10.0, ts=ts, rtol=1e-4, atol=1e-6, solver="tsit5")
    np.testing.assert_allclose(run.ys[:, 1], np.exp(-ts), atol=1e-3)
    np.testing.assert_allclose(run.ys[:, 0], np.cos(ts), atol=2e-3)
    assert 20 * run.stats["steps"] < 0.5 * 6 * explicit.stats["steps"]


def test_few_steps_fail_where_stability_limits_them():
    """Steps that grow until they are unstable would fail as often as not."""

    def settle(t, y, args):
        return -jnp.array([1000.0, 1.0]) * y

    run = cf.integrate(
        settle, jnp.ones(2), 50.0, ts=[50.0], rtol=1e-4, atol=1e-6, solver=RungeKuttaChebyshev(10)
    )
    assert run.stats["rejected"] < 0.5 * run.stats["accepted"]


def test_runge_kutta_chebyshev_needs_two_stages():
    with pytest.raises(ValueError, match="`stages` must be at least 2, but is 1"):
        RungeKuttaChebyshev(1)
