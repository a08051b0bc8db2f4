"""Races between two rules to a test error, for the paper's networks of ten hidden units and 100 inputs; and what they show.

In a race both rules, curl descent and gradient descent, go from the same start on the same data until their errors on 100
test samples are below 10⁻³, along the norm-constrained flow, of which minibatch descent at the paper's step is a noisy copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

import curlflow as cf
from curlflow.plot import style
from shared.figures import panel
from shared.linear_networks import EPOCH
from shared.nonlinear_networks import Network, draw_network, looks, minibatch_descent, move
from shared.parts import Part
from shared.verdicts import TOO_FEW, Claims, verdict_on, verdict_table

N, M = 10, 100
HORIZON = 1e5 * EPOCH
THRESHOLD = 1e-3
RULES = ("curl", "gradient")
COLOURS = (style.CURL_FLOW, style.GRADIENT_FLOW)
# Fixed before the runs: a rule is faster if Wilcoxon's signed-rank test over seeds says so at this level. The paper asks that
# of its paired t-test, which cannot take runs that never got there.
LEVEL = 0.01
QUICK_SEEDS = 4  # too few for any verdict, and the tables say so: the test's smallest p is 1/8
# Epochs of minibatches between two looks at whether a run has learned.
CHECK_EVERY = 500

Comparisons = dict[float, cf.races.TimesComparison | None]


@dataclass(frozen=True)
class Races:
    """The races of one study, whose methods make its parts.

    `figure` names the files; `rules` are the two rules' names in figures; `fixed` goes to `draw_racers` for every network;
    at `level` figures call a difference significant. There are so many `seeds`, from `first_seed` on.
    """

    figure: str
    seeds: int
    rules: tuple[str, str] = ("curl descent", "gradient descent")
    fixed: tuple[tuple[str, Any], ...] = ()
    level: float = LEVEL
    first_seed: int = 0

    def error_curves(self, paper: str, samples: int) -> Part[xr.Dataset]:
        """The test error against epochs, to the end."""

        def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
            cell, axes = partial(error_curves, **dict(self.fixed)), {"samples": [800 if quick else samples]}
            return over_epochs(cf.sweep(cell, axes, seeds=self._seeds(quick), store=store, client=client))

        def draw(results: xr.Dataset, out: Path) -> None:
            with panel(out / f"{self.figure}_errors.pdf") as ax:
                draw_errors(results, self.rules, ax)

        def report(results: xr.Dataset) -> str:
            comparison = compare_seeds(passage_epochs(results), HORIZON)
            last = [f"{float(results[rule].isel(epoch=-1).median()):.2g}" for rule in RULES]
            found = f"gradient / curl {ratio(comparison)}; median test error at the end {' and '.join(last)}"
            return verdict_table([(paper, found, verdict_on_races([is_faster(comparison)], [comparison]))])

        return Part(compute, draw, report)

    def along(
        self,
        name: str,
        axis: str,
        values: Sequence[float],
        quick_values: Sequence[float],
        claims: Callable[[Comparisons], Claims],
        *,
        label: str,
        scale: str = "linear",
        horizon: float = HORIZON,
        **fixed: Any,
    ) -> Part[xr.Dataset]:
        """Races over the values of one property of the networks, a few of them with `--quick`."""

        def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
            cell = self._cell(race, quick, horizon=horizon, **fixed)
            axes = {axis: quick_values if quick else values}
            return cf.sweep(cell, axes, seeds=self._seeds(quick), store=store, client=client)

        def draw(results: xr.Dataset, out: Path) -> None:
            with panel(out / f"{self.figure}_{name}.pdf") as ax:
                ax.set(xlabel=label, xscale=scale)
                draw_races(compare(results, axis, horizon), horizon, self.rules, ax, level=self.level)

        def report(results: xr.Dataset) -> str:
            comparisons = compare(results, axis, horizon)
            return f"{race_table(comparisons, label)}\n\n{verdict_table(claims(comparisons))}"

        return Part(compute, draw, report)

    def check(
        self,
        name: str,
        axis: str,
        values: Sequence[float],
        quick_values: Sequence[float],
        *,
        seeds: int,
        label: str,
        horizon: float = HORIZON,
        **fixed: Any,
    ) -> Part[xr.Dataset]:
        """The same races by minibatches, as the paper runs them."""

        def compute(quick: bool, store: Path, client: Any) -> xr.Dataset:
            cell = self._cell(race_twice, quick, horizon=horizon, **fixed)
            axes = {axis: quick_values if quick else values}
            return cf.sweep(cell, axes, seeds=2 if quick else seeds, store=store, client=client)

        def draw(results: xr.Dataset, out: Path) -> None:
            with panel(out / f"{self.figure}_{name}.pdf") as ax:
                draw_agreement(results, horizon, self.rules, ax)

        def report(results: xr.Dataset) -> str:
            return "\n".join(
                f"{rule}, {value:g} {label}: minibatches / flow {agreement(results.sel({axis: value}), rule)}"
                for value in results[axis].values
                for rule in RULES
            )

        return Part(compute, draw, report)

    def _cell(self, race: Callable[..., Any], quick: bool, **fixed: Any) -> Callable[..., Any]:
        few = {"samples": 800} if quick and "samples" in fixed else {}
        return partial(race, **{**dict(self.fixed), **fixed, **few})

    def _seeds(self, quick: bool) -> list[int]:
        count = QUICK_SEEDS if quick else self.seeds
        return list(range(self.first_seed, self.first_seed + count))


# ------------------------------------------------------------------------------------------------------- races


def draw_racers(seed: int, *, samples: int, flips: int = 1, scale: float = 2.0, **options: Any) -> Network:
    """A network with so many flipped readout synapses. Sums over samples are in single precision, far below the threshold."""
    return draw_network(
        seed,
        N=N,
        M=M,
        samples=int(samples),
        d2=cf.ensembles.sign_pattern(N, count=int(flips)),
        scale=scale,
        precision="float32",
        **options,
    )


def race(seed: int, *, horizon: float = HORIZON, constrain: bool = True, **options: Any) -> dict[str, Any]:
    """Epochs until each rule has learned, infinity if it has not by the horizon; its last test error; its steps."""
    network, answer = draw_racers(seed, **options), {}
    for rule, flow in zip(RULES, (network.flow, network.flow.gradient_flow()), strict=True):
        run = follow(network, flow, horizon, constrain=constrain)
        answer[rule] = cf.orbits.time_to_threshold(run.ts, run.ys, THRESHOLD) / EPOCH
        answer[f"{rule}_last_error"] = run.ys[-1]
        answer[f"{rule}_steps"] = run.stats["steps"]
        outcome: Any = run.outcome
        if not outcome.ok:
            answer["outcome"] = outcome
    return answer


def race_twice(seed: int, *, horizon: float = HORIZON, **options: Any) -> dict[str, Any]:
    """One race along the flow, and by minibatches as in the paper."""
    network, answer = draw_racers(seed, **options), race(seed, horizon=horizon, **options)
    for rule, flow in zip(RULES, (network.flow, network.flow.gradient_flow()), strict=True):
        epochs, last_error = epochs_by(minibatch_descent(flow, seed), network, horizon)
        answer |= {f"{rule}_minibatches": epochs, f"{rule}_minibatches_last_error": last_error}
    return answer


def epochs_by(descent: cf.models.MinibatchDescent, network: Network, horizon: float) -> tuple[float, float]:
    """How many steps of the map the network takes to learn, infinity if that is more than to the horizon; its last error."""
    passage = {"epochs": cf.orbits.FirstPassage(network.test_error, THRESHOLD)}
    W, epochs = network.student, np.inf
    for begin in range(0, round(horizon / EPOCH), CHECK_EVERY):
        run = cf.iterate(descent, W, CHECK_EVERY, n0=begin, every=CHECK_EVERY, fold=passage)
        W, epochs = run.final_state, float(run.folded["epochs"])
        if np.isfinite(epochs):
            break
    return epochs, float(network.test_error(0.0, W))


def error_curves(seed: int, **options: Any) -> dict[str, Any]:
    """The test errors of both rules along runs to the horizon."""
    network = draw_racers(seed, **options)
    flows = zip(RULES, (network.flow, network.flow.gradient_flow()), strict=True)
    return {rule: follow(network, flow, HORIZON, stop=None).ys for rule, flow in flows}


def over_epochs(results: xr.Dataset) -> xr.Dataset:
    """Swept error curves of one point, along seeds and epochs."""
    curves = {rule: (("seed", "epoch"), results[rule].squeeze().values) for rule in RULES}
    return xr.Dataset(curves, {"epoch": looks(HORIZON) / EPOCH, "seed": results["seed"]}, results.attrs)


def passage_epochs(curves: xr.Dataset) -> xr.Dataset:
    """The epochs at which curves fall below the threshold: the race that they are."""
    return xr.Dataset({rule: ("seed", passages(curves[rule])) for rule in RULES})


def passages(errors: xr.DataArray) -> np.ndarray:
    """The epochs at which the errors of each seed fall below the threshold."""
    epochs = errors["epoch"].values
    return np.array([cf.orbits.time_to_threshold(epochs, each, THRESHOLD) for each in errors.values])


def test_error(t: Any, W: Any, args: Any) -> Any:
    """The error on the test samples."""
    return args["test_error"](t, W)


def has_learned(t: Any, W: Any, args: Any) -> Any:
    """Whether the error on the test samples is below the threshold."""
    return args["test_error"](t, W) < THRESHOLD


def follow(
    network: Network,
    flow: Any,
    horizon: float,
    *,
    constrain: bool = True,
    stop: Callable[..., Any] | None = has_learned,
    observe: Callable[..., Any] = test_error,
) -> cf.Trajectory:
    """The test error, or what else is observed, along a run of a flow from the network's student."""
    solver, rtol = method(flow)
    return cf.integrate(
        move,
        network.student,
        horizon,
        ts=looks(horizon),
        args={"flow": cf.NormConstrained(flow) if constrain else flow, "test_error": network.test_error},
        observe=observe,
        stop=stop,
        solver=solver,
        rtol=rtol,
        atol=rtol / 100,
    )


