"""Nullclines where they are known exactly: all branches, no poles, lines that are touched, fields that are not finite."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf

WINDOW = (-2.0, 2.0)


def found(field: Callable[[Any, Any], list[Any]], xlim: Any, ylim: Any, resolution: int = 80) -> Any:
    """The curves of both components of ẋ, ẏ = field(x, y)."""
    seen = cf.plane.survey(
        lambda t, y, args: jnp.stack(field(*y)), xlim, ylim, resolution=resolution, nullclines=True
    )
    return seen.nullclines


@pytest.mark.parametrize("resolution", [80, 81])  # with the axes between the grid lines, and on them
def test_nullclines_have_all_their_branches(resolution: int):
    flow = cf.toy_flow(1.0, flip="readout")
    seen = cf.plane.survey(flow, WINDOW, WINDOW, resolution=resolution, nullclines=True)
    assert seen.nullclines is not None
    for component, curves in enumerate(seen.nullclines):
        vertices = np.concatenate(curves)
        # ẇ1 vanishes on the horizontal axis w2 = 0, and ẇ2 on the vertical one; both vanish on the hyperbola.
        along, across = vertices[:, component], vertices[:, 1 - component]
        on_axis = np.abs(across) < 1e-10
        on_hyperbola = np.abs(vertices.prod(axis=1) - 1) < 1e-10
        assert (on_axis | on_hyperbola).all()
        np.testing.assert_allclose([along[on_axis].min(), along[on_axis].max()], WINDOW, atol=1e-6)
        assert np.diff(np.sort(along[on_axis])).max() < 0.06
        for branch in (1.0, -1.0):
            places = branch * along[on_hyperbola & (along * branch > 0)]
            np.testing.assert_allclose([places.min(), places.max()], [0.5, 2.0], atol=1e-6)


def test_a_field_that_is_not_finite_somewhere_keeps_its_nullclines():
    """log x has no value on a quarter of the window: no velocity, no nullcline. Nor has x / sin x at 0, beside it 1."""
    first, second = found(lambda x, y: [jnp.log(x), y * x / jnp.sin(x)], (-1, 3), WINDOW, 81)
    (line,) = first
    np.testing.assert_allclose(line[:, 0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.sort(line[[0, -1], 1]), WINDOW, atol=1e-6)
    (line,) = second
    np.testing.assert_allclose(line[:, 1], 0.0, atol=1e-10)
    np.testing.assert_allclose(np.sort(line[[0, -1], 0]), (0, 3), atol=1e-6)
    # The potassium gate of Hodgkin and Huxley's neuron is 0 / 0 at V = −55, a round number.
    rate = lambda V: 0.01 * (V + 55) / (1 - jnp.exp(-(V + 55) / 10))  # noqa: E731
    _, (gate,) = found(lambda V, n: [n, rate(V) * (1 - n) - 0.1 * n], (-80, 20), (0, 1), 21)
    assert np.abs(np.diff(gate[:, 0])).max() < 5 + 1e-3  # no gap longer than a cell
    assert np.ptp(gate[:, 0]) == pytest.approx(100, abs=1e-3)


def test_poles_and_jumps_are_no_nullclines():
    first, second = found(lambda x, y: [1 / x, jnp.tan(2 * y)], WINDOW, WINDOW)
    assert first == ()
    # tan(2y) vanishes at multiples of π/2, and has its poles in between.
    assert sorted(np.mean(curve[:, 1]) for curve in second) == pytest.approx([-np.pi / 2, 0, np.pi / 2])
    first, second = found(lambda x, y: [jnp.sign(x - y), x - jnp.floor(x) - 0.5], WINDOW, WINDOW)
    assert first == ()
    assert sorted(np.mean(curve[:, 0]) for curve in second) == pytest.approx([-1.5, -0.5, 0.5, 1.5])


def test_lines_that_are_touched_without_a_change_of_sign():
    first, second = found(lambda x, y: [(x - y) ** 2, -((x * x + y * y - 1) ** 2)], WINDOW, WINDOW)
    (diagonal,) = first
    np.testing.assert_allclose(diagonal[:, 0], diagonal[:, 1], atol=1e-7)
    assert np.ptp(diagonal, axis=0) == pytest.approx([4, 4], abs=1e-5)
    circle = np.concatenate(second)
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1.0, atol=1e-7)
    # All around, but for a cell where the circle runs along the direction in which its slope is measured.
    assert np.diff(np.sort(np.arctan2(circle[:, 1], circle[:, 0]))).max() < 0.15
    first, second = found(lambda x, y: [x**4, jnp.abs(y - 0.3)], WINDOW, WINDOW)
    assert [np.abs(curve[:, 0]).max() < 1e-3 for curve in first] == [True]
    assert [np.abs(curve[:, 1] - 0.3).max() < 1e-10 for curve in second] == [True]


def test_what_nearly_touches_zero_does_not_vanish():
    assert found(lambda x, y: [x**2 + 1e-5, -(y**2) - 1e-5], WINDOW, WINDOW) == ((), ())


def test_units_do_not_matter():
    first, second = found(lambda x, y: [1e-100 * (x - 1e-9), 1e100 * (y + 2e6)], (0, 3e-9), (-5e6, 0))
    np.testing.assert_allclose(np.concatenate(first)[:, 0], 1e-9, rtol=1e-9)
    np.testing.assert_allclose(np.concatenate(second)[:, 1], -2e6, rtol=1e-9)


def test_nullclines_of_the_velocity_in_a_plane_of_a_larger_flow():
    """Its component along the plane's first axis is z at the plane's place in a third direction, and x + y = 0 elsewhere."""
    flow = lambda t, y, args: jnp.stack([y[0] + y[1] - y[2], y[2] * y[0], y[2]])  # noqa: E731
    plane = cf.plane.coordinate_plane(jnp.array([0.0, 0.0, 0.5]), 0, 1)
    seen = cf.plane.survey(flow, (-1, 1), (-1, 1), plane=plane, resolution=21, nullclines=True)
    assert seen.nullclines is not None
    (first,), (second,) = seen.nullclines
    np.testing.assert_allclose(first.sum(axis=1), 0.5, atol=1e-10)
    np.testing.assert_allclose(second[:, 0], 0.0, atol=1e-10)
    listed = seen.to_xarray()
    np.testing.assert_array_equal(listed["nullcline_0_position"], first)
    assert set(listed["nullcline_1"].values) == {0}
    assert cf.plane.survey(flow, (-1, 1), (-1, 1), plane=plane, resolution=21).nullclines is None
