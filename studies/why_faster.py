"""Why do the networks of Fig. 5 learn faster with a flipped readout synapse? Not in the paper.

    python studies/why_faster.py [--quick] [--workers N] [--parts shares unit …] [--out FOLDER]

Each part writes a figure and its numbers (.nc), and prints what it found:

- shares  why_shares.pdf  test error, and one unit's share of the readout's squared norm, with norms held and free;
- hills   why_hills.pdf   forty fresh networks: by how much the train error of curl descent rises on its way;
- unit    why_unit.pdf    which synapse is flipped: epochs until learned, over its size;
- plane   why_plane.pdf   phase portraits beside the origin, in the plane of one unit's readout and its input weights;
- linear  why_linear.pdf  the test error of the best linear map, over the scale of the teacher's weights.

The networks are those of Fig. 5b with 1000 samples: students on twice the teacher's scale.

Cost on one core: 10 minutes.
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
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from scipy import stats

import curlflow as cf
from curlflow.plot import style
from shared import races
from shared.figures import letter_panels, panel
from shared.linear_networks import EPOCH
from shared.nonlinear_networks import looks
from shared.parts import Part, run_parts

SAMPLES = 1000
T = 1e4 * EPOCH
VARIANTS = {  # name: whether a synapse is flipped, whether norms are held
    "curl, norms held": (True, True),
    "gradient, norms held": (False, True),
    "curl, norms free": (True, False),
    "gradient, norms free": (False, False),
}


# ------------------------------------------------------------------------------------------------------- shares


def watch(t: Any, W: Any, args: Any) -> Any:
    """Test error, train error; of every unit, its share of the readout's squared norm and the norm of its input weights."""
    flow = args["flow"]
    rule: Any = flow.flow if isinstance(flow, cf.NormConstrained) else flow
    return {
        "test_error": races.test_error(t, W, args),
        "train_error": rule.error(W),
        "share": W.W2[0] ** 2 / jnp.vdot(W.W2, W.W2),
        "inputs": jnp.linalg.norm(W.W1, axis=1),
    }


def shares_cell(seed: int, variant: str, samples: int) -> dict[str, Any]:
    """One run; the flipped synapse is that of unit 0."""
    flipped, held = VARIANTS[variant]
    network = races.draw_racers(seed, samples=samples)
    flow = network.flow if flipped else network.flow.gradient_flow()
    run = races.follow(network, flow, T, constrain=held, stop=None, observe=watch)
    return {**run.ys, "outcome": run.outcome}


