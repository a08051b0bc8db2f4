"""What the paper's simulations of nonlinear networks share: their draws and rules, races to a test error, and verdicts.

Inputs are N(0, I/2); the activation is at the output too; weights are uniform on ±scale/√fan-in; errors reach the weights
without the output's derivative (the paper's rule); both layers keep their norms; an epoch takes 0.1 units of time. In a race
both rules, curl descent and gradient descent, go from the same start on the same data until their errors on 100 test samples
are below 10⁻³.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import curlflow as cf
from curlflow.plot import style
from curlflow.solvers import RungeKuttaChebyshev

EPOCH = 0.1
THRESHOLD = 1e-3
TEST_SAMPLES = 100
RULES = ("curl", "gradient")
# Fixed before the runs: a rule is faster if Wilcoxon's signed-rank test over seeds says so at this level. The paper asks that
# of its paired t-test, which cannot take runs that never got there.
LEVEL = 0.01


class Network(NamedTuple):
    """A student on its way to a teacher: the flow with its flips, both weights, and the error on test samples."""

    flow: cf.StudentFlow
    student: cf.Weights
    teacher: cf.Weights
    test_error: cf.PredictionError


def draw_network(
    seed: int,
    *,
    N: int,
    M: int,
    samples: int,
    activation: Any = "tanh",
    precision: Any = "float64",
    d1: Any = None,
    d2: Any = None,
    scale: float = 1.0,
    teacher_scale: float = 1.0,
) -> Network:
    """A network of the paper, its student drawn on the given scale; signs default to +1."""
    keys = jax.random.split(jax.random.key(seed), 4)
    weights = cf.ensembles.uniform_weights(keys[0], N=N, M=M, scale=teacher_scale)
    teacher = cf.Teacher(weights, activation=activation, activate_output=True)
    signs = cf.Weights(np.ones(M) if d1 is None else d1, np.ones(N) if d2 is None else d2)
    flow = cf.StudentFlow(
        *teacher.draw(keys[2], samples),
        signs,
        activation=activation,
        activate_output=True,
        objective="matching",
        precision=precision,
    )
    student = cf.ensembles.uniform_weights(keys[1], N=N, M=M, scale=scale)
    return Network(
        flow, student, weights, cf.PredictionError(*teacher.draw(keys[3], TEST_SAMPLES), network=flow)
    )


# ------------------------------------------------------------------------------------------------------- races

LOOKS = 400
# Epochs of minibatches between two looks at whether a run has learned.
CHECK_EVERY = 500
# Corners of ReLU flows cost steps, and most of them say nothing.
RTOL = {"tanh": 1e-3, "relu": 1e-2}


def looks(horizon: float) -> np.ndarray:
    """Times at which a run looks at its test error: the next one is at most some percent later."""
    return np.append(0.0, np.geomspace(1.0, horizon, LOOKS))


def move(t: Any, W: Any, args: Any) -> Any:
    """The flow's velocity."""
    return args["flow"](t, W)


def test_error(t: Any, W: Any, args: Any) -> Any:
    """The error on the test samples."""
    return args["test_error"](t, W)


def has_learned(t: Any, W: Any, args: Any) -> Any:
    """Whether the error on the test samples is below the threshold."""
    return args["test_error"](t, W) < THRESHOLD


def follow(
    network: Network, flow: Any, horizon: float, *, to_the_end: bool = False, constrain: bool = True
) -> cf.Trajectory:
    """The test error along a run of a flow from the network's student: until it has learned, or to the end."""
    rtol = RTOL[network.flow.activation]
    return cf.integrate(
        move,
        network.student,
        horizon,
        ts=looks(horizon),
        args={"flow": cf.NormConstrained(flow) if constrain else flow, "test_error": network.test_error},
        observe=test_error,
        stop=None if to_the_end else has_learned,
        solver=RungeKuttaChebyshev(stages=10),
        rtol=rtol,
        atol=rtol / 100,
    )


def race(network: Network, horizon: float, *, constrain: bool = True) -> dict[str, Any]:
    """Epochs until each rule has learned, infinity if it has not by the horizon; its last test error; its steps."""
    answer: dict[str, Any] = {}
    for rule, flow in zip(RULES, (network.flow, network.flow.gradient_flow()), strict=True):
        run = follow(network, flow, horizon, constrain=constrain)
        answer[rule] = cf.time_to_threshold(run.ts, run.ys, THRESHOLD) / EPOCH
        answer[f"{rule}_last_error"] = run.ys[-1]
        answer[f"{rule}_steps"] = run.stats["steps"]
        outcome: Any = run.outcome
        if not outcome.ok:
            answer["outcome"] = outcome
    return answer


