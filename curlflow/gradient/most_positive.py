"""Is there a positive definite matrix in a space of symmetric matrices? A small semidefinite programme."""

import numpy as np
from jaxtyping import Float

from curlflow._later import xr
from curlflow._results import result

# The smallest eigenvalue, at Frobenius norm 1, from which a matrix counts as positive definite, and as nonsingular.
SINGULAR = 1e-8


@result
class MostPositive:
    """The matrix of Frobenius norm 1 with the largest smallest eigenvalue, between two bounds that were computed.

    Attributes
    ----------
    G
        The best matrix found.
    lower
        Its smallest eigenvalue.
    upper
        No matrix of norm 1 in the space has a smallest eigenvalue above this, if it is positive.
    """

    G: Float[np.ndarray, "n n"]
    lower: float
    upper: float

    def to_xarray(self) -> "xr.Dataset":
        """The matrix along `row` and `column`; the bounds as attributes."""
        return xr.Dataset(
            {"G": (("row", "column"), self.G)}, attrs={"lower": self.lower, "upper": self.upper}
        )

    def __str__(self) -> str:
        return f"MostPositive: smallest eigenvalue {self.lower:.6g} at norm 1, at most {self.upper:.6g}"


def most_positive(space: Float[np.ndarray, "dimension n n"]) -> MostPositive:
    r"""Maximise the smallest eigenvalue over the unit sphere of a space of symmetric matrices, given by an orthonormal basis.

    Over the unit ball the problem is concave: maximise t with :math:`S = \sum x_i B_i - t I \succeq 0` and :math:`\lVert x
    \rVert \le 1`. Newton's method follows the central path of its logarithmic barrier. The dual minimises :math:`\lVert
    (\langle Z, B_i \rangle)_i \rVert` over positive semidefinite Z of trace 1, and every such Z gives an upper bound; Z = S⁻¹
    / tr S⁻¹ is one. The maximum over the ball is 0, at x = 0, if and only if no matrix is positive definite.
    """
    dimension, n, _ = space.shape
    best = _Bounds(space)
    best.try_matrix(np.tensordot(np.trace(space, axis1=1, axis2=2), space, 1))  # the identity's projection
    x, t, mu = np.zeros(dimension), -1.0, 1.0
    while mu > SINGULAR / (100 * n) and not best.decided():
        for _ in range(30):
            x, t, decrement = _newton_step(space, x, t, mu, best)
            if decrement < 0.25:
                break
        best.try_matrix(np.tensordot(x, space, 1))
        mu /= 4
    return best.result()


class _Bounds:
    """The best matrix and the best upper bound met on the way."""

    def __init__(self, space: Float[np.ndarray, "dimension n n"]):
        self.space = space
        self.G, self.lower, self.upper = space[0], -np.inf, 1 / np.sqrt(space.shape[1])
        self.try_matrix(space[0])
        self.try_matrix(-space[0])

    def try_matrix(self, G: Float[np.ndarray, "n n"]) -> None:
        size = np.linalg.norm(G)
        lowest = np.linalg.eigvalsh(G / size)[0] if size > 1e-12 else -np.inf
        if lowest > self.lower:
            self.G, self.lower = G / size, float(lowest)

    def try_dual(self, Z: Float[np.ndarray, "n n"]) -> None:
        self.upper = min(self.upper, float(np.linalg.norm(np.tensordot(self.space, Z, 2)) / np.trace(Z)))

    def decided(self) -> bool:
        return bool(self.upper < SINGULAR or (self.lower > SINGULAR and self.upper < 1.01 * self.lower))

    def result(self) -> MostPositive:
        return MostPositive(self.G, self.lower, max(self.upper, self.lower))


def _newton_step(
    space: Float[np.ndarray, "dimension n n"], x: np.ndarray, t: float, mu: float, best: _Bounds
) -> tuple[np.ndarray, float, float]:
    """One damped step on −t/μ − log det(G(x) − t I) − log(1 − ‖x‖²), which stays inside; and its length."""
    dimension, n, _ = space.shape
    S_inverse_root = np.linalg.inv(np.linalg.cholesky(np.tensordot(x, space, 1) - t * np.eye(n)))
    best.try_dual(S_inverse_root.T @ S_inverse_root)
    directions = np.concatenate([space, -np.eye(n)[None]])  # of S, with x and with t
    scaled = (S_inverse_root @ directions @ S_inverse_root.T).reshape(dimension + 1, -1)
    slack = 1 - x @ x
    slope = -scaled @ np.eye(n).ravel()
    slope[:dimension] += 2 * x / slack
    slope[-1] -= 1 / mu
    curvature = scaled @ scaled.T
    curvature[:dimension, :dimension] += 2 * np.eye(dimension) / slack + 4 * np.outer(x, x) / slack**2
    step = -np.linalg.solve(curvature, slope)
    decrement = float(np.sqrt(max(-slope @ step, 0.0)))
    step /= 1 + decrement
    return x + step[:dimension], t + float(step[-1]), decrement
