"""The toy model's closed forms, against its own equation and against integration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import curlflow as cf

FLIPS = ("readout", "hidden", None)


def state(radius: float, angle: float) -> jax.Array:
    return jnp.array([radius * np.cos(angle), radius * np.sin(angle)])


def integrated(flow: cf.models.ToyFlow, w0: jax.Array, t1: float) -> cf.Trajectory:
    """Nine times for every orbit of these tests, so that one compiled program serves them all."""
    return cf.integrate(flow, w0, t1, ts=np.linspace(0, t1, 9), rtol=1e-11, atol=1e-13)


@jax.jit
def solution_and_rate(
    flow: cf.models.ToyFlow, t: jax.Array, w0: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    w, rate = jax.jvp(lambda t: flow.solution(t, w0), (t,), (jnp.ones_like(t),))
    return w, rate, flow(0.0, w)


settling_time = jax.jit(lambda flow, w0, error: flow.settling_time(w0, error))
solution = jax.jit(lambda flow, t, w0: flow.solution(t, w0))

flows = st.builds(cf.toy_flow, st.sampled_from([1.0, -0.7, 2.5, 1e-3, 1e3]), flip=st.sampled_from(FLIPS))
radii, angles = st.floats(0.05, 5), st.floats(0, 2 * np.pi)  # radii in units of √(2|s|)


# ------------------------------------------------------------------------------------------ the equations


def test_velocities_are_the_papers():
    w1, w2, s = 0.5, -2.0, 1.5
    error = s - w1 * w2
    for flip, d1, d2 in (("readout", 1, -1), ("hidden", -1, 1), (None, 1, 1)):
        flow = cf.toy_flow(s, flip=flip)
        np.testing.assert_array_equal(flow(0.0, jnp.array([w1, w2])), [d1 * w2 * error, d2 * w1 * error])
        assert float(flow.loss(jnp.array([w1, w2]))) == error**2 / 2
        assert float(flow.conserved(jnp.array([w1, w2]))) == d1 * w1**2 - d2 * w2**2


@pytest.mark.parametrize("flip", FLIPS)
def test_it_is_the_smallest_curl_flow(flip: str | None):
    toy, w = cf.toy_flow(1.3, flip=flip), jnp.array([0.4, -1.7])
    curl = cf.CurlFlow([toy.s], [toy.d1], [toy.d2])
    velocity = curl(0.0, cf.Weights([[w[0]]], [[w[1]]]))
    np.testing.assert_allclose(toy(0.0, w), [velocity.W1[0, 0], velocity.W2[0, 0]], rtol=1e-15)


# ----------------------------------------------------------------------------------------- the solution


@given(flows, radii, angles, st.floats(-20, 20))
def test_solution_obeys_the_equation(flow: cf.models.ToyFlow, radius: float, angle: float, turns: float):
    scale = abs(float(flow.s))
    w0 = state(radius * np.sqrt(2 * scale), angle)
    w, rate, velocity = solution_and_rate(flow, jnp.asarray(turns / scale), w0)
    if float(flow.d1 * flow.d2) > 0 and turns < 0:
        assume(bool(jnp.isfinite(w).all()) and float(jnp.vdot(w, w)) < 1e3 * scale)  # it came from infinity
    speed_unit = float(jnp.vdot(w, w) + scale) * float(jnp.linalg.norm(w))
    np.testing.assert_allclose(rate, velocity, rtol=0, atol=1e-8 * speed_unit)


@given(flows, radii, angles)
def test_solution_starts_where_it_should(flow: cf.models.ToyFlow, radius: float, angle: float):
    w0 = state(radius * np.sqrt(2 * abs(float(flow.s))), angle)
    np.testing.assert_allclose(
        solution(flow, jnp.asarray(0.0), w0), w0, rtol=0, atol=1e-14 * jnp.abs(w0).max()
    )


@pytest.mark.parametrize(
    ("flip", "s", "radius"), list(itertools.product(FLIPS, (1.0, -0.5), (0.3, 0.999, 1.0, 1.001, 2.0)))
)
def test_solution_is_what_integration_gives(flip: str | None, s: float, radius: float):
    flow, w0 = cf.toy_flow(s, flip=flip), state(radius * np.sqrt(2 * abs(s)), 2.0)
    for t1 in (6.0, -0.1):
        trajectory = integrated(flow, w0, t1)
        assert trajectory.outcome.ok
        np.testing.assert_allclose(flow.solution(trajectory.ts, w0), trajectory.ys, rtol=0, atol=1e-9)
        drift = np.asarray(trajectory.conserved_drift())
        assert drift.max() < 1e-9  # between the solver's steps it is the interpolation's error
        assert drift[-1] < 1e-11


@pytest.mark.parametrize("flip", FLIPS)
def test_solution_rests_at_fixed_points_for_ever(flip: str | None):
    flow = cf.toy_flow(1.0, flip=flip)
    for w0 in ([0.0, 0.0], [0.5, 2.0], [-2.0, -0.5], [1.0, 1.0]):
        w = flow.solution(np.array([0.0, 1.0, 1e2, 1e5]), jnp.array(w0))
        np.testing.assert_allclose(w, [w0] * 4, rtol=0, atol=1e-14)


def test_solution_on_the_gradient_flows_diagonal_falls_into_the_saddle():
    flow, w0 = cf.toy_flow(1.0, flip=None), jnp.array([-1.0, 1.0])
    # w = (−x, x) with ẋ = −x (1 + x²): x² = 1 / (2 e^{2t} − 1)
    t = np.array([0.5, 3.0, 40.0])
    x = 1 / np.sqrt(2 * np.exp(2 * t) - 1)
    np.testing.assert_allclose(flow.solution(t, w0), np.stack([-x, x], axis=1), rtol=1e-12)
    assert np.isfinite(flow.solution(1e4, w0)).all()


def test_solution_without_a_teacher_decays_algebraically_on_the_diagonals():
    flow, t = cf.toy_flow(0.0, flip=None), np.array([0.0, 0.5, 1e6])
    for sign in (1.0, -1.0):  # w = (x, ±x) with ẋ = −x³
        x = 2 / np.sqrt(1 + 8 * t)
        expected = np.stack([x, sign * x], axis=1)
        np.testing.assert_allclose(flow.solution(t, jnp.array([2.0, 2.0 * sign])), expected, rtol=1e-14)


def test_solution_with_both_layers_flipped_ends_at_infinity():
    flow, w0 = cf.toy_flow(1.0, flip="both"), jnp.array([2.0, 2.0])
    # w = (x, x) with u = x²: u̇ = 2u (u − 1), infinite at t* = ½ log(u0 / (u0 − 1))
    blow_up = 0.5 * np.log(4 / 3)
    t = blow_up * np.array([0.0, 0.5, 0.999])
    u = 4 / (4 - 3 * np.exp(2 * t))
    np.testing.assert_allclose(flow.solution(t, w0), np.sqrt([u, u]).T, rtol=1e-10)
    assert np.isnan(flow.solution(1.001 * blow_up, w0)).all()


def test_solution_at_many_times_is_a_loop_over_times():
    flow, w0 = cf.toy_flow(1.0), jnp.array([0.3, 1.7])
    t = np.array([[0.5, -1.0], [2.0, 30.0]])
    together = flow.solution(t, w0)
    assert together.shape == (2, 2, 2)
    for index in np.ndindex(2, 2):
        np.testing.assert_allclose(together[index], flow.solution(t[index], w0), rtol=1e-14)


# ----------------------------------------------------------------------------- the period, the separatrix


@pytest.mark.parametrize("s", [1.0, -2.5])
@pytest.mark.parametrize("radius", [0.01, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_orbits_inside_the_separatrix_close_after_one_period(s: float, radius: float):
    flow, w0 = cf.toy_flow(s), state(radius * np.sqrt(2 * abs(s)), 0.3)
    period = float(flow.period(w0))
    assert period == pytest.approx(2 * np.pi / abs(s) / np.sqrt(1 - radius**4), rel=1e-12)
    trajectory = integrated(flow, w0, period)
    velocity = flow(0.0, w0)
    # Where the orbit is at that time, in units of time along the orbit.
    late = float(jnp.vdot(velocity, trajectory.final_state - w0) / jnp.vdot(velocity, velocity))
    assert abs(late) < 1e-9 * period
    np.testing.assert_allclose(trajectory.ys[4], -w0, rtol=0, atol=1e-8 * radius)  # half way it is opposite
    distance = np.linalg.norm(trajectory.ys[1:-1] - w0, axis=1)
    assert distance.min() > 0.01 * radius  # it did not come back earlier


@pytest.mark.parametrize("s", [1.0, -2.5])
@pytest.mark.parametrize("radius", [1.001, 1.01, 1.03, 1.06, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0])
def test_orbits_outside_the_separatrix_end_on_the_attracting_half(s: float, radius: float):
    flow, w0 = cf.toy_flow(s), state(radius * np.sqrt(2 * abs(s)), 0.3)
    assert float(flow.period(w0)) == np.inf
    w = np.asarray(integrated(flow, w0, 400.0 / abs(s)).final_state)
    assert w[0] * w[1] == pytest.approx(s, rel=1e-8)
    assert abs(w[1]) > abs(w[0])
    assert np.hypot(*w) == pytest.approx(radius * np.sqrt(2 * abs(s)), rel=1e-9)
    assert np.sin(2 * np.arctan2(w[1], w[0])) == pytest.approx(np.sign(s) / radius**2, rel=1e-7)


def test_only_opposite_signs_have_a_period():
    w = jnp.array([0.3, 0.4])
    assert float(cf.toy_flow(1.0, flip=None).period(w)) == np.inf
    assert float(cf.toy_flow(1.0, flip="hidden").period(w)) == float(cf.toy_flow(1.0).period(w))
    assert float(cf.toy_flow(-2.0).period(jnp.zeros(2))) == pytest.approx(np.pi, rel=1e-15)


# ------------------------------------------------------------------------------------------- symmetries


@given(st.sampled_from([1.0, -0.7, 2.5]), radii, angles)
def test_flipping_the_other_layer_runs_time_backwards(s: float, radius: float, angle: float):
    readout, hidden = cf.toy_flow(s, flip="readout"), cf.toy_flow(s, flip="hidden")
    w0 = state(radius * np.sqrt(2 * abs(s)), angle)
    np.testing.assert_array_equal(hidden(0.0, w0), -readout(0.0, w0))
    t = jnp.asarray(0.7 / abs(s))
    np.testing.assert_allclose(
        solution(hidden, t, w0), solution(readout, -t, w0), rtol=0, atol=1e-12 * radius
    )


@given(flows, radii, angles, st.floats(0.01, 100), st.floats(0, 3))
def test_a_larger_teacher_is_a_faster_clock(
    flow: cf.models.ToyFlow, radius: float, angle: float, a: float, t: float
):
    scale = abs(float(flow.s))
    w0 = state(radius * np.sqrt(2 * scale), angle)
    scaled = cf.models.ToyFlow(a * flow.s, flow.d1, flow.d2)
    slow, fast = (
        solution(flow, jnp.asarray(t / scale), w0),
        solution(scaled, jnp.asarray(t / scale / a), np.sqrt(a) * w0),
    )
    np.testing.assert_allclose(fast / np.sqrt(a), slow, rtol=0, atol=1e-8 * jnp.abs(w0).max())


# ---------------------------------------------------------------------------------------- settling time


@given(flows, radii, angles, st.floats(-6, 0.5))
def test_the_error_meets_its_threshold_at_the_settling_time_and_stays_below(
    flow: cf.models.ToyFlow, radius: float, angle: float, decades: float
):
    scale = abs(float(flow.s))
    error, w0 = scale * 10**decades, state(radius * np.sqrt(2 * scale), angle)
    time = float(settling_time(flow, w0, error))

    def error_at(times: np.ndarray) -> np.ndarray:
        w = solution(flow, jnp.asarray(times), w0)
        return np.abs(float(flow.s) - np.asarray(w).prod(axis=-1))

    after = np.concatenate([[0.0], np.geomspace(1e-4, 1e3, 63)]) / (scale * (1 + radius**2))
    if time == np.inf:
        assert error_at(1e3 * after).max() > error
        assert float(flow.d1 * flow.d2) < 0
        assert radius <= 1
    elif time == 0:
        assert error_at(after).max() <= error * (1 + 1e-9)
    else:
        assert error_at(np.full(64, time))[0] == pytest.approx(error, rel=1e-6)
        assert error_at(time + after)[1:].max() < error


@pytest.mark.parametrize(
    ("flip", "w0"), [("readout", [0.0, 1.0]), ("hidden", [1.0, 0.0]), (None, [0.3, 0.3])]
)
def test_settling_time_is_what_integration_gives(flip: str | None, w0: list[float]):
    flow = cf.toy_flow(0.2, flip=flip)
    time = float(flow.settling_time(jnp.array(w0), 1e-3))
    w = np.asarray(integrated(flow, jnp.array(w0), time).final_state)
    assert abs(0.2 - w[0] * w[1]) == pytest.approx(1e-3, rel=1e-7)


def test_settling_time_on_the_separatrix_is_algebraic():
    # From (0, √2) with s = 1 the error is 1 / (1 + 2t + 2t²).
    w0 = jnp.array([0.0, np.sqrt(2.0)])
    for error in (0.5, 0.1, 1e-3):
        expected = (np.sqrt(2 / error - 1) - 1) / 2
        assert float(cf.toy_flow(1.0).settling_time(w0, error)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("flip", "s", "w0", "error", "expected"),
    [
        ("readout", 1.0, [0.1, 0.0], 0.5, np.inf),  # a closed orbit
        ("readout", 1.0, [0.1, 0.0], 1.5, 0.0),  # a closed orbit that never strays further
        ("readout", 1.0, [2.0, 0.5], 0.1, 0.0),  # a fixed point, though it repels
        (None, 1.0, [-1.0, 1.0], 0.5, np.inf),  # the saddle's stable manifold
        (None, 1.0, [-1.0, 1.0], 1.5, np.log(1.5) / 2),  # … where w1 w2 = −x², x² = 1 / (2 e^{2t} − 1) = ½
        (None, 1.0, [0.0, 0.0], 0.5, np.inf),  # the saddle
        (None, 0.0, [1.0, 1.0], 0.5, 0.5),  # no teacher: 1 / w² grows at rate 2
    ],
)
def test_settling_time_in_special_places(
    flip: str | None, s: float, w0: list[float], error: float, expected: float
):
    time = float(cf.toy_flow(s, flip=flip).settling_time(jnp.array(w0), error))
    assert time == pytest.approx(expected, rel=1e-12)
