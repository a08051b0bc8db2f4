"""What is measured of an orbit's returns, on sets of points whose answer is arithmetic."""

import numpy as np
import pytest

from curlflow.chaos.recurrence import Coordinates, closings, dimension, is_stationary

GOLDEN = (5**0.5 - 1) / 2


def circle(phases):
    return np.stack([np.cos(2 * np.pi * phases), np.sin(2 * np.pi * phases)], axis=1)


def logistic_orbit(r, count, skipped=10_000, y=0.3):
    orbit = []
    for n in range(skipped + count):
        y = r * y * (1 - y)
        if n >= skipped:
            orbit.append(y)
    return np.array(orbit)[:, None]


def test_the_dimension_of_cycles_curves_fractals_and_surfaces():
    n = np.arange(4096.0)
    assert dimension(circle(n / 97)) < 0.2
    assert dimension(circle(n * GOLDEN)) == pytest.approx(1.0, abs=0.05)
    torus = np.concatenate([circle(n * GOLDEN), circle(n * 2**0.5)], axis=1)
    # Evenly spread points lie farther apart than random ones, which makes a surface look thicker.
    assert 1.6 < dimension(torus) < 2.6
    # Feigenbaum's attractor: 0.538 (Grassberger 1981).
    assert dimension(logistic_orbit(3.5699456718695445, 4096)) == pytest.approx(0.54, abs=0.1)
    assert np.isnan(dimension(circle(n[:100])))


def test_an_orbit_closes_when_it_is_back_and_not_when_it_is_near():
    n = np.arange(400.0)
    assert closings(circle(n / 97), 2.0, attracts=False)[0][0] == 97
    # After 377 turns the golden rotation is back within 1/377, but never for good.
    assert closings(circle(n * GOLDEN), 2.0, attracts=True) == []


def test_an_orbit_on_its_way_to_a_cycle_closes_if_the_cycle_attracts():
    n = np.arange(400)
    spiral = circle(n / 5) * (1 + 1e-4 * 0.9 ** n[:, None])
    assert closings(spiral, 2.0, attracts=True)[0][0] == 5
    assert closings(spiral[:40], 2.0, attracts=False) == []


def test_angles_are_compared_on_their_circles():
    numbers = np.stack([np.linspace(0.0, 20 * np.pi, 1000), np.ones(1000)], axis=1)
    plain, wound = (Coordinates.of(numbers, np.array([period, 0.0])) for period in (0.0, 2 * np.pi))
    assert not is_stationary(plain(numbers))
    assert is_stationary(wound(numbers))
    back = wound(np.array([[0.0, 1.0], [2 * np.pi, 1.0], [np.pi, 1.0]]))
    np.testing.assert_allclose(back[0], back[1], atol=1e-12)
    assert np.linalg.norm(back[0] - back[2]) > 1


def test_coordinates_do_not_depend_on_units():
    numbers = np.random.default_rng(0).normal(size=(500, 2))
    scaled = numbers * np.array([1e-8, 1e3])
    one, other = (Coordinates.of(each, np.zeros(2))(each) for each in (numbers, scaled))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_decaying_and_a_drifting_series_are_not_stationary():
    t = np.linspace(0.0, 500.0, 8000)
    assert is_stationary(np.cos(t)[:, None])
    assert not is_stationary((np.exp(-t / 2000) * np.cos(t))[:, None])
    assert not is_stationary((np.cos(t) + t / 500)[:, None])
