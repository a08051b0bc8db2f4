"""Phase diagrams of stability."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure

STABLE = "#cfdbe6"


@on_own_figure(aspect=0.8)
def stability_diagram(
    c: ArrayLike,
    alpha: ArrayLike,
    margin: ArrayLike,
    *,
    layer: Literal["hidden", "readout"],
    ax: Axes | None = None,
) -> ContourSet:
    """Draw where the solution manifold is stable in the plane of ratio c and flipped fraction.

    Parameters
    ----------
    c
        Ratios M/N, ascending, shape (m,).
    alpha
        Flipped fractions of one layer, ascending, shape (n,).
    margin
        The stability margins at them, shape (n, m), e.g. from `stability_margin(c, alpha[:, None], 0.0)`: stable where
        positive.
    layer
        Which layer's fraction it is: "hidden" (αh) or "readout" (αr).
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.

    Returns
    -------
    ContourSet
        The boundary.

    Raises
    ------
    ValueError
        If the shapes do not fit together, a margin is not finite, or the layer is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from curlflow.plot.diagrams import stability_diagram
    >>> from curlflow.random_matrix import stability_margin
    >>> c, alpha = np.linspace(0.1, 1.0, 91), np.linspace(0.01, 1.0, 100)
    >>> boundary = stability_diagram(c, alpha, stability_margin(c, alpha[:, None], 0.0), layer="hidden")
    >>> outline = boundary.get_paths()[0].vertices
    >>> round(float(np.interp(0.5, outline[:, 1], outline[:, 0])), 3)  # αh = 1/2
    0.31
    """
    _checks.require_one_of("layer", layer, ("hidden", "readout"))
    c, alpha = np.asarray(c), np.asarray(alpha)
    margins = _checks.float64_array("margin", margin)
    _checks.require_shape("margin", margins, (alpha.size, c.size), "(alpha.size, c.size)")
    assert ax is not None
    stable = np.asarray(margins)
    ax.contourf(c, alpha, stable, levels=[0.0, np.inf], colors=[STABLE])
    boundary = ax.contour(c, alpha, stable, levels=[0.0], colors=[style.BLACK], linewidths=1.2)
    symbol, name = (r"\alpha_h", "inputs") if layer == "hidden" else (r"\alpha_r", "hidden units")
    ax.set(
        xlim=(c[0], c[-1]),
        ylim=(0.0, 1.0),
        xlabel="compression ratio $c = M/N$",
        ylabel=f"fraction ${symbol}$ of {name} flipped",
    )
    return boundary
