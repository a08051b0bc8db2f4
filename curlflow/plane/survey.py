"""Flows looked at in a plane: what a phase portrait shows, computed.

`survey` samples the velocity and the loss on a grid and, if the flow is planar, finds its fixed points, follows its curves
of fixed points with their stability, and traces its separatrices.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.integrate import LSODA
from scipy.spatial import KDTree

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._later import xr
from curlflow._results import result
from curlflow._trees import float64, take
from curlflow.fixed_points import FixedPoint, Kind
from curlflow.fixed_points.box import Box
from curlflow.fixed_points.find import MOST_DESCENT_STEPS
from curlflow.fixed_points.find import search as search_box
from curlflow.fixed_points.linearize import dense_jacobian
from curlflow.outcome import Outcome
from curlflow.plane.nullclines import nullclines as find_nullclines
from curlflow.plane.planes import Limits, Plane, checked_plane, velocity_in_plane, window_limits
from curlflow.system import Args, Flow, State, known

# Starting points of the search for fixed points in a window, besides those where the field changes its sign.
STARTS = 48
# All further lengths are in units of the window's sides. Outside by less than this is inside.
EDGE = 1e-9
# Steps along a curve of fixed points, between the points of a drawn orbit, and the longest orbit.
CURVE_STEP, SPACING, LONGEST = 0.003, 0.0015, 6.0
# An eigenvalue smaller than this share of the Jacobian is rounding.
NEUTRAL = 1e-12
# An orbit that is not drawn after so many steps of its solver is not.
MOST_STEPS = 20_000


@result
class FixedCurve:
    """A curve of fixed points in a planar flow.

    Attributes
    ----------
    points
        Points along it, shape (points, 2).
    transverse
        The eigenvalue across the curve at each, shape (points,): negative where the curve attracts, and exactly 0 where it
        is neutral, or neutral up to rounding.
    """

    points: Float[np.ndarray, "points 2"]
    transverse: Float[np.ndarray, " points"]

    def stability_changes(self) -> Float[np.ndarray, "changes 2"]:
        """The points at which the transverse eigenvalue passes through zero, shape (changes, 2)."""
        # Points at which it is 0 lie between the last of one sign and the first of the other.
        decided = np.flatnonzero(self.transverse)
        signs = np.sign(self.transverse[decided])
        changes = np.flatnonzero(signs[:-1] != signs[1:])
        before, after = decided[changes], decided[changes + 1]
        share = self.transverse[before] / (self.transverse[before] - self.transverse[after])
        return self.points[before] + share[:, None] * (self.points[after] - self.points[before])

    def to_xarray(self) -> "xr.Dataset":
        """The points along `point` and `component`, the eigenvalue across the curve along `point`."""
        return xr.Dataset(
            {"position": (("point", "component"), self.points), "transverse": ("point", self.transverse)}
        )

    def __str__(self) -> str:
        attracting, neutral = np.mean(self.transverse < 0), np.mean(self.transverse == 0)
        shares = f"{attracting:.1%} of it attracting" + (f", {neutral:.1%} neutral" if neutral > 0 else "")
        changes = len(self.stability_changes())
        return f"FixedCurve: {shares}; changes of stability: {changes}; {len(self.points)} points"


SeparatrixKind = Literal["stable manifold", "unstable manifold", "connection", "tangent orbit"]


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
    separatrix_kinds
        What each of them is: "stable manifold", "unstable manifold", "connection" (from a saddle to a saddle: both), or
        "tangent orbit" (through a change of stability).
    nullclines
        The curves on which the first and the second component of the in-plane velocity vanish, each of shape (points, 2);
        None if they were not asked for.
    completeness
        Whether these are all isolated fixed points of a planar flow, as in `FixedPoints.outcome`; None for a larger flow.
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
    separatrix_kinds: tuple[SeparatrixKind, ...]
    nullclines: tuple[tuple[Float[np.ndarray, "_ 2"], ...], ...] | None
    completeness: Outcome | None

    def shows(self, place: Float[np.ndarray, "2"]) -> bool:
        """Whether a point of the plane lies in the window; its edge belongs to it."""
        box = np.array([self.xlim, self.ylim])
        return bool(_is_inside(((place - box[:, 0]) / np.ptp(box, axis=1))[None])[0])

    def to_xarray(self) -> "xr.Dataset":
        """Velocity, loss and share out of the plane along `component`, `y` and `x`; what was found as lists of points.

        Fixed points stand along `fixed_point`. The points of all curves of fixed points stand along `curve_point`, those of
        all separatrices along `separatrix_point`, those of the nullclines of each component along `nullcline_0_point` and
        `nullcline_1_point`, each with the number of its own curve. Kinds of separatrices stand along
        `kind_of_separatrix`.
        """
        loss = {} if self.loss is None else {"loss": (("y", "x"), self.loss)}
        places = [self.plane.place(point.point) for point in self.fixed_points]
        transverse = [curve.transverse for curve in self.curves]
        nullclines: dict[str, Any] = {}
        for component, curves in enumerate(self.nullclines or ()):
            nullclines |= _listed(f"nullcline_{component}", curves)
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
                "separatrix_kind": ("kind_of_separatrix", np.array(self.separatrix_kinds, str)),
                **nullclines,
            },
            coords={"x": self.x, "y": self.y},
            attrs={
                "xlabel": self.plane.labels[0],
                "ylabel": self.plane.labels[1],
                "completeness": f"{self.completeness or ''}",
            },
        )

    def __str__(self) -> str:
        (low, high), (bottom, top) = self.xlim, self.ylim
        missing = (
            f"; {self.completeness}" if self.completeness is not None and not self.completeness.ok else ""
        )
        return (
            f"Survey: [{low:g}, {high:g}] × [{bottom:g}, {top:g}]; fixed points: {len(self.fixed_points)} isolated, "
            f"{len(self.curves)} curves; separatrices: {len(self.separatrices)}; {len(self.x)} × {len(self.y)} points"
            + missing
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
    nullclines: bool = False,
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
    nullclines
        Whether to find the curves on which one component of the velocity vanishes: all branches that the grid resolves, those
        where it touches zero too. Poles and jumps of the velocity are none.
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
    fixed_points, curves, separatrices, kinds, completeness = (), (), (), (), None
    window = _Window(_InPlane(system, plane), np.array([xlim, ylim]), t, args)
    if plane.is_whole_space:
        fixed_points, curves, completeness = _fixed_set(window)
        separatrices, kinds = _separatrices(window, fixed_points, curves)
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
        separatrix_kinds=kinds,
        nullclines=_nullclines(window, resolution) if nullclines else None,
        completeness=completeness,
    )


@final
class _InPlane(eqx.Module):
    """A planar flow in the coordinates of a plane."""

    system: Flow
    plane: Plane

    def __call__(self, t: Array, place: Array, args: Args) -> Array:
        state = take(self.plane.embed(place[None]), 0)
        return self.plane.axes @ ravel_pytree(self.system(t, state, args))[0]


@final
class _InWindow(eqx.Module):
    """A planar flow in units of a window's sides, from the lower left corner: no units of the system count."""

    flow: _InPlane
    corner: Float[Array, "2"]
    sides: Float[Array, "2"]

    def __call__(self, t: Array, place: Array, args: Args) -> Array:
        return self.flow(t, self.corner + self.sides * place, args) / self.sides


