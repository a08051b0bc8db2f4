"""One run of full-batch descent: its loss, weights, their autocorrelation and their principal components."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import curlflow as cf
from curlflow.plot import style
from shared.figures import letter_panels
from shared.parts import Part

EPOCHS = 100_000


def orbit_part(
    figure: str,
    descend: Callable[[int], tuple[cf.DescentMap, cf.Weights]],
    *,
    total: int,
    quick_epochs: int,
    window: Literal["first tenth", "last tenth"],
    report: Callable[[xr.Dataset], str],
) -> Part[xr.Dataset]:
    """The run of one network of so many units; weights are shown in a window of its epochs."""

    def compute(quick: bool, *_: Any) -> xr.Dataset:
        epochs = quick_epochs if quick else EPOCHS
        descent, start = descend(60 if quick else total)
        shown = (0, epochs // 10) if window == "first tenth" else (epochs - epochs // 10, epochs)
        return measure_orbit(descent, start, epochs, shown)

    def draw(results: xr.Dataset, out: Path) -> None:
        cf.plot.save_figure(orbit_figure(results), out / f"{figure}_orbit.pdf")

    return Part(compute, draw, report)


def measure_orbit(
    descent: cf.DescentMap, start: cf.Weights, epochs: int, window: tuple[int, int]
) -> xr.Dataset:
    """One run: its loss, and some weights, their autocorrelation and the principal components within a window of epochs."""
    stops, runs, y = [0, *window, epochs], [], start
    for begin, end in pairwise(stops):
        if begin < end:
            runs.append(cf.iterate(descent, y, end - begin, n0=begin, every=max((end - begin) // 2000, 1)))
            y = runs[-1].final_state
    inside = next(run for run in runs if run.ts[0] == window[0])
    weights = np.asarray(inside.ys.W1).reshape(len(inside.ts), -1)
    components = cf.orbits.principal_components(inside.ys, 2)
    correlation = cf.orbits.autocorrelation(weights, lags=len(weights) // 2).mean(axis=1)
    return xr.Dataset(
        {
            "loss": ("epoch", np.concatenate([run.loss()[:-1] for run in runs] + [runs[-1].loss()[-1:]])),
            "weight": (("window_epoch", "which"), weights[:, :: weights.shape[1] // 6]),
            "autocorrelation": ("lag", correlation),
            "component": (("window_epoch", "axis"), components.scores),
            "variance_share": ("axis", components.explained),
        },
        coords={
            "epoch": np.concatenate([run.ts[:-1] for run in runs] + [runs[-1].ts[-1:]]),
            "window_epoch": inside.ts,
            "lag": np.arange(len(correlation)) * float(inside.ts[1] - inside.ts[0]),
        },
    )


def orbit_figure(results: xr.Dataset) -> Figure:
    """Loss, some weights, their autocorrelation, and the first two principal components."""
    with cf.plot.paper_style(columns=2, aspect=0.62):
        figure, axes = plt.subplots(2, 2)
        (loss, weights), (correlation, plane) = axes
        letter_panels(axes.flat)
        loss.semilogy(results["epoch"], results["loss"], linewidth=0.8)
        loss.set(xlabel="epoch", ylabel="loss")
        weights.plot(results["window_epoch"], results["weight"], linewidth=0.8)
        weights.set(xlabel="epoch", ylabel="weights of the first layer")
        correlation.plot(results["lag"], results["autocorrelation"])
        correlation.axhline(0, color=style.BLACK, linewidth=0.6, linestyle="dotted")
        correlation.set(xlabel="lag, epochs", ylabel="autocorrelation, mean over weights")
        plane.plot(*results["component"].values.T, linewidth=0.6)
        shares = 100 * results["variance_share"].values
        plane.set(
            xlabel=f"first principal component ({shares[0]:.0f} %)", ylabel=f"second ({shares[1]:.0f} %)"
        )
    return figure


def report_end(results: xr.Dataset) -> str:
    """Where the loss ended."""
    final = results["loss"].values[-100:]
    return f"loss at the end between {final.min():.3g} and {final.max():.3g}."


def report_rise(results: xr.Dataset) -> str:
    """How far the loss rose, and where it ended."""
    loss = results["loss"].values
    return f"the loss rose to {loss.max():.3g} and ended at {loss[-1]:.3g}."
