"""Flows looked at in a plane: what a phase portrait shows, computed.

`survey` samples the velocity and the loss on a grid and, if the flow is planar, finds its fixed points, follows its curves
of fixed points with their stability, and traces its separatrices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.spatial import KDTree

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._results import result
from curlflow._trees import float64, take
from curlflow.fixed_points import FixedPoint, Kind
from curlflow.fixed_points.find import MOST_DESCENT_STEPS, search, uniform_starts
from curlflow.fixed_points.linearize import dense_jacobian, dense_spectrum
from curlflow.orbits.integrate import integrate
from curlflow.plane.planes import Limits, Plane, checked_plane, velocity_in_plane, window_limits
from curlflow.system import Args, Flow, State, known

# Starting points of the search for fixed points in a window.
STARTS = 48


@result
class FixedCurve:
    """A curve of fixed points in a planar flow.

    Attributes
    ----------
    points
        Points along it, shape (points, 2).
    transverse
        The eigenvalue across the curve at each, shape (points,): negative where the curve attracts.
    """

    points: Float[np.ndarray, "points 2"]
    transverse: Float[np.ndarray, " points"]

    def stability_changes(self) -> Float[np.ndarray, "changes 2"]:
        """The points at which the transverse eigenvalue passes through zero, shape (changes, 2)."""
        before = np.flatnonzero(np.sign(self.transverse[:-1]) * np.sign(self.transverse[1:]) < 0)
        share = self.transverse[before] / (self.transverse[before] - self.transverse[before + 1])
        return self.points[before] + share[:, None] * (self.points[before + 1] - self.points[before])

    def to_xarray(self) -> xr.Dataset:
        """The points along `point` and `component`, the eigenvalue across the curve along `point`."""
        return xr.Dataset(
            {"position": (("point", "component"), self.points), "transverse": ("point", self.transverse)}
        )

    def __str__(self) -> str:
        attracting, changes = np.mean(self.transverse < 0), len(self.stability_changes())
        return f"FixedCurve: {attracting:.1%} of it attracting; changes of stability: {changes}; {len(self.points)} points"


@result
class Survey:
    """A flow seen in a window of a plane, made by `survey`.

    Attributes
    ----------
    plane, xlim, ylim
        The window.
    x, y
        Grid coordinates, shapes (nx,) and (ny,).
    velocity
        In-plane velocity on the grid, shape (2, ny, nx), in units of the coordinates per time.
    out_of_plane
        Share of the speed that leads out of the plane, between 0 and 1, shape (ny, nx); 0 in a planar flow.
    loss
        The system's loss on the grid, shape (ny, nx), or None if it has none.
    fixed_points
        Isolated fixed points of a planar flow inside the window.
    curves
        Curves of fixed points of a planar flow inside the window.
    separatrices
        Orbits of a planar flow that separate kinds of motion, each of shape (points, 2): the stable and unstable
        manifolds of saddles, and the orbits through the points at which a curve of fixed points changes its stability.
    """

    plane: Plane
    xlim: Limits
    ylim: Limits
    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    velocity: Float[np.ndarray, "2 ny nx"]
    out_of_plane: Float[np.ndarray, "ny nx"]
    loss: Float[np.ndarray, "ny nx"] | None
    fixed_points: tuple[FixedPoint, ...]
    curves: tuple[FixedCurve, ...]
    separatrices: tuple[Float[np.ndarray, "_ 2"], ...]

    def to_xarray(self) -> xr.Dataset:
        """Velocity, loss and share out of the plane along `component`, `y` and `x`; what was found as lists of points.

        Fixed points stand along `fixed_point`. The points of all curves of fixed points stand along `curve_point`, those of
        all separatrices along `separatrix_point`, each with the number of its own curve.
        """
        loss = {} if self.loss is None else {"loss": (("y", "x"), self.loss)}
        places = [self.plane.place(point.point) for point in self.fixed_points]
        transverse = [curve.transverse for curve in self.curves]
        return xr.Dataset(
            {
                "velocity": (("component", "y", "x"), self.velocity),
                "out_of_plane": (("y", "x"), self.out_of_plane),
                **loss,
                "fixed_point_position": (("fixed_point", "component"), np.reshape(places, (-1, 2))),
                "fixed_point_kind": ("fixed_point", np.array([p.kind.value for p in self.fixed_points], str)),
                **_listed("curve", [curve.points for curve in self.curves]),
                "curve_transverse": ("curve_point", np.concatenate([np.zeros(0), *transverse])),
                **_listed("separatrix", self.separatrices),
            },
            coords={"x": self.x, "y": self.y},
            attrs={"xlabel": self.plane.labels[0], "ylabel": self.plane.labels[1]},
        )

    def __str__(self) -> str:
        (low, high), (bottom, top) = self.xlim, self.ylim
        return (
            f"Survey: [{low:g}, {high:g}] × [{bottom:g}, {top:g}]; fixed points: {len(self.fixed_points)} isolated, "
            f"{len(self.curves)} curves; separatrices: {len(self.separatrices)}; {len(self.x)} × {len(self.y)} points"
        )


def _listed(name: str, curves: Sequence[Float[np.ndarray, "_ 2"]]) -> dict[str, tuple[Any, np.ndarray]]:
    """The points of several curves as one list, and the number of the curve that each belongs to."""
    numbers = np.repeat(np.arange(len(curves)), [len(curve) for curve in curves])
    return {
        f"{name}_position": ((f"{name}_point", "component"), np.concatenate([np.zeros((0, 2)), *curves])),
        name: (f"{name}_point", numbers),
    }


def survey(
    system: Flow,
    xlim: Limits,
    ylim: Limits,
    *,
    plane: Plane | None = None,
    resolution: int = 201,
    t: float = 0.0,
    args: Args = None,
) -> Survey:
    """Look at a flow in a window of a plane.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    xlim, ylim
        The window, (low, high) along each axis of the plane.
    plane
        Which plane; None if the state is an array of two numbers.
    resolution
        Grid points along each axis.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    Survey
        Velocity and loss on the grid and, for a planar flow, fixed points, curves of fixed points and separatrices.

    Raises
    ------
    ValueError
        If the flow is not planar and no plane is given, if the limits are not (low, high), if the resolution is below 2, or
        as `integrate` does.

    Examples
    --------
    >>> import curlflow as cf
    >>> seen = cf.plane.survey(cf.toy_flow(s=1.0, flip="readout"), (-2, 2), (-2, 2), resolution=21)
    >>> [str(point.kind) for point in seen.fixed_points], len(seen.curves)
    (['centre'], 2)
    """
    xlim, ylim = window_limits("xlim", xlim), window_limits("ylim", ylim)
    if _checks.positive_integer("resolution", resolution) < 2:
        raise ValueError("`resolution` must be at least 2, but is 1.")
    plane = checked_plane(system, plane, t, args)
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    velocity, outside = map(np.asarray, velocity_in_plane(system, plane, grid, t, args))
    loss_of = known(system, "loss")
    loss = None if loss_of is None else np.asarray(_everywhere(loss_of, plane.embed(grid)))
    fixed_points, curves, separatrices = (), (), ()
    if plane.is_whole_space:
        window = _Window(system, plane, np.array([xlim, ylim]), t, args)
        fixed_points, curves = _fixed_set(window)
        separatrices = _separatrices(window, fixed_points, curves)
    return Survey(
        plane=plane,
        xlim=xlim,
        ylim=ylim,
        x=x,
        y=y,
        velocity=velocity.T.reshape(2, resolution, resolution),
        out_of_plane=outside.reshape(resolution, resolution),
        loss=None if loss is None else loss.reshape(resolution, resolution),
        fixed_points=fixed_points,
        curves=curves,
        separatrices=separatrices,
    )


@dataclass(frozen=True)
class _Window:
    """A planar flow and the box it is looked at in."""

    system: Flow
    plane: Plane
    box: Float[np.ndarray, "2 2"]
    t: float
    args: Args

    @property
    def diagonal(self) -> float:
        return float(np.linalg.norm(self.box[:, 1] - self.box[:, 0]))

    @property
    def spacing(self) -> float:
        """The distance between the points of a drawn orbit."""
        return self.diagonal / 1000

    def contains(self, points: np.ndarray) -> np.ndarray:
        return np.all((points >= self.box[:, 0]) & (points <= self.box[:, 1]), axis=-1)


@eqx.filter_jit
def _everywhere(function: Callable[[State], Array], states: State) -> Float[Array, " points"]:
    return jax.vmap(function)(states)


def _fixed_set(window: _Window) -> tuple[tuple[FixedPoint, ...], tuple[FixedCurve, ...]]:
    low, high = (take(window.plane.embed(corner[None]), 0) for corner in window.box.T)
    starting = uniform_starts((low, high), STARTS, jax.random.key(0))
    found = search(window.system, starting, (low, high), window.t, window.args, MOST_DESCENT_STEPS)
    isolated = tuple(point for point in found if not point.n_manifold)
    curves: list[FixedCurve] = []
    for point in found:
        place = window.plane.place(point.point)
        known = any(
            np.linalg.norm(curve.points - place, axis=1).min() < window.diagonal / 100 for curve in curves
        )
        if point.n_manifold == 1 and not known:
            curves.append(_trace_curve(window, place))
    return isolated, tuple(curves)


def _trace_curve(window: _Window, start: Float[np.ndarray, " 2"]) -> FixedCurve:
    """Walk along a curve of fixed points both ways, in steps of 1/500 of the window's diagonal."""
    branches = []
    for sign in (1.0, -1.0):
        points, transverse = _walk(
            window.system,
            window.plane,
            jnp.asarray(start),
            float64(sign * window.diagonal / 500),
            float64(window.t),
            window.args,
        )
        points, transverse = np.asarray(points), np.asarray(transverse)
        # Two steps beyond the window, so that the curve is drawn right up to its edge.
        leaves = np.flatnonzero(~window.contains(points) | ~np.isfinite(transverse))
        stop = leaves[0] + 2 if len(leaves) else len(points)
        branches.append((points[:stop], transverse[:stop]))
    (ahead, ahead_rate), (behind, behind_rate) = branches
    return FixedCurve(np.concatenate([behind[::-1], ahead]), np.concatenate([behind_rate[::-1], ahead_rate]))


