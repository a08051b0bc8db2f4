"""Figure 1 of the paper, the two-neuron model, and what its exact solution adds.

    python studies/fig1_toy.py [--quick] [--out FOLDER]

Writes four figures and `fig1_toy.nc`, and prints every measured number beside its exact value:

- fig1_portraits.pdf  the paper's Fig. 1a: gradient flow beside curl flow, from the same start;
- fig1_loss.pdf       the paper's Fig. 1c: their losses against time, with the inset;
- fig1_exact.pdf      periods and stability measured, over their closed forms; the separatrix at w1² + w2² = 2s, where the
                      paper prints s;
- fig1_race.pdf       which starts reach the error 10⁻³ faster under curl flow, from the closed form, checked by integration.
"""

import argparse
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import matplotlib as mpl  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

import curlflow as cf  # noqa: E402
from curlflow.plot import style  # noqa: E402

S = 1.0
ERROR = 1e-3
WINDOW = (-2.5, 2.5)
CURL = cf.toy_flow(s=S, flip="readout")
GRADIENT = CURL.gradient_flow()


def main() -> None:
    """Compute, draw and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="coarser grids; the same figures")
    parser.add_argument("--out", type=Path, default=Path("out/fig1_toy"), help="folder for figures and data")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    draw_portraits(options.out)
    periods = measure_periods(8 if options.quick else 24)
    stability = measure_stability(21 if options.quick else 61)
    draw_exact(periods, stability, options.out)
    race = compute_race(81 if options.quick else 401)
    checks = check_race(40 if options.quick else 400)
    draw_race(race, options.out)
    results = xr.merge([periods, stability, race, checks], compat="no_conflicts", join="outer")
    results.to_netcdf(options.out / "fig1_toy.nc", engine="h5netcdf")
    report(results)
    print(f"Wrote {', '.join(sorted(path.name for path in options.out.iterdir()))} to {options.out}/.")


def draw_portraits(out: Path) -> None:
    """Fig. 1a and 1c: the same start, beside the stable manifold of the gradient flow's saddle."""
    start, times = jnp.array([-1.6, 1.5]), np.linspace(0.0, 12.0, 2001)
    orbits = {
        "gradient flow": cf.integrate(GRADIENT, start, 12.0, ts=times, rtol=1e-11, atol=1e-13),
        "curl flow": cf.integrate(CURL, start, 12.0, ts=times, rtol=1e-11, atol=1e-13),
    }
    inside = cf.integrate(CURL, jnp.array([0.7, 0.0]), float(CURL.period(jnp.array([0.7, 0.0]))))
    panels = cf.plot.compare_portraits(
        {"a  gradient flow": GRADIENT, "b  curl flow": CURL},
        WINDOW,
        WINDOW,
        trajectories={
            "a  gradient flow": {"gradient flow": orbits["gradient flow"]},
            "b  curl flow": {"curl flow": orbits["curl flow"], "closed orbit": inside},
        },
    )
    cf.plot.save_figure(panels["b  curl flow"].ax.figure, out / "fig1_portraits.pdf")
    with cf.plot.paper_style(aspect=0.7):
        figure, ax = plt.subplots()
        cf.plot.loss(orbits, ax=ax, inset=(0.0, 3.0))
        cf.plot.save_figure(figure, out / "fig1_loss.pdf")


def measure_periods(count: int) -> xr.Dataset:
    """Return times of orbits through (r, 0), for r up to just below the separatrix at √(2s), beside the exact period."""
    radii = np.sqrt(2 * S) * np.tanh(np.linspace(0.1, 3.2, count))
    measured = [cf.orbits.return_time(CURL, jnp.array([r, 0.0]), 200.0) for r in radii]
    exact = [float(CURL.period(jnp.array([r, 0.0]))) for r in radii]
    return xr.Dataset(
        {"period": ("radius", measured), "exact_period": ("radius", exact)}, coords={"radius": radii}
    )


def measure_stability(count: int) -> xr.Dataset:
    """Kind and transverse eigenvalue along the branch w1 > 0 of the solution manifold, beside w1² − w2²."""
    w1 = np.geomspace(0.4, 2.5, count)
    points = [cf.classify(CURL, jnp.array([w, S / w])) for w in w1]
    across = [point.eigenvalues[np.argmax(np.abs(point.eigenvalues))].real for point in points]
    return xr.Dataset(
        {
            "transverse_eigenvalue": ("w1_on_manifold", across),
            "exact_transverse_eigenvalue": ("w1_on_manifold", w1**2 - (S / w1) ** 2),
            "kind": ("w1_on_manifold", [str(point.kind) for point in points]),
        },
        coords={"w1_on_manifold": w1},
    )


def compute_race(resolution: int) -> xr.Dataset:
    """Exact settling times of both flows over a grid of starts."""
    axis = np.linspace(*WINDOW, resolution)
    starts = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    times = {
        name: np.asarray(jax.vmap(flow.settling_time, (0, None))(starts, ERROR)).reshape(
            resolution, resolution
        )
        for name, flow in {"curl_settling_time": CURL, "gradient_settling_time": GRADIENT}.items()
    }
    return xr.Dataset(
        {name: (("w2", "w1"), value) for name, value in times.items()}, coords={"w1": axis, "w2": axis}
    )


def check_race(count: int) -> xr.Dataset:
    """Settling times of integrated orbits from random starts, in one batch for each flow, beside the exact ones."""
    starts = jax.random.uniform(jax.random.key(0), (count, 2), jnp.float64, *WINDOW)
    variables: dict[str, Any] = {"start": (("check", "coordinate"), np.asarray(starts))}
    for name, flow in {"curl": CURL, "gradient": GRADIENT}.items():
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


def draw_exact(periods: xr.Dataset, stability: xr.Dataset, out: Path) -> None:
    """Measured periods and transverse eigenvalues, as points over the exact curves."""
    with cf.plot.paper_style(columns=2, aspect=0.36):
        figure, (left, right) = plt.subplots(1, 2)
        draw_periods(left, periods)
        draw_stability(right, stability)
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
    ax.set_title("a", loc="left", fontweight="bold")
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
    ax.set_title("b", loc="left", fontweight="bold")
    ax.legend(loc="upper left")


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


def report(results: xr.Dataset) -> None:
    """Print what was found."""
    period_error = float(np.abs(results.period / results.exact_period - 1).max())
    eigenvalue_error = float(
        np.abs(results.transverse_eigenvalue - results.exact_transverse_eigenvalue).max()
    )
    curl, gradient = results.curl_settling_time.values, results.gradient_settling_time.values
    settles = np.isfinite(curl)
    print(f"periods at {results.sizes['radius']} radii: largest relative error {period_error:.1e}")
    print(f"eigenvalues across the manifold: largest error {eigenvalue_error:.1e}")
    print(f"share of starts in the window from which curl flow settles: {settles.mean():.3f}")
    print(
        f"share of starts from which it settles faster than gradient flow: {(settles & (curl < gradient)).mean():.3f}"
    )
    for name in ("curl", "gradient"):
        measured, exact = results[f"{name}_check"].values, results[f"{name}_check_exact"].values
        in_time = exact < 39.0
        worst = np.abs(measured[in_time] - exact[in_time]).max()
        wrong = int((np.isfinite(measured) != (exact < 40.0)).sum())
        print(
            f"{name} flow, {len(exact)} integrated starts: largest error of a settling time {worst:.1e}, {wrong} misjudged"
        )


if __name__ == "__main__":
    main()
