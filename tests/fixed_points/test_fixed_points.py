"""Fixed points: what `classify` says of them against theory, and what `find_fixed_points` finds of known ones."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_systems import Linear

import curlflow as cf
from curlflow.fixed_points.box import Box


def counts(point: cf.FixedPoint) -> tuple[int, int, int, int]:
    return point.n_stable, point.n_unstable, point.n_centre, point.n_manifold


def classify_linear(A: Any) -> cf.FixedPoint:
    return cf.classify(Linear(jnp.asarray(A, jnp.float64)), jnp.zeros(len(A)))


def network(seed: int, *, N: int, M: int, P: int, correlated: bool = True) -> tuple[cf.CurlFlow, cf.Weights]:
    """A flow with random signs in both layers and a correlated input, and a point of its solution manifold."""
    weights, hidden, readout, inputs = jax.random.split(jax.random.key(seed), 4)
    teacher = cf.ensembles.gaussian_weights(weights, N=N, M=M, P=P)
    d1 = jax.random.rademacher(hidden, (M,), jnp.float64)
    d2 = jax.random.rademacher(readout, (N,), jnp.float64)
    C = cf.ensembles.sample_covariance(inputs, M=M, samples=4 * M) if correlated else None
    return cf.CurlFlow(teacher.end_to_end, d1, d2, C), teacher


def numbers(flow: cf.CurlFlow) -> tuple[np.ndarray, ...]:
    S, d1, d2 = (np.asarray(a) for a in (flow.S, flow.d1, flow.d2))
    return S, d1, d2, np.eye(len(d1)) if flow.C is None else np.asarray(flow.C)


def counts_on_solution_manifold(flow: cf.CurlFlow, W: cf.Weights) -> tuple[int, int, int, int]:
    """From the signatures of the P symmetric M × M matrices W1ᵀ D2 W1 + g_p D1, which C ≻ 0 does not change."""
    (_, d1, d2, _), W1, W2 = numbers(flow), np.asarray(W.W1), np.asarray(W.W2)
    g = np.linalg.eigvalsh(W2 @ W2.T)
    across = np.concatenate([np.linalg.eigvalsh(W1.T @ np.diag(d2) @ W1 + g_p * np.diag(d1)) for g_p in g])
    assert np.abs(across).min() > 1e-6
    stable = int((across > 0).sum())
    return stable, len(across) - stable, 0, W1.size + W2.size - len(across)


def counts_at_origin(flow: cf.CurlFlow) -> tuple[int, int, int, int]:
    """λ² = d2_i μ_p, with μ_p the eigenvalues of S C D1 C Sᵀ: a saddle plane or a centre plane each."""
    S, d1, d2, C = numbers(flow)
    squares = np.outer(d2, np.linalg.eigvalsh(S @ C @ np.diag(d1) @ C @ S.T))
    assert np.abs(squares).min() > 1e-6
    saddles, centres = int((squares > 0).sum()), int((squares < 0).sum())
    return saddles, saddles, 2 * centres, d2.size * (d1.size - len(S))


def zero_weights(W: cf.Weights) -> cf.Weights:
    return jtu.tree_map(jnp.zeros_like, W)


# ------------------------------------------------------------------------------------ linear systems


@pytest.mark.parametrize(
    ("kind", "A", "expected"),
    [
        ("stable node", [[-1.0, 0.3], [0.1, -2.0]], (2, 0, 0, 0)),
        ("unstable node", [[1.0, 0.3], [0.1, 2.0]], (0, 2, 0, 0)),
        ("stable node", [[-1.0, 1.0], [0.0, -1.0]], (2, 0, 0, 0)),  # improper: one eigenvector only
        ("stable node", [[-1.0, 1e4], [0.0, -2.0]], (2, 0, 0, 0)),  # far from normal
        ("stable focus", [[-0.1, 1.0], [-1.0, -0.1]], (2, 0, 0, 0)),
        ("unstable focus", [[0.1, 1.0], [-1.0, 0.1]], (0, 2, 0, 0)),
        ("stable focus", [[-1e-6, 1.0], [-1.0, -1e-6]], (2, 0, 0, 0)),  # weak, but no centre
        ("centre", [[0.0, 1.0], [-3.0, 0.0]], (0, 0, 2, 0)),
        ("centre", [[0.5, 1.0], [-3.0, -0.5]], (0, 0, 2, 0)),
        ("saddle", [[1.0, 2.0], [3.0, -1.0]], (1, 1, 0, 0)),
        ("saddle", [[0.1, 2.0], [3.0, 0.1]], (1, 1, 0, 0)),
        ("stable node", [[-1.0, 0.0], [0.0, 0.0]], (1, 0, 0, 1)),  # a line of fixed points
        ("unstable node", [[0.5, 0.5], [0.5, 0.5]], (0, 1, 0, 1)),
        ("degenerate", [[0.0, 1.0], [0.0, 0.0]], (0, 0, 1, 1)),  # shear
        ("degenerate", [[0.0, 0.0], [0.0, 0.0]], (0, 0, 0, 2)),  # nothing but fixed points
    ],
)
@pytest.mark.parametrize("pace", [1e-6, 1.0, 1e6])
def test_planar_linear_systems(kind: str, A: Any, expected: tuple[int, ...], pace: float):
    point = classify_linear(pace * np.asarray(A))
    assert point.kind == kind
    assert counts(point) == expected


def block_diagonal(*blocks: Any) -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    A, at = np.zeros((4, 4)), 0
    for block in map(np.atleast_2d, blocks):
        A[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return rotation @ A @ rotation.T


CENTRE = [[0.0, 2.0], [-1.0, 0.0]]


@pytest.mark.parametrize(
    ("kind", "blocks", "expected"),
    [
        ("saddle-centre", (CENTRE, 1.0, -1.0), (1, 1, 2, 0)),
        ("saddle-centre", (CENTRE, 1.0, 2.0), (0, 2, 2, 0)),
        ("centre", (CENTRE, -1.0, -2.0), (2, 0, 2, 0)),
        ("centre", (CENTRE, CENTRE), (0, 0, 4, 0)),
        ("saddle", ([[0.3, 1.0], [-1.0, 0.3]], -1.0, -2.0), (2, 2, 0, 0)),
        ("stable focus", ([[-0.3, 1.0], [-1.0, -0.3]], -1.0, -2.0), (4, 0, 0, 0)),
        ("saddle", (1.0, -1.0, 0.0, 0.0), (1, 1, 0, 2)),
        ("centre", (CENTRE, 0.0, 0.0), (0, 0, 2, 2)),
    ],
)
def test_linear_systems_of_four_dimensions(kind: str, blocks: Any, expected: tuple[int, ...]):
    point = classify_linear(block_diagonal(*blocks))
    assert point.kind == kind
    assert counts(point) == expected


def test_eigenvalues_are_in_order_and_exactly_zero_along_the_manifold():
    eigenvalues = classify_linear(block_diagonal([[-1.0, 3.0], [-3.0, -1.0]], 2.0, 0.0)).eigenvalues
    np.testing.assert_allclose(eigenvalues, [2.0, 0.0, -1 + 3j, -1 - 3j], atol=1e-13)
    assert eigenvalues[1] == 0


# -------------------------------------------------------------------------- nonlinear, undecided ones


def quadratic(t, y, args):
    return jnp.stack([y[0] ** 2, -y[1]])


def cubic(t, y, args):
    return -(y**3)


def parabola_of_fixed_points(t, y, args):
    return (y[1] - y[0] ** 2) * jnp.stack([jnp.ones_like(y[0]), -jnp.ones_like(y[0])])


def test_a_zero_eigenvalue_of_an_isolated_point_is_degenerate_and_no_manifold():
    saddle_node = cf.classify(quadratic, jnp.zeros(2))
    assert (saddle_node.kind, counts(saddle_node)) == ("degenerate", (1, 0, 1, 0))
    flat = cf.classify(cubic, jnp.zeros(2))
    assert (flat.kind, counts(flat)) == ("degenerate", (0, 0, 2, 0))


def test_a_bent_manifold_is_recognised_by_walking_along_it():
    # Across the parabola y = x² the eigenvalue is −1 − 2x.
    for x, kind in ((0.0, "stable node"), (3.0, "stable node"), (-1.0, "unstable node")):
        point = cf.classify(parabola_of_fixed_points, jnp.array([x, x**2]))
        assert (point.kind, point.n_manifold) == (kind, 1)
        np.testing.assert_allclose(point.eigenvalues.sum(), -1 - 2 * x, rtol=1e-12)


# ------------------------------------------------------------------------------------- the toy model


@pytest.mark.parametrize("s", [1e-6, 1.0, 1e6, -1.0])
class TestToyModel:
    def test_origin_is_a_saddle_of_the_gradient_flow_and_a_centre_of_curl_flow(self, s: float):
        flow, origin = cf.toy_flow(s, flip="readout"), jnp.zeros(2)
        assert cf.classify(flow.gradient_flow(), origin).kind == "saddle"
        for flip in ("readout", "hidden"):
            centre = cf.classify(cf.toy_flow(s, flip=flip), origin)
            assert (centre.kind, counts(centre)) == ("centre", (0, 0, 2, 0))
            np.testing.assert_allclose(centre.eigenvalues, [1j * abs(s), -1j * abs(s)], rtol=1e-13)

    @pytest.mark.parametrize("w1", [0.01, 0.5, 0.9, 1.1, 2.0, 100.0])
    def test_solutions_attract_where_w2_is_the_larger_weight(self, s: float, w1: float):
        flow, w1 = cf.toy_flow(s, flip="readout"), w1 * abs(s) ** 0.5
        w = jnp.array([w1, s / w1])
        kind = "stable node" if abs(s / w1) > w1 else "unstable node"
        point = cf.classify(flow, w)
        assert (point.kind, point.n_manifold, point.n_centre) == (kind, 1, 0)
        np.testing.assert_allclose(np.sum(point.eigenvalues), w1**2 - (s / w1) ** 2, rtol=1e-9)
        backwards = cf.classify(cf.toy_flow(s, flip="hidden"), w)
        assert (backwards.n_stable, backwards.n_unstable) == (point.n_unstable, point.n_stable)
        assert cf.classify(flow.gradient_flow(), w).kind == "stable node"

    def test_the_change_of_stability_is_degenerate(self, s: float):
        w = jnp.array([1.0, np.sign(s)]) * abs(s) ** 0.5
        point = cf.classify(cf.toy_flow(s, flip="readout"), w)
        assert (point.kind, counts(point)) == ("degenerate", (0, 0, 1, 1))


# ------------------------------------------------------------------------------------------ networks


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_counts_on_the_solution_manifold_with_random_flips(seed: int):
    flow, teacher = network(seed, N=5, M=3, P=2)
    point = cf.classify(flow, teacher)
    assert counts(point) == counts_on_solution_manifold(flow, teacher)
    assert point.kind not in ("centre", "saddle-centre", "stable focus", "unstable focus", "degenerate")


@settings(max_examples=12)
@given(st.integers(0, 10**6))
def test_counts_at_the_origin_and_along_the_manifold_that_it_lies_on(seed: int):
    flow, teacher = network(seed, N=5, M=3, P=2)
    assert counts(cf.classify(flow, zero_weights(teacher))) == counts_at_origin(flow)


def test_counts_in_a_large_network():
    flow, teacher = network(0, N=16, M=12, P=1)
    stable, unstable, _, _ = expected = counts_on_solution_manifold(flow, teacher)
    assert stable > 0
    assert unstable > 0
    point = cf.classify(flow, teacher)
    assert counts(point) == expected
    assert point.kind == "saddle"
    gradient = cf.classify(flow.gradient_flow(), teacher)
    assert (gradient.kind, counts(gradient)) == ("stable node", (12, 0, 0, 16 * 13 - 12))
    origin = cf.classify(flow, zero_weights(teacher))
    assert (origin.kind, counts(origin)) == ("saddle-centre", counts_at_origin(flow))


@pytest.mark.parametrize("s", [1e-6, 1e6])
def test_counts_do_not_change_with_the_scale_of_the_teacher(s: float):
    flow, teacher = network(7, N=5, M=3, P=2)
    scaled = cf.CurlFlow(s * flow.S, flow.d1, flow.d2, flow.C)
    W = jtu.tree_map(lambda layer: s**0.5 * layer, teacher)
    assert counts(cf.classify(scaled, W)) == counts_on_solution_manifold(flow, teacher)
    assert counts(cf.classify(scaled, zero_weights(W))) == counts_at_origin(flow)


def test_other_partial_solutions_are_fixed_points_too():
    """With P = 2 the network may have learned one singular direction of its teacher and not the other."""
    flow = cf.CurlFlow(np.diag([3.0, 1.0]), d1=[1, 1], d2=[1, 1, 1])
    learned = cf.Weights(
        W1=[[3.0**0.5, 0.0], [0.0, 0.0], [0.0, 0.0]], W2=[[3.0**0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
    )
    point = cf.classify(flow, learned)
    assert point.kind == "saddle"
    # Of the other direction each of the two free hidden units is a saddle plane, at the rates ±1.
    assert point.n_unstable == 2
    np.testing.assert_allclose(np.real(point.eigenvalues[:2]), 1.0, rtol=1e-12)


# ------------------------------------------------------------------------------- how exact a point must be


@pytest.mark.parametrize("distance", [1e-14, 1e-10, 1e-7])
def test_a_point_as_exact_as_a_root_finder_makes_it_is_classified_alike(distance: float):
    flow, teacher = network(3, N=5, M=3, P=2)
    beside = cf.ensembles.near_solution(jax.random.key(0), teacher, distance=distance)
    point = cf.classify(flow, beside)
    assert counts(point) == counts_on_solution_manifold(flow, teacher)
    assert point.residual > 0
    # Newton's step moves a little along the manifold too, where the noise of the point passes for a slope.
    assert 0.95 * distance <= point.distance <= 4 * distance
    toy = cf.classify(cf.toy_flow(1.0, flip="readout"), distance * jnp.array([0.6, -0.8]))
    assert (toy.kind, counts(toy)) == ("centre", (0, 0, 2, 0))
    assert toy.distance == pytest.approx(distance, rel=1e-6)


def test_a_point_that_is_not_fixed_is_refused():
    flow = cf.toy_flow(1.0, flip="readout")
    for w in ([1.0, 0.3], [0.2, 0.1], [3.0, 3.0], [0.5, 2.1]):
        with pytest.raises(ValueError, match="`y` must be a fixed point, but the flow's speed there is"):
            cf.classify(flow, jnp.array(w))
    with pytest.raises(ValueError, match="`y` must be a fixed point"):
        cf.classify(lambda t, y, args: jnp.ones_like(y), jnp.zeros(2))


def test_a_field_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite, but has nan at index 0"):
        cf.classify(lambda t, y, args: jnp.log(y), jnp.array([-1.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"Jacobian of f at y` must be finite, but has nan at index \(1, 0\)"
    ):
        cf.classify(lambda t, y, args: jnp.stack([y[0], jnp.sqrt(y[1])]), jnp.zeros(2))


def test_what_is_no_state_is_refused():
    with pytest.raises(ValueError, match="`y` must be finite, but has nan at index 1"):
        cf.classify(cf.toy_flow(), jnp.array([0.0, jnp.nan]))
    with pytest.raises(ValueError, match=r"must have shape \(2,\)"):
        cf.classify(cf.toy_flow(), jnp.zeros(3))


def test_a_point_prints_itself_in_one_line():
    point = cf.classify(cf.toy_flow(1.0, flip="readout"), jnp.array([2.0, 0.5]))
    assert f"{point}" == (
        "FixedPoint: unstable node across a 1-dimensional manifold of fixed points "
        "(0 stable, 1 unstable, 0 centre; residual 0.0e+00)"
    )
    data = point.to_xarray()
    np.testing.assert_array_equal(data["real"] + 1j * data["imaginary"], point.eigenvalues)
    np.testing.assert_array_equal(data["y"], [2.0, 0.5])
    assert (data.attrs["kind"], data.attrs["n_unstable"], data.attrs["n_manifold"]) == ("unstable node", 1, 1)


def test_leaves_are_not_taken_for_eigenvalues_or_kinds():
    classified = cf.classify(cf.toy_flow(1.0, flip="readout"), jnp.array([2.0, 0.5]))
    point = dataclasses.replace(classified, point={"real": jnp.array(2.0), "kind": jnp.array(0.5)})
    data = point.to_xarray()
    np.testing.assert_array_equal(data["real"], classified.eigenvalues.real)
    assert (data["y_real"], data["kind"]) == (2.0, 0.5)
    counts = dict.fromkeys(("n_starts", "n_converged", "n_outside", "n_not_finite"), 2)
    outcome = cf.Outcome(cf.Ending.COMPLETED, None, "All are there.")
    found = cf.fixed_points.FixedPoints((point, point), **counts, outcome=outcome).to_xarray()
    assert found["kind"].values.tolist() == ["unstable node"] * 2
    assert found["y_kind"].values.tolist() == [0.5] * 2


# --------------------------------------------------------------------------------- finding fixed points


def lorenz(t, y, rho):
    return jnp.stack([10 * (y[1] - y[0]), y[0] * (rho - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]])


def brusselator(t, y, b):
    return jnp.stack([1 + y[0] ** 2 * y[1] - (b + 1) * y[0], b * y[0] - y[0] ** 2 * y[1]])


def pendulum(t, y, damping):
    return jnp.stack([y[1], -jnp.sin(y[0]) - damping * y[1]])


def never_still(t, y, args):
    return jnp.stack([1 + y[0] ** 2, -y[1]])


LORENZ_BOX = (jnp.array([-20.0, -20.0, -5.0]), jnp.array([20.0, 20.0, 40.0]))


@pytest.mark.parametrize(("rho", "wings"), [(28.0, "saddle"), (20.0, "stable focus")])
def test_lorenz_has_its_origin_and_two_wings(rho: float, wings: str):
    found = cf.find_fixed_points(lorenz, bounds=LORENZ_BOX, starts=24, args=rho)
    assert len(found) == 3
    x, z = np.sqrt(8 / 3 * (rho - 1)), rho - 1
    places = sorted((np.asarray(point.point).tolist() for point in found), key=lambda place: place[0])
    np.testing.assert_allclose(places, [[-x, -x, z], [0, 0, 0], [x, x, z]], atol=1e-9)
    kinds = {round(float(point.point[0]), 6): str(point.kind) for point in found}
    assert kinds[0.0] == "saddle"
    assert sorted(kinds.values()) == sorted(["saddle", wings, wings])
    origin = next(point for point in found if abs(point.point[0]) < 1)
    root = np.sqrt(81 + 40 * rho)
    np.testing.assert_allclose(origin.eigenvalues, [(-11 + root) / 2, -8 / 3, (-11 - root) / 2], rtol=1e-9)
    assert [point.n_unstable for point in found] == sorted(point.n_unstable for point in found)


@pytest.mark.parametrize(
    ("b", "kind"),
    [(1.5, "stable focus"), (2.0, "linear centre"), (3.0, "unstable focus"), (5.0, "unstable node")],
)
def test_the_brusselator_passes_through_a_hopf_bifurcation(b: float, kind: str):
    found = cf.find_fixed_points(brusselator, bounds=(jnp.full(2, 0.1), jnp.full(2, 6.0)), starts=16, args=b)
    assert [point.kind for point in found] == [kind]
    np.testing.assert_allclose(found[0].point, [1.0, b], rtol=1e-9)


def test_what_lies_outside_the_bounds_is_counted_and_left_out():
    box = (jnp.array([-1.0, -1.0]), jnp.array([4.0, 1.0]))
    found = cf.find_fixed_points(pendulum, bounds=box, starts=24, args=0.0)
    assert [str(point.kind) for point in found] == ["centre", "saddle"]
    np.testing.assert_allclose([point.point for point in found], [[0, 0], [np.pi, 0]], atol=1e-9)
    assert found.n_starts == 24
    assert 2 <= found.n_converged <= 24
    narrow = cf.find_fixed_points(
        pendulum, bounds=(jnp.array([1.5, -0.1]), jnp.array([1.8, 0.1])), starts=24, args=0.0
    )
    assert len(narrow) == 0
    assert narrow.n_outside == narrow.n_converged > 0


def test_a_minimum_of_the_speed_is_no_fixed_point():
    found = cf.find_fixed_points(never_still, bounds=(-jnp.ones(2), jnp.ones(2)), starts=24)
    assert (len(found), found.n_starts, found.n_converged) == (0, 24, 0)
    assert f"{found}" == "FixedPoints: 0 distinct; 0 of 24 starts converged, 0 outside the bounds"
    assert dict(found.to_xarray().sizes) == {"point": 0, "mode": 0}
    counted = {"n_starts": 24, "n_converged": 0, "n_outside": 0, "n_not_finite": 0}
    ended = {"outcome": f"{found.outcome}", "ending": found.outcome.ending}
    attributes = found.to_xarray().attrs
    assert {name: attributes[name] for name in attributes if name != "curlflow"} == counted | ended


def test_every_start_ends_at_its_own_solution():
    flow, teacher = network(0, N=4, M=3, P=1)
    keys = jax.random.split(jax.random.key(1), 6)
    draws = [cf.ensembles.near_solution(key, teacher, distance=0.1) for key in keys]
    found = cf.find_fixed_points(flow, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *draws))
    assert len(found) == found.n_converged == found.n_starts == 6
    for point in found:
        assert isinstance(point.point, cf.Weights)
        np.testing.assert_allclose(point.point.end_to_end, flow.S, atol=1e-12)
        assert counts(point) == counts_on_solution_manifold(flow, point.point)
    data = found.to_xarray()
    assert dict(data.sizes) == {
        "point": 6,
        "mode": 16,
        "W1_axis0": 4,
        "W1_axis1": 3,
        "W2_axis0": 1,
        "W2_axis1": 4,
    }
    for i, point in enumerate(found):
        assert (data["kind"][i], data["n_stable"][i]) == (point.kind, point.n_stable)
        np.testing.assert_array_equal(data["W1"][i], point.point.W1)
        np.testing.assert_array_equal(data["real"][i] + 1j * data["imaginary"][i], point.eigenvalues)


def test_every_start_ends_at_a_solution_or_on_the_manifold_of_the_origin():
    flow, _ = network(0, N=4, M=3, P=1)
    draws = [cf.ensembles.gaussian_weights(jax.random.key(i), N=4, M=3) for i in range(6)]
    found = cf.find_fixed_points(flow, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *draws))
    assert len(found) == found.n_converged == 6
    S, _, _, C = numbers(flow)
    for point in found:
        if point.n_manifold == 4 * (3 + 1) - 3:
            np.testing.assert_allclose(point.point.end_to_end, S, atol=1e-12)
        else:  # W2 = 0 and S C W1ᵀ = 0, a linear space
            assert point.n_manifold == 4 * (3 - 1)
            np.testing.assert_allclose(point.point.W2, 0.0, atol=1e-9)
            np.testing.assert_allclose(S @ C @ point.point.W1.T, 0.0, atol=1e-9)


def test_coinciding_guesses_give_one_point():
    guesses = jnp.array([[0.1, 0.0], [0.1, 0.0], [0.0, -0.2], [0.05, 0.1]])
    found = cf.find_fixed_points(pendulum, guesses, args=0.3)
    assert [point.kind for point in found] == ["stable focus"]
    assert (found[0],) == found[:1] == found.points
    assert (found.n_starts, found.n_converged, found.n_outside) == (4, 4, 0)


def test_the_same_key_finds_the_same_points():
    box = (-jnp.ones(2), jnp.ones(2))
    flow = cf.toy_flow(0.3, flip="readout")
    first, again, other = (
        cf.find_fixed_points(flow, bounds=box, starts=24, key=jax.random.key(seed)) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal([p.point for p in first], [p.point for p in again])
    assert first[0].kind == other[0].kind == "centre"  # the isolated one comes first
    assert len(first) != len(other) or not np.array_equal([p.point for p in first], [p.point for p in other])


def test_a_start_where_the_field_is_not_finite_is_lost_alone():
    found = cf.find_fixed_points(lambda t, y, args: jnp.log(y), jnp.array([[-1.0, 2.0], [1.1, 0.9]]))
    assert (found.n_starts, found.n_converged) == (2, 1)
    np.testing.assert_allclose(found[0].point, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "Exactly one of `guesses` and `bounds` must be given, but neither were"),
        (
            {"guesses": jnp.zeros((1, 2)), "bounds": (jnp.zeros(2), jnp.ones(2))},
            "Exactly one of `guesses` and `bounds` must be given, but both were",
        ),
        ({"guesses": jnp.zeros((3, 5))}, r"must have shape \(2,\)"),
        (
            {"guesses": jnp.array([[0.0, jnp.inf]])},
            r"`guesses` must be finite, but has inf at index \(0, 1\)",
        ),
        ({"bounds": (jnp.ones(2), jnp.zeros(2))}, "lower corner below upper corner"),
        ({"bounds": (jnp.zeros(2), {"y": jnp.ones(2)})}, "the same structure"),
        ({"bounds": (jnp.zeros(2), jnp.full(2, jnp.nan))}, r"`bounds\[1\]` must be finite"),
        ({"bounds": (jnp.zeros(3), jnp.ones(3))}, r"must have shape \(2,\)"),
        ({"bounds": (jnp.zeros(2), jnp.ones(2)), "starts": 0}, "`starts` must be at least 1, but is 0"),
        ({"bounds": (jnp.zeros(2), jnp.ones(2)), "starts": 2.5}, "`starts` must be a whole number"),
        ({"guesses": jnp.zeros((1, 2)), "max_steps": 0}, "`max_steps` must be at least 1"),
    ],
)
def test_bad_searches_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.find_fixed_points(cf.toy_flow(), **arguments)


def test_a_system_that_cannot_be_called_is_refused():
    with pytest.raises(ValueError, match="`system` must be a vector field"):
        cf.find_fixed_points(3.0, jnp.zeros((1, 2)))  # type: ignore[arg-type]


# ------------------------------------------------------------------------- multiple roots, units, origins


UNIT_BOX = (-jnp.ones(2), jnp.ones(2))


def normal_form(t, y, args):
    """Fields with a multiple root at `place`, by name."""
    name, place = args
    x, y = y - place
    return {
        "fold": lambda: jnp.stack([x**2, -y]),
        "Bogdanov-Takens": lambda: jnp.stack([y, x**2 + x * y]),
        "cusp": lambda: jnp.stack([y, x**2]),
        "cubic spring": lambda: jnp.stack([y, -(x**3)]),
        "monkey saddle": lambda: jnp.stack([x**2 - y**2, -2 * x * y]),
        "pitchfork": lambda: jnp.stack([-(x**3), -y]),
        "squares": lambda: jnp.stack([x**2, y**2]),
        "fifth power, turned": lambda: jnp.stack([x - y, -((x + y) ** 5)]),
    }[name]()


@pytest.mark.parametrize(
    ("name", "place", "index"),
    [
        ("fold", (0.0, 0.0), 0),
        ("fold", (0.1, 0.2), 0),
        ("Bogdanov-Takens", (0.0, 0.0), 0),
        ("cusp", (0.0, 0.0), 0),
        ("cubic spring", (0.0, 0.0), 1),
        ("cubic spring", (0.3, 0.0), 1),
        ("monkey saddle", (0.0, 0.0), -2),
        ("pitchfork", (0.0, 0.0), 1),
        ("squares", (0.1, 0.2), 0),
        ("fifth power, turned", (0.1, -0.3), -1),
    ],
)
def test_a_multiple_root_is_found_once_and_its_index_counts(
    name: str, place: tuple[float, float], index: int
):
    found = cf.find_fixed_points(normal_form, bounds=UNIT_BOX, starts=16, args=(name, jnp.array(place)))
    assert [str(point.kind) for point in found] == ["degenerate"]
    assert np.linalg.norm(found[0].point - np.array(place)) <= max(found[0].accuracy, 1e-15)
    assert found.outcome.ok
    assert f"add up to {index:+d}," in found.outcome.message


@pytest.mark.parametrize("corners", [((-1.5, -1.5), (3.0, 3.0)), ((-1, -1), (1, 1)), ((-2, -1), (1.5, 1))])
def test_a_root_of_order_two_at_the_origin_is_found_there_in_any_box(corners: Any):
    """The rule of Bienenstock, Cooper and Munro: Newton's steps halve the distance until it is less than any number."""
    patterns = jnp.array([[1.0, 0.3], [0.3, 1.0]])

    def bcm(t, w, args):
        y = patterns @ w
        return (y * (y - jnp.mean(y**2))) @ patterns / 2

    low, high = corners
    found = cf.find_fixed_points(bcm, bounds=(jnp.array(low, float), jnp.array(high, float)), starts=16)
    (origin,) = [point for point in found if np.abs(point.point).max() < 0.1]
    assert (str(origin.kind), origin.n_manifold) == ("degenerate", 0)
    np.testing.assert_array_equal(origin.point, [0.0, 0.0])


