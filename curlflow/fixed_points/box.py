"""A field sampled in a box: where a search for fixed points had better start, and how many there must be."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import scipy
from jaxtyping import Bool, Float

from curlflow._trees import float64
from curlflow.fixed_points.local import velocities
from curlflow.system import Args, Flow, State

# Nodes along a side by the number of dimensions, while a grid of them is cheap.
NODES = {1: 4097, 2: 129, 3: 33}
# A patch of suspicious cells no larger than this is started from everywhere; of a larger one, so many of its cells.
SMALL_PATCH = 16
# More starting points than this from one grid are thinned.
MOST_STARTS = 1024
# The window's boundary in steps of this share of a side, halved so often where the field turns fast.
BOUNDARY_STEPS = 1024
HALVINGS, MOST_POINTS = 40, 100_000


@dataclass(frozen=True)
class Box:
    """A flow in a box of its state space, whose corners are flattened states."""

    system: Flow
    low: Float[np.ndarray, " state"]
    high: Float[np.ndarray, " state"]
    like: State
    t: float
    args: Args

    @property
    def n(self) -> int:
        return self.low.size

    @property
    def sides(self) -> Float[np.ndarray, " state"]:
        return self.high - self.low

    @cached_property
    def size(self) -> Float[np.ndarray, " state"]:
        """The field's own size in the box, component by component; where no grid is cheap, the box's own."""
        if self.n not in NODES:
            return self.sides
        return _typical_size(self.grid.reshape(-1, self.n), self.sides)

    @cached_property
    def grid(self) -> Float[np.ndarray, "*nodes state"]:
        """The velocities at the nodes of a grid."""
        return self.sampled(self.low, self.high)

    def sampled(self, low: np.ndarray, high: np.ndarray) -> Float[np.ndarray, "*nodes state"]:
        """The velocities at the nodes of a grid between other corners."""
        nodes = NODES[self.n]
        return self.velocities(_nodes(low, high, nodes)).reshape(*[nodes] * self.n, self.n)

    def velocities(self, points: Float[np.ndarray, "points state"]) -> Float[np.ndarray, "points state"]:
        """The velocities at some points. All calls are brought to one number of them, so that one program does for all."""
        block = NODES[self.n] ** self.n
        found = [
            np.asarray(velocities(self.system, padded, self.like, float64(self.t), self.args))
            for padded in _blocks(points, block)
        ]
        return np.concatenate(found)[: len(points)]

    def contains(self, point: np.ndarray) -> bool:
        """Whether a point lies in the box or, by rounding, beside its edge."""
        slack = 1e-9 * self.sides
        return bool(np.all((point >= self.low - slack) & (point <= self.high + slack)))

    def suspects(self) -> Float[np.ndarray, "points state"]:
        """Points near which the sampled field may vanish: in dimensions in which a grid is cheap, else none."""
        if self.n not in NODES:
            return np.zeros((0, self.n))
        return suspects(self.grid / self.size, self.low, self.high)

    def finer_suspects(self) -> Float[np.ndarray, "points state"]:
        """The same from a grid that is four times as fine."""
        edges = np.linspace(self.low, self.high, 5)
        found = []
        for corner in product(range(4), repeat=self.n):
            low, high = (edges[np.array(corner) + side, np.arange(self.n)] for side in (0, 1))
            found.append(suspects(self.sampled(low, high) / self.size, low, high))
        return _thinned(np.concatenate(found), MOST_STARTS)


def _typical_size(
    values: Float[np.ndarray, "points state"], sides: np.ndarray
) -> Float[np.ndarray, " state"]:
    """The median size of each component where it is finite; where that is nothing, its largest, or the box's side."""
    finite = np.where(np.isfinite(values), np.abs(values), np.nan)
    known = np.isfinite(finite).any(axis=0)
    finite = np.where(known, finite, 0.0)
    middle, largest = np.nanmedian(finite, axis=0), np.nanmax(finite, axis=0)
    return np.where(middle > 0, middle, np.where(largest > 0, largest, sides))


def suspects(
    values: Float[np.ndarray, "*nodes state"], low: np.ndarray, high: np.ndarray
) -> Float[np.ndarray, "points state"]:
    """The middles of cells in which all components may change their signs, and the nodes at which the speed is least."""
    n, nodes = values.shape[-1], len(values)
    step = (high - low) / (nodes - 1)
    cells = _chosen(_signs_change(values))
    speed = np.linalg.norm(values, axis=-1)
    speed = np.where(np.isfinite(speed), speed, np.inf)
    least = (speed <= scipy.ndimage.minimum_filter(speed, 3)) & (speed < np.median(speed))
    starts = np.concatenate([low + step * (cells + 0.5), low + step * _chosen(least)])
    return _thinned(starts.reshape(-1, n), MOST_STARTS)


