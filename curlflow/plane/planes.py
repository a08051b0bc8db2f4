"""Planes in state space, in which a large flow can be looked at."""

import re
from typing import TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._traced import NotTraceable
from curlflow._trees import flatten_states, float64, take
from curlflow.fixed_points.linearize import spectrum
from curlflow.orbits.series import leading_components
from curlflow.orbits.trajectory import Trajectory
from curlflow.system import Args, Flow, State, StateLike, coordinate_names, flow_state, require_flow

Limits: TypeAlias = tuple[float, float]
# A coordinate of a state: its index when flattened, or the name of a leaf and the index in it.
Coordinate: TypeAlias = int | tuple[str | int, ...]
# So many of the values that a plane holds fixed stand in its name.
MOST_HELD = 6


@final
class Plane(eqx.Module):
    """A plane in state space: all states origin + x · axis1 + y · axis2.

    Make one with `coordinate_plane`, `eigenplane` or `principal_plane`.

    Attributes
    ----------
    origin
        The state at x = y = 0, a pytree.
    axes
        Two orthonormal directions in flattened coordinates, shape (2, n).
    labels
        What to write along the two axes.
    """

    origin: State
    axes: Float[Array, "2 state"] = eqx.field(converter=jnp.asarray)
    labels: tuple[str, str] = eqx.field(static=True)

    @property
    def is_whole_space(self) -> bool:
        """Whether the state has just these two dimensions."""
        return self.axes.shape[1] == 2

    def embed(self, points: ArrayLike) -> State:
        """The states at plane coordinates `points` of shape (points, 2): a pytree with a leading axis of points."""
        return _embed(self, jnp.asarray(points, jnp.float64))

    def project(self, ys: StateLike) -> Float[np.ndarray, "points 2"]:
        """Plane coordinates of the states `ys`, which have a leading axis of points: their shadow on the plane."""
        origin, states = np.asarray(ravel_pytree(self.origin)[0]), flatten_states(ys)
        if states.shape[1] != origin.size:
            raise ValueError(
                f"`ys` must be states of {origin.size} numbers, like the plane's origin, but have {states.shape[1]} each."
            )
        return (states - origin) @ np.asarray(self.axes).T

    def place(self, y: StateLike) -> Float[np.ndarray, " 2"]:
        """Plane coordinates of one state, as `project` gives them for several."""
        return self.project(jax.tree.map(lambda leaf: np.asarray(leaf)[None], y))[0]

    def __str__(self) -> str:
        first, second = (_plain(label) for label in self.labels)
        held = self._held()
        if held is None:
            return f"Plane of {first} and {second}, through a state of {self.axes.shape[1]} numbers"
        shown = ", ".join(f"{name} = {value:.4g}" for name, value in held[:MOST_HELD])
        more = f" and {len(held) - MOST_HELD} more" if len(held) > MOST_HELD else ""
        return f"Plane of {first} and {second}" + (f"; held fixed: {shown}{more}" if held else "")

    __repr__ = __str__

    def _held(self) -> list[tuple[str, float]] | None:
        """The coordinates that do not change in the plane, and their values; None if it lies askew."""
        axes, values = np.asarray(self.axes), np.asarray(ravel_pytree(self.origin)[0])
        if np.count_nonzero(axes) != 2:
            return None
        labels = _coordinate_labels(self.origin)
        return [(_plain(labels[i]), float(values[i])) for i in np.flatnonzero(~axes.any(axis=0))]


@eqx.filter_jit
def _embed(plane: Plane, points: Array) -> State:
    origin, unravel = ravel_pytree(plane.origin)
    return jax.vmap(unravel)(origin + points @ plane.axes)


def coordinate_plane(origin: StateLike, first: Coordinate, second: Coordinate) -> Plane:
    """The plane of two coordinates of the state, for example two weights, the others held at `origin`.

    Parameters
    ----------
    origin
        A state. Its own values of the two coordinates do not matter: the plane's x and y *are* these coordinates.
    first, second
        The coordinates: an index into the flattened state, or the leaf's name followed by the index in that leaf, such as
        ("W1", 0, 2).

    Returns
    -------
    Plane
        Labelled with the coordinates' names: y1, y2 … for a state that is a list of numbers, and like W1[0, 2] for a number
        in a leaf. Printed, it tells the values of the others.

    Raises
    ------
    ValueError
        If a coordinate does not exist, or both are the same.

    Examples
    --------
    >>> import curlflow as cf
    >>> W = cf.Weights(W1=[[1.0, 2.0]], W2=[[3.0]])
    >>> cf.plane.coordinate_plane(W, ("W1", 0, 1), ("W2", 0, 0)).labels
    ('W1[0, 1]', 'W2[0, 0]')
    >>> print(cf.plane.coordinate_plane([1.0, 2.0, 0.5], 0, 2))
    Plane of y1 and y3; held fixed: y2 = 2
    """
    origin = _checks.state_pytree("origin", origin)
    flat, unravel = ravel_pytree(origin)
    names = _coordinate_names(origin)
    indices = [_coordinate_index(names, which) for which in (first, second)]
    if indices[0] == indices[1]:
        raise ValueError(f"`first` and `second` must differ, but both are {names[indices[0]]}.")
    axes = np.zeros((2, flat.size))
    axes[[0, 1], indices] = 1.0
    labels = _coordinate_labels(origin)
    return Plane(unravel(flat.at[np.array(indices)].set(0.0)), axes, (labels[indices[0]], labels[indices[1]]))