def test_points_of_a_manifold_are_printed_by_kind():
    found = cf.find_fixed_points(
        cf.toy_flow(flip="readout"), bounds=(-2 * jnp.ones(2), 2 * jnp.ones(2)), starts=32
    )
    shown = str(found).splitlines()
    assert shown[1].startswith("  FixedPoint: centre")
    assert len(shown) < 10 < len(found)
    assert max(map(len, shown)) < 80
    kinds = [point.kind.value for point in found if point.n_manifold]
    for kind in set(kinds):
        assert f"{kinds.count(kind)} × {kind} across 1 dimensions of them" in " ".join(str(found).split())


def test_a_fold_whose_terms_cancel_is_known_to_the_root_of_rounding():
    def written_out(t, y, args):
        return jnp.stack([y[0] ** 2 - 0.2 * y[0] + 0.01, -y[1]])

    (point,) = cf.find_fixed_points(written_out, bounds=UNIT_BOX, starts=16)
    assert point.kind == "degenerate"
    assert abs(point.point[0] - 0.1) <= point.accuracy
    assert 1e-10 < point.accuracy < 1e-7
    assert "known to" in f"{point}"


@pytest.mark.parametrize("gap", [1e-6, 1e-12, 1e-20])
def test_where_a_field_only_comes_close_to_zero_there_is_no_fixed_point(gap: float):
    def ghost(t, y, args):
        return jnp.stack([y[0] ** 2 + args, -y[1]])

    assert len(cf.find_fixed_points(ghost, bounds=UNIT_BOX, starts=16, args=jnp.float64(gap))) == 0


