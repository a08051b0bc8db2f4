"""What the paper's simulations of linear networks share: their sizes, draws and rules, and the diagram of errors.

Students and teachers are uniform on ±1/√fan-in; inputs are N(0, I/2), 250 to learn from and 100 to test on; the first ⌊α n⌋
units are flipped; both layers keep their norms; an epoch takes 0.1 units of time.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import curlflow as cf
from curlflow.orbits.solvers import RungeKuttaChebyshev
from curlflow.plot import style

EPOCH = 0.1
INPUT_DEVIATION = 0.5**0.5
TRAINING_SAMPLES, TEST_SAMPLES = 250, 100
# A run has learned when its loss is below this. Fixed points of a flow are fixed points of every Runge–Kutta method: only the
# way to them is approximate.
LEARNED = 1e-13
# Between these errors diagrams of linear networks have colours.
ERRORS_SHOWN = (1e-10, 1.0)


class Network(NamedTuple):
    """A student on its way to a teacher: the norm-constrained flow, both weights, and the covariance of the test inputs."""

    flow: cf.NormConstrained
    student: cf.Weights
    teacher: cf.Weights
    test_covariance: Float[Array, "inputs inputs"]

    def test_error(self, y: Any) -> float:
        """½ mean (ŷ − y)² over the test inputs, of weights or of their Gram matrices."""
        E = self.flow.flow.S - y.end_to_end  # pyright: ignore[reportFunctionMemberAccess]
        return float(jnp.trace(E @ self.test_covariance @ E.T)) / 2


def sizes(c: float, total: int) -> tuple[int, int]:
    """Hidden units N and inputs M, about `total` together, with M/N = c."""
    return int(total / (1 + c)), int(total / (1 + 1 / c))


def draw_network(
    c: float, seed: int, total: int, *, alpha_h: float = 0.0, alpha_r: float = 0.0, unit_norms: bool = False
) -> Network:
    """A network of the paper. With `unit_norms` the teacher's layers have the norms √N and 1."""
    (N, M), keys = sizes(c, total), jax.random.split(jax.random.key(seed), 4)
    teacher, student = (cf.ensembles.uniform_weights(key, N=N, M=M) for key in keys[:2])
    if unit_norms:
        norm1, norm2 = jnp.linalg.norm(teacher.W1), jnp.linalg.norm(teacher.W2)
        teacher = cf.Weights(teacher.W1 * N**0.5 / norm1, teacher.W2 / norm2)
    C, test_covariance = (
        cf.ensembles.sample_covariance(key, M=M, samples=samples, standard_deviation=INPUT_DEVIATION)
        for key, samples in zip(keys[2:], (TRAINING_SAMPLES, TEST_SAMPLES), strict=True)
    )
    d1 = cf.ensembles.sign_pattern(M, fraction=alpha_h)
    d2 = cf.ensembles.sign_pattern(N, fraction=alpha_r)
    flow = cf.NormConstrained(cf.CurlFlow(teacher.end_to_end, d1, d2, C))
    return Network(flow, student, teacher, test_covariance)


# A function of the module with the flow as its argument, so that networks of one size share one compilation.


def move(t: Any, y: Any, flow: Any) -> Any:
    """The flow's velocity."""
    return flow(t, y)


def has_learned(t: Any, y: Any, flow: Any) -> Any:
    """Whether the loss is below what counts as learned."""
    return flow.loss(y) < LEARNED


def is_steep(c: float, alpha_h: float) -> bool:
    """Whether a student's way is worth a solver whose steps stability does not limit.

    With few flipped inputs students drift slowly along a valley with steep walls, where stability limits the steps of an
    ordinary method; with many they turn about it. At the smallest ratios and without flips they learn; there an ordinary
    method would hover above the solution as high as its tolerance. The line between the two is measured, for linear and
    for tanh networks: which takes less time.
    """
    return c < 0.5 or alpha_h == 0 or c + 2 * alpha_h < 2


def learn(c: float, seed: int, *, alpha_h: float, total: int, T: float) -> dict[str, Any]:
    """One cell: a random student follows the flow until it has learned, or for the time T."""
    network = draw_network(c, seed, total, alpha_h=alpha_h)
    steep = is_steep(c, alpha_h)
    solver = RungeKuttaChebyshev(stages=10) if steep else "tsit5"
    flow, y = network.flow, network.student
    # Below c = 1 Gram variables are fewer than weights, and of full rank. Beyond, a solver's errors can drive them out of the
    # positive matrices, and some runs blow up.
    if steep and c < 1:
        flow = cf.GramFlow.from_flow(network.flow)
        y = flow.reduce(network.student)
    run = cf.integrate(move, y, T, args=flow, ts=[T], solver=solver, rtol=1e-4, atol=1e-10, stop=has_learned)
    return {
        "test_error": network.test_error(run.final),
        "train_error": float(flow.loss(run.final)),
        "steps": run.stats["steps"],
        "outcome": run.outcome,
    }


def draw_diagram(
    values: xr.DataArray, scale: str, ax: Axes, limits: tuple[float, float] = ERRORS_SHOWN
) -> QuadMesh:
    """Values over (c, fraction), their decadic logarithm as colour, with the boundary of stability of wide networks."""
    fraction = fraction_of(values)
    c_edges, fraction_edges = (
        _cell_edges(values["c"].values, scale),
        _cell_edges(values[fraction].values, "linear"),
    )
    shown = np.log10(np.maximum(values.transpose(fraction, "c").values, limits[0]))
    low, high = np.log10(limits)
    mesh = ax.pcolormesh(c_edges, fraction_edges, shown, cmap="viridis", vmin=low, vmax=high, rasterized=True)
    alpha = np.linspace(1e-3, 1.0 if fraction == "alpha_h" else 0.499, 400)
    boundary = cf.stability_boundary(**{fraction: alpha})
    ax.plot(boundary, alpha, color="white", linewidth=2.4)
    ax.plot(boundary, alpha, color=style.BLACK, linewidth=1.2)
    symbol, name = (r"\alpha_h", "inputs") if fraction == "alpha_h" else (r"\alpha_r", "hidden units")
    ax.set(
        xscale=scale,
        xlim=c_edges[[0, -1]],
        ylim=(0, 1),
        xlabel="compression ratio $c = M/N$",
        ylabel=f"fraction ${symbol}$ of {name} flipped",
    )
    return mesh


