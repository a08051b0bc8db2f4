"""Figure 3 of the paper: linear networks learning with flipped inputs, and where they fail to.

    python studies/fig3_hidden_flips.py [--quick] [--workers N] [--parts errors inset order …] [--out FOLDER]

Each part is a sweep which may be killed and is resumed by the same command; each writes a figure and its numbers (.nc):

- errors  fig3_errors.pdf   Fig. 3a: test error over (c, αh), ratios from 0.1 to 100, 10⁵ epochs;
- inset   fig3_inset.pdf    its inset: ratios from 0.1 to 0.7, 2·10⁴ epochs, over the boundary in closed form;
- order   fig3_order.pdf    Fig. 3b: the order parameter q along cuts, with the boundary's crossings;
- orbit   fig3_orbit.pdf    Fig. 3c, d: one network far inside the unstable side;
- motion  fig3_motion.pdf   which motion ten such networks settle to: their exponents and verdicts.

Errors are those of the norm-constrained flow, of which minibatch descent at the paper's step is a noisy copy; q and the orbit
are those of full-batch descent, as in the paper. Without `--parts`: all of them.
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
from matplotlib.figure import Figure  # noqa: E402

import curlflow as cf  # noqa: E402
from shared.linear_networks import (  # noqa: E402
    EPOCH,
    draw_network,
    learn,
    linear_margin,
    measure_orbit,
    orbit_figure,
    save_error_figure,
)
from shared.motions import motion_part, settled_motion  # noqa: E402
from shared.parts import Part, run_parts  # noqa: E402

LAST_EPOCHS = 1000
PERTURBATION = 1e-10


# ------------------------------------------------------------------------------------------------- test errors


def learning_cell(c: float, alpha_h: float, seed: int, total: int, T: float) -> dict[str, Any]:
    """A random student of one network."""
    return learn(c, seed, alpha_h=alpha_h, total=total, T=T)


def compute_errors(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 3a."""
    axes = {
        "c": np.logspace(-1, 1.5, 6) if quick else np.logspace(-1, 2, 20),
        "alpha_h": np.linspace(0, 1, 6 if quick else 21),
    }
    cell = partial(learning_cell, total=60 if quick else 220, T=500.0 if quick else 1e5 * EPOCH)
    return cf.sweep(cell, axes, seeds=2 if quick else 10, store=store, client=client)


def compute_inset(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """The inset of Fig. 3a."""
    axes = {"c": np.linspace(0.1, 0.7, 7 if quick else 20), "alpha_h": np.linspace(0, 1, 6 if quick else 21)}
    cell = partial(learning_cell, total=60 if quick else 220, T=500.0 if quick else 2e4 * EPOCH)
    return cf.sweep(cell, axes, seeds=3 if quick else 10, store=store, client=client)


def draw_errors(results: xr.Dataset, out: Path) -> None:
    """The median error over seeds, over logarithmic ratios."""
    save_error_figure(results["test_error"], "log", out / "fig3_errors.pdf")


def draw_inset(results: xr.Dataset, out: Path) -> None:
    """The median error over seeds, near the boundary."""
    save_error_figure(results["test_error"], "linear", out / "fig3_inset.pdf")


# --------------------------------------------------------------------------------------------- order parameter


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
        wait.final,
        LAST_EPOCHS,
        n0=epochs - LAST_EPOCHS,
        every=LAST_EPOCHS,
        fold={"q": cf.orbits.OrderParameter()},
    )
    return {"q": run.folded["q"], "loss": descent.loss(run.final), "outcome": run.outcome}


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


# ----------------------------------------------------------------------------------------------------- an orbit


def compute_orbit(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 3c, d: c = 0.8, αh = 0.6."""
    del store, client  # one run
    total, epochs = (60, 10_000) if quick else (220, 100_000)
    descent, start = descent_from_teacher(0.8, 0.6, 0, total)
    return measure_orbit(descent, start, epochs, window=(epochs - epochs // 10, epochs))


def draw_orbit(results: xr.Dataset, out: Path) -> None:
    """Loss, some weights, their autocorrelation, and the first two principal components."""
    cf.plot.save_figure(orbit_figure(results), out / "fig3_orbit.pdf")


def motion_cell(c: float, alpha_h: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The motion of one network."""
    return settled_motion(*descent_from_teacher(c, alpha_h, seed, total), epochs)


# ------------------------------------------------------------------------------------------------------- report


def report_errors(results: xr.Dataset) -> str:
    """How many runs learned, on both sides of the boundary."""
    margin = linear_margin(results)
    learned = results["test_error"] < 1e-10
    stable, unstable = (learned.mean("seed").values[side] for side in (margin > 0.1, margin < -0.1))
    return (
        f"{results['wall_time'].sum().item():.0f} s of computing; test error below 1e-10 in {stable.mean():.1%} "
        f"of the runs well inside the stable side and in {unstable.mean():.1%} well inside the unstable side."
    )


def report_order(results: xr.Dataset) -> str:
    """How far q spans."""
    q = results["q_along_c"]
    return f"q spans {float(q.min()):.1e} to {float(q.max()):.1e} along c."


def report_orbit(results: xr.Dataset) -> str:
    """Where the loss ended."""
    final = results["loss"].values[-100:]
    return f"loss at the end between {final.min():.3g} and {final.max():.3g}."


PARTS = {
    "errors": Part(compute_errors, draw_errors, report_errors),
    "inset": Part(compute_inset, draw_inset, report_errors),
    "order": Part(compute_order, draw_order, report_order),
    "orbit": Part(compute_orbit, draw_orbit, report_orbit),
    "motion": motion_part("fig3", motion_cell, 220),
}

if __name__ == "__main__":
    run_parts("fig3_hidden_flips", __doc__, PARTS)
