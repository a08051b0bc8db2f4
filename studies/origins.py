"""Where curl terms come from: Section 2 and Appendix A of the paper, every proposition computed.

    python studies/origins.py [--quick] [--workers N] [--parts metrics …] [--out FOLDER]

Each part writes a figure and its numbers (.nc), and prints what the paper states of every rule beside what its Jacobians say:

- metrics    origins_metrics.pdf    how far every rule is from a gradient: in the Euclidean metric, a diagonal one, any
                                    constant one;
- dynamics   origins_dynamics.pdf   the limit of fast neurons, and how learning with decay ends as the input grows;
- helmholtz  origins_helmholtz.pdf  an excitatory and an inhibitory neuron: the velocity of the two synapses between them,
                                    split.

Cost on two cores: 2 minutes; with `--quick`: 1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.tree_util as jtu
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree
from matplotlib.axes import Axes

import curlflow as cf
from curlflow.plot import style
from shared.figures import letter_panels
from shared.parts import Part, run_parts

FLOOR = 1e-17  # where a residual of 0 is drawn
ENDS = ("fixed point", "neurons run away", "undecided")


def normal(seed: int, *shape: int) -> Array:
    """Independent standard normal numbers."""
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


# ------------------------------------------------------------------------------------------- propositions


class OneLayer(eqx.Module):
    """Curl flow of one layer while the other is held fixed."""

    flow: cf.CurlFlow
    fixed: Array
    layer: str = eqx.field(static=True)

    def __call__(self, t: Any, W: Array, args: Any = None) -> Array:
        state = cf.Weights(W, self.fixed) if self.layer == "W1" else cf.Weights(self.fixed, W)
        return getattr(self.flow(t, state), self.layer)


class NaturalGradient(eqx.Module):
    """Gradient flow on a two-layer network's loss, preconditioned by one positive matrix: the control."""

    flow: cf.CurlFlow
    G: Array

    def __call__(self, t: Any, W: cf.Weights, args: Any = None) -> cf.Weights:
        slope, unravel = jax.flatten_util.ravel_pytree(self.flow(t, W))
        return unravel(jnp.linalg.solve(self.G, slope))


@dataclass(frozen=True)
class Rule:
    """A learning rule, where it is looked at, and whether the paper calls it a gradient (None: it says nothing)."""

    name: str
    paper: bool | None
    system: Any
    points: PyTree


