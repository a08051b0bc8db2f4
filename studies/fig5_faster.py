"""Figure 5 of the paper: tanh networks, and how fast they learn with a flipped readout synapse.

    python studies/fig5_faster.py [--quick] [--workers N] [--parts errors samples …] [--out FOLDER]

Ten hidden units learn from a teacher of the same architecture and 100 inputs; the sign of one of their readout synapses is
flipped. Both rules race from the same start on the same data to the test error 10⁻³. Each part writes a figure, its numbers
(.nc) and a table; the sweeps may be killed and are resumed by the same command:

- errors   fig5_errors.pdf    Fig. 5b: test error against epochs;
- samples  fig5_samples.pdf   Fig. 5c: epochs until learned, against the number of training samples;
- student  fig5_student.pdf   Fig. 5d: against the scale of the student's weights;
- teacher  fig5_teacher.pdf   Fig. 5e: against the scale of the teacher's weights, the complexity of the task;
- flips    fig5_flips.pdf     Fig. 5f: against the number of flipped synapses;
- check    fig5_check.pdf     the flow against minibatch descent as the paper runs it, at two points.

Runs follow the norm-constrained flow, of which minibatch descent at the paper's step is a noisy copy (see the check).
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import matplotlib.pyplot as plt  # noqa: E402
import nonlinear_networks as nonlinear  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from nonlinear_networks import EPOCH, claim, compare, is_faster, ratios, table, verdict_on  # noqa: E402
from parts import Part, run_parts  # noqa: E402

import curlflow as cf  # noqa: E402

N, M = 10, 100
HORIZON = 1e5 * EPOCH
SEEDS = 10
HEADER = claim("the paper", "here", "verdict") + "\n|---|---|---|"


def draw_point(
    seed: int, *, samples: int, scale: float = 2.0, teacher_scale: float = 1.0, flips: int = 1
) -> nonlinear.Network:
    """A network with so many flipped readout synapses. Sums over samples are in single precision, far below the threshold."""
    return nonlinear.draw_network(
        seed,
        N=N,
        M=M,
        samples=int(samples),
        d2=cf.ensembles.sign_pattern(N, count=int(flips)),
        scale=scale,
        teacher_scale=teacher_scale,
        precision="float32",
    )


def race_cell(seed: int, horizon: float, **point: Any) -> dict[str, Any]:
    """One race."""
    return nonlinear.race(draw_point(seed, **point), horizon)


# --------------------------------------------------------------------------------------------------- test errors


def errors_cell(seed: int, samples: int) -> dict[str, Any]:
    """The test errors of both rules to the end."""
    return nonlinear.error_curves(draw_point(seed, samples=samples), HORIZON)


def compute_errors(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 5b."""
    axes = {"samples": [800 if quick else 2000]}
    results = cf.sweep(errors_cell, axes, seeds=4 if quick else SEEDS, store=store, client=client)
    return nonlinear.over_epochs(results, HORIZON)


def draw_errors(results: xr.Dataset, out: Path) -> None:
    """Mean ± standard error over seeds."""
    with cf.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        nonlinear.draw_errors(results, ax)
        ax.axhline(nonlinear.THRESHOLD, color="0.5", linewidth=0.6, linestyle="dotted")
        ax.set(xlim=(10, None))
        cf.save_figure(figure, out / "fig5_errors.pdf")


def report_errors(results: xr.Dataset) -> str:
    """The race at this point, and the errors at its end."""
    comparison = nonlinear.compare_seeds(nonlinear.passage_epochs(results), HORIZON)
    last = [float(results[rule].isel(epoch=-1).median()) for rule in nonlinear.RULES]
    found = (
        f"gradient / curl {ratios([comparison])}; median test error at the end "
        f"{last[0]:.2g} (curl), {last[1]:.2g} (gradient)"
    )
    paper = "5b: a single flipped synapse leads to faster convergence"
    return f"{comparison}\n\n{HEADER}\n{claim(paper, found, verdict_on([is_faster(comparison)]))}"


