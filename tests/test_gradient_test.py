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
    assert "a gradient flow only in an indefinite diagonal metric" in str(found)


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
    assert str(found).startswith("GradientTest: not a gradient flow (asymmetry")
    assert "; a gradient flow in a positive diagonal metric (residual" in str(found)


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