def method(flow: Any) -> tuple[Any, float]:
    """A solver and its relative tolerance, chosen by what limits its steps.

    Corners of ReLU flows cost steps, and most of them say nothing. Tanh students mostly descend in steep valleys. With
    several units flipped they turn, and which way they go in the end hangs on small errors.
    """
    if flow.activation == "relu":
        return cf.orbits.RungeKuttaChebyshev(stages=10), 1e-2
    if np.sum(np.asarray(flow.signs.W2) < 0) > 1:
        return "tsit5", 1e-6
    return cf.orbits.RungeKuttaChebyshev(stages=10), 1e-3


# --------------------------------------------------------------------------------------------- what they say


def compare(results: xr.Dataset, axis: str, horizon: float) -> Comparisons:
    """The races at every value of the axis; None where neither rule ever got there."""
    return {float(value): compare_seeds(results.sel({axis: value}), horizon) for value in results[axis]}


def compare_seeds(results: xr.Dataset, horizon: float) -> cf.races.TimesComparison | None:
    """The races at one point, along seeds."""
    curl, gradient = (results[rule].values for rule in RULES)
    if np.isinf(curl).all() and np.isinf(gradient).all():
        return None
    return cf.races.compare_times(curl, gradient, horizon=horizon / EPOCH, names=RULES)


