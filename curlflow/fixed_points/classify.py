"""What a fixed point is: by its linearisation, and beyond it where that does not decide."""

from enum import StrEnum

import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import scipy
from jax.flatten_util import ravel_pytree
from jaxtyping import Complex, Float, Inexact

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._saved import compared, parts_of, recorded
from curlflow._trees import labelled_leaves
from curlflow.fixed_points.centres import is_centre
from curlflow.fixed_points.local import EPS, LocalField, full_newton_step, newton_step
from curlflow.system import Args, Flow, State, StateLike, flow_state

# What a fixed point knows of itself in single numbers.
NUMBERS = (
    "n_stable",
    "n_unstable",
    "n_centre",
    "n_manifold",
    "residual",
    "distance",
    "accuracy",
    "tolerance",
)


class Kind(StrEnum):
    """What the motion beside a fixed point is, across the manifold of fixed points if it lies on one."""

    STABLE_NODE = "stable node"
    UNSTABLE_NODE = "unstable node"
    STABLE_FOCUS = "stable focus"
    UNSTABLE_FOCUS = "unstable focus"
    SADDLE = "saddle"
    CENTRE = "centre"
    LINEAR_CENTRE = "linear centre"
    SADDLE_CENTRE = "saddle-centre"
    DEGENERATE = "degenerate"


@result
class FixedPoint:
    """A fixed point and its linear classification, made by `classify` and `find_fixed_points`.

    Attributes
    ----------
    point
        The state, a pytree.
    kind
        A `Kind`; compares equal to its text:

        - "stable node", "unstable node": all transverse eigenvalues real, of one sign;
        - "stable focus", "unstable focus": real parts of one sign, some eigenvalues complex;
        - "saddle": stable and unstable directions, no others;
        - "centre": purely imaginary pairs and no unstable directions, and orbits that do close: the field is linear, or a
          known conserved quantity has an extremum there, or orbits of a planar flow were seen to close;
        - "linear centre": the same pairs, but that the orbits close is not so, or not known. In a planar flow they spiral,
          more slowly than any exponential; in others nothing of the kind was tried;
        - "saddle-centre": purely imaginary pairs beside unstable directions;
        - "degenerate": a zero eigenvalue that does not belong to a manifold of fixed points, or nothing but such a
          manifold: the linear part does not decide.
    eigenvalues
        All n eigenvalues of the Jacobian by descending real part, complex, in units of 1/time; exactly 0 along the manifold.
    n_stable, n_unstable, n_centre
        Dimensions of the stable, unstable and centre subspaces across the manifold of fixed points.
    n_manifold
        Dimension of the manifold of fixed points through the point; 0 if it is isolated. Counted by the rank of the Jacobian,
        and checked by walking along it. The four counts add up to n.
    residual
        ‖f‖ at the point.
    distance
        How far the nearest exact fixed point is, by Newton's step.
    accuracy
        How accurately the place can be known in this arithmetic, in units of the state: the distance within which the
        speed is no larger than its own rounding error. About 1e-16 of the state's size as a rule, but where the field is
        flat, as at a fold, it can be the square root of that. Across the manifold, if the point lies on one.
    tolerance
        What counts as a zero singular value of the Jacobian: its rounding error, plus the amount by which it changes over
        `distance` or `accuracy`, in coordinates in which the Jacobian is balanced or, after a search in a box, the box is a
        cube. An eigenvalue's real part counts as zero below the tolerance times the eigenvalue's condition number.
    """

    point: State
    kind: Kind
    eigenvalues: Complex[np.ndarray, " state"]
    n_stable: int
    n_unstable: int
    n_centre: int
    n_manifold: int
    residual: float
    distance: float
    accuracy: float
    tolerance: float

    def to_xarray(self) -> "xr.Dataset":
        """Real and imaginary parts of the eigenvalues along `mode`, and the leaves of the state; the rest as attributes."""
        modes = {
            "real": ("mode", np.real(self.eigenvalues)),
            "imaginary": ("mode", np.imag(self.eigenvalues)),
        }
        leaves = labelled_leaves(self.point, taken=(*modes, "mode"))
        attributes = {"kind": self.kind.value, **{name: getattr(self, name) for name in NUMBERS}}
        held = [
            (self.eigenvalues, ("real", "imaginary")),
            *zip(jtu.tree_leaves(self.point), leaves, strict=True),
        ]
        return recorded(xr.Dataset(modes | leaves, attrs=attributes), FixedPoint, compared(self), held)

    @classmethod
    def from_xarray(cls, dataset: "xr.Dataset") -> "FixedPoint":
        """The fixed point of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it. A state of a class of your own needs that class
            imported where it was.

        Returns
        -------
        FixedPoint
            Equal to the one that was saved.

        Raises
        ------
        ValueError
            If the dataset is none of a fixed point, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> point = cf.classify(cf.toy_flow(flip="readout"), jnp.array([0.5, 2.0]))
        >>> cf.FixedPoint.from_xarray(point.to_xarray()) == point
        True
        """
        return cls(**parts_of(dataset, FixedPoint))

    def __str__(self) -> str:
        place = f" across a {self.n_manifold}-dimensional manifold of fixed points" if self.n_manifold else ""
        counts = f"{self.n_stable} stable, {self.n_unstable} unstable, {self.n_centre} centre"
        known = f", known to {self.accuracy:.1e}" if self.kind == Kind.DEGENERATE else ""
        return f"FixedPoint: {self.kind.value}{place} ({counts}; residual {self.residual:.1e}{known})"


