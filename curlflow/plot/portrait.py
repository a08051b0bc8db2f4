"""Phase portraits: a flow's velocity, fixed points, solution manifold, separatrices and orbits in a plane."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from matplotlib.streamplot import StreamplotSet

from curlflow import _checks
from curlflow._results import result
from curlflow.fixed_points import FixedPoint
from curlflow.orbits.trajectory import Trajectory
from curlflow.plane.planes import Plane
from curlflow.plane.survey import Limits, Survey
from curlflow.plane.survey import survey as look_at
from curlflow.plot import layers
from curlflow.plot.layers import Background, Velocity
from curlflow.plot.own_figure import on_own_figure, own_figure
from curlflow.system import Args, Flow


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
        Two contour sets, for the first and the second component of the velocity, None for one that does not change its
        sign in the window; empty if not drawn.
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
    background: AxesImage | None
    velocity: StreamplotSet | Quiver | None
    nullclines: tuple[QuadContourSet | None, ...]
    manifold: tuple[Line2D, ...]
    separatrices: tuple[Line2D, ...]
    fixed_points: tuple[Line2D, ...]
    trajectories: tuple[Line2D, ...]

    def __str__(self) -> str:
        points, orbits = len(self.fixed_points), len(self.trajectories)
        shown = [
            f"{points} fixed {'point' if points == 1 else 'points'}",
            f"{orbits} {'trajectory' if orbits == 1 else 'trajectories'}",
        ]
        if self.background is not None:
            shown.append(f"{self.background.get_label()} as background")
        return f"Portrait: {', '.join(shown)}"

    __repr__ = __str__


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
    legend: bool = True,
    resolution: int = 201,
    t: float = 0.0,
    args: Args = None,
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
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
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
    >>> print(portrait)  # the centre, and two changes of stability
    Portrait: 3 fixed points, 1 trajectory, loss as background
    """
    seen = look_at(system, xlim, ylim, plane=plane, resolution=resolution, t=t, args=args)
    return survey(
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
    systems: Mapping[str, Flow],
    xlim: Limits,
    ylim: Limits,
    *,
    trajectories: Mapping[str, Mapping[str, Trajectory]] | None = None,
    **options: Any,
) -> dict[str, Portrait]:
    """Draw phase portraits side by side, for example a curl flow beside its gradient flow, with one legend for all.

    Always makes a new figure in the paper's style, of a double column's width.

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
    >>> panels = cf.plot.compare_portraits(
    ...     {"gradient flow": flow.gradient_flow(), "curl flow": flow}, (-2, 2), (-2, 2), resolution=51
    ... )
    >>> [str(mark.get_label()) for mark in panels["gradient flow"].fixed_points]
    ['saddle']
    """
    if len(systems) not in (2, 3):
        raise ValueError(f"`systems` must hold two or three vector fields, but holds {len(systems)}.")
    with own_figure(columns=2, aspect=0.53 if len(systems) == 2 else 0.4) as figure:
        axes = figure.subplots(1, len(systems), sharey=True)
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


def _make_room_for_legend(figure: Figure) -> None:
    """Give a figure of its own just the height that its square axes and the legend below them need."""
    legend = figure.axes[0].get_legend()
    if legend is None:
        return
    rows = -(-len(legend.get_texts()) // 2)
    width = figure.get_size_inches()[0]
    figure.set_size_inches(width, 0.99 * width + 0.2 + 0.15 * rows)


@on_own_figure(aspect=1.0, finish=_make_room_for_legend)
def survey(
    seen: Survey,
    *,
    ax: Axes | None = None,
    trajectories: Mapping[str, Trajectory] | Sequence[Trajectory] = (),
    fixed_points: Sequence[FixedPoint] = (),
    background: Background | None = "loss",
    velocity: Velocity | None = "streamlines",
    nullclines: bool = False,
    legend: bool = True,
) -> Portrait:
    """Draw what a `Survey` holds: `phase_portrait` for results that are already computed.

    Parameters
    ----------
    seen
        What `curlflow.plane.survey` returned.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    trajectories, fixed_points, background, velocity, nullclines, legend
        As in `phase_portrait`.

    Returns
    -------
    Portrait
        The artists drawn.

    Raises
    ------
    ValueError
        If `background` or `velocity` is unknown, or a trajectory or fixed point is not a state of the plane's system.

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
    portrait = Portrait(
        ax=ax,
        background=layers.draw_background(ax, seen, background),
        velocity=layers.draw_velocity(ax, seen, velocity),
        nullclines=layers.draw_nullclines(ax, seen) if nullclines else (),
        manifold=tuple(line for curve in seen.curves for line in layers.draw_fixed_curve(ax, curve)),
        separatrices=tuple(layers.draw_separatrix(ax, orbit) for orbit in seen.separatrices),
        fixed_points=layers.draw_fixed_points(ax, seen, fixed_points),
        trajectories=layers.draw_trajectories(ax, seen.plane, trajectories),
    )
    ax.set(xlim=seen.xlim, ylim=seen.ylim, xlabel=seen.plane.labels[0], ylabel=seen.plane.labels[1])
    ax.set_aspect("equal" if seen.plane.is_whole_space else "auto")
    if portrait.background is not None and background != "loss":
        label = "share of speed out of plane" if background == "out of plane" else "speed"
        ax.figure.colorbar(portrait.background, ax=ax, label=label, shrink=0.7, aspect=30, pad=0.02)
    if legend:
        _draw_legend(ax, portrait)
    return portrait


def _draw_legend(ax: Axes, portrait: Portrait) -> None:
    handles = _legend_handles(portrait)
    if handles:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "borderaxespad": 0.0}
        ax.legend(list(handles.values()), list(handles), **place)


def _legend_handles(portrait: Portrait) -> dict[str, Artist]:
    """One artist for everything that the portrait shows, by its name."""
    named = [line for line in portrait.trajectories if not str(line.get_label()).startswith("_")]
    handles: dict[str, Artist] = {str(line.get_label()): line for line in named}
    solid = [line for line in portrait.manifold if line.get_linestyle() == "-"]
    dashed = [line for line in portrait.manifold if line.get_linestyle() != "-"]
    handles |= {"fixed points, stable": solid[0]} if solid else {}
    handles |= {"fixed points, unstable": dashed[0]} if dashed else {}
    handles |= {"separatrix": portrait.separatrices[0]} if portrait.separatrices else {}
    handles |= {str(mark.get_label()): mark for mark in portrait.fixed_points}
    names = (portrait.ax.get_xlabel(), portrait.ax.get_ylabel())
    for name, contours in zip(names, portrait.nullclines, strict=False):
        if contours is None:
            continue
        look = {
            "color": contours.get_edgecolor()[0],
            "linestyle": contours.get_linestyle()[0],
            "linewidth": 1.1,
        }
        handles[f"{name} nullcline"] = Line2D([], [], **look)
    return handles
