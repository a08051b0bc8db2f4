"""Ends of runs: blow-up without units, rest in stiff systems, jumps that hold a run up, and Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import curlflow as cf

# ------------------------------------------------------------------------------------- bounded motions


def van_der_pol(t: Any, y: Array, args: Any) -> Array:
    """Hairer and Wanner's: the speed's time scale is the small number in `args`."""
    return jnp.stack([y[1], ((1 - y[0] ** 2) * y[1] - y[0]) / args])


def test_a_relaxation_oscillation_is_no_blow_up():
    # The speed passes 1.3 million; the reference solution is that of the IVP test set.
    run = cf.integrate(van_der_pol, jnp.array([2.0, 0.0]), 2.0, args=1e-6, solver="kvaerno5")
    assert run.outcome.ending == "completed"
    np.testing.assert_allclose(run.final_state, [1.706167732170483, -0.8928097010247975], rtol=1e-7)


def logistic(t: Any, y: Array, args: Any) -> Array:
    return y * (1 - y / args)


@pytest.mark.parametrize("capacity", [1e7, 1e-7, 1e100])
def test_growth_to_a_bound_of_any_size_is_no_blow_up(capacity: float):
    start, t1 = 1e-6 * capacity, 40.0
    run = cf.integrate(logistic, jnp.array([start]), t1, args=capacity, atol=0.0)
    assert run.outcome.ending == "completed"
    exact = capacity / (1 + (capacity / start - 1) * np.exp(-t1))
    assert float(run.final_state[0]) == pytest.approx(exact, rel=1e-6)


def reciprocal(t: Any, y: Array, args: Any) -> Array:
    return args / y


@pytest.mark.parametrize("t0", [1.0, 0.0, -5.0])
def test_a_start_that_is_steep_beyond_the_resolution_of_time_is_no_blow_up(t0: float):
    # c(t) = √(c0² + 2 (t − t0) 1e50): the state doubles 1e38 times faster than time passes.
    run = cf.integrate(reciprocal, jnp.array([1e6]), t0 + 1.0, t0=t0, args=1e50)
    assert run.outcome.ending == "completed"
    assert float(run.final_state[0]) == pytest.approx(np.sqrt(1e12 + 2e50), rel=1e-6)


# ------------------------------------------------------------------------------------------- blow-up


def power(t: Any, y: Array, args: Any) -> Array:
    """Infinite at t0 + 1 / ((power − 1) rate y0 ^ (power − 1))."""
    return args["rate"] * jnp.abs(y) ** args["power"] * jnp.sign(y)


@pytest.mark.parametrize("t0", [0.0, 1e6])
@pytest.mark.parametrize("exponent", [2.0, 3.0, 9.0])
def test_a_singularity_is_reported_at_its_time(t0: float, exponent: float):
    run = cf.integrate(power, jnp.array([1.0]), t0 + 5.0, t0=t0, args={"rate": 1.0, "power": exponent})
    assert run.outcome.ending == "blew up"
    assert run.outcome.time - t0 == pytest.approx(1 / (exponent - 1), rel=1e-6)
    assert "without bound" in run.outcome.message


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_a_singularity_is_the_same_in_all_units_of_state_and_time(unit: float):
    # A state measured in other units, and a time: the distant end does not hide what happens soon.
    for rate, start, time in ((1 / unit, unit, 1.0), (1.0, unit, 1 / unit)):
        run = cf.integrate(power, jnp.array([start]), 2e3 * time, args={"rate": rate, "power": 2.0}, atol=0.0)
        assert run.outcome.ending == "blew up"
        assert run.outcome.time == pytest.approx(time, rel=1e-6)
    back = cf.integrate(power, jnp.array([-unit]), -2e3 / unit, args={"rate": -1.0, "power": 2.0}, atol=0.0)
    assert (back.outcome.ending, back.outcome.time) == ("blew up", pytest.approx(-1 / unit, rel=1e-6))


def test_growth_without_bound_ends_where_numbers_do_and_a_limit_names_the_remedy():
    growth = {"rate": 1.0, "power": 1.0}
    run = cf.integrate(power, jnp.array([1.0]), 1000.0, args=growth)
    assert run.outcome.ending == "blew up"
    assert run.outcome.time == pytest.approx(np.log(np.finfo(float).max) / 2, rel=1e-6)
    assert np.isfinite(run.ys).all()
    limited = cf.integrate(power, jnp.array([1.0]), 1000.0, args=growth, blow_up=1e6)
    assert limited.outcome.time == pytest.approx(np.log(1e6), rel=1e-6)
    assert "If the motion is bounded, raise `blow_up`." in limited.outcome.message
    assert cf.integrate(power, jnp.array([1.0]), 40.0, args=growth).outcome.ok


def test_members_of_a_batch_grow_or_blow_up_each_by_itself():
    start = np.array([[1e-3], [1.0], [1e9], [-1.0]])
    batch = cf.integrate(power, start, 0.75, args={"rate": 1.0, "power": 3.0}, batch=True)
    assert [outcome.ending for outcome in batch.outcome] == ["completed", "blew up", "blew up", "blew up"]
    np.testing.assert_allclose([o.time for o in batch.outcome[1:]], [0.5, 5e-19, 0.5], rtol=1e-6, atol=1e-12)
    assert float(batch.final_state[0, 0]) == pytest.approx(1e-3, rel=1e-5)


# -------------------------------------------------------------------------------------------- jumps


def friction(t: Any, y: Array, args: Any) -> Array:
    """A mass on a spring with dry friction: at rest where the spring is weaker than the friction."""
    return jnp.stack([y[1], -1.5 * y[0] - 0.5 * jnp.sign(y[1])])


def towards(t: Any, y: Array, args: Any) -> Array:
    """At constant speed towards a place, from both sides."""
    return -jnp.sign(y - args)


def test_a_jump_that_holds_a_run_up_ends_it_soon_and_is_called_by_its_name():
    run = cf.integrate(towards, jnp.array([1.0]), 3.0, args=0.25)
    assert run.outcome.ending == "step size vanished"
    # A little later, because it is looked for only when the steps have become too many.
    assert 0.75 < run.outcome.time < 0.751
    assert "discontinuous" in run.outcome.message
    assert run.stats["steps"] < 200_000
    np.testing.assert_allclose(run.final_state, [0.25], atol=1e-9)


def test_dry_friction_brings_to_rest_where_it_does():
    # Half an oscillation about ⅓, from x = −1 … to x = 1/3 + …: at v = 0 at t = π / √1.5, where the spring is too weak.
    run = cf.integrate(friction, jnp.array([0.5, 0.0]), 10.0)
    assert "discontinuous" in run.outcome.message
    assert abs(1.5 * float(run.final_state[0])) < 0.5
    assert abs(float(run.final_state[1])) < 1e-6


def test_a_member_held_up_by_a_jump_does_not_hold_up_the_others():
    # The first goes to ¼ and stays; the last is still on its way.
    batch = cf.integrate(towards, np.array([[1.0], [0.5], [9.0]]), 3.0, args=0.25, batch=True)
    endings = [outcome.ending for outcome in batch.outcome]
    assert endings == ["step size vanished", "step size vanished", "completed"]
    np.testing.assert_allclose([o.time for o in batch.outcome], [0.75, 0.25, 3.0], atol=1e-4)
    assert "discontinuous" in batch.outcome[0].message
    assert float(batch.final_state[2, 0]) == pytest.approx(6.0, rel=1e-9)
    assert np.isnan(batch.ys[-1, 0]).all()


def decays(t: Any, y: Array, args: Any) -> Array:
    """Two decays, turned against the axes, of the rates in `args`."""
    turn = jnp.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    return -turn @ (args * (turn.T @ y))


FIRST, SECOND = np.array([np.cos(0.7), np.sin(0.7)]), np.array([-np.sin(0.7), np.cos(0.7)])


def test_a_stiff_field_is_not_called_discontinuous():
    run = cf.integrate(decays, FIRST + SECOND, 1e6, args=jnp.array([1e6, 1.0]), max_steps=60_000)
    assert run.outcome.ending == "step limit reached"
    assert "kvaerno5" in run.outcome.message
    implicit = cf.integrate(
        decays, FIRST + SECOND, 1e6, args=jnp.array([1e6, 1.0]), max_steps=20, solver="kvaerno5"
    )
    assert implicit.outcome.ending == "step limit reached"
    assert "kvaerno5" not in implicit.outcome.message


# -------------------------------------------------------------------------------------------- rest


def test_the_fast_direction_at_rest_is_not_rest():
    # At the rate 1, the slow one falls to the tolerance in the logarithm of how far above it is.
    options: dict[str, Any] = {"stop": "fixed point", "rtol": 1e-9, "atol": 1e-8}
    for solver, rate, slow in (("kvaerno5", 1e6, 1e-3), ("dopri8", 1e4, 1e-5)):
        args = jnp.array([rate, 1.0])
        run = cf.integrate(decays, FIRST + slow * SECOND, 100.0, args=args, solver=solver, **options)
        assert run.outcome.ending == "reached a fixed point"
        assert float(np.linalg.norm(run.final_state)) < 5e-8
        assert run.outcome.time > np.log(slow / 5e-8)
    # Without the slow one it is.
    args = jnp.array([1e4, 1.0])
    assert cf.integrate(decays, FIRST, 100.0, args=args, solver="dopri8", **options).outcome.time < 0.1
    members = np.stack([FIRST + 1e-5 * SECOND, FIRST])
    batch = cf.integrate(
        decays, members, 12.0, args=args, solver="dopri8", batch=True, ts=[1.0, 12.0], **options
    )
    assert [outcome.ending for outcome in batch.outcome] == 2 * ["reached a fixed point"]
    assert batch.outcome[0].time > np.log(1e-5 / 5e-8)
    assert batch.outcome[1].time < 0.1
    assert float(SECOND @ batch.ys[0, 0]) == pytest.approx(1e-5 * np.exp(-1.0), rel=1e-2)
    np.testing.assert_array_equal(batch.ys[-1, 0], batch.final_state[0])


def test_a_relaxation_oscillation_never_comes_to_rest():
    # On its slow branch it moves by 1e-3 in a unit of time, and all else has decayed after a thousandth of one.
    def slow_branch(t: Any, y: Array, mu: Any) -> Array:
        return jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])

    start = jnp.array([2.0, 0.0])
    loose: dict[str, Any] = {"args": 1000.0, "stop": "fixed point", "rtol": 1e-6}
    run = cf.integrate(slow_branch, start, 1000.0, solver="kvaerno5", **loose)
    assert run.outcome.ending == "completed"
    members = np.array([[2.0, 0.0], [1.9, 0.0]])
    batch = cf.integrate(slow_branch, members, 1.0, batch=True, **loose)
    assert [outcome.ending for outcome in batch.outcome] == ["completed", "completed"]
    alone = cf.integrate(slow_branch, start, 1.0, solver="kvaerno5", **loose)
    np.testing.assert_allclose(batch.final_state[0], alone.final_state, rtol=1e-4)
    np.testing.assert_array_equal(batch.ys[-1], batch.final_state)


# ---------------------------------------------------------------------------------------- short events


def pulse(t: Any, y: Array, args: Any) -> Array:
    """Nothing happens but a short pulse of area √(2π) / 5."""
    return 10 * jnp.exp(-(((t - 25.3) / 0.02) ** 2) / 2) - 0.0 * y


def test_a_longest_step_keeps_a_short_pulse_from_being_passed_over():
    area, start = np.sqrt(2 * np.pi) / 5, jnp.array([0.0])
    assert float(cf.integrate(pulse, start, 50.0).final_state[0]) < 0.01 * area
    run = cf.integrate(pulse, start, 50.0, dtmax=0.1)
    assert float(run.final_state[0]) == pytest.approx(area, rel=1e-6)


# --------------------------------------------------------------------------------------------- Ctrl-C


def oscillator(t: Any, y: Array, args: Any) -> Array:
    return jnp.stack([y[1], -y[0]])


@contextmanager
def interrupted_soon() -> Iterator[None]:
    """Ctrl-C after a while, as a terminal sends it; a background job would not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_what_was_computed_before_an_interrupt_is_kept(batch: bool):
    start = np.array([[0.0, 1.0], [0.0, 2.0]]) if batch else np.array([0.0, 1.0])
    options: dict[str, Any] = {"batch": batch, "ts": [0.0, 1.0, 1e9], "rtol": 1e-3, "atol": 1e-5}
    cf.integrate(oscillator, start, 1e9, max_steps=10, **options)
    with interrupted_soon(), pytest.raises(cf.orbits.Interrupted, match="Interrupted at t = ") as caught:
        cf.integrate(oscillator, start, 1e9, max_steps=10**12, **options)
    assert isinstance(caught.value, KeyboardInterrupt)
    run = caught.value.trajectory
    outcome = run.outcome[0] if batch else run.outcome
    assert outcome.ending == "interrupted"
    assert not outcome.ok
    assert 1.0 < outcome.time == run.ts[-1] < 1e9
    np.testing.assert_array_equal(run.ts[:-1], [0.0, 1.0])
    np.testing.assert_array_equal(run.ys[-1], run.final_state)
    np.testing.assert_allclose(run.ys[1].reshape(-1, 2)[0], [np.sin(1), np.cos(1)], atol=0.01)


