"""Finding fixed points from many starting points."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from curlflow import _checks
from curlflow._compile import compiled
from curlflow._results import result
from curlflow._trees import flatten_states, float64, labelled_leaves, take
from curlflow.fixed_points.classify import NUMBERS, FixedPoint, LocalField, classified, newton_step
from curlflow.system import Args, Flow, State, StateLike, flow_state

MOST_DESCENT_STEPS = 256


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
    """

    points: tuple[FixedPoint, ...]
    n_starts: int
    n_converged: int
    n_outside: int

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

    def to_xarray(self) -> xr.Dataset:
        """The points along `point`: kinds, counts and evidence, eigenvalues along `mode`, and the leaves of the states.

        The counts of starts stand in the attributes. Without a point there are no modes, and no states.
        """
        numbers = {name: ("point", [getattr(point, name) for point in self.points]) for name in NUMBERS}
        eigenvalues = (
            np.stack([point.eigenvalues for point in self.points])
            if self.points
            else np.zeros((0, 0), complex)
        )
        variables: dict[str, Any] = {
            "kind": ("point", np.array([point.kind.value for point in self.points], str)),
            "real": (("point", "mode"), np.real(eigenvalues)),
            "imaginary": (("point", "mode"), np.imag(eigenvalues)),
            **numbers,
        }
        if self.points:
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(point.point for point in self.points))
            variables |= labelled_leaves(stacked, "point", taken=(*variables, "mode"))
        return xr.Dataset(
            variables, attrs={name: getattr(self, name) for name in ("n_starts", "n_converged", "n_outside")}
        )

    def __str__(self) -> str:
        head = (
            f"FixedPoints: {len(self)} distinct; "
            f"{self.n_converged} of {self.n_starts} starts converged, {self.n_outside} outside the bounds"
        )
        return "\n".join([head, *(f"  {point}" for point in self.points)])


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
    Newton steps in the Jacobian's range; what is not a fixed point after that (a local minimum of the speed) is dropped and
    counted. On a manifold of fixed points every start ends at a point of its own.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    guesses
        Starting points: a state's pytree, every leaf with a leading axis of starts.
    bounds
        Instead of guesses, the corners (lower, upper) of a box, each a state's pytree: starting points are drawn uniformly
        from it, and fixed points outside are left out.
    starts
        How many starting points to draw in the box.
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
    box = None if bounds is None else _box(*bounds)
    if box is not None:
        starting = uniform_starts(
            box, _checks.positive_integer("starts", starts), jax.random.key(0) if key is None else key
        )
    else:
        starting = _checks.state_pytree("guesses", guesses)
    _checks.leading_axis("guesses", starting, "starting points")
    flow_state(system, take(starting, 0), t, args)
    return search(system, starting, box, t, args, _checks.positive_integer("max_steps", max_steps))


def search(
    system: Flow, starting: State, box: tuple[State, State] | None, t: float, args: Args, max_steps: int
) -> FixedPoints:
    """The fixed points to which descents from starting points lead, which were checked, within a box if there is one."""
    ends = _descend(system, starting, float64(t), args, max_steps)
    n_starts = len(jax.tree.leaves(ends)[0])
    found = [_classified(system, take(ends, i), t, args) for i in range(n_starts)]
    converged = [point for point in found if point is not None]
    inside = [point for point in converged if box is None or _inside(point.point, box)]
    distinct = sorted(_distinct(inside, starting), key=lambda point: (point.n_manifold, point.n_unstable))
    return FixedPoints(tuple(distinct), n_starts, len(converged), len(converged) - len(inside))


def _box(lower: StateLike, upper: StateLike) -> tuple[State, State]:
    lower, upper = _checks.state_pytree("bounds[0]", lower), _checks.state_pytree("bounds[1]", upper)
    if jax.tree.structure(lower) != jax.tree.structure(upper):
        raise ValueError("`bounds` must be two states of the same structure, but the corners differ.")
    for low, high in zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
        if low.shape != high.shape or not bool(jnp.all(low < high)):
            raise ValueError(
                f"`bounds` must have lower corner below upper corner, but have {low} and {high}."
            )
    return lower, upper


def uniform_starts(box: tuple[State, State], starts: int, key: PRNGKeyArray) -> State:
    """Starting points drawn uniformly from a box."""
    low, unravel = ravel_pytree(box[0])
    high = ravel_pytree(box[1])[0]
    return jax.vmap(unravel)(jax.random.uniform(key, (starts, low.size), jnp.float64, low, high))


@compiled
def _descend(system: Flow, starting: State, t: Array, args: Args, max_steps: int) -> State:
    solver = optx.LevenbergMarquardt(rtol=1e-12, atol=1e-14)

    def descend(y: State) -> State:
        solution = optx.least_squares(
            lambda y, args: system(t, y, args), solver, y, args, max_steps=max_steps, throw=False
        )
        return solution.value

    return jax.vmap(descend)(starting)


def _classified(system: Flow, y: State, t: float, args: Args) -> FixedPoint | None:
    """The end of a descent, polished and classified; None if it is not a fixed point."""
    unravel = ravel_pytree(y)[1]
    try:
        local = LocalField(system, y, t, args)
    except ValueError:  # the flow or its Jacobian is not finite
        return None
    state, (value, J) = local.flat, (local.value, local.jacobian)
    for _ in range(4):
        polished = state + newton_step(value, J)
        smaller = local.at(polished)
        if not np.linalg.norm(smaller[0]) < np.linalg.norm(value):
            break
        state, (value, J) = polished, smaller
    try:
        return classified(LocalField(system, unravel(jnp.asarray(state)), t, args))
    except ValueError:
        return None


def _inside(y: State, box: tuple[State, State]) -> bool:
    point, low, high = (np.asarray(ravel_pytree(tree)[0]) for tree in (y, *box))
    slack = 1e-9 * (high - low)
    return bool(np.all((point >= low - slack) & (point <= high + slack)))


def _distinct(points: list[FixedPoint], starting: State) -> list[FixedPoint]:
    """One of each set of points that coincide to a millionth of the size of all of them and of the starting points."""
    if not points:
        return []
    states = np.stack([np.asarray(ravel_pytree(point.point)[0]) for point in points])
    # The points alone would not do: where all of them are one, at 0, their size is rounding.
    scale = max(np.abs(everything).max() for everything in (states, flatten_states(starting)))
    kept: list[int] = []
    for i, state in enumerate(states):
        if all(np.abs(state - states[j]).max() > 1e-6 * scale for j in kept):
            kept.append(i)
    return [points[i] for i in kept]
