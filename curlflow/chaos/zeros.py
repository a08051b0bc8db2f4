"""Which exponents must be zero, and why: time shifts, symmetries, conserved quantities, manifolds of fixed points."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from curlflow._results import result

# Ranks count singular values above this fraction of the largest one.
RANK_TOLERANCE = 1e-8
# More numbers than this in the gradients of all conserved quantities are refused.
LARGEST_GRADIENTS = 50_000_000


@result
class Zeros:
    """How many exponents must vanish, by reason, and how many do; made by `LyapunovSpectrum.zeros`.

    Attributes
    ----------
    time_shift
        1 if the orbit moves: the direction along it neither grows nor shrinks for good.
    symmetries
        Directions along which a continuous symmetry moves the state, beyond the orbit's own.
    conserved
        Conserved quantities beyond those whose zero a symmetry already explains.
    manifold
        At a fixed point, the directions along a manifold of fixed points (the null space of the Jacobian), which then
        contain what the other reasons would explain.
    observed
        How many of the computed exponents are zero within their resolution.
    """

    time_shift: int
    symmetries: int
    conserved: int
    manifold: int
    observed: int

    @property
    def explained(self) -> int:
        """How many exponents must be zero."""
        return self.time_shift + self.symmetries + self.conserved + self.manifold

    @property
    def unexplained(self) -> int:
        """How many zeros were found beyond those; negative where fewer were found (or computed) than must be there."""
        return self.observed - self.explained

    def __str__(self) -> str:
        counts = {
            "time shift": self.time_shift,
            "symmetries": self.symmetries,
            "conserved quantities": self.conserved,
            "manifold of fixed points": self.manifold,
        }
        listed = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        return f"Zeros: {self.observed} observed, {self.explained} explained ({listed or 'none'})"


def count_zeros(
    field: Callable[[PyTree[Array]], PyTree[Array]],
    y: PyTree[Array],
    *,
    at_rest: bool,
    autonomous: bool,
    conserved: Callable[[PyTree[Array]], Any] | None,
    symmetries: Callable[[PyTree[Array]], PyTree[Array]] | None,
    observed: int,
) -> Zeros:
    """Count the zeros that theory demands.

    Tangent directions along the orbit and along symmetries span a space in which nothing grows. The gradients of conserved
    quantities are carried along unchanged by the transposed dynamics: those combinations that vanish on the first
    space give further zeros. Hence rank(A) + rank(C) − rank(C A), with the directions A and the gradients C.
    """
    if at_rest:
        n_manifold = _null_space_dimension(field, y)
        return Zeros(0, 0, 0, n_manifold, observed)
    state = ravel_pytree(y)[0]
    moves = _symmetry_directions(symmetries, y, state.size)
    if autonomous:
        velocity = ravel_pytree(field(y))[0]
        directions = np.concatenate([moves, np.asarray(velocity)[:, None]], axis=1)
    else:
        directions = moves
    gradients = _gradients(conserved, y, state.size)
    n_symmetries = _rank(moves)
    n_directions = _rank(directions)
    n_conserved = _rank(gradients) - _overlap(gradients, directions)
    return Zeros(n_directions - n_symmetries, n_symmetries, n_conserved, 0, observed)


def _symmetry_directions(
    symmetries: Callable[[PyTree[Array]], PyTree[Array]] | None, y: PyTree[Array], n: int
) -> Float[np.ndarray, "state symmetries"]:
    stacked = None if symmetries is None else symmetries(y)
    if stacked is None:
        return np.zeros((n, 0))
    return np.asarray(jax.vmap(lambda direction: ravel_pytree(direction)[0])(stacked)).T


def _gradients(
    conserved: Callable[[PyTree[Array]], Any] | None, y: PyTree[Array], n: int
) -> Float[np.ndarray, "quantities state"]:
    if conserved is None:
        return np.zeros((0, n))
    state, unravel = ravel_pytree(y)

    def values(state: Array) -> Array:
        return ravel_pytree(conserved(unravel(state)))[0]

    count = jax.eval_shape(values, state).size
    if count * n > LARGEST_GRADIENTS:
        raise ValueError(
            f"The conserved quantities must have at most {LARGEST_GRADIENTS:g} derivatives to be counted, "
            f"but {count} quantities of {n} numbers have {count * n:g}."
        )
    return np.asarray(jax.jacrev(values)(state))


def _overlap(gradients: np.ndarray, directions: np.ndarray) -> int:
    """The rank of C A, measured against the sizes of C and A and not against its own."""
    if not gradients.size or not directions.size:
        return 0
    scale = np.linalg.norm(gradients, 2) * np.linalg.norm(directions, 2)
    values = np.linalg.svd(gradients @ directions, compute_uv=False)
    return int(np.sum(values > RANK_TOLERANCE * scale))


def _rank(matrix: np.ndarray) -> int:
    if not matrix.size:
        return 0
    values = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(values > RANK_TOLERANCE * max(values[0], 1e-300)))


def _null_space_dimension(field: Callable[[PyTree[Array]], PyTree[Array]], y: PyTree[Array]) -> int:
    state, unravel = ravel_pytree(y)
    J = np.asarray(jax.jacfwd(lambda state: ravel_pytree(field(unravel(state)))[0])(state))
    values = np.linalg.svd(J, compute_uv=False)
    # The orbit has come only as close to the fixed point as the solver's errors let it.
    return int(np.sum(values <= 1e-5 * max(values[0], 1e-300)))
