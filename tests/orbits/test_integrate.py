"""Integration: exact solutions, invariants, batches, dense output, and every way a run can end."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from contract import compilations
from jaxtyping import Array
from scipy.linalg import expm

import curlflow as cf
from curlflow.orbits.integrate import default_solver
from curlflow.orbits.solvers import Dopri8, Tsit5

# Compilation is what these tests spend their time on: nine times for every orbit of a system, and few systems.
NINE = np.linspace(0.0, 1.0, 9)
SHARP = {"rtol": 1e-11, "atol": 1e-13}


def toy_orbit(flow: cf.models.ToyFlow, w0: Any, t1: float, **options: Any) -> cf.Trajectory:
    return cf.integrate(flow, jnp.asarray(w0), t1, ts=t1 * NINE, **(SHARP | options))


def both_flipped(s: float = 1.0) -> cf.models.ToyFlow:
    """The smallest network with both layers flipped: it climbs its loss and blows up in finite time."""
    return cf.toy_flow(s, flip="both")


def driven(t: Any, y: dict[str, Array], args: dict[str, Any]) -> dict[str, Array]:
    """A user's own field over a dict, driven in time: a decay, and an oscillator with a force."""
    position, speed = y["oscillator"]
    force = args["force"] * jnp.cos(2 * t)
    return {"decay": -args["rate"] * y["decay"], "oscillator": jnp.stack([speed, -position + force])}


def driven_exactly(t: np.ndarray, y0: dict[str, np.ndarray], args: dict[str, Any]) -> dict[str, np.ndarray]:
    (x, v), a = y0["oscillator"], args["force"] / 3
    position = (x + a) * np.cos(t) + v * np.sin(t) - a * np.cos(2 * t)
    speed = -(x + a) * np.sin(t) + v * np.cos(t) + 2 * a * np.sin(2 * t)
    return {
        "decay": y0["decay"] * np.exp(-args["rate"] * t)[:, None],
        "oscillator": np.stack([position, speed], axis=1),
    }


DRIVEN_START = {"decay": np.array([1.0, -2.0, 0.5]), "oscillator": np.array([0.7, -0.2])}


# ---------------------------------------------------------------------------------------- exact solutions


