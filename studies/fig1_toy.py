"""Figure 1 of the paper, the two-neuron model, and what its exact solution adds.

    python studies/fig1_toy.py [--quick] [--workers N] [--parts portraits …] [--out FOLDER]

Each part writes figures and its numbers (.nc), and prints every measured number beside its exact value:

- portraits  fig1_portraits.pdf  the paper's Fig. 1a: gradient flow beside curl flow, from the same start;
             fig1_loss.pdf       the paper's Fig. 1c: their losses against time, with the inset;
- exact      fig1_exact.pdf      periods and stability measured, over their closed forms; the separatrix at w1² + w2² = 2s,
                                 where the paper prints s;
- race       fig1_race.pdf       which starts reach the error 10⁻³ faster under curl flow, from the closed form, checked by
                                 integration.

Cost on two cores: 1 minute; with `--quick`: 40 seconds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import curlflow as cf
from curlflow.plot import style
from shared.figures import letter_panels, panel
from shared.parts import Part, run_parts

S = 1.0
ERROR = 1e-3
WINDOW = (-2.5, 2.5)


def curl_flow() -> cf.models.ToyFlow:
    """The model with its readout flipped."""
    return cf.toy_flow(s=S, flip="readout")


def both_flows() -> dict[str, cf.models.ToyFlow]:
    """Curl flow and gradient flow."""
    return {"curl": curl_flow(), "gradient": curl_flow().gradient_flow()}


# ------------------------------------------------------------------------------------------------- portraits


@dataclass(frozen=True)
class Orbits:
    """An orbit of either flow from the same start, and a closed one of curl flow."""

    gradient: cf.Trajectory
    curl: cf.Trajectory
    closed: cf.Trajectory

    def to_xarray(self) -> xr.Dataset:
        """States and losses of the two."""
        both = [self.gradient.to_xarray(), self.curl.to_xarray()]
        return xr.concat(both, xr.Variable("flow", ["gradient", "curl"]), combine_attrs="drop")


def compute_portraits(*_: Any) -> Orbits:
    """Fig. 1a and 1c: the same start, beside the stable manifold of the gradient flow's saddle."""
    curl, start, inside = curl_flow(), jnp.array([-1.8, 1.4]), jnp.array([0.7, 0.0])
    options: dict[str, Any] = {"ts": np.linspace(0.0, 12.0, 2001), "rtol": 1e-11, "atol": 1e-13}
    return Orbits(
        gradient=cf.integrate(curl.gradient_flow(), start, 12.0, **options),
        curl=cf.integrate(curl, start, 12.0, **options),
        closed=cf.integrate(curl, inside, float(curl.period(inside))),
    )


def draw_portraits(orbits: Orbits, out: Path) -> None:
    """Both portraits, and both losses."""
    curl = curl_flow()
    panels = cf.plot.compare_portraits(
        {"a  gradient flow": curl.gradient_flow(), "b  curl flow": curl},
        WINDOW,
        WINDOW,
        trajectories={
            "a  gradient flow": {"gradient flow": orbits.gradient},
            "b  curl flow": {"curl flow": orbits.curl, "closed orbit": orbits.closed},
        },
    )
    cf.plot.save_figure(panels["b  curl flow"].ax.figure, out / "fig1_portraits.pdf")
    with panel(out / "fig1_loss.pdf", aspect=0.7) as ax:
        cf.plot.loss({"gradient flow": orbits.gradient, "curl flow": orbits.curl}, ax=ax, inset=(0.0, 0.2))


def report_portraits(orbits: Orbits) -> str:
    """Where the losses ended."""
    ends = (float(orbit.loss()[-1]) for orbit in (orbits.gradient, orbits.curl))
    return "loss after 12 units of time: {:.1e} (gradient flow), {:.1e} (curl flow)".format(*ends)


# -------------------------------------------------------------------------------------- periods and stability


def compute_exact(quick: bool, *_: Any) -> xr.Dataset:
    """Periods and stability, with their closed forms."""
    periods, stability = measure_periods(8 if quick else 24), measure_stability(21 if quick else 61)
    return xr.merge([periods, stability])


def measure_periods(count: int) -> xr.Dataset:
    """Return times of orbits through (r, 0), for r up to just below the separatrix at √(2s), beside the exact period."""
    flow, radii = curl_flow(), np.sqrt(2 * S) * np.tanh(np.linspace(0.1, 3.2, count))
    measured = [cf.orbits.return_time(flow, jnp.array([r, 0.0]), 200.0) for r in radii]
    exact = [float(flow.period(jnp.array([r, 0.0]))) for r in radii]
    return xr.Dataset(
        {"period": ("radius", measured), "exact_period": ("radius", exact)}, coords={"radius": radii}
    )


