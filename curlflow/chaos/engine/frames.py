"""Frames: k tangent vectors of a state, pushed along together and kept orthonormal.

A frame is a pytree like the state in which every leaf has one more axis, of length k, before its last one (a number
becomes a vector of length k): a state of shape (n,) has frames (k, n), a layer (N, M) has frames (N, k, M). In this layout
the products of a layer with all tangent vectors are contiguous in memory. In an ensemble the members are the trailing
axis of everything.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from curlflow._trees import size
from curlflow.system import pushed

# Up to this many columns Gram–Schmidt is written out column by column, which for small systems is far cheaper than a library
# call; above it, frames at least this many times taller than wide go by Cholesky factors of their Gram matrix.
MOST_UNROLLED_COLUMNS = 8
LARGEST_UNROLLED_FRAME = 4096
CHOLESKY_ASPECT = 4


def random_frame(key: PRNGKeyArray, y: PyTree[Array], k: int) -> PyTree[Array]:
    """An orthonormal frame of k directions drawn uniformly at random."""
    leaves, structure = jtu.tree_flatten(y)
    gaussian = jax.random.normal(key, (k, size(y)), jnp.float64)
    columns = jnp.linalg.qr(gaussian.T)[0].T
    return jtu.tree_unflatten(structure, _split(columns, leaves))


def trace(fn: Callable[[Any], Any], y: PyTree[Array]) -> Float[Array, ""]:
    """The trace of the derivative of `fn` at y."""
    leaves, structure = jtu.tree_flatten(y)
    n = size(y)
    basis = jtu.tree_unflatten(structure, _split(jnp.eye(n), leaves))
    return jnp.trace(columns(pushed(fn, y, basis)[1]))


def log_determinant(fn: Callable[[Any], Any], y: PyTree[Array]) -> Float[Array, ""]:
    """log |det| of the derivative of `fn` at y."""
    leaves, structure = jtu.tree_flatten(y)
    n = size(y)
    basis = jtu.tree_unflatten(structure, _split(jnp.eye(n), leaves))
    return jnp.linalg.slogdet(columns(pushed(fn, y, basis)[1]))[1]


def columns(V: PyTree[Array]) -> Float[Array, "k state"]:
    """The frame as a matrix whose rows are the flattened tangent vectors."""
    flat = [jnp.moveaxis(leaf, max(leaf.ndim - 2, 0), 0) for leaf in jtu.tree_leaves(V)]
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in flat], axis=1)


def column_squares(V: PyTree[Array]) -> Float[Array, " k"]:
    """The squared length of every tangent vector."""

    def squares(leaf: Array) -> Array:
        axis = max(leaf.ndim - 2, 0)
        return jnp.sum(leaf**2, axis=tuple(a for a in range(leaf.ndim) if a != axis))

    return sum((squares(leaf) for leaf in jtu.tree_leaves(V)), jnp.zeros(()))


def weighted(V: PyTree[Array], weights: PyTree[Array]) -> PyTree[Array]:
    """Every component of the tangent vectors times its own weight; the weights are a pytree like the state."""
    return jtu.tree_map(
        lambda leaf, weight: leaf * jnp.expand_dims(weight, max(weight.ndim - 1, 0)), V, weights
    )


def in_blocks(V: PyTree[Array], count: int) -> PyTree[Array]:
    """The tangent vectors in so many blocks of equal width, along a new first axis: the last is repeated to fill them."""

    def leaf_in_blocks(leaf: Array) -> Array:
        axis = max(leaf.ndim - 2, 0)
        width = -(-leaf.shape[axis] // count)
        fill = [(0, 0)] * leaf.ndim
        fill[axis] = (0, width * count - leaf.shape[axis])
        filled = jnp.pad(leaf, fill, mode="edge")
        return jnp.moveaxis(
            filled.reshape(*leaf.shape[:axis], count, width, *leaf.shape[axis + 1 :]), axis, 0
        )

    return V if count == 1 else jtu.tree_map(leaf_in_blocks, V)


def from_blocks(V: PyTree[Array], k: int, count: int) -> PyTree[Array]:
    """The frame of k tangent vectors which stands in so many blocks."""

    def leaf_from_blocks(leaf: Array) -> Array:
        axis = max(leaf.ndim - 3, 0)
        joined = jnp.moveaxis(leaf, 0, axis)
        joined = joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])
        return jax.lax.slice_in_dim(joined, 0, k, axis=axis)

    return V if count == 1 else jtu.tree_map(leaf_from_blocks, V)


def orthonormalise(
    V: PyTree[Array], may_be_singular: bool = False
) -> tuple[PyTree[Array], Float[Array, " k"], Float[Array, ""]]:
    """One QR factorisation of the frame: by reflections, the slow way, if its columns may be exactly dependent.

    Returns
    -------
    tuple
        The orthonormal frame; the diagonal of R, positive; and the smallest fraction of its length that a column kept when it
        was made orthogonal to those before it. A fraction near rounding means that the column was lost. NaN means that the
        factorisation failed.
    """
    k, n = _frame_shape(V)
    largest = _largest_entries(V) if may_be_singular else jnp.ones(k)
    V = scale(V, 1 / largest) if may_be_singular else V
    lengths = jnp.sqrt(column_squares(V))
    if may_be_singular and k > 1:
        frame, diagonal = _householder(V)
    elif k <= MOST_UNROLLED_COLUMNS and k * n <= LARGEST_UNROLLED_FRAME:
        frame, diagonal = _gram_schmidt(V)
    elif n >= CHOLESKY_ASPECT * k:
        frame, diagonal = _cholesky_qr2(V, lengths)
    else:
        frame, diagonal = _householder(V)
    return frame, diagonal * largest, jnp.min(jnp.where(lengths > 0, diagonal / lengths, 0.0))


def _largest_entries(V: PyTree[Array]) -> Float[Array, " k"]:
    """The largest entry of every tangent vector, or 1 if all are 0: squares of what is divided by it cannot underflow."""
    largest = jnp.max(jnp.abs(columns(V)), axis=1)
    return jnp.where(largest > 0, largest, 1.0)


def _gram_schmidt(V: PyTree[Array]) -> tuple[PyTree[Array], Float[Array, " k"]]:
    """Modified Gram–Schmidt, column by column. A column of zeros stays one."""
    rows, diagonal = list(columns(V)), []
    for j in range(len(rows)):
        length = jnp.sqrt(jnp.sum(rows[j] ** 2))
        rows[j] = rows[j] / jnp.where(length > 0, length, 1.0)
        for i in range(j + 1, len(rows)):
            rows[i] = rows[i] - jnp.sum(rows[j] * rows[i]) * rows[j]
        diagonal.append(length)
    return like(V, jnp.stack(rows)), jnp.stack(diagonal)


def _cholesky_qr2(V: PyTree[Array], lengths: Float[Array, " k"]) -> tuple[PyTree[Array], Float[Array, " k"]]:
    """Two rounds of V = Q R with Rᵀ R = Vᵀ V: the second repairs the first's loss of orthogonality."""
    frame, diagonal = scale(V, 1 / lengths), lengths
    for _ in range(2):
        factor = jnp.linalg.cholesky(_gram(frame), symmetrize_input=False)
        inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(lengths)), lower=True)
        frame = _combine(inverse, frame)
        diagonal = diagonal * jnp.diagonal(factor)
    return frame, diagonal


