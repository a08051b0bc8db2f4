"""What a fixed point is, by its linearisation."""

from enum import StrEnum

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float

from curlflow import _checks
from curlflow._results import result
from curlflow._trees import float64, labelled_leaves
from curlflow.fixed_points.linearize import flat_field
from curlflow.system import Args, Flow, State, StateLike, flow_state

EPS = float(np.finfo(np.float64).eps)
# What a fixed point knows of itself in single numbers.
NUMBERS = ("n_stable", "n_unstable", "n_centre", "n_manifold", "residual", "distance", "tolerance")


class Kind(StrEnum):
    """What the motion beside a fixed point is, across the manifold of fixed points if it lies on one."""

    STABLE_NODE = "stable node"
    UNSTABLE_NODE = "unstable node"
    STABLE_FOCUS = "stable focus"
    UNSTABLE_FOCUS = "unstable focus"
    SADDLE = "saddle"
    CENTRE = "centre"
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
        - "centre": purely imaginary pairs and no unstable directions;
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
    tolerance
        What counts as a zero singular value of the Jacobian: its rounding error, plus the amount by which it changes over
        `distance`. An eigenvalue's real part counts as zero below the tolerance times the eigenvalue's condition number.
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
    tolerance: float

    def to_xarray(self) -> xr.Dataset:
        """Real and imaginary parts of the eigenvalues along `mode`, and the leaves of the state; the rest as attributes."""
        modes = {
            "real": ("mode", np.real(self.eigenvalues)),
            "imaginary": ("mode", np.imag(self.eigenvalues)),
        }
        return xr.Dataset(
            modes | labelled_leaves(self.point, taken=(*modes, "mode")),
            attrs={"kind": self.kind.value, **{name: getattr(self, name) for name in NUMBERS}},
        )

    def __str__(self) -> str:
        place = f" across a {self.n_manifold}-dimensional manifold of fixed points" if self.n_manifold else ""
        counts = f"{self.n_stable} stable, {self.n_unstable} unstable, {self.n_centre} centre"
        return f"FixedPoint: {self.kind.value}{place} ({counts}; residual {self.residual:.1e})"