def is_faster(comparison: cf.races.TimesComparison | None, level: float = LEVEL) -> bool:
    """Whether curl descent was faster, by the test fixed above."""
    if comparison is None:
        return False
    return comparison.first_faster > comparison.second_faster and comparison.signed_rank_test < level


def verdict_on_races(
    points: Sequence[bool],
    comparisons: Sequence[cf.races.TimesComparison | None],
    level: float = LEVEL,
) -> str:
    """The verdict on a claim about points, if there are seeds enough for the test to find any difference at all."""
    return TOO_FEW if too_few(comparisons, level) else verdict_on(points)


def too_few(comparisons: Sequence[cf.races.TimesComparison | None], level: float = LEVEL) -> bool:
    """Whether the test could not say "faster" even if one rule won every race: its smallest p is 2 / 2^seeds."""
    return any(each is not None and 2.0 ** (1 - len(each.first)) >= level for each in comparisons)


def race_table(comparisons: Comparisons, label: str) -> str:
    """One line for every value: medians in epochs, the ratio of medians with its 95 % interval, and the test."""
    head = f"| {label} | curl, epochs | gradient, epochs | gradient / curl | curl first | p |"
    lines = [head, "|" + "---|" * 6]
    for value, comparison in comparisons.items():
        if comparison is None:
            lines.append(f"| {value:g} | never | never | | | |")
            continue
        medians = [np.median(times) for times in (comparison.first, comparison.second)]
        curl, gradient = (f"{median:.4g}" if np.isfinite(median) else "never" for median in medians)
        lines.append(
            f"| {value:g} | {curl} | {gradient} | {ratio(comparison)} "
            f"| {comparison.first_faster} of {len(comparison.first)} | {comparison.signed_rank_test:.2g} |"
        )
    return "\n".join(lines)


