"""Figure 4 of the paper: linear networks beside their teacher, with the rule of hidden units' readouts flipped.

    python studies/fig4_readout_flips.py [--quick] [--workers N] [--parts diagram all_flipped …] [--out FOLDER]

Each part writes a figure and its numbers (.nc); the sweep may be killed and is resumed by the same command:

- diagram  fig4_diagram.pdf  Fig. 4a, b: test error after 10⁵ epochs, and its peak on the way, over (c, αr);
- all_flipped  fig4_all_flipped.pdf  with all readouts flipped: how many teachers have a stable solution at their norms;
- orbit    fig4_orbit.pdf    Fig. 4c, d: one network on the unstable side: its error, weights, autocorrelation, components.

All runs are full-batch descent from 1e-15 beside the teacher, as in the paper. Those that come to rest at a stable solution
end there.

Cost on two cores: diagram 80 minutes, the others 10; with `--quick`: 1.
"""

from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import curlflow as cf
from shared.diagrams import linear_margin, peak_figure
from shared.linear_networks import EPOCH, Network, draw_network
from shared.orbits import orbit_part, report_rise
from shared.parts import Part, run_parts
from shared.verdicts import cost_note

PERTURBATION = 1e-15
# A run is over when its loss is below this at weights which descent does not leave: further epochs would change nothing. We
# look for it every so many epochs.
SETTLED, CHECK_EVERY = 1e-20, 5000


def beside_teacher(c: float, alpha_r: float, seed: int, total: int) -> tuple[Network, cf.Weights]:
    """A network, and a start whose first layer is 1e-15 beside the teacher's."""
    network = draw_network(c, seed, total, alpha_r=alpha_r)
    W1 = network.teacher.W1
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 1), W1.shape, jnp.float64)
    return network, cf.Weights(W1 + PERTURBATION * noise, network.teacher.W2)


