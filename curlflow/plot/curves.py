"""Curves against time."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curlflow._trees import size
from curlflow.orbits.smooth import smooth
from curlflow.orbits.trajectory import Trajectory
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure

# The smallest loss drawn, if the solver's tolerance is no reason to end before.
FLOOR = 1e-16

Trajectories = Mapping[str, Trajectory] | Sequence[Trajectory]


@on_own_figure(aspect=0.7)
def loss(
    trajectories: Trajectories,
    *,
    ax: Axes | None = None,
    inset: tuple[float, float] | None = None,
    floor: float | None = None,
) -> list[Line2D]:
    """Plot the loss of one or more trajectories against time, on a logarithmic scale.

    Parameters
    ----------
    trajectories
        The trajectories, of one initial condition each: a list, or a mapping from legend labels.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    inset
        A span of times, (from, to), to show enlarged in an inset with a linear scale.
    floor
        Losses below it are not drawn. None means 1e-16 or, if that is more, what the tolerances of a trajectory leave
        undetermined: the number of weights times (atol + rtol · max abs(y))². Below, a loss is the solver's noise.

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
    labelled = list(style.labelled("trajectories", trajectories, Trajectory))
    if not labelled or any(orbit.is_batch for _, orbit in labelled):
        raise ValueError(
            "`trajectories` must hold at least one trajectory and no batch: take trajectory.member(i)."
        )
    if floor is not None and not floor > 0:
        raise ValueError(f"`floor` must be positive, but is {floor!r}.")
    if inset is not None and not inset[0] < inset[1]:
        raise ValueError(f"`inset` must be a pair of times (from, to), but is {inset!r}.")
    if inset is not None and not any(_within(orbit.ts, inset).any() for _, orbit in labelled):
        raise ValueError(f"`inset` must hold times at which the trajectories were saved, but is {inset!r}.")
    assert ax is not None
    curves = [_curve(orbit, _undetermined(orbit) if floor is None else floor) for _, orbit in labelled]
    looks = list(style.curve_looks(label for label, _ in labelled))
    lines = []
    for curve, look in zip(curves, looks, strict=True):
        lines += ax.plot(*curve, **look)
    ax.set(yscale="log", xlabel="time $t$", ylabel="loss $L$")
    if any(label for label, _ in labelled):
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    if inset is not None:
        _draw_inset(ax, [orbit for _, orbit in labelled], looks, inset)
    return lines


def _curve(orbit: Trajectory, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and losses, close together where the curve bends on a logarithmic scale; NaN for those below the least."""

    def picture(orbit: Trajectory) -> np.ndarray:
        return np.stack([orbit.ts, np.log(np.maximum(np.asarray(orbit.loss()), least / 2))], axis=-1)

    times, logarithms = smooth(orbit, picture).T
    values = np.exp(logarithms)
    return times, np.where(values >= least, values, np.nan)


def _undetermined(orbit: Trajectory) -> float:
    """What a loss may be though it is 0, by the solver's tolerances; by rounding for a map."""
    largest = max(float(np.abs(np.asarray(leaf)).max()) for leaf in jax.tree.leaves(orbit.ys))
    rtol = orbit.stats.get("rtol") or np.finfo(float).eps
    error = (orbit.stats.get("atol") or 0.0) + rtol * largest
    return max(FLOOR, size(orbit.final_state) * error**2)


def _draw_inset(
    ax: Axes, orbits: Sequence[Trajectory], looks: Sequence[dict[str, Any]], span: tuple[float, float]
) -> None:
    shown = [np.asarray(orbit.loss())[_within(orbit.ts, span)] for orbit in orbits]
    limits = (0.0, 1.08 * max(loss.max() for loss in shown if loss.size))

    def picture(orbit: Trajectory) -> np.ndarray:
        return np.stack([orbit.ts, np.asarray(orbit.loss())], axis=-1)

    small = ax.inset_axes((0.6, 0.58, 0.4, 0.4))
    for orbit, look in zip(orbits, looks, strict=True):
        small.plot(*smooth(orbit, picture, [span, limits]).T, **look)
    small.set(xlim=span, ylim=limits)
    small.tick_params(labelsize=6)


def _within(times: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Which times lie in the span."""
    return (times >= span[0]) & (times <= span[1])
