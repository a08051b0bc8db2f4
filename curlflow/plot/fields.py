"""The parts of a velocity field drawn side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.streamplot import StreamplotSet

from curlflow._results import result
from curlflow.gradient.helmholtz import HelmholtzSplit
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure


@result
class HelmholtzPanels:
    """The artists of a Helmholtz split, made by `helmholtz`.

    Attributes
    ----------
    axes
        The three axes: velocity, gradient part, rotational part.
    streamlines
        Those of the velocity and of its two parts; None for a part that vanishes.
    levels
        The contours of the potential and of the stream function; None where it is constant.
    """

    axes: tuple[Axes, ...]
    streamlines: tuple[StreamplotSet | None, ...]
    levels: tuple[QuadContourSet | None, ...]

    def __str__(self) -> str:
        return f"HelmholtzPanels: {', '.join(ax.get_title(loc='left') for ax in self.axes)}"


@on_own_figure(columns=2, aspect=0.4, panels=3)
def helmholtz(split: HelmholtzSplit, *, axes: Sequence[Axes] | np.ndarray | None = None) -> HelmholtzPanels:
    """Draw a velocity field beside its two parts, over the potential of the one and the stream function of the other.

    Dark is high: the gradient part runs from dark to light, the rotational part along the edges of the shades.

    Parameters
    ----------
    split
        What `helmholtz_split` returned.
    axes
        Three Matplotlib axes to draw on; None makes a new figure in the paper's style, of a double column's width.

    Returns
    -------
    HelmholtzPanels
        The artists drawn.

    Raises
    ------
    ValueError
        If there are not three axes.

    Examples
    --------
    >>> import curlflow as cf
    >>> split = cf.gradient.helmholtz_split(
    ...     cf.toy_flow(flip="readout"), (-2.5, 2.5), (-2.5, 2.5), resolution=41
    ... )
    >>> print(cf.plot.helmholtz(split))
    HelmholtzPanels: a  velocity, b  gradient, 61 % (harmonic: 59 %), c  rotational, 39 %
    """
    assert axes is not None
    if len(axes) != 3:
        raise ValueError(f"`axes` must be three axes, but are {len(axes)}.")
    titles = (
        "a  velocity",
        f"b  gradient, {_percent(split.gradient_share)} (harmonic: {_percent(split.harmonic_share)})",
        f"c  rotational, {_percent(split.rotational_share)}",
    )
    parts = (split.velocity, split.gradient, split.rotational)
    largest = np.abs(split.velocity).max()
    streamlines = tuple(
        _draw_panel(ax, split, title, part, largest)
        for ax, title, part in zip(axes, titles, parts, strict=True)
    )
    axes[0].set_ylabel(split.plane.labels[1])
    size = largest * max(np.ptp(split.xlim), np.ptp(split.ylim))
    levels = tuple(
        _draw_levels(ax, split, values, size)
        for ax, values in zip(axes[1:], (split.potential, split.stream_function), strict=True)
    )
    return HelmholtzPanels(tuple(axes), streamlines, levels)


def _draw_panel(
    ax: Axes, split: HelmholtzSplit, title: str, part: np.ndarray, largest: float
) -> StreamplotSet | None:
    """The frame of one panel, and the streamlines in it."""
    ax.set_title(title, loc="left")
    ax.set(xlim=split.xlim, ylim=split.ylim, xlabel=split.plane.labels[0])
    ax.set_aspect("equal" if split.plane.is_whole_space else "auto")
    return _draw_streamlines(ax, split, part, largest)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _draw_streamlines(
    ax: Axes, split: HelmholtzSplit, part: np.ndarray, largest: float
) -> StreamplotSet | None:
    if np.abs(part).max() <= 1e-6 * largest:
        ax.text(sum(split.xlim) / 2, sum(split.ylim) / 2, "none", ha="center", va="center")
        return None
    look = {"color": style.BLACK, "linewidth": 0.5, "arrowsize": 0.5, "arrowstyle": "-|>", "zorder": 2}
    return ax.streamplot(split.x, split.y, *part, density=0.8, **look)


def _draw_levels(ax: Axes, split: HelmholtzSplit, values: np.ndarray, size: float) -> QuadContourSet | None:
    if np.ptp(values) <= 1e-6 * size:
        return None
    return ax.contourf(split.x, split.y, values, levels=12, cmap=style.LOSS_COLOURS, zorder=0)
