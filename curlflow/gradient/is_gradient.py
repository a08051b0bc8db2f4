"""The question whether a flow is a gradient flow, and its answer with the evidence."""

from typing import Literal

import numpy as np
import scipy
from jaxtyping import Float

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._trees import float64, take
from curlflow.fixed_points.linearize import dense_jacobian
from curlflow.gradient import diagonal_metric as diagonal
from curlflow.gradient.constant_metric import LARGEST_SEARCH, ConstantMetric, constant_metrics, risk_of
from curlflow.system import Args, Flow, StateLike, flow_state


@result
class GradientTest:
    """Whether a flow is a gradient flow, with the evidence; made by `is_gradient`. True in a boolean context if it is.

    Attributes
    ----------
    is_gradient
        Whether every sampled Jacobian is symmetric within the tolerance: the flow follows the gradient of some function.
    asymmetry
        The largest ‖J − Jᵀ‖ / ‖J‖ (Frobenius) over the sampled points.
    points, failures
        How many points were sampled, and at how many of them the Jacobian is not symmetric.
    metric
        "positive", "indefinite" or "none": whether g ⊙ f is a gradient for constant numbers g, one per coordinate. All g
        of one sign is natural gradient in a diagonal metric; mixed signs, curl descent, in which no function decreases.
    diagonal_metric
        The numbers g, shape (n,), flattened as the Jacobian is; None without such a metric. Groups of coordinates that do
        not interact leave a factor each free: in every group the largest magnitude is 1, and most of g is positive. Numbers
        that differ by a factor of more than 1e12 within a group are not looked for.
    metric_residual
        ‖g J − (g J)ᵀ‖ / ‖g J‖ (Frobenius, over all points together) of the best g, the coordinates measured in the units in
        which J_ij and J_ji are of equal size.
    constant_metric
        The same question for symmetric matrices G instead of diagonal ones; None for states of more than 48 numbers.
    tolerance
        What counts as symmetric, for all residuals.
    """

    is_gradient: bool
    asymmetry: float
    points: int
    failures: int
    metric: Literal["positive", "indefinite", "none"]
    diagonal_metric: Float[np.ndarray, " state"] | None
    metric_residual: float
    constant_metric: ConstantMetric | None
    tolerance: float

    def share_bound(self, confidence: float = 0.95) -> float:
        """The largest share of points at which the Jacobian could be asymmetric, at a confidence, if the points are random.

        For points drawn independently from a distribution it bounds the probability, under that distribution, of a point
        where the Jacobian is not symmetric within the tolerance (Clopper and Pearson 1934). With no failure among m points it
        is 1 − (1 − confidence)^(1/m), about 3/m at 95 %. For an analytic flow, whose Jacobian is symmetric everywhere or
        almost nowhere, one generic point decides already, up to the tolerance.

        Parameters
        ----------
        confidence
            Between 0 and 1, both excluded.

        Examples
        --------
        >>> import curlflow as cf, jax
        >>> points = jax.random.normal(jax.random.key(0), (59, 2), "float64")
        >>> round(cf.is_gradient(cf.toy_flow(flip=None), points).share_bound(), 3)
        0.05
        """
        risk = risk_of(confidence)
        if self.failures == self.points:
            return 1.0
        return float(scipy.stats.beta.ppf(1 - risk, self.failures + 1, self.points - self.failures))

    def to_xarray(self) -> "xr.Dataset":
        """The metrics, if there are any: the diagonal one along `row`, the symmetric one along `row` and `column`.

        The rest stands in the attributes, that of the symmetric metric under names which begin with `constant_metric`.
        """
        variables, attributes = {}, {}
        if self.diagonal_metric is not None:
            variables["diagonal_metric"] = ("row", self.diagonal_metric)
        if self.constant_metric is not None:
            constant = self.constant_metric.to_xarray()
            variables |= {f"constant_metric_{name}": matrix for name, matrix in constant.items()}
            attributes = {f"constant_metric_{name}": value for name, value in constant.attrs.items()}
        own = ("asymmetry", "points", "failures", "metric", "metric_residual", "tolerance")
        attributes |= {"is_gradient": int(self.is_gradient), **{name: getattr(self, name) for name in own}}
        return xr.Dataset(variables, attrs=attributes)

    def __bool__(self) -> bool:
        return self.is_gradient

    def __str__(self) -> str:
        first = "a gradient flow" if self.is_gradient else "not a gradient flow"
        second = {
            "positive": "a gradient flow in a positive diagonal metric",
            "indefinite": "a gradient flow only in an indefinite diagonal metric",
            "none": "a gradient flow in no constant diagonal metric",
        }[self.metric]
        constant = "" if self.constant_metric is None else f"; {self.constant_metric}"
        return (
            f"GradientTest: {first} (asymmetry {self.asymmetry:.1e}); "
            f"{second} (residual {self.metric_residual:.1e})"
            f"{constant.replace('ConstantMetric: ', '')}; {self.points} points"
        )


