"""Phase portraits: a flow's velocity, fixed points, solution manifold, separatrices and orbits in a plane."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.quiver import Quiver
from matplotlib.streamplot import StreamplotSet
from matplotlib.ticker import LogLocator
from matplotlib.transforms import ScaledTranslation

from curlflow import _checks
from curlflow._results import result
from curlflow.fixed_points import FixedPoint
from curlflow.orbits.trajectory import Trajectory
from curlflow.plane.planes import Plane
from curlflow.plane.survey import Limits, Survey
from curlflow.plane.survey import survey as look_at
from curlflow.plot import layers, style
from curlflow.plot.layers import Background, Velocity
from curlflow.plot.own_figure import fit_height, on_own_figure, own_figure
from curlflow.system import Args, Flow

Aspect = Literal["equal", "auto"] | float

# Windows whose sides differ by more than this factor are drawn with a scale of its own for each axis.
LONGEST_SIDE = 4.0


@result
class Portrait:
    """The artists of a phase portrait, by what they show; made by `phase_portrait` and `survey`.

    Attributes
    ----------
    ax
        The axes drawn on.
    background
        The image of the loss, the speed or the out-of-plane share, or None.
    velocity
        The streamlines or the arrows, or None.
    nullclines
        Two collections of lines, for the first and the second component of the velocity, None for one that does not vanish
        in the window; empty if not drawn.
    manifold
        Lines along curves of fixed points: solid where they attract, dashed where they repel, dotted where neither.
    separatrices
        Lines: solid along stable manifolds of saddles, dashed along unstable ones, dotted along other separatrices.
    fixed_points
        One marker per isolated fixed point, and one wherever a curve of fixed points changes its stability.
    trajectories
        Lines, in the order given.
    """

    ax: Axes
    background: AxesImage | None
    velocity: StreamplotSet | Quiver | None
    nullclines: tuple[LineCollection | None, ...]
    manifold: tuple[Line2D, ...]
    separatrices: tuple[Line2D, ...]
    fixed_points: tuple[Line2D, ...]
    trajectories: tuple[Line2D, ...]

    def legend_handles(self) -> dict[str, Artist]:
        """One artist for everything that the portrait shows, by its name: for a legend of your own, or of several panels.

        Examples
        --------
        >>> import curlflow as cf
        >>> portrait = cf.phase_portrait(
        ...     cf.toy_flow(flip=None), (-2, 2), (-2, 2), legend=False, resolution=21
        ... )
        >>> handles = portrait.legend_handles()
        >>> legend = portrait.ax.figure.legend(handles.values(), handles.keys(), loc="outside right")
        >>> list(handles)
        ['fixed points, stable', 'stable manifold', 'unstable manifold', 'saddle', 'high loss']
        """
        named = [line for line in self.trajectories if not str(line.get_label()).startswith("_")]
        handles: dict[str, Artist] = {str(line.get_label()): line for line in named}
        of_curves = {str(line.get_label()): line for line in self.manifold}
        handles |= {name: of_curves[name] for name in layers.CURVE_LABELS if name in of_curves}
        separatrices = {str(line.get_label()): line for line in self.separatrices}
        handles |= {name: separatrices[name] for name in layers.SEPARATRIX_LABELS if name in separatrices}
        handles |= {str(mark.get_label()): mark for mark in self.fixed_points}
        names = (self.ax.get_xlabel(), self.ax.get_ylabel())
        for name, lines in zip(names, self.nullclines, strict=False):
            # Without what stands in brackets behind it on the axis.
            handles |= {} if lines is None else {f"{name.partition(' (')[0]} nullcline": lines}
        if self.background is not None and self.background.get_label() == "loss":
            handles["high loss"] = Patch(facecolor=style.LOSS_COLOURS(1.0), edgecolor="none")
        return handles

    def __str__(self) -> str:
        points, orbits = len(self.fixed_points), len(self.trajectories)
        shown = [
            f"{points} fixed {'point' if points == 1 else 'points'}",
            f"{orbits} {'trajectory' if orbits == 1 else 'trajectories'}",
        ]
        if self.background is not None:
            shown.append(f"{self.background.get_label()} as background")
        return f"Portrait: {', '.join(shown)}"


def phase_portrait(
    system: Flow,
    xlim: Limits,
    ylim: Limits,
    *,
    plane: Plane | None = None,
    ax: Axes | None = None,
    trajectories: Mapping[str, Trajectory] | Sequence[Trajectory] = (),
    fixed_points: Sequence[FixedPoint] = (),
    background: Background | None = "loss",
    velocity: Velocity | None = "streamlines",
    nullclines: bool = False,
    aspect: Aspect | None = None,
    legend: bool = True,
    resolution: int = 201,
    t: float = 0.0,
    args: Args = None,
) -> Portrait:
    """Draw the phase portrait of a planar flow, or of any flow in a plane of its state space.

    Of a planar flow it shows the isolated fixed points, each kind with a mark of its own; curves of fixed points, such as the
    solution manifold, solid where they attract and dashed where they do not; and the separatrices, stable manifolds of
    saddles solid, unstable ones dashed. In a plane of a larger
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
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    trajectories
        Orbits to draw over it, projected on the plane, with arrowheads: a list, or a mapping from legend labels. They are
        smooth however far apart the saved times are: what is missing between them is computed anew.
    fixed_points
        Further fixed points to mark, for a flow that is not planar; they are projected on the plane.
    background
        "loss" (on a logarithmic scale; nothing if the system has none), "speed", "out of plane" (the share of the speed that
        leads out of the plane), or None.
    velocity
        "streamlines", "arrows" (of equal length), or None.
    nullclines
        Whether to draw the curves on which one component of the velocity vanishes, all branches.
    aspect
        "equal" for the same scale on both axes, "auto" for a window that fills its axes, or how long a unit of the second
        axis is in units of the first. None takes "equal" for planar flows in windows whose sides differ by less than a factor
        of 4, "auto" otherwise.
    legend
        Whether to draw a legend: below a figure of its own, and inside the axes that were given.
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
    >>> print(portrait)  # the centre, and two changes of stability
    Portrait: 3 fixed points, 1 trajectory, loss as background
    """
    seen = look_at(
        system, xlim, ylim, plane=plane, resolution=resolution, nullclines=nullclines, t=t, args=args
    )
    return survey(
        seen,
        ax=ax,
        trajectories=trajectories,
        fixed_points=fixed_points,
        background=background,
        velocity=velocity,
        aspect=aspect,
        legend=legend,
    )


def compare_portraits(
    systems: Mapping[str, Flow],
    xlim: Limits,
    ylim: Limits,
    *,
    trajectories: Mapping[str, Mapping[str, Trajectory] | Sequence[Trajectory]] | None = None,
    axes: Sequence[Axes] | np.ndarray | None = None,
    **options: Any,
) -> dict[str, Portrait]:
    """Draw phase portraits side by side, for example a curl flow beside its gradient flow, with one legend for all.

    Parameters
    ----------
    systems
        The vector fields by the titles of their panels: two or three on a figure of their own, any number on given axes.
    xlim, ylim
        The window, the same for all.
    trajectories
        For each title, orbits to draw in that panel, a list or by their legend labels. Those called "curl flow" and
        "gradient flow" have colours of their own.
    axes
        Matplotlib axes to draw on, one for every system in any arrangement; no legend is drawn then, for which
        `Portrait.legend_handles` has what it needs. None makes a new figure in the paper's style, of a double column's width.
    **options
        Passed on to `phase_portrait`: `plane`, `background`, `velocity`, `nullclines`, `resolution`, `t`, `args`.

    Returns
    -------
    dict
        The `Portrait` of every panel, by title.

    Raises
    ------
    ValueError
        If there are not two or three systems and no axes are given, or not as many axes as systems, or as `phase_portrait`
        does.

    Examples
    --------
    >>> import curlflow as cf
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> panels = cf.plot.compare_portraits(
    ...     {"gradient flow": flow.gradient_flow(), "curl flow": flow}, (-2, 2), (-2, 2), resolution=51
    ... )
    >>> [str(mark.get_label()) for mark in panels["gradient flow"].fixed_points]
    ['saddle']
    """

    def draw(axes: Sequence[Axes]) -> dict[str, Portrait]:
        panels = {}
        for ax, (title, system) in zip(axes, systems.items(), strict=True):
            orbits = (trajectories or {}).get(title, {})
            panels[title] = phase_portrait(
                system, xlim, ylim, ax=ax, trajectories=orbits, legend=False, **options
            )
            ax.set_title(title, loc="left")
            ax.label_outer()
        return panels

    if axes is not None:
        given = list(np.ravel(np.asarray(axes, object)))
        if len(given) != len(systems):
            raise ValueError(
                f"`axes` must be {len(systems)} axes, one for every system, but are {len(given)}."
            )
        return draw(given)
    if len(systems) not in (2, 3):
        raise ValueError(
            f"`systems` must hold two or three vector fields, but holds {len(systems)}: give `axes` for more."
        )
    with own_figure(columns=2, aspect=0.5) as figure:
        panels = draw(list(figure.subplots(1, len(systems), sharey=True)))
        handles: dict[str, Artist] = {}
        for panel in panels.values():
            handles |= panel.legend_handles()
            _give_shape(panel.ax)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
        fit_height(figure)
    return panels


def _give_shape(ax: Axes) -> None:
    """Make axes square that would fill whatever room there is, and put them above their legend."""
    ax.set_anchor("N")
    if ax.get_aspect() == "auto":
        ax.set_box_aspect(1)


def _finish(figure: Figure, portrait: Portrait) -> None:
    """A figure of its own is as high as its axes and the legend below them need."""
    _give_shape(portrait.ax)
    if portrait.ax.get_legend() is not None:
        _put_legend_below(portrait)
    fit_height(figure)


def _put_legend_below(portrait: Portrait) -> None:
    """The legend below the axis and its label, however high the axes are."""
    ax, handles = portrait.ax, portrait.legend_handles()
    axis = ax.xaxis.get_tightbbox()
    assert axis is not None
    below = ScaledTranslation(0, (axis.y0 - ax.bbox.y0) / ax.figure.dpi - 0.06, ax.figure.dpi_scale_trans)
    place = {"bbox_to_anchor": (0.5, 0.0), "bbox_transform": ax.transAxes + below}
    ax.legend(list(handles.values()), list(handles), loc="upper center", ncols=2, borderaxespad=0.0, **place)


@on_own_figure(aspect=1.0, finish=_finish)
def survey(
    seen: Survey,
    *,
    ax: Axes | None = None,
    trajectories: Mapping[str, Trajectory] | Sequence[Trajectory] = (),
    fixed_points: Sequence[FixedPoint] = (),
    background: Background | None = "loss",
    velocity: Velocity | None = "streamlines",
    aspect: Aspect | None = None,
    legend: bool = True,
) -> Portrait:
    """Draw what a `Survey` holds: `phase_portrait` for results that are already computed.

    Parameters
    ----------
    seen
        What `curlflow.plane.survey` returned.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    trajectories, fixed_points, background, velocity, aspect, legend
        As in `phase_portrait`.

    Returns
    -------
    Portrait
        The artists drawn.

    Raises
    ------
    ValueError
        If `background`, `velocity` or `aspect` is unknown, or a trajectory or fixed point is not a state of the plane's
        system.

    Examples
    --------
    >>> import curlflow as cf
    >>> seen = cf.plane.survey(cf.toy_flow(s=1.0, flip="readout"), (-2, 2), (-2, 2), resolution=51)
    >>> print(cf.plot.survey(seen, background="speed"))
    Portrait: 3 fixed points, 0 trajectories, speed as background
    """
    assert ax is not None
    _checks.require_one_of("background", background, ("loss", "speed", "out of plane", None))
    _checks.require_one_of("velocity", velocity, ("streamlines", "arrows", None))
    if isinstance(aspect, str) or aspect is None:
        _checks.require_one_of("aspect", aspect, ("equal", "auto", None))
    else:
        _checks.positive_number("aspect", aspect)
    portrait = Portrait(
        ax=ax,
        background=layers.draw_background(ax, seen, background),
        velocity=layers.draw_velocity(ax, seen, velocity),
        nullclines=layers.draw_nullclines(ax, seen),
        manifold=tuple(line for curve in seen.curves for line in layers.draw_fixed_curve(ax, curve)),
        separatrices=tuple(
            layers.draw_separatrix(ax, orbit, kind)
            for orbit, kind in zip(seen.separatrices, seen.separatrix_kinds, strict=True)
        ),
        fixed_points=layers.draw_fixed_points(ax, seen, fixed_points),
        trajectories=layers.draw_trajectories(ax, seen, trajectories),
    )
    ax.set(xlim=seen.xlim, ylim=seen.ylim, xlabel=seen.plane.labels[0], ylabel=seen.plane.labels[1])
    ax.set_aspect(_aspect(seen) if aspect is None else aspect)
    if portrait.background is not None and background != "loss":
        _draw_colour_bar(ax, portrait.background)
    handles = portrait.legend_handles()
    if legend and handles:
        ax.legend(list(handles.values()), list(handles), frameon=True, framealpha=0.8, edgecolor="none")
    return portrait


def _draw_colour_bar(ax: Axes, image: AxesImage) -> None:
    """Beside the axes, with ticks within a decade too, and no more of them than can be read."""
    beside, is_share = ax.inset_axes((1.03, 0.15, 0.03, 0.7)), image.get_label() == "out of plane"
    label = "share of speed out of plane" if is_share else "speed"
    ticks = None if is_share else LogLocator(subs=(1.0, 2.0, 5.0))
    ax.figure.colorbar(image, cax=beside, label=label, ticks=ticks, format="%g").minorticks_off()


def _aspect(seen: Survey) -> Aspect:
    """Equal scales for a planar flow, where they leave both axes long enough to be read."""
    width, height = np.ptp(seen.xlim), np.ptp(seen.ylim)
    is_readable = max(width, height) < LONGEST_SIDE * min(width, height)
    return "equal" if seen.plane.is_whole_space and is_readable else "auto"
