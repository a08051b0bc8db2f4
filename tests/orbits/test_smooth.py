"""Runs saved at other times, and as smooth curves."""

import jax.numpy as jnp
import numpy as np
import pytest
from reference_systems import lorenz

import curlflow as cf
from curlflow.orbits import smooth

START = jnp.array([1.0, 2.0, 3.0])


def turn(t, y, args):
    """Once around in 2π."""
    return jnp.stack([y[1], -y[0]])


def test_a_run_solved_again_is_the_same_run_though_it_is_chaotic():
    saved = cf.integrate(lorenz, START, 60.0)
    coarse = cf.integrate(lorenz, START, 60.0, ts=[0.0, 30.0])
    np.testing.assert_array_equal(coarse.sampled(saved.ts).ys, saved.ys)
    # In any order, and some of them twice.
    np.testing.assert_array_equal(coarse.sampled(saved.ts[[9, 3, 3]]).ys, saved.ys[np.array([9, 3, 3])])


@pytest.mark.parametrize("dense", [True, False])
def test_other_times_of_a_run_in_both_directions(dense: bool):
    for t1 in (5.0, -5.0):
        run = cf.integrate(turn, jnp.array([1.0, 0.0]), t1, dense=dense).sampled([0.3 * t1, 0.1 * t1])
        np.testing.assert_allclose(run.ys[:, 0], np.cos(run.ts), atol=1e-6)
        assert run.ts.tolist() == [0.3 * t1, 0.1 * t1]


def test_times_outside_of_a_run_are_refused():
    ended = cf.integrate(turn, jnp.array([1.0, 0.0]), 9.0, stop=lambda t, y, args: y[0] < 0)
    assert ended.sampled([1.5]).ys.shape == (1, 2)
    with pytest.raises(ValueError, match=r"`t` must be a time or a list of times between 0 and 1.5708"):
        ended.sampled([2.0])
    steps = cf.iterate(cf.orbits.TimeMap(turn, 1.0), jnp.array([1.0, 0.0]), 5)
    with pytest.raises(ValueError, match="`sampled` must be asked of a trajectory that `integrate` has made"):
        steps.sampled([2.0])


def test_members_of_a_batch_are_sampled_each_to_its_own_end():
    def grows(t, y, args):
        return y**2

    batch = cf.integrate(grows, jnp.array([[0.5], [0.1]]), 4.0, batch=True)
    first, second = (batch.member(i).sampled([1.0, 1.9]) for i in (0, 1))
    np.testing.assert_allclose(first.ys[:, 0], 1 / (2 - first.ts), rtol=1e-5)
    np.testing.assert_allclose(second.ys[:, 0], 1 / (10 - second.ts), rtol=1e-5)


def turns_by(points: np.ndarray) -> np.ndarray:
    """The angles between neighbouring segments."""
    angles = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
    return np.abs(np.diff(angles))


def test_a_relaxation_oscillation_is_smooth_where_it_jumps():
    def van_der_pol(t, y, args):
        return jnp.stack([y[1], 20 * (1 - y[0] ** 2) * y[1] - y[0]])

    run = cf.integrate(van_der_pol, jnp.array([2.0, 0.0]), 100.0, ts=np.linspace(0, 100, 20))
    points = smooth(run, lambda orbit: orbit.ys)
    scaled = points / np.ptp(points, axis=0)
    lengths = np.linalg.norm(np.diff(scaled, axis=0), axis=1)
    assert lengths.max() < 0.11
    long = (lengths[1:] > 0.01) & (lengths[:-1] > 0.01)
    assert turns_by(scaled)[long].max() < 0.2
    # The saved points are among them.
    assert {tuple(y) for y in np.asarray(run.ys)} <= {tuple(y) for y in points}


def test_an_orbit_that_leaves_the_window_is_smooth_inside_of_it():
    def spiral(t, y, args):
        return jnp.stack([0.5 * y[0] - 5 * y[1], 5 * y[0] + 0.5 * y[1]])

    run = cf.integrate(spiral, jnp.array([1.0, 0.0]), 20.0, ts=np.linspace(0, 20, 9))
    window = [(-5.0, 5.0), (-5.0, 5.0)]
    sizes = [np.hypot(*smooth(run, lambda orbit: orbit.ys, limits).T) for limits in (None, window)]
    whole, inside = ((radii < 5).sum() for radii in sizes)
    assert inside > 150 > whole
    # Far outside there are but the saved points, and those of the first round.
    assert (sizes[1] > 100).sum() < 200 < (sizes[0] > 100).sum()


def test_nothing_is_invented_where_nothing_can_be_known():
    steps = cf.iterate(cf.orbits.TimeMap(turn, 1.0), jnp.array([1.0, 0.0]), 5)
    np.testing.assert_array_equal(smooth(steps, lambda orbit: orbit.ys), steps.ys)