def diagram_cell(c: float, alpha_r: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The test error at the end of a run, and the largest loss on the way with its epoch."""
    network, y = beside_teacher(c, alpha_r, seed, total)
    flow: Any = network.flow.flow
    descent = cf.DescentMap(flow, EPOCH, renormalise=True)
    peak, epoch = float(flow.loss(y)), 0.0
    outcome: Any = cf.Outcome(cf.Ending.COMPLETED, 0.0, "Stayed at the teacher.")
    for begin in range(0, epochs, CHECK_EVERY):
        if flow.loss(y) < SETTLED and error_multiplier(network.flow, y) < 1:
            break
        run = cf.iterate(
            descent,
            y,
            CHECK_EVERY,
            n0=begin,
            every=CHECK_EVERY,
            fold={"peak": cf.orbits.Peak(loss)},
            args=flow,
        )
        y, outcome, (value, when) = run.final_state, run.outcome, run.folded["peak"]
        if value > peak:
            peak, epoch = float(value), float(when)
        if not outcome.ok:
            break
    return {
        "test_error": network.test_error(y),
        "peak_error": peak,
        "peak_epoch": epoch,
        "outcome": outcome,
    }


@jax.jit
def error_multiplier(flow: Any, W: cf.Weights) -> Any:
    """The largest factor |1 + η λ| by which one epoch multiplies a small error E = S − W2 W1 of weights that solve the task.

    There the velocity is linear in E, so that Ė = −d(W2 W1)/dt is too, and λ are the eigenvalues of that map.
    """

    def error_rate(E: Any) -> Any:
        beside = eqx.tree_at(lambda constrained: constrained.flow.S, flow, W.end_to_end + E)
        return -jax.jvp(lambda W: W.end_to_end, (W,), (beside(0.0, W),))[1].ravel()

    rates = jax.jacfwd(error_rate)(jnp.zeros_like(flow.flow.S)).reshape(flow.flow.S.size, -1)
    return jnp.abs(1 + EPOCH * jnp.linalg.eigvals(rates)).max()


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
    cf.plot.save_figure(peak_figure(results), out / "fig4_diagram.pdf")


def report_diagram(results: xr.Dataset) -> str:
    """How many errors passed 1e-3 on the way, and fell again."""
    margin = linear_margin(results)
    spiked = (results["peak_error"] > 1e-3).mean("seed").values
    learned = (results["test_error"] < 1e-10).mean("seed").values
    return (
        "The error passed 1e-3 in "
        f"{spiked[margin > 0.1].mean():.1%} of the runs well inside the stable side and in "
        f"{spiked[margin < -0.1].mean():.1%} well inside the unstable side, of which "
        f"{learned[margin < -0.1].mean():.1%} ended below 1e-10.\n\n"
        f"{cost_note(results)}"
    )


def flattest_solution(network: Network) -> cf.Weights:
    """Of the solutions with the teacher's norms, the one whose other singular values are all the same.

    With W2 = (|W2|, 0, …) the first row of W1 is S/|W2|. The other rows are orthogonal to it and to each other, as far as
    there are dimensions for that, and share what is left of |W1|².
    """
    norm, total = jnp.linalg.norm(network.teacher.W2), jnp.sum(network.teacher.W1**2)
    row = network.teacher.end_to_end[0] / norm
    N, M = network.teacher.W1.shape
    rest = min(N - 1, M - 1)
    frame = jnp.linalg.qr(jnp.column_stack([row, jnp.eye(M)]))[0][:, 1 : rest + 1].T
    others = jnp.sqrt((total - jnp.vdot(row, row)) / rest) * frame
    W1 = jnp.zeros((N, M)).at[0].set(row).at[1 : rest + 1].set(others)
    return cf.Weights(W1, jnp.zeros((1, N)).at[0, 0].set(norm))


def all_flipped_cell(c: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """How descent beside a network's flattest solution multiplies errors, and the loss in the end from 1e-3 beside it."""
    network = draw_network(c, seed, total, alpha_r=1.0)
    solution = flattest_solution(network)
    flow: Any = network.flow.flow
    start = cf.ensembles.near_solution(jax.random.key(seed), solution, distance=1e-3)
    run = cf.iterate(cf.DescentMap(flow, EPOCH, renormalise=True), start, epochs, every=epochs)
    return {
        "multiplier": error_multiplier(network.flow, solution),
        "loss": flow.loss(run.final_state),
        "outcome": run.outcome,
    }


def compute_all_flipped(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Ratios on both sides of c = 1."""
    cell = partial(all_flipped_cell, total=60 if quick else 220, epochs=1000 if quick else 20_000)
    axes = {"c": [0.5, 2.0] if quick else [0.1, 0.5, 0.9, 1.13, 2.34, 4.83, 10.0]}
    return cf.sweep(cell, axes, seeds=2 if quick else 20, store=store, client=client)


def draw_all_flipped(results: xr.Dataset, out: Path) -> None:
    """The multiplier of every network's flattest solution: below 1 it is stable."""
    with cf.plot.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        ax.axhline(1.0, color="0.5", linewidth=0.6)
        ax.semilogx(
            results["c"], results["multiplier"].transpose("c", "seed"), "o", markersize=3, color="0.3"
        )
        ax.set(xlabel="$c = M/N$", ylabel="largest multiplier of errors")
    cf.plot.save_figure(figure, out / "fig4_all_flipped.pdf")


def report_all_flipped(results: xr.Dataset) -> str:
    """How many solutions are stable, and how many runs beside them end there."""
    stable, arrived = results["multiplier"] < 1, results["loss"] < 1e-10
    return "; ".join(
        f"c = {float(c):g}: {int(stable.sel(c=c).sum())} of {stable.sizes['seed']} teachers have a stable solution, "
        f"and from 1e-3 beside it {int(arrived.sel(c=c).where(stable.sel(c=c), False).sum())} of these come to it"
        for c in results["c"]
    )


def descent_beside_teacher(total: int) -> tuple[cf.DescentMap, cf.Weights]:
    """The network of Fig. 4c, d: c = 1, αr = 0.6. In the first tenth of its run the error rises and falls."""
    network, start = beside_teacher(1.0, 0.6, 0, total)
    return cf.DescentMap(network.flow.flow, EPOCH, renormalise=True), start


PARTS = {
    "diagram": Part(compute_diagram, draw_diagram, report_diagram),
    "all_flipped": Part(compute_all_flipped, draw_all_flipped, report_all_flipped),
    "orbit": orbit_part(
        "fig4",
        descent_beside_teacher,
        total=220,
        quick_epochs=10_000,
        window="first tenth",
        report=report_rise,
    ),
}

if __name__ == "__main__":
    run_parts("fig4_readout_flips", __doc__, PARTS)
