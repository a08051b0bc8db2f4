"""The Helmholtz split: fields whose parts are known, orthogonality, units and turns; and its picture."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array
from reference_systems import Linear, lorenz

import curlflow as cf

WINDOW = ((0.0, np.pi), (0.0, 2 * np.pi))


class Known(eqx.Module):
    """−a ∇(sin x sin y) + b ∇⊥(sin x sin 2y) + (c, d): a gradient, a rotational and a harmonic part on the window above."""

    sizes: Array

    def __call__(self, t: Any, w: Array, args: Any = None) -> Array:
        (x, y), (a, b, c, d) = w, self.sizes
        gradient = -a * jnp.stack([jnp.cos(x) * jnp.sin(y), jnp.sin(x) * jnp.cos(y)])
        rotational = b * jnp.stack([-2 * jnp.sin(x) * jnp.cos(2 * y), jnp.cos(x) * jnp.sin(2 * y)])
        return gradient + rotational + jnp.stack([c, d])


@given(st.lists(st.floats(0.1, 2.0), min_size=4, max_size=4))
def test_the_three_parts_of_a_known_field_are_told_apart(sizes: list[float]):
    a, b, c, d = sizes
    split = cf.gradient.helmholtz_split(Known(jnp.array(sizes)), *WINDOW, resolution=21)
    X, Y = np.meshgrid(split.x, split.y)
    np.testing.assert_allclose(split.stream_function, b * np.sin(X) * np.sin(2 * Y), atol=1e-9)
    np.testing.assert_allclose(
        split.harmonic, np.broadcast_to(np.reshape([c, d], (2, 1, 1)), (2, 21, 21)), atol=1e-8
    )
    gradient = -a * np.stack([np.cos(X) * np.sin(Y), np.sin(X) * np.cos(Y)])
    np.testing.assert_allclose(split.gradient, gradient + split.harmonic, atol=1e-8)
    np.testing.assert_allclose(split.gradient + split.rotational, split.velocity, atol=1e-8)
    # Mean squares over the window: a²/2, 5 b²/4, c² + d².
    total = a**2 / 2 + 5 * b**2 / 4 + c**2 + d**2
    assert split.rotational_share == pytest.approx(5 * b**2 / 4 / total, rel=1e-9)
    assert split.harmonic_share == pytest.approx((c**2 + d**2) / total, rel=1e-9)
    assert split.gradient_share == pytest.approx(1 - 5 * b**2 / 4 / total, rel=1e-9)
    assert split.residual < 1e-15


def test_the_potential_is_what_the_gradient_part_runs_down():
    split = cf.gradient.helmholtz_split(Known(jnp.array([1.0, 0.5, 0.3, -0.2])), *WINDOW, resolution=201)
    along_y, along_x = np.gradient(split.potential, split.y, split.x, edge_order=2)
    np.testing.assert_allclose(-np.stack([along_x, along_y]), split.gradient, atol=2e-3)
    along_y, along_x = np.gradient(split.stream_function, split.y, split.x, edge_order=2)
    np.testing.assert_allclose(np.stack([-along_y, along_x]), split.rotational, atol=2e-3)


def test_a_gradient_flow_has_no_rotational_part():
    split = cf.gradient.helmholtz_split(cf.toy_flow(flip=None), (-2.5, 2.0), (-1.0, 3.0))
    assert split.rotational_share < 1e-20
    assert split.gradient_share == pytest.approx(1.0, abs=1e-11)  # the rounding of the modes' eigenvalues
    loss = np.asarray(jax.vmap(jax.vmap(cf.toy_flow(flip=None).loss))(grid(split)))
    difference = split.potential - loss
    np.testing.assert_allclose(difference, difference[0, 0], atol=1e-11)


def grid(split: cf.gradient.HelmholtzSplit) -> Array:
    return jnp.stack(jnp.meshgrid(split.x, split.y), axis=-1)


def test_a_rotation_has_the_torsion_function_of_the_window_as_its_stream_function():
    """∆ψ = 2 with ψ = 0 on the sides of a square: the smallest value −0.1473 a², and 16.3 % left as harmonic."""
    split = cf.gradient.helmholtz_split(
        Linear(jnp.array([[0.0, -1.0], [1.0, 0.0]])), (-0.5, 0.5), (-0.5, 0.5)
    )
    odd = np.arange(1, 60, 2)
    m, n = np.meshgrid(odd, odd)
    series = -32 / np.pi**4 * np.sum(np.sin(m * np.pi / 2) * np.sin(n * np.pi / 2) / (m * n * (m**2 + n**2)))
    assert split.stream_function.min() == pytest.approx(series, rel=1e-3)
    # ∫|∇ψ|² = −2 ∫ψ, a torsion constant of 0.140577 a⁴ / 4, over the ∫ r² = a⁴/6 of the rotation.
    assert split.rotational_share == pytest.approx(0.1405770 * 6, rel=1e-5)
    assert split.harmonic_share == pytest.approx(1 - split.rotational_share, abs=1e-8)


@given(st.floats(0.1, 10.0), st.floats(-5.0, 5.0))
def test_shares_do_not_depend_on_units_of_length_or_time(size: float, factor: float):
    flow = cf.toy_flow(1.0, flip="readout")
    plain = cf.gradient.helmholtz_split(flow, (-1.0, 2.0), (-1.5, 1.5), resolution=5)
    scaled = cf.gradient.helmholtz_split(
        _Rescaled(flow, jnp.asarray(size), jnp.asarray(factor if abs(factor) > 0.1 else 1.0)),
        (-size, 2 * size),
        (-1.5 * size, 1.5 * size),
        resolution=5,
    )
    for name in ("gradient_share", "rotational_share", "harmonic_share"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-9)


class _Rescaled(eqx.Module):
    flow: cf.models.ToyFlow
    size: Array
    factor: Array

    def __call__(self, t: Any, y: Array, args: Any = None) -> Array:
        return self.factor * self.flow(t, y / self.size)


def test_turning_every_arrow_exchanges_divergence_and_curl():
    """v turned by 90° has the potential's place taken by the stream function, as far as the boundary does not speak."""
    field = Known(jnp.array([1.0, 0.7, 0.4, 0.1]))
    split = cf.gradient.helmholtz_split(field, *WINDOW)
    turned = cf.gradient.helmholtz_split(
        lambda t, y, args: jnp.stack([-field(t, y)[1], field(t, y)[0]]), *WINDOW
    )
    assert turned.rotational_share == pytest.approx(split.gradient_share - split.harmonic_share, rel=1e-9)
    assert turned.harmonic_share == pytest.approx(split.harmonic_share, rel=1e-9)


