"""Figures 6 and 7 of the paper: tanh networks learning with flipped inputs.

    python studies/fig6_7_tanh_hidden.py [--quick] [--workers N] [--parts coarse orbit …] [--out FOLDER]

Each part writes a figure and its numbers (.nc); the sweeps may be killed and are resumed by the same command:

- coarse   fig6_coarse.pdf    Fig. 6a on an 8 × 9 grid: test error over (c, αh), 10⁵ epochs, ten seeds;
- check    fig6_check.pdf     the flow against minibatch descent as the paper runs it, 2·10⁴ epochs at four of these points;
- orbit    fig6_orbit.pdf     Fig. 7: one network far inside the unstable side;
- motion   fig6_motion.pdf    ten such networks: largest Lyapunov exponents, and what motion they are judged to be;
- stability fig6_stability.pdf  how fast errors grow beside the teacher, over 20 × 11 points;
- diagram  fig6_diagram.pdf   Fig. 6a in full, 20 × 21;
- inset    fig6_inset.pdf     Fig. 6b in full: ratios from 0.1 to 0.7.

Errors of the diagrams are those of the norm-constrained flow; the orbit is that of full-batch descent, as in the paper.

Cost on one core: stability 2 minutes, orbit ½, check 16, motion 18, coarse 75; on two, from the coarse grid: diagram 4 hours,
inset 7. With `--quick`: 3 minutes.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy import stats

import curlflow as cf
from curlflow.plot import style
from shared.diagrams import save_error_figure
from shared.figures import panel
from shared.linear_networks import EPOCH, is_steep, sizes
from shared.motions import motion_part, settled_motion
from shared.nonlinear_networks import LOW_ERROR, Network, draw_network, minibatch_descent, move
from shared.orbits import orbit_part, report_end
from shared.parts import Part, run_parts
from shared.solutions import stability, stability_part
from shared.verdicts import boundary_claims, cost_note, verdict_table

SAMPLES = 250
HORIZON = 1e5 * EPOCH
LEARNED = 1e-10
ERRORS_SHOWN = (1e-4, 1e-1)
COARSE_RATIOS = np.logspace(-1, 2, 8)
PERTURBATION = 1e-10


def draw_hidden(c: float, alpha_h: float, seed: int, total: int, **options: Any) -> Network:
    """A tanh network, the first inputs of which are flipped."""
    N, M = sizes(c, total)
    d1 = cf.ensembles.sign_pattern(M, fraction=alpha_h)
    return draw_network(seed, N=N, M=M, samples=SAMPLES, d1=d1, **options)


def has_learned(t: Any, W: Any, args: Any) -> Any:
    """Whether the test error is as good as zero."""
    return args["test_error"](t, W) < LEARNED


def learn(c: float, alpha_h: float, seed: int, total: int, T: float) -> dict[str, Any]:
    """A random student follows the flow until it has learned, or for the time T. Sums over samples have single precision."""
    network = draw_hidden(c, alpha_h, seed, total, precision="float32")
    steep = is_steep(c, alpha_h)
    run = cf.integrate(
        move,
        network.student,
        T,
        ts=[T],
        args={"flow": cf.NormConstrained(network.flow), "test_error": network.test_error},
        stop=has_learned,
        solver=cf.orbits.RungeKuttaChebyshev(stages=10) if steep else "tsit5",
        rtol=1e-3 if steep else 1e-4,
        atol=1e-6,
    )
    return {
        "test_error": network.test_error(0.0, run.final_state),
        "train_error": network.flow.error(run.final_state),
        "steps": run.stats["steps"],
        "outcome": run.outcome,
    }


def error_diagram(name: str, c: np.ndarray, fractions: int, scale: str) -> Part[xr.Dataset]:
    """The test error over a grid of ratios and fractions."""

    def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
        cell = partial(learn, total=60 if quick else 220, T=200.0 if quick else HORIZON)
        axes = {"c": c[::4] if quick else c, "alpha_h": np.linspace(0, 1, 3 if quick else fractions)}
        return cf.sweep(cell, axes, seeds=2 if quick else 10, store=store, client=client)

    def draw(results: xr.Dataset, out: Path) -> None:
        save_error_figure(results["test_error"], scale, out / f"fig6_{name}.pdf", ERRORS_SHOWN)

    return Part(compute, draw, report_errors)


def report_errors(results: xr.Dataset) -> str:
    """Which students have failed to learn, on both sides of the boundary of linear networks."""
    failed = results["test_error"] >= LOW_ERROR
    claims = boundary_claims("6", "flipped inputs destroy learning", f"end at {LOW_ERROR:g} or above", failed)
    return f"{verdict_table(claims)}\n\n{cost_note(results)}"


def learn_twice(c: float, alpha_h: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The test errors of one student after so many epochs, along the flow and by minibatches as in the paper."""
    network = draw_hidden(c, alpha_h, seed, total, precision="float32")
    descent = minibatch_descent(network.flow, seed)
    final = cf.iterate(descent, network.student, epochs, every=epochs).final_state
    flow = learn(c, alpha_h, seed, total, epochs * EPOCH)
    return {
        "flow": flow["test_error"],
        "minibatches": network.test_error(0.0, final),
        "outcome": flow["outcome"],
    }


