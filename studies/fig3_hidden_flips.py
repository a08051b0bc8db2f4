"""Figure 3 of the paper: linear networks learning with flipped inputs, and where they fail to.

    python studies/fig3_hidden_flips.py [--quick] [--workers N] [--parts errors inset order …] [--out FOLDER]

Each part is a sweep which may be killed and is resumed by the same command; each writes a figure and its numbers (.nc):

- errors  fig3_errors.pdf   Fig. 3a: test error over (c, αh), ratios from 0.1 to 100, 10⁵ epochs;
- inset   fig3_inset.pdf    its inset: ratios from 0.1 to 0.7, 2·10⁴ epochs, over the boundary in closed form;
- single  fig3_single.pdf   students with one single input flipped, beyond the boundary: who learns, after 10⁵ epochs;
- order   fig3_order.pdf    Fig. 3b: the order parameter q along cuts, with the boundary's crossings;
- orbit   fig3_orbit.pdf    Fig. 3c, d: one network far inside the unstable side;
- motion  fig3_motion.pdf   which motion ten such networks settle to: their exponents and verdicts.

Errors are those of the norm-constrained flow, of which minibatch descent at the paper's step is a noisy copy; q and the orbit
are those of full-batch descent, as in the paper. Without `--parts`: all of them.

Cost on two cores: errors 85 minutes (from one of ten seeds), inset 13; on one: single 5, order 30, motion 13.
With `--quick`: 3.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import curlflow as cf
from shared.diagrams import linear_margin, save_error_figure
from shared.figures import letter_panels
from shared.linear_networks import EPOCH, draw_network, learn, sizes
from shared.motions import motion_part, settled_motion
from shared.orbits import orbit_part, report_end
from shared.parts import Part, run_parts
from shared.verdicts import cost_note

LAST_EPOCHS = 1000
PERTURBATION = 1e-10


# ------------------------------------------------------------------------------------------------- test errors


def learning_cell(c: float, alpha_h: float, seed: int, total: int, T: float) -> dict[str, Any]:
    """A random student of one network."""
    return learn(c, seed, alpha_h=alpha_h, total=total, T=T)


def error_diagram(
    name: str, c: np.ndarray, quick_c: np.ndarray, quick_seeds: int, epochs: float, scale: str
) -> Part[xr.Dataset]:
    """The test error over ratios and fractions."""

    def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
        cell = partial(learning_cell, total=60 if quick else 220, T=500.0 if quick else epochs * EPOCH)
        axes = {"c": quick_c if quick else c, "alpha_h": np.linspace(0, 1, 6 if quick else 21)}
        return cf.sweep(cell, axes, seeds=quick_seeds if quick else 10, store=store, client=client)

    def draw(results: xr.Dataset, out: Path) -> None:
        save_error_figure(results["test_error"], scale, out / f"fig3_{name}.pdf")

    return Part(compute, draw, report_errors)


def report_errors(results: xr.Dataset) -> str:
    """How many runs learned, on both sides of the boundary."""
    margin = linear_margin(results)
    learned = results["test_error"] < 1e-10
    stable, unstable = (learned.mean("seed").values[side] for side in (margin > 0.1, margin < -0.1))
    return (
        f"Test error below 1e-10 in {stable.mean():.1%} of the runs well inside the stable side and in "
        f"{unstable.mean():.1%} well inside the unstable side.\n\n{cost_note(results)}"
    )


# --------------------------------------------------------------------------------------------- order parameter


def single_cell(c: float, seed: int, total: int, T: float) -> dict[str, Any]:
    """A random student of one network with one flipped input."""
    _, M = sizes(c, total)
    # The number of flips is rounded down.
    return learn(c, seed, alpha_h=1.5 / M, total=total, T=T)


def compute_single(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Ratios from just beyond c = 2/3 on."""
    cell = partial(single_cell, total=60 if quick else 220, T=500.0 if quick else 1e5 * EPOCH)
    axes = {"c": [0.7, 1.0] if quick else [0.7, 0.75, 1.0, 2.0, 4.0]}
    return cf.sweep(cell, axes, seeds=2 if quick else 20, store=store, client=client)


def draw_single(results: xr.Dataset, out: Path) -> None:
    """The test error of every student."""
    with cf.plot.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        ax.loglog(results["c"], results["test_error"].transpose("c", "seed"), "o", markersize=3, color="0.3")
        ax.set(xlabel="$c = M/N$", ylabel="test error")
    cf.plot.save_figure(figure, out / "fig3_single.pdf")


def report_single(results: xr.Dataset) -> str:
    """How many have learned at every ratio."""
    learned = (results["test_error"] < 1e-10).transpose("c", "seed")
    return "; ".join(
        f"c = {float(c):g}: {int(each.sum())} of {each.size} students with one flipped input have learned"
        for c, each in zip(results["c"], learned, strict=True)
    )