def test_in_a_plane_of_a_larger_flow_the_component_in_the_plane_is_split():
    plane = cf.plane.coordinate_plane(jnp.array([0.0, 0.0, 20.0]), 0, 1)
    split = cf.gradient.helmholtz_split(lorenz, (-10.0, 10.0), (-20.0, 20.0), plane=plane)
    # ẋ = 10 (y − x), ẏ = 8 x − y: the curl is 8 − 10 everywhere, a fifth as fast a rotation as the strain.
    expected = cf.gradient.helmholtz_split(
        Linear(jnp.array([[-10.0, 10.0], [8.0, -1.0]])), (-10.0, 10.0), (-20.0, 20.0)
    )
    np.testing.assert_allclose(split.rotational, expected.rotational, atol=1e-9)
    assert 0 < split.rotational_share < 0.02


def test_a_higher_degree_leaves_less_unexplained():
    flow = cf.toy_flow(flip="readout")
    residuals = [
        cf.gradient.helmholtz_split(flow, (-2, 2), (-2, 2), degree=degree, resolution=3).residual
        for degree in (4, 8, 16)
    ]
    assert residuals[0] > 10 * residuals[1] > 100 * residuals[2]


def test_a_field_that_stands_still_has_no_shares():
    split = cf.gradient.helmholtz_split(Linear(jnp.zeros((2, 2))), (-1, 1), (-1, 1))
    assert (split.gradient_share, split.rotational_share, split.harmonic_share, split.residual) == (
        0,
        0,
        0,
        0,
    )


def test_it_becomes_a_dataset():
    data = cf.gradient.helmholtz_split(cf.toy_flow(), (-1, 1), (-2, 2), resolution=7).to_xarray()
    assert data.velocity.dims == ("component", "y", "x")
    assert data.sizes == {"component": 2, "y": 7, "x": 7}
    assert data.attrs["gradient_share"] + data.attrs["rotational_share"] == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"xlim": (1.0, 0.0)}, "`xlim` must run from low to high"),
        ({"degree": 1}, "`degree` must be at least 2"),
        ({"resolution": 1}, "`resolution` must be at least 2"),
        ({"system": lorenz}, "`plane` must be given"),
        ({"system": lambda t, y, args: y / 0.0}, "`velocity in the window` must be finite"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.gradient.helmholtz_split(**{"system": cf.toy_flow(), "xlim": (-1, 1), "ylim": (-1, 1)} | options)


# ------------------------------------------------------------------------------------------ its picture


def test_the_picture_has_the_velocity_and_its_two_parts():
    split = cf.gradient.helmholtz_split(cf.toy_flow(flip="readout"), (-2, 2), (-2, 1), resolution=31)
    panels = cf.plot.helmholtz(split)
    titles = [ax.get_title(loc="left") for ax in panels.axes]
    assert titles[0] == "a  velocity"
    assert titles[1].startswith(f"b  gradient, {100 * split.gradient_share:.0f} % (")
    assert titles[2] == f"c  rotational, {100 * split.rotational_share:.0f} %"
    assert all(ax.get_xlim() == (-2, 2) and ax.get_ylim() == (-2, 1) for ax in panels.axes)
    assert None not in panels.streamlines
    for levels, values in zip(panels.levels, (split.potential, split.stream_function), strict=True):
        assert levels is not None
        np.testing.assert_allclose((levels.zmin, levels.zmax), (values.min(), values.max()))


def test_a_part_that_vanishes_is_left_empty():
    panels = cf.plot.helmholtz(
        cf.gradient.helmholtz_split(cf.toy_flow(flip=None), (-2, 2), (-2, 2), resolution=31)
    )
    assert panels.streamlines[2] is None
    assert panels.levels[1] is None
    assert [text.get_text() for text in panels.axes[2].texts] == ["none"]


def test_it_draws_on_the_axes_given():
    _, axes = plt.subplots(1, 3)
    split = cf.gradient.helmholtz_split(cf.toy_flow(), (-1, 1), (-1, 1), resolution=11)
    assert list(cf.plot.helmholtz(split, axes=axes).axes) == list(axes)
    with pytest.raises(ValueError, match="`axes` must be three axes, but are 2"):
        cf.plot.helmholtz(split, axes=axes[:2])