def hanging_from_the_top(t, y, offset):
    """A damped pendulum measured from its upright rest, in whose sine terms of size 1 cancel."""
    return jnp.stack([y[1], jnp.sin(y[0] - offset + jnp.pi) - 0.2 * y[1]])


@pytest.mark.parametrize("offset", [0.0, 0.5, -300.0])
def test_a_fixed_point_is_found_wherever_the_origin_lies(offset: float):
    box = (jnp.array([offset - 1, -1.0]), jnp.array([offset + 1, 1.0]))
    (point,) = cf.find_fixed_points(hanging_from_the_top, bounds=box, starts=16, args=jnp.float64(offset))
    assert point.kind == "stable focus"
    np.testing.assert_allclose(point.eigenvalues, [-0.1 + 0.99**0.5 * 1j, -0.1 - 0.99**0.5 * 1j], rtol=1e-9)
    assert cf.classify(hanging_from_the_top, point.point, args=jnp.float64(offset)).kind == "stable focus"


def duffing(t, y, units):
    position, velocity = y / units
    return units * jnp.stack([velocity, position - position**3])


@pytest.mark.parametrize("units", [(1.0, 1.0), (1.0, 1e4), (1.0, 1e-4), (1e-9, 1e3), (1e12, 1e-12)])
def test_the_units_of_the_coordinates_do_not_matter(units: tuple[float, float]):
    sides = jnp.array([2.0, 1.5]) * jnp.array(units)
    found = cf.find_fixed_points(duffing, bounds=(-sides, sides), starts=16, args=jnp.array(units))
    assert sorted(str(point.kind) for point in found) == ["centre", "centre", "saddle"]
    # Alone, without the box that tells the units, a point at the origin says nothing of units as far apart as the last two.
    if max(units) / min(units) <= 1e4:
        for point in found:
            assert cf.classify(duffing, point.point, args=jnp.array(units)).kind == point.kind


