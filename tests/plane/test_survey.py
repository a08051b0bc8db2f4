"""Surveys of planar flows: fixed points, curves of them and separatrices, where all of them are known exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from reference_systems import lorenz, van_der_pol

import curlflow as cf

WINDOW = (-2.5, 2.5)


@pytest.fixture(scope="module", params=[1.0, -0.49])
def s(request: pytest.FixtureRequest) -> float:
    return request.param


@pytest.fixture(scope="module")
def curl(s: float) -> cf.plane.Survey:
    return cf.plane.survey(cf.toy_flow(s, flip="readout"), WINDOW, WINDOW, resolution=41)


@pytest.fixture(scope="module")
def gradient(s: float) -> cf.plane.Survey:
    return cf.plane.survey(cf.toy_flow(s, flip=None), WINDOW, WINDOW, resolution=41)


# ------------------------------------------------------------------------------------- the toy model


def test_grid_velocity_and_loss(curl: cf.plane.Survey, s: float):
    w1, w2 = np.meshgrid(np.linspace(*WINDOW, 41), np.linspace(*WINDOW, 41))
    error = s - w1 * w2
    np.testing.assert_array_equal(curl.x, np.linspace(*WINDOW, 41))
    np.testing.assert_allclose(curl.velocity, [w2 * error, -w1 * error], atol=1e-13)
    np.testing.assert_allclose(curl.loss, error**2 / 2, atol=1e-13)
    np.testing.assert_allclose(curl.out_of_plane, 0.0, atol=1e-14)
    assert curl.plane.labels == ("$w_1$", "$w_2$")


def test_the_origin_is_the_isolated_fixed_point(curl: cf.plane.Survey, gradient: cf.plane.Survey):
    for seen, kind in ((curl, "centre"), (gradient, "saddle")):
        assert [point.kind for point in seen.fixed_points] == [kind]
        np.testing.assert_allclose(seen.fixed_points[0].point, 0.0, atol=1e-9)


def test_the_solution_manifold_is_both_branches_of_the_hyperbola(
    curl: cf.plane.Survey, gradient: cf.plane.Survey, s: float
):
    for seen in (curl, gradient):
        assert len(seen.curves) == 2
        assert sorted(np.sign(curve.points[0, 0]) for curve in seen.curves) == [-1.0, 1.0]
        for curve in seen.curves:
            np.testing.assert_allclose(curve.points.prod(axis=1), s, rtol=1e-12)
            # Without gaps, and from edge to edge of the window.
            assert np.linalg.norm(np.diff(curve.points, axis=0), axis=1).max() < 0.02
            ends = np.abs(curve.points[[0, -1]])
            assert ((ends.max(axis=1) > 2.5) & (ends.max(axis=1) < 2.53)).all()
            np.testing.assert_allclose(np.sort(ends.argmax(axis=1)), [0, 1])


def test_the_manifolds_stability_is_the_eigenvalue_across_it(
    curl: cf.plane.Survey, gradient: cf.plane.Survey
):
    for curve in curl.curves:
        w1, w2 = curve.points.T
        np.testing.assert_allclose(curve.transverse, w1**2 - w2**2, atol=1e-11)
    for curve in gradient.curves:
        np.testing.assert_allclose(curve.transverse, -(curve.points**2).sum(axis=1), rtol=1e-12)
        assert curve.stability_changes().shape == (0, 2)


def test_the_manifold_changes_stability_where_both_weights_are_equal(curl: cf.plane.Survey, s: float):
    changes = np.concatenate([curve.stability_changes() for curve in curl.curves])
    root = abs(s) ** 0.5
    np.testing.assert_allclose(
        sorted(changes.tolist()), [[-root, -np.sign(s) * root], [root, np.sign(s) * root]], atol=1e-4
    )


def test_the_separatrix_is_the_circle_of_twice_the_teacher(curl: cf.plane.Survey, s: float):
    """Not of the teacher itself, as the paper prints: the hyperbola touches the circle w1² + w2² = 2|s| only."""
    assert curl.separatrices
    assert set(curl.separatrix_kinds) == {"tangent orbit"}
    points = np.concatenate(curl.separatrices)
    np.testing.assert_allclose((points**2).sum(axis=1), 2 * abs(s), atol=1e-3)
    # All the way around.
    angles = np.sort(np.arctan2(*points.T))
    assert np.diff(angles, append=angles[0] + 2 * np.pi).max() < 0.05


def test_the_saddles_manifolds_are_the_diagonals(gradient: cf.plane.Survey, s: float):
    assert len(gradient.separatrices) == 4
    stable = [orbit for orbit in gradient.separatrices if orbit[-1].prod() * s < 0]
    unstable = [orbit for orbit in gradient.separatrices if orbit[-1].prod() * s > 0]
    assert (len(stable), len(unstable)) == (2, 2)
    for orbit, kind in zip(gradient.separatrices, gradient.separatrix_kinds, strict=True):
        assert kind == ("stable manifold" if orbit[-1].prod() * s < 0 else "unstable manifold")
    for orbit in (*stable, *unstable):
        np.testing.assert_allclose(np.abs(orbit[:, 0]), np.abs(orbit[:, 1]), atol=1e-3)
        assert np.abs(orbit[0]).max() < 0.01
    # The stable ones come from beyond the window, the unstable ones end at the solutions nearest to the origin.
    for orbit in stable:
        assert np.abs(orbit[-1]).min() > 2.49
    for orbit in unstable:
        np.testing.assert_allclose(np.abs(orbit[-1]), abs(s) ** 0.5, atol=1e-2)


def test_flipping_the_other_layer_runs_the_same_picture_backwards():
    forwards, backwards = (
        cf.plane.survey(cf.toy_flow(1.0, flip=flip), (0.2, 2.5), WINDOW, resolution=5)
        for flip in ("readout", "hidden")
    )
    np.testing.assert_allclose(backwards.velocity, -forwards.velocity, atol=1e-14)
    (ahead,), (behind,) = forwards.curves, backwards.curves
    assert (ahead.transverse[ahead.points[:, 0] > 1.01] > 0).all()
    assert (behind.transverse[behind.points[:, 0] > 1.01] < 0).all()


def test_a_window_without_fixed_points_is_empty():
    seen = cf.plane.survey(cf.toy_flow(1.0), (1.2, 2.0), (1.2, 2.0), resolution=5)
    assert (seen.fixed_points, seen.curves, seen.separatrices) == ((), (), ())
    data = seen.to_xarray()
    assert [data.sizes[name] for name in ("fixed_point", "curve_point", "separatrix_point")] == [0, 0, 0]


def test_the_dataset_lists_what_was_found(curl: cf.plane.Survey):
    data = curl.to_xarray()
    np.testing.assert_array_equal(data["velocity"], curl.velocity)
    np.testing.assert_array_equal(data["loss"], curl.loss)
    np.testing.assert_allclose(data["fixed_point_position"], [[0, 0]], atol=1e-9)
    assert data["fixed_point_kind"].values.tolist() == ["centre"]
    for i, curve in enumerate(curl.curves):
        here = data["curve"] == i
        np.testing.assert_array_equal(data["curve_position"][here], curve.points)
        np.testing.assert_array_equal(data["curve_transverse"][here], curve.transverse)
    for i, orbit in enumerate(curl.separatrices):
        np.testing.assert_array_equal(data["separatrix_position"][data["separatrix"] == i], orbit)
    assert data["separatrix_kind"].values.tolist() == list(curl.separatrix_kinds)
    assert repr(curl).endswith(
        f"fixed points: 1 isolated, 2 curves; separatrices: {len(curl.separatrices)}; {len(curl.x)} × {len(curl.y)} points"
    )


def test_a_curve_of_fixed_points_says_where_it_attracts(curl: cf.plane.Survey):
    for curve in curl.curves:
        words = f"FixedCurve: {(curve.transverse < 0).mean():.1%} of it attracting; changes of stability: 1; "
        assert str(curve).startswith(words)


# -------------------------------------------------------------------------------- other planar flows


def pendulum(t, y, args):
    return jnp.stack([y[1], -jnp.sin(y[0])])


def test_the_pendulums_separatrices_have_the_energy_of_its_upright_rest():
    seen = cf.plane.survey(pendulum, (-4.0, 4.0), (-3.0, 3.0), resolution=5)
    assert seen.loss is None
    assert seen.plane.labels == ("$y_1$", "$y_2$")
    kinds = sorted((round(float(point.point[0]), 4), str(point.kind)) for point in seen.fixed_points)
    assert kinds == [(-3.1416, "saddle"), (0.0, "centre"), (3.1416, "saddle")]
    # Between the two saddles, and from them to the edges of the window, out of it or into it.
    assert [
        seen.separatrix_kinds.count(kind) for kind in ("connection", "stable manifold", "unstable manifold")
    ] == [2, 2, 2]
    angle, speed = np.concatenate(seen.separatrices).T
    np.testing.assert_allclose(speed**2 / 2 - np.cos(angle), 1.0, atol=1e-5)
    between = np.abs(angle) < 0.1
    assert speed[between].max() == pytest.approx(2.0, abs=0.01)
    assert speed[between].min() == pytest.approx(-2.0, abs=0.01)


def test_a_limit_cycle_is_no_separatrix():
    seen = cf.plane.survey(van_der_pol, (-3.0, 3.0), (-3.0, 3.0), resolution=5, args=1.0)
    assert [point.kind for point in seen.fixed_points] == ["unstable focus"]
    assert (seen.curves, seen.separatrices) == ((), ())


def test_time_reaches_the_vector_field():
    seen = cf.plane.survey(
        lambda t, y, args: t * jnp.ones(2) * args, (0.0, 1.0), (0.0, 1.0), resolution=2, t=3.0, args=2.0
    )
    np.testing.assert_array_equal(seen.velocity, np.full((2, 2, 2), 6.0))


# ---------------------------------------------------------------------------- planes of larger flows


def test_a_hidden_units_own_plane_is_invariant():
    """One output, C = I, no input flipped: W1 = x u sᵀ/|s|, W2 = y uᵀ is closed for any direction u of equal units."""
    flow = cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, -1])
    origin = cf.Weights(np.zeros((2, 2)), np.zeros((1, 2)))
    saddle = cf.plane.eigenplane(flow, origin, (0, 5))
    values = cf.spectrum(flow, origin).eigenvalues
    centre = cf.plane.eigenplane(flow, origin, (int(np.argmax(values.imag)), 0))
    for plane in (saddle, centre):
        seen = cf.plane.survey(flow, WINDOW, WINDOW, plane=plane, resolution=7)
        np.testing.assert_allclose(seen.out_of_plane, 0.0, atol=1e-12)
        assert np.abs(seen.velocity).max() > 1
        assert (seen.fixed_points, seen.curves, seen.separatrices) == ((), (), ())
    mixed = cf.plane.Plane(origin, (saddle.axes + centre.axes) / 2**0.5, ("", ""))
    assert cf.plane.survey(flow, WINDOW, WINDOW, plane=mixed, resolution=7).out_of_plane.max() > 0.1


def test_velocity_and_its_share_out_of_a_plane_of_weights():
    flow, student, _ = cf.ensembles.student_teacher(jax.random.key(0), N=3, M=2, alpha_r=0.4)
    plane = cf.plane.coordinate_plane(student, ("W1", 0, 1), ("W2", 0, 2))
    seen = cf.plane.survey(flow, (0.0, 2.0), (-1.0, 1.0), plane=plane, resolution=3)
    for i, y in enumerate(seen.y):
        for j, x in enumerate(seen.x):
            W = cf.Weights(student.W1.at[0, 1].set(x), student.W2.at[0, 2].set(y))
            velocity = flow(0.0, W)
            inside = np.array([velocity.W1[0, 1], velocity.W2[0, 2]])
            np.testing.assert_allclose(seen.velocity[:, i, j], inside, atol=1e-13)
            speed = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jtu.tree_leaves(velocity)))
            share = np.sqrt(1 - (inside @ inside) / speed**2)
            assert seen.out_of_plane[i, j] == pytest.approx(share, rel=1e-9)
            assert seen.loss is not None
            assert seen.loss[i, j] == pytest.approx(float(flow.loss(W)), rel=1e-12)


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "system", [lorenz, cf.CurlFlow([1.0, 2.0], [1, 1], [1, -1]), lambda t, y, args: {"x": y["x"]}]
)
def test_a_flow_that_is_not_planar_needs_a_plane(system: Any):
    with pytest.raises(
        ValueError, match="`plane` must be given for a flow whose state is not an array of two"
    ):
        cf.plane.survey(system, WINDOW, WINDOW)


def test_a_planar_flow_that_fails_says_why():
    with pytest.raises(ValueError, match=r"`plane` must be given .* raised TypeError"):
        cf.plane.survey(van_der_pol, WINDOW, WINDOW)  # its args are missing


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"xlim": (1.0, -1.0)}, r"`xlim` must run from low to high, but is \(1, -1\)"),
        ({"xlim": (1.0, 1.0)}, "`xlim` must run from low to high"),
        ({"ylim": (0.0, np.inf)}, "`ylim` must be finite, but is inf"),
        ({"ylim": 3.0}, r"`ylim` must be a pair \(low, high\), but is 3.0"),
        ({"ylim": (1.0, 2.0, 3.0)}, r"`ylim` must be a pair \(low, high\), but is \(1.0, 2.0, 3.0\)"),
        ({"ylim": ("a", 2.0)}, "`ylim` must be a number, but is 'a'"),
        ({"resolution": 1}, "`resolution` must be at least 2, but is 1"),
        ({"resolution": 0}, "`resolution` must be at least 1, but is 0"),
        ({"resolution": 10.5}, "`resolution` must be a whole number, but is 10.5"),
        ({"system": 1.0}, "`system` must be a vector field"),
        ({"plane": cf.plane.coordinate_plane(jnp.zeros(3), 0, 1)}, r"must have shape \(2,\)"),
    ],
)
def test_bad_surveys_are_refused_in_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.plane.survey(**({"system": cf.toy_flow(), "xlim": WINDOW, "ylim": WINDOW} | options))