def classify(system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None) -> FixedPoint:
    r"""Classify a fixed point of a flow by the eigenvalues of its Jacobian, with no number compared with 0.

    The directions along a manifold of fixed points are the Jacobian's null space, counted by its numerical rank and confirmed
    by walking a finite distance along them. The other eigenvalues are those of the Jacobian compressed to its range, which
    does not mix them with the zeros. A real part counts as zero within the error that rounding and the point's own
    inaccuracy cause. Where all that is left are imaginary pairs, the terms beyond the linear ones decide between circles and
    slow spirals: a conserved quantity is looked at, or orbits of a planar flow are followed for one turn.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    y
        The fixed point, to the accuracy of a root finder. Its n × n Jacobian is decomposed densely.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    FixedPoint
        The kind, all eigenvalues, the four counts, and the evidence.

    Raises
    ------
    ValueError
        If y is not a fixed point within the region where the flow is nearly linear, or the flow or its Jacobian is not
        finite there, or as `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> print(cf.classify(flow, jnp.array([0.0, 0.0])))
    FixedPoint: centre (0 stable, 0 unstable, 2 centre; residual 0.0e+00)
    >>> print(cf.classify(flow, jnp.array([0.5, 2.0])))
    FixedPoint: stable node across a 1-dimensional manifold of fixed points (1 stable, 0 unstable, 0 centre; residual 0.0e+00)
    """
    state = flow_state(system, y, t, args)
    local = LocalField(system, np.asarray(ravel_pytree(state)[0]), state, t, args)
    _checks.require_finite("f(t, y, args)", jnp.asarray(local.value))
    _checks.require_finite("Jacobian of f at y", jnp.asarray(local.jacobian))
    if not is_fixed_point(local):
        raise ValueError(
            f"`y` must be a fixed point, but the flow's speed there is {local.speed:.3g}, and Newton's step of length "
            f"{local.length(local.step):.3g} leads out of the region where it is linear. Pass it to find_fixed_points first."
        )
    return classified(local)


def is_fixed_point(local: LocalField) -> bool:
    """Whether there is a fixed point as close to the middle of a local field as numbers can tell."""
    if not local.is_finite:
        return False
    if not local.value.any() or local.is_linear:
        return True
    return _is_as_close_as_numbers_are(local) or local.is_rounding(local.value)


def _is_as_close_as_numbers_are(local: LocalField) -> bool:
    """Whether Newton's step in all directions is no longer than the rounding of the state."""
    step = full_newton_step(local.value, local.jacobian)
    size = max(local.unit, float(np.linalg.norm(local.flat / local.scale)))
    return step is not None and bool(np.linalg.norm(step) <= 8 * EPS * size)


def classified(local: LocalField) -> FixedPoint:
    """The kind of the fixed point at the middle of a local field, which was found to be one."""
    tolerance = float(10 * local.n * EPS * np.linalg.norm(local.jacobian, 2) + 2 * local.changed)
    rank, range_basis, null_basis = _range_and_null_space(local.jacobian, tolerance)
    is_manifold = rank < local.n and _null_space_is_manifold(local, null_basis, rank)
    if local.value.any() and not is_manifold and not local.is_linear:
        # Of a multiple root Newton's step says little; how far it can be told from its neighbours says more.
        reach = local.indistinguishable()
        tolerance = max(tolerance, 2 * local.change(reach, -reach))
        rank, range_basis, _ = _range_and_null_space(local.jacobian, tolerance)
    transverse, margins, modes = _transverse_eigenvalues(local.jacobian, range_basis, tolerance)
    n_manifold = local.n - rank if is_manifold else 0
    is_unstable, is_stable = np.real(transverse) > margins, np.real(transverse) < -margins
    oscillating = np.abs(np.imag(transverse)) > margins
    n_unstable, n_stable = int(is_unstable.sum()), int(is_stable.sum())
    circling = ~is_unstable & ~is_stable & oscillating
    n_centre = local.n - n_manifold - n_stable - n_unstable
    eigenvalues = np.concatenate([transverse, np.zeros(local.n - rank)])
    kind = _kind(n_stable, n_unstable, n_centre, n_centre - int(circling.sum()), bool(oscillating.any()))
    if kind == Kind.CENTRE:
        pairs = circling & (np.imag(transverse) > 0)
        kind = Kind.CENTRE if is_centre(local, transverse[pairs], modes[:, pairs]) else Kind.LINEAR_CENTRE
    return FixedPoint(
        point=local.y,
        kind=kind,
        eigenvalues=eigenvalues[np.lexsort((-np.imag(eigenvalues), -np.real(eigenvalues)))],
        n_stable=n_stable,
        n_unstable=n_unstable,
        n_centre=n_centre,
        n_manifold=n_manifold,
        residual=local.speed,
        distance=local.length(local.step),
        accuracy=_accuracy(local, is_flat=rank < local.n and not is_manifold),
        tolerance=tolerance,
    )