def test_points_close_together_far_from_the_origin_are_apart():
    def far(t, y, args):
        x = (y[0] - 1e6) / 1e-3
        return jnp.stack([y[1] - 1e6, (y[0] - 1e6) * (1 - x**2)])

    corner, side = jnp.array([1e6, 1e6]), jnp.array([2e-3, 1e-3])
    found = cf.find_fixed_points(far, bounds=(corner - side, corner + side), starts=16)
    np.testing.assert_allclose(sorted(float(p.point[0]) - 1e6 for p in found), [-1e-3, 0, 1e-3], atol=1e-9)


def test_small_and_large_coordinates_stand_side_by_side():
    def populations(t, y, args):
        x, n = y[0], y[1] / 1e7
        return jnp.stack([-x * (x - 1) * (x - 0.5), -y[1] * (1 - n) * (1 - 2 * n)])

    box = (jnp.array([-1.0, -1e6]), jnp.array([2.0, 2e7]))
    assert len(cf.find_fixed_points(populations, bounds=box, starts=16)) == 9


# ----------------------------------------------------------------------------------- are these all of them?


def test_three_double_wells_have_twenty_seven_fixed_points():
    found = cf.find_fixed_points(lambda t, y, args: y - y**3, bounds=(jnp.full(3, -2.0), jnp.full(3, 2.0)))
    assert len(found) == 27
    assert "nothing tells" in found.outcome.message