@compiled
def _walk(system: Flow, plane: Plane, start: Array, step: Array, t: Array, args: Args) -> tuple[Array, Array]:
    """Points at equal steps along a curve of fixed points, and the eigenvalue across it: the trace, as the other is 0."""

    def field(point: Array) -> Array:
        state = take(plane.embed(point[None]), 0)
        return plane.axes @ ravel_pytree(system(t, state, args))[0]

    def onto_curve(point: Array) -> tuple[Array, Array]:
        """A Newton step across the curve, and the unit tangent."""
        U, sizes, Vt = jnp.linalg.svd(jax.jacfwd(field)(point))
        return point - Vt[0] * (U[:, 0] @ field(point)) / sizes[0], Vt[1]

    def advance(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        predicted, direction = carry
        point = onto_curve(onto_curve(predicted)[0])[0]
        point, tangent = onto_curve(point)
        tangent = tangent * jnp.sign(tangent @ direction)
        return (point + jnp.abs(step) * tangent, tangent), (point, jnp.trace(jax.jacfwd(field)(point)))

    _, tangent = onto_curve(start)
    return jax.lax.scan(advance, (start, jnp.sign(step) * tangent), None, length=1500)[1]


def _separatrices(
    window: _Window, fixed_points: Sequence[FixedPoint], curves: Sequence[FixedCurve]
) -> tuple[Float[np.ndarray, "points 2"], ...]:
    starts = [
        start
        for point in fixed_points
        if point.kind == Kind.SADDLE
        for start in _beside_saddle(window, point)
    ]
    starts += [start for curve in curves for start in _beside_stability_changes(window, curve)]
    kept: list[np.ndarray] = []
    for point, direction in starts:
        orbit = _orbit(window, point, direction)
        # Orbits through several such points are found from each of them.
        is_new = not kept or KDTree(np.concatenate(kept)).query(orbit)[0].max() > 3 * window.spacing
        if len(orbit) > 2 and is_new:
            kept.append(orbit)
    return tuple(kept)


def _beside_saddle(window: _Window, saddle: FixedPoint) -> list[tuple[np.ndarray, float]]:
    """Points on the two unstable branches, to be run forwards, and on the two stable ones, to be run backwards."""
    place = window.plane.place(saddle.point)
    found = dense_spectrum(
        np.asarray(dense_jacobian(window.system, saddle.point, float64(window.t), window.args))
    )
    directions = np.asarray(window.plane.axes) @ np.real(found.eigenvectors)
    return [
        (place + side * 1e-4 * window.diagonal * direction, float(np.sign(rate)))
        for rate, direction in zip(np.real(found.eigenvalues), directions.T, strict=True)
        for side in (1.0, -1.0)
    ]


def _beside_stability_changes(window: _Window, curve: FixedCurve) -> list[tuple[np.ndarray, float]]:
    """Points on the orbits that touch a curve of fixed points where it changes stability, on either side of it."""
    starts = []
    for place in curve.stability_changes():
        nearest = int(np.argmin(np.linalg.norm(curve.points - place, axis=1)))
        tangent = curve.points[min(nearest + 1, len(curve.points) - 1)] - curve.points[max(nearest - 1, 0)]
        step = 1e-5 * window.diagonal * np.array([-tangent[1], tangent[0]]) / np.linalg.norm(tangent)
        starts += [(place + side * step, direction) for side in (1.0, -1.0) for direction in (1.0, -1.0)]
    return starts


def _orbit(window: _Window, start: np.ndarray, direction: float) -> Float[np.ndarray, "points 2"]:
    """The orbit from a point until it leaves the window, comes to rest, or comes back; forwards or backwards in time."""
    length = 4 * window.diagonal
    orbit = integrate(
        _UnitSpeed(window.system, float64(window.t)),
        take(window.plane.embed(start[None]), 0),
        direction * length,
        ts=direction * np.linspace(0.0, length, 4001),
        args=window.args,
        stop=_Slow(window.system, float64(window.t), float64(1e-6 * _fastest(window))),
        blow_up=1e3 * max(window.diagonal, float(np.abs(window.box).max())),
        rtol=1e-9,
    )
    points = window.plane.project(orbit.ys)
    outside = np.flatnonzero(~window.contains(points))
    points = points[: outside[0] + 1] if len(outside) else points
    distance = np.linalg.norm(points - start, axis=1)
    back = np.flatnonzero(
        (distance < window.spacing) & (np.maximum.accumulate(distance) > 10 * window.spacing)
    )
    return points[: back[0] + 1] if len(back) else points


@final
class _UnitSpeed(eqx.Module):
    """A flow run at unit speed: its orbits by arc length, without the long waits beside fixed points."""

    system: Flow
    t: Float[Array, ""]

    def __call__(self, length: Array, y: State, args: Args) -> State:
        velocity = self.system(self.t, y, args)
        speed = jnp.linalg.norm(ravel_pytree(velocity)[0])
        return jax.tree.map(lambda leaf: leaf / jnp.where(speed > 0, speed, 1.0), velocity)


@final
class _Slow(eqx.Module):
    """Whether a flow is slower than a threshold: the orbit has come to rest."""

    system: Flow
    t: Float[Array, ""]
    threshold: Float[Array, ""]

    def __call__(self, length: Array, y: State, args: Args) -> Array:
        return jnp.linalg.norm(ravel_pytree(self.system(self.t, y, args))[0]) < self.threshold


def _fastest(window: _Window) -> float:
    """The flow's speed at the fastest corner of the window."""
    corners = np.stack(np.meshgrid(*window.box), axis=-1).reshape(-1, 2)
    velocity, _ = velocity_in_plane(window.system, window.plane, corners, window.t, window.args)
    return float(np.linalg.norm(velocity, axis=1).max())
