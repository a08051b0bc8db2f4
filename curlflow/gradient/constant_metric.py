"""Constant symmetric metrics in which a flow follows a gradient: all of them, from Jacobians at sampled points."""

from dataclasses import fields
from typing import Literal

import numpy as np
from jaxtyping import Float

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.gradient.diagonal_metric import in_units
from curlflow.gradient.most_positive import SINGULAR, most_positive

# n (n + 1) / 2 unknowns: at this size the search takes seconds, and its time grows as n⁶.
LARGEST_SEARCH = 48


@result
class ConstantMetric:
    """The constant symmetric matrices G for which G f is a gradient; part of what `is_gradient` returns.

    Attributes
    ----------
    kind
        "positive" if one of them is positive definite: f is a natural gradient. "indefinite" if some are nonsingular and none
        is positive definite: curl descent. "none" if all are singular.
    G
        One of them, shape (n, n), flattened as the Jacobian is, its largest entry 1: of the positive definite ones that whose
        smallest eigenvalue is largest; of indefinite ones a diagonal one if there is one, else the best conditioned met. None
        without a nonsingular one.
    dimension
        How many independent ones there are, singular ones included. If there are several, so are all their sums.
    rank
        The largest rank among them, n if a metric exists. A singular G of rank r > 0 is a gradient for r combinations of
        coordinates that move by themselves.
    residual
        ‖GJ − (GJ)ᵀ‖ √n / (‖G‖ ‖J‖) in Frobenius norms over all points together: of `G`; without a metric, the smallest
        among all matrices at right angles to the singular ones. A metric then misses by at least this much divided by √n
        times its condition number.
    smallest_eigenvalue
        Two bounds on how large the smallest eigenvalue can be at Frobenius norm 1, the coordinates measured in balanced
        units: the largest found, and one above which there is none if it is positive. A matrix counts as singular, and not
        as positive definite, up to 1e-8.
    points
        How many points were used.
    settled_after
        After how many of them, in their order, the space of metrics did not shrink any more.
    """

    kind: Literal["positive", "indefinite", "none"]
    G: Float[np.ndarray, "state state"] | None
    dimension: int
    rank: int
    residual: float
    smallest_eigenvalue: tuple[float, float]
    points: int
    settled_after: int

    def share_bound(self, confidence: float = 0.95) -> float:
        """The largest share of points at which these metrics could still fail, at a confidence, if the points are random.

        After the k-th of m independent points the space of metrics passed m − k tests in a row. If it fails on more than a
        share p of the distribution, that has a probability below (1 − p)^(m − k), for each of the m values that k could have
        had. 1 if no point was left to test it, or there is no metric.
        """
        risk = risk_of(confidence)
        left = self.points - self.settled_after
        if self.kind == "none" or left == 0:
            return 1.0
        return 1 - (risk / self.points) ** (1 / left)

    def to_xarray(self) -> "xr.Dataset":
        """The matrix `G` along `row` and `column`, if there is one; the rest as attributes."""
        return xr.Dataset(
            {} if self.G is None else {"G": (("row", "column"), self.G)},
            attrs={each.name: getattr(self, each.name) for each in fields(self) if each.name != "G"},
        )

    def __str__(self) -> str:
        name = {
            "positive": "a positive definite constant metric",
            "indefinite": "only indefinite constant metrics"
            if self.dimension > 1
            else "only an indefinite constant metric",
            "none": "no constant metric",
        }[self.kind]
        return f"ConstantMetric: {name} (residual {self.residual:.1e}, {self.dimension}-dimensional, rank {self.rank})"


def constant_metrics(
    Js: Float[np.ndarray, "points state state"],
    t: Float[np.ndarray, " state"],
    diagonal: Float[np.ndarray, " state"] | None,
    tolerance: float,
) -> ConstantMetric:
    """All symmetric G with G J symmetric at every point; `t` are balanced units, `diagonal` a diagonal one or None."""
    Js = in_units(Js, t)
    n = Js.shape[1]
    basis = _symmetric_basis(n)
    sizes, directions, settled_after = _singular_values(Js, basis, tolerance)
    dimension = int((sizes <= tolerance).sum())
    space = np.tensordot(directions[len(sizes) - dimension :], basis, 1)
    rank = _generic_rank(space)
    if rank < n:
        residual = float(sizes[len(sizes) - dimension - 1])
        return ConstantMetric("none", None, dimension, rank, residual, (0.0, 0.0), len(Js), settled_after)
    best = most_positive(space)
    positive = best.lower > SINGULAR
    G = (
        best.G
        if positive
        else _best_conditioned(space, None if diagonal is None else np.diag(diagonal * t**2))
    )
    return ConstantMetric(
        kind="positive" if positive else "indefinite",
        G=_scaled(G / np.outer(t, t)),
        dimension=dimension,
        rank=rank,
        residual=_residual(G, Js),
        smallest_eigenvalue=(float(best.lower), float(best.upper)),
        points=len(Js),
        settled_after=settled_after,
    )


