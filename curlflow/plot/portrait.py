"""Phase portraits: a flow's velocity, fixed points, solution manifold, separatrices and orbits in a plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import matplotlib.patheffects as path_effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from curlflow import _checks
from curlflow.fixed_points import FixedPoint, Kind
from curlflow.planes import Plane
from curlflow.plot import style
from curlflow.survey import FixedCurve, Limits, Survey, survey
from curlflow.trajectory import Trajectory

Background = Literal["loss", "speed", "out of plane"]

# A mark for every kind of fixed point. Filled attracts, open repels, a dot inside circles.
_MARKS: dict[Kind, dict[str, Any]] = {
    Kind.STABLE_NODE: {"marker": "o", "markerfacecolor": "black"},
    Kind.UNSTABLE_NODE: {"marker": "o", "markerfacecolor": "white"},
    Kind.STABLE_FOCUS: {"marker": "s", "markerfacecolor": "black"},
    Kind.UNSTABLE_FOCUS: {"marker": "s", "markerfacecolor": "white"},
    Kind.SADDLE: {"marker": "X", "markerfacecolor": "white", "markersize": 6},
    Kind.CENTRE: {"marker": r"$\odot$", "markerfacecolor": "black", "markersize": 7, "markeredgewidth": 0.2},
    Kind.SADDLE_CENTRE: {
        "marker": r"$\otimes$",
        "markerfacecolor": "black",
        "markersize": 7,
        "markeredgewidth": 0.2,
    },
    Kind.DEGENERATE: {"marker": "D", "fillstyle": "left", "markerfacecolor": "black", "markersize": 4.5},
}
_OUTLINE = [path_effects.withStroke(linewidth=2.4, foreground="white")]


@dataclass
class Portrait:
    """The artists of a phase portrait, by what they show; made by `phase_portrait` and `draw_survey`.

    Attributes
    ----------
    ax
        The axes drawn on.
    background
        The image of the loss, the speed or the out-of-plane share, or None.
    velocity
        The streamlines or arrows (a `StreamplotSet` or a `Quiver`), or None.
    nullclines
        Two contour sets, for the first and the second component of the velocity; empty if not drawn.
    manifold
        Lines along curves of fixed points: solid where they attract, dashed where they do not.
    separatrices
        Lines.
    fixed_points
        One marker per isolated fixed point, and one wherever a curve of fixed points changes its stability.
    trajectories
        Lines, in the order given.
    """

    ax: Axes
    background: AxesImage | None = None
    velocity: Any = None
    nullclines: list[Any] = field(default_factory=list)
    manifold: list[Line2D] = field(default_factory=list)
    separatrices: list[Line2D] = field(default_factory=list)
    fixed_points: list[Line2D] = field(default_factory=list)
    trajectories: list[Line2D] = field(default_factory=list)


def phase_portrait(
    system: Any,
    xlim: Limits,
    ylim: Limits,
    *,
    plane: Plane | None = None,
    ax: Axes | None = None,
    trajectories: Mapping[str, Trajectory] | Sequence[Trajectory] = (),
    fixed_points: Sequence[FixedPoint] = (),
    background: Background | None = "loss",
    velocity: Literal["streamlines", "arrows"] | None = "streamlines",
    nullclines: bool = False,
    legend: bool = True,
    resolution: int = 201,
    t: float = 0.0,
    args: Any = None,
) -> Portrait:
    """Draw the phase portrait of a planar flow, or of any flow in a plane of its state space.

    Of a planar flow it shows the isolated fixed points, each kind with a mark of its own; curves of fixed points, such as the
    solution manifold, solid where they attract and dashed where they do not; and the separatrices. In a plane of a larger
    flow the arrows are the velocity's shadow on the plane, and the background can tell how much of it leads out.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    xlim, ylim
        The window, (low, high) along each axis of the plane.
    plane
        Which plane of the state space (see `coordinate_plane`, `eigenplane`, `principal_plane`); None if the state is an
        array of two numbers.
    ax
        Matplotlib axes to draw on; None makes a new figure.
    trajectories
        Orbits to draw over it, projected on the plane, with arrowheads: a list, or a mapping from legend labels.
    fixed_points
        Further fixed points to mark, for a flow that is not planar; they are projected on the plane.
    background
        "loss" (on a logarithmic scale; nothing if the system has none), "speed", "out of plane" (the share of the speed that
        leads out of the plane), or None.
    velocity
        "streamlines", "arrows" (of equal length), or None.
    nullclines
        Whether to draw the curves on which one component of the velocity vanishes, all branches.
    legend
        Whether to draw a legend.
    resolution
        Grid points along each axis.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    Portrait
        The artists drawn.

    Raises
    ------
    ValueError
        If the flow is not planar and no plane is given, or an argument is out of range.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> orbit = cf.integrate(flow, jnp.array([-1.5, 0.5]), 20.0)
    >>> portrait = cf.phase_portrait(flow, (-2, 2), (-2, 2), trajectories={"curl flow": orbit}, resolution=51)
    >>> len(portrait.trajectories), len(portrait.fixed_points)  # the centre, and two changes of stability
    (1, 3)
    """
    seen = survey(system, xlim, ylim, plane=plane, resolution=resolution, t=t, args=args)
    return draw_survey(
        seen,
        ax=ax,
        trajectories=trajectories,
        fixed_points=fixed_points,
        background=background,
        velocity=velocity,
        nullclines=nullclines,
        legend=legend,
    )


def compare_portraits(
    systems: Mapping[str, Any],
    xlim: Limits,
    ylim: Limits,
    *,
    trajectories: Mapping[str, Mapping[str, Trajectory]] | None = None,
    **options: Any,
) -> dict[str, Portrait]:
    """Draw phase portraits side by side, for example a curl flow beside its gradient flow, with one legend for all.

    Parameters
    ----------
    systems
        The vector fields, two or three, by the titles of their panels.
    xlim, ylim
        The window, the same for all.
    trajectories
        For each title, orbits to draw in that panel by their legend labels. Those called "curl flow" and "gradient flow"
        have colours of their own.
    **options
        Passed on to `phase_portrait`: `plane`, `background`, `velocity`, `nullclines`, `resolution`, `t`, `args`.

    Returns
    -------
    dict
        The `Portrait` of every panel, by title.

    Raises
    ------
    ValueError
        If there are not two or three systems, or as `phase_portrait` does.

    Examples
    --------
    >>> import curlflow as cf
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> panels = cf.compare_portraits(
    ...     {"gradient flow": flow.gradient_flow(), "curl flow": flow}, (-2, 2), (-2, 2), resolution=51
    ... )
    >>> [str(mark.get_label()) for mark in panels["gradient flow"].fixed_points]
    ['saddle']
    """
    if len(systems) not in (2, 3):
        raise ValueError(f"`systems` must hold two or three vector fields, but holds {len(systems)}.")
    with style.paper_style(columns=2, aspect=0.53 if len(systems) == 2 else 0.4):
        figure, axes = plt.subplots(1, len(systems), sharey=True)
        panels = {}
        for ax, (title, system) in zip(axes, systems.items(), strict=True):
            orbits = (trajectories or {}).get(title, {})
            panels[title] = phase_portrait(
                system, xlim, ylim, ax=ax, trajectories=orbits, legend=False, **options
            )
            ax.set_title(title, loc="left")
            ax.label_outer()
        handles = {
            name: artist for panel in panels.values() for name, artist in _legend_handles(panel).items()
        }
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return panels


def draw_survey(
    seen: Survey,
    *,
    ax: Axes | None = None,
    trajectories: Mapping[str, Trajectory] | Sequence[Trajectory] = (),
    fixed_points: Sequence[FixedPoint] = (),
    background: Background | None = "loss",
    velocity: Literal["streamlines", "arrows"] | None = "streamlines",
    nullclines: bool = False,
    legend: bool = True,
) -> Portrait:
    """Draw what a `Survey` holds: `phase_portrait` for results that are already computed. The arguments are the same."""
    _checks.require_one_of("background", background, ("loss", "speed", "out of plane", None))
    _checks.require_one_of("velocity", velocity, ("streamlines", "arrows", None))
    if ax is None:
        with style.paper_style(aspect=1.0):
            portrait = draw_survey(
                seen,
                ax=plt.figure().add_subplot(),
                trajectories=trajectories,
                fixed_points=fixed_points,
                background=background,
                velocity=velocity,
                nullclines=nullclines,
                legend=legend,
            )
            _make_room_for_legend(portrait.ax)
            return portrait
    portrait = Portrait(ax)
    portrait.background = _draw_background(ax, seen, background)
    portrait.velocity = _draw_velocity(ax, seen, velocity)
    if nullclines:
        portrait.nullclines = _draw_nullclines(ax, seen)
    portrait.separatrices = [_draw_separatrix(ax, orbit) for orbit in seen.separatrices]
    portrait.manifold = [line for curve in seen.curves for line in _draw_fixed_curve(ax, curve)]
    portrait.trajectories = _draw_trajectories(ax, seen.plane, trajectories)
    portrait.fixed_points = _draw_fixed_points(ax, seen, fixed_points)
    ax.set(xlim=seen.xlim, ylim=seen.ylim, xlabel=seen.plane.labels[0], ylabel=seen.plane.labels[1])
    ax.set_aspect("equal" if seen.plane.is_whole_space else "auto")
    if portrait.background is not None and background != "loss":
        label = "share of speed out of plane" if background == "out of plane" else "speed"
        ax.figure.colorbar(portrait.background, ax=ax, label=label, shrink=0.7, aspect=30, pad=0.02)
    if legend:
        _draw_legend(ax, portrait)
    return portrait


def _draw_background(ax: Axes, seen: Survey, background: Background | None) -> AxesImage | None:
    if background is None or (background == "loss" and seen.loss is None):
        return None
    window = (*seen.xlim, *seen.ylim)
    look: dict[str, Any] = {
        "cmap": style.LOSS_COLOURS,
        "origin": "lower",
        "interpolation": "bilinear",
        "aspect": "auto",
    }
    if background == "out of plane":
        return ax.imshow(seen.out_of_plane, extent=window, vmin=0.0, vmax=1.0, zorder=0, **look)
    values = seen.loss if background == "loss" else np.linalg.norm(seen.velocity, axis=0)
    low, high = style.log_levels(values, decades=5.0)  # pyright: ignore[reportArgumentType]
    return ax.imshow(np.maximum(values, low), extent=window, norm=LogNorm(low, high), zorder=0, **look)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _draw_velocity(ax: Axes, seen: Survey, look: str | None) -> Any:
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
            zorder=1,
        )
    if look == "arrows":
        every = max(len(seen.x) // 20, 1)
        u, v = seen.velocity[:, every // 2 :: every, every // 2 :: every]
        speed = np.hypot(u, v)
        speed = np.where(speed > 0, speed, 1.0)
        grid = np.meshgrid(seen.x[every // 2 :: every], seen.y[every // 2 :: every])
        return ax.quiver(
            *grid, u / speed, v / speed, color=style.FIELD, pivot="mid", scale=28, width=0.003, zorder=1
        )
    return None


def _draw_nullclines(ax: Axes, seen: Survey) -> list[Any]:
    # Contours of the sampled components find every branch, horizontal and vertical ones too.
    looks = [(style.GREEN, "dashdot"), (style.PURPLE, "dotted")]
    return [
        ax.contour(
            seen.x,
            seen.y,
            component,
            levels=[0.0],
            colors=[colour],
            linestyles=[dash],
            linewidths=1.1,
            zorder=2,
        )
        for component, (colour, dash) in zip(seen.velocity, looks, strict=True)
    ]


def _draw_separatrix(ax: Axes, orbit: np.ndarray) -> Line2D:
    return ax.plot(*orbit.T, color="black", linewidth=1.0, linestyle=(0, (1, 1.2)), zorder=3)[0]


def _draw_fixed_curve(ax: Axes, curve: FixedCurve) -> list[Line2D]:
    """One line for every stretch of equal stability."""
    attracts = curve.transverse < 0
    breaks = np.flatnonzero(attracts[1:] != attracts[:-1]) + 1
    lines = []
    for start, stop in zip([0, *breaks], [*breaks, len(attracts)], strict=True):
        # Each stretch reaches to the first point of the next one, so that no gap shows.
        points = curve.points[start : stop + 1]
        dash = "solid" if attracts[start] else (0, (3, 1.5))
        lines += ax.plot(*points.T, color=style.SOLUTION_MANIFOLD, linewidth=1.8, linestyle=dash, zorder=4)
    return lines


def _draw_fixed_points(ax: Axes, seen: Survey, further: Sequence[FixedPoint]) -> list[Line2D]:
    points = [
        (point.kind, point.kind.value, _place(seen.plane, point)) for point in (*seen.fixed_points, *further)
    ]
    changes = [place for curve in seen.curves for place in curve.stability_changes()]
    points += [(Kind.DEGENERATE, "change of stability", place) for place in changes]
    return [_mark(ax, *point) for point in points]


def _mark(ax: Axes, kind: Kind, label: str, place: np.ndarray) -> Line2D:
    look = {
        "markersize": 5,
        "markeredgewidth": 0.9,
        "markeredgecolor": "black",
        "markerfacecoloralt": "white",
    }
    return ax.plot(*place, linestyle="none", zorder=7, label=label, **(look | _MARKS[kind]))[0]


def _place(plane: Plane, point: FixedPoint) -> np.ndarray:
    return plane.project(jax.tree.map(lambda leaf: leaf[None], point.point))[0]


def _draw_trajectories(
    ax: Axes, plane: Plane, trajectories: Mapping[str, Trajectory] | Sequence[Trajectory]
) -> list[Line2D]:
    labelled = (
        trajectories.items() if isinstance(trajectories, Mapping) else [("", orbit) for orbit in trajectories]
    )
    others = [style.PURPLE, style.GREEN, style.BLACK, style.BLUE]
    lines = []
    for i, (label, orbit) in enumerate(labelled):
        points = plane.project(orbit.ys)
        colour = style.FLOW_COLOURS.get(label, others[i % len(others)])
        line = ax.plot(
            *points.T, color=colour, linewidth=1.5, label=label or None, zorder=5, path_effects=_OUTLINE
        )[0]
        ax.plot(*points[0], marker="o", markersize=3, color=colour, zorder=6)
        _draw_arrowhead(ax, points, colour)
        lines.append(line)
    return lines


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


def _draw_legend(ax: Axes, portrait: Portrait) -> None:
    handles = _legend_handles(portrait)
    if handles:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "borderaxespad": 0.0}
        ax.legend(list(handles.values()), list(handles), **place)


def _legend_handles(portrait: Portrait) -> dict[str, Any]:
    """One artist for everything that the portrait shows, by its name."""
    named = [line for line in portrait.trajectories if not str(line.get_label()).startswith("_")]
    handles: dict[str, Any] = {str(line.get_label()): line for line in named}
    solid = [line for line in portrait.manifold if line.get_linestyle() == "-"]
    dashed = [line for line in portrait.manifold if line.get_linestyle() != "-"]
    handles |= {"fixed points, stable": solid[0]} if solid else {}
    handles |= {"fixed points, unstable": dashed[0]} if dashed else {}
    handles |= {"separatrix": portrait.separatrices[0]} if portrait.separatrices else {}
    handles |= {str(mark.get_label()): mark for mark in portrait.fixed_points}
    names = (portrait.ax.get_xlabel(), portrait.ax.get_ylabel())
    for name, contours in zip(names, portrait.nullclines, strict=False):
        look = {
            "color": contours.get_edgecolor()[0],
            "linestyle": contours.get_linestyle()[0],
            "linewidth": 1.1,
        }
        handles[f"{name} nullcline"] = Line2D([], [], **look)
    return handles


def _make_room_for_legend(ax: Axes) -> None:
    """Give a figure of its own just the height that its square axes and the legend below them need."""
    legend, figure = ax.get_legend(), ax.get_figure(root=True)
    if legend is None or figure is None:
        return
    rows = -(-len(legend.get_texts()) // 2)
    width = figure.get_size_inches()[0]
    figure.set_size_inches(width, 0.99 * width + 0.2 + 0.15 * rows)
