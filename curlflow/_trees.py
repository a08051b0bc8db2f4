"""Pytrees of numbers: their size, stacks of them whose leaves share a leading axis, names of leaves, numbers made arrays."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike


def size(y: PyTree[Array]) -> int:
    """How many numbers the state holds."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(y))


def flatten_states(ys: PyTree[ArrayLike]) -> Float[np.ndarray, "states numbers"]:
    """The states as rows, each flattened in pytree order."""
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(ys)], axis=1)


def take(ys: PyTree[Array], index: Any) -> PyTree[Array]:
    """The state or states at `index`."""
    return jax.tree.map(lambda leaf: leaf[index], ys)


def leaf_name(path: tuple[Any, ...]) -> str:
    """A variable name for a leaf of the state: "W1" for a field, "y" for a bare array, "y_0" for an item."""
    text = jtu.keystr(path, simple=True, separator="_").replace("/", "_")  # which in files makes a folder
    return text if text.isidentifier() else f"y_{text}".rstrip("_")


def labelled_leaves(
    ys: PyTree[Array], *leading: str, taken: Iterable[str] = ()
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The leaves as variables of a dataset, by name: the dimensions, of which the `leading` ones are shared, and the numbers.

    The other dimensions of a leaf W1 are W1_axis0, W1_axis1, …. No name stands for two things: a leaf whose name, or that of
    one of its dimensions, is among those `taken`, or that of a dimension or of a leaf before it, gets another "y_" in front.
    """
    variables, used = {}, {*leading, *taken}
    for path, leaf in jtu.tree_leaves_with_path(ys):
        name, numbers = leaf_name(path), np.asarray(leaf)
        own = range(numbers.ndim - len(leading))
        while used & {name, *(f"{name}_axis{i}" for i in own)}:
            name = f"y_{name}"
        dimensions = tuple(f"{name}_axis{i}" for i in own)
        used |= {name, *dimensions}
        variables[name] = ((*leading, *dimensions), numbers)
    return variables


def float64(value: float | Array) -> Float[Array, ""]:
    """A number as an array, so that another one does not recompile."""
    return jnp.asarray(value, jnp.float64)


def floats_to_arrays(tree: Any) -> Any:
    """The same with every Python float made an array, so that other ones do not recompile."""
    return jax.tree.map(lambda leaf: float64(leaf) if isinstance(leaf, float) else leaf, tree)