@dataclass(frozen=True)
class _Window:
    """A planar flow and the box it is looked at in."""

    flow: _InPlane
    box: Float[np.ndarray, "2 2"]
    t: float
    args: Args

    @property
    def sides(self) -> Float[np.ndarray, "2"]:
        return self.box[:, 1] - self.box[:, 0]

    @property
    def scaled(self) -> _InWindow:
        return _InWindow(self.flow, jnp.asarray(self.box[:, 0]), jnp.asarray(self.sides))

    def inside(self, points: np.ndarray) -> Float[np.ndarray, "*points 2"]:
        """Points of the plane in units of the window's sides."""
        return (points - self.box[:, 0]) / self.sides

    def outside(self, points: np.ndarray) -> Float[np.ndarray, "*points 2"]:
        """Points in units of the window's sides, in the coordinates of the plane."""
        return self.box[:, 0] + self.sides * points

    def place(self, point: FixedPoint) -> Float[np.ndarray, "2"]:
        """Where a fixed point lies, in units of the window's sides."""
        return self.inside(self.flow.plane.place(point.point))


def _is_inside(points: np.ndarray) -> np.ndarray:
    """Whether points in units of a window's sides lie in it, or beside its edge by rounding."""
    return np.all((points >= -EDGE) & (points <= 1 + EDGE), axis=-1)