def claim_faster(
    paper: str, comparisons: Sequence[cf.races.TimesComparison | None], where: str = "", level: float = LEVEL
) -> tuple[str, str, str]:
    """The claim that curl descent is faster at every one of some points; where nobody ever learned it is not."""
    found = where + count_faster(comparisons, level)
    return (
        paper,
        found,
        verdict_on_races([is_faster(each, level) for each in comparisons], comparisons, level),
    )


def count_faster(comparisons: Sequence[cf.races.TimesComparison | None], level: float = LEVEL) -> str:
    """At how many points curl descent is faster, and by what factors."""
    holds = [is_faster(each, level) for each in comparisons]
    known = sorted(
        (each for each in comparisons if is_known(each)), key=lambda each: each.ratio_of_medians[0]
    )
    ends = dict.fromkeys(ratio(each) for each in (known[:1] + known[-1:]))
    span = f"; gradient / curl {' to '.join(ends)}" if known else ""
    points = f"{len(holds)} point{'s' * (len(holds) != 1)}"
    if too_few(comparisons, level):
        first = sum(each.first_faster for each in comparisons if each)
        return f"first in {first} of {sum(len(each.first) for each in comparisons if each)} races at {points}{span}"
    return f"faster at {sum(holds)} of {points}{span}"


def ratio(comparison: cf.races.TimesComparison | None) -> str:
    """The ratio of medians with its 95 % interval; of medians beyond the horizon only a bound is known, or nothing."""
    if not is_known(comparison):
        return "unknown"
    low, high = comparison.ratio_of_medians
    value = f"{low:.3g}" if low == high else f"> {low:.3g}" if np.isinf(high) else f"{low:.3g} … {high:.3g}"
    lowest, highest = comparison.ratio_of_medians_interval
    return f"{value} [{lowest:.3g}, {highest:.3g}]"


def is_known(comparison: cf.races.TimesComparison | None) -> TypeGuard[cf.races.TimesComparison]:
    """Whether the ratio of medians is known, or bounded at least."""
    return comparison is not None and comparison.ratio_of_medians != (0.0, np.inf)


def agreement(results: xr.Dataset, rule: str) -> str:
    """How epochs by minibatches compare with those of the flow, and last test errors of seeds that learned in neither."""
    flow, minibatches = results[rule].values, results[f"{rule}_minibatches"].values
    learned = np.isfinite([flow, minibatches])
    both, neither = learned.all(axis=0), ~learned.any(axis=0)
    words = [mean_ratio(flow[both], minibatches[both])]
    if neither.sum() > 1:
        errors = (results[f"{rule}{by}_last_error"].values[neither] for by in ("", "_minibatches"))
        words.append(f"last test errors of the others {mean_ratio(*errors)}")
    return "; ".join([*words, f"{(learned[0] != learned[1]).sum()} learned in one of them only"])