def is_gradient(
    system: Flow,
    ys: StateLike,
    *,
    t: float = 0.0,
    args: Args = None,
    tolerance: float = 1e-9,
) -> GradientTest:
    r"""Test at sampled points whether a flow follows a gradient.

    A flow on a simply connected region is a gradient if and only if its Jacobian is symmetric everywhere. It is the gradient
    flow of a function in a constant metric G if and only if G J is symmetric everywhere; G positive definite makes it a
    natural gradient, along which the function falls. Both are tested at the points: for diagonal metrics by the lowest
    eigenvector of a matrix in every group of coordinates that interact; for all symmetric ones by the null space of the
    linear map G ↦ G J − (G J)ᵀ, in which a semidefinite programme then finds a positive definite matrix or excludes it.

    A failure at one point disproves. What a pass is worth depends on the flow: for an analytic one a generic point is as
    good as all, for any other `GradientTest.share_bound` bounds the share of points that may still fail.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    ys
        States to test at: a state's pytree, every leaf with a leading axis of points. Use three or more generic points: at
        one point alone a metric always exists.
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
    arXiv:2510.02765, Section 6, "Natural gradients": curl descent corresponds to an indefinite metric. C. J. Clopper,
    E. S. Pearson, Biometrika 26, 404 (1934).

    Notes
    -----
    A linear flow f = J y has a nonsingular constant metric whatever J is, because every real matrix is a product of two
    symmetric ones; and a positive definite one if and only if J has real eigenvalues and a full set of eigenvectors.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> points = jax.random.normal(jax.random.key(0), (20, 2), "float64")
    >>> print(cf.is_gradient(cf.toy_flow(flip=None), points))
    GradientTest: a gradient flow (asymmetry 0.0e+00); a gradient flow in a positive diagonal metric (residual ...);
    a positive definite constant metric (residual ..., 1-dimensional, rank 2); 20 points
    >>> flipped = cf.is_gradient(cf.toy_flow(flip="readout"), points)
    >>> flipped.constant_metric.kind, flipped.constant_metric.G.round(12)
    ('indefinite', array([[ 1.,  0.],
           [ 0., -1.]]))
    """
    tolerance = _checks.positive_number("tolerance", tolerance)
    Js = _jacobians(system, ys, t, args)
    asymmetries = np.array([diagonal.asymmetry(J[None]) for J in Js])
    units, groups = diagonal.balancing_units(Js, tolerance)
    balanced = diagonal.in_units(Js, units)
    signs = diagonal.best_signs(balanced, groups)
    residual = diagonal.asymmetry(signs[:, None] * balanced)
    metric = _metric_kind(signs, groups, residual, tolerance)
    g = None if metric == "none" else _diagonal_metric(signs / units**2, groups)
    searched = Js.shape[1] <= LARGEST_SEARCH
    return GradientTest(
        is_gradient=bool((asymmetries <= tolerance).all()),
        asymmetry=float(asymmetries.max()),
        points=len(Js),
        failures=int((asymmetries > tolerance).sum()),
        metric=metric,
        diagonal_metric=g,
        metric_residual=residual,
        constant_metric=constant_metrics(Js, units, g, tolerance) if searched else None,
        tolerance=tolerance,
    )


def _jacobians(system: Flow, ys: StateLike, t: float, args: Args) -> Float[np.ndarray, "points state state"]:
    ys = _checks.state_pytree("ys", ys)
    count = _checks.leading_axis("ys", ys, "points")
    flow_state(system, take(ys, 0), t, args)
    Js = np.stack([dense_jacobian(system, take(ys, i), float64(t), args) for i in range(count)])
    _checks.require_finite("Jacobians of f at ys", Js)
    return Js


def _metric_kind(
    signs: Float[np.ndarray, " state"], groups: list[np.ndarray], residual: float, tolerance: float
) -> Literal["positive", "indefinite", "none"]:
    if residual > tolerance or any(
        np.ptp(np.abs(signs[group])) > 0.5 / np.sqrt(len(group)) for group in groups
    ):
        return "none"
    uniform = all((signs[group] > 0).all() or (signs[group] < 0).all() for group in groups)
    return "positive" if uniform else "indefinite"


def _diagonal_metric(g: Float[np.ndarray, " state"], groups: list[np.ndarray]) -> Float[np.ndarray, " state"]:
    for group in groups:
        g[group] = diagonal.scaled(g[group])
    return g
