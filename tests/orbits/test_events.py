"""Events: located to the last digit, between the solver's steps, in both directions; ending a run or not."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import curlflow as cf
from curlflow.orbits import Event


def thrown(t: Any, y: Array, args: dict[str, Any]) -> Array:
    """A ball: height and speed, weight and drag (relative to the square of the speed)."""
    return jnp.stack([y[1], -args["weight"] + args["drag"] * y[1] ** 2])


def oscillator(t: Any, y: Array, args: Any) -> Array:
    return jnp.stack([y[1], -y[0]])


def height(t: Any, y: Array, args: Any) -> Array:
    return y[0]


def is_below(t: Any, y: Array, args: Any) -> Array:
    return y[0] < 0


CANNON = {"weight": 0.5, "drag": 0.0}
# The end of a run with sin(t), which no event reaches.
SINE = jnp.array([0.0, 1.0])


# ------------------------------------------------------------------------------------ conditions that end


@pytest.mark.parametrize(
    "stop", [is_below, height, Event(height, "falling")], ids=["truth", "real", "falling"]
)
@pytest.mark.parametrize("start", [0.0, 1e-9])
def test_a_ball_is_back_on_the_ground_when_it_is(stop: Any, start: float):
    # Up at speed 10 under a weight of ½: back at t = 40, though one step leads from the ground to far below it. From the very
    # ground, the ball does not end where it leaves.
    run = cf.integrate(thrown, jnp.array([start, 10.0]), 99.0, args=CANNON, stop=stop)
    assert run.outcome.ending == "stopped"
    assert run.outcome.time == run.ts[-1] == pytest.approx(40.0, abs=1e-7)
    assert run.outcome.message == "The stop condition held at t = 40."
    np.testing.assert_allclose(run.final_state, [0.0, -10.0], rtol=0, atol=1e-6)
    assert (run.ts[:-1] < run.ts[-1]).all()
    np.testing.assert_allclose(
        run.ys[:-1, 0], start + 10 * run.ts[:-1] - run.ts[:-1] ** 2 / 4, rtol=1e-9, atol=1e-6
    )


def test_a_parachute_lands_when_it_does():
    # ẏ = v, v̇ = −10 + v²/100, from a height of 1000: y = 1000 − 100 ln cosh(√0.1 t).
    args = {"weight": 10.0, "drag": 0.01}
    run = cf.integrate(thrown, jnp.array([1000.0, 0.0]), 40.0, args=args, stop=is_below)
    assert run.outcome.time == pytest.approx(np.arccosh(np.exp(10.0)) / np.sqrt(0.1), rel=1e-8)


def test_the_first_zero_is_not_missed_by_a_step_that_leads_over_two():
    # y = t³ + 6t² − 4t − 24 is zero at −6, −2 and 2; one step of order 8 is exact for as long as one likes.
    def cubic(t: Any, y: Array, args: Any) -> Array:
        return 3 * t**2 + 12 * t - 4 + 0 * y

    def is_down(t: Any, y: Array, args: Any) -> Array:
        return y[0] <= 0

    run = cf.integrate(cubic, jnp.array([21.0]), 4.0, t0=-5.0, stop=is_down, events=height)
    assert run.outcome.time == pytest.approx(-2.0, abs=1e-9)
    np.testing.assert_allclose(run.events["events"].ts, [-2.0], atol=1e-9)


def test_what_is_true_for_a_short_time_within_a_step_is_found():
    def is_at_the_top(t: Any, y: Array, args: Any) -> Array:
        return y[0] > 0.9995

    run = cf.integrate(oscillator, SINE, 20.0, stop=is_at_the_top, rtol=1e-11)
    assert run.outcome.time == pytest.approx(np.arcsin(0.9995), abs=1e-6)


def test_what_is_true_at_the_start_ends_the_run_there():
    run = cf.integrate(oscillator, jnp.array([-1.0, 0.5]), 20.0, stop=is_below)
    assert (run.outcome.ending, run.outcome.time, run.stats["steps"]) == ("stopped", 0.0, 0)
    np.testing.assert_array_equal(run.ys, [[-1.0, 0.5]])


# ----------------------------------------------------------------------- several, and those that are recorded


def is_late(t: Any, y: Array, args: Any) -> Array:
    return jnp.abs(t) > args["late"]


STOPS = {"late": is_late, "never": lambda t, y, args: y[0] > 2.0}
# In no order of their names.
EVENTS = {
    "up": Event(height, "rising"),
    "all": height,
    "down": Event(height, "falling"),
    "enters": lambda t, y, args: y[0] > 0.5,
    "leaves": Event(lambda t, y, args: y[0] > 0.5, "falling"),
}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtmax", [None, 0.02])
def test_events_are_recorded_by_name_and_direction_forwards_and_backwards(sign: float, dtmax: float | None):
    run = cf.integrate(
        oscillator, SINE, sign * 20.0, args={"late": 15.0}, stop=STOPS, events=EVENTS, dtmax=dtmax, rtol=1e-10
    )
    assert run.outcome.time == pytest.approx(sign * 15.0, rel=1e-14)
    assert run.outcome.message == f"The stop condition `late` held at t = {sign * 15:g}."
    found = {name: passages.ts / np.pi for name, passages in run.events.items()}
    # Along the run, backwards in time: sin(−t) falls first.
    first, second = ("down", "up") if sign > 0 else ("up", "down")
    expected = {
        "all": [1, 2, 3, 4],
        first: [1, 3],
        second: [2, 4],
        "enters": [1 / 6, 13 / 6, 25 / 6] if sign > 0 else [7 / 6, 19 / 6],
        "leaves": [5 / 6, 17 / 6] if sign > 0 else [11 / 6, 23 / 6],
    }
    assert list(found) == list(EVENTS)
    for name, times in expected.items():
        np.testing.assert_allclose(found[name], sign * np.array(times), rtol=0, atol=1e-8, err_msg=name)
        states = np.stack([np.sin(run.events[name].ts), np.cos(run.events[name].ts)], axis=1)
        np.testing.assert_allclose(run.events[name].ys, states, rtol=0, atol=1e-7)
    # Shorter steps, which are more than are kept at a time, see the same.
    assert (run.stats["steps"] > 700) == (dtmax is not None)


def test_events_in_a_state_of_many_numbers_and_in_none():
    # Fifty oscillators in step.
    start = jnp.tile(SINE[:, None], (1, 50))
    run = cf.integrate(
        oscillator, start, 12.0, events=[lambda t, y, args: y[0].mean(), is_late], args={"late": 99.0}
    )
    assert run.stats["solver"] == "Tsit5"
    np.testing.assert_allclose(run.events["events[0]"].ts, np.pi * np.arange(1, 4), rtol=1e-6)
    assert run.events["events[1]"].ts.shape == (0,)
    assert run.events["events[1]"].ys.shape == (0, 2, 50)


def test_a_dense_run_that_is_stopped_is_known_up_to_there():
    run = cf.integrate(
        oscillator, SINE, 14.0, t0=4.0, dense=True, stop=is_late, args={"late": 9.0}, rtol=1e-10
    )
    times = np.linspace(4.0, 9.0, 11)
    np.testing.assert_allclose(run(times)[:, 0], np.sin(times - 4.0), rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="between 4 and 9"):
        run(9.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": "rest"}, "`stop` must be"),
        ({"events": "fixed point"}, "`events` must be"),
        (
            {"stop": lambda t, y, args: y},
            r"`stop` must return one truth value or one real number, but .*float64\[2\]",
        ),
        ({"events": [lambda t, y, args: 1]}, r"`events` \(`events\[0\]`\) must return one truth value"),
        ({"dtmax": 0.0}, "`dtmax` must be positive"),
    ],
    ids=["word", "event", "shape", "integer", "dtmax"],
)
def test_other_conditions_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        cf.integrate(oscillator, SINE, 1.0, **options)
    with pytest.raises(ValueError, match="`direction` must be one of"):
        Event(height, "up")  # pyright: ignore[reportArgumentType]
