"""Survival curves: how many runs are still above a threshold."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure
from curlflow.races import TimesComparison


@on_own_figure(aspect=0.7)
def survival(comparison: TimesComparison, *, ax: Axes | None = None, unit: str = "time") -> list[Line2D]:
    """Plot the share of runs still above the threshold against time, for the two rules of a comparison.

    Parameters
    ----------
    comparison
        What `compare_times` returned.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    unit
        What the axis of times is called.

    Returns
    -------
    list of Line2D
        The two curves, each to the horizon or until no run is left. Their confidence limits are shaded.

    Examples
    --------
    >>> import curlflow as cf, numpy as np
    >>> result = cf.races.compare_times(
    ...     [3.0, 4.0, 5.0], [6.0, 9.0, np.inf], horizon=50.0, names=("curl", "gradient")
    ... )
    >>> len(cf.plot.survival(result, unit="epochs"))
    2
    """
    assert ax is not None
    lines = []
    looks = ((style.CURL_FLOW, "solid"), (style.GRADIENT_FLOW, (0, (4, 1.2))))
    for name, curve, (colour, dashes) in zip(
        comparison.names, comparison.survival_curves(), looks, strict=True
    ):
        end = curve.horizon if curve.share[-1] > 0 else curve.times[-1]
        times = np.append(curve.times, end)
        share, low, high = (np.append(side, side[-1]) for side in (curve.share, curve.lower, curve.upper))
        lines += ax.step(times, share, where="post", color=colour, linestyle=dashes, label=name)
        ax.fill_between(times, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    ax.set(xlabel=unit, ylabel="runs above the threshold", ylim=(0.0, 1.03), xlim=(0.0, None))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    return lines
