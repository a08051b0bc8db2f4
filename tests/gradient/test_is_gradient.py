"""Is a flow a gradient flow, and in which diagonal metric: flows whose metric is known, and some that have none."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Array
from reference_systems import Linear, henon_heiles, lorenz

import curlflow as cf


def points(n: int, count: int = 3, seed: int = 0) -> Array:
    return jax.random.normal(jax.random.key(seed), (count, n), jnp.float64)


def weights(N: int, M: int, P: int = 1, count: int = 3) -> cf.Weights:
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda key: cf.ensembles.gaussian_weights(key, N=N, M=M, P=P))(keys)


class MetricGradient(eqx.Module):
    """ẏ = −g ⊙ ∇V with the quartic V = Σ a_ij (y_i + y_j + 1)⁴ / 4: a gradient flow in the metric 1/g."""

    g: Array
    a: Array

    def potential(self, y: Array) -> Array:
        return jnp.sum(self.a * (y[:, None] + y[None, :] + 1) ** 4) / 4

    def __call__(self, t: Any, y: Array, args: Any = None) -> Array:
        return -self.g * jax.grad(self.potential)(y)


def assert_same_up_to_a_factor(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, np.asarray(expected) / np.abs(expected).max(), rtol=1e-7)


# ------------------------------------------------------------------------------------------- curl flow


def test_gradient_flow_is_a_gradient_flow():
    flow, _, _ = cf.ensembles.student_teacher(jax.random.key(1), N=3, M=2, P=2)
    found = cf.is_gradient(flow, weights(3, 2, 2))
    assert found
    assert found.is_gradient
    assert found.metric == "positive"
    assert found.asymmetry < 1e-14
    assert_same_up_to_a_factor(found.diagonal_metric, np.ones(3 * 4))


def test_curl_flow_is_the_gradient_flow_of_its_loss_in_the_metric_of_its_signs():
    d1, d2 = np.array([1.0, -1.0, 1.0]), np.array([1.0, 1.0, -1.0, 1.0])
    found = cf.is_gradient(cf.CurlFlow([1.0, 2.0, -1.0], d1, d2), weights(4, 3))
    assert not found
    assert found.asymmetry > 0.1
    assert found.metric == "indefinite"
    assert_same_up_to_a_factor(found.diagonal_metric, np.concatenate([np.tile(d1, 4), d2]))
    assert "a gradient flow only in an indefinite diagonal metric" in f"{found}"


@pytest.mark.parametrize("flip", ["readout", "hidden"])
def test_the_toy_models_metric_is_its_signs_up_to_a_common_one(flip: Any):
    found = cf.is_gradient(cf.toy_flow(1.0, flip=flip), points(2))
    assert (found.is_gradient, found.metric) == (False, "indefinite")
    np.testing.assert_allclose(found.diagonal_metric, [1.0, -1.0], rtol=1e-12)


def test_climbing_the_loss_is_a_gradient_flow_too():
    assert cf.is_gradient(cf.toy_flow(1.0, flip="both"), points(2)).metric == "positive"


def test_the_norm_constraint_leaves_no_diagonal_metric():
    flow, _, _ = cf.ensembles.student_teacher(jax.random.key(1), N=3, M=2, alpha_h=0.5)
    found = cf.is_gradient(cf.NormConstrained(flow), weights(3, 2))
    assert (found.is_gradient, found.metric, found.diagonal_metric) == (False, "none", None)


# --------------------------------------------------------------------------------------- other metrics


def positive(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, n, elements=st.floats(0.1, 10.0))


@given(positive(4), positive(16), arrays(np.float64, 4, elements=st.sampled_from([-1.0, 1.0])))
def test_any_diagonal_metric_is_found(size: np.ndarray, a: np.ndarray, sign: np.ndarray):
    g = size * sign
    found = cf.is_gradient(MetricGradient(jnp.asarray(g), jnp.asarray(a.reshape(4, 4))), points(4))
    assert found.metric == ("positive" if abs(sign.sum()) == 4 else "indefinite")
    assert found.metric_residual < 1e-9
    inverse = (1 / g) / np.abs(1 / g).max()
    assert found.diagonal_metric is not None
    # Which of g and −g is a convention: most of it is positive.
    np.testing.assert_allclose(
        found.diagonal_metric * np.sign(found.diagonal_metric @ inverse), inverse, rtol=1e-7
    )
    assert found.diagonal_metric.sum() > -1e-8
    assert found.is_gradient == (np.ptp(g) == 0)


def test_natural_gradient_in_a_diagonal_metric_is_no_plain_gradient():
    g = jnp.array([1.0, 2.0, 0.5])
    found = cf.is_gradient(MetricGradient(g, jnp.ones((3, 3))), points(3))
    assert (found.is_gradient, found.metric) == (False, "positive")
    assert_same_up_to_a_factor(found.diagonal_metric, 1 / g)
    assert f"{found}".startswith("GradientTest: not a gradient flow (asymmetry")
    assert "; a gradient flow in a positive diagonal metric (residual" in f"{found}"


def test_flows_without_a_diagonal_metric():
    for system, ys in (
        (lorenz, points(3)),
        (Linear(jnp.array([[1.0, 2.0], [0.0, 1.0]])), points(2)),  # one acts on the other, and not it back
        # A cycle x → y → z → x whose three ratios multiply to 8 instead of 1.
        (Linear(jnp.array([[0.0, 2.0, 1.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0]])), points(3)),
    ):
        found = cf.is_gradient(system, ys)
        assert (found.is_gradient, found.metric, found.diagonal_metric) == (False, "none", None)


def test_a_metric_at_every_point_alone_is_not_enough():
    """J = [[0, 1 + y1²], [1, 0]]: symmetric in the metric (1, 1 + y1²), which is not constant."""

    def field(t, y, args):
        return jnp.stack([y[1] + y[1] ** 3 / 3, y[0]])

    assert cf.is_gradient(field, jnp.array([[0.3, 0.7]])).metric == "positive"
    assert cf.is_gradient(field, jnp.array([[0.3, 0.7], [0.1, 0.2]])).metric == "none"


# ------------------------------------------------------------------------ coordinates that do not interact


def test_decoupled_coordinates_have_a_metric_each():
    found = cf.is_gradient(lambda t, y, args: -(y**3), points(3))
    assert (found.is_gradient, found.metric) == (True, "positive")
    np.testing.assert_array_equal(found.diagonal_metric, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 3], [3, 1, 0, 2]])
def test_decoupled_curl_flows_have_their_own_signs_each(order: list[int]):
    """Two toy models side by side, in any order of their weights."""
    first, second = cf.toy_flow(1.0, flip="readout"), cf.toy_flow(2.0, flip="hidden")
    back = np.argsort(order)

    def field(t, y, args):
        y = y[back]
        return jnp.concatenate([first(t, y[:2]), second(t, y[2:])])[jnp.array(order)]

    found = cf.is_gradient(field, points(4))
    assert (found.is_gradient, found.metric) == (False, "indefinite")
    assert found.diagonal_metric is not None
    g = found.diagonal_metric[back]
    np.testing.assert_allclose([g[1] / g[0], g[3] / g[2]], -1.0, rtol=1e-9)
    np.testing.assert_allclose(np.abs(g), 1.0, rtol=1e-9)


def test_one_bad_group_spoils_the_metric():
    found = cf.is_gradient(lambda t, y, args: jnp.concatenate([lorenz(t, y[:3], None), -y[3:]]), points(5))
    assert found.metric == "none"


def test_a_flow_that_stands_still_is_a_gradient_flow():
    found = cf.is_gradient(Linear(jnp.zeros((3, 3))), points(3))
    assert (found.is_gradient, found.metric, found.asymmetry) == (True, "positive", 0.0)


# -------------------------------------------------------------------------- states, arguments, errors


def test_states_are_pytrees_and_hamiltonian_flows_have_an_indefinite_metric():
    ys = {"q": 0.3 * points(2), "p": points(2, seed=1)}
    found = cf.is_gradient(henon_heiles, ys)
    # p before q: g_p ∂²V = −g_q must hold everywhere, but ∂²V changes from point to point.
    assert found.metric == "none"
    oscillator = cf.is_gradient(lambda t, y, args: {"q": y["p"], "p": -args * y["q"]}, ys, args=4.0)
    assert oscillator.metric == "indefinite"
    assert oscillator.diagonal_metric is not None
    np.testing.assert_allclose(
        oscillator.diagonal_metric[:2] / oscillator.diagonal_metric[2:], -0.25, rtol=1e-9
    )


def test_the_tolerance_decides_what_counts_as_symmetric():
    slightly = Linear(jnp.array([[1.0, 0.5 + 1e-6], [0.5 - 1e-6, 1.0]]))
    assert not cf.is_gradient(slightly, points(2))
    loose = cf.is_gradient(slightly, points(2), tolerance=1e-4)
    assert loose
    assert loose.tolerance == 1e-4


@pytest.mark.parametrize(
    ("ys", "options", "sentence"),
    [
        (points(3), {"tolerance": 0.0}, "`tolerance` must be positive, but is 0"),
        (jnp.zeros(()), {}, "`ys` must have one leading axis of points on every leaf"),
        (points(3) * jnp.nan, {}, r"`ys` must be finite, but has nan at index \(0, 0\)"),
        (points(3), {"t": jnp.inf}, "`t` must be finite, but is inf"),
        (jtu.tree_map(lambda y: y.astype(jnp.float32), points(3)), {}, "`ys` must be float64"),
    ],
)
def test_bad_questions_are_refused_in_a_sentence(ys: Any, options: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.is_gradient(lorenz, ys, **options)


# ------------------------------------------------------------------------------ ill-conditioned metrics


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8, 1e11])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_diagonal_metrics_are_found_whatever_their_condition_number(condition: float, sign: float):
    g = np.array([1.0, sign * np.sqrt(condition), condition, 3.0])
    found = cf.is_gradient(MetricGradient(jnp.asarray(g), jnp.ones((4, 4))), points(4))
    assert found.metric == ("positive" if sign > 0 else "indefinite")
    assert found.diagonal_metric is not None
    ratios = found.diagonal_metric * g
    np.testing.assert_allclose(ratios / ratios[0], 1.0, rtol=1e-3 if condition > 1e8 else 1e-5)
    assert found.constant_metric is not None
    assert found.constant_metric.kind == found.metric


def test_one_way_influence_is_no_metric_however_it_is_scaled():
    for strength in (1e-6, 1.0, 1e6):
        found = cf.is_gradient(Linear(jnp.array([[1.0, strength], [0.0, 1.0]])), points(2))
        assert found.metric == "none"


@pytest.mark.slow
@given(arrays(np.float64, 3, elements=st.floats(-4, 4)))
def test_the_answer_does_not_depend_on_the_units_of_the_coordinates(exponents: np.ndarray):
    """y = T z: the metric of z is T G T, and every verdict and residual is the same."""
    T = jnp.asarray(10.0**exponents)
    g = jnp.array([1.0, -2.0, 0.5])
    flow, ys = MetricGradient(g, jnp.ones((3, 3))), points(3)
    plain = cf.is_gradient(flow, ys)
    scaled = cf.is_gradient(lambda t, z, args: flow(t, z * T) / T, ys / T)
    assert scaled.metric == plain.metric == "indefinite"
    assert scaled.diagonal_metric is not None
    ratios = scaled.diagonal_metric * g / T**2
    np.testing.assert_allclose(ratios / ratios[0], 1.0, rtol=1e-6)


# -------------------------------------------------------------------------------------- all symmetric metrics


class NaturalGradient(eqx.Module):
    """G ẏ = −∇V with a quartic V that couples all coordinates."""

    G: Array

    def __call__(self, t: Any, y: Array, args: Any = None) -> Array:
        slope = jax.grad(lambda y: jnp.sum(y**4) / 4 + jnp.prod(jnp.cos(y)) + jnp.sum(y) ** 3 / 6)(y)
        return -jnp.linalg.solve(self.G, slope)


def symmetric_matrix(seed: int, n: int, *, positive: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    eigenvalues = rng.uniform(0.3, 3.0, n)
    if not positive:
        eigenvalues[: n // 2] *= -1
    return rotation @ np.diag(eigenvalues) @ rotation.T


@given(st.integers(0, 2**31 - 1), st.booleans())
def test_any_constant_metric_is_found(seed: int, positive: bool):
    G = symmetric_matrix(seed, 4, positive=positive)
    found = cf.is_gradient(NaturalGradient(jnp.asarray(G)), points(4, 5)).constant_metric
    assert found is not None
    assert found.kind == ("positive" if positive else "indefinite")
    assert (found.dimension, found.rank) == (1, 4)
    assert found.residual < 1e-12
    assert found.G is not None
    sign = np.sign(np.sum(found.G * G))
    np.testing.assert_allclose(sign * found.G, G / np.abs(G).max(), atol=1e-8)


def test_curl_flow_has_no_constant_metric_but_its_signs():
    """The space of symmetric metrics is one-dimensional, so that no positive one exists, diagonal or not."""
    d1, d2 = np.array([1.0, -1.0]), np.array([1.0, 1.0, -1.0])
    found = cf.is_gradient(cf.CurlFlow([1.0, 2.0], d1, d2), weights(3, 2, count=6)).constant_metric
    assert found is not None
    assert (found.kind, found.dimension, found.rank) == ("indefinite", 1, 9)
    np.testing.assert_allclose(found.G, np.diag(np.concatenate([np.tile(d1, 3), d2])), atol=1e-9)
    lower, upper = found.smallest_eigenvalue
    assert lower == pytest.approx(-1 / 3)
    assert upper < 1e-8


def with_eigenvalues(values: np.ndarray, seed: int = 0) -> Linear:
    vectors = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    return Linear(jnp.asarray(vectors @ np.diag(values) @ np.linalg.inv(vectors)))


@given(st.integers(0, 2**31 - 1), st.integers(2, 6))
def test_every_linear_flow_has_a_metric_and_real_eigenvalues_make_it_positive(seed: int, n: int):
    A = np.random.default_rng(seed).normal(size=(n, n))
    found = cf.is_gradient(Linear(jnp.asarray(A)), points(n)).constant_metric
    assert found is not None
    real = (np.abs(np.linalg.eigvals(A).imag) == 0).all()
    assert found.kind == ("positive" if real else "indefinite")
    assert (found.dimension, found.rank, found.settled_after) == (n, n, 1)
    assert found.G is not None
    product = found.G @ A
    np.testing.assert_allclose(product, product.T, atol=1e-10 * np.abs(product).max())
    assert (np.linalg.eigvalsh(found.G)[0] > 0) == real


@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_flow_with_real_eigenvalues_is_a_natural_gradient(n: int):
    found = cf.is_gradient(with_eigenvalues(np.arange(1.0, n + 1)), points(n)).constant_metric
    assert found is not None
    assert found.kind == "positive"
    lower, upper = found.smallest_eigenvalue
    assert 1e-8 < lower <= upper < 1.02 * lower


def test_without_a_full_set_of_eigenvectors_the_metric_is_indefinite():
    """A Jordan block: G J symmetric leaves multiples of [[0, 1], [1, c]], whose determinant is −1."""
    found = cf.is_gradient(Linear(jnp.array([[1.0, 1.0], [0.0, 1.0]])), points(2)).constant_metric
    assert found is not None
    assert (found.kind, found.dimension, found.rank) == ("indefinite", 2, 2)
    assert found.smallest_eigenvalue[1] < 1e-8


def test_the_most_positive_metric_is_the_best_of_a_brute_force_search():
    """Of the two-dimensional space of metrics of a planar linear flow, along its unit circle."""
    A = np.array([[1.0, 1.0], [0.2, 2.0]])
    found = cf.is_gradient(Linear(jnp.asarray(A)), points(2)).constant_metric
    assert found is not None
    # The units in which J_12 = J_21; there J is symmetric, and the best metric is the identity.
    assert found.smallest_eigenvalue[0] == pytest.approx(np.sqrt(0.5), rel=1e-6)
    rotated = with_eigenvalues(np.array([1.0, -2.0]), seed=3)
    found = cf.is_gradient(rotated, points(2)).constant_metric
    assert found is not None
    J = np.asarray(rotated.A)
    t = np.array([1.0, np.sqrt(abs(J[1, 0] / J[0, 1]))])
    J = J * t / t[:, None]
    left = np.linalg.inv(np.linalg.eig(J)[1])
    first, second = (np.outer(row, row) for row in left)
    candidates = [np.cos(a) * first + np.sin(a) * second for a in np.linspace(0, np.pi / 2, 20001)]
    best = max(np.linalg.eigvalsh(G)[0] / np.linalg.norm(G) for G in candidates)
    assert found.smallest_eigenvalue[0] <= best * (1 + 1e-6)
    assert found.smallest_eigenvalue[0] == pytest.approx(best, rel=0.01)
    assert found.smallest_eigenvalue[1] >= best * (1 - 1e-6)


def test_flows_without_any_constant_metric():
    for system, n in ((lorenz, 3), (cf.models.HebbianFlow([0.5, 1.0], [1, -1], decay=1.0), None)):
        ys = points(n, 6) if n else jax.random.normal(jax.random.key(3), (8, 2, 2), jnp.float64) / 5
        found = cf.is_gradient(system, ys).constant_metric
        assert found is not None
        assert (found.kind, found.G) == ("none", None)
        assert found.residual > 1e-3
        assert found.share_bound() == 1.0


def test_no_metric_of_a_condition_number_comes_nearer_than_the_residual_says():
    system, ys = (
        cf.models.HebbianFlow([0.5, 1.0], [1, -1], decay=1.0),
        jax.random.normal(jax.random.key(3), (8, 2, 2), jnp.float64) / 5,
    )
    found = cf.is_gradient(system, ys).constant_metric
    assert found is not None
    assert (found.dimension, found.rank) == (1, 1)  # the antisymmetric part of W, which only decays
    Js = np.stack([cf.jacobian(system, y) for y in ys])
    J_norm = np.linalg.norm(Js)
    for seed in range(300):
        G = symmetric_matrix(seed, 4, positive=seed % 2 == 0)
        product = G @ Js
        miss = np.linalg.norm(product - product.swapaxes(1, 2)) * 2 / (np.linalg.norm(G) * J_norm)
        assert miss >= found.residual / (2 * np.linalg.cond(G))


def test_a_part_that_moves_by_itself_leaves_a_singular_metric():
    """Lorenz beside a natural gradient of two coordinates: rank 2, and no metric for the whole."""
    gradient = NaturalGradient(jnp.array([[2.0, 0.5], [0.5, 1.0]]))
    found = cf.is_gradient(
        lambda t, y, args: jnp.concatenate([lorenz(t, y[:3], None), gradient(t, y[3:])]), points(5, 6)
    ).constant_metric
    assert found is not None
    assert (found.kind, found.dimension, found.rank) == ("none", 1, 2)


def test_decoupled_groups_have_metrics_of_their_own():
    """Two natural gradients side by side: two dimensions of metrics, and a positive one among them."""
    first = NaturalGradient(jnp.asarray(symmetric_matrix(0, 2, positive=True)))
    second = NaturalGradient(-jnp.asarray(symmetric_matrix(1, 3, positive=True)))  # one climbs

    def field(t, y, args):
        return jnp.concatenate([first(t, y[:2]), second(t, y[2:])])

    found = cf.is_gradient(field, points(5, 6)).constant_metric
    assert found is not None
    assert (found.kind, found.dimension, found.rank) == ("positive", 2, 5)
    assert found.G is not None
    np.testing.assert_allclose(found.G[:2, 2:], 0, atol=1e-8)


def test_large_states_are_not_searched():
    found = cf.is_gradient(Linear(-jnp.eye(49)), points(49, 1))
    assert found
    assert found.constant_metric is None
    assert "constant metric" not in str(found)
    assert list(found.to_xarray().variables) == ["diagonal_metric"]


def test_the_dataset_holds_both_metrics():
    found = cf.is_gradient(Linear(-jnp.diag(jnp.array([1.0, 2.0, 3.0]))), points(3))
    constant, data = found.constant_metric, found.to_xarray()
    assert constant is not None
    np.testing.assert_array_equal(data["diagonal_metric"], found.diagonal_metric)
    np.testing.assert_array_equal(data["constant_metric_G"], constant.G)
    assert data.attrs["is_gradient"] == 1
    assert data.attrs["constant_metric_dimension"] == constant.dimension
    said = f"{constant}".removeprefix("ConstantMetric: ")
    assert f"; {said}; " in f"{found}"


# ------------------------------------------------------------------------------------- what a pass is worth


def test_a_pass_at_m_random_points_bounds_the_share_that_could_fail():
    for count, bound in ((1, 0.95), (59, 0.0495), (299, 0.00997)):
        found = cf.is_gradient(Linear(-jnp.eye(2)), points(2, count))
        assert (found.points, found.failures) == (count, 0)
        assert found.share_bound() == pytest.approx(1 - 0.05 ** (1 / count), rel=1e-12)
        assert found.share_bound() == pytest.approx(bound, rel=0.01)
    assert found.share_bound(0.99) > found.share_bound(0.9)


def kinked(t, y, args):
    """A gradient flow wherever y1 < 1, and a rotation beyond: 16 % of a normal distribution."""
    return jnp.where(y[0] < 1.0, -y, jnp.stack([-y[1], y[0]]))


def test_the_bound_covers_the_true_share_as_often_as_it_says():
    """1000 samples of 20 points, in which 16 % of the points fail: too low a bound in fewer than 5 % of them."""
    share = 0.15865525393145707
    failures = np.random.default_rng(0).binomial(20, share, 1000)
    bounds = {}
    for count in np.unique(failures):
        ys = jnp.concatenate([jnp.full((count, 2), 2.0), jnp.zeros((20 - count, 2))])
        found = cf.is_gradient(kinked, ys)
        assert found.failures == count
        bounds[count] = found.share_bound(0.95)
    covered = np.mean([bounds[count] >= share for count in failures])
    assert 0.95 <= covered < 0.99


def test_a_metric_is_tested_by_the_points_left_after_it_was_found():
    flow = NaturalGradient(jnp.asarray(symmetric_matrix(0, 3, positive=True)))
    for count in (2, 3, 50):
        found = cf.is_gradient(flow, points(3, count)).constant_metric
        assert found is not None
        assert (found.points, found.settled_after) == (count, 2)
        expected = 1.0 if count == 2 else 1 - (0.05 / count) ** (1 / (count - 2))
        assert found.share_bound() == pytest.approx(expected)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 2.0])
def test_a_confidence_lies_between_0_and_1(confidence: float):
    found = cf.is_gradient(Linear(-jnp.eye(2)), points(2))
    assert found.constant_metric is not None
    for question in (found, found.constant_metric):
        with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1"):
            question.share_bound(confidence)
