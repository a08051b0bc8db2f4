"""Figures 8 and 9 of the paper: tanh networks beside their teacher, with the rule of hidden units' readouts flipped.

    python studies/fig8_9_tanh_readout.py [--quick] [--workers N] [--parts coarse orbit …] [--out FOLDER]

Each part writes a figure and its numbers (.nc); the sweeps may be killed and are resumed by the same command:

- coarse   fig8_coarse.pdf    Fig. 8a, b on an 8 × 9 grid: test error at the end, and the largest train error on the way;
- orbit    fig8_orbit.pdf     Fig. 9: one network on the unstable side;
- stability fig8_stability.pdf  how fast errors grow beside the teacher, over 20 × 11 points;
- diagram  fig8_diagram.pdf   Fig. 8a, b in full, 20 × 21 and 20 seeds.

The diagrams follow the norm-constrained flow from 10⁻⁶ beside the teacher, where the paper iterates full-batch descent from
10⁻¹⁵: below its tolerance an adaptive solver says nothing. The orbit is that of the map, as in the paper.

Cost on one core: orbit ½ minute, stability 5, coarse 65; on two, from the coarse grid: diagram 6½ hours. With `--quick`: a
few minutes.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import curlflow as cf
from shared.diagrams import linear_margin, peak_figure
from shared.linear_networks import EPOCH, move, sizes
from shared.nonlinear_networks import LOW_ERROR, Network, draw_network, looks
from shared.orbits import orbit_part, report_rise
from shared.parts import Part, run_parts
from shared.solutions import stability, stability_part
from shared.verdicts import boundary_claims, cost_note, of_enough_seeds, share, verdict_on, verdict_table

SAMPLES = 250
HORIZON = 1e5 * EPOCH
# A run has come to rest when its train error is below this: no component of the start's perturbation is that small.
AT_REST = 1e-20
# A student has left its teacher if its train error, some 10⁻¹² at the start, has been above this. The solver
# alone stays below 10⁻⁷.
AWAY = 1e-6
ERRORS_SHOWN = (1e-6, 1.0)


def draw_readout(c: float, alpha_r: float, seed: int, total: int) -> Network:
    """A tanh network, the readouts of whose first hidden units are flipped."""
    N, M = sizes(c, total)
    d2 = cf.ensembles.sign_pattern(N, fraction=alpha_r)
    return draw_network(seed, N=N, M=M, samples=SAMPLES, d2=d2)


def beside_teacher(
    c: float, alpha_r: float, seed: int, total: int, distance: float
) -> tuple[Network, cf.Weights]:
    """The network, and a start whose first layer is so far beside the teacher's."""
    network = draw_readout(c, alpha_r, seed, total)
    W1 = network.teacher.W1
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed), 5), W1.shape, jnp.float64)
    return network, cf.Weights(W1 + distance * noise, network.teacher.W2)


# Functions of the module with the flow as their argument, so that networks of one size share one compilation.


def train_error(t: Any, W: Any, flow: Any) -> Any:
    """The error on the training samples."""
    return flow.flow.error(W)


def is_at_rest(t: Any, W: Any, flow: Any) -> Any:
    """Whether the student solves its task."""
    return train_error(t, W, flow) < AT_REST


def leave_and_return(c: float, alpha_r: float, seed: int, total: int, T: float) -> dict[str, Any]:
    """The test error at the end of a run, and the largest train error on the way with its epoch."""
    network, start = beside_teacher(c, alpha_r, seed, total, distance=1e-6)
    # With all readouts flipped no solution is stable. Students wander where nothing limits the steps but accuracy.
    all_flipped = alpha_r == 1
    rtol = 1e-4 if all_flipped else 1e-3
    run = cf.integrate(
        move,
        start,
        T,
        ts=looks(T),
        args=cf.NormConstrained(network.flow),
        observe=train_error,
        stop=is_at_rest,
        solver="tsit5" if all_flipped else cf.orbits.RungeKuttaChebyshev(stages=10),
        rtol=rtol,
        atol=rtol * 1e-5,
    )
    errors = np.asarray(run.ys)
    return {
        "test_error": network.test_error(0.0, run.final_state),
        "peak_error": errors.max(),
        "peak_epoch": run.ts[errors.argmax()] / EPOCH,
        "steps": run.stats["steps"],
        "outcome": run.outcome,
    }


def peak_diagram(name: str, c: np.ndarray, fractions: int, seeds: int) -> Part[xr.Dataset]:
    """Errors at the end and on the way over a grid of ratios and fractions."""

    def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
        cell = partial(leave_and_return, total=60 if quick else 220, T=500.0 if quick else HORIZON)
        few = c[c > 0.05][::4]  # the small networks need an input
        axes = {"c": few if quick else c, "alpha_r": np.linspace(0, 1, 3 if quick else fractions)}
        return cf.sweep(cell, axes, seeds=2 if quick else seeds, store=store, client=client)

    def draw(results: xr.Dataset, out: Path) -> None:
        cf.plot.save_figure(peak_figure(results, ERRORS_SHOWN), out / f"fig8_{name}.pdf")

    return Part(compute, draw, report_peaks)


def report_peaks(results: xr.Dataset) -> str:
    """Which students have left their teacher, on both sides of the boundary of linear networks, and where they ended."""
    left = results["peak_error"] > AWAY
    low = (results["test_error"] < LOW_ERROR).transpose("c", "alpha_r", "seed").values
    alpha_r = results["alpha_r"].values
    unstable = (linear_margin(results) < 0) & (alpha_r > 0) & (alpha_r < 1)
    returned = (
        "8a: and end at low test errors all the same",
        f"beyond, unless all are flipped, {share(low[unstable])} end below {LOW_ERROR:g}",
        of_enough_seeds(low, verdict_on((low[unstable].mean(axis=1) > 0.5).tolist())),
    )
    found = f"have a train error above {AWAY:g} on the way"
    claims = [*boundary_claims("8b", "students leave their teacher", found, left), returned]
    return f"{verdict_table(claims)}\n\n{cost_note(results)}"


def descent_beside_teacher(total: int) -> tuple[cf.DescentMap, cf.Weights]:
    """The network of Fig. 9: c = 1, αr = 0.6. In the first tenth of its run the error rises and falls."""
    network, start = beside_teacher(1.0, 0.6, 0, total, distance=1e-15)
    return cf.DescentMap(network.flow, EPOCH, renormalise=True), start


def stability_cell(c: float, alpha_r: float, seed: int, total: int) -> dict[str, Any]:
    """How stable one network is beside its teacher."""
    return stability(draw_readout(c, alpha_r, seed, total))


RATIOS = np.logspace(-2, 1, 20)
PARTS = {
    "coarse": peak_diagram("coarse", np.logspace(-2, 1, 8), 9, 10),
    "orbit": orbit_part(
        "fig8",
        descent_beside_teacher,
        total=110,
        quick_epochs=5_000,
        window="first tenth",
        report=report_rise,
    ),
    "stability": stability_part("fig8", stability_cell, "alpha_r", RATIOS),
    "diagram": peak_diagram("diagram", RATIOS, 21, 20),
}

if __name__ == "__main__":
    run_parts("fig8_9_tanh_readout", __doc__, PARTS)
