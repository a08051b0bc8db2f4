"""Curves against time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curlflow.orbits.trajectory import Trajectory
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure


@on_own_figure(aspect=0.7)
def loss(
    trajectories: Mapping[str, Trajectory],
    *,
    ax: Axes | None = None,
    inset: tuple[float, float] | None = None,
    floor: float = 1e-16,
) -> list[Line2D]:
    """Plot the loss of one or more trajectories against time, on a logarithmic scale.

    Parameters
    ----------
    trajectories
        The trajectories, of one initial condition each, by the labels of the legend.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    inset
        A span of times, (from, to), to show enlarged in an inset with a linear scale.
    floor
        Losses below it are not drawn: rounding makes them meaningless.

    Returns
    -------
    list of Line2D
        The curves of the main axes, in the order given.

    Raises
    ------
    ValueError
        If there is no trajectory, one is a batch or has no loss, the floor is not positive, or the inset is not (from, to)
        or holds no saved time.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> orbit = cf.integrate(cf.toy_flow(), jnp.array([-1.5, 1.0]), 20.0)
    >>> len(cf.plot.loss({"curl flow": orbit}, inset=(0, 2)))
    1
    """
    if not trajectories or any(orbit.is_batch for orbit in trajectories.values()):
        raise ValueError(
            "`trajectories` must hold at least one trajectory and no batch: take trajectory.member(i)."
        )
    if not floor > 0:
        raise ValueError(f"`floor` must be positive, but is {floor!r}.")
    if inset is not None and not inset[0] < inset[1]:
        raise ValueError(f"`inset` must be a pair of times (from, to), but is {inset!r}.")
    if inset is not None and not any(_within(orbit, inset).any() for orbit in trajectories.values()):
        raise ValueError(f"`inset` must hold times at which the trajectories were saved, but is {inset!r}.")
    assert ax is not None
    lines = _draw_curves(ax, trajectories, floor)
    ax.set(yscale="log", xlabel="time $t$", ylabel="loss $L$")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    if inset is not None:
        _draw_inset(ax, trajectories, inset)
    return lines


def _draw_curves(ax: Axes, trajectories: Mapping[str, Trajectory], floor: float) -> list[Line2D]:
    others = [style.PURPLE, style.GREEN, style.BLACK, style.VERMILION]
    dashes: list[Any] = ["solid", (0, (4, 1.2)), "dashdot", "dotted"]
    lines = []
    for i, (label, orbit) in enumerate(trajectories.items()):
        loss = np.asarray(orbit.loss())
        look = {"color": style.FLOW_COLOURS.get(label, others[i % 4]), "linestyle": dashes[i % 4]}
        lines += ax.plot(orbit.ts, np.where(loss >= floor, loss, np.nan), label=label, **look)
    return lines


def _draw_inset(ax: Axes, trajectories: Mapping[str, Trajectory], span: tuple[float, float]) -> None:
    small = ax.inset_axes((0.6, 0.58, 0.4, 0.4))
    _draw_curves(small, trajectories, floor=5e-324)
    shown = [np.asarray(orbit.loss())[_within(orbit, span)] for orbit in trajectories.values()]
    small.set(xlim=span, ylim=(0.0, 1.08 * max(loss.max() for loss in shown if loss.size)))
    small.tick_params(labelsize=6)


def _within(orbit: Trajectory, span: tuple[float, float]) -> np.ndarray:
    """Which saved times lie in the span."""
    return (orbit.ts >= span[0]) & (orbit.ts <= span[1])