def test_the_indices_of_all_add_up_to_the_boundarys():
    found = cf.find_fixed_points(
        lambda t, y, args: jnp.sin(y), bounds=(jnp.full(2, -10.0), jnp.full(2, 10.0)), starts=16
    )
    places = sorted(tuple(np.round(np.asarray(point.point) / np.pi, 6)) for point in found)
    assert places == [(float(i), float(j)) for i in range(-3, 4) for j in range(-3, 4)]
    # Seven sinks and sources in a row, in turn.
    assert found.outcome.ending == "completed"
    assert "add up to +1" in found.outcome.message


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Box, "suspects", lambda box: np.zeros((0, 2)))
    monkeypatch.setattr(Box, "finer_suspects", lambda box: np.zeros((0, 2)))
    found = cf.find_fixed_points(
        pendulum, bounds=(jnp.array([-8.0, -3.0]), jnp.array([8.0, 3.0])), starts=1, args=0.1
    )
    assert len(found) == 1
    assert found.outcome.ending == "not converged"
    assert "some are missing" in str(found)


def test_poles_are_told_from_missing_points():
    """The restricted three-body problem's accelerations: five Lagrange points, and two masses, each of index +1."""

    def rotating(t, y, args):
        pull = sum(
            m * (y - c) / jnp.sum((y - c) ** 2) ** 1.5
            for m, c in ((0.3, jnp.array([-0.7, 0.0])), (0.7, jnp.array([0.3, 0.0])))
        )
        return y - pull

    near, far = (
        cf.find_fixed_points(rotating, bounds=(jnp.full(2, -side), jnp.full(2, side)), starts=16)
        for side in (2.0, 10.0)
    )
    for found in (near, far):
        assert len(found) == 5
        assert sorted(point.n_unstable for point in found) == [1, 1, 1, 2, 2]
    assert near.outcome.ok
    assert "poles at" in near.outcome.message
    # From afar the poles are too near to the points to be told from them.
    assert "or the field is not continuous" in f"{far.outcome}"


