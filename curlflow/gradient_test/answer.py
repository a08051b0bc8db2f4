"""Tests whether a flow is a gradient flow: in the Euclidean metric, or in a constant diagonal one."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree
from scipy.sparse.csgraph import connected_components

from curlflow import _checks
from curlflow._states import take
from curlflow.linearize import jacobian


@dataclass(frozen=True)
class GradientTest:
    """Whether a flow is a gradient flow, with the evidence; made by `is_gradient`. True in a boolean context if it is.

    Attributes
    ----------
    is_gradient
        Whether every sampled Jacobian is symmetric within the tolerance: the flow follows the gradient of some function.
    asymmetry
        The largest ‖J − Jᵀ‖ / ‖J‖ (Frobenius) over the sampled points.
    metric
        "positive", "indefinite" or "none": whether g ⊙ f is a gradient for constant numbers g, one per coordinate. All g
        of one sign is natural gradient in a diagonal metric; mixed signs, curl descent, in which no function decreases.
    diagonal_metric
        The numbers g, shape (n,), flattened as the Jacobian is; None without such a metric. Groups of coordinates that do
        not interact leave a factor each free: in every group the largest magnitude is 1, and most of g is positive.
    metric_residual
        ‖g J − (g J)ᵀ‖ / ‖g J‖ (Frobenius, over all points together) of the best g.
    tolerance
        What counts as symmetric, for `asymmetry` and for `metric_residual`.
    """

    is_gradient: bool
    asymmetry: float
    metric: Literal["positive", "indefinite", "none"]
    diagonal_metric: Float[np.ndarray, " state"] | None
    metric_residual: float
    tolerance: float

    def __bool__(self) -> bool:
        return self.is_gradient

    def __str__(self) -> str:
        first = "a gradient flow" if self.is_gradient else "not a gradient flow"
        second = {
            "positive": "a gradient flow in a positive diagonal metric",
            "indefinite": "a gradient flow only in an indefinite diagonal metric",
            "none": "a gradient flow in no constant diagonal metric",
        }[self.metric]
        return (
            f"GradientTest: {first} (asymmetry {self.asymmetry:.1e}); "
            f"{second} (residual {self.metric_residual:.1e})"
        )


def is_gradient(
    system: Any,
    ys: PyTree[ArrayLike],
    *,
    t: float = 0.0,
    args: Any = None,
    tolerance: float = 1e-9,
) -> GradientTest:
    r"""Test at sampled points whether a flow follows a gradient.

    A flow on a simply connected region is a gradient if and only if its Jacobian is symmetric everywhere. It is a gradient in
    the constant metric diag(g) if and only if g_i J_ij = g_j J_ji everywhere; the best g minimises the sum of squares of
    the differences over all points. For every group of coordinates that interact, directly or through others, it is the
    lowest eigenvector of a matrix. A failure at one point disproves; a
    pass at generic points of an analytic flow proves up to the tolerance.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    ys
        States to test at: a state's pytree, every leaf with a leading axis of points. Use two or more generic points.
    t, args
        Time and arguments at which the vector field is taken.
    tolerance
        Relative asymmetry that counts as none.

    Returns
    -------
    GradientTest
        The answer, the metric, and how close it was.

    Raises
    ------
    ValueError
        If `ys` has no leading axis of points, the tolerance is not positive, or as `jacobian` does.

    References
    ----------
    arXiv:2510.02765, Section 6, "Natural gradients": curl descent corresponds to an indefinite metric.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> points = jax.random.normal(jax.random.key(0), (4, 2), "float64")
    >>> print(cf.is_gradient(cf.toy_flow(flip=None), points))
    GradientTest: a gradient flow (asymmetry 0.0e+00); a gradient flow in a positive diagonal metric (residual ...)
    >>> cf.is_gradient(cf.toy_flow(flip="readout"), points).diagonal_metric.round(12)
    array([ 1., -1.])
    """
    tolerance = _checks.positive_number("tolerance", tolerance)
    Js = np.stack([jacobian(system, y, t=t, args=args) for y in _points(ys)])
    asymmetry = max(_asymmetry(J[None]) for J in Js)
    g = _best_diagonal_metric(Js, tolerance)
    residual = _asymmetry(g[:, None] * Js)
    metric = _metric_kind(g, residual, tolerance)
    return GradientTest(
        is_gradient=asymmetry <= tolerance,
        asymmetry=asymmetry,
        metric=metric,
        diagonal_metric=None if metric == "none" else g,
        metric_residual=residual,
        tolerance=tolerance,
    )


def _points(ys: PyTree[ArrayLike]) -> list[PyTree[Array]]:
    ys = _checks.state_pytree("ys", ys)
    count = _checks.leading_axis("ys", ys, "points")
    return [take(ys, i) for i in range(count)]


def _asymmetry(Js: Float[np.ndarray, "points state state"]) -> float:
    size = float(np.linalg.norm(Js))
    return float(np.linalg.norm(Js - Js.swapaxes(1, 2))) / size if size > 0 else 0.0


def _best_diagonal_metric(
    Js: Float[np.ndarray, "points state state"], tolerance: float
) -> Float[np.ndarray, " state"]:
    """The g that minimises Σ (g_i J_ij − g_j J_ji)², in every group of coordinates that interact."""
    squares = (Js**2).sum(0)
    Q = np.diag(squares.sum(1)) - (Js * Js.swapaxes(1, 2)).sum(0)
    count, groups = connected_components(squares > tolerance**2 * squares.max(), directed=False)
    g = np.zeros(len(Q))
    for group in (np.flatnonzero(groups == label) for label in range(count)):
        # Within a group any two numbers have a fixed ratio, so the minimum is unique up to a factor.
        g[group] = _scaled(np.linalg.eigh(Q[np.ix_(group, group)])[1][:, 0])
    return g


def _scaled(g: Float[np.ndarray, " group"]) -> Float[np.ndarray, " group"]:
    """Scaled so that the largest magnitude is 1, and most of it, or the first number, is positive."""
    g = g / np.abs(g).max()
    total = g.sum()
    return g if total > 1e-9 or (abs(total) <= 1e-9 and g[0] > 0) else -g


def _metric_kind(
    g: Float[np.ndarray, " state"], residual: float, tolerance: float
) -> Literal["positive", "indefinite", "none"]:
    if residual > tolerance or np.abs(g).min() <= np.sqrt(tolerance):
        return "none"
    return "positive" if (g > 0).all() else "indefinite"
