"""Figure 2 of the paper, the stability of the solution manifold of wide networks, and what its closed form adds.

    python studies/fig2_phase_diagrams.py [--quick] [--workers N] [--parts boundaries …] [--out FOLDER]

Each part writes figures and its numbers (.nc), and prints every measured number beside its exact value:

- boundaries   fig2_boundaries.pdf   the paper's Fig. 2: stability over (c, αh) and over (c, αr), with the ratios at which
                                     half of the networks of a finite size are unstable;
               fig2_mixed.pdf        beyond it: the boundary with flips in both layers, and for other variance ratios κ;
- densities    fig2_densities.pdf    eigenvalues of sampled networks under the limiting law, for six (c, αh, αr);
- finite_size  fig2_finite_size.pdf  probability of instability against c for growing M, and its collapse on one curve;
- covariance   fig2_covariance.pdf   input covariance changes the rates but not the stability.

Cost on two cores: 6 minutes; with `--quick`: 50 seconds.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import xarray as xr
from matplotlib.axes import Axes

import curlflow as cf
from curlflow.plot import style
from shared.figures import letter_panels, panel
from shared.parts import Part, run_parts

# (c, αh, αr): hidden flips, stable; readout flips, just stable; a gap with an atom in it; readout flips, unstable; flips in
# both layers; four bands and two atoms.
LAWS = [
    (0.25, 0.5, 0.0),
    (0.6, 0.0, 0.085),
    (2.0, 0.3, 0.0),
    (0.5, 0.0, 0.3),
    (0.3, 0.4, 0.2),
    (5.0, 0.4, 0.3),
]
FRACTIONS = {"hidden": [0.1, 0.3, 0.5, 0.7, 0.9], "readout": [0.1, 0.15, 0.2, 0.3, 0.4]}
ALPHA_H = 0.5
DASHED = (0, (4, 1.5))


# ------------------------------------------------------------------------------------------------ both panels


def compute_boundaries(quick: bool, *_: Any) -> xr.Dataset:
    """Where half of the networks of one size are unstable."""
    return measure_halves(60 if quick else 200, samples=40 if quick else 200)


def measure_halves(M: int, samples: int) -> xr.Dataset:
    """The ratio at which half of the networks with M inputs are unstable: sampled, predicted, and in the limit."""
    variables = {}
    for layer, fractions in FRACTIONS.items():
        pairs = [(alpha, 0.0) if layer == "hidden" else (0.0, alpha) for alpha in fractions]
        columns = {
            "half": [sampled_half(*pair, M, samples) for pair in pairs],
            "half_predicted": [predicted_half(*pair, M) for pair in pairs],
            "boundary": [float(cf.random_matrix.instability_window(*pair).lower) for pair in pairs],
        }
        variables |= {f"{layer}_{name}": (f"{layer}_fraction", column) for name, column in columns.items()}
    coordinates = {f"{layer}_fraction": fractions for layer, fractions in FRACTIONS.items()}
    return xr.Dataset(variables, coordinates, attrs={"inputs_of_sampled_networks": M})


def sampled_half(alpha_h: float, alpha_r: float, M: int, samples: int) -> float:
    """Where the median margin crosses zero, by interpolation between ratios beside the boundary."""
    ratios = float(cf.random_matrix.instability_window(alpha_h, alpha_r).lower) * np.array(
        [0.9, 1.0, 1.1, 1.25, 1.5]
    )
    medians = []
    for i, c in enumerate(ratios):
        sample = cf.manifold.sample_stability(
            jax.random.key(i), N=round(M / c), M=M, alpha_h=alpha_h, alpha_r=alpha_r, samples=samples
        )
        medians.append(np.median(sample.margins))
    return float(np.interp(0.0, -np.array(medians), ratios))


def predicted_half(alpha_h: float, alpha_r: float, M: int) -> float:
    """Where the predicted mean margin crosses zero."""
    ratios = float(cf.random_matrix.instability_window(alpha_h, alpha_r).lower) * np.linspace(0.9, 2.0, 400)
    margin = cf.random_matrix.finite_size_margin(M / ratios, M, alpha_h, alpha_r)
    return float(np.interp(0.0, -np.asarray(margin.mean), ratios))


def draw_boundaries(halves: xr.Dataset, out: Path) -> None:
    """Fig. 2, and what lies beyond it."""
    draw_single(halves, out)
    draw_mixed(out)


def draw_single(halves: xr.Dataset, out: Path) -> None:
    """Fig. 2: stability over c and the flipped fraction of either layer."""
    alpha = np.linspace(0.002, 1.0, 500)
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2)
        left.plot([], [], color=style.BLACK, label="closed form, $M, N \\to \\infty$")
        c = np.linspace(0.1, 1.0, 500)
        margin = cf.random_matrix.stability_margin(c, alpha[:, None], 0.0)
        cf.plot.stability_diagram(c, alpha, margin, layer="hidden", ax=left)
        mark_ends(left)
        c = np.geomspace(0.01, 10.0, 500)
        margin = cf.random_matrix.stability_margin(c, 0.0, alpha[:, None])
        cf.plot.stability_diagram(c, alpha, margin, layer="readout", ax=right)
        right.set(xscale="log")
        for ax, layer in ((left, "hidden"), (right, "readout")):
            mark_halves(ax, halves, layer)
        letter_panels([left, right])
        for ax, x, y, word in (
            (left, 0.17, 0.45, "stable"),
            (left, 0.7, 0.3, "unstable"),
            (right, 0.04, 0.12, "stable"),
            (right, 0.8, 0.7, "unstable"),
        ):
            ax.text(x, y, word, ha="center")
        left.legend(loc="upper right")
        cf.plot.save_figure(figure, out / "fig2_boundaries.pdf")


def mark_ends(ax: Axes) -> None:
    """The exact ends of the hidden boundary."""
    few, all_inputs = (float(cf.stability_boundary(alpha_h=alpha)) for alpha in (0.0, 1.0))
    ax.plot([few, all_inputs], [0.0, 1.0], "o", color=style.BLACK, markersize=3.5, clip_on=False, zorder=5)
    ax.annotate("1/4", (all_inputs, 1.0), xytext=(-5, -2), textcoords="offset points", ha="right", va="top")
    ax.annotate("2/3", (few, 0.0), xytext=(3, 4), textcoords="offset points")


def mark_halves(ax: Axes, halves: xr.Dataset, layer: str) -> None:
    """Ratios at which half of the networks of one size are unstable."""
    alpha, half = (
        halves[f"{layer}_fraction"],
        f"half unstable at $M = {halves.attrs['inputs_of_sampled_networks']}$",
    )
    look: dict[str, Any] = {"color": style.VERMILION, "linewidth": 0.9, "markersize": 3}
    ax.plot(halves[f"{layer}_half_predicted"], alpha, **look, linestyle=DASHED, label=f"{half}, predicted")
    ax.plot(halves[f"{layer}_half"], alpha, "D", **look, label=f"{half}, sampled")


def report_boundaries(halves: xr.Dataset) -> str:
    """Boundaries, and where half of the networks are unstable: predicted and sampled."""
    size, lines = halves.attrs["inputs_of_sampled_networks"], []
    for layer in FRACTIONS:
        boundary, predicted, sampled = (
            halves[f"{layer}_{name}"].values.round(4) for name in ("boundary", "half_predicted", "half")
        )
        lines.append(
            f"{layer} boundary {boundary}; half unstable at M = {size}: predicted {predicted}, sampled {sampled}"
        )
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ both layers, any κ


def draw_mixed(out: Path) -> None:
    """The boundary surface, as curves of constant c, and the boundaries of single layers for other variance ratios."""
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2)
        draw_surface(left)
        draw_variance_ratios(right)
        letter_panels([left, right])
        cf.plot.save_figure(figure, out / "fig2_mixed.pdf")


def draw_surface(ax: Axes) -> None:
    """Panel a: for several c, the critical αr as a function of αh."""
    alpha_h = np.geomspace(1e-5, 1.0, 400)
    places = {0.02: 0.5, 0.05: 0.5, 0.1: 0.5, 0.15: 0.5, 0.2: 0.5, 0.25: 0.4, 0.3: 0.25, 0.4: 0.08}
    for c, place in places.items():
        critical = np.asarray(cf.random_matrix.critical_alpha(c, layer="readout", other=alpha_h))
        ax.plot(alpha_h, critical, color=style.BLACK, linewidth=0.9)
        box = {"facecolor": "white", "linewidth": 0, "pad": 0.8}
        height = np.interp(place, alpha_h, critical)
        ax.text(place, height, f"{c:g}", fontsize=7, ha="center", va="center", bbox=box)
    ax.text(0.5, 0.455, "boundary at the $c = M/N$\nwritten on it; stable below", ha="center", va="center")
    ax.set(
        xlim=(0, 1),
        ylim=(0, 0.5),
        xlabel=r"fraction $\alpha_h$ of inputs flipped",
        ylabel=r"fraction $\alpha_r$ of hidden units flipped",
    )


def draw_variance_ratios(ax: Axes) -> None:
    """Panel b: for κ > 1, readout flips leave a window of unstable ratios, and above it networks are stable again."""
    alpha = np.linspace(1e-6, 1.0, 2001)
    for kappa, colour in (
        (0.25, style.ORANGE),
        (1.0, style.BLACK),
        (2.0, style.BLUE),
        (4.0, style.PURPLE),
    ):
        hidden = cf.stability_boundary(alpha_h=alpha, kappa=kappa)
        ax.plot(hidden, alpha, color=colour, label=rf"$\kappa = {kappa:g}$")
        window = cf.random_matrix.instability_window(0.0, alpha, kappa)
        ends = np.concatenate([np.asarray(window.lower)[::-1], np.asarray(window.upper)])
        shown = np.isfinite(ends) & (ends > 1e-4)
        fractions = np.concatenate([alpha[::-1], alpha])
        ax.plot(ends[shown], fractions[shown], color=colour, linestyle=DASHED)
    ax.plot([], [], color=style.GREY, label=r"inputs flipped, $\alpha_h$")
    ax.plot([], [], color=style.GREY, linestyle=DASHED, label=r"hidden units flipped, $\alpha_r$")
    ax.set(
        xscale="log",
        xlim=(0.01, 30),
        ylim=(0, 1),
        xlabel="compression ratio $c = M/N$",
        ylabel="flipped fraction of one layer",
    )
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


# -------------------------------------------------------------------------------------------------- densities


def compute_densities(quick: bool, *_: Any) -> xr.Dataset:
    """Eigenvalues of one sampled X for each law, and how far they and their extremes are from the law."""
    M = 600 if quick else 2000
    eigenvalues = [sampled_eigenvalues(*law, M) for law in LAWS]
    pairs = list(zip(eigenvalues, LAWS, strict=True))
    return xr.Dataset(
        {
            "eigenvalues": (("law", "index"), eigenvalues),
            "kolmogorov_smirnov": ("law", [distance(*pair) for pair in pairs]),
            "edge_error": ("law", [edge_error(*pair) for pair in pairs]),
        },
        coords={
            name: ("law", list(column))
            for name, column in zip(("c", "alpha_h", "alpha_r"), zip(*LAWS, strict=True), strict=True)
        },
    )


def sampled_eigenvalues(c: float, alpha_h: float, alpha_r: float, M: int) -> np.ndarray:
    """Eigenvalues of D1 + W1ᵀ D2 W1: a network with ‖W2‖ = 1."""
    N = round(M / c)
    W1 = np.asarray(cf.ensembles.gaussian_weights(jax.random.key(0), N=N, M=M).W1)
    d1, d2 = cf.ensembles.sign_pattern(M, fraction=alpha_h), cf.ensembles.sign_pattern(N, fraction=alpha_r)
    return np.linalg.eigvalsh(np.diag(d1) + W1.T @ (np.asarray(d2)[:, None] * W1))


def off_atoms(eigenvalues: np.ndarray) -> np.ndarray:
    """Which eigenvalues are not on an atom."""
    return np.abs(np.abs(eigenvalues) - 1) > 1e-9


def distance(eigenvalues: np.ndarray, law: tuple[float, float, float]) -> float:
    """Kolmogorov–Smirnov distance between sampled eigenvalues and the law, away from the atoms, where both jump."""
    count, bulk = eigenvalues.size, off_atoms(eigenvalues)
    fraction = np.asarray(cf.random_matrix.spectral_cdf(eigenvalues, *law))[bulk]
    below, up_to = np.arange(count)[bulk] / count, np.arange(1, count + 1)[bulk] / count
    return float(max(np.max(up_to - fraction), np.max(fraction - below)))


def edge_error(eigenvalues: np.ndarray, law: tuple[float, float, float]) -> float:
    """How far the outermost eigenvalues are from the ends of the bulk, in units of its width times M^(−2/3)."""
    edges, bulk = np.asarray(cf.spectral_edges(*law)), eigenvalues[off_atoms(eigenvalues)]
    error = max(abs(bulk[0] - edges[0]), abs(bulk[-1] - edges[-1]))
    return float(error / (edges[-1] - edges[0]) * eigenvalues.size ** (2 / 3))


def draw_densities(spectra: xr.Dataset, out: Path) -> None:
    """Histograms under curves, one panel for each law."""
    with cf.plot.paper_style(columns=2, aspect=0.55):
        figure, axes = plt.subplots(2, 3)
        drawn = [
            draw_density(ax, law, values)
            for ax, law, values in zip(axes.flat, LAWS, spectra["eigenvalues"].values, strict=True)
        ]
        letter_panels(axes.flat)
        for ax, letter in zip(axes.flat, "abcdef", strict=True):
            ax.set_ylabel("density" if letter in "ad" else "")
            ax.set_xlabel("eigenvalue of $X$" if letter in "def" else "")
        figure.legend(
            [drawn[-1].bars, drawn[-1].curve, drawn[-1].atoms[0]],
            [f"one network, $M = {spectra.sizes['index']}$", "limiting density", "atom, with its mass"],
            loc="outside lower center",
            ncols=3,
        )
        cf.plot.save_figure(figure, out / "fig2_densities.pdf")


def draw_density(ax: Axes, law: tuple[float, float, float], eigenvalues: np.ndarray) -> Any:
    """One law: its density, edges and atoms over the eigenvalues of one network."""
    edges = np.asarray(cf.spectral_edges(*law))
    angle = np.linspace(0.0, np.pi, 400)
    # Points crowd at the edges of every band, and the curve is interrupted between bands.
    bands = [
        np.append((left + right) / 2 - (right - left) / 2 * np.cos(angle), np.nan)
        for left, right in edges.reshape(-1, 2)
    ]
    x = np.concatenate(bands)
    density = np.where(np.isnan(x), np.nan, cf.random_matrix.spectral_density(np.nan_to_num(x), *law))
    drawn = cf.plot.spectrum(
        eigenvalues, x, density, atoms=cf.random_matrix.spectral_atoms(*law), bins=50, ax=ax
    )
    ax.axvline(0.0, color=style.GREY, linewidth=0.6, linestyle=DASHED)
    ax.plot(edges, np.zeros_like(edges), "|", color=style.BLACK, markersize=7, clip_on=False)
    ax.set_title(rf"$c={law[0]:g},\ \alpha_h={law[1]:g},\ \alpha_r={law[2]:g}$", fontsize=7)
    return drawn


def report_densities(spectra: xr.Dataset) -> str:
    """How far the samples are from their laws."""
    return (
        f"Kolmogorov–Smirnov distances: {spectra.kolmogorov_smirnov.values.round(4)}\n"
        f"edge errors in units of M^(−2/3) times the width: {spectra.edge_error.values.round(2)}"
    )


# ------------------------------------------------------------------------------------------------ finite size


def compute_finite_size(quick: bool, *_: Any) -> xr.Dataset:
    """Sampled and predicted probabilities of instability."""
    if quick:
        return measure_probabilities((30, 60, 120), ratios=7, samples=100)
    return measure_probabilities((50, 100, 200, 400), ratios=13, samples=400)


def measure_probabilities(sizes: tuple[int, ...], ratios: int, samples: int) -> xr.Dataset:
    """Fraction of unstable networks around the boundary, beside what the fluctuations of the edge predict."""
    around = float(cf.stability_boundary(alpha_h=ALPHA_H)) * np.linspace(0.7, 1.4, ratios)
    hidden = np.array([[round(M / c) for c in around] for M in sizes])
    drawn = [
        [
            cf.manifold.sample_stability(jax.random.key(M), N=int(N), M=M, alpha_h=ALPHA_H, samples=samples)
            for N in row
        ]
        for M, row in zip(sizes, hidden, strict=True)
    ]
    M, shape = np.array(sizes)[:, None], ("inputs", "ratio")
    margin = cf.random_matrix.finite_size_margin(hidden, M, ALPHA_H, 0.0)
    return xr.Dataset(
        {
            "hidden_units": (shape, hidden),
            "probability": (shape, [[sample.probability for sample in row] for row in drawn]),
            "probability_error": (shape, [[sample.standard_error for sample in row] for row in drawn]),
            "predicted_probability": (
                shape,
                cf.random_matrix.instability_probability(hidden, M, ALPHA_H, 0.0),
            ),
            "standardised_margin": (shape, margin.mean / margin.standard_deviation),
        },
        coords={"inputs": list(sizes)},
    )


def draw_finite_size(probabilities: xr.Dataset, out: Path) -> None:
    """Against c the transition sharpens at the boundary; against the standardised margin all sizes agree."""
    looks = zip((style.ORANGE, style.VERMILION, style.GREEN, style.BLUE), "osD^", strict=True)
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        c = np.linspace(0.2, 0.45, 151)
        for M, (colour, marker) in zip(probabilities.inputs.values, looks, strict=False):
            here = probabilities.sel(inputs=M)
            predicted = cf.random_matrix.instability_probability(M / c, M, ALPHA_H, 0.0)
            left.plot(c, predicted, color=colour, linewidth=0.9)
            look: dict[str, Any] = {"color": colour, "fmt": marker, "markersize": 3, "elinewidth": 0.7}
            measured = (here.probability, here.probability_error)
            left.errorbar(M / here.hidden_units, *measured, **look, label=f"$M = {M}$")
            right.errorbar(here.standardised_margin, *measured, **look)
        boundary = float(cf.stability_boundary(alpha_h=ALPHA_H))
        left.axvline(boundary, color=style.BLACK, linewidth=0.9, linestyle="dotted", label="boundary")
        left.set(xlabel="compression ratio $c = M/N$", ylabel="probability of instability")
        left.legend(loc="upper left")
        z = np.linspace(-5, 5, 201)
        right.plot(z, scipy.stats.norm.cdf(-z), color=style.BLACK, linewidth=0.9)
        right.set(xlim=(-5, 5), xlabel="mean margin / its standard deviation")
        letter_panels([left, right])
        cf.plot.save_figure(figure, out / "fig2_finite_size.pdf")


def report_finite_size(probabilities: xr.Dataset) -> str:
    """How far sampled probabilities are from predicted ones."""
    error = probabilities.probability - probabilities.predicted_probability
    spread = float(np.sqrt(((error / probabilities.probability_error) ** 2).mean()))
    return f"probabilities of instability: root mean square deviation {spread:.2f} standard errors"


# ------------------------------------------------------------------------------------------------- covariance


def compute_covariance(quick: bool, *_: Any) -> xr.Dataset:
    """Leading transverse eigenvalues of networks beside the boundary, for white inputs and for two other covariances."""
    M, count = 24, 40 if quick else 400
    names = ["identity", "power law", "finite sample"]
    leading = np.empty((len(names), count))
    d1 = cf.ensembles.sign_pattern(M, fraction=0.5)
    for i in range(count):
        weights_key, inputs_key = jax.random.split(jax.random.key(i))
        N = 60 + 15 * (i % 5)
        W = cf.ensembles.gaussian_weights(weights_key, N=N, M=M, P=2)
        covariances = (
            None,
            jnp.diag(jnp.arange(1.0, M + 1) ** -2.0),
            cf.ensembles.sample_covariance(inputs_key, M=M, samples=2 * M),
        )
        for j, C in enumerate(covariances):
            flow = cf.CurlFlow(W.end_to_end, d1, jnp.ones(N), C)
            leading[j, i] = cf.manifold.transverse_spectrum(flow, W).leading
    return xr.Dataset({"leading_eigenvalue": (("covariance", "network"), leading)}, {"covariance": names})


def draw_covariance(covariance: xr.Dataset, out: Path) -> None:
    """The leading eigenvalue against its value for white inputs: their signs agree, in every network."""
    white = covariance.leading_eigenvalue.sel(covariance="identity")
    with panel(out / "fig2_covariance.pdf", aspect=0.9) as ax:
        ax.axhline(0.0, color=style.GREY, linewidth=0.6)
        ax.axvline(0.0, color=style.GREY, linewidth=0.6)
        for name, colour, marker in (("power law", style.BLUE, "o"), ("finite sample", style.ORANGE, "^")):
            other = covariance.leading_eigenvalue.sel(covariance=name)
            ax.plot(white, other, marker, color=colour, markersize=3, markeredgewidth=0, label=name)
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.set(xlabel="leading eigenvalue, white inputs", ylabel="leading eigenvalue, other covariance")
        ax.legend(loc="upper left")


def report_covariance(covariance: xr.Dataset) -> str:
    """How many networks are unstable, and whether that depends on the covariance."""
    unstable = covariance.leading_eigenvalue > 0
    white = unstable.sel(covariance="identity")
    return (
        f"{unstable.sizes['network']} networks, {int(white.sum())} unstable; "
        f"verdicts changed by a covariance: {int((unstable != white).sum())}"
    )


PARTS = {
    "boundaries": Part(compute_boundaries, draw_boundaries, report_boundaries),
    "densities": Part(compute_densities, draw_densities, report_densities),
    "finite_size": Part(compute_finite_size, draw_finite_size, report_finite_size),
    "covariance": Part(compute_covariance, draw_covariance, report_covariance),
}

if __name__ == "__main__":
    run_parts("fig2_phase_diagrams", __doc__, PARTS)