# -------------------------------------------------------------------------------------------------------- races


def sweep_races(axis: str, values: Any, quick: bool, store: Path, client: Any, **fixed: Any) -> xr.Dataset:
    """Races along one axis."""
    cell = partial(race_cell, **{"horizon": HORIZON, **fixed})
    return cf.sweep(cell, {axis: values}, seeds=4 if quick else SEEDS, store=store, client=client)


def compute_samples(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 5c."""
    values = [200, 400, 800] if quick else np.linspace(100, 2000, 19).round(-1).astype(int)
    return sweep_races("samples", values, quick, store, client)


def draw_samples(results: xr.Dataset, out: Path) -> None:
    """Epochs over training samples."""
    nonlinear.save_race_figure(
        compare(results, "samples", HORIZON),
        HORIZON,
        out / "fig5_samples.pdf",
        xlabel=r"training samples $N_\mathrm{train}$",
    )


def report_samples(results: xr.Dataset) -> str:
    """p < 0.01 from 500 samples on, and more so with more of them."""
    comparisons = compare(results, "samples", HORIZON)
    many = [each for value, each in comparisons.items() if value >= 500]
    holds = [is_faster(each) for each in many]
    return "\n".join(
        [
            table(comparisons, "samples"),
            "",
            HEADER,
            claim(
                "5c: p < .01 for 500 samples and more",
                f"{sum(holds)} of {len(holds)} points; gradient / curl {ratios(many)}",
                verdict_on(holds),
            ),
        ]
    )


def compute_student(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 5d."""
    values = (
        [0.1, 1.0, 4.0] if quick else [0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    )
    return sweep_races("scale", values, quick, store, client, samples=500 if quick else 10_000)


def draw_student(results: xr.Dataset, out: Path) -> None:
    """Epochs over the student's scale."""
    nonlinear.save_race_figure(
        compare(results, "scale", HORIZON),
        HORIZON,
        out / "fig5_student.pdf",
        xlabel="scale of the student's weights",
        xscale="log",
    )


def report_student(results: xr.Dataset) -> str:
    """Where in the range of scales curl descent is faster."""
    comparisons = compare(results, "scale", HORIZON)
    holds = [is_faster(each) for each in comparisons.values()]
    faster = [value for value, each in comparisons.items() if is_faster(each)]
    span = f", {min(faster):g} to {max(faster):g}" if faster else ""
    found = f"{sum(holds)} of {len(holds)} scales{span}; gradient / curl {ratios(list(comparisons.values()))}"
    return "\n".join(
        [
            table(comparisons, "scale"),
            "",
            HEADER,
            claim("5d: robust to a broad range of student scales", found, verdict_on(holds)),
        ]
    )


def compute_teacher(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 5e."""
    values = [0.5, 1.0, 3.0] if quick else [0.1, *np.arange(0.25, 4.01, 0.25)]
    fixed = {"samples": 500 if quick else 10_000, "horizon": HORIZON if quick else 2 * HORIZON}
    return sweep_races("teacher_scale", values, quick, store, client, **fixed)


def draw_teacher(results: xr.Dataset, out: Path) -> None:
    """Epochs over the teacher's scale."""
    nonlinear.save_race_figure(
        compare(results, "teacher_scale", 2 * HORIZON),
        2 * HORIZON,
        out / "fig5_teacher.pdf",
        xlabel="scale of the teacher's weights",
    )


def report_teacher(results: xr.Dataset) -> str:
    """The scale from which on neither rule's median run learns, and who is faster below it."""
    comparisons = compare(results, "teacher_scale", 2 * HORIZON)
    learned = np.isfinite(results[list(nonlinear.RULES)]).mean("seed")
    median_learns = ((learned["curl"] > 0.5) | (learned["gradient"] > 0.5)).values
    scales = results["teacher_scale"].values[::-1]
    critical = min(scales[: int(np.argmax(median_learns[::-1]))], default=np.inf)
    below = [each for value, each in comparisons.items() if value < critical]
    above = [is_faster(each) for value, each in comparisons.items() if value >= critical]
    holds = [is_faster(each) for each in below]
    verdicts = [
        claim(
            "5e: below a critical scale curl is faster, p < .01",
            f"critical scale {critical:g}; below: {sum(holds)} of {len(holds)} points, gradient / curl {ratios(below)}",
            verdict_on(holds),
        ),
        claim(
            "5e: above it both are equally poor",
            f"curl faster at {sum(above)} of {len(above)} scales",
            verdict_on([not each for each in above]),
        ),
    ]
    return "\n".join([table(comparisons, "teacher's scale"), "", HEADER, *verdicts])


def compute_flips(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Fig. 5f."""
    values = [1, 3, 5] if quick else np.arange(1, 11)
    return sweep_races("flips", values, quick, store, client, samples=500 if quick else 2000)


def draw_flips(results: xr.Dataset, out: Path) -> None:
    """Epochs over the number of flipped synapses."""
    nonlinear.save_race_figure(
        compare(results, "flips", HORIZON),
        HORIZON,
        out / "fig5_flips.pdf",
        xlabel=f"flipped readout synapses of {N}",
    )


def report_flips(results: xr.Dataset) -> str:
    """Up to half of the synapses."""
    comparisons = compare(results, "flips", HORIZON)
    half = [each for value, each in comparisons.items() if value <= N // 2]
    holds = [is_faster(each) for each in half]
    return "\n".join(
        [
            table(comparisons, "flips"),
            "",
            HEADER,
            claim(
                "5f: faster with up to 50 % flipped, p < .01",
                f"{sum(holds)} of {len(holds)} points; gradient / curl {ratios(half)}",
                verdict_on(holds),
            ),
        ]
    )


# --------------------------------------------------------------------------------------- flow and minibatches


def check_cell(seed: int, samples: int) -> dict[str, Any]:
    """One race twice: along the flow, and by minibatches."""
    network = draw_point(seed, samples=samples)
    race = nonlinear.race(network, HORIZON)
    minibatches = nonlinear.race_by_minibatches(network, HORIZON, seed)
    return {
        **{rule: race[rule] for rule in nonlinear.RULES},
        **{f"{rule}_minibatches": minibatches[rule] for rule in nonlinear.RULES},
    }


def compute_check(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """Two points of Fig. 5c."""
    return cf.sweep(
        check_cell,
        {"samples": [800] if quick else [1000, 2000]},
        seeds=2 if quick else SEEDS,
        store=store,
        client=client,
    )


def draw_check(results: xr.Dataset, out: Path) -> None:
    """One against the other."""
    with cf.paper_style(aspect=0.9):
        figure, ax = plt.subplots()
        nonlinear.draw_agreement(results, HORIZON, ax)
        cf.save_figure(figure, out / "fig5_check.pdf")


def report_check(results: xr.Dataset) -> str:
    """The ratio of epochs."""
    lines = [
        f"{rule}, {samples} samples: minibatches / flow {nonlinear.agreement(results.sel(samples=samples), rule, HORIZON)}"
        for samples in results["samples"].values
        for rule in nonlinear.RULES
    ]
    return "\n".join(lines)


PARTS = {
    "errors": Part(compute_errors, draw_errors, report_errors),
    "samples": Part(compute_samples, draw_samples, report_samples),
    "student": Part(compute_student, draw_student, report_student),
    "teacher": Part(compute_teacher, draw_teacher, report_teacher),
    "flips": Part(compute_flips, draw_flips, report_flips),
    "check": Part(compute_check, draw_check, report_check),
}

if __name__ == "__main__":
    run_parts("fig5_faster", __doc__, PARTS)
