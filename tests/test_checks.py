"""The argument checks: what passes, what does not, and that traced values are left alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf
from curlflow import _checks


@pytest.mark.parametrize(
    "value",
    [1, True, 2.5, [1, 2], [[1.0], [2.0]], np.arange(3), np.array([True]), jnp.ones(2), np.float64(1)],
)
def test_whatever_is_real_becomes_a_float64_array(value: Any):
    array = _checks.float64_array("x", value)
    assert array.dtype == jnp.float64
    assert not array.weak_type
    np.testing.assert_array_equal(array, np.asarray(value, float))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("one", "`x` must be an array of numbers, but is 'one'."),
        (None, "`x` must be an array of numbers, but is None."),
        ([[1.0], [1.0, 2.0]], "`x` must be an array of numbers, but is [[1.0], [1.0, 2.0]]."),
        (10**30, f"`x` must be an array of numbers, but is {10**30}."),
        (1j, "`x` must be real, but its dtype is complex128."),
        (np.float32(1), "`x` must be float64, but its dtype is float32. Convert it by .astype(float)"),
        (np.nan, "`x` must be finite, but has nan."),
        ([0.0, np.inf], "`x` must be finite, but has inf at index 1."),
        ([[0.0, 1.0], [-np.inf, np.nan]], "`x` must be finite, but has -inf at index (1, 0)."),
    ],
    ids=repr,
)
def test_whatever_is_not_is_refused_and_shown(value: Any, message: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole message follows
        _checks.float64_array("x", value)
    assert str(caught.value).startswith(message)


def test_signs_are_plus_and_minus_one():
    _checks.require_signs("d", jnp.array([1.0, -1.0, 1.0]))
    for signs, message in (
        ([1.0, 0.5], "`d` must hold only +1 and −1, but has 0.5 at index 1."),
        ([[1.0, 1.0], [0.0, -1.0]], "`d` must hold only +1 and −1, but has 0.0 at index (1, 0)."),
        (2.0, "`d` must hold only +1 and −1, but has 2.0."),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            _checks.require_signs("d", jnp.asarray(signs))
        assert str(caught.value) == message


def test_shapes_are_named_in_letters_and_numbers():
    with pytest.raises(
        ValueError, match=r"`W1` must have shape \(N, M\) = \(3, 2\), but has shape \(2, 3\)\."
    ):
        _checks.require_shape("W1", jnp.ones((2, 3)), (3, 2), "(N, M)")


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_positive_semidefinite_up_to_rounding_at_any_scale(scale: float):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 30))
    singular = scale * X.T @ X
    singular[0, 1] *= 1 + 1e-15  # as a product by BLAS may be
    _checks.require_positive_semidefinite("C", jnp.asarray(singular))
    _checks.require_positive_semidefinite("C", jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="`C` must be symmetric, but differs from its transpose by"):
        _checks.require_positive_semidefinite("C", jnp.asarray(scale * np.array([[1.0, 1e-12], [0.0, 1.0]])))
    with pytest.raises(
        ValueError, match="`C` must be positive semidefinite, but its smallest eigenvalue is -"
    ):
        _checks.require_positive_semidefinite("C", jnp.asarray(singular - 1e-9 * scale * np.eye(30)))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (_checks.finite_number, [0, -1.5, np.float64(2), jnp.asarray(1.0)], [np.nan, np.inf, None, [1, 2]]),
        (_checks.positive_number, [1e-300, 2], [0, -1, np.nan]),
        (_checks.non_negative_number, [0, 2], [-1e-300, np.inf]),
        (_checks.fraction, [0, 0.5, 1], [-0.1, 1.1, np.nan]),
        (_checks.positive_integer, [1, np.int64(3)], [0, -2, 1.0, True, "1"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_numbers(check: Any, good: list[Any], bad: list[Any]):
    for value in good:
        number = check("x", value)
        assert number == value
        assert type(number) in (int, float)
    for value in bad:
        with pytest.raises(ValueError, match=r"^`x` must .*, but is "):
            check("x", value)


def test_a_random_key_is_one_key_of_either_kind():
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert _checks.random_key("key", key) is key
    for key in (
        0,
        None,
        jax.random.split(jax.random.key(0)),
        jax.random.split(jax.random.PRNGKey(0)),
        jnp.ones(2),
    ):
        with pytest.raises(
            ValueError, match=r"`key` must be one JAX random key, e\.g\. jax\.random\.key\(0\), but"
        ):
            _checks.random_key("key", key)


def test_a_state_is_any_pytree_with_a_number_in_it():
    y = _checks.state_pytree("y0", {"a": [1, 2.5], "W": cf.Weights([[1]], [[2]]), "empty": np.zeros(0)})
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(y))
    for empty in (None, [], {"a": np.zeros((0, 3))}):
        with pytest.raises(ValueError, match="`y0` must hold at least one number, but is empty"):
            _checks.state_pytree("y0", empty)
    with pytest.raises(ValueError, match=r"`y0\['W'\]\.W2` must be finite, but has nan at index \(0, 0\)\."):
        _checks.state_pytree("y0", {"W": cf.Weights([[1.0]], [[np.nan]])})


def test_leading_axes_are_shared():
    assert _checks.leading_axis("y0", {"a": jnp.ones(3), "b": jnp.ones((3, 2))}, "members") == 3
    for tree in ({"a": jnp.ones(3), "b": jnp.ones((2, 3))}, jnp.asarray(1.0), jnp.ones((0, 2))):
        with pytest.raises(ValueError, match="`y0` must have one leading axis of members on every leaf, but"):
            _checks.leading_axis("y0", tree, "members")


def test_traced_values_pass_and_their_shapes_do_not():
    @jax.jit
    def checked(x: jax.Array) -> jax.Array:
        x = _checks.float64_array("x", x)
        _checks.require_finite("x", x)
        _checks.require_signs("x", x)
        _checks.require_positive_semidefinite("x", x)
        return x

    assert np.isnan(checked(jnp.full((2, 2), jnp.nan))).all()
    with pytest.raises(ValueError, match="`x` must have shape"):
        jax.jit(lambda x: _checks.require_shape("x", x, (3,), "(N,)"))(jnp.ones(2))
    with pytest.raises(ValueError, match="`x` must be float64"):
        jax.jit(lambda x: _checks.float64_array("x", x))(jnp.ones(2, jnp.float32))


def test_float32_is_refused_with_the_remedy():
    _checks.require_float64()
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r'jax\.config\.update\("jax_enable_x64", True\)'),
    ):
        _checks.require_float64()