def rules(count: int) -> list[Rule]:
    """The rules of Appendix A and their special cases, each at so many random points."""
    N, M = 3, 2
    S, d1, d2 = normal(0, 1, M), np.array([1.0, -1.0]), np.array([1.0, 1.0, -1.0])
    weights = cf.Weights(normal(1, count, N, M), normal(2, count, 1, N))
    C = jnp.array([[1.0, 0.5], [0.5, 1.0]])
    root = normal(3, 9, 9)
    f, matrices, symmetric = 0.5 + jnp.abs(normal(4, N)), normal(5, count, N, N) / 8, normal(6, count, 6) / 8
    d, M_mixed = np.array([1.0, 1.0, -1.0]), np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0]])
    silent = f * (d > 0)
    X = normal(7, 3, 6)
    tied = cf.models.CircuitWeights(normal(8, count, 2, 3) / 2, normal(9, count, 2, 2) / 2)
    untied = cf.models.CircuitWeights(tied.feedforward, tied.to_inhibitory, normal(10, count, 2, 2) / 2)
    sym = cf.models.SymmetricWeights
    same, one = [1, 1], [1, 1, 1]
    white, first = cf.CurlFlow(S, d1, one), {"decay": 1.0, "order": 1}
    hidden, correlated = OneLayer(white, normal(12, 1, N), "W1"), cf.CurlFlow(S, d1, one, C)
    readout = OneLayer(cf.CurlFlow(S, same, d2), normal(11, N, M), "W2")
    natural = NaturalGradient(cf.CurlFlow(S, same, one), root @ root.T + jnp.eye(9))
    return [
        Rule("natural gradient (control)", None, natural, weights),
        Rule("A.1 curl descent, all signs +1", True, cf.CurlFlow(S, same, one), weights),
        Rule("A.1 curl descent, signs mixed", False, cf.CurlFlow(S, d1, d2), weights),
        Rule("A.1 readout layer alone, signs mixed", False, readout, weights.W2),
        Rule("A.1 hidden layer alone, white inputs", False, hidden, weights.W1),
        Rule(
            "A.1 hidden layer alone, correlated inputs",
            False,
            OneLayer(correlated, hidden.fixed, "W1"),
            weights.W1,
        ),
        Rule("A.2 mixed Hebbian, 1st order", False, cf.models.HebbianFlow(f, M=M_mixed, order=1), matrices),
        Rule("A.2 mixed Hebbian, exact", False, cf.models.HebbianFlow(f, M=M_mixed), matrices),
        Rule("A.2 W symmetric, M mixed", False, sym(cf.models.HebbianFlow(f, M=M_mixed)), symmetric),
        Rule("A.2 W symmetric, M = 11ᵀ", True, sym(cf.models.HebbianFlow(f)), symmetric),
        Rule("A.3 E–I, 1st order", False, cf.models.HebbianFlow(f, d, **first), matrices),
        Rule("A.3 E–I, exact", False, cf.models.HebbianFlow(f, d, decay=1.0), matrices),
        Rule("A.3 E–I, W symmetric, exact", False, sym(cf.models.HebbianFlow(f, d, decay=1.0)), symmetric),
        Rule(
            "A.3 I silent, W symmetric, 1st order",
            True,
            sym(cf.models.HebbianFlow(silent, d, **first)),
            symmetric,
        ),
        Rule(
            "A.3 I silent, W symmetric, exact",
            None,
            sym(cf.models.HebbianFlow(silent, d, decay=1.0)),
            symmetric,
        ),
        Rule("A.3 I silent, all W, 1st order", None, cf.models.HebbianFlow(silent, d, **first), matrices),
        Rule("A.4 circuit, tied, 3rd order", True, cf.models.SimilarityMatching(X, 2, 2, order=3), tied),
        Rule("A.4 circuit, tied, exact", None, cf.models.SimilarityMatching(X, 2, 2), tied),
        Rule("A.4 circuit, untied, exact", None, cf.models.SimilarityMatching(X, 2, 2, decay=1.0), untied),
    ]


def compute_metrics(quick: bool, *_: Any) -> xr.Dataset:
    """What the Jacobians of every rule say, and the circuit's printed objective, term by term."""
    return xr.merge([test_propositions(8 if quick else 60), compare_eq_45()])


def test_propositions(count: int) -> xr.Dataset:
    """For every rule: asymmetry, the best diagonal and the best constant metric."""
    listed = rules(count)
    found = [cf.is_gradient(rule.system, rule.points) for rule in listed]
    constant = [test.constant_metric for test in found]
    assert all(metric is not None for metric in constant)
    columns: dict[str, list[Any]] = {
        "paper": [{True: "gradient", False: "not", None: "–"}[rule.paper] for rule in listed],
        "is_gradient": [bool(test) for test in found],
        "asymmetry": [test.asymmetry for test in found],
        "diagonal_metric": [test.metric for test in found],
        "diagonal_residual": [test.metric_residual for test in found],
        "constant_metric": [metric.kind for metric in constant if metric],
        "constant_residual": [metric.residual for metric in constant if metric],
        "dimension": [metric.dimension for metric in constant if metric],
        "rank": [metric.rank for metric in constant if metric],
        "share_bound": [metric.share_bound() for metric in constant if metric],
    }
    return xr.Dataset(
        {name: ("rule", values) for name, values in columns.items()}, {"rule": [rule.name for rule in listed]}
    )