def compute_check(quick: bool, store: Path, client: Any) -> xr.Dataset:
    """At the second and third ratio of the coarse grid, with a quarter and three quarters of the inputs flipped."""
    cell = partial(learn_twice, total=60 if quick else 220, epochs=1_000 if quick else 20_000)
    axes = {"c": COARSE_RATIOS[1:3], "alpha_h": [0.25, 0.75]}
    return cf.sweep(cell, axes, seeds=2 if quick else 10, store=store, client=client)


def draw_check(results: xr.Dataset, out: Path) -> None:
    """One error over the other; points on the diagonal agree."""
    with panel(out / "fig6_check.pdf") as ax:
        for (c, alpha_h), marker in zip(check_points(results), "osD^", strict=True):
            chosen = results.sel(c=c, alpha_h=alpha_h)
            label = rf"$c = {c:.2g}$, $\alpha_h = {alpha_h:g}$"
            ax.plot(chosen["flow"], chosen["minibatches"], marker, markersize=3, label=label)
        ends = np.array([results["flow"].min(), results["flow"].max()])
        ax.plot(ends, ends, color=style.BLACK, linewidth=0.6, linestyle="dotted")
        ax.set(xscale="log", yscale="log", xlabel="test error along the flow", ylabel="by minibatches")
        ax.legend()


def report_check(results: xr.Dataset) -> str:
    """Medians of both, and whether they could be of one distribution."""
    lines = []
    for c, alpha_h in check_points(results):
        chosen = results.sel(c=c, alpha_h=alpha_h)
        flow, minibatches = chosen["flow"].values, chosen["minibatches"].values
        _, p = stats.ks_2samp(flow, minibatches)
        lines.append(
            f"c = {c:.3g}, αh = {alpha_h:g}: median test error {np.median(flow):.3g} along the flow, "
            f"{np.median(minibatches):.3g} by minibatches (Kolmogorov–Smirnov p = {p:.2g})"
        )
    return "\n".join(lines)


def check_points(results: xr.Dataset) -> list[tuple[float, float]]:
    """The ratio and fraction of every point of the check."""
    return [(c, alpha_h) for c in results["c"].values for alpha_h in results["alpha_h"].values]


def descent_from_teacher(c: float, alpha_h: float, seed: int, total: int) -> tuple[cf.DescentMap, cf.Weights]:
    """Full-batch descent, and a start whose readout is beside the teacher's."""
    network = draw_hidden(c, alpha_h, seed, total)
    noise = jax.random.normal(jax.random.key(seed), network.teacher.W2.shape, jnp.float64)
    start = cf.Weights(network.teacher.W1, network.teacher.W2 + PERTURBATION * noise)
    return cf.DescentMap(network.flow, EPOCH, renormalise=True), start


def motion_cell(c: float, alpha_h: float, seed: int, total: int, epochs: int) -> dict[str, Any]:
    """The motion of one network."""
    return settled_motion(*descent_from_teacher(c, alpha_h, seed, total), epochs)


def stability_cell(c: float, alpha_h: float, seed: int, total: int) -> dict[str, Any]:
    """How stable one network is beside its teacher."""
    return stability(draw_hidden(c, alpha_h, seed, total))


RATIOS = np.logspace(-1, 2, 20)
PARTS = {
    "coarse": error_diagram("coarse", COARSE_RATIOS, 9, "log"),
    "check": Part(compute_check, draw_check, report_check),
    "orbit": orbit_part(
        "fig6",
        partial(descent_from_teacher, 0.8, 0.6, 0),
        total=110,
        quick_epochs=5_000,
        window="last tenth",
        report=report_end,
    ),
    "motion": motion_part("fig6", motion_cell, 110),
    "stability": stability_part("fig6", stability_cell, "alpha_h", RATIOS),
    "diagram": error_diagram("diagram", RATIOS, 21, "log"),
    "inset": error_diagram("inset", np.linspace(0.1, 0.7, 20), 21, "linear"),
}

if __name__ == "__main__":
    run_parts("fig6_7_tanh_hidden", __doc__, PARTS)