def race_by_minibatches(network: Network, horizon: float, seed: int) -> dict[str, Any]:
    """The same race as the paper runs it: steps on ten samples each, which divide the data anew in every epoch."""
    answer = {}
    for rule, flow in zip(RULES, (network.flow, network.flow.gradient_flow()), strict=True):
        descent = cf.MinibatchDescent(flow, learning_rate=EPOCH, batch=10, key=jax.random.key(seed))
        passage = {"epochs": cf.FirstPassage(network.test_error, THRESHOLD)}
        W, epochs = network.student, np.inf
        for begin in range(0, round(horizon / EPOCH), CHECK_EVERY):
            run = cf.iterate(descent, W, CHECK_EVERY, n0=begin, every=CHECK_EVERY, fold=passage)
            W, epochs = run.final, float(run.folded["epochs"])
            if np.isfinite(epochs):
                break
        answer[rule] = epochs
    return answer


def error_curves(network: Network, horizon: float) -> dict[str, Any]:
    """The test errors of both rules along runs to the horizon."""
    flows = network.flow, network.flow.gradient_flow()
    return {
        rule: follow(network, flow, horizon, to_the_end=True).ys
        for rule, flow in zip(RULES, flows, strict=True)
    }


def over_epochs(results: xr.Dataset, horizon: float) -> xr.Dataset:
    """Swept error curves of one point, along seeds and epochs."""
    curves = {rule: (("seed", "epoch"), results[rule].squeeze().values) for rule in RULES}
    return xr.Dataset(curves, {"epoch": looks(horizon) / EPOCH, "seed": results["seed"]}, results.attrs)


def passage_epochs(curves: xr.Dataset) -> xr.Dataset:
    """The epochs at which curves fall below the threshold: the race that they are."""
    epochs = curves["epoch"].values
    return xr.Dataset(
        {
            rule: (
                "seed",
                [cf.time_to_threshold(epochs, errors, THRESHOLD) for errors in curves[rule].values],
            )
            for rule in RULES
        }
    )


# ---------------------------------------------------------------------------------------------------- what they say


def compare(results: xr.Dataset, axis: str, horizon: float) -> dict[float, cf.TimesComparison | None]:
    """The races at every value of the axis; None where neither rule ever got there."""
    return {float(value): compare_seeds(results.sel({axis: value}), horizon) for value in results[axis]}


def compare_seeds(results: xr.Dataset, horizon: float) -> cf.TimesComparison | None:
    """The races at one point, along seeds."""
    curl, gradient = (results[rule].values for rule in RULES)
    if np.isinf(curl).all() and np.isinf(gradient).all():
        return None
    return cf.compare_times(curl, gradient, horizon=horizon / EPOCH, names=RULES)


def is_faster(comparison: cf.TimesComparison | None) -> bool:
    """Whether curl descent was faster, by the test and the level fixed above."""
    if comparison is None:
        return False
    return comparison.first_faster > comparison.second_faster and comparison.signed_rank_test < LEVEL


def table(comparisons: dict[float, cf.TimesComparison | None], symbol: str) -> str:
    """One line for every value: medians in epochs, the ratio of medians with its 95 % interval, and the test."""
    lines = [
        f"| {symbol} | curl, epochs | gradient, epochs | gradient / curl | 95 % interval | curl first | p |",
        "|" + "---|" * 7,
    ]
    for value, comparison in comparisons.items():
        if comparison is None:
            lines.append(f"| {value:g} | never | never | | | 0 | |")
            continue
        medians = [f"{m:.4g}" if np.isfinite(m) else "never" for m in _medians(comparison)]
        low, high = comparison.ratio_of_medians_interval
        pairs = len(comparison.first)
        lines.append(
            f"| {value:g} | {medians[0]} | {medians[1]} | {_ratio(comparison)} | {low:.3g} … {high:.3g} "
            f"| {comparison.first_faster} of {pairs} | {comparison.signed_rank_test:.2g} |"
        )
    return "\n".join(lines)


def claim(paper: str, found: str, verdict: str) -> str:
    """One row of a verdict table."""
    return f"| {paper} | {found} | {verdict} |"


def verdict_on(points: Sequence[bool]) -> str:
    """A claim about points at which it holds or not: "reproduced" at all, "weaker" at half of them or more."""
    if not len(points):
        return "no point to tell from"
    if all(points):
        return "reproduced"
    return "weaker" if np.mean(points) >= 0.5 else "not reproduced"


def ratios(comparisons: Sequence[cf.TimesComparison | None]) -> str:
    """The least and the greatest ratio of medians among some comparisons, each with its interval."""
    known = [each for each in comparisons if each is not None]
    if not known:
        return "no run learned"
    ordered = sorted(known, key=lambda each: each.ratio_of_medians[0])
    return " to ".join(
        f"{_ratio(each)} [{each.ratio_of_medians_interval[0]:.3g}, {each.ratio_of_medians_interval[1]:.3g}]"
        for each in (ordered[0], ordered[-1])
    )