def draw_metrics(found: xr.Dataset, out: Path) -> None:
    """Every rule's distance from a gradient in three kinds of metric, on a logarithmic axis."""
    rows = np.arange(found.sizes["rule"])[::-1]
    marks = {
        "asymmetry": ("o", style.BLACK, "no metric, $\\Vert J - J^T\\Vert / \\Vert J\\Vert$"),
        "diagonal_residual": ("s", style.ORANGE, "best diagonal metric"),
        "constant_residual": ("D", style.BLUE, "best constant metric"),
    }
    with cf.plot.paper_style(columns=2, aspect=0.55):
        figure, ax = plt.subplots()
        ax.axvspan(FLOOR / 3, 1e-9, color="0.93", zorder=0)
        for offset, (name, (marker, colour, label)) in zip((0.22, 0.0, -0.22), marks.items(), strict=True):
            ax.plot(
                np.maximum(found[name], FLOOR),
                rows + offset,
                marker,
                color=colour,
                markersize=3.2,
                label=label,
            )
        for row, kind, dimension in zip(
            rows, found.constant_metric.values, found.dimension.values, strict=True
        ):
            text = {"positive": "positive", "indefinite": "indefinite", "none": "none"}[str(kind)]
            note = f"{text} ({dimension})" if kind != "none" else "none"
            ax.text(30.0, row, note, va="center", fontsize=7)
        ax.text(30.0, rows[0] + 1, "constant metrics", va="center", fontsize=7, fontweight="bold")
        for row in rows[:-1]:
            ax.axhline(row - 0.5, color="0.85", linewidth=0.4, zorder=0)
        ax.set_yticks(rows, [str(name) for name in found.rule.values])
        ax.set(xscale="log", xlim=(FLOOR / 3, 10.0), ylim=(-0.6, len(rows) - 0.4))
        ax.set_xlabel("relative asymmetry left (grey: none, up to rounding)")
        ax.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=3)
        cf.plot.save_figure(figure, out / "origins_metrics.pdf")


def compare_eq_45() -> xr.Dataset:
    """Ẇ of the circuit over −∇ of the printed objective, layer by layer, with all three layers counted: 1 if it is right."""
    flow = cf.models.SimilarityMatching(normal(7, 3, 6), 2, 2, order=3)
    A = normal(9, 2, 2) / 2
    W = cf.models.CircuitWeights(normal(8, 2, 3) / 2, A, A.T)
    velocity, slope = flow(0.0, W), jax.grad(flow.objective)(W)
    names = ("feedforward", "to_inhibitory", "from_inhibitory")
    ratios, rests = [], []
    for name in names:
        v, downhill = getattr(velocity, name), -getattr(slope, name)
        ratios.append(float(jnp.vdot(v, downhill) / jnp.vdot(downhill, downhill)))
        rests.append(float(jnp.abs(v - ratios[-1] * downhill).max()))
    return xr.Dataset(
        {"eq45_ratio": ("layer", ratios), "eq45_rest": ("layer", rests)}, {"layer": list(names)}
    )


def report_metrics(results: xr.Dataset) -> str:
    """The table of rules, and Eq. 45."""
    columns = "{:43s}{:9s}{:9s}{:>9s}  {:11s}{:11s}{:>3s}{:>5s}{:>9s} {}"
    heads = ("rule", "paper", "found", "asymmetry", "diagonal", "constant", "dim", "rank", "residual", "")
    lines = [columns.format(*heads)]
    for name in results.rule.values:
        row = {
            key: value.item() for key, value in results.sel(rule=name).data_vars.items() if value.size == 1
        }
        found = "gradient" if row["is_gradient"] else "not"
        flag = "<" if row["paper"] not in (found, "–") else ""
        kinds = (row["diagonal_metric"], row["constant_metric"], str(row["dimension"]), str(row["rank"]))
        numbers = f"{row['asymmetry']:.1e}", f"{row['constant_residual']:.1e}"
        lines.append(columns.format(str(name), row["paper"], found, numbers[0], *kinds, numbers[1], flag))
    lines.append("(<: against the paper's text)")
    for layer in results.layer.values:
        row = results.sel(layer=layer)
        ratio, rest = float(row.eq45_ratio), float(row.eq45_rest)
        lines.append(f"Eq. 45, {layer}: velocity = {ratio:+.6f} × (−∇), rest {rest:.0e}")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------- dynamics


def compute_dynamics(quick: bool, *_: Any) -> xr.Dataset:
    """The limit of fast neurons, and how learning ends."""
    neurons = measure_fast_neurons((0.04, 0.02, 0.01) if quick else (0.08, 0.04, 0.02, 0.01, 0.005))
    return xr.merge([neurons, follow_learning(3 if quick else 25, np.array([0.2, 0.4, 0.6, 0.8]))])


