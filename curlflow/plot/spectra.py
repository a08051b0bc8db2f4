"""Spectra: sampled eigenvalues under the law they follow."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._results import result
from curlflow.plot import style
from curlflow.plot.own_figure import on_own_figure
from curlflow.random_matrix import Atoms


@result
class SpectrumPlot:
    """The artists of a spectrum, made by `spectrum`.

    Attributes
    ----------
    bars
        The histogram.
    curve
        The density.
    atoms
        One stem for every atom with a positive mass.
    """

    bars: BarContainer
    curve: Line2D
    atoms: tuple[Line2D, ...]

    def __str__(self) -> str:
        atoms = len(self.atoms)
        return f"SpectrumPlot: {len(self.bars)} bins, {atoms} {'atom' if atoms == 1 else 'atoms'}"


@on_own_figure(aspect=0.7)
def spectrum(
    eigenvalues: ArrayLike,
    x: ArrayLike,
    density: ArrayLike,
    *,
    atoms: Atoms | None = None,
    bins: int = 60,
    ax: Axes | None = None,
) -> SpectrumPlot:
    """Draw a histogram of eigenvalues under a density, with atoms as stems beside it.

    Parameters
    ----------
    eigenvalues
        Sampled eigenvalues, shape (M,). Those which sit on an atom are left out of the histogram, but count in its scale.
    x, density
        The curve, both of shape (points,); not a number where it should be interrupted.
    atoms
        What `spectral_atoms` returned. A stem's height over the axis' height is the mass, which is also written beside it.
    bins
        Number of histogram bins over the range of `x`.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.

    Returns
    -------
    SpectrumPlot
        The artists drawn.

    Raises
    ------
    ValueError
        If there are no eigenvalues, or `x` and `density` differ in shape.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from curlflow.plot.spectra import spectrum
    >>> from curlflow.random_matrix import spectral_density, spectral_edges
    >>> W1 = jax.random.normal(jax.random.key(0), (400, 100)) / 10  # entries of variance 1/M
    >>> x = np.linspace(*spectral_edges(0.25, 0.0, 0.0), 200)
    >>> drawn = spectrum(1 + np.linalg.svd(W1)[1] ** 2, x, spectral_density(x, 0.25, 0.0, 0.0))
    >>> print(drawn)
    SpectrumPlot: 60 bins, 0 atoms
    """
    values = np.asarray(_checks.float64_array("eigenvalues", eigenvalues))
    if not values.size:
        raise ValueError("`eigenvalues` must hold at least one number, but is empty.")
    x, density = np.asarray(x, np.float64), np.asarray(density, np.float64)
    if x.shape != density.shape:
        raise ValueError(f"`density` must have the shape of `x`, {x.shape}, but has shape {density.shape}.")
    assert ax is not None
    positions, masses = (
        np.asarray(part, np.float64).ravel()
        for part in (([], []) if atoms is None else (atoms.positions, atoms.masses))
    )
    on_atom = np.any(np.abs(values[:, None] - positions[masses > 0]) < 1e-9, axis=1)
    heights, cuts = np.histogram(values[~on_atom], bins, (np.nanmin(x), np.nanmax(x)))
    heights = heights / (values.size * np.diff(cuts))
    bars = ax.bar(cuts[:-1], heights, np.diff(cuts), align="edge", color=style.SAMPLES, linewidth=0)
    (curve,) = ax.plot(x, density, color=style.BLUE)
    top = 1.2 * heights.max()  # the density may diverge
    ax.set(ylim=(0.0, top), xlabel="eigenvalue", ylabel="density")
    stems = tuple(
        _draw_atom(ax, position, mass, top)
        for position, mass in zip(positions, masses, strict=True)
        if mass > 0
    )
    return SpectrumPlot(bars, curve, stems)


def _draw_atom(ax: Axes, position: float, mass: float, top: float) -> Line2D:
    (stem,) = ax.plot([position, position], [0.0, mass * top], color=style.VERMILION, linewidth=1.6)
    ax.annotate(
        f"{100 * mass:.0f} %",
        (position, mass * top),
        xytext=(2, 2),
        textcoords="offset points",
        color=style.VERMILION,
        fontsize="small",
    )
    return stem