def _ratio(comparison: cf.TimesComparison) -> str:
    low, high = comparison.ratio_of_medians
    if low == high:
        return f"{low:.3g}"
    if np.isinf(high):
        return f"> {low:.3g}"
    return f"< {high:.3g}" if low == 0 else f"{low:.3g} … {high:.3g}"


def _medians(comparison: cf.TimesComparison) -> tuple[float, float]:
    return float(np.median(comparison.first)), float(np.median(comparison.second))


def draw_races(comparisons: dict[float, cf.TimesComparison | None], horizon: float, ax: Axes) -> None:
    """Medians with quartiles; triangles at the horizon where a median lies beyond it; stars where curl descent is faster."""
    known = {value: each for value, each in comparisons.items() if each is not None}
    marks = ((style.CURL_FLOW, "o", "curl descent"), (style.GRADIENT_FLOW, "s", "gradient descent"))
    last = horizon / EPOCH
    for which, (colour, marker, name) in zip(("first", "second"), marks, strict=True):
        epochs = np.array(
            [
                np.quantile(getattr(each, which), (0.25, 0.5, 0.75), method="nearest")
                for each in known.values()
            ]
        )
        low, middle, high = np.minimum(epochs, last).T
        x = np.array(list(known))
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, middle, color=colour, marker=marker, markersize=3, label=name)
        beyond = ~np.isfinite(epochs[:, 1])
        ax.plot(
            x[beyond], np.full(beyond.sum(), last), color=colour, marker="^", markersize=5, linestyle="none"
        )
    faster = [value for value, each in comparisons.items() if is_faster(each)]
    ax.plot(
        faster, np.full(len(faster), 0.03), transform=ax.get_xaxis_transform(), color=style.BLACK, marker="*",
        markersize=4, linestyle="none", label=f"curl faster, p < {LEVEL:g}",
    )  # fmt: skip
    ax.set(yscale="log", ylabel="epochs until test error < $10^{-3}$")
    ax.legend()


def save_race_figure(
    comparisons: dict[float, cf.TimesComparison | None], horizon: float, path: Any, **axis: Any
) -> None:
    """The races along one axis, as a figure of one column."""
    with cf.paper_style(aspect=0.75):
        figure, ax = plt.subplots()
        draw_races(comparisons, horizon, ax)
        ax.set(**axis)
        cf.save_figure(figure, path)


def draw_errors(results: xr.Dataset, ax: Axes) -> None:
    """The test error against epochs, mean ± standard error over seeds, for both rules."""
    lines = (
        (style.CURL_FLOW, "solid", "curl descent"),
        (style.GRADIENT_FLOW, (0, (4, 1.2)), "gradient descent"),
    )
    for rule, (colour, dashes, name) in zip(RULES, lines, strict=True):
        errors = results[rule]
        mean, sem = errors.mean("seed"), errors.std("seed", ddof=1) / errors.sizes["seed"] ** 0.5
        ax.plot(results["epoch"], mean, color=colour, linestyle=dashes, label=name)
        ax.fill_between(results["epoch"], mean - sem, mean + sem, color=colour, alpha=0.2, linewidth=0)
    ax.set(xscale="log", yscale="log", xlabel="epoch", ylabel="test error")
    ax.legend()


def agreement(results: xr.Dataset, rule: str, horizon: float) -> str:
    """How the epochs by minibatches compare with those of the flow, in words."""
    flow, minibatches = results[rule].values, results[f"{rule}_minibatches"].values
    both = np.isfinite(flow) & np.isfinite(minibatches)
    alone = int((np.isfinite(flow) != np.isfinite(minibatches)).sum())
    comparison = cf.compare_times(flow[both], minibatches[both], horizon=horizon / EPOCH)
    low, high = comparison.geometric_mean_ratio_interval or (np.nan, np.nan)
    return (
        f"{comparison.geometric_mean_ratio:.3f} [{low:.3f}, {high:.3f}] over {both.sum()} seeds; "
        f"{alone} learned in one of them only"
    )


def draw_agreement(results: xr.Dataset, horizon: float, ax: Axes) -> None:
    """Epochs by minibatches over epochs of the flow, one point per seed and rule."""
    for rule, colour, marker in ((RULES[0], style.CURL_FLOW, "o"), (RULES[1], style.GRADIENT_FLOW, "s")):
        flow, minibatches = (
            np.minimum(results[name].values.ravel(), horizon / EPOCH)
            for name in (rule, f"{rule}_minibatches")
        )
        ax.plot(
            flow,
            minibatches,
            color=colour,
            marker=marker,
            markersize=3,
            linestyle="none",
            label=f"{rule} descent",
        )
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, color=style.BLACK, linewidth=0.6)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="epochs until learned, flow",
        ylabel="epochs until learned, minibatches",
    )
    ax.legend()
