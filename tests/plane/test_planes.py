"""Planes in state space: their coordinates, and the axes that the three ways of making one give them."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_systems import Linear

import curlflow as cf

WEIGHTS = cf.Weights(W1=np.arange(1.0, 7.0).reshape(3, 2), W2=[[7.0, 8.0, 9.0]])


def flatten(y: Any) -> np.ndarray:
    return np.asarray(jax.flatten_util.ravel_pytree(y)[0])


def real(*shape: int, bound: float = 10.0) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape, elements=st.floats(-bound, bound, width=32))


# ---------------------------------------------------------------------------------- coordinates of points


@given(real(2, 5), real(5), real(3, 2))
def test_projecting_what_was_embedded_gives_it_back(span: np.ndarray, origin: np.ndarray, points: np.ndarray):
    axes = np.linalg.qr(span.T + np.eye(5)[:, :2] * 100)[0].T
    plane = cf.plane.Plane({"a": jnp.asarray(origin[:3]), "b": jnp.asarray(origin[3:])}, axes, ("x", "y"))
    states = plane.embed(points)
    assert states["a"].shape == (3, 3)
    np.testing.assert_allclose(states["b"], origin[3:] + points @ axes[:, 3:], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(plane.project(states), points, atol=1e-12)


@given(real(6), real(6))
def test_a_projection_is_the_nearest_point_of_the_plane(y: np.ndarray, elsewhere: np.ndarray):
    plane = cf.plane.coordinate_plane(jnp.asarray(elsewhere), 4, 1)
    shadow = plane.project(jnp.asarray(y)[None])
    np.testing.assert_array_equal(shadow, [[y[4], y[1]]])
    off = y - flatten(plane.embed(shadow))
    np.testing.assert_allclose(plane.axes @ off, 0.0, atol=1e-12)


# --------------------------------------------------------------------------------- planes of coordinates


def test_a_coordinate_plane_holds_two_weights_and_leaves_the_others_where_they_are():
    plane = cf.plane.coordinate_plane(WEIGHTS, ("W1", 2, 0), ("W2", 0, 1))
    assert plane.labels == ("W1[2, 0]", "W2[0, 1]")
    assert not plane.is_whole_space
    states = plane.embed([[0.5, -0.25]])
    np.testing.assert_array_equal(states.W1, [[[1, 2], [3, 4], [0.5, 6]]])
    np.testing.assert_array_equal(states.W2, [[[7, -0.25, 9]]])
    np.testing.assert_array_equal(plane.project(jtu.tree_map(lambda leaf: leaf[None], WEIGHTS)), [[5.0, 8.0]])


def test_a_plane_says_what_it_holds_fixed():
    assert str(cf.plane.coordinate_plane(WEIGHTS, ("W1", 2, 0), ("W2", 0, 1))) == (
        "Plane of W1[2, 0] and W2[0, 1]; held fixed: W1[0, 0] = 1, W1[0, 1] = 2, W1[1, 0] = 3, W1[1, 1] = 4, "
        "W1[2, 1] = 6, W2[0, 0] = 7 and 1 more"
    )
    assert (
        str(cf.plane.coordinate_plane([1.0, 0.25, 3.0], 2, 0)) == "Plane of y3 and y1; held fixed: y2 = 0.25"
    )
    assert str(cf.plane.coordinate_plane([1.0, 2.0], 0, 1)) == "Plane of y1 and y2"
    askew = cf.plane.eigenplane(Linear(jnp.asarray(matrix_with([3.0, 1.0, -1.0, -2.0])[0])), jnp.zeros(4))
    assert str(askew).endswith(", through a state of 4 numbers")


def test_coordinates_are_counted_or_named():
    by_number = cf.plane.coordinate_plane(WEIGHTS, 4, 7)
    by_name = cf.plane.coordinate_plane(WEIGHTS, ("W1", 2, 0), ("W2", 0, 1))
    assert by_number.labels == by_name.labels
    np.testing.assert_array_equal(by_number.axes, by_name.axes)
    assert cf.plane.coordinate_plane(jnp.zeros(3), 2, 0).labels == ("$y_3$", "$y_1$")
    assert cf.plane.coordinate_plane(jnp.zeros(12), ("y", 9), 0).labels == ("$y_{10}$", "$y_1$")
    assert cf.plane.coordinate_plane({"a": jnp.zeros(3), "b": 1.0}, ("a", 1), ("b",)).labels == ("a[1]", "b")
    assert cf.plane.coordinate_plane(jnp.zeros(2), 1, 0).is_whole_space


@pytest.mark.parametrize("which", [9, -1, 1.5, ("W1", 0, 2), ("W3", 0, 0), ("W1",), "W1"])
def test_a_coordinate_that_does_not_exist_is_refused(which: Any):
    with pytest.raises(ValueError, match=r"must be an index below 9 .* has W1\[0, 0\] … W2\[0, 2\]"):
        cf.plane.coordinate_plane(WEIGHTS, 0, which)


def test_bad_coordinate_planes_are_refused():
    with pytest.raises(ValueError, match=r"`first` and `second` must differ, but both are W1\[0, 1\]"):
        cf.plane.coordinate_plane(WEIGHTS, ("W1", 0, 1), 1)
    with pytest.raises(ValueError, match=r"`origin\.W2` must be finite, but has nan at index \(0, 0\)"):
        cf.plane.coordinate_plane(cf.Weights([[1.0]], [[np.nan]]), 0, 1)


# --------------------------------------------------------------------------------- planes of eigenvectors


def matrix_with(values: list[Any], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A matrix with these eigenvalues (pairs of real numbers stand for a ± bi) and its real basis, as columns."""
    n = sum(2 if isinstance(value, tuple) else 1 for value in values)
    basis = np.random.default_rng(seed).normal(size=(n, n))
    blocks, at = np.zeros((n, n)), 0
    for value in values:
        block = np.array(
            [[value[0], value[1]], [-value[1], value[0]]] if isinstance(value, tuple) else [[value]]
        )
        blocks[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return basis @ blocks @ np.linalg.inv(basis), basis


def assert_spans(plane: cf.plane.Plane, vectors: np.ndarray) -> None:
    axes = np.asarray(plane.axes)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(vectors - axes.T @ (axes @ vectors), 0.0, atol=1e-9)


def test_the_plane_of_two_real_eigenvectors():
    A, basis = matrix_with([3.0, 1.0, -1.0, -2.0])
    system, y = Linear(jnp.asarray(A)), jnp.zeros(4)
    plane = cf.plane.eigenplane(system, y, (0, 2))
    assert_spans(plane, basis[:, [0, 2]])
    along = basis[:, 0] / np.linalg.norm(basis[:, 0])
    assert abs(along @ plane.axes[0]) == pytest.approx(1.0, abs=1e-12)
    assert plane.labels == ("eigenvector 0 (λ = 3)", "eigenvector 2, orthogonal (λ = -1)")


def test_the_plane_of_a_complex_pair():
    A, basis = matrix_with([1.0, (-0.5, 2.0), -3.0])
    system, y = Linear(jnp.asarray(A)), jnp.zeros(4)
    for modes in ((1, 2), (2, 1), (1, 3), (1, 1)):
        plane = cf.plane.eigenplane(system, y, modes)
        assert_spans(plane, basis[:, [1, 2]])
        assert plane.labels[0].startswith(f"eigenvector {modes[0]}, Re (λ = -0.50 ±")


def test_a_plane_of_half_a_complex_pair_is_refused():
    system = Linear(jnp.asarray(matrix_with([1.0, (-0.5, 2.0), -3.0])[0]))
    with pytest.raises(ValueError, match=r"only mode 1 is complex: take modes=\(1, 0\)"):
        cf.plane.eigenplane(system, jnp.zeros(4), (0, 1))


@pytest.mark.parametrize("modes", [(0, 4), (-1, 0), (0,), (0, 1, 2), (0.0, 1)])
def test_eigenvectors_that_do_not_exist_are_refused(modes: Any):
    system = Linear(jnp.asarray(matrix_with([3.0, 1.0, -1.0, -2.0])[0]))
    with pytest.raises(ValueError, match="`modes` must be two whole numbers from 0 to 3, but are"):
        cf.plane.eigenplane(system, jnp.zeros(4), modes)


def test_parallel_eigenvectors_are_refused():
    with pytest.raises(ValueError, match="`modes` must belong to two independent eigenvectors"):
        cf.plane.eigenplane(Linear(jnp.array([[1.0, 1.0], [0.0, 1.0]])), jnp.zeros(2))


# ------------------------------------------------------------------------ planes of principal components


def orbit_of(ys: Any) -> cf.Trajectory:
    """A trajectory with these states."""
    times = len(jtu.tree_leaves(ys)[0])
    return cf.Trajectory(
        np.arange(times, dtype=float), ys, cf.Outcome(cf.Ending.COMPLETED, None, "Made up."), {}, None
    )


def test_the_principal_plane_of_a_planar_orbit_is_its_plane():
    """An ellipse with half axes 3 and 1, once around, in a random plane of five dimensions."""
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0]
    angles = np.arange(200) * 2 * np.pi / 200
    centre = np.arange(5.0)
    plane = cf.plane.principal_plane(
        orbit_of(jnp.asarray(centre + np.stack([3 * np.cos(angles), np.sin(angles)], 1) @ frame.T))
    )
    np.testing.assert_allclose(plane.origin, centre, atol=1e-12)
    assert abs(frame[:, 0] @ plane.axes[0]) == pytest.approx(1.0, abs=1e-12)
    assert abs(frame[:, 1] @ plane.axes[1]) == pytest.approx(1.0, abs=1e-12)
    # The variances are 9/2 and 1/2.
    assert plane.labels == ("component 1 (90 %)", "component 2 (10 %)")


def test_the_principal_plane_of_weights_embeds_weights():
    rng = np.random.default_rng(0)
    orbit = orbit_of(cf.Weights(rng.normal(size=(9, 3, 2)), rng.normal(size=(9, 1, 3))))
    plane = cf.plane.principal_plane(orbit)
    assert isinstance(plane.embed([[0.0, 0.0]]), cf.Weights)
    np.testing.assert_allclose(plane.project(orbit.ys).mean(0), 0.0, atol=1e-12)


def test_orbits_without_a_plane_are_refused():
    line = orbit_of(jnp.linspace(0.0, 1.0, 9)[:, None] * jnp.array([1.0, 2.0, 3.0]))
    with pytest.raises(
        ValueError, match="`trajectory` must span a plane, but its saved states lie on a line"
    ):
        cf.plane.principal_plane(line)
    with pytest.raises(ValueError, match="must span a plane"):
        cf.plane.principal_plane(orbit_of(jnp.ones((9, 3))))
    batch = cf.Trajectory(line.ts, line.ys[:, None], (line.outcome,), {}, None)
    with pytest.raises(ValueError, match=r"is a batch: take trajectory\.member\(i\)"):
        cf.plane.principal_plane(batch)
