"""How stable tanh networks are beside their teachers: the part of Figs. 6 and 8 that is theory.

Beside a solution errors on the training samples grow or decay with the eigenvalues that `curlflow.manifold.error_spectrum`
gives, of a matrix as large as their number. The boundary of wide linear networks is where the largest would change its sign.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

import curlflow as cf
from curlflow.plot import style
from shared.diagrams import draw_diagram, fraction_of, linear_margin
from shared.figures import panel
from shared.linear_networks import EPOCH
from shared.nonlinear_networks import Network
from shared.parts import Part

# Between these growth rates per unit of time the diagram has colours.
RATES_SHOWN = (1e-5, 1.0)
# A tenth of the paper's epochs: what grows no faster than e-fold in this time hardly shows in its figures.
NOTICEABLE_EPOCHS = 10_000
NOTICEABLE = 1 / (NOTICEABLE_EPOCHS * EPOCH)
GROWTH_LABEL = r"growth rate of errors, $\log_{10}$"


def stability(network: Network) -> dict[str, Any]:
    """The fastest growth of an error beside the teacher, norms held, and how many errors grow."""
    spectrum = cf.manifold.error_spectrum(cf.NormConstrained(network.flow), network.teacher)
    return {"growth_rate": spectrum.leading, "growing_errors": spectrum.n_growing}


def stability_part(
    figure: str, cell: Callable[..., dict[str, Any]], fraction: str, c: np.ndarray
) -> Part[xr.Dataset]:
    """The fastest growth over ratios and fractions, three networks each."""

    def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
        few = c[(c > 0.05) & (c < 20)][::5]  # small networks, too, need an input and a hidden unit
        axes = {"c": few if quick else c, fraction: np.linspace(0, 1, 5 if quick else 11)}
        sized = partial(cell, total=60 if quick else 220)
        return cf.sweep(sized, axes, seeds=2 if quick else 3, store=store, client=client)

    def draw(results: xr.Dataset, out: Path) -> None:
        with panel(out / f"{figure}_stability.pdf", aspect=0.8) as ax:
            mesh = draw_growth(results, ax)
            ax.figure.colorbar(mesh, ax=ax, label=GROWTH_LABEL, extend="both")

    return Part(compute, draw, report_growth)


def draw_growth(results: xr.Dataset, ax: Axes) -> QuadMesh:
    """The median growth rate as colour, the darkest where teachers are stable; and where it becomes noticeable."""
    mesh = draw_diagram(results["growth_rate"].median("seed"), "log", ax, RATES_SHOWN)
    draw_noticeable(results, ax)
    return mesh


def draw_noticeable(results: xr.Dataset, ax: Axes) -> None:
    """A dashed line where errors beside the teacher begin to grow noticeably within the paper's runs."""
    rates = results["growth_rate"].median("seed")
    fraction = fraction_of(rates)
    for colour, width, dashes in (("white", 2.0, "solid"), (style.BLACK, 1.0, "dashed")):
        ax.contour(
            rates["c"],
            rates[fraction],
            rates.transpose(fraction, "c"),
            levels=[NOTICEABLE],
            colors=[colour],
            linewidths=width,
            linestyles=dashes,
        )


def report_growth(results: xr.Dataset) -> str:
    """How many points that are stable for linear networks are unstable for tanh networks, and noticeably so."""
    medians = results[["growth_rate", "growing_errors"]].median("seed")
    medians, stable = medians.transpose("c", fraction_of(medians)), linear_margin(results) > 0
    unstable, rates = medians["growing_errors"].values > 0, medians["growth_rate"].values
    return (
        f"{stable.sum()} of {stable.size} points are stable for wide linear networks. For tanh networks "
        f"{unstable[stable].sum()} of these are unstable, {(rates[stable] > NOTICEABLE).sum()} with errors that grow "
        f"e-fold within {NOTICEABLE_EPOCHS} epochs; of the others {(~unstable[~stable]).sum()} are stable."
    )
