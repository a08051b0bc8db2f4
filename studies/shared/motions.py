"""What motion descent settles to where it finds no solution: verdicts on several networks, drawn and in words."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import curlflow as cf
from shared.linear_networks import EPOCH
from shared.parts import Part


def settled_motion(descent: cf.DescentMap, start: Any, epochs: int) -> dict[str, Any]:
    """What motion descent has settled to after some epochs, judged over as many more; exponents per unit of time."""
    settled = cf.iterate(descent, start, epochs, every=epochs).final_state
    found = cf.verdict(descent, settled, 2, T=float(epochs), dt=10.0)
    return {
        "motion": list(cf.chaos.Motion).index(found.motion),
        "exponents": found.spectrum.exponents / EPOCH,
        "stderr": found.spectrum.stderr / EPOCH,
        "resolution": found.spectrum.resolution / EPOCH,
        "outcome": found.spectrum.outcome,
    }


def motion_part(figure: str, cell: Callable[..., dict[str, Any]], total: int) -> Part[xr.Dataset]:
    """Ten networks like the paper's example far inside the unstable side: c = 0.8, αh = 0.6."""

    def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
        few = {"total": 60, "epochs": 5_000}
        sized = partial(cell, **(few if quick else {"total": total, "epochs": 100_000}))
        axes = {"c": [0.8], "alpha_h": [0.6]}
        results = cf.sweep(sized, axes, seeds=2 if quick else 10, store=store, client=client)
        return results.squeeze(["c", "alpha_h"])

    def draw(results: xr.Dataset, out: Path) -> None:
        cf.plot.save_figure(motions_figure(results), out / f"{figure}_motion.pdf")

    return Part(compute, draw, report_motions)


def motions_figure(results: xr.Dataset) -> Figure:
    """The largest exponent of every network with its standard error, beside its resolution."""
    first = results.isel(exponents_axis0=0, stderr_axis0=0, resolution_axis0=0)
    with cf.plot.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        ax.axhline(0.0, color="0.5", linewidth=0.6)
        ax.bar(
            first["seed"],
            2 * first["resolution"],
            bottom=-first["resolution"],
            color="0.9",
            label="resolution",
        )
        for number, motion in enumerate(cf.chaos.Motion):
            chosen = first.isel(seed=np.flatnonzero(first["motion"] == number))
            if chosen.sizes["seed"]:
                ax.errorbar(
                    chosen["seed"],
                    chosen["exponents"],
                    chosen["stderr"],
                    fmt="o",
                    markersize=3,
                    label=motion.value,
                )
        ax.set(xlabel="seed", ylabel=r"largest exponent $\lambda_1$")
        ax.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0, 1.0, 0.0), mode="expand", ncols=3, handlelength=1
        )
    return figure


def report_motions(results: xr.Dataset) -> str:
    """How many of each kind."""
    kinds = [list(cf.chaos.Motion)[int(number)].value for number in results["motion"].values]
    largest = results["exponents"].isel(exponents_axis0=0)
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"{counts}; largest exponents from {float(largest.min()):.2g} to {float(largest.max()):.2g} per unit of time."