def save_error_figure(
    error: xr.DataArray, scale: str, path: Path, limits: tuple[float, float] = ERRORS_SHOWN
) -> None:
    """The median of an error over seeds, as a figure of one column."""
    with cf.plot.paper_style(aspect=0.8):
        figure, ax = plt.subplots()
        mesh = draw_diagram(error.median("seed"), scale, ax, limits)
        figure.colorbar(mesh, ax=ax, label=r"median test error, $\log_{10}$", extend="both")
        cf.plot.save_figure(figure, path)


def peak_figure(results: xr.Dataset, limits: tuple[float, float] = ERRORS_SHOWN) -> Figure:
    """The median error at the end beside the largest peak of all seeds, as a figure of two columns."""
    with cf.plot.paper_style(columns=2, aspect=0.4):
        figure, (left, right) = plt.subplots(1, 2, sharey=True)
        for ax, error, title in (
            (left, results["test_error"].median("seed"), "a  median test error at the end"),
            (right, results["peak_error"].max("seed"), "b  largest train error on the way, all seeds"),
        ):
            mesh = draw_diagram(error, "log", ax, limits)
            ax.set_title(title, loc="left")
        right.set_ylabel("")
        figure.colorbar(mesh, ax=[left, right], label=r"$\log_{10}$ of the error", extend="both")
    return figure


def fraction_of(results: xr.DataArray | xr.Dataset) -> str:
    """The name of the fraction of flips that results are given for, "alpha_h" or "alpha_r"."""
    return next(name for name in ("alpha_h", "alpha_r") if name in results.dims)


def linear_margin(results: xr.DataArray | xr.Dataset) -> np.ndarray:
    """The stability margin of wide linear networks at every ratio and fraction of the results, shape (c, fraction)."""
    fraction = fraction_of(results)
    flips = {"alpha_h": 0.0, "alpha_r": 0.0, fraction: results[fraction].values}
    return np.asarray(cf.random_matrix.stability_margin(results["c"].values[:, None], **flips))


def _cell_edges(centres: np.ndarray, scale: str) -> np.ndarray:
    """The edges half-way between neighbouring values, on a linear or a logarithmic scale."""
    x = np.log(centres) if scale == "log" else centres
    middles = (x[1:] + x[:-1]) / 2
    edges = np.concatenate([[2 * x[0] - middles[0]], middles, [2 * x[-1] - middles[-1]]])
    return np.exp(edges) if scale == "log" else edges


def measure_orbit(
    descent: cf.DescentMap, start: cf.Weights, epochs: int, window: tuple[int, int]
) -> xr.Dataset:
    """One run: its loss, and some weights, their autocorrelation and the principal components within a window of epochs."""
    stops, runs, y = [0, *window, epochs], [], start
    for begin, end in pairwise(stops):
        if begin < end:
            runs.append(cf.iterate(descent, y, end - begin, n0=begin, every=max((end - begin) // 2000, 1)))
            y = runs[-1].final
    inside = next(run for run in runs if run.ts[0] == window[0])
    weights = np.asarray(inside.ys.W1).reshape(len(inside.ts), -1)
    components = cf.orbits.principal_components(inside.ys, 2)
    correlation = cf.orbits.autocorrelation(weights, lags=len(weights) // 2).mean(axis=1)
    return xr.Dataset(
        {
            "loss": ("epoch", np.concatenate([run.loss()[:-1] for run in runs] + [runs[-1].loss()[-1:]])),
            "weight": (("window_epoch", "which"), weights[:, :: weights.shape[1] // 6]),
            "autocorrelation": ("lag", correlation),
            "component": (("window_epoch", "axis"), components.scores),
            "variance_share": ("axis", components.explained),
        },
        coords={
            "epoch": np.concatenate([run.ts[:-1] for run in runs] + [runs[-1].ts[-1:]]),
            "window_epoch": inside.ts,
            "lag": np.arange(len(correlation)) * float(inside.ts[1] - inside.ts[0]),
        },
    )


def orbit_figure(results: xr.Dataset) -> Figure:
    """Loss, some weights, their autocorrelation, and the first two principal components."""
    with cf.plot.paper_style(columns=2, aspect=0.62):
        figure, axes = plt.subplots(2, 2)
        (loss, weights), (correlation, plane) = axes
        loss.semilogy(results["epoch"], results["loss"], linewidth=0.8)
        loss.set(xlabel="epoch", ylabel="loss")
        weights.plot(results["window_epoch"], results["weight"], linewidth=0.8)
        weights.set(xlabel="epoch", ylabel="weights of the first layer")
        correlation.plot(results["lag"], results["autocorrelation"])
        correlation.axhline(0, color=style.BLACK, linewidth=0.6, linestyle="dotted")
        correlation.set(xlabel="lag, epochs", ylabel="autocorrelation, mean over weights")
        plane.plot(*results["component"].values.T, linewidth=0.6)
        shares = 100 * results["variance_share"].values
        plane.set(
            xlabel=f"first principal component ({shares[0]:.0f} %)", ylabel=f"second ({shares[1]:.0f} %)"
        )
    return figure
