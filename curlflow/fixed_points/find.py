"""Finding fixed points from many starting points."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import scipy
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._later import xr
from curlflow._results import result
from curlflow._saved import compared, outcome_attributes, parts_of, recorded, texts
from curlflow._trees import flatten_states, float64, labelled_leaves, take
from curlflow.fixed_points.box import Box, boundary_index, circle_index
from curlflow.fixed_points.classify import NUMBERS, FixedPoint, Kind, classified, is_fixed_point
from curlflow.fixed_points.linearize import flat_field
from curlflow.fixed_points.local import LocalField, full_newton_step
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Flow, State, StateLike, flow_state

MOST_DESCENT_STEPS = 256
# Newton steps towards a multiple root.
MOST_POLISHING = 40
# What a search counts.
COUNTS = ("n_starts", "n_converged", "n_outside", "n_not_finite")
# Ends of descents closer than this, in units of the box, are one.
SAME_PLACE = 1e-9


@result
class FixedPoints(Sequence[FixedPoint]):
    """The distinct fixed points that a search found, in the order of ascending n_manifold, then n_unstable.

    Attributes
    ----------
    points
        The fixed points; the object itself is a sequence of them.
    n_starts
        How many starting points there were.
    n_converged
        How many of them converged to a fixed point (several to the same one, as a rule).
    n_outside
        How many converged outside the bounds, and were left out.
    n_not_finite
        How many ended where the field or its Jacobian is not finite. The rest ended where the speed has a minimum that is
        not zero, or ran out of steps.
    outcome
        Whether these are all. In a box of two dimensions the indices of all fixed points add up to the number of turns that
        the field makes along the boundary (Poincaré): completed if they do, not converged if some are missing, undecided
        where the boundary tells nothing. In other dimensions nothing is known, which the message says.
    """

    points: tuple[FixedPoint, ...]
    n_starts: int
    n_converged: int
    n_outside: int
    n_not_finite: int
    outcome: Outcome

    @overload
    def __getitem__(self, index: int) -> FixedPoint: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[FixedPoint, ...]: ...

    def __getitem__(self, index: int | slice) -> FixedPoint | tuple[FixedPoint, ...]:
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FixedPoint]:
        return iter(self.points)

    def to_xarray(self) -> "xr.Dataset":
        """The points along `point`: kinds, counts and evidence, eigenvalues along `mode`, and the leaves of the states.

        The counts of starts stand in the attributes. Without a point there are no modes, and no states.
        """
        columns = self._columns()
        eigenvalues, states = columns["eigenvalues"], columns["point"]
        variables: dict[str, Any] = {
            "kind": ("point", texts([point.kind.value for point in self.points])),
            "real": (("point", "mode"), np.real(eigenvalues)),
            "imaginary": (("point", "mode"), np.imag(eigenvalues)),
            **{name: ("point", columns[name]) for name in NUMBERS},
        }
        leaves = labelled_leaves(states, "point", taken=(*variables, "mode"))
        counts = {name: getattr(self, name) for name in COUNTS}
        dataset = xr.Dataset(variables | leaves, attrs=counts | outcome_attributes(self.outcome))
        held = [
            (eigenvalues, ("real", "imaginary")),
            *((columns[name], name) for name in NUMBERS),
            *zip(jax.tree.leaves(states), leaves, strict=True),
        ]
        return recorded(dataset, FixedPoints, compared(self) | {"points": columns}, held)

    def _columns(self) -> dict[str, Any]:
        """Every field of the points, of all of them together."""
        numbers = {name: np.array([getattr(point, name) for point in self.points]) for name in NUMBERS}
        kinds = [point.kind for point in self.points]
        if not self.points:
            return {"point": None, "kind": kinds, "eigenvalues": np.zeros((0, 0), complex), **numbers}
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(point.point for point in self.points))
        eigenvalues = np.stack([point.eigenvalues for point in self.points])
        return {"point": states, "kind": kinds, "eigenvalues": eigenvalues, **numbers}

    @classmethod
    def from_xarray(cls, dataset: "xr.Dataset") -> "FixedPoints":
        """The fixed points of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it. States of a class of your own need that class
            imported where it was.

        Returns
        -------
        FixedPoints
            Equal to those that were saved.

        Raises
        ------
        ValueError
            If the dataset is none of fixed points that were searched, or no longer holds all of them.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> found = cf.find_fixed_points(cf.toy_flow(flip="readout"), jnp.array([[0.1, 0.0], [0.4, 2.0]]))
        >>> cf.fixed_points.FixedPoints.from_xarray(found.to_xarray()) == found
        True
        """
        parts = parts_of(dataset, FixedPoints)
        columns = parts.pop("points")
        numbers = {name: columns[name].tolist() for name in NUMBERS}
        points = tuple(
            FixedPoint(
                point=take(columns["point"], i),
                kind=kind,
                eigenvalues=columns["eigenvalues"][i],
                **{name: numbers[name][i] for name in NUMBERS},
            )
            for i, kind in enumerate(columns["kind"])
        )
        return cls(points, **parts)

    def __str__(self) -> str:
        head = (
            f"FixedPoints: {len(self)} distinct; "
            f"{self.n_converged} of {self.n_starts} starts converged, {self.n_outside} outside the bounds"
        )
        head += f", {self.n_not_finite} met a field that is not finite" if self.n_not_finite else ""
        head += "" if self.outcome.ok else f"; {self.outcome}"
        isolated = [f"  {point}" for point in self.points if not point.n_manifold]
        return "\n".join([head, *isolated, *_by_kind([point for point in self.points if point.n_manifold])])


def _by_kind(points: Sequence[FixedPoint]) -> list[str]:
    """Points of manifolds, of which there are as many as there were starts, in one line for those of one kind."""
    groups: dict[str, list[float]] = {}
    for point in points:
        residuals = groups.setdefault(f"{point.kind.value} across {point.n_manifold} dimensions of them", [])
        residuals.append(point.residual)
    return [
        f"  on a manifold of fixed points: {len(residuals)} × {kind} (residuals up to {max(residuals):.1e})"
        for kind, residuals in groups.items()
    ]


def find_fixed_points(
    system: Flow,
    guesses: StateLike | None = None,
    *,
    bounds: tuple[StateLike, StateLike] | None = None,
    starts: int = 64,
    t: float = 0.0,
    args: Args = None,
    key: PRNGKeyArray | None = None,
    max_steps: int = MOST_DESCENT_STEPS,
) -> FixedPoints:
    """Find fixed points of a flow from many starting points, and classify each.

    Levenberg–Marquardt descents on ‖f‖², which do not mind the singular Jacobians of solution manifolds, are polished by
    Newton steps in the Jacobian's range, or towards a multiple root; what is not a fixed point after that (a local minimum of
    the speed) is dropped and counted. On a manifold of fixed points every start ends at a point of its own.

    In a box of up to three dimensions the field is first sampled on a grid, and descents start wherever it may vanish; in two
    dimensions the number of turns along the box's boundary tells whether all were found. All lengths are measured in the
    box's sides, so that neither units nor the place of the origin matter; points on the box's edge belong to it.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    guesses
        Starting points: a state's pytree, every leaf with a leading axis of starts.
    bounds
        Instead of guesses, the corners (lower, upper) of a box, each a state's pytree: starting points are drawn uniformly
        from it besides those from the grid, and fixed points outside are left out.
    starts
        How many starting points to take in the box; more, in batches of this size, if the grid suggests more.
    t, args
        Time and arguments at which the vector field is taken.
    key
        JAX random key for the draw; None means `jax.random.key(0)`.
    max_steps
        Most steps of each descent.

    Returns
    -------
    FixedPoints
        The distinct fixed points, and how many starts led to one.

    Raises
    ------
    ValueError
        If not exactly one of `guesses` and `bounds` is given, if they do not fit the system, or as `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> def pendulum(t, y, args):
    ...     return jnp.array([y[1], -jnp.sin(y[0]) - 0.1 * y[1]])
    >>> found = cf.find_fixed_points(pendulum, bounds=(jnp.array([-1.0, -1.0]), jnp.array([4.0, 1.0])))
    >>> [str(point.kind) for point in found]
    ['stable focus', 'saddle']
    """
    if (guesses is None) == (bounds is None):
        given = "neither" if guesses is None else "both"
        raise ValueError(f"Exactly one of `guesses` and `bounds` must be given, but {given} were.")
    max_steps = _checks.positive_integer("max_steps", max_steps)
    if bounds is None:
        starting = _checks.state_pytree("guesses", guesses)
        _checks.leading_axis("guesses", starting, "starting points")
        flow_state(system, take(starting, 0), t, args)
        return search_from(system, starting, t, args, max_steps)
    starts = _checks.positive_integer("starts", starts)
    lower, upper = _box(bounds)
    flow_state(system, lower, t, args, "bounds[0]")
    low, high = (np.asarray(ravel_pytree(corner)[0]) for corner in (lower, upper))
    box = Box(system, low, high, lower, t, args)
    return search(
        box, starts, jax.random.key(0) if key is None else _checks.random_key("key", key), max_steps
    )


def search(box: Box, starts: int, key: PRNGKeyArray, max_steps: int, refinements: int = 1) -> FixedPoints:
    """The fixed points in a box, from where the sampled field may vanish and from points drawn at random.

    Where the boundary of a planar box says that some are missing, the field is sampled more finely.
    """
    hunt = _Hunt(box, box.low, box.sides, starts, max_steps)
    suspects = box.suspects()
    rounds = max(-(-len(suspects) // starts), 1)
    random = jax.random.uniform(key, (rounds * starts - len(suspects), box.n), jnp.float64)
    hunt.follow(np.concatenate([suspects, box.low + box.sides * np.asarray(random)]), box.size)
    balance = index_balance(box, hunt.points)
    for _ in range(refinements):
        if balance.ending != Ending.NOT_CONVERGED:
            break
        hunt.follow(_padded(box.finer_suspects(), starts), box.size)
        balance = index_balance(box, hunt.points)
    return hunt.result(balance)


def search_from(system: Flow, guesses: State, t: float, args: Args, max_steps: int) -> FixedPoints:
    """The fixed points to which descents from guesses lead."""
    starting = flatten_states(guesses)
    like = take(guesses, 0)
    spread = np.ptp(starting, axis=0) / 2
    size = np.abs(starting).max(axis=0)
    scale = np.where(spread > 1e-6 * size, spread, np.where(size > 0, size, 1.0))
    region = Box(system, starting.min(axis=0), starting.max(axis=0), like, t, args)
    hunt = _Hunt(region, starting.mean(axis=0), scale, len(starting), max_steps, is_bounded=False)
    hunt.follow(starting, scale)
    return hunt.result(Outcome(Ending.COMPLETED, None, "All guesses were followed."))


class _Hunt:
    """Descents from starting points, and what they led to so far."""

    def __init__(
        self,
        box: Box,
        origin: np.ndarray,
        scale: np.ndarray,
        together: int,
        max_steps: int,
        is_bounded: bool = True,
    ):
        self.box, self.origin, self.scale, self.together = box, origin, scale, together
        self.max_steps, self.is_bounded = max_steps, is_bounded
        self.points: list[FixedPoint] = []
        self.n_starts = self.n_converged = self.n_outside = self.n_not_finite = 0
        self._places: list[np.ndarray] = []
        self._fates: list[tuple[np.ndarray, bool, bool]] = []

    def follow(self, starting: Float[np.ndarray, "starts state"], size: np.ndarray) -> None:
        """Descend from starting points, and keep the fixed points among the ends."""
        box = self.box
        for block in np.split(starting, max(len(starting) // self.together, 1)) if len(starting) else ():
            ends = _descend(
                box.system,
                jnp.asarray((block - self.origin) / self.scale),
                (jnp.asarray(self.origin), jnp.asarray(self.scale), jnp.asarray(size)),
                box.like,
                float64(box.t),
                box.args,
                self.max_steps,
            )
            for end in self.origin + self.scale * np.asarray(ends):
                self._judge(end)
        self.n_starts += len(starting)

    def _judge(self, end: np.ndarray) -> None:
        if not np.isfinite(end).all():
            self.n_not_finite += 1
            return
        converged, outside = self._known_fate(end) or self._fate(end)
        self.n_converged += converged
        self.n_outside += outside

    def _known_fate(self, end: np.ndarray) -> tuple[bool, bool] | None:
        """What became of an end at the same place, as most share theirs with others."""
        for place, converged, outside in self._fates:
            if np.abs((end - place) / self.scale).max() < SAME_PLACE:
                return converged, outside
        return None

    def _fate(self, end: np.ndarray) -> tuple[bool, bool]:
        """Polish an end, and keep it if it is a fixed point in the box: whether it is one, and whether it lies outside."""
        box = self.box
        local = polished(LocalField(box.system, end, box.like, box.t, box.args, self.scale))
        if not local.is_finite:
            self.n_not_finite += 1
        converged = is_fixed_point(local)
        local = self._without_dust(local) if converged else local
        outside = converged and self.is_bounded and not box.contains(local.flat)
        self._fates.append((end, converged, outside))
        if converged and not outside:
            point = classified(self._on_the_edge(local))
            place = np.asarray(ravel_pytree(point.point)[0])
            if not self._has(place, point.accuracy):
                self.points.append(point)
                self._places.append(place)
        return converged, outside

    def _without_dust(self, local: LocalField) -> LocalField:
        """The point with zeros for coordinates that are nothing beside the region's size.

        Towards a multiple root at the origin Newton's steps go on until the field is less than any number.
        """
        dust = np.abs(local.flat) < np.finfo(float).eps * np.abs(self.scale)
        return self._moved(local, np.where(dust, 0.0, local.flat))

    def _on_the_edge(self, local: LocalField) -> LocalField:
        """The point itself or, if it lies outside by rounding only, the one on the edge."""
        box = self.box
        return self._moved(local, np.clip(local.flat, box.low, box.high)) if self.is_bounded else local

    def _moved(self, local: LocalField, flat: np.ndarray) -> LocalField:
        """A fixed point moved by its rounding, if it still is one there."""
        if (flat == local.flat).all():
            return local
        moved = LocalField(self.box.system, flat, self.box.like, self.box.t, self.box.args, self.scale)
        return moved if is_fixed_point(moved) else local

    def _has(self, place: np.ndarray, accuracy: float) -> bool:
        """Whether a point is one of those found, as far as they can be told apart."""
        if not self.points:
            return False
        steps = np.abs((np.array(self._places) - place) / self.scale).max(axis=1)
        # The accuracies are lengths in the system's coordinates, of which the largest may count.
        unsharp = 10 * np.maximum(accuracy, [point.accuracy for point in self.points]) / self.scale.max()
        return bool((steps <= np.maximum(SAME_PLACE, unsharp)).any())

    def result(self, outcome: Outcome) -> FixedPoints:
        """What was found, in order."""
        order = sorted(self.points, key=lambda point: (point.n_manifold, point.n_unstable))
        return FixedPoints(
            tuple(order), self.n_starts, self.n_converged, self.n_outside, self.n_not_finite, outcome
        )


def _padded(starting: Float[np.ndarray, "starts state"], together: int) -> Float[np.ndarray, "more state"]:
    """The starts, the last repeated until they come in blocks."""
    missing = -len(starting) % together
    return (
        np.concatenate([starting, np.repeat(starting[-1:], missing, axis=0)]) if len(starting) else starting
    )


def polished(local: LocalField) -> LocalField:
    """The end of a descent, moved by Newton steps for as long as they make the field smaller."""
    for _ in range(4):
        moved = local.beside(local.step)
        if not _is_slower(moved, local):
            break
        local = moved
    return local if not local.is_finite or is_fixed_point(local) else _polished_multiple(local)


def _polished_multiple(local: LocalField) -> LocalField:
    """The same where the point is a multiple root, of which each step leaves a fixed share of the distance.

    Two steps tell the share, and their geometric series the root.
    """
    before = None
    for _ in range(MOST_POLISHING):
        step = full_newton_step(local.value, local.jacobian)
        if step is None:
            break
        candidates = [local.beside(step)]
        if before is not None:
            share = float(step @ before / (before @ before))
            if 0.2 < share < 0.98:
                candidates.append(local.beside(step / (1 - share)))
        best = min(candidates, key=lambda each: np.nan_to_num(np.linalg.norm(each.value), nan=np.inf))
        if not _is_slower(best, local):
            break
        before = step if best is candidates[0] else None
        local = best
    return local


def _is_slower(one: LocalField, other: LocalField) -> bool:
    return bool(np.linalg.norm(one.value) < np.linalg.norm(other.value))


# ------------------------------------------------------------------------------------------ completeness


def index_balance(box: Box, points: Sequence[FixedPoint]) -> Outcome:
    """Whether the indices of the fixed points found in a box add up to the one of its boundary, in words."""
    if box.n != 2:
        words = f"In {box.n} dimensions nothing tells whether there are more: raise `starts` to see."
        return Outcome(Ending.COMPLETED, None, words)
    if any(point.n_manifold for point in points):
        words = "Curves of fixed points are among them, where an index says nothing of how many there are."
        return Outcome(Ending.COMPLETED, None, words)
    places = np.array([ravel_pytree(point.point)[0] for point in points]).reshape(-1, 2)
    index = boundary_index(box, _margin(box, places))
    if index is None:
        words = "Whether these are all cannot be told: on the box's boundary the field vanishes or is not continuous."
        return Outcome(Ending.UNDECIDED, None, words)
    indices = [_index(box, point, places) for point in points]
    if None in indices:
        words = "Whether these are all cannot be told: the index of a degenerate one was not found."
        return Outcome(Ending.UNDECIDED, None, words)
    found = sum(each for each in indices if each is not None)
    if found == index:
        words = f"Their indices add up to {found:+d}, as often as the field turns along the box's boundary."
        return Outcome(Ending.COMPLETED, None, words)
    return _explained(box, places, index, found)


def _explained(box: Box, places: np.ndarray, index: int, found: int) -> Outcome:
    """Whether places where the field is not continuous, such as poles, make up for the difference."""
    poles = [(place, turns) for place in _poles(box, places) if (turns := circle_index(box, place, 1 / 64))]
    words = f"The field turns {index:+d} times along the box's boundary, but the indices found add up to {found:+d}"
    if poles and found + sum(turns for _, turns in poles) == index:
        where = ", ".join(f"({x:.3g}, {y:.3g})" for (x, y), _ in poles)
        return Outcome(Ending.COMPLETED, None, f"{words}; poles at {where} make up for the difference.")
    remedy = "or the field is not continuous between them: look at smaller boxes"
    return Outcome(Ending.NOT_CONVERGED, None, f"{words}: some are missing, {remedy}.")


def _poles(box: Box, places: np.ndarray) -> list[np.ndarray]:
    """Nodes of the grid at which the field is largest by far, or not finite, away from the fixed points."""
    speed = np.linalg.norm(box.grid / box.size, axis=-1)
    speed = np.where(np.isfinite(speed), speed, np.inf)
    highest = (speed >= scipy.ndimage.maximum_filter(speed, 5)) & (speed > 30 * np.median(speed))
    step = box.sides / (len(speed) - 1)
    found: list[np.ndarray] = []
    for node in box.low + step * np.argwhere(highest):
        if all(np.abs((node - other) / step).max() > 5 for other in [*places, *found]):
            found.append(node)
    return found[:16]


def _margin(box: Box, places: np.ndarray) -> float:
    """How far outside the box to go round, in units of its sides: some way if there are points on its edge."""
    if not len(places):
        return 0.0
    to_edge = np.minimum(np.abs(places - box.low), np.abs(places - box.high)) / box.sides
    return 1e-4 if to_edge.min() < 1e-6 else 0.0


def _index(box: Box, point: FixedPoint, places: np.ndarray) -> int | None:
    """The index of an isolated fixed point in the plane: the sign of its determinant, or how the field turns round it."""
    if point.kind != Kind.DEGENERATE:
        return int(np.sign(np.prod(point.eigenvalues).real))
    place = np.asarray(ravel_pytree(point.point)[0])
    distances = np.linalg.norm((places - place) / box.sides, axis=1)
    return circle_index(box, place, min(1e-3, *(distances[distances > 0] / 3), 1e-3))


def _box(bounds: tuple[StateLike, StateLike]) -> tuple[State, State]:
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise ValueError(f"`bounds` must be two states, the lower and the upper corner, but is {bounds!r}.")
    lower, upper = (_checks.state_pytree(f"bounds[{i}]", corner) for i, corner in enumerate(bounds))
    if jax.tree.structure(lower) != jax.tree.structure(upper):
        raise ValueError("`bounds` must be two states of the same structure, but the corners differ.")
    for low, high in zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
        if low.shape != high.shape or not bool(jnp.all(low < high)):
            raise ValueError(
                f"`bounds` must have lower corner below upper corner, but have {low} and {high}."
            )
    return lower, upper


@compiled
def _descend(
    system: Flow,
    starting: Float[Array, "starts state"],
    units: tuple[Array, Array, Array],
    like: State,
    t: Array,
    args: Args,
    max_steps: int,
) -> Float[Array, "starts state"]:
    """Descents in units of the box's sides, on a field in units of its own size, so that no units of the system count."""
    solver = optx.LevenbergMarquardt(rtol=1e-12, atol=1e-14)
    origin, scale, size = units
    field, _ = flat_field(system, like, t, args)

    def descend(place: Array) -> Array:
        solution = optx.least_squares(
            lambda z, _: field(origin + scale * z) / size,
            solver,
            place,
            None,
            max_steps=max_steps,
            throw=False,
        )
        return solution.value

    return jax.vmap(descend)(starting)