def classify(system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None) -> FixedPoint:
    r"""Classify a fixed point of a flow by the eigenvalues of its Jacobian, with no number compared with 0.

    The directions along a manifold of fixed points are the Jacobian's null space, counted by its numerical rank and confirmed
    by walking a finite distance along them. The other eigenvalues are those of the Jacobian compressed to its range, which
    does not mix them with the zeros. A real part counts as zero within the error that rounding and the point's own
    inaccuracy cause.

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
    return classified(LocalField(system, flow_state(system, y, t, args), t, args))


def classified(local: "LocalField") -> FixedPoint:
    """The kind of the fixed point at the middle of a local field; ValueError, in words, where there is none."""
    step = newton_step(local.value, local.jacobian)
    changed = np.linalg.norm(local.at(local.flat + step)[1] - local.jacobian)
    _require_fixed_point(local, step, float(changed))
    tolerance = float(10 * local.n * EPS * np.linalg.norm(local.jacobian, 2) + 2 * changed)
    rank, range_basis, null_basis = _range_and_null_space(local.jacobian, tolerance)
    transverse, margins = _transverse_eigenvalues(local.jacobian, range_basis, tolerance)
    is_manifold = rank < local.n and _null_space_is_manifold(local, null_basis, rank)
    n_manifold = local.n - rank if is_manifold else 0
    n_unstable = int(np.sum(np.real(transverse) > margins))
    n_stable = int(np.sum(np.real(transverse) < -margins))
    oscillating = np.abs(np.imag(transverse)) > margins
    unresolved = (
        int(np.sum((np.abs(np.real(transverse)) <= margins) & ~oscillating)) + local.n - rank - n_manifold
    )
    n_centre = local.n - n_manifold - n_stable - n_unstable
    eigenvalues = np.concatenate([transverse, np.zeros(local.n - rank)])
    return FixedPoint(
        point=local.y,
        kind=_kind(n_stable, n_unstable, n_centre, unresolved, bool(oscillating.any())),
        eigenvalues=eigenvalues[np.lexsort((-np.imag(eigenvalues), -np.real(eigenvalues)))],
        n_stable=n_stable,
        n_unstable=n_unstable,
        n_centre=n_centre,
        n_manifold=n_manifold,
        residual=float(np.linalg.norm(local.value)),
        distance=float(np.linalg.norm(step)),
        tolerance=tolerance,
    )


class LocalField:
    """The vector field and its Jacobian about a state, on flattened NumPy arrays."""

    def __init__(self, system: Flow, y: State, t: float, args: Args):
        self.y = y
        flat, self._unravel = ravel_pytree(y)
        self._system, self._t, self._args = system, float64(t), args
        self.flat = np.asarray(flat)
        self.n = self.flat.size
        self.value, self.jacobian = self.at(self.flat)
        _checks.require_finite("f(t, y, args)", jnp.asarray(self.value))
        _checks.require_finite("Jacobian of f at y", jnp.asarray(self.jacobian))

    def at(self, flat: np.ndarray) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state state"]]:
        """The velocity and the Jacobian at a flattened state."""
        state = self._unravel(jnp.asarray(flat))
        value, J = _value_and_jacobian(self._system, state, self._t, self._args)
        return np.asarray(value), np.asarray(J)


@eqx.filter_jit
def _value_and_jacobian(system: Flow, y: State, t: Array, args: Args) -> tuple[Array, Array]:
    field, flat = flat_field(system, y, t, args)
    return field(flat), jax.jacfwd(field)(flat)


def newton_step(value: np.ndarray, J: np.ndarray, rank: int | None = None) -> Float[np.ndarray, " state"]:
    """The shortest Newton step; without a given rank, in the directions whose singular values stand clear of rounding."""
    U, sizes, Vt = np.linalg.svd(J)
    if rank is None:
        rank = int(np.sum(sizes > np.sqrt(EPS) * sizes[0]))
    return -Vt[:rank].T @ ((U[:, :rank].T @ value) / sizes[:rank])


def _require_fixed_point(local: LocalField, step: np.ndarray, changed: float) -> None:
    """Accept a residual that rounding explains, or one that a Newton step within the linear region removes."""
    residual, size = np.linalg.norm(local.value), np.linalg.norm(local.jacobian)
    if residual <= _rounding(local.jacobian, local.flat):
        return
    left = np.linalg.norm(local.at(local.flat + step)[0])
    if changed <= 1e-3 * size and left <= 0.1 * residual:
        return
    raise ValueError(
        f"`y` must be a fixed point, but the flow's speed there is {residual:.3g}, and Newton's step of length "
        f"{np.linalg.norm(step):.3g} leads out of the region where it is linear. Pass it to find_fixed_points first."
    )


def _rounding(J: np.ndarray, flat: np.ndarray) -> float:
    """The size of f that rounding alone can leave at an exact fixed point."""
    return float(100 * flat.size * EPS * np.linalg.norm(J) * np.linalg.norm(flat))


def _range_and_null_space(J: np.ndarray, tolerance: float) -> tuple[int, np.ndarray, np.ndarray]:
    U, sizes, Vt = np.linalg.svd(J)
    rank = int(np.sum(sizes > tolerance))
    return rank, U[:, :rank], Vt[rank:].T


def _transverse_eigenvalues(
    J: np.ndarray, basis: np.ndarray, tolerance: float
) -> tuple[Complex[np.ndarray, " rank"], Float[np.ndarray, " rank"]]:
    """Eigenvalues of J compressed to its range, and for each the error bar on it.

    J = Q Qᵀ J has the nonzero eigenvalues of Qᵀ J Q. A simple eigenvalue of condition number κ moves by κ times the error of
    the matrix, a double one by the root of the error.
    """
    if not basis.shape[1]:
        return np.zeros(0, complex), np.zeros(0)
    compressed = basis.T @ J @ basis
    values, left, right = scipy.linalg.eig(compressed, left=True, right=True)  # pyright: ignore[reportAssignmentType]
    overlaps = np.abs(np.sum(left.conj() * right, axis=0))
    condition = 1 / np.maximum(overlaps, EPS)
    return values, np.minimum(tolerance * condition, np.sqrt(tolerance * np.linalg.norm(J, 2)))


def _null_space_is_manifold(local: LocalField, null_basis: np.ndarray, rank: int) -> bool:
    """Whether the null directions lead to further fixed points: walk along a few, correct across, and see if f vanishes."""
    directions = np.random.default_rng(0).normal(size=(3, null_basis.shape[1])) @ null_basis.T
    return all(_leads_to_fixed_point(local, v / np.linalg.norm(v), rank) for v in directions)


def _leads_to_fixed_point(local: LocalField, v: np.ndarray, rank: int) -> bool:
    walked = 0.05 * _length_scale(local, v)
    state = local.flat + walked * v
    for _ in range(12):
        value, J = local.at(state)
        if not np.isfinite(J).all():
            return False
        if np.linalg.norm(value) <= _rounding(J, state):
            return bool(v @ (state - local.flat) > walked / 2)
        state = state + newton_step(value, J, rank)
    return False


def _length_scale(local: LocalField, v: np.ndarray) -> float:
    """The distance along v over which the Jacobian changes by its own size; the point's own size if it does not change."""
    size = np.linalg.norm(local.jacobian)
    unit = np.linalg.norm(local.flat) or 1.0
    change = np.linalg.norm(local.at(local.flat + 1e-4 * unit * v)[1] - local.jacobian) / (1e-4 * unit)
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