class Rotation(eqx.Module):
    """A turn by an angle at every step."""

    angle: Array

    def step(self, n: Any, y: Array, args: Any = None) -> Array:
        c, s = jnp.cos(self.angle), jnp.sin(self.angle)
        return jnp.stack([c * y[0] - s * y[1], s * y[0] + c * y[1]])


TURN = Rotation(jnp.asarray(1e-3))


def test_an_iteration_that_is_interrupted_goes_on_from_there():
    start = jnp.array([1.0, 0.0])
    counts = {"turns": cf.orbits.FirstPassage(lambda n, y, args: y[1], -0.999)}
    cf.iterate(TURN, start, 100, fold=counts)
    with interrupted_soon(), pytest.raises(cf.orbits.Interrupted) as caught:
        cf.iterate(TURN, start, 10**11, fold=counts)
    run = caught.value.trajectory
    n = int(run.outcome.time)
    assert run.outcome.ending == "interrupted"
    assert n == run.ts[-1] == run.stats["steps"] > 5000
    assert run.folded["turns"] == np.flatnonzero(np.sin(1e-3 * np.arange(5000)) < -0.999)[0]
    np.testing.assert_allclose(run.final_state, [np.cos(1e-3 * n), np.sin(1e-3 * n)], atol=1e-5)


