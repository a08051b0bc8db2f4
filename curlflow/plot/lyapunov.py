"""Lyapunov spectra drawn: how they converged, what they are, how they fluctuate."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from curlflow.chaos import LyapunovSpectrum
from curlflow.chaos.zeros import Zeros
from curlflow.plot import style as house
from curlflow.plot.own_figure import on_own_figure


@on_own_figure(aspect=0.7)
def convergence(
    spectrum: LyapunovSpectrum, *, most: int = 8, ax: Axes | None = None, **style: Any
) -> list[Line2D]:
    """Running averages of the leading exponents over the time averaged, with a band of one standard error at the end's size.

    Parameters
    ----------
    spectrum
        A computed spectrum.
    most
        How many exponents to draw at most, from the largest.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    **style
        Passed on to the lines.

    Returns
    -------
    list of Line2D
        One line per exponent, in descending order; the bands are in ``ax.collections``.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> spectrum = cf.lyapunov_spectrum(cf.toy_flow(), jnp.array([2.0, 1.0]), T=100.0)
    >>> len(cf.plot.convergence(spectrum))
    2
    """
    assert ax is not None
    span = spectrum.times - spectrum.times[0] + spectrum.dt
    lines = []
    curves = list(zip(spectrum.history.T, spectrum.exponents, spectrum.stderr, strict=True))[:most]
    looks = house.curve_looks(rf"$\lambda_{{{number}}}$" for number in range(1, len(curves) + 1))
    for (values, value, error), look in zip(curves, looks, strict=True):
        (line,) = ax.plot(span, values, **(look | style))
        ax.fill_between(span, value - error, value + error, color=line.get_color(), alpha=0.2, linewidth=0)
        lines.append(line)
    ax.axhline(0, color=house.GREY, linewidth=0.6, zorder=0)
    ax.set(xlabel="time averaged over", ylabel="Lyapunov exponents", xscale="log")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    return lines


@on_own_figure(aspect=0.7)
def exponents(
    spectrum: LyapunovSpectrum, *, zeros: Zeros | None = None, ax: Axes | None = None, **style: Any
) -> tuple[BarContainer, ErrorbarContainer]:
    """All exponents as bars with their standard errors; the explained zeros hollow.

    Parameters
    ----------
    spectrum
        A computed spectrum.
    zeros
        What `LyapunovSpectrum.zeros` returned: as many of the exponents nearest to 0 are drawn hollow as are explained.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    **style
        Passed on to the bars.

    Returns
    -------
    tuple
        The bars and the error bars.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> spectrum = cf.lyapunov_spectrum(cf.toy_flow(), jnp.array([2.0, 1.0]), T=100.0, Ttr=50.0)
    >>> bars, _ = cf.plot.exponents(spectrum, zeros=spectrum.zeros())
    >>> [bar.get_linestyle() == "--" for bar in bars]  # zero along the manifold of solutions
    [True, False]
    """
    assert ax is not None
    index = np.arange(1, len(spectrum.exponents) + 1)
    look: dict[str, Any] = {"color": house.BLUE} | style
    bars = ax.bar(index, spectrum.exponents, **look)
    errors = ax.errorbar(
        index, spectrum.exponents, spectrum.stderr, fmt="none", ecolor=house.BLACK, elinewidth=1
    )
    explained = 0 if zeros is None else zeros.explained
    hollow = {"marker": "o", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": house.GREY}
    marks: list[Line2D] = []
    for j in np.argsort(np.abs(spectrum.exponents))[:explained]:
        bars[j].set(facecolor="none", edgecolor=house.GREY, linestyle="--")
        marks += ax.plot(index[j], 0, linestyle="none", label="zero that must be", **hollow)
    ax.axhline(0, color=house.GREY, linewidth=0.6, zorder=0)
    ax.set(xlabel="number, from the largest", ylabel="Lyapunov exponent")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if marks:
        ax.legend(handles=marks[:1], loc="lower left", bbox_to_anchor=(0.0, 1.0))
    return bars, errors


@on_own_figure(aspect=0.7)
def finite_time_distribution(
    spectrum: LyapunovSpectrum, window: float, *, index: int = 0, ax: Axes | None = None, **style: Any
) -> BarContainer:
    """Histogram of an exponent over consecutive windows of time.

    Parameters
    ----------
    spectrum
        A computed spectrum.
    window
        Length of a window, in units of time.
    index
        Which exponent, 0 for the largest.
    ax
        Matplotlib axes to draw on; None makes a new figure in the paper's style.
    **style
        Passed on to the histogram.

    Returns
    -------
    BarContainer
        The histogram's bars.

    Raises
    ------
    ValueError
        If `window` is not positive or longer than the run.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> spectrum = cf.lyapunov_spectrum(cf.toy_flow(), jnp.array([2.0, 1.0]), T=100.0)
    >>> bars = cf.plot.finite_time_distribution(spectrum, window=5.0, density=False)
    >>> int(sum(bar.get_height() for bar in bars))
    20
    """
    assert ax is not None
    values = spectrum.finite_time(window)[:, index]
    _, _, bars = ax.hist(values, **({"bins": "auto", "density": True, "color": house.SAMPLES} | style))
    average = ax.axvline(float(spectrum.exponents[index]), color=house.BLUE, linewidth=1.2)
    is_density = style.get("density", True)
    name = rf"$\lambda_{{{index + 1}}}$"
    ax.set(
        xlabel=f"{name} over windows of {window:g} units of time",
        ylabel="density" if is_density else "windows",
    )
    ax.legend([average], [f"{name} of the whole run"], loc="lower left", bbox_to_anchor=(0.0, 1.0))
    return bars  # pyright: ignore[reportReturnType]