def _signs_change(values: Float[np.ndarray, "*nodes state"]) -> Bool[np.ndarray, "*cells"]:
    """The cells at whose corners no component has one sign only."""
    n = values.shape[-1]
    corners = [
        values[tuple(slice(1, None) if bit else slice(None, -1) for bit in bits)]
        for bits in product([0, 1], repeat=n)
    ]
    lowest, highest = np.fmin.reduce(corners), np.fmax.reduce(corners)
    return ((lowest <= 0) & (highest >= 0)).all(axis=-1)


def _chosen(mask: Bool[np.ndarray, "*cells"]) -> Float[np.ndarray, "cells dimensions"]:
    """The places of all cells in small patches, and of some in each large patch, such as a curve of fixed points."""
    labels: Any = scipy.ndimage.label(mask, np.ones([3] * mask.ndim))[0]
    places = np.argwhere(mask)
    patch = labels[mask]
    order = np.argsort(patch, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(patch[order])) + 1)
    kept = [_thinned(group, SMALL_PATCH) for group in groups]
    return places[np.concatenate(kept).astype(int)].astype(float)


def _thinned(items: np.ndarray, most: int) -> np.ndarray:
    return items[:: max(-(-len(items) // most), 1)]


def _nodes(low: np.ndarray, high: np.ndarray, nodes: int) -> Float[np.ndarray, "points state"]:
    axes = [np.linspace(*ends, nodes) for ends in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, low.size)


def _blocks(points: np.ndarray, block: int) -> list[np.ndarray]:
    """The points in blocks of one length, the last filled up with its last point."""
    count = max(-(-len(points) // block), 1)
    padded = np.concatenate([points, np.repeat(points[-1:], count * block - len(points), axis=0)])
    return np.split(padded, count)


# ------------------------------------------------------------------------------------------------- index


def boundary_index(box: Box, margin: float) -> int | None:
    """How often the field turns along the boundary of a planar box that is wider by a margin, in units of its sides.

    It is the sum of the indices of all fixed points inside (Poincaré). None where the field vanishes on the boundary, is not
    finite there, or jumps.
    """
    outer = np.array([box.low - margin * box.sides, box.high + margin * box.sides])
    share = np.linspace(0.0, 1.0, BOUNDARY_STEPS, endpoint=False)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    sides = [
        start + share[:, None] * (end - start)
        for start, end in zip(corners, np.roll(corners, -1, 0), strict=True)
    ]
    return winding(box, outer[0] + np.concatenate(sides) * (outer[1] - outer[0]))


def circle_index(box: Box, centre: np.ndarray, radius: float) -> int | None:
    """How often the field turns along a small circle, of a radius in units of the box's sides."""
    angles = np.linspace(0.0, 2 * np.pi, 256, endpoint=False)
    return winding(box, centre + radius * box.sides * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def winding(box: Box, loop: Float[np.ndarray, "points 2"]) -> int | None:
    """How often a planar field turns along a closed polygon; None where it cannot be told."""
    points = np.concatenate([loop, loop[:1]])
    values = box.velocities(points) / box.size
    for _ in range(HALVINGS):
        turns = _turns(values)
        fast = np.flatnonzero(~(np.abs(turns) < np.pi / 4))
        if not len(fast) or len(points) > MOST_POINTS or not np.isfinite(values).all():
            break
        middles = (points[fast] + points[fast + 1]) / 2
        points = np.insert(points, fast + 1, middles, axis=0)
        values = np.insert(values, fast + 1, box.velocities(middles) / box.size, axis=0)
    turns = _turns(values)
    if not np.isfinite(turns).all() or np.abs(turns).max() > np.pi / 2:
        return None
    return round(float(turns.sum() / (2 * np.pi)))


def _turns(values: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, " steps"]:
    """The angles by which the field turns from point to point; NaN beside a point where it has no direction."""
    u, v = values.T
    crossed, along = u[:-1] * v[1:] - v[:-1] * u[1:], u[:-1] * u[1:] + v[:-1] * v[1:]
    still = (np.hypot(u, v) == 0)[:-1] | (np.hypot(u, v) == 0)[1:]
    return np.where(still, np.nan, np.arctan2(crossed, along))