def test_points_on_the_edge_belong_to_the_box():
    def rabbits_and_sheep(t, y, args):
        return jnp.stack([y[0] * (3 - 2 * y[0] - y[1]), y[1] * (2 - y[0] - y[1])])

    found = cf.find_fixed_points(rabbits_and_sheep, bounds=(jnp.zeros(2), jnp.full(2, 2.0)), starts=16)
    places = sorted(tuple(np.round(point.point, 12) + 0.0) for point in found)
    assert places == [(0.0, 0.0), (0.0, 2.0), (1.0, 1.0), (1.5, 0.0)]
    assert min(float(jnp.min(point.point)) for point in found) >= 0
    assert found.outcome.ending == "completed"


def test_a_fault_in_the_users_field_is_not_hidden():
    calls = []

    def faulty(t, y, args):
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("a fault of the user's")
        return -y

    with pytest.raises(ValueError, match="a fault of the user's"):
        cf.find_fixed_points(faulty, bounds=UNIT_BOX)


def test_starts_where_the_field_is_not_finite_are_counted():
    found = cf.find_fixed_points(lambda t, y, args: jnp.log(y), jnp.array([[-1.0, 2.0], [1.1, 0.9]]))
    assert (found.n_converged, found.n_not_finite) == (1, 1)
    assert "1 met a field that is not finite" in f"{found}"


