"""Diagrams over the compression ratio and the fraction of flipped units, and which side of the boundary a point lies on."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import curlflow as cf
from curlflow.plot import style
from shared.figures import panel

# Between these errors diagrams of linear networks have colours.
ERRORS_SHOWN = (1e-10, 1.0)


def draw_diagram(
    values: xr.DataArray, scale: str, ax: Axes, limits: tuple[float, float] = ERRORS_SHOWN
) -> QuadMesh:
    """Values over (c, fraction), their decadic logarithm as colour, with the boundary of stability of wide networks."""
    fraction = fraction_of(values)
    c_edges, fraction_edges = (
        _cell_edges(values["c"].values, scale),
        _cell_edges(values[fraction].values, "linear"),
    )
    shown = np.log10(np.maximum(values.transpose(fraction, "c").values, limits[0]))
    low, high = np.log10(limits)
    mesh = ax.pcolormesh(c_edges, fraction_edges, shown, cmap="viridis", vmin=low, vmax=high, rasterized=True)
    alpha = np.linspace(1e-3, 1.0 if fraction == "alpha_h" else 0.499, 400)
    boundary = cf.stability_boundary(**{fraction: alpha})
    ax.plot(boundary, alpha, color="white", linewidth=2.4)
    ax.plot(boundary, alpha, color=style.BLACK, linewidth=1.2)
    symbol, name = (r"\alpha_h", "inputs") if fraction == "alpha_h" else (r"\alpha_r", "hidden units")
    ax.set(
        xscale=scale,
        xlim=c_edges[[0, -1]],
        ylim=(0, 1),
        xlabel="compression ratio $c = M/N$",
        ylabel=f"fraction ${symbol}$ of {name} flipped",
    )
    return mesh


def save_error_figure(
    error: xr.DataArray, scale: str, path: Path, limits: tuple[float, float] = ERRORS_SHOWN
) -> None:
    """The median of an error over seeds, as a figure of one column."""
    with panel(path, aspect=0.8) as ax:
        mesh = draw_diagram(error.median("seed"), scale, ax, limits)
        ax.figure.colorbar(mesh, ax=ax, label=r"median test error, $\log_{10}$", extend="both")


def peak_figure(results: xr.Dataset, limits: tuple[float, float] = ERRORS_SHOWN) -> Figure:
    """The median error at the end beside the largest peak of all seeds, as a figure of two columns."""
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        for ax, error, title in (
            (left, results["test_error"].median("seed"), "a  median test error at the end"),
            (right, results["peak_error"].max("seed"), "b  largest train error on the way, all seeds"),
        ):
            mesh = draw_diagram(error, "log", ax, limits)
            ax.set_title(title, loc="left")
        right.set_ylabel("")
        figure.colorbar(mesh, ax=[left, right], label=r"$\log_{10}$ of the error", extend="both")
    return figure


def fraction_of(results: xr.DataArray | xr.Dataset) -> str:
    """The name of the fraction of flips that results are given for, "alpha_h" or "alpha_r"."""
    return next(name for name in ("alpha_h", "alpha_r") if name in results.dims)


def linear_margin(results: xr.DataArray | xr.Dataset) -> np.ndarray:
    """The stability margin of wide linear networks at every ratio and fraction of the results, shape (c, fraction)."""
    fraction = fraction_of(results)
    flips = {"alpha_h": 0.0, "alpha_r": 0.0, fraction: results[fraction].values}
    return np.asarray(cf.random_matrix.stability_margin(results["c"].values[:, None], **flips))


def _cell_edges(centres: np.ndarray, scale: str) -> np.ndarray:
    """The edges half-way between neighbouring values, on a linear or a logarithmic scale."""
    x = np.log(centres) if scale == "log" else centres
    middles = (x[1:] + x[:-1]) / 2
    edges = np.concatenate([[2 * x[0] - middles[0]], middles, [2 * x[-1] - middles[-1]]])
    return np.exp(edges) if scale == "log" else edges