def eigenplane(
    system: Flow,
    y: StateLike,
    modes: tuple[int, int] = (0, 1),
    *,
    t: float = 0.0,
    args: Args = None,
) -> Plane:
    """The plane through a fixed point spanned by two of its eigenvectors, or by a complex pair's real and imaginary parts.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    y
        The fixed point (or any state): the plane's origin.
    modes
        Which eigenvectors, counted by descending real part of the eigenvalue: two real ones, or a complex one first, whose
        real and imaginary parts then span the plane, and the second is not used.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    Plane
        Its x axis lies along the first eigenvector; its y axis is the second's component at a right angle to it.

    Raises
    ------
    ValueError
        If a mode does not exist, only the second is complex, or the two eigenvectors do not span a plane.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.CurlFlow(S=[1.0, 2.0], d1=[1, 1], d2=[1, -1])
    >>> origin = cf.Weights(W1=jnp.zeros((2, 2)), W2=jnp.zeros((1, 2)))
    >>> cf.plane.eigenplane(flow, origin, modes=(0, 5)).labels[0]
    'eigenvector 0 (λ = 2.24)'
    """
    found = spectrum(system, y, t=t, args=args)
    n = len(found.eigenvalues)
    if len(modes) != 2 or not all(isinstance(mode, int) and 0 <= mode < n for mode in modes):
        raise ValueError(f"`modes` must be two whole numbers from 0 to {n - 1}, but are {modes}.")
    values, vectors = found.eigenvalues[list(modes)], found.eigenvectors[:, list(modes)]
    first_is_complex, second_is_complex = np.abs(np.imag(values)) > 1e-9 * np.abs(found.eigenvalues).max()
    if second_is_complex and not first_is_complex:
        raise ValueError(
            f"`modes` must name two real eigenvectors, or a complex one first, but only mode {modes[1]} is complex: "
            f"take modes=({modes[1]}, {modes[0]}) for its own plane."
        )
    if first_is_complex:
        span = np.stack([np.real(vectors[:, 0]), np.imag(vectors[:, 0])])
        labels = tuple(
            f"eigenvector {modes[0]}, {part} (λ = {values[0].real:.2f} ± {abs(values[0].imag):.2f}i)"
            for part in ("Re", "Im")
        )
    else:
        span = np.real(vectors).T
        is_orthogonal = abs(span[0] @ span[1]) < 1e-9
        parts = ("", "" if is_orthogonal else ", orthogonal")
        labels = tuple(
            f"eigenvector {mode}{part} (λ = {value.real:.3g})"
            for part, mode, value in zip(parts, modes, values, strict=True)
        )
    return Plane(_checks.state_pytree("y", y), _orthonormal(span), (labels[0], labels[1]))


def principal_plane(trajectory: Trajectory) -> Plane:
    """The plane of the first two principal components of a trajectory's states, through their mean.

    Parameters
    ----------
    trajectory
        A trajectory of one initial condition, with at least three saved times.

    Returns
    -------
    Plane
        Its axes labelled with the share of the variance that each explains.

    Raises
    ------
    ValueError
        If the trajectory is a batch, or its states lie on a line.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> orbit = cf.integrate(cf.toy_flow(), jnp.array([0.5, 0.0]), 6.0)
    >>> cf.plane.principal_plane(orbit).labels
    ('component 1 (54 %)', 'component 2 (46 %)')
    """
    _checks.require_made("trajectory", trajectory, Trajectory, "integrate or iterate")
    if trajectory.is_batch:
        raise ValueError(
            "`trajectory` must have one initial condition, but is a batch: take trajectory.member(i)."
        )
    found = leading_components(flatten_states(trajectory.ys), 2)
    if len(found.explained) < 2 or found.explained[1] <= 1e-24 * found.explained[0]:
        raise ValueError("`trajectory` must span a plane, but its saved states lie on a line or at a point.")
    unravel = ravel_pytree(take(trajectory.ys, 0))[1]
    first, second = (f"component {i} ({100 * share:.0f} %)" for i, share in enumerate(found.explained, 1))
    return Plane(unravel(jnp.asarray(found.mean)), found.directions, (first, second))