def descent_from_teacher(c: float, alpha_h: float, seed: int, total: int) -> tuple[cf.DescentMap, cf.Weights]:
    """Full-batch descent, and a start beside the teacher: its readout moved by 1e-10."""
    network = draw_network(c, seed, total, alpha_h=alpha_h, unit_norms=True)
    teacher = network.teacher
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), teacher.W2.shape, jnp.float64)
    start = cf.Weights(teacher.W1, teacher.W2 + PERTURBATION * noise)
    return cf.DescentMap(network.flow.flow, EPOCH, renormalise=True), start


def order_cell(c: float, alpha_h: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The order parameter over the last epochs, and the loss at the end."""
    descent, start = descent_from_teacher(c, alpha_h, seed, total)
    wait = cf.iterate(descent, start, epochs - LAST_EPOCHS, every=epochs - LAST_EPOCHS)
    run = cf.iterate(
        descent,
        wait.final_state,
        LAST_EPOCHS,
        n0=epochs - LAST_EPOCHS,
        every=LAST_EPOCHS,
        fold={"q": cf.orbits.OrderParameter()},
    )
    return {"q": run.folded["q"], "loss": descent.loss(run.final_state), "outcome": run.outcome}


def compute_order(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 3b: cuts along αh at three ratios, and along c at three fractions."""
    cell = partial(order_cell, total=60 if quick else 220, epochs=10_000 if quick else 100_000)
    seeds = 2 if quick else 10
    along_alpha = {"c": [0.3, 0.4, 0.5], "alpha_h": np.linspace(0, 1, 6 if quick else 25)}
    along_c = {"c": np.linspace(0.1, 0.7, 7 if quick else 20), "alpha_h": [0.4, 0.5, 0.6]}
    cuts = {
        name: cf.sweep(cell, axes, seeds=seeds, store=store.with_stem(f"{store.stem}_{name}"), client=client)
        for name, axes in (("along_alpha", along_alpha), ("along_c", along_c))
    }
    renamed = [
        cut.rename({old: f"{old}_{name}" for old in (*cut.data_vars, "c", "alpha_h")})
        for name, cut in cuts.items()
    ]
    return xr.merge(renamed, combine_attrs="drop_conflicts")


def draw_order(results: xr.Dataset, out: Path) -> None:
    """q along both cuts."""
    cf.plot.save_figure(order_figure(results), out / "fig3_order.pdf")


def order_figure(results: xr.Dataset) -> Figure:
    """Medians and quartiles of q, with dotted lines where wide networks lose their stability."""
    symbols = {"c": "c", "alpha_h": r"\alpha_h"}
    with cf.plot.paper_style(columns=2, aspect=0.42):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        letter_panels([left, right])
        for ax, cut, along, fixed in (
            (left, "along_alpha", "alpha_h", "c"),
            (right, "along_c", "c", "alpha_h"),
        ):
            q = results[f"q_{cut}"]
            for value, marker in zip(results[f"{fixed}_{cut}"].values, "os^", strict=True):
                chosen = q.sel({f"{fixed}_{cut}": value})
                x, label = results[f"{along}_{cut}"], f"${symbols[fixed]} = {value:g}$"
                (line,) = ax.semilogy(x, chosen.median("seed"), marker=marker, markersize=3, label=label)
                ax.fill_between(x, chosen.quantile(0.25, "seed"), chosen.quantile(0.75, "seed"), alpha=0.2)
                critical = (
                    float(cf.random_matrix.critical_alpha(value, layer="hidden"))
                    if fixed == "c"
                    else float(cf.stability_boundary(alpha_h=value))
                )
                ax.axvline(critical, color=line.get_color(), linestyle="dotted")
            ax.legend()
        left.set(xlabel=r"fraction $\alpha_h$ of inputs flipped", ylabel="order parameter $q$")
        right.set(xlabel="compression ratio $c = M/N$")
    return figure


def report_order(results: xr.Dataset) -> str:
    """How far q spans."""
    q = results["q_along_c"]
    return f"q spans {float(q.min()):.1e} to {float(q.max()):.1e} along c."


# ------------------------------------------------------------------------------------------------- their motion


def motion_cell(c: float, alpha_h: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The motion of one network."""
    return settled_motion(*descent_from_teacher(c, alpha_h, seed, total), epochs)


PARTS = {
    "errors": error_diagram("errors", np.logspace(-1, 2, 20), np.logspace(-1, 1.5, 6), 2, 1e5, "log"),
    "inset": error_diagram("inset", np.linspace(0.1, 0.7, 20), np.linspace(0.1, 0.7, 7), 3, 2e4, "linear"),
    "single": Part(compute_single, draw_single, report_single),
    "order": Part(compute_order, draw_order, report_order),
    "orbit": orbit_part(
        "fig3",
        partial(descent_from_teacher, 0.8, 0.6, 0),
        total=220,
        quick_epochs=10_000,
        window="last tenth",
        report=report_end,
    ),
    "motion": motion_part("fig3", motion_cell, 220),
}

if __name__ == "__main__":
    run_parts("fig3_hidden_flips", __doc__, PARTS)
