"""Whether and how an orbit comes back: its section points, whether it closes, what it fills, whether it is stationary."""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from curlflow._trees import flatten_states
from curlflow.system import State

# Two points are the same if they differ by less than this share of the orbit's extent; of the n-th return an n-th of it is
# asked for, because the nearest of many is near by chance.
CLOSED_WITHIN = 1e-7
# An orbit on its way to a cycle closes better from turn to turn: its last turn so well, each by so much better.
NEARLY_CLOSED, CONTRACTION = 1e-3, 0.9
# Coordinates that vary less than this share of their own size are measured by that share: rounding is not blown up.
SMALLEST_VARIATION = 1e-2
# What an orbit fills is measured with so many points at least, in so many directions at most.
FEWEST_POINTS, MOST_DIRECTIONS = 256, 16
NEAR_NEIGHBOUR, FAR_NEIGHBOUR = 4, 32
# Points nearer to each other than this share of their size, as a rule, are the points of a cycle.
SAME_POINT = 1e-9
# Averages of the two halves of a stationary orbit differ by at most this share of its spread, and their spreads by this.
SHIFT, CHANGE_OF_SPREAD = 0.2, 0.05


class Coordinates(NamedTuple):
    """How states are compared: angles by their points on a circle, every coordinate in units of its own variation."""

    periods: Float[np.ndarray, " numbers"]  # 0 where a coordinate is no angle
    scale: Float[np.ndarray, " columns"]

    @classmethod
    def of(cls, states: State, periods: Float[np.ndarray, " numbers"]) -> "Coordinates":
        """Those of an orbit observed in these states."""
        columns = _on_circles(flatten_states(states), periods)
        scale = np.maximum(columns.std(axis=0), SMALLEST_VARIATION * np.abs(columns).max(axis=0))
        return cls(periods, np.where(scale > 0, scale, 1.0))

    def __call__(self, states: State) -> Float[np.ndarray, "states columns"]:
        """States, stacked, as points."""
        return _on_circles(flatten_states(states), self.periods) / self.scale


def _on_circles(numbers: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Every angle replaced by a point on the circle whose circumference is its period."""
    angles = periods > 0
    radius = periods[angles] / (2 * np.pi)
    phase = numbers[:, angles] / radius
    return np.concatenate([numbers[:, ~angles], radius * np.cos(phase), radius * np.sin(phase)], axis=1)


def extent(points: Float[np.ndarray, "states columns"]) -> float:
    """How far an orbit strays from its first point."""
    return float(np.linalg.norm(points - points[0], axis=1).max())


def closings(
    points: Float[np.ndarray, "returns columns"], size: float, attracts: bool
) -> list[tuple[int, float]]:
    """After which numbers of returns an orbit closes, and how near it then is to its first point, in units of its extent.

    It is back within the errors of the computation; or, on its way to a cycle that attracts, every turn ends so much
    nearer to where it began that hardly anything is left of the way.
    """
    distance = np.linalg.norm(points[1:] - points[0], axis=1) / size
    numbers = np.flatnonzero(distance <= NEARLY_CLOSED) + 1
    return [
        (int(n), float(distance[n - 1]))
        for n in numbers
        if distance[n - 1] <= CLOSED_WITHIN / n or (attracts and _contracts(points, int(n), size))
    ]


def _contracts(points: np.ndarray, n: int, size: float) -> bool:
    """Whether turns of n returns end ever nearer to where they began."""
    turns = points[: 4 * n + 1 : n]
    if len(turns) < 4:
        return False
    moves = np.linalg.norm(np.diff(turns, axis=0), axis=1) / size
    return bool(np.all(moves[1:] <= CONTRACTION * moves[:-1] + CLOSED_WITHIN / 10))


def dimension(points: Float[np.ndarray, "points columns"]) -> float:
    """The dimension of the set that points fill: 0 for a cycle's, 1 for those of a curve, between for a fractal's.

    The distance of a point to its k-th neighbour grows like k^(1/D): D from the fourth and the thirty-second neighbour. NaN
    for fewer than 256 points.
    """
    if len(points) < FEWEST_POINTS:
        return float("nan")
    if points.shape[1] > MOST_DIRECTIONS:
        points = points @ np.random.default_rng(0).normal(size=(points.shape[1], MOST_DIRECTIONS))
    distances = scipy.spatial.KDTree(points).query(points, k=FAR_NEIGHBOUR + 1)[0][
        :, [NEAR_NEIGHBOUR, FAR_NEIGHBOUR]
    ]
    size = max(float(np.abs(points).max()), 1e-300)
    if np.median(distances[:, 0]) < SAME_POINT * size:
        return 0.0
    near, far = np.log(np.maximum(distances, 1e-16 * size)).mean(axis=0)
    return float(np.log(FAR_NEIGHBOUR / NEAR_NEIGHBOUR) / (far - near)) if far > near else float("inf")


def is_stationary(points: Float[np.ndarray, "times columns"], tolerance: float = 1.0) -> bool:
    """Whether the two halves of an orbit have the same averages and the same spread in every coordinate.

    A tolerance of more than 1 allows for so many times the usual difference.
    """
    halves = np.array_split(points, 2)
    (mean, other_mean), (spread, other) = zip(
        *((half.mean(axis=0), half.std(axis=0)) for half in halves), strict=True
    )
    larger = np.maximum(spread, other)
    shifted = np.abs(mean - other_mean) > tolerance * SHIFT * larger
    changed = np.abs(spread - other) > tolerance * CHANGE_OF_SPREAD * larger
    return not np.any((shifted | changed) & (larger > SMALLEST_VARIATION))
