"""Pytrees of numbers: their size, stacks of them whose leaves share a leading axis, and numbers made arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree


def size(y: PyTree[Array]) -> int:
    """How many numbers the state holds."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(y))


def flatten_states(ys: PyTree[Array]) -> Float[np.ndarray, "states numbers"]:
    """The states as rows, each flattened in pytree order."""
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(ys)], axis=1)


def take(ys: PyTree[Array], index: Any) -> PyTree[Array]:
    """The state or states at `index`."""
    return jax.tree.map(lambda leaf: leaf[index], ys)


def float64(value: float | Array) -> Float[Array, ""]:
    """A number as an array, so that another one does not recompile."""
    return jnp.asarray(value, jnp.float64)


def floats_to_arrays(tree: Any) -> Any:
    """The same with every Python float made an array, so that other ones do not recompile."""
    return jax.tree.map(lambda leaf: float64(leaf) if isinstance(leaf, float) else leaf, tree)