@pytest.mark.parametrize("t1", [5.0, -2.0])
def test_a_users_field_over_a_dict_with_arguments_forwards_and_backwards(t1: float):
    args = {"rate": 0.8, "force": 0.6}
    trajectory = cf.integrate(driven, DRIVEN_START, t1, ts=t1 * NINE, args=args, **SHARP)
    assert trajectory.outcome == cf.Outcome(cf.Ending.COMPLETED, t1, f"Reached t = {t1:g}.")
    np.testing.assert_array_equal(trajectory.ts, t1 * NINE)
    exact = driven_exactly(t1 * NINE, DRIVEN_START, args)
    for key, expected in exact.items():
        np.testing.assert_allclose(trajectory.ys[key], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(trajectory.final_state[key], expected[-1], rtol=1e-10, atol=1e-11)


def test_time_starts_at_t0():
    args, t0 = {"rate": 0.8, "force": 0.6}, 1.5
    start = jtu.tree_map(lambda leaf: leaf[-1], driven_exactly(np.array([t0]), DRIVEN_START, args))
    ts = np.linspace(t0, 4.0, 9)
    trajectory = cf.integrate(driven, start, 4.0, t0=t0, ts=ts, args=args, **SHARP)
    exact = driven_exactly(ts, DRIVEN_START, args)
    np.testing.assert_allclose(trajectory.ys["oscillator"], exact["oscillator"], rtol=0, atol=1e-9)


def test_without_chosen_times_there_are_257_from_start_to_end():
    trajectory = cf.integrate(driven, DRIVEN_START, 2.0, t0=1.0, args={"rate": 0.8, "force": 0.6})
    np.testing.assert_allclose(trajectory.ts, np.linspace(1, 2, 257), rtol=1e-15)
    np.testing.assert_array_equal(trajectory.ys["decay"][0], DRIVEN_START["decay"])


def test_the_end_is_kept_whether_or_not_it_was_asked_for():
    trajectory = cf.integrate(cf.toy_flow(), jnp.array([0.5, 1.0]), 2.0, ts=NINE, **SHARP)
    np.testing.assert_array_equal(trajectory.ts, np.append(NINE, 2.0))
    np.testing.assert_allclose(
        trajectory.final_state, cf.toy_flow().solution(2.0, jnp.array([0.5, 1.0])), rtol=1e-10
    )


def test_tighter_tolerances_give_smaller_errors():
    flow, w0 = cf.toy_flow(), jnp.array([0.3, 0.4])
    exact = flow.solution(20.0, w0)
    errors = [
        float(jnp.abs(toy_orbit(flow, w0, 20.0, rtol=rtol, atol=rtol).final_state - exact).max())
        for rtol in (1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
    ]
    assert (np.diff(np.log10(errors)) < -1.2).all()
    assert errors[-1] < 1e-10


# -------------------------------------------------------------------------------------------- solvers


def linear(t: Any, y: Array, A: Array) -> Array:
    return A @ y


ROTATION = np.array([[-0.1, 2.0], [-2.0, -0.1]])


@pytest.mark.parametrize(
    ("solver", "name"),
    [("tsit5", "Tsit5"), ("dopri8", "Dopri8"), ("kvaerno5", "Kvaerno5"), (diffrax.Bosh3(), "Bosh3")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_solver_reaches_the_matrix_exponential(solver: Any, name: str):
    y0 = np.array([1.0, 0.5])
    trajectory = cf.integrate(
        linear, y0, 3.0, ts=3 * NINE, args=ROTATION, solver=solver, rtol=1e-8, atol=1e-10
    )
    assert trajectory.stats["solver"] == name
    np.testing.assert_allclose(trajectory.final_state, expm(3 * ROTATION) @ y0, rtol=0, atol=1e-7)


def test_a_stiff_system_needs_the_implicit_solver():
    # A slow decay, and one a million times as fast: an explicit solver must resolve the fast one all the way.
    A, y0 = np.array([[-1e6, 1e6 - 1], [0.0, -1.0]]), np.array([2.0, 1.0])
    options: dict[str, Any] = {"ts": 3 * NINE, "args": A, "rtol": 1e-8, "atol": 1e-10}
    implicit = cf.integrate(linear, y0, 3.0, solver="kvaerno5", **options)
    assert implicit.outcome.ok
    np.testing.assert_allclose(implicit.final_state, np.exp(-3.0) * np.ones(2), rtol=1e-6)
    assert implicit.stats["steps"] < 1000
    explicit = cf.integrate(linear, y0, 3.0, solver="tsit5", **options)
    assert explicit.stats["steps"] > 100_000


def test_small_states_take_dopri8_and_large_ones_tsit5():
    assert isinstance(default_solver(64), Dopri8)
    assert isinstance(default_solver(65), Tsit5)
    assert toy_orbit(cf.toy_flow(), [0.5, 1.0], 1.0).stats["solver"] == "Dopri8"
    # It is the members' size that counts, and 20 members of 2 weights do not make one of 40.
    batch = cf.integrate(cf.toy_flow(), twenty(np.ones((1, 2))), 1.0, ts=NINE, batch=True)
    assert batch.stats["solver"] == "Dopri8"


# -------------------------------------------------------------------------------- conserved quantities


def test_conserved_quantities_of_a_network_hardly_drift():
    N, M, P = 20, 16, 2
    teacher, student = (cf.ensembles.gaussian_weights(jax.random.key(i), N=N, M=M, P=P) for i in range(2))
    flow = cf.CurlFlow(
        teacher.end_to_end,
        cf.ensembles.sign_pattern(M, fraction=0.5),
        cf.ensembles.sign_pattern(N, count=0),
        cf.ensembles.sample_covariance(jax.random.key(2), M=M, samples=50),
    )
    trajectory = cf.integrate(flow, student, 100.0, ts=100 * NINE, **SHARP)
    assert trajectory.outcome.ok
    drift = np.asarray(trajectory.conserved_drift())
    assert drift[0] == 0
    assert drift.max() < 1e-9
    moved = jtu.tree_map(lambda layer: float(jnp.abs(layer[-1] - layer[0]).max()), trajectory.ys)
    assert min(jtu.tree_leaves(moved)) > 0.1  # a run that stands still drifts nowhere


# ------------------------------------------------------------------------------------------- batches


def twenty(members: Any) -> np.ndarray:
    """Batches of the toy flow have twenty members, most of which hardly move."""
    return np.concatenate([members, np.full((20 - len(members), 2), 1e-3)])


def test_a_batch_is_a_loop_over_its_members():
    flow, t1 = cf.toy_flow(1.2), 4.0
    members = twenty(np.random.default_rng(0).normal(size=(3, 2)))
    batch = cf.integrate(flow, members, t1, ts=t1 * NINE, batch=True, **SHARP)
    assert batch.is_batch
    assert batch.ys.shape == (9, 20, 2)
    assert [outcome.ending for outcome in batch.outcome] == 20 * ["completed"]
    for i in range(4):
        alone = toy_orbit(flow, members[i], t1)
        np.testing.assert_allclose(batch.ys[:, i], alone.ys, rtol=0, atol=1e-9)
        np.testing.assert_allclose(batch.member(i).ys, alone.ys, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t1", [5.0, -2.0])
def test_a_batch_of_dicts_forwards_and_backwards(t1: float):
    args = {"rate": 0.8, "force": 0.6}
    members = jtu.tree_map(lambda leaf: np.stack([leaf, 2 * leaf]), DRIVEN_START)
    batch = cf.integrate(driven, members, t1, ts=t1 * NINE, args=args, batch=True, **SHARP)
    for i in range(2):
        start = jtu.tree_map(lambda leaf, i=i: leaf[i], members)
        for key, expected in driven_exactly(t1 * NINE, start, args).items():
            np.testing.assert_allclose(batch.ys[key][:, i], expected, rtol=1e-9, atol=1e-9)
        assert batch.outcome[i].time == t1


def test_the_worst_member_is_held_to_the_tolerance():
    # One member turns quickly, and 19 hardly move: their small errors must not excuse its large one.
    flow, t1, options = cf.toy_flow(), 3.0, {"rtol": 1e-7, "atol": 1e-7}
    members = twenty([[0.1, 3.0]])
    batch = cf.integrate(flow, members, t1, ts=t1 * NINE, batch=True, **options)
    alone = toy_orbit(flow, members[0], t1, **options)
    exact = flow.solution(t1, jnp.asarray(members[0]))
    error, error_alone = (float(np.abs(w - exact).max()) for w in (batch.final_state[0], alone.final_state))
    assert error == pytest.approx(error_alone, rel=0.5)
    assert batch.stats["steps"] == pytest.approx(alone.stats["steps"], rel=0.05)


# -------------------------------------------------------------------------------------- dense output


def test_dense_output_is_the_state_at_any_time():
    flow, w0 = cf.toy_flow(), jnp.array([0.3, 1.6])
    for t1 in (5.0, -1.0):
        trajectory = toy_orbit(flow, w0, t1, dense=True)
        times = t1 * np.random.default_rng(0).random(20)
        np.testing.assert_allclose(trajectory(times), flow.solution(times, w0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(trajectory(0.37 * t1), flow.solution(0.37 * t1, w0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(trajectory(trajectory.ts), trajectory.ys, rtol=0, atol=1e-14)


# ------------------------------------------------------------------------------------ ends asked for


def late_enough(t: Any, y: dict[str, Array], args: dict[str, Any]) -> Array:
    return (args["direction"] * t > args["when"]) & (y["decay"][0] > 0)


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_stop_function_ends_the_run_and_sees_time_state_and_arguments(direction: float):
    args = {"rate": 0.8, "force": 0.6, "when": 1.25, "direction": direction}
    trajectory = cf.integrate(
        driven, DRIVEN_START, 5 * direction, ts=5 * direction * NINE, args=args, stop=late_enough, **SHARP
    )
    assert trajectory.outcome.ending == "stopped"
    assert trajectory.outcome.ok
    time = trajectory.outcome.time
    assert 1.25 < direction * time < 2.0  # the end of the step
    assert trajectory.ts[-1] == time
    assert (direction * trajectory.ts[:-1] < direction * time).all()
    exact = driven_exactly(trajectory.ts, DRIVEN_START, args)
    np.testing.assert_allclose(trajectory.ys["oscillator"], exact["oscillator"], rtol=0, atol=1e-8)


def time_of_rest(flow: cf.models.ToyFlow, w0: Any, end: np.ndarray, rtol: float) -> float:
    """When the root-mean-square distance left, |s − w1 w2| / |w| / √2, is rtol times the largest entry."""
    error = np.sqrt(2) * rtol * np.abs(end).max() * np.hypot(*end)
    return float(flow.settling_time(jnp.asarray(w0), error))


@pytest.mark.parametrize("t1", [5.0, 1e5])
@pytest.mark.parametrize("solver", ["dopri8", "tsit5"])
def test_a_fixed_point_ends_the_run_however_long_it_was_to_be(solver: str, t1: float):
    flow, w0, rtol = cf.toy_flow(), [0.5, 2.5], 1e-8
    trajectory = toy_orbit(flow, w0, t1, stop="fixed point", rtol=rtol, atol=0.0, solver=solver)
    assert trajectory.outcome.ending == "reached a fixed point"
    assert trajectory.outcome.ok
    assert trajectory.ts[-1] == trajectory.outcome.time
    w = np.asarray(trajectory.final_state)
    assert abs(1 - w.prod()) < 10 * rtol
    assert 0 <= trajectory.outcome.time - time_of_rest(flow, w0, w, rtol) < 0.5  # the end of the step


def test_a_start_at_rest_ends_at_once_and_a_passage_near_rest_does_not_end():
    flow = cf.toy_flow(1.0, flip=None)
    for rest in ([0.0, 0.0], [2.0, 0.5]):
        trajectory = toy_orbit(flow, rest, 30.0, stop="fixed point")
        assert trajectory.outcome.ending == "reached a fixed point"
        assert trajectory.outcome.time == trajectory.ts[-1] == 0.0
        np.testing.assert_array_equal(trajectory.ys, [rest])
    # Close by the saddle, in and out again to the solution manifold, as slowly as 1e-4.
    passing = toy_orbit(flow, [-1.0, 1.0 + 1e-8], 100.0, stop="fixed point", rtol=1e-9, atol=1e-12)
    assert passing.outcome.ending == "reached a fixed point"
    assert float(passing.final_state.prod()) == pytest.approx(1.0, abs=1e-7)
    # Nor is a start so close by it that the distance is below the tolerance an end, because the state speeds up.
    leaving = toy_orbit(flow, [1e-10, 1e-10], 100.0, stop="fixed point", rtol=1e-9, atol=1e-9)
    assert leaving.outcome.time > 10
    assert float(leaving.final_state.prod()) == pytest.approx(1.0, abs=1e-7)
    # Small circles round the centre never end.
    circling = toy_orbit(cf.toy_flow(), [1e-3, 0.0], 100.0, stop="fixed point", rtol=1e-9, atol=1e-12)
    assert circling.outcome.ending == "completed"


# ---------------------------------------------------------------------------------------- blow-up


def exact_blow_up_time(w: float) -> float:
    """Of the network w1 = w2 = w with both layers flipped and s = 1: u = w² obeys u̇ = 2u (u − 1)."""
    return 0.5 * np.log(w**2 / (w**2 - 1))


@pytest.mark.parametrize("w", [1.1, 2.0, 30.0])
@pytest.mark.parametrize("t1", [3.0, 100.0, 1e4])
def test_blow_up_is_an_outcome_with_its_time(w: float, t1: float):
    trajectory = toy_orbit(both_flipped(), [w, w], t1)
    expected = exact_blow_up_time(w)
    assert trajectory.outcome.ending == "blew up"
    assert not trajectory.outcome.ok
    assert trajectory.outcome.time == pytest.approx(expected, rel=1e-9, abs=1e-13 * t1)
    assert trajectory.ts[-1] == trajectory.outcome.time
    assert np.isfinite(trajectory.ys).all()
    assert float(jnp.abs(trajectory.final_state).max()) > 1e3
    assert "grow" in trajectory.outcome.message or "passed 1e+06" in trajectory.outcome.message


def test_blow_up_keeps_what_was_computed():
    flow, w0 = both_flipped(), jnp.array([2.0, 2.0])
    ts = exact_blow_up_time(2.0) * np.linspace(0, 1.5, 9)
    trajectory = cf.integrate(flow, w0, ts[-1], ts=ts, **SHARP)
    assert trajectory.outcome.ending == "blew up"
    assert trajectory.ts[:-1].tolist() == ts[:6].tolist()
    np.testing.assert_allclose(trajectory.ys[:-1], flow.solution(ts[:6], w0), rtol=1e-8)


def test_the_threshold_of_blow_up_is_met_exactly():
    flow = cf.toy_flow(1.0, flip=None)
    trajectory = toy_orbit(flow, [1.5, 1.4], -1.0, blow_up=4.0)  # backwards, gradient flow climbs
    assert trajectory.outcome.ending == "blew up"
    assert trajectory.outcome.time < 0
    assert float(trajectory.final_state.max()) == pytest.approx(4.0, rel=1e-8)
    exact = flow.solution(trajectory.outcome.time, jnp.array([1.5, 1.4]))
    np.testing.assert_allclose(trajectory.final_state, exact, rtol=1e-8)


def test_members_of_a_batch_blow_up_one_by_one():
    flow, t1 = both_flipped(), 5.0
    members = twenty([[2.0, 2.0], [1.1, 1.1], [0.5, 0.5]])
    batch = cf.integrate(flow, members, t1, ts=t1 * NINE, batch=True, **SHARP)
    assert [outcome.ending for outcome in batch.outcome] == ["blew up", "blew up"] + 18 * ["completed"]
    for i in (0, 1):
        time = exact_blow_up_time(members[i, 0])
        assert batch.outcome[i].time == pytest.approx(time, rel=1e-9)
        after = batch.ts > time
        assert np.isnan(batch.ys[after, i]).all()
        assert np.isfinite(batch.ys[~after, i]).all()
        np.testing.assert_array_equal(batch.member(i).ts, batch.ts[~after])
        assert batch.member(i).outcome is batch.outcome[i]
    np.testing.assert_allclose(batch.ys[:, 2], flow.solution(batch.ts, members[2]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rtol", [1e-9, 1e-12])
def test_members_of_a_batch_come_to_rest_one_by_one(rtol: float):
    flow, t1 = cf.toy_flow(), 50.0
    members = np.array([[0.5, 2.5], [0.1, 0.1], [2.5, 0.5]])
    options = {"batch": True, "stop": "fixed point", "rtol": rtol, "atol": 0.0}
    batch = cf.integrate(flow, members, t1, ts=t1 * NINE, **options)
    endings = [outcome.ending for outcome in batch.outcome]
    assert endings == ["reached a fixed point", "completed", "reached a fixed point"]
    assert np.isfinite(batch.ys).all()
    for i in (0, 2):
        expected = time_of_rest(flow, members[i], np.asarray(batch.final_state[i]), rtol)
        assert batch.outcome[i].time == pytest.approx(
            expected, abs=0.05
        )  # the solver errs by as much as is left
        np.testing.assert_allclose(batch.final_state[i].prod(), 1.0, rtol=1e-7)
        late = batch.ys[batch.ts > batch.outcome[i].time, i]
        np.testing.assert_array_equal(late, np.broadcast_to(batch.final_state[i], late.shape))
    np.testing.assert_allclose(batch.final_state[1], flow.solution(t1, members[1]), rtol=0, atol=1e-6)
    assert batch.stats["steps"] < 1000


# ------------------------------------------------------------------------------------- other ends


def singular(t: Any, y: Array, args: dict[str, Any]) -> Array:
    """A pole in time, and a root that is not finite below zero."""
    return args["pole"] / (1 - t) + args["root"] * jnp.sqrt(y)


@pytest.mark.parametrize(
    ("args", "y0", "time", "before"),
    [
        ({"pole": 1.0, "root": 0.0}, 5.0, 1.0, lambda t: 5 - np.log(1 - t)),
        ({"pole": 0.0, "root": -1.0}, 1.0, 2.0, lambda t: (1 - t / 2) ** 2),
    ],
    ids=["pole", "root"],
)
def test_a_singular_field_ends_the_run_and_keeps_what_was_computed(args, y0, time, before):
    trajectory = cf.integrate(singular, np.array([y0]), 3.0, ts=3 * NINE, args=args)
    assert trajectory.outcome.ending == "step size vanished"
    assert not trajectory.outcome.ok
    assert "singular" in trajectory.outcome.message
    assert trajectory.outcome.time == pytest.approx(time, abs=1e-3)
    assert np.isfinite(trajectory.ys).all()
    kept = trajectory.ts[:-1]
    assert len(kept) >= 3
    np.testing.assert_allclose(trajectory.ys[:-1, 0], before(kept), rtol=0, atol=1e-7)


def test_a_member_that_is_no_longer_finite_does_not_end_the_others():
    args = {"pole": 0.0, "root": -1.0}
    batch = cf.integrate(singular, np.array([[1.0], [25.0]]), 3.0, ts=3 * NINE, args=args, batch=True)
    assert [outcome.ending for outcome in batch.outcome] == ["step size vanished", "completed"]
    assert batch.outcome[0].time == pytest.approx(2.0, abs=1e-3)
    np.testing.assert_allclose(batch.ys[:, 1, 0], (5 - batch.ts / 2) ** 2, rtol=0, atol=1e-6)
    assert np.isnan(batch.ys[-1, 0]).all()
    assert batch.stats["steps"] < 1000


def quiet_then_swinging(t: Any, y: Array, args: Any) -> Array:
    """Rest until t = 100, then sin(t − 100); steps that overshoot leave all bounds."""
    return jnp.where(jnp.abs(y) > 2, 1e308, jnp.where(t < 100, 0.0, jnp.cos(t - 100)))


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_a_step_that_overflows_is_repeated_shorter(batch: bool):
    start = np.zeros((3, 1) if batch else 1)
    swing = cf.integrate(
        quiet_then_swinging, start, 104.0, ts=[104.0], solver="dopri8", rtol=1e-6, batch=batch, max_steps=5000
    )
    np.testing.assert_allclose(
        swing.final_state, np.broadcast_to(np.sin(4.0), start.shape), rtol=0, atol=1e-4
    )


def test_the_step_limit_keeps_what_was_computed_and_names_the_remedy():
    flow, w0, t1 = cf.toy_flow(), jnp.array([0.3, 0.4]), 1000.0
    trajectory = cf.integrate(flow, w0, t1, ts=5 * NINE, max_steps=60, **SHARP)
    assert trajectory.outcome.ending == "step limit reached"
    assert "`max_steps`" in trajectory.outcome.message
    assert trajectory.stats["steps"] == 60
    assert 1 < trajectory.outcome.time == trajectory.ts[-1] < t1
    np.testing.assert_allclose(trajectory.ys, flow.solution(trajectory.ts, w0), rtol=0, atol=1e-9)


def test_progress_is_shown_when_asked_for(capfd: pytest.CaptureFixture[str]):
    trajectory = toy_orbit(cf.toy_flow(), [0.3, 0.4], 3.0, progress=True)
    assert trajectory.outcome.ok
    assert "100" in capfd.readouterr().err
    toy_orbit(cf.toy_flow(), [0.3, 0.4], 3.0)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------- compilation


def test_a_second_call_with_new_numbers_does_not_recompile():
    args = {"rate": 0.8, "force": 0.6}
    cf.integrate(driven, DRIVEN_START, 1.0, ts=NINE, args=args, **SHARP)
    toy_orbit(cf.toy_flow(), [0.5, 1.0], 1.0)
    times, start = 1.0 + 2.0 * NINE, jtu.tree_map(lambda leaf: 2 * leaf, DRIVEN_START)
    hidden = cf.toy_flow(-2.0, flip="hidden")
    with compilations() as seen:
        cf.integrate(
            driven,
            start,
            3.0,
            t0=1.0,
            ts=times,
            args={"rate": 1.1, "force": -2.0},
            rtol=1e-6,
            atol=1e-7,
            blow_up=50.0,
        )
        toy_orbit(hidden, [0.1, 0.2], -2.5, rtol=1e-9)
    assert seen == []


def test_python_floats_in_the_arguments_are_numbers_and_other_things_stay_what_they_are():
    def field(t: Any, y: Array, args: dict[str, Any]) -> Array:
        assert isinstance(args["power"], int)
        assert args["name"] == "decay"
        assert eqx.is_array(args["rate"])
        return -args["rate"] * y ** args["power"]

    args = {"power": 2, "rate": 0.5, "name": "decay"}
    trajectory = cf.integrate(field, np.array([1.0]), 4.0, ts=4 * NINE, args=args)
    np.testing.assert_allclose(trajectory.ys[:, 0], 1 / (1 + 2 * NINE), rtol=1e-7)


def test_stats_tell_how_the_run_was_done():
    stats = toy_orbit(cf.toy_flow(), [0.5, 1.0], 1.0).stats
    assert stats["accepted"] + stats["rejected"] == stats["steps"] > 5
    assert (stats["solver"], stats["rtol"], stats["atol"]) == ("Dopri8", 1e-11, 1e-13)
