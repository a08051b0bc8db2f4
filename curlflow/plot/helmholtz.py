"""The parts of a velocity field drawn side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet

from curlflow.gradient.helmholtz import HelmholtzSplit
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure


@dataclass
class HelmholtzPanels:
    """The artists of a Helmholtz split, made by `helmholtz`.

    Attributes
    ----------
    axes
        The three axes: velocity, gradient part, rotational part.
    streamlines
        One `StreamplotSet` for each; None for a part that vanishes.
    levels
        The contours of the potential and of the stream function; None where it is constant.
    """

    axes: Sequence[Axes] | np.ndarray
    streamlines: list[Any]
    levels: list[QuadContourSet | None]


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
    >>> [ax.get_title(loc="left") for ax in cf.plot.helmholtz(split).axes]
    ['a  velocity', 'b  gradient, 61 % (harmonic: 59 %)', 'c  rotational, 39 %']
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
    panels = HelmholtzPanels(axes, [], [])
    for ax, title, part in zip(axes, titles, parts, strict=True):
        panels.streamlines.append(_draw_streamlines(ax, split, part, largest))
        ax.set_title(title, loc="left")
        ax.set(xlim=split.xlim, ylim=split.ylim, xlabel=split.plane.labels[0])
        ax.set_aspect("equal" if split.plane.is_whole_space else "auto")
    axes[0].set_ylabel(split.plane.labels[1])
    size = largest * max(np.ptp(split.xlim), np.ptp(split.ylim))
    panels.levels = [
        _draw_levels(ax, split, values, size)
        for ax, values in zip(axes[1:], (split.potential, split.stream_function), strict=True)
    ]
    return panels


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _draw_streamlines(ax: Axes, split: HelmholtzSplit, part: np.ndarray, largest: float) -> Any:
    if np.abs(part).max() <= 1e-6 * largest:
        ax.text(sum(split.xlim) / 2, sum(split.ylim) / 2, "none", ha="center", va="center")
        return None
    look = {"color": style.BLACK, "linewidth": 0.5, "arrowsize": 0.5, "arrowstyle": "-|>", "zorder": 2}
    return ax.streamplot(split.x, split.y, *part, density=0.8, **look)


def _draw_levels(ax: Axes, split: HelmholtzSplit, values: np.ndarray, size: float) -> QuadContourSet | None:
    if np.ptp(values) <= 1e-6 * size:
        return None
    return ax.contourf(split.x, split.y, values, levels=12, cmap=style.LOSS_COLOURS, zorder=0)