def mean_ratio(first: np.ndarray, second: np.ndarray) -> str:
    """The geometric mean of second / first over seeds, with its 95 % interval."""
    if len(first) < 2:
        return "unknown from fewer than two seeds"
    comparison = cf.races.compare_times(first, second, horizon=max(first.max(), second.max()))
    low, high = comparison.geometric_mean_ratio_interval or (np.nan, np.nan)
    return f"{comparison.geometric_mean_ratio:.3f} [{low:.3f}, {high:.3f}] over {len(first)} seeds"


# --------------------------------------------------------------------------------------------------- figures


def draw_races(
    comparisons: Comparisons, horizon: float, rules: tuple[str, str], ax: Axes, *, level: float = LEVEL
) -> None:
    """Medians with quartiles; triangles at the horizon where a median lies beyond it; stars where curl descent is faster."""
    x, last = np.array(list(comparisons)), horizon / EPOCH
    for which, colour, marker, name in zip(("first", "second"), COLOURS, "os", rules, strict=True):
        triangle = {"first": 8, "second": 5}[which]  # so that both are seen where they coincide
        epochs = [[np.inf] if each is None else getattr(each, which) for each in comparisons.values()]
        quartiles = [np.quantile(each, (0.25, 0.75), method="nearest") for each in epochs]
        low, high = np.minimum(quartiles, last).T
        medians = np.array([np.median(each) for each in epochs])
        beyond = np.isinf(medians)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, np.minimum(medians, last), color=colour, marker=marker, markersize=3, label=name)
        ax.plot(
            x[beyond],
            np.full_like(x[beyond], last),
            color=colour,
            marker="^",
            markersize=triangle,
            linestyle="none",
        )
    faster = [value for value, each in comparisons.items() if is_faster(each, level)]
    ax.plot(
        faster, np.full(len(faster), 0.03), transform=ax.get_xaxis_transform(), color=style.BLACK, marker="*",
        markersize=4, linestyle="none", label=f"{rules[0]} faster, p < {level:g}",
    )  # fmt: skip
    ax.set(yscale="log", ylabel="epochs until test error < $10^{-3}$")
    if ax.get_xscale() == "linear" and (x % 1 == 0).all():
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.01), borderaxespad=0)  # data fill the panel


def draw_errors(results: xr.Dataset, rules: tuple[str, str], ax: Axes) -> None:
    """The test error against epochs, mean ± standard error over seeds, for both rules."""
    for rule, colour, dashes, name in zip(RULES, COLOURS, ("solid", (0, (4, 1.2))), rules, strict=True):
        errors = results[rule]
        mean, sem = errors.mean("seed"), errors.std("seed", ddof=1) / errors.sizes["seed"] ** 0.5
        ax.plot(results["epoch"], mean, color=colour, linestyle=dashes, label=name)
        ax.fill_between(results["epoch"], mean - sem, mean + sem, color=colour, alpha=0.2, linewidth=0)
    ax.axhline(THRESHOLD, color="0.5", linewidth=0.6, linestyle="dotted")
    ax.set(xscale="log", yscale="log", xlabel="epoch", ylabel="test error", xlim=(10, None))
    ax.legend()


def draw_agreement(results: xr.Dataset, horizon: float, rules: tuple[str, str], ax: Axes) -> None:
    """Epochs by minibatches over epochs of the flow, one point per seed and rule."""
    for rule, colour, marker, name in zip(RULES, COLOURS, "os", rules, strict=True):
        pair = (results[column].values.ravel() for column in (rule, f"{rule}_minibatches"))
        flow, minibatches = (np.minimum(epochs, horizon / EPOCH) for epochs in pair)
        ax.plot(flow, minibatches, color=colour, marker=marker, markersize=3, linestyle="none", label=name)
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, color=style.BLACK, linewidth=0.6)
    ax.set(xscale="log", yscale="log", xlabel="epochs until learned, flow", ylabel="by minibatches")
    ax.legend()
