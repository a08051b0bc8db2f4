"""Orbits as smooth curves: more times of a run where its picture bends."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from curlflow._trees import size
from curlflow.orbits.trajectory import Trajectory

# A curve is smooth if it turns by less than this between neighbouring points, radians. Shorter segments, in units of the
# picture, may turn more, and longer ones are never trusted.
STRAIGHT, SHORT, LONG = 0.12, 0.004, 0.1
# So many times are added at once (with the end as many as `integrate` saves: what is compiled serves again), and how often.
AT_ONCE, ROUNDS = 256, 40
# A run of more steps times numbers is not solved again for its picture.
MOST_NUMBERS = 5_000_000
# Of a run that is solved once more its end must come out again, in units of the picture.
SAME = 1e-3
# Between fewer points than this there may be anything, such as a whole turn.
FEWEST = 64
# What lies further outside of the picture than this, in its units, may be as rough as it likes.
MARGIN = 0.25

Picture = Callable[[Trajectory], Float[np.ndarray, "times axes"]]


def smooth(
    trajectory: Trajectory, picture: Picture, window: ArrayLike | None = None
) -> Float[np.ndarray, "points axes"]:
    """The points of an orbit's picture, so close together that straight lines between them look like the curve.

    Parameters
    ----------
    trajectory
        A trajectory of one initial condition.
    picture
        Where in the picture its states are: a function of a trajectory to an array of shape (times, axes).
    window
        What is seen of the picture, (low, high) along every axis, shape (axes, 2); None means all of it.

    Returns
    -------
    ndarray
        Shape (points, axes), the saved points among them. Only those if nothing more can be known (the trajectory is no
        flow's, or was read from a file), or if to solve the run once more would take long.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> turns = cf.integrate(
    ...     lambda t, y, args: jnp.stack([y[1], -y[0]]), jnp.array([1.0, 0.0]), 6.0, ts=[0.0, 6.0]
    ... )
    >>> points = cf.orbits.smooth(turns, lambda orbit: orbit.ys)
    >>> bool(len(points) > 50), bool(abs((points**2).sum(axis=1) - 1).max() < 1e-6)
    (True, True)
    """
    times, points = trajectory.ts, np.asarray(picture(trajectory), float)
    if not _may_be_sampled(trajectory) or not np.isfinite(points).all():
        return points
    forwards = np.sign(times[-1] - times[0])
    for _ in range(ROUNDS):
        seen = [points.min(axis=0), points.max(axis=0)] if window is None else np.transpose(window)
        low, high = np.asarray(seen)
        scale = np.where(high > low, high - low, 1.0)
        placed = np.clip((points - low) / scale, -MARGIN, 1 + MARGIN)
        need = np.abs(np.diff(times)) if len(times) < FEWEST else _need(placed)
        new = np.setdiff1d(_between(times, need), times)  # between neighbouring numbers there are none
        if not len(new):
            break
        more = trajectory.sampled(np.append(new, np.full(AT_ONCE + 1 - len(new), times[-1])))
        added = np.asarray(picture(more), float)
        if not np.all(np.abs(added[-1] - points[-1]) <= SAME * scale):
            break
        times, points = np.append(times, new), np.concatenate([points, added[: len(new)]])
        order = np.argsort(forwards * times, kind="stable")
        times, points = times[order], points[order]
    return points


def _may_be_sampled(trajectory: Trajectory) -> bool:
    """Whether more can be known of the run, and soon."""
    if trajectory.interpolation is not None or trajectory.rerun is None:
        return trajectory.interpolation is not None
    return size(trajectory.ys) // len(trajectory.ts) * trajectory.stats["steps"] <= MOST_NUMBERS


def _need(points: Float[np.ndarray, "points axes"]) -> Float[np.ndarray, " segments"]:
    """How much every segment needs points in between: its length where it is long or turns, 0 where it is straight."""
    steps = np.diff(points, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    directions = steps / np.where(lengths > 0, lengths, 1.0)[:, None]
    turns = np.arccos(np.clip(np.sum(directions[1:] * directions[:-1], axis=1), -1.0, 1.0))
    # A corner belongs to the segments on both sides of it.
    turn = np.maximum(np.append(turns, 0.0), np.insert(turns, 0, 0.0))
    # Along the edge to which they were clipped, beyond the margin, nothing is seen.
    is_unseen = np.any((steps == 0) & ((points[1:] == -MARGIN) | (points[1:] == 1 + MARGIN)), axis=1)
    is_rough = (lengths > LONG) | ((turn > STRAIGHT) & (lengths > SHORT))
    return np.where(is_rough & ~is_unseen, lengths, 0.0)


def _between(
    times: Float[np.ndarray, " times"], need: Float[np.ndarray, " segments"]
) -> Float[np.ndarray, " new"]:
    """Times that divide the segments in need; the longest ones if they are too many."""
    chosen = np.flatnonzero(need)
    chosen = chosen[np.argsort(-need[chosen], kind="stable")[:AT_ONCE]]
    parts = AT_ONCE // max(len(chosen), 1)
    shares = np.arange(1, parts + 1) / (parts + 1)
    return (times[chosen][:, None] + np.diff(times)[chosen][:, None] * shares).ravel()
