"""Elementwise roots of monotone functions: a fixed number of bisections, so that whole arrays move together."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Sixty halvings shrink a bracket by 1e18, below the rounding of its ends.
HALVINGS = 60


def falling_root(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where an elementwise decreasing function crosses zero between `low` and `high`.

    Without a crossing the answer is the end nearest to one. Derivatives, of any order, come from the implicit
    function theorem and not from the bisection.
    """
    low, high = lax.stop_gradient((low, high))
    return implicit_root(function, lambda function: bisect(function, low, high), like=low)


def implicit_root(
    function: Callable[[Array], Array], solve: Callable[[Callable[[Array], Array]], Array], *, like: Array
) -> Array:
    """The elementwise root that `solve(function)` finds, an array `like` another, made differentiable."""

    def divide_by_slope(linear: Callable[[Array], Array], right_side: Array) -> Array:
        return right_side / linear(jnp.ones_like(right_side))

    # The lambda: JAX hashes the function, and a module's bound method with traced fields cannot be hashed.
    return lax.custom_root(lambda z: function(z), like, lambda function, _: solve(function), divide_by_slope)


def bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """`falling_root` without derivatives."""

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        root_is_above = function(middle) > 0
        return jnp.where(root_is_above, middle, low), jnp.where(root_is_above, high, middle)

    ends = lax.fori_loop(0, HALVINGS, halve, tuple(jnp.broadcast_arrays(low, high)))
    return (ends[0] + ends[1]) / 2