def _householder(V: PyTree[Array]) -> tuple[PyTree[Array], Float[Array, " k"]]:
    Q, R = jnp.linalg.qr(columns(V).T)
    signs = jnp.where(jnp.diagonal(R) < 0, -1.0, 1.0)
    return like(V, (Q * signs).T), jnp.diagonal(R) * signs


def _gram(V: PyTree[Array]) -> Float[Array, "k k"]:
    """The inner products of all pairs of tangent vectors."""
    return sum((_leaf_gram(leaf) for leaf in jtu.tree_leaves(V)), jnp.zeros(()))


def _leaf_gram(leaf: Array) -> Array:
    if leaf.ndim == 1:
        return leaf[:, None] * leaf
    # One small product for every index before the tangent axis: the vectors stay where they are in memory.
    products = jnp.einsum("...km,...lm->...kl", leaf, leaf)
    return products.sum(axis=tuple(range(products.ndim - 2)))


def _combine(weights: Float[Array, "k k"], V: PyTree[Array]) -> PyTree[Array]:
    """New tangent vectors: row j of `weights` mixes the old ones into the new number j."""
    return jtu.tree_map(lambda leaf: weights @ leaf, V)


def scale(V: PyTree[Array], factors: Float[Array, " k"]) -> PyTree[Array]:
    """Every tangent vector times its own factor."""
    return jtu.tree_map(lambda leaf: leaf * (factors if leaf.ndim == 1 else factors[:, None]), V)


def _frame_shape(V: PyTree[Array]) -> tuple[int, int]:
    leaves = jtu.tree_leaves(V)
    k = leaves[0].shape[max(leaves[0].ndim - 2, 0)]
    return k, size(V) // k


def like(V: PyTree[Array], matrix: Float[Array, "k state"]) -> PyTree[Array]:
    """The frame with V's structure whose tangent vectors are the matrix's rows."""
    leaves, structure = jtu.tree_flatten(V)
    states = [jax.ShapeDtypeStruct(_state_shape(leaf), leaf.dtype) for leaf in leaves]
    return jtu.tree_unflatten(structure, _split(matrix, states))


def _state_shape(leaf: Array) -> tuple[int, ...]:
    axis = max(leaf.ndim - 2, 0)
    return leaf.shape[:axis] + leaf.shape[axis + 1 :]


def _split(matrix: Float[Array, "k state"], states: list[Any]) -> list[Array]:
    """The rows of a matrix as frames of the given states."""
    frames, start = [], 0
    for state in states:
        stop = start + math.prod(state.shape)
        block = matrix[:, start:stop].reshape(-1, *state.shape)
        frames.append(jnp.moveaxis(block, 0, max(len(state.shape) - 1, 0)))
        start = stop
    return frames