def learning_flows(seed: int, strength: float) -> dict[str, tuple[Any, PyTree]]:
    """One random instance of every kind of network, with decay 1, and a small random start."""
    N, rng = 4, np.random.default_rng(seed)
    f = strength * jnp.asarray(rng.normal(size=(N, 3)))
    W = jnp.asarray(rng.normal(size=(N, N))) / 20
    mask = rng.choice([-1.0, 1.0], (N, N))
    X = strength * jnp.asarray(rng.normal(size=(3, 3)))
    A = jnp.asarray(rng.normal(size=(2, 2))) / 2
    circuit = cf.models.CircuitWeights(jnp.asarray(rng.normal(size=(2, 3))) / 2, A, A.T)
    return {
        "excitatory": (cf.models.HebbianFlow(f, decay=1.0), W),
        "excitatory–inhibitory": (cf.models.HebbianFlow(f, [1, 1, -1, -1], decay=1.0), W),
        "mixed Hebbian": (cf.models.HebbianFlow(f, M=mask, decay=1.0), W),
        "circuit": (cf.models.SimilarityMatching(X, 2, 2, decay=1.0), circuit),
    }


class Ended(eqx.Module):
    """At rest, or the neurons about to run away."""

    flow: Any

    def __call__(self, t: Any, W: PyTree, args: Any) -> Array:
        speed = jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in jtu.tree_leaves(self.flow(t, W))]))
        return (speed < 1e-7) | (self.flow.neural_growth_rate(W) > -0.05)


def follow_learning(count: int, strengths: np.ndarray) -> xr.Dataset:
    """How learning ends, for several draws of every network and strengths of its input, and its largest exponents.

    A rest whose Jacobian has complex eigenvalues is approached in spirals, as no gradient flow in a positive metric does.
    """
    kinds = list(learning_flows(0, 1.0))
    ends = np.zeros((len(kinds), len(strengths), count), int)
    exponents = np.full((len(kinds), len(strengths), count, 2), np.nan)
    spirals = np.zeros(ends.shape, bool)
    for place in np.ndindex(ends.shape):
        flow, W = learning_flows(place[2], float(strengths[place[1]]))[kinds[place[0]]]
        orbit = cf.integrate(flow, W, 200.0, ts=[0.0, 200.0], stop=Ended(flow), rtol=1e-9)
        runs_away = float(flow.neural_growth_rate(orbit.final_state)) > -0.051
        ends[place] = 1 if runs_away else 0 if str(orbit.outcome).startswith("stopped") else 2
        if not runs_away:
            spectrum = cf.lyapunov_spectrum(flow, orbit.final_state, 2, T=50.0, Ttr=10.0, rtol=1e-7)
            exponents[place] = spectrum.exponents
            if ends[place] == 0:
                rates = cf.spectrum(flow, orbit.final_state).eigenvalues
                spirals[place] = np.abs(np.imag(rates)).max() > 1e-6
    return xr.Dataset(
        {
            "learning_end": (("network", "strength", "draw"), ends, {"meaning": ", ".join(ENDS)}),
            "spirals": (("network", "strength", "draw"), spirals),
            "lyapunov_exponents": (("network", "strength", "draw", "exponent"), exponents),
        },
        {"network": kinds, "strength": strengths},
    )


def measure_fast_neurons(epsilons: tuple[float, ...]) -> xr.Dataset:
    """How far the weights are from those of neurons always at rest after one unit of time, for several time scales."""
    kinds = list(learning_flows(1, 0.4))
    errors = []
    for kind in kinds:
        flow, W = learning_flows(1, 0.4)[kind]
        limit = jtu.tree_leaves(cf.integrate(flow, W, 1.0, rtol=1e-11, atol=1e-13).final_state)
        row = []
        for epsilon in epsilons:
            network = cf.models.FastNeurons(flow, epsilon)
            end = jtu.tree_leaves(cf.integrate(network, network.at_rest(W), 1.0, rtol=1e-10).final_state.W)
            row.append(max(float(jnp.abs(a - b).max()) for a, b in zip(end, limit, strict=True)))
        errors.append(row)
    order = [np.log(row[-2] / row[-1]) / np.log(epsilons[-2] / epsilons[-1]) for row in errors]
    return xr.Dataset(
        {"fast_neurons_error": (("network", "epsilon"), errors), "fast_neurons_order": ("network", order)},
        {"network": kinds, "epsilon": list(epsilons)},
    )


