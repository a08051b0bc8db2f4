"""Tables that say what the paper claims, what was found, and whether that is the same."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from shared.diagrams import fraction_of, linear_margin

Claims = Sequence[tuple[str, str, str]]
TOO_FEW = "too few seeds to judge"
# Of two seeds there is no majority but all.
FEWEST_SEEDS = 3


def verdict_table(claims: Claims) -> str:
    """What the paper claims, what was found, and whether that is the same."""
    rows = ["| the paper | here | verdict |", "|---|---|---|"]
    return "\n".join(rows + [f"| {' | '.join(claim)} |" for claim in claims])


def cost_note(results: xr.Dataset) -> str:
    """What a sweep took, as a sentence for the end of its report."""
    minutes = results["wall_time"].sum().item() / 60
    if minutes >= 90:
        return f"Cost: {minutes / 60:.1f} hours of one core."
    return (
        f"Cost: {minutes:.0f} minutes of one core." if minutes >= 1.5 else "Cost: about a minute of one core."
    )


def verdict_on(points: Sequence[bool]) -> str:
    """A claim about points at which it holds or not: "reproduced" at all, "weaker" at half of them or more."""
    if not len(points):
        return "no point to tell from"
    if all(points):
        return "reproduced"
    return "weaker" if np.mean(points) >= 0.5 else "not reproduced"


def verdict_anywhere(points: Sequence[bool]) -> str:
    """A claim that something happens at some of the points."""
    if not len(points):
        return "no point to tell from"
    return "reproduced" if any(points) else "not reproduced"


def of_enough_seeds(runs: np.ndarray, verdict: str) -> str:
    """A verdict on what most of the runs do along ratios, fractions and seeds; two seeds are no majority."""
    return verdict if runs.shape[-1] >= FEWEST_SEEDS else TOO_FEW


def boundary_claims(panel: str, fate: str, found: str, happens: xr.DataArray) -> list[tuple[str, str, str]]:
    """That most students have a fate beyond a boundary, and that this lies at lower c than that of linear networks.

    `happens` says of every ratio, fraction and seed whether it did; `found` says how that was seen.
    """
    fraction = fraction_of(happens)
    runs, margin = happens.transpose("c", fraction, "seed").values, linear_margin(happens)
    most, flipped = runs.mean(axis=2) > 0.5, happens[fraction].values > 0
    beyond, inside = (margin < 0) & flipped, (margin > 0) & flipped
    return [
        (
            f"{panel}: {fate} beyond a boundary",
            f"beyond that of linear networks {share(runs[beyond])} {found}",
            of_enough_seeds(runs, verdict_on(most[beyond].tolist())),
        ),
        (
            f"{panel}: it lies at lower c than for linear networks",
            f"where these are stable, most do at {most[inside].sum()} of {inside.sum()} points with flips; "
            f"{share(runs[inside])} in all",
            of_enough_seeds(runs, verdict_anywhere(most[inside].tolist())),
        ),
    ]


def share(holds: np.ndarray) -> str:
    """Of how many runs something holds, given along points and seeds, with a 95 % bootstrap interval over the seeds.

    Seeds are what is drawn independently: networks of one seed at neighbouring points have weights in common.
    """
    if not holds.size:
        return "none of 0"
    of_seeds = holds.mean(axis=0)
    count = f"{holds.sum()} of {holds.size} ({holds.mean():.0%}"
    if len(of_seeds) < FEWEST_SEEDS:
        return f"{count})"
    if np.ptp(of_seeds) == 0:
        return f"{count}, for every seed)"
    interval = stats.bootstrap((of_seeds,), np.mean, method="percentile", rng=0).confidence_interval
    return f"{count} [{interval.low:.0%}, {interval.high:.0%}])"
