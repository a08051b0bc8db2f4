"""The layers of a phase portrait, one function each."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib.patheffects as path_effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.quiver import Quiver
from matplotlib.streamplot import StreamplotSet

from curlflow.fixed_points import FixedPoint, Kind
from curlflow.orbits.smooth import smooth
from curlflow.orbits.trajectory import Trajectory
from curlflow.plane.survey import FixedCurve, SeparatrixKind, Survey
from curlflow.plot import style

Background = Literal["loss", "speed", "out of plane"]
Velocity = Literal["streamlines", "arrows"]

# A mark for every kind of fixed point. Filled attracts, open repels, a dot inside circles.
_MARKS: dict[Kind, dict[str, Any]] = {
    Kind.STABLE_NODE: {"marker": "o", "markerfacecolor": "black"},
    Kind.UNSTABLE_NODE: {"marker": "o", "markerfacecolor": "white"},
    Kind.STABLE_FOCUS: {"marker": "s", "markerfacecolor": "black"},
    Kind.UNSTABLE_FOCUS: {"marker": "s", "markerfacecolor": "white"},
    Kind.SADDLE: {"marker": "X", "markerfacecolor": "white", "markersize": 6},
    Kind.CENTRE: {"marker": r"$\odot$", "markerfacecolor": "black", "markersize": 7, "markeredgewidth": 0.2},
    Kind.LINEAR_CENTRE: {
        "marker": r"$\circledcirc$",
        "markerfacecolor": "black",
        "markersize": 7,
        "markeredgewidth": 0.2,
    },
    Kind.SADDLE_CENTRE: {
        "marker": r"$\otimes$",
        "markerfacecolor": "black",
        "markersize": 7,
        "markeredgewidth": 0.2,
    },
    Kind.DEGENERATE: {"marker": "D", "fillstyle": "left", "markerfacecolor": "black", "markersize": 4.5},
}
# How a curve of fixed points looks, by the sign of the eigenvalue across it.
_STABILITY: dict[float, tuple[str, Any]] = {
    -1.0: ("fixed points, stable", "solid"),
    0.0: ("fixed points, neutral", (0, (1, 1))),
    1.0: ("fixed points, unstable", (0, (3, 1.5))),
}
CURVE_LABELS = tuple(label for label, _ in _STABILITY.values())
# How a separatrix looks. Solid is what orbits come along to a saddle, dashed what they leave it by.
_SEPARATRICES: dict[SeparatrixKind, tuple[str, Any]] = {
    "stable manifold": ("stable manifold", "solid"),
    "unstable manifold": ("unstable manifold", (0, (5, 1.5))),
    "connection": ("separatrix", (0, (1, 1.2))),
    "tangent orbit": ("separatrix", (0, (1, 1.2))),
}
SEPARATRIX_LABELS = tuple(dict.fromkeys(label for label, _ in _SEPARATRICES.values()))
# Of all speeds so many percent keep apart; the few that are extreme would leave the others without contrast.
_CONTRAST = 99.0
# Streamlines shorter than this, in units of the axes, are crumbs.
_SHORTEST_STREAMLINE = 0.15
_OUTLINE = [path_effects.withStroke(linewidth=2.4, foreground="white")]


def draw_background(ax: Axes, seen: Survey, background: Background | None) -> AxesImage | None:
    """The loss, the speed or the out-of-plane share as an image, low values light; None for what is zero everywhere."""
    if background is None or (background == "loss" and seen.loss is None):
        return None
    window = (*seen.xlim, *seen.ylim)
    look: dict[str, Any] = {
        "label": background,
        "cmap": style.LOSS_COLOURS,
        "origin": "lower",
        "interpolation": "bilinear",
        "aspect": "auto",
    }
    if background == "out of plane":
        return ax.imshow(seen.out_of_plane, extent=window, vmin=0.0, vmax=1.0, zorder=0, **look)
    sampled = seen.loss if background == "loss" else np.linalg.norm(seen.velocity, axis=0)
    values = np.where(np.isfinite(sampled), sampled, np.nan)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if not np.any(values > 0):
        return None
    low, high = _speed_levels(values) if background == "speed" else style.log_levels(values, decades=5.0)
    return ax.imshow(np.maximum(values, low), extent=window, norm=LogNorm(low, high), zorder=0, **look)


def _speed_levels(speed: np.ndarray) -> tuple[float, float]:
    """The colour range of the speed: five decades at most, and of one speed alone more than nothing."""
    rare = (100 - _CONTRAST) / 2
    low, high = np.nanpercentile(speed[speed > 0], [rare, 100 - rare])
    return max(low, 1e-5 * high), max(high, 1.001 * low)


def draw_velocity(ax: Axes, seen: Survey, look: Velocity | None) -> StreamplotSet | Quiver | None:
    """Streamlines, or arrows of equal length."""
    if look == "streamlines":
        return ax.streamplot(
            seen.x,
            seen.y,
            *seen.velocity,
            density=0.8,
            color=style.FIELD,
            linewidth=0.5,
            arrowsize=0.5,
            arrowstyle="-|>",
            minlength=_SHORTEST_STREAMLINE,
            zorder=1,
        )
    if look == "arrows":
        every = max(len(seen.x) // 20, 1)
        u, v = seen.velocity[:, every // 2 :: every, every // 2 :: every]
        speed = np.hypot(u, v)
        speed = np.where(speed > 0, speed, 1.0)
        grid = np.meshgrid(seen.x[every // 2 :: every], seen.y[every // 2 :: every])
        # Along the flow on the page too, whatever the scales of its axes.
        arrows = ax.quiver(*grid, u / speed, v / speed, angles="xy", pivot="mid", scale=28, width=0.003)
        arrows.set(color=style.FIELD, zorder=1)
        return arrows
    return None


def draw_nullclines(ax: Axes, seen: Survey) -> tuple[LineCollection | None, ...]:
    """The curves on which one component of the velocity vanishes; None for a component that has none in the window."""
    drawn = []
    for curves, (colour, dash) in zip(seen.nullclines or (), style.NULLCLINES, strict=False):
        lines = LineCollection(curves, colors=[colour], linestyles=[dash], linewidths=1.1, zorder=2)
        drawn.append(ax.add_collection(lines) if curves else None)
    return tuple(drawn)


def draw_separatrix(ax: Axes, orbit: np.ndarray, kind: SeparatrixKind) -> Line2D:
    """One orbit, its dashes by its kind."""
    label, dash = _SEPARATRICES[kind]
    return ax.plot(*orbit.T, label=label, color="black", linewidth=0.9, linestyle=dash, zorder=3)[0]


def draw_fixed_curve(ax: Axes, curve: FixedCurve) -> list[Line2D]:
    """One line for every stretch of equal stability, labelled by it."""
    signs = np.sign(curve.transverse)
    # The one point at which the sign changes is no stretch of neutral ones.
    between = np.flatnonzero((signs[1:-1] == 0) & (signs[:-2] != 0) & (signs[2:] != 0)) + 1
    signs[between] = signs[between - 1]
    breaks = np.flatnonzero(signs[1:] != signs[:-1]) + 1
    lines = []
    for start, stop in zip([0, *breaks], [*breaks, len(signs)], strict=True):
        # Each stretch reaches to the first point of the next one, so that no gap shows.
        points = curve.points[start : stop + 1]
        label, dash = _STABILITY[signs[start]]
        look = {"color": style.SOLUTION_MANIFOLD, "linewidth": 1.8, "linestyle": dash, "zorder": 4}
        lines += ax.plot(*points.T, label=label, **look)
    return lines


def draw_fixed_points(ax: Axes, seen: Survey, further: Sequence[FixedPoint]) -> tuple[Line2D, ...]:
    """Isolated and further fixed points, and the points at which a curve of them changes its stability."""
    points = [
        (point.kind, point.kind.value, seen.plane.place(point.point))
        for point in (*seen.fixed_points, *further)
    ]
    changes = [place for curve in seen.curves for place in curve.stability_changes()]
    points += [(Kind.DEGENERATE, "change of stability", place) for place in changes]
    return tuple(_mark(ax, seen, *point) for point in points)


def _mark(ax: Axes, seen: Survey, kind: Kind, label: str, place: np.ndarray) -> Line2D:
    look = {
        "markersize": 5,
        "markeredgewidth": 0.9,
        "markeredgecolor": "black",
        "markerfacecoloralt": "white",
        "clip_on": not seen.shows(place),  # a mark on the edge is seen whole
    }
    return ax.plot(*place, linestyle="none", zorder=7, label=label, **(look | _MARKS[kind]))[0]


def draw_trajectories(
    ax: Axes, seen: Survey, trajectories: Mapping[str, Trajectory] | Sequence[Trajectory]
) -> tuple[Line2D, ...]:
    """Orbits with their starts and arrowheads, projected on the plane."""
    labelled = list(style.labelled("trajectories", trajectories, Trajectory))
    lines = []
    for (label, orbit), (colour, dash) in zip(
        labelled, style.orbit_looks(label for label, _ in labelled), strict=True
    ):
        points = smooth(orbit, lambda orbit: seen.plane.project(orbit.ys), [seen.xlim, seen.ylim])
        look = {"color": colour, "linestyle": dash, "linewidth": 1.5, "path_effects": _OUTLINE, "zorder": 5}
        lines += ax.plot(*points.T, label=label or None, **look)
        ax.plot(
            *points[0], marker="o", markersize=3, color=colour, clip_on=not seen.shows(points[0]), zorder=6
        )
        _draw_arrowhead(ax, points, colour)
    return tuple(lines)


def _draw_arrowhead(ax: Axes, points: np.ndarray, colour: str) -> None:
    """An arrowhead halfway along the orbit, by arc length."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    if lengths[-1] == 0:
        return

    def place(share: float) -> tuple[float, float]:
        x, y = (float(np.interp(share * lengths[-1], lengths, points[:, axis])) for axis in (0, 1))
        return x, y

    ax.add_patch(
        FancyArrowPatch(
            place(0.49),
            place(0.5),
            arrowstyle="-|>",
            mutation_scale=9,
            color=colour,
            linewidth=0,
            shrinkA=0,
            shrinkB=0,
            zorder=6,
        )
    )