def _accuracy(local: LocalField, is_flat: bool) -> float:
    """How accurately the place of a fixed point can be known."""
    numbers = EPS * float(np.linalg.norm(local.flat))
    if is_flat:
        return max(local.length(local.indistinguishable()), numbers)
    return max(local.length(local.step), numbers)


def _range_and_null_space(J: np.ndarray, tolerance: float) -> tuple[int, np.ndarray, np.ndarray]:
    U, sizes, Vt = np.linalg.svd(J)
    rank = int(np.sum(sizes > tolerance))
    return rank, U[:, :rank], Vt[rank:].T


def _transverse_eigenvalues(
    J: np.ndarray, basis: np.ndarray, tolerance: float
) -> tuple[Complex[np.ndarray, " rank"], Float[np.ndarray, " rank"], Inexact[np.ndarray, "state rank"]]:
    """Eigenvalues of J compressed to its range, for each the error bar on it, and the eigenvectors of J.

    J = Q Qᵀ J has the nonzero eigenvalues of Qᵀ J Q. A simple eigenvalue of condition number κ moves by κ times the error of
    the matrix, a double one by the root of the error.
    """
    if not basis.shape[1]:
        return np.zeros(0, complex), np.zeros(0), np.zeros((len(J), 0), complex)
    compressed = basis.T @ J @ basis
    values, left, right = scipy.linalg.eig(compressed, left=True, right=True)
    overlaps = np.abs(np.sum(left.conj() * right, axis=0))
    condition = 1 / np.maximum(overlaps, EPS)
    margins = np.minimum(tolerance * condition, np.sqrt(tolerance * np.linalg.norm(J, 2)))
    return values, margins, basis @ right


def _null_space_is_manifold(local: LocalField, null_basis: np.ndarray, rank: int) -> bool:
    """Whether the null directions lead to further fixed points: walk along a few, correct across, and see if f vanishes."""
    directions = np.random.default_rng(0).normal(size=(3, null_basis.shape[1])) @ null_basis.T
    return all(_leads_to_fixed_point(local, v / np.linalg.norm(v), rank) for v in directions)


def _leads_to_fixed_point(local: LocalField, v: np.ndarray, rank: int) -> bool:
    walked = 0.05 * _length_scale(local, v)
    state = local.moved(walked * v)
    for _ in range(12):
        value, J = local.at(state)
        if not np.isfinite(J).all():
            return False
        if _is_rounding(local, value, J, state):
            return bool(v @ ((state - local.flat) / local.scale) > walked / 2)
        state = state + local.scale * newton_step(value, J, rank)
    return False


def _is_rounding(local: LocalField, value: np.ndarray, J: np.ndarray, state: np.ndarray) -> bool:
    """Whether the velocity at a state is what rounding can leave of it."""
    speed, distance = np.linalg.norm(value), np.linalg.norm(state / local.scale)
    return bool(speed <= 100 * local.n * EPS * np.linalg.norm(J) * distance) or local.is_rounding(value)


def _length_scale(local: LocalField, v: np.ndarray) -> float:
    """The distance along v over which the Jacobian changes by its own size; the point's own size if it does not change."""
    size, unit = np.linalg.norm(local.jacobian), local.unit
    change = np.linalg.norm(local.at(local.moved(1e-4 * unit * v))[1] - local.jacobian) / (1e-4 * unit)
    return float(size / change) if size > 0 and change > 1e-6 * size / unit else float(unit)


def _kind(n_stable: int, n_unstable: int, n_centre: int, unresolved: int, oscillating: bool) -> Kind:
    if unresolved or not n_stable + n_unstable + n_centre:
        return Kind.DEGENERATE
    if n_centre:
        return Kind.SADDLE_CENTRE if n_unstable else Kind.CENTRE
    if n_stable and n_unstable:
        return Kind.SADDLE
    if n_stable:
        return Kind.STABLE_FOCUS if oscillating else Kind.STABLE_NODE
    return Kind.UNSTABLE_FOCUS if oscillating else Kind.UNSTABLE_NODE