def draw_dynamics(results: xr.Dataset, out: Path) -> None:
    """The limit of fast neurons, the share of networks that come to rest, and their largest exponents."""
    looks = dict(
        zip(
            results.network.values,
            [(style.BLACK, "o"), (style.BLUE, "s"), (style.VERMILION, "^"), (style.GREEN, "D")],
            strict=True,
        )
    )
    with cf.plot.paper_style(columns=2, aspect=0.42):
        figure, axes = plt.subplots(1, 3)
        for kind, (colour, marker) in looks.items():
            look = {"color": colour, "marker": marker, "markersize": 3, "linewidth": 0.9}
            axes[0].plot(results.epsilon, results.fast_neurons_error.sel(network=kind), label=kind, **look)
            at_rest = (results.learning_end.sel(network=kind) == 0).mean("draw")
            axes[1].plot(results.strength, 100 * at_rest, **look)
            largest = results.lyapunov_exponents.sel(network=kind).isel(exponent=0)
            _spread(axes[2], results.strength.values, largest.values, look)
        axes[0].set(
            xscale="log",
            yscale="log",
            xticks=[0.01, 0.1],
            xlim=(0.004, 0.11),
            xlabel=r"$\tau_y / \tau_W$",
            ylabel="distance of the weights",
        )
        axes[0].minorticks_off()
        guide = results.epsilon.values
        axes[0].plot(
            guide, guide * 0.3, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 2)), label="slope 1"
        )
        axes[1].set(xlabel="strength of the input", ylabel="draws that come to rest (%)", ylim=(-4, 104))
        axes[2].axhline(0.0, color=style.GREY, linewidth=0.6)
        axes[2].set(xlabel="strength of the input", ylabel="largest exponent")
        letter_panels(axes)
        figure.legend(loc="outside lower center", ncols=5)
        cf.plot.save_figure(figure, out / "origins_dynamics.pdf")


def _spread(ax: Axes, x: np.ndarray, values: np.ndarray, look: dict[str, Any]) -> None:
    """Medians over draws, with the range, of the draws that did not run away."""
    known = np.isfinite(values).any(axis=1)
    x, values = x[known], values[known]
    middle = np.nanmedian(values, axis=1)
    ax.plot(x, middle, **look)
    ax.fill_between(
        x, np.nanmin(values, axis=1), np.nanmax(values, axis=1), color=look["color"], alpha=0.12, linewidth=0
    )


def report_dynamics(results: xr.Dataset) -> str:
    """How learning ended in every kind of network."""
    lines = []
    for kind in results.network.values:
        row = results.sel(network=kind)
        counts = ", ".join(f"{int((row.learning_end == i).sum())} {end}" for i, end in enumerate(ENDS))
        largest = float(row.lyapunov_exponents.isel(exponent=0).max())
        lines.append(
            f"{kind}: {counts}; {int(row.spirals.sum())} rests approached in spirals; "
            f"largest exponent {largest:+.4f}; "
            f"order of the quasi-static limit {float(row.fast_neurons_order):.2f}"
        )
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ a pair of neurons


def split_pair(*_: Any) -> cf.gradient.HelmholtzSplit:
    """An excitatory and an inhibitory neuron, both with input: the velocity in the plane of the synapses between them."""
    flow = cf.models.HebbianFlow([1.0, 0.6], [1, -1], decay=0.5)
    plane = cf.plane.coordinate_plane(jnp.zeros((2, 2)), 1, 2)
    labels = (r"$W_{12}$ (inhibitory to excitatory)", r"$W_{21}$ (excitatory to inhibitory)")
    return cf.gradient.helmholtz_split(
        flow, (0.0, 2.0), (0.0, 2.0), plane=cf.plane.Plane(plane.origin, plane.axes, labels)
    )


def draw_pair(split: cf.gradient.HelmholtzSplit, out: Path) -> None:
    """The velocity and its parts."""
    cf.plot.save_figure(cf.plot.helmholtz(split).axes[0].figure, out / "origins_helmholtz.pdf")


def report_pair(split: cf.gradient.HelmholtzSplit) -> str:
    """The shares of its parts."""
    return f"pair of neurons: {split}"


PARTS = {
    "metrics": Part(compute_metrics, draw_metrics, report_metrics),
    "dynamics": Part(compute_dynamics, draw_dynamics, report_dynamics),
    "helmholtz": Part(split_pair, draw_pair, report_pair),
}

if __name__ == "__main__":
    run_parts("origins", __doc__, PARTS)