def measure_stability(count: int) -> xr.Dataset:
    """Kind and transverse eigenvalue along the branch w1 > 0 of the solution manifold, beside w1² − w2²."""
    flow, w1 = curl_flow(), np.geomspace(0.4, 2.5, count)
    points = [cf.classify(flow, jnp.array([w, S / w])) for w in w1]
    across = [point.eigenvalues[np.argmax(np.abs(point.eigenvalues))].real for point in points]
    return xr.Dataset(
        {
            "transverse_eigenvalue": ("w1_on_manifold", across),
            "exact_transverse_eigenvalue": ("w1_on_manifold", w1**2 - (S / w1) ** 2),
            "kind": ("w1_on_manifold", [str(point.kind) for point in points]),
        },
        coords={"w1_on_manifold": w1},
    )


def draw_exact(results: xr.Dataset, out: Path) -> None:
    """Measured periods and transverse eigenvalues, as points over the exact curves."""
    with cf.plot.paper_style(columns=2, aspect=0.36):
        figure, (left, right) = plt.subplots(1, 2)
        draw_periods(left, results)
        draw_stability(right, results)
        letter_panels([left, right])
        cf.plot.save_figure(figure, out / "fig1_exact.pdf")


def draw_periods(ax: Axes, periods: xr.Dataset) -> None:
    """Panel a: the period grows without bound towards the separatrix, which the paper misplaces."""
    r = np.linspace(0.0, np.sqrt(2 * S) * 0.99999, 2000)
    ax.plot(
        r, 4 * np.pi / np.sqrt(4 * S**2 - r**4), color=style.BLACK, label=r"exact, $4\pi/\sqrt{4s^2 - r^4}$"
    )
    ax.plot(periods.radius, periods.period, "o", color=style.BLUE, markersize=3, label="measured")
    ax.axvline(
        np.sqrt(2 * S),
        color=style.VERMILION,
        linewidth=0.9,
        linestyle="dotted",
        label="separatrix, $r^2 = 2s$",
    )
    ax.axvline(
        np.sqrt(S),
        color=style.GREY,
        linewidth=0.9,
        linestyle=(0, (4, 2)),
        label="printed in the paper, $r^2 = s$",
    )
    ax.set(xlabel="radius $r$ of the orbit", ylabel="period $T$", ylim=(0, 45), xlim=(0, 1.6))
    ax.legend(loc="upper left")


def draw_stability(ax: Axes, stability: xr.Dataset) -> None:
    """Panel b: half of the solution manifold attracts."""
    w1 = stability.w1_on_manifold
    ax.axhline(0.0, color=style.GREY, linewidth=0.6)
    ax.plot(w1, stability.exact_transverse_eigenvalue, color=style.BLACK, label="exact, $w_1^2 - w_2^2$")
    for name, face in (("stable node", "black"), ("unstable node", "white")):
        here = stability.kind == name
        look = {
            "markersize": 3.2,
            "markerfacecolor": face,
            "markeredgecolor": "black",
            "markeredgewidth": 0.7,
        }
        ax.plot(w1[here], stability.transverse_eigenvalue[here], "o", label=f"computed, {name}", **look)
    ax.set(xlabel="$w_1$ along the solution manifold", ylabel="eigenvalue across it", xscale="log")
    ax.set_xticks([0.5, 1.0, 2.0], ["0.5", "1", "2"])
    ax.minorticks_off()
    ax.legend(loc="upper left")


def report_exact(results: xr.Dataset) -> str:
    """How far measured numbers are from exact ones."""
    period_error = float(np.abs(results.period / results.exact_period - 1).max())
    eigenvalue_error = float(
        np.abs(results.transverse_eigenvalue - results.exact_transverse_eigenvalue).max()
    )
    return (
        f"periods at {results.sizes['radius']} radii: largest relative error {period_error:.1e}\n"
        f"eigenvalues across the manifold: largest error {eigenvalue_error:.1e}"
    )


# --------------------------------------------------------------------------------------------------- the race


def compute_race(quick: bool, *_: Any) -> xr.Dataset:
    """Exact settling times over the window, and integrated ones from random starts."""
    return xr.merge([map_race(81 if quick else 401), check_race(40 if quick else 400)])


def map_race(resolution: int) -> xr.Dataset:
    """Exact settling times of both flows over a grid of starts."""
    axis = np.linspace(*WINDOW, resolution)
    starts = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    times = {
        f"{name}_settling_time": np.asarray(jax.vmap(flow.settling_time, (0, None))(starts, ERROR)).reshape(
            resolution, resolution
        )
        for name, flow in both_flows().items()
    }
    return xr.Dataset(
        {name: (("w2", "w1"), value) for name, value in times.items()}, coords={"w1": axis, "w2": axis}
    )