# ------------------------------------------------------------------------------------ centres and slow spirals


@pytest.mark.parametrize("power", [2, 4, 6, 8])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_slow_spiral_is_no_centre(power: int, sign: float):
    """ṙ = ± r^(power + 1) beside a plain rotation."""

    def spiral(t, y, args):
        exponent, sign = args
        return jnp.stack([-y[1], y[0]]) + sign * y * (y @ y) ** exponent

    args = (jnp.float64(power / 2), jnp.float64(sign))
    point = cf.classify(spiral, jnp.zeros(2), args=args)
    assert (point.kind, point.n_centre) == ("linear centre", 2)


@pytest.mark.parametrize(
    ("flow", "place"),
    [
        (lambda t, y, args: jnp.stack([y[1], -jnp.sin(y[0])]), (0.0, 0.0)),
        (lambda t, y, args: jnp.stack([y[0] * (1 - y[1]), y[1] * (y[0] - 2)]), (2.0, 1.0)),
        # Close to a Bogdanov–Takens point: closed orbits within a thousandth only.
        (lambda t, y, args: jnp.stack([y[1], -1e-3 * y[0] + y[0] ** 2]), (0.0, 0.0)),
        # Reversible, with no conserved quantity in sight.
        (lambda t, y, args: jnp.stack([y[1] - y[1] ** 3, -y[0] - y[1] ** 2]), (0.0, 0.0)),
    ],
)
def test_what_is_a_centre_is_called_one(flow: Any, place: tuple[float, float]):
    assert cf.classify(flow, jnp.array(place)).kind == "centre"


def test_beyond_the_plane_a_conserved_quantity_makes_a_centre():
    class Rotor(eqx.Module):
        def __call__(self, t, y, args):
            x, v, u, w = y
            return jnp.stack([v, -x - x**3 - x * u**2, w, -2 * u - u * x**2])

    class KnownRotor(Rotor):
        def conserved(self, y):
            x, v, u, w = y
            return (v**2 + w**2 + x**2 + x**4 / 2 + 2 * u**2 + x**2 * u**2) / 2

    assert cf.classify(Rotor(), jnp.zeros(4)).kind == "linear centre"
    assert cf.classify(KnownRotor(), jnp.zeros(4)).kind == "centre"
