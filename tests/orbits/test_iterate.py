"""iterate: maps against closed forms, saving, folding, and every way a run can end."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf


class Rotation:
    """A turn by a fixed angle, and a growth."""

    def __init__(self, angle: float, growth: float = 1.0):
        c, s = growth * np.cos(angle), growth * np.sin(angle)
        self.matrix = np.array([[c, -s], [s, c]])

    def step(self, n, y, args):
        return self.matrix @ y


class Counting:
    """Adds the number of the step."""

    def step(self, n, y, args):
        return {"sum": y["sum"] + n * args}


START = jnp.array([1.0, 0.0])


def at_angle(n: Any, angle: float = 0.1) -> np.ndarray:
    return np.stack([np.cos(angle * np.asarray(n)), np.sin(angle * np.asarray(n))], axis=-1)


@pytest.mark.parametrize(("steps", "every"), [(7, 1), (100, 7), (1000, None), (3, 10), (500, 1)])
def test_states_are_saved_at_their_steps_and_at_the_end(steps: int, every: int | None):
    run = cf.iterate(Rotation(0.1), START, steps, every=every)
    spacing = max(steps // 256, 1) if every is None else every
    expected = sorted({*range(0, steps, spacing), steps})
    np.testing.assert_array_equal(run.ts, expected)
    np.testing.assert_allclose(run.ys, at_angle(run.ts), atol=1e-12)
    np.testing.assert_array_equal(run.final_state, run.ys[-1])
    assert run.outcome.ending == cf.Ending.COMPLETED
    assert run.stats["steps"] == steps


def test_the_step_number_and_arguments_reach_the_map():
    run = cf.iterate(Counting(), {"sum": jnp.zeros(1)}, 10, n0=5, args=2.0)
    np.testing.assert_allclose(run.final_state["sum"], [2.0 * sum(range(5, 15))])
    assert (run.ts[0], run.ts[-1]) == (5, 15)


def test_a_run_in_two_parts_is_the_run_in_one():
    X = jax.random.normal(jax.random.key(0), (20, 3))
    flow = cf.models.StudentFlow(X, X @ jnp.ones(3), cf.Weights([1, -1, 1], [1, 1]), activation="linear")
    descent = cf.models.MinibatchDescent(flow, learning_rate=0.1, batch_size=5, key=jax.random.key(1))
    W = cf.ensembles.gaussian_weights(jax.random.key(2), N=2, M=3)
    whole = cf.iterate(descent, W, 40)
    half = cf.iterate(descent, W, 25)
    rest = cf.iterate(descent, half.final_state, 15, n0=25)
    np.testing.assert_array_equal(rest.final_state.W1, whole.final_state.W1)


def test_what_is_observed_is_saved_in_place_of_the_state():
    run = cf.iterate(
        Rotation(0.1),
        START,
        50,
        every=10,
        observe=lambda n, y, args: {"x": y[0], "n": n, "twice": args * y},
        args=2.0,
    )
    np.testing.assert_allclose(run.ys["x"], np.cos(0.1 * run.ts), atol=1e-12)
    np.testing.assert_array_equal(run.ys["n"], run.ts)
    np.testing.assert_allclose(run.ys["twice"], 2 * at_angle(run.ts), atol=1e-12)
    np.testing.assert_allclose(run.final_state, at_angle(50), atol=1e-12)
    with pytest.raises(ValueError, match="must have a method `loss`"):
        run.loss()


def test_observables_are_folded_over_all_steps_not_only_the_saved_ones():
    fold = {
        "peak": cf.orbits.Peak(lambda n, y, args: y[1]),
        "first": cf.orbits.FirstPassage(lambda n, y, args: y[0], -0.5),
    }
    run = cf.iterate(Rotation(0.1), START, 1000, every=300, fold=fold)
    n = np.arange(1001)
    value, time = run.folded["peak"]
    assert time == np.argmax(np.sin(0.1 * n)) % 1001
    np.testing.assert_allclose(value, np.sin(0.1 * n).max(), atol=1e-12)
    assert run.folded["first"] == np.flatnonzero(np.cos(0.1 * n) < -0.5)[0]


@pytest.mark.parametrize("every", [1, 100])
def test_a_blow_up_is_located_at_its_step(every: int):
    run = cf.iterate(Rotation(0.0, 1.1), START, 1000, every=every, blow_up=1e3)
    escape = int(np.ceil(np.log(1e3) / np.log(1.1)))
    assert run.outcome.ending == cf.Ending.BLEW_UP
    assert run.outcome.time == run.ts[-1] == escape
    np.testing.assert_allclose(run.final_state[0], 1.1**escape, rtol=1e-12)
    assert np.isfinite(run.ys).all()


def test_a_state_that_ceases_to_be_a_number_ends_the_run():
    class Root:
        def step(self, n, y, args):
            return jnp.sqrt(y - 1.0)

    run = cf.iterate(Root(), jnp.array([3.0]), 100)
    assert run.outcome.ending == cf.Ending.BLEW_UP
    assert run.outcome.time == 3  # 3, √2, 0.64, not a number
    np.testing.assert_array_equal(run.ts, [0, 1, 2, 3])


def test_a_flow_becomes_a_map():
    flow = cf.toy_flow(s=1.0, flip="readout")
    period = float(flow.period(START))
    steps = 8
    run = cf.iterate(cf.orbits.TimeMap(flow, period / steps, rtol=1e-11, atol=1e-13), START, steps, every=1)
    exact = cf.integrate(flow, START, period, ts=np.linspace(0, period, steps + 1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(run.ys, exact.ys, atol=1e-9)
    np.testing.assert_allclose(run.final_state, START, atol=1e-9)
    np.testing.assert_allclose(run.loss(), exact.loss(), atol=1e-9)
    forced = cf.iterate(
        cf.orbits.TimeMap(lambda t, y, args: args * t * jnp.ones(1), 0.5), jnp.zeros(1), 4, args=2.0
    )
    np.testing.assert_allclose(forced.final_state, [4.0])


def test_a_flow_that_blows_up_within_a_step_ends_the_run():
    run = cf.iterate(cf.orbits.TimeMap(lambda t, y, args: y**2, 0.3), jnp.array([1.0]), 10, every=1)
    assert run.outcome.ending == cf.Ending.BLEW_UP
    assert run.outcome.time == 4  # 1/(1 − t) at t = 0.9, and beyond


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="`system` must be a map"):
        cf.iterate(cf.toy_flow(), START, 10)
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        cf.iterate(Rotation(0.1), START, 0)
    with pytest.raises(ValueError, match="`every` must be a whole number"):
        cf.iterate(Rotation(0.1), START, 10, every=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`blow_up` must exceed"):
        cf.iterate(Rotation(0.1), START, 10, blow_up=0.5)
    with pytest.raises(ValueError, match="`system` must return"):
        cf.iterate(Counting(), {"sum": jnp.zeros(()), "other": jnp.zeros(1)}, 10, args=jnp.ones(2))
    with pytest.raises(ValueError, match="`dt` must be positive"):
        cf.orbits.TimeMap(cf.toy_flow(), 0.0)