def test_an_iteration_that_would_take_days_ends_soon_and_says_so():
    run = cf.iterate(TURN, jnp.array([1.0, 0.0]), 10**17)
    assert run.outcome.ending == "budget exceeded"
    assert "days" in run.outcome.message
    assert f"n0 = {int(run.outcome.time)}" in run.outcome.message


def test_an_iteration_refuses_what_cannot_be_counted_or_kept():
    start = jnp.array([1.0, 0.0])
    with pytest.raises(ValueError, match="`steps` and `n0` must not exceed"):
        cf.iterate(TURN, start, 2**62, n0=1)
    with pytest.raises(ValueError, match="`steps` must be less than 2⁶³"):
        cf.iterate(TURN, start, 10**30)
    with pytest.raises(ValueError, match="`every` must be so large that what is saved fits into memory"):
        cf.iterate(TURN, start, 10**12, every=1)
    with pytest.raises(ValueError, match="`fold` must name its observables"):
        cf.iterate(TURN, start, 10, fold=[1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`fold` must hold objects with `start`"):
        cf.iterate(TURN, start, 10, fold={"one": 1})  # pyright: ignore[reportArgumentType]


class Boole(eqx.Module):
    """Chaotic, with ever larger excursions: the orbit's states are spread like tan of an even angle."""

    def step(self, n: Any, y: Array, args: Any = None) -> Array:
        return 0.5 * (y - 1 / y)


def test_heavy_tails_are_no_blow_up():
    largest = {"largest": cf.orbits.Peak(lambda n, y, args: jnp.abs(y[0]))}
    start = jnp.array([0.3])
    run = cf.iterate(Boole(), start, 3_000_000, fold=largest)
    assert run.outcome.ending == "completed"
    assert run.folded["largest"][0] > 1e6
    limited = cf.iterate(Boole(), start, 3_000_000, every=1000, blow_up=1e3)
    assert "raise `blow_up`" in limited.outcome.message


# ---------------------------------------------------------------------------------------- arguments


def test_times_may_miss_the_end_by_rounding_and_else_are_told_in_full():
    ts = np.arange(4) * 0.1
    assert ts[-1] > 0.3
    run = cf.integrate(oscillator, jnp.array([0.0, 1.0]), 0.3, ts=ts)
    np.testing.assert_array_equal(run.ts, [*ts[:-1], 0.3])
    with pytest.raises(ValueError, match=r"t1 = 0\.3, but spans 0\.0 to 0\.3000000001"):
        cf.integrate(oscillator, jnp.array([0.0, 1.0]), 0.3, ts=[0.0, 0.3000000001])
    with pytest.raises(ValueError, match=r"not in that order: 0\.1 follows 0\.2 at index 2"):
        cf.integrate(oscillator, jnp.array([0.0, 1.0]), 0.3, ts=[0.0, 0.2, 0.1])


def test_truth_values_and_whole_numbers_are_observed():
    def seen(t: Any, y: Array, args: Any) -> dict[str, Array]:
        return {"up": y[0] > 0, "largest": jnp.argmax(y), "both": y > 0.5, "y": y}

    run = cf.integrate(oscillator, jnp.array([0.0, 1.0]), 6.0, ts=np.arange(7.0), observe=seen, rtol=1e-10)
    t = np.arange(7.0)
    assert (run.ys["up"].dtype, run.ys["largest"].dtype) == (bool, int)
    np.testing.assert_array_equal(run.ys["up"], np.sin(t) > 0)
    np.testing.assert_array_equal(run.ys["largest"], np.cos(t) > np.sin(t))
    np.testing.assert_array_equal(run.ys["both"], np.stack([np.sin(t), np.cos(t)], 1) > 0.5)
    np.testing.assert_allclose(run.ys["y"][:, 0], np.sin(t), atol=1e-8)


def test_the_drift_of_a_network_never_holds_all_times_quantities():
    # N² of them at every time are more than the N M numbers of the state.
    N, M, times = 300, 2, 40
    flow, student, _ = cf.ensembles.student_teacher(jax.random.key(0), N=N, M=M)
    ys = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (times, *leaf.shape)), student)
    run = cf.Trajectory(
        np.arange(float(times)), ys, cf.Outcome(cf.Ending.COMPLETED, 1.0, ""), {}, student, flow
    )
    program = str(
        eqx.filter_make_jaxpr(lambda ys: cf.orbits.trajectory._drift(flow.conserved, ys, False))(ys)[0]
    )
    assert f"{N},{N}]" in program
    assert f"[{times},{N},{N}]" not in program
    np.testing.assert_array_equal(run.conserved_drift(), np.zeros(times))