def risk_of(confidence: float) -> float:
    """1 − confidence, for a confidence between 0 and 1, both excluded."""
    confidence = _checks.fraction("confidence", confidence)
    if confidence in (0.0, 1.0):
        raise ValueError(f"`confidence` must lie between 0 and 1, both excluded, but is {confidence:g}.")
    return 1 - confidence


def _symmetric_basis(n: int) -> Float[np.ndarray, "unknowns n n"]:
    """An orthonormal basis of the symmetric matrices."""
    rows, columns = np.triu_indices(n)
    basis = np.zeros((len(rows), n, n))
    basis[np.arange(len(rows)), rows, columns] = np.where(rows == columns, 1.0, np.sqrt(0.5))
    basis[np.arange(len(rows)), columns, rows] = np.where(rows == columns, 1.0, np.sqrt(0.5))
    return basis


def _singular_values(
    Js: Float[np.ndarray, "points state state"], basis: Float[np.ndarray, "unknowns n n"], tolerance: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Singular values, as residuals, and right singular vectors of G ↦ GJ − (GJ)ᵀ; and when their null space was settled."""
    n, unknowns = Js.shape[1], len(basis)
    triangle = np.zeros((0, unknowns))
    above = np.triu_indices(n, 1)
    size, dimension, settled_after = 0.0, unknowns, 0
    for count, J in enumerate(Js, start=1):
        product = basis @ J
        equations = np.sqrt(2) * (product - product.swapaxes(1, 2))[:, *above].T
        triangle = np.linalg.qr(np.concatenate([triangle, equations]), mode="r")
        size = float(np.hypot(size, np.linalg.norm(J)))
        if dimension or count == len(Js):
            sizes = np.linalg.svd(triangle, compute_uv=False) * np.sqrt(n) / (size or 1.0)
            left = unknowns - int((sizes > tolerance).sum())
            settled_after = count if left < dimension else settled_after
            dimension = left
    padded = np.zeros((unknowns, unknowns))
    padded[: len(triangle)] = triangle
    _, sizes, directions = np.linalg.svd(padded)
    return sizes * np.sqrt(n) / (size or 1.0), directions, settled_after


def _generic_rank(space: Float[np.ndarray, "dimension n n"]) -> int:
    """The largest rank in the space, which all but a set of measure zero of it have."""
    if not len(space):
        return 0
    sizes = max(
        (np.linalg.svd(G, compute_uv=False) / np.linalg.norm(G) for G in _random_members(space, 8)),
        key=lambda sizes: (sizes > SINGULAR).sum(),
    )
    return int((sizes > SINGULAR).sum())


def _best_conditioned(
    space: Float[np.ndarray, "dimension n n"], diagonal: Float[np.ndarray, "n n"] | None
) -> Float[np.ndarray, "n n"]:
    candidates = _random_members(space, 1 if len(space) == 1 else 200)
    if diagonal is not None:
        candidates.append(diagonal)
    return max(candidates, key=lambda G: np.abs(np.linalg.eigvalsh(G)).min() / np.linalg.norm(G))


def _random_members(space: Float[np.ndarray, "dimension n n"], count: int) -> list[np.ndarray]:
    # The seed is fixed: the draws only stand for "any", and the same question gets the same answer.
    return [np.tensordot(x, space, 1) for x in np.random.default_rng(0).normal(size=(count, len(space)))]


def _residual(G: Float[np.ndarray, "n n"], Js: Float[np.ndarray, "points state state"]) -> float:
    size = np.linalg.norm(G) * np.linalg.norm(Js)
    product = G @ Js
    return (
        float(np.linalg.norm(product - product.swapaxes(1, 2)) * np.sqrt(len(G)) / size) if size > 0 else 0.0
    )


def _scaled(G: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Scaled so that the largest entry has magnitude 1, with a trace that is not negative."""
    G = (G + G.T) / (2 * np.abs(G).max())
    return -G if np.trace(G) < -1e-9 or (abs(np.trace(G)) <= 1e-9 and G[0, 0] < 0) else G
