"""Figure 4 of the paper: linear networks beside their teacher, with the rule of hidden units' readouts flipped.

    python studies/fig4_readout_flips.py [--quick] [--workers N] [--parts diagram orbit] [--out FOLDER]

Each part writes a figure and its numbers (.nc); the sweep may be killed and is resumed by the same command:

- diagram  fig4_diagram.pdf  Fig. 4a, b: test error after 10⁵ epochs, and its peak on the way, over (c, αr);
- orbit    fig4_orbit.pdf    Fig. 4c, d: one network on the unstable side: its error, weights, autocorrelation, components.

All runs are full-batch descent from 1e-15 beside the teacher, as in the paper, in Gram variables where these are fewer.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from linear_networks import (  # noqa: E402
    EPOCH,
    Network,
    draw_error_diagram,
    draw_network,
    draw_orbit_figure,
    measure_orbit,
    smallest_variables,
)
from parts import Part, run_parts  # noqa: E402

import curlflow as cf  # noqa: E402

PERTURBATION = 1e-15


def beside_teacher(c: float, alpha_r: float, seed: int, total: int) -> tuple[Network, cf.Weights]:
    """A network, and a start whose first layer is 1e-15 beside the teacher's."""
    network = draw_network(c, seed, total, alpha_r=alpha_r)
    W1 = network.teacher.W1
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), W1.shape, jnp.float64)
    return network, cf.Weights(W1 + PERTURBATION * noise, network.teacher.W2)


def diagram_cell(c: float, alpha_r: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The test error at the end of a run, and the largest loss on the way with its epoch."""
    network, start = beside_teacher(c, alpha_r, seed, total)
    constrained, y = smallest_variables(network.flow, start)
    flow = constrained.flow if isinstance(constrained, cf.NormConstrained) else constrained
    descent = cf.DescentMap(flow, EPOCH, renormalise=True)
    peak = cf.Peak(loss)
    run = cf.iterate(descent, y, epochs, every=epochs, fold={"peak": peak}, args=flow)
    value, epoch = run.folded["peak"]
    return {
        "test_error": network.test_error(run.final),
        "peak_error": value,
        "peak_epoch": epoch,
        "outcome": run.outcome,
    }


def loss(n: Any, y: Any, flow: Any) -> Any:
    """The train error, as an observable."""
    return flow.loss(y)


def compute_diagram(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 4a, b."""
    axes = {
        "c": np.logspace(-1.5, 0.5, 6) if quick else np.logspace(-2, 1, 20),
        "alpha_r": np.linspace(0, 1, 6 if quick else 21),
    }
    cell = partial(diagram_cell, total=60 if quick else 220, epochs=10_000 if quick else 100_000)
    return cf.sweep(cell, axes, seeds=2 if quick else 20, store=store, client=client)


def draw_diagram(results: xr.Dataset, out: Path) -> None:
    """The median error at the end beside the largest peak of all seeds."""
    with cf.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        for ax, error, title in (
            (left, results["test_error"].median("seed"), "a  median test error at the end"),
            (right, results["peak_error"].max("seed"), "b  largest train error on the way, all seeds"),
        ):
            mesh = draw_error_diagram(error, "readout", "log", ax)
            ax.set_title(title, loc="left")
        right.set_ylabel("")
        figure.colorbar(mesh, ax=[left, right], label=r"$\log_{10}$ of the error", extend="min")
        cf.save_figure(figure, out / "fig4_diagram.pdf")


def compute_orbit(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 4c, d: c = 1, αr = 0.6; the first tenth of the run, in which the error rises and falls."""
    del store, client  # one run
    network, start = beside_teacher(1.0, 0.6, 0, 60 if quick else 220)
    descent = cf.DescentMap(network.flow.flow, EPOCH, renormalise=True)
    epochs = 10_000 if quick else 100_000
    return measure_orbit(descent, start, epochs, window=(0, epochs // 10))


def draw_orbit(results: xr.Dataset, out: Path) -> None:
    """Loss, some weights, their autocorrelation, and the first two principal components."""
    draw_orbit_figure(results, out / "fig4_orbit.pdf")


def report_diagram(results: xr.Dataset) -> str:
    """How many errors passed 1e-3 on the way, and fell again."""
    margin = cf.stability_margin(results["c"].values[:, None], 0.0, results["alpha_r"].values[None])
    spiked = (results["peak_error"] > 1e-3).mean("seed").values
    learned = (results["test_error"] < 1e-10).mean("seed").values
    return (
        f"{results['wall_time'].sum().item():.0f} s of computing; the error passed 1e-3 in "
        f"{spiked[margin > 0.1].mean():.1%} of the runs well inside the stable side and in "
        f"{spiked[margin < -0.1].mean():.1%} well inside the unstable side, of which "
        f"{learned[margin < -0.1].mean():.1%} ended below 1e-10."
    )


def report_orbit(results: xr.Dataset) -> str:
    """How far the loss rose, and where it ended."""
    final = results["loss"].values
    return f"the loss rose to {final.max():.3g} and ended at {final[-1]:.3g}."


PARTS = {
    "diagram": Part(compute_diagram, draw_diagram, report_diagram),
    "orbit": Part(compute_orbit, draw_orbit, report_orbit),
}

if __name__ == "__main__":
    run_parts("fig4_readout_flips", __doc__, PARTS)