def check_race(count: int) -> xr.Dataset:
    """Settling times of integrated orbits from random starts, in one batch for each flow, beside the exact ones."""
    starts = jax.random.uniform(jax.random.key(0), (count, 2), jnp.float64, *WINDOW)
    variables: dict[str, Any] = {"start": (("check", "coordinate"), np.asarray(starts))}
    for name, flow in both_flows().items():
        orbits = cf.integrate(
            flow, starts, 40.0, batch=True, ts=np.linspace(0, 40, 8001), rtol=1e-10, atol=1e-12
        )
        errors = np.sqrt(2 * np.asarray(orbits.loss()))
        exact = np.asarray(jax.vmap(flow.settling_time, (0, None))(starts, ERROR))
        variables[f"{name}_check"] = ("check", [settling(orbits.ts, error) for error in errors.T])
        variables[f"{name}_check_exact"] = ("check", exact)
    return xr.Dataset(variables)


def settling(times: np.ndarray, error: np.ndarray) -> float:
    """When the error last falls through the threshold, interpolated in its logarithm; infinity if it has not yet."""
    above = np.flatnonzero(error > ERROR)
    if not len(above):
        return 0.0
    last = above[-1]
    if last == len(times) - 1:
        return np.inf
    share = np.log(error[last] / ERROR) / np.log(error[last] / max(error[last + 1], 1e-300))
    return float(times[last] + share * (times[last + 1] - times[last]))


def draw_race(race: xr.Dataset, out: Path) -> None:
    """Log of the ratio of settling times over starts; where curl flow never settles, hatched."""
    curl, gradient = race.curl_settling_time.values, race.gradient_settling_time.values
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log10(np.where(np.isfinite(curl), gradient / curl, np.nan))
    with cf.plot.paper_style(columns=1, aspect=1.12):
        figure, ax = plt.subplots()
        # From the saddle's stable manifold gradient flow never arrives: an infinite ratio, drawn as the scale's end.
        image = ax.pcolormesh(race.w1, race.w2, np.clip(ratio, -1, 1), cmap="PuOr", rasterized=True)
        ax.contour(race.w1, race.w2, np.isfinite(curl), levels=[0.5], colors="black", linewidths=0.8)
        ax.contourf(race.w1, race.w2, ~np.isfinite(curl), levels=[0.5, 1.5], colors="none", hatches=["////"])
        draw_hyperbola(ax, S, style.VERMILION, "solid", "solution manifold")
        draw_hyperbola(
            ax, np.sqrt(2) * S, "black", "dashed", r"$|w_1 w_2| = \sqrt{2}\, s$: equal final rates"
        )
        draw_hyperbola(ax, -np.sqrt(2) * S, "black", "dashed", None)
        ax.fill_between(
            [], [], facecolor="none", edgecolor="black", hatch="////", label="curl flow never settles"
        )
        ax.set(xlim=WINDOW, ylim=WINDOW, aspect="equal", xlabel="$w_1(0)$", ylabel="$w_2(0)$")
        label = r"$\log_{10}$ (gradient flow's time / curl flow's time)"
        figure.colorbar(image, ax=ax, shrink=0.75, aspect=30, extend="both", label=label)
        figure.legend(loc="outside lower center")
        cf.plot.save_figure(figure, out / "fig1_race.pdf")


def draw_hyperbola(ax: Axes, product: float, colour: str, dash: str, label: str | None) -> None:
    """Both branches of w1 w2 = product inside the window."""
    w1 = np.linspace(abs(product) / WINDOW[1], WINDOW[1], 400)
    for side in (1.0, -1.0):
        ax.plot(side * w1, side * product / w1, color=colour, linewidth=1.2, linestyle=dash, label=label)
        label = None


def report_race(results: xr.Dataset) -> str:
    """From how many starts curl flow settles, and is the faster; and how well integration agrees."""
    curl, gradient = results.curl_settling_time.values, results.gradient_settling_time.values
    settles = np.isfinite(curl)
    faster = settles & (curl < gradient)
    return "\n".join(
        [
            f"share of starts in the window from which curl flow settles: {settles.mean():.3f}",
            f"share of starts from which it settles faster than gradient flow: {faster.mean():.3f}",
            *(report_check(results, name) for name in ("curl", "gradient")),
        ]
    )


def report_check(results: xr.Dataset, name: str) -> str:
    """How far integrated settling times of one flow are from exact ones."""
    measured, exact = results[f"{name}_check"].values, results[f"{name}_check_exact"].values
    in_time = exact < 39.0
    worst = np.abs(measured[in_time] - exact[in_time]).max()
    wrong = int((np.isfinite(measured) != (exact < 40.0)).sum())
    return f"{name} flow, {len(exact)} integrated starts: largest error of a settling time {worst:.1e}, {wrong} misjudged"


PARTS = {
    "portraits": Part(compute_portraits, draw_portraits, report_portraits),
    "exact": Part(compute_exact, draw_exact, report_exact),
    "race": Part(compute_race, draw_race, report_race),
}

if __name__ == "__main__":
    run_parts("fig1_toy", __doc__, PARTS)