def checked_plane(system: Flow, plane: Plane | None, t: float, args: Args) -> Plane:
    """The plane, if the flow moves its states; without one the whole state space of a planar flow.

    Raises
    ------
    ValueError
        If the system is no flow, or none on the plane's states; or if no plane is given and the flow is not planar.
    """
    require_flow(system)
    if plane is not None:
        _checks.require_made("plane", plane, Plane, "coordinate_plane, eigenplane or principal_plane")
        flow_state(system, plane.origin, t, args)
        return plane
    whole = coordinate_plane(jnp.zeros(2), 0, 1)
    try:
        flow_state(system, whole.origin, t, args)
    except NotTraceable:
        raise
    except (
        Exception
    ) as error:  # whatever a vector field raises when it is shown a state that it does not know
        raise ValueError(
            "`plane` must be given for a flow whose state is not an array of two numbers: make one with coordinate_plane, "
            f"eigenplane or principal_plane. Shown two numbers, this one raised {type(error).__name__}: {error}"
        ) from error
    return Plane(whole.origin, whole.axes, coordinate_names(system))


def velocity_in_plane(
    system: Flow, plane: Plane, points: ArrayLike, t: float, args: Args
) -> tuple[Float[Array, "points 2"], Float[Array, " points"]]:
    """The velocity along the plane's axes at points of the plane, and the share of the speed that leads out of it."""
    return _velocity(system, plane.embed(points), plane.axes, float64(t), args)


def window_limits(name: str, limits: Limits) -> Limits:
    """A pair (low, high) of finite numbers in this order; ValueError for anything else."""
    try:
        low, high = limits
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be a pair (low, high), but is {limits!r}.") from error
    low, high = _checks.finite_number(name, low), _checks.finite_number(name, high)
    if not low < high:
        raise ValueError(f"`{name}` must run from low to high, but is ({low:g}, {high:g}).")
    return low, high


def _coordinate_names(origin: State) -> list[str]:
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(origin):
        label = jax.tree_util.keystr(path, simple=True, separator=".") or "y"
        for index in np.ndindex(leaf.shape):
            names.append(f"{label}{list(index)}" if leaf.ndim else label)
    return names


def _coordinate_labels(origin: State) -> list[str]:
    """What the coordinates are called on an axis: y1, y2 … in a list of numbers, as in every planar flow."""
    if not (isinstance(origin, Array) and origin.ndim == 1):
        return _coordinate_names(origin)
    return [f"$y_{i}$" if i < 10 else f"$y_{{{i}}}$" for i in range(1, origin.size + 1)]


def _plain(label: str) -> str:
    """A label without its mathematical type."""
    return re.sub(r"\$(\w+)_\{?(\w+)\}?\$", r"\1\2", label)


def _coordinate_index(names: list[str], which: Coordinate) -> int:
    if isinstance(which, tuple):
        name = "".join(str(part) for part in (*which[:1], list(which[1:]) or ""))
        if name in names:
            return names.index(name)
    elif isinstance(which, int) and 0 <= which < len(names):
        return which
    raise ValueError(
        f"A coordinate must be an index below {len(names)} or like ('W1', 0, 2), but is {which!r}. "
        f"This state has {names[0]} … {names[-1]}."
    )


def _orthonormal(span: Float[np.ndarray, "2 state"]) -> Float[np.ndarray, "2 state"]:
    first = span[0] / np.linalg.norm(span[0])
    second = span[1] - (span[1] @ first) * first
    length = np.linalg.norm(second)
    if length <= 1e-9 * np.linalg.norm(span[1]):
        raise ValueError("`modes` must belong to two independent eigenvectors, but these are parallel.")
    return np.stack([first, second / length])


@compiled
def _velocity(
    system: Flow, states: State, axes: Array, t: Array, args: Args
) -> tuple[Float[Array, "points 2"], Float[Array, " points"]]:
    flat = jax.vmap(lambda y: ravel_pytree(system(t, y, args))[0])(states)
    inside = flat @ axes.T
    speed = jnp.linalg.norm(flat, axis=1)
    outside = jnp.linalg.norm(flat - inside @ axes, axis=1) / jnp.where(speed > 0, speed, 1.0)
    return inside, outside