def compute_shares(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """All four variants from the same starts; the leader is the unit that holds most of the readout at the end."""
    cell, axes = partial(shares_cell, samples=SAMPLES), {"variant": list(VARIANTS)}
    results = cf.sweep(cell, axes, seeds=3 if quick else 10, store=store, client=client)
    along = ("variant", "seed", "epoch")
    leader = results["share"].values[:, :, -1].argmax(axis=-1)

    def of_leader(name: str) -> np.ndarray:
        return np.take_along_axis(results[name].values, leader[..., None, None], axis=-1)[..., 0]

    curves = {
        "test_error": (along, results["test_error"].values),
        "train_error": (along, results["train_error"].values),
        "leading_share": (along, of_leader("share")),
        "leading_inputs": (along, of_leader("inputs")),
        "leader": (("variant", "seed"), leader),
    }
    coordinates = {"variant": results["variant"], "seed": results["seed"], "epoch": looks(T) / EPOCH}
    return xr.Dataset(curves, coordinates, results.attrs)


def hill_cell(seed: int, samples: int) -> dict[str, Any]:
    """By what factor the train error of curl descent with norms held is at most above the least before."""
    run = shares_cell(seed, "curl, norms held", samples)
    errors = np.asarray(run["train_error"])
    return {"climb": np.max(errors / np.minimum.accumulate(errors)), "outcome": run["outcome"]}


def compute_hills(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Seeds that no other part has seen."""
    cell = partial(hill_cell, samples=SAMPLES)
    return cf.sweep(cell, {}, seeds=list(range(10, 13 if quick else 50)), store=store, client=client)


def draw_hills(results: xr.Dataset, out: Path) -> None:
    """The climbs in order."""
    with panel(out / "why_hills.pdf") as ax:
        ax.plot(np.sort(100 * (results["climb"].values - 1)), "o", markersize=3, color="0.3")
        ax.set(xlabel="network", ylabel="rise of the train error (%)")


def report_hills(results: xr.Dataset) -> str:
    """How many climb, and how high."""
    climbs = results["climb"].values - 1
    higher = np.sort(climbs[climbs > 1e-3])
    heights = ", ".join(f"{climb:.1%}" for climb in higher)
    return f"in {len(higher)} of {climbs.size} fresh networks the train error rises on its way" + (
        f", by {heights}" if len(higher) else ""
    )


def draw_shares(results: xr.Dataset, out: Path) -> None:
    """Errors and shares side by side."""
    cf.plot.save_figure(shares_figure(results), out / "why_shares.pdf")


def shares_figure(results: xr.Dataset) -> Figure:
    """Medians over seeds: errors, and the share of the unit that holds most at the end."""
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2)
        letter_panels([left, right])
        for variant, (flipped, held) in VARIANTS.items():
            look = {
                "color": style.CURL_FLOW if flipped else style.GRADIENT_FLOW,
                "linestyle": "solid" if held else "dotted",
            }
            chosen = results.sel(variant=variant)
            left.plot(results["epoch"], chosen["test_error"].median("seed"), label=variant, **look)
            right.plot(results["epoch"], chosen["leading_share"].median("seed"), **look)
        left.axhline(races.THRESHOLD, color="0.5", linewidth=0.6)
        left.set(xscale="log", yscale="log", xlabel="epoch", ylabel="test error", xlim=(10, None))
        right.set(
            xscale="log",
            xlabel="epoch",
            ylabel="leading unit's share of $|W_2|^2$",
            ylim=(0, 1),
            xlim=(10, None),
        )
        left.legend()
    return figure


def report_shares(results: xr.Dataset) -> str:
    """Who holds the readout, whether errors ever rise, and how fast the variants are."""
    lines, epochs = [], {}
    for variant, (flipped, _) in VARIANTS.items():
        chosen = results.sel(variant=variant)
        epochs[variant] = races.passages(chosen["test_error"])
        leader, end = chosen["leader"].values, chosen.isel(epoch=-1).median("seed")
        rises = (np.diff(chosen["train_error"].values, axis=1) > 0).sum(axis=1)
        flip = f", that of the flipped synapse in {(leader == 0).sum()} of {len(leader)}" if flipped else ""
        lines.append(
            f"{variant}: learned after {_epochs(np.median(epochs[variant]))} (median); at the end one unit holds "
            f"{float(end['leading_share']):.0%} of the readout's squared norm{flip}, on input weights of norm "
            f"{float(end['leading_inputs']):.2g}; the train error rises in at most {rises.max()} of "
            f"{len(results['epoch']) - 1} intervals."
        )
    for name, first, second in (
        ("norms held", "curl, norms held", "gradient, norms held"),
        ("norms free", "curl, norms free", "gradient, norms free"),
    ):
        comparison = cf.races.compare_times(
            epochs[first], epochs[second], horizon=T / EPOCH, names=("curl", "gradient")
        )
        lines.append(f"{name}: {comparison}")
    return "\n".join(lines)


def _epochs(count: float) -> str:
    return f"{count:.4g} epochs" if np.isfinite(count) else f"more than {T / EPOCH:g} epochs"


# ---------------------------------------------------------------------------------------- which synapse is flipped


def unit_cell(seed: int, unit: int, samples: int) -> dict[str, Any]:
    """The race with the synapse of this unit flipped, and how large it was."""
    network = races.draw_racers(seed, samples=samples, flips=0)
    d2 = jnp.where(jnp.arange(races.N) == unit, -1.0, 1.0)
    flow = eqx.tree_at(lambda flow: flow.signs.W2, network.flow, d2)
    run = races.follow(network, flow, races.HORIZON)
    return {
        "curl": cf.orbits.time_to_threshold(run.ts, run.ys, races.THRESHOLD) / EPOCH,
        "size": jnp.abs(network.student.W2[0, unit]),
        "outcome": run.outcome,
    }


def compute_unit(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Every unit of every student."""
    cell = partial(unit_cell, samples=SAMPLES)
    units = [0, 5] if quick else list(range(races.N))
    return cf.sweep(cell, {"unit": units}, seeds=3 if quick else 10, store=store, client=client)


def draw_unit(results: xr.Dataset, out: Path) -> None:
    """One point for every flipped synapse."""
    with panel(out / "why_unit.pdf") as ax:
        epochs = np.minimum(results["curl"].values, races.HORIZON / EPOCH)
        ax.plot(results["size"].values.ravel(), epochs.ravel(), "o", markersize=3, color=style.CURL_FLOW)
        ax.set(yscale="log", xlabel="size of the flipped synapse at the start", ylabel="epochs until learned")


def report_unit(results: xr.Dataset) -> str:
    """Whether large or small synapses are the better ones to flip."""
    epochs, size = results["curl"].values, results["size"].values
    within: Any = [stats.spearmanr(x, y) for x, y in zip(size.T, epochs.T, strict=True)]
    correlations = [each.statistic for each in within]
    test: Any = stats.wilcoxon(correlations)
    # The smallest p that so many students allow.
    few = 2.0 ** (1 - len(within)) >= races.LEVEL
    verdict = ", too few to judge" if few else f", p = {test.pvalue:.2g}"
    low, high = np.quantile(epochs, (0.25, 0.75))
    return (
        f"{np.isfinite(epochs).mean():.0%} of the runs learn, after {low:.4g} to {high:.4g} epochs (quartiles). Rank "
        f"correlation with the size of the flipped synapse, within a student: median {np.median(correlations):.2f} "
        f"over {len(within)} students{verdict}."
    )


# -------------------------------------------------------------------------------------------------- the plane


def compute_plane(*_: Any) -> xr.Dataset:
    """The slopes at the origin, in the plane of unit 0: its readout, and its input weights along the teacher's map."""
    network = races.draw_racers(0, samples=SAMPLES)
    plane = unit_plane(network)
    slopes = [plane_slopes(flow, plane) for flow in (network.flow, network.flow.gradient_flow())]
    return xr.Dataset(
        {"slopes": (("rule", "to", "from"), np.stack(slopes))},
        {"rule": list(races.RULES), "to": ["input", "readout"]},
    )


def unit_plane(network: races.Network) -> cf.plane.Plane:
    """Through the origin: unit 0's input weights along ⟨y x⟩, where the layers drive each other, and its readout."""
    origin = jax.tree.map(jnp.zeros_like, network.student)
    data = network.flow
    drive = (data.targets.T @ data.X)[0].astype(jnp.float64)
    inputs = eqx.tree_at(lambda W: W.W1, origin, origin.W1.at[0].set(drive / jnp.linalg.norm(drive)))
    readout = eqx.tree_at(lambda W: W.W2, origin, origin.W2.at[0, 0].set(1.0))
    axes = jnp.stack([ravel_pytree(direction)[0] for direction in (inputs, readout)])
    return cf.plane.Plane(origin, axes, ("input weights along the task", "readout"))


def plane_slopes(flow: Any, plane: cf.plane.Plane) -> np.ndarray:
    """The Jacobian at the origin within the plane."""
    unravel = ravel_pytree(plane.origin)[1]

    def velocity(x: Any) -> Any:
        return plane.axes @ ravel_pytree(flow(0.0, unravel(x @ plane.axes)))[0]

    return np.asarray(jax.jacfwd(velocity)(jnp.zeros(2)))


def draw_plane(results: xr.Dataset, out: Path) -> None:
    """Both portraits."""
    del results
    cf.plot.save_figure(plane_figure(), out / "why_plane.pdf")


def plane_figure() -> Figure:
    """A saddle for a unit that descends, a centre for one whose readout is flipped: the model of two neurons."""
    network = races.draw_racers(0, samples=SAMPLES)
    panels = cf.plot.compare_portraits(
        {"a  descending": network.flow.gradient_flow(), "b  readout flipped": network.flow},
        (-1.5, 1.5),
        (-1.5, 1.5),
        plane=unit_plane(network),
    )
    figure: Any = panels["a  descending"].ax.figure
    return figure


def report_plane(results: xr.Dataset) -> str:
    """The eigenvalues at the origin."""
    values = {rule: np.linalg.eigvals(results["slopes"].sel(rule=rule).values) for rule in races.RULES}
    words = {rule: ", ".join(f"{value:.3g}" for value in each) for rule, each in values.items()}
    return f"eigenvalues at the origin in the plane of one unit: {words['gradient']} (gradient), {words['curl']} (flipped)."


# ---------------------------------------------------------------------------------------------- the linear map


def linear_cell(teacher_scale: float, seed: int, samples: int) -> dict[str, Any]:
    """The test error of least squares on the training samples."""
    network = races.draw_racers(seed, samples=samples, teacher_scale=teacher_scale)
    X, targets = (each.astype(jnp.float64) for each in (network.flow.X, network.flow.targets))
    test = network.test_error
    answers = test.X @ jnp.linalg.lstsq(X, targets)[0]
    return {"test_error": ((test.targets - answers) ** 2).mean() / 2}


def compute_linear(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Teachers of all scales of Fig. 5e, with its 10 000 samples."""
    axes = {"teacher_scale": [0.1, *np.arange(0.25, 4.01, 0.25)]}
    cell = partial(linear_cell, samples=10_000)
    return cf.sweep(cell, axes, seeds=3 if quick else 10, store=store, client=client)


def draw_linear(results: xr.Dataset, out: Path) -> None:
    """Medians and quartiles, beside the threshold of the races."""
    errors = results["test_error"]
    with panel(out / "why_linear.pdf", aspect=0.7) as ax:
        ax.semilogy(errors["teacher_scale"], errors.median("seed"), "o-", markersize=3, color=style.BLACK)
        low, high = (errors.quantile(q, "seed") for q in (0.25, 0.75))
        ax.fill_between(errors["teacher_scale"], low, high, color=style.BLACK, alpha=0.2, linewidth=0)
        ax.axhline(races.THRESHOLD, color="0.5", linewidth=0.6)
        ax.set(xlabel="scale of the teacher's weights", ylabel="test error of the best linear map")


def report_linear(results: xr.Dataset) -> str:
    """Up to which teacher a linear map is good enough."""
    errors = results["test_error"].median("seed")
    enough = errors["teacher_scale"].values[errors.values < races.THRESHOLD].max()
    return (
        f"The best linear map has the test error {float(errors.sel(teacher_scale=1.0)):.2g} for teachers of scale 1 "
        f"(median), and one below {races.THRESHOLD:g} up to the scale {enough:g}."
    )


PARTS = {
    "shares": Part(compute_shares, draw_shares, report_shares),
    "hills": Part(compute_hills, draw_hills, report_hills),
    "unit": Part(compute_unit, draw_unit, report_unit),
    "plane": Part(compute_plane, draw_plane, report_plane),
    "linear": Part(compute_linear, draw_linear, report_linear),
}

if __name__ == "__main__":
    run_parts("why_faster", __doc__, PARTS)