def _nullclines(window: _Window, resolution: int) -> tuple[tuple[Float[np.ndarray, "_ 2"], ...], ...]:
    found = find_nullclines(window.scaled, resolution, window.t, window.args)
    return tuple(tuple(window.outside(curve) for curve in curves) for curves in found)


@eqx.filter_jit
def _everywhere(function: Callable[[State], Array], states: State) -> Float[Array, " points"]:
    return jax.vmap(function)(states)


def _fixed_set(window: _Window) -> tuple[tuple[FixedPoint, ...], tuple[FixedCurve, ...], Outcome]:
    """Isolated fixed points, curves of fixed points, and whether these are all."""
    low, high = window.box.T
    box = Box(window.flow, low, high, jnp.asarray(low), window.t, window.args)
    search = search_box(box, STARTS, jax.random.key(0), MOST_DESCENT_STEPS)
    found = [
        replace(point, point=take(window.flow.plane.embed(np.asarray(point.point)[None]), 0))
        for point in search
    ]
    isolated = tuple(point for point in found if not point.n_manifold)
    curves: list[FixedCurve] = []
    for point in found:
        place = window.place(point)
        is_known = any(
            np.linalg.norm(window.inside(curve.points) - place, axis=1).min() < 0.01 for curve in curves
        )
        if point.n_manifold == 1 and not is_known:
            curves.append(_trace_curve(window, place))
    return isolated, tuple(curves), search.outcome


def _trace_curve(window: _Window, start: Float[np.ndarray, "2"]) -> FixedCurve:
    """Walk along a curve of fixed points both ways until it leaves the window, or once around if it is closed."""
    points, rates = _followed(window, start, 1.0)
    closed = _closes(points)
    if closed:
        points, rates = np.append(points[:closed], points[:1], axis=0), np.append(rates[:closed], rates[0])
    else:
        behind, rates_behind = _followed(window, start, -1.0)
        points = np.concatenate([behind[:0:-1], points])
        rates = np.concatenate([rates_behind[:0:-1], rates])
    return FixedCurve(window.outside(points), rates)


def _followed(window: _Window, start: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Points along a curve of fixed points in one direction, and the eigenvalues across it: 0 where rounding is all."""
    walked = _walk(
        window.scaled, jnp.asarray(start), float64(sign * CURVE_STEP), float64(window.t), window.args
    )
    points, rates, sizes = map(np.asarray, walked)
    rates = np.where(np.abs(rates) > NEUTRAL * sizes, rates, 0.0)
    # Two steps beyond the window, so that the curve is drawn right up to its edge.
    leaves = np.flatnonzero(~_is_inside(points) | ~np.isfinite(sizes))
    stop = leaves[0] + 2 if len(leaves) else len(points)
    stop = min(stop, *np.flatnonzero(~np.isfinite(sizes)), stop)
    return points[:stop], rates[:stop]


def _closes(points: Float[np.ndarray, "points 2"]) -> int:
    """How many steps a walk takes until it is back at its start; 0 if it does not come back."""
    distance = np.linalg.norm(points - points[0], axis=1)
    back = np.flatnonzero((distance < 0.75 * CURVE_STEP) & (np.arange(len(points)) > 2))
    return int(back[0]) if len(back) else 0


@compiled
def _walk(flow: _InWindow, start: Array, step: Array, t: Array, args: Args) -> tuple[Array, Array, Array]:
    """Points at equal steps along a curve of fixed points, the eigenvalue across it, and the Jacobian's size.

    The eigenvalue is the trace, as the other one is 0.
    """

    def field(point: Array) -> Array:
        return flow(t, point, args)

    def onto_curve(point: Array) -> tuple[Array, Array]:
        """A Newton step across the curve, and the unit tangent."""
        U, sizes, Vt = jnp.linalg.svd(jax.jacfwd(field)(point))
        return point - Vt[0] * (U[:, 0] @ field(point)) / sizes[0], Vt[1]

    def advance(carry: tuple[Array, Array], _: Any) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        predicted, direction = carry
        point = onto_curve(onto_curve(predicted)[0])[0]
        point, tangent = onto_curve(point)
        tangent = tangent * jnp.sign(tangent @ direction)
        J = jax.jacfwd(field)(point)
        return (point + jnp.abs(step) * tangent, tangent), (point, jnp.trace(J), jnp.linalg.norm(J))

    _, tangent = onto_curve(start)
    return jax.lax.scan(advance, (start, jnp.sign(step) * tangent), None, length=1500)[1]


@dataclass(frozen=True)
class _Start:
    """Where a separatrix is followed from, forwards (1) or backwards (−1) in time; all lengths in window sides."""

    place: Float[np.ndarray, "2"]
    direction: float
    origin: Float[np.ndarray, "2"]
    nearest: float  # closer than this to a fixed point it has arrived, …
    after: float  # … after this way


def _separatrices(
    window: _Window, fixed_points: Sequence[FixedPoint], curves: Sequence[FixedCurve]
) -> tuple[tuple[Float[np.ndarray, "points 2"], ...], tuple[SeparatrixKind, ...]]:
    """The orbits, and the kind of each."""
    places = np.reshape([window.place(point) for point in fixed_points], (-1, 2))
    is_saddle = [point.kind == Kind.SADDLE for point in fixed_points]
    saddles, field = places[is_saddle], _Direction(window)
    kept: list[np.ndarray] = []
    kinds: list[SeparatrixKind] = []
    for saddle in saddles:
        for start in _beside_saddle(window, saddle, places):
            orbit = _orbit(field, start, saddles)
            # A connection between saddles is found from both its ends.
            if len(orbit) > 2 and not any(_is_reversed(orbit, other) for other in kept):
                kept.append(orbit)
                kinds.append(_branch(orbit, start, saddles))
    for curve in curves:
        for start in _beside_stability_changes(window, curve):
            orbit = _orbit(field, start, saddles)
            # Orbits through several such points are found from each of them.
            is_new = not kept or KDTree(np.concatenate(kept)).query(orbit)[0].max() > 3 * SPACING
            if len(orbit) > 2 and is_new:
                kept.append(orbit)
                kinds.append("tangent orbit")
    return tuple(window.outside(orbit) for orbit in kept), tuple(kinds)


def _branch(orbit: np.ndarray, start: "_Start", saddles: np.ndarray) -> SeparatrixKind:
    """What an orbit is that was followed from beside a saddle: `_until` has it end on the saddle that it comes to."""
    if np.any(np.all(orbit[-1] == saddles, axis=1)):
        return "connection"
    return "unstable manifold" if start.direction > 0 else "stable manifold"


def _is_reversed(orbit: np.ndarray, other: np.ndarray) -> bool:
    """Whether one orbit runs along the other from its end to its start."""
    ends = np.linalg.norm([orbit[0] - other[-1], orbit[-1] - other[0]], axis=1)
    return bool(ends.max() < 3 * SPACING and KDTree(other).query(orbit)[0].max() < 3 * SPACING)


def _beside_saddle(window: _Window, saddle: np.ndarray, places: np.ndarray) -> list[_Start]:
    """Points on the two unstable branches, to be run forwards, and on the two stable ones, to be run backwards."""
    J = dense_jacobian(window.scaled, jnp.asarray(saddle), float64(window.t), window.args)
    rates, directions = np.linalg.eig(np.asarray(J))
    distances = np.linalg.norm(places - saddle, axis=1)
    rounding = np.finfo(float).eps * np.abs(window.box).max(axis=1) / window.sides
    offset = max(min(1e-5, *(1e-3 * distances[distances > 0]), 1e-5), np.sqrt(rounding.max()) / 10)
    return [
        _Start(saddle + side * offset * direction, float(np.sign(rate)), saddle, offset / 10, 0.0)
        for rate, direction in zip(np.real(rates), np.real(directions).T, strict=True)
        for side in (1.0, -1.0)
    ]


def _beside_stability_changes(window: _Window, curve: FixedCurve) -> list[_Start]:
    """Points on the orbits that touch a curve of fixed points where it changes stability, on either side of it."""
    starts = []
    points = window.inside(curve.points)
    for place in window.inside(curve.stability_changes()):
        nearest = int(np.argmin(np.linalg.norm(points - place, axis=1)))
        tangent = points[min(nearest + 1, len(points) - 1)] - points[max(nearest - 1, 0)]
        step = 1e-5 * np.array([-tangent[1], tangent[0]]) / np.linalg.norm(tangent)
        # The orbit touches the curve, and is close to it for a while.
        starts += [
            _Start(place + side * step, direction, place, 1e-6, 0.02)
            for side in (1.0, -1.0)
            for direction in (1.0, -1.0)
        ]
    return starts


def _orbit(field: "_Direction", start: _Start, saddles: np.ndarray) -> Float[np.ndarray, "points 2"]:
    """The orbit from a point until it leaves the window, comes to rest, or comes back, in units of the window's sides."""
    points = np.concatenate([start.origin[None], _integrated(field, start)])
    outside = np.flatnonzero(~_is_inside(points))
    points = points[: outside[0] + 1] if len(outside) else points
    for saddle in [*saddles, start.origin]:
        points = _until(points, saddle)
    return points


def _integrated(field: "_Direction", start: _Start) -> Float[np.ndarray, "points 2"]:
    """Points of an orbit at small distances, from a start until it arrives somewhere or has left the window.

    LSODA, as it goes over to implicit steps where a flow has fast and slow directions. Every curve is short and seen once:
    compiling a faster solver would take longer than all of them.
    """
    solver = LSODA(
        lambda _, place: start.direction * field.at(place),
        0.0,
        start.place,
        LONGEST,
        rtol=1e-9,
        atol=1e-11,
        max_step=50 * SPACING,
        jac=lambda _, place: start.direction * field.jacobian(place),
    )
    points, way = [start.place[None]], [0.0]
    while solver.status == "running" and len(way) < MOST_STEPS:
        with warnings.catch_warnings(action="ignore"):  # a solver that gives up says so by its status too
            solver.step()
        if solver.t == solver.t_old:
            break
        points.append(_passed(solver))
        way.append(solver.t)
        place = points[-1][-1]
        has_left = bool(np.any((place < -0.01) | (place > 1.01)))
        # To and fro across a curve of fixed points it gets nowhere.
        is_stuck = len(way) > 100 and way[-1] - way[-100] < 10 * start.nearest
        if has_left or is_stuck or (solver.t > start.after and field.distance(place) <= start.nearest):
            break
    points = np.concatenate(points)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    return points[: bad[0]] if len(bad) else points


def _passed(solver: LSODA) -> Float[np.ndarray, "points 2"]:
    """Points on the solver's last step, at the distances of a drawn orbit."""
    assert solver.t_old is not None
    count = max(int(np.ceil((solver.t - solver.t_old) / SPACING)), 1)
    return solver.dense_output()(np.linspace(solver.t_old, solver.t, count + 1)[1:]).T


def _until(points: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The orbit until it comes to a place, or back to it, and that place itself."""
    distance = np.linalg.norm(points - place, axis=1)
    back = np.flatnonzero((distance < SPACING) & (np.maximum.accumulate(distance) > 10 * SPACING))
    return np.append(points[: back[0]], place[None], axis=0) if len(back) else points


class _Direction:
    """A planar flow's direction in units of a window's sides: its orbits by arc length, without waits at fixed points."""

    def __init__(self, window: _Window):
        scaled, t, args = window.scaled, float64(window.t), window.args

        def velocity(place: Array) -> Array:
            return scaled(t, place, args)

        def direction(place: Array) -> Array:
            u = velocity(place)
            speed = jnp.linalg.norm(u)
            return u / jnp.where(speed > 0, speed, 1.0)

        def distance(place: Array) -> Array:
            (a, b), (c, d) = jax.jacfwd(velocity)(place)
            u, v = velocity(place)
            return jnp.hypot(d * u - b * v, a * v - c * u) / jnp.abs(a * d - b * c)

        # Called some hundred times an orbit, where equinox's wrapper would take ten times as long as the call.
        self._at, self._jacobian, self._distance = (
            jax.jit(function) for function in (direction, jax.jacfwd(direction), distance)
        )

    def at(self, place: np.ndarray) -> Float[np.ndarray, "2"]:
        """The unit vector along the flow; 0 where it stands still."""
        return np.asarray(self._at(place))

    def jacobian(self, place: np.ndarray) -> Float[np.ndarray, "2 2"]:
        """The Jacobian of the direction."""
        return np.asarray(self._jacobian(place))

    def distance(self, place: np.ndarray) -> float:
        """The distance to the nearest fixed point, by the length of Newton's step.

        The speed would not tell: beside a slow manifold a flow is slow far from any fixed point.
        """
        return float(self._distance(place))
