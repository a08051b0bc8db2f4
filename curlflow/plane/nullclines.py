"""Nullclines: the curves in a window on which one component of a planar velocity vanishes."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import contourpy
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from curlflow._compile import compiled
from curlflow._trees import float64
from curlflow.system import Args, Flow

# Along this direction a component's derivative tells where it touches zero, but for points at which the curve runs so itself.
ACROSS = (np.cos(0.6), np.sin(0.6))
# The grid begins so many cells beside the window's corner, and ends twice as many before the opposite one: round numbers, at
# which fields like sin(x) / x have no value, lie between its lines.
ASIDE = np.array([1.1e-6, 0.7e-6])
# What is left of a component after so many halvings of an edge, as a share of its size at the ends of the edge: much less
# where it passes through zero, as much or more where it jumps or has a pole.
HALVINGS, LEFT = 40, 1e-3
# The same where it touches zero, as a share of its size one cell away.
LEFT_OF_TOUCH = 1e-6
# Vertices of the curves are handled in so many, twice as many, … places: few sizes to compile.
FEWEST_PLACES = 2048

Curve = Float[np.ndarray, "_ 2"]


def nullclines(flow: Flow, resolution: int, t: float, args: Args) -> tuple[tuple[Curve, ...], ...]:
    """The curves on which the first and the second component of a planar velocity vanish.

    Contours of the sampled components find every branch. Each of their vertices, on an edge of the grid, is then moved to the
    place where the component itself vanishes; where it does not, as at a pole, there is no curve. A component that touches
    zero does not change its sign: there its derivative along a direction does.

    Parameters
    ----------
    flow
        A velocity f(t, place, args) on the unit square, shape (2,).
    resolution
        Grid points along each side.
    t, args
        Time and arguments at which it is taken.

    Returns
    -------
    tuple
        For each component its curves, each of shape (points, 2).
    """
    grid = _Grid(resolution - 1)
    sampled = _Sampled(flow, float64(t), args, float64(1 / grid.cells))
    nodes = np.stack(np.meshgrid(*2 * [np.arange(resolution)]), axis=-1).reshape(-1, 2)
    values = np.asarray(_values_at(sampled, jnp.asarray(grid.place(nodes)))).T.reshape(
        4, resolution, resolution
    )
    lines = [(number, line) for number in range(4) for line in _contours(values[number])]
    if not lines:
        return (), ()
    numbers = np.repeat([number for number, _ in lines], [len(line) for _, line in lines])
    places, vanishes = _vanishing(sampled, grid, np.concatenate([line for _, line in lines]), numbers)
    found: tuple[list[Curve], list[Curve]] = ([], [])
    ends = np.cumsum([len(line) for _, line in lines])
    for (number, line), end in zip(lines, ends, strict=True):
        part = slice(end - len(line), end)
        found[number % 2].extend(_stretches(places[part], vanishes[part]))
    return tuple(found[0]), tuple(found[1])


class _Grid(NamedTuple):
    """A grid on the unit square, so many cells wide."""

    cells: int

    def place(self, nodes: np.ndarray) -> Float[np.ndarray, "points 2"]:
        """Where nodes lie, that are counted from 0, and places between them."""
        return (ASIDE + nodes * (1 - 3 * ASIDE / self.cells)) / self.cells

    def edges(self, vertices: Float[np.ndarray, "points 2"]) -> tuple[np.ndarray, np.ndarray]:
        """The nodes at both ends of the edges on which vertices of a contour lie."""
        rows = np.arange(len(vertices))
        along = np.argmax(
            np.abs(vertices - np.round(vertices)), axis=1
        )  # the axis on which it is between lines
        lower = np.round(vertices)
        lower[rows, along] = np.clip(np.floor(vertices[rows, along]), 0, self.cells - 1)
        upper = lower.copy()
        upper[rows, along] += 1
        return lower, upper


@final
class _Sampled(eqx.Module):
    """A planar velocity: its two components, and their two derivatives across."""

    flow: Flow
    t: Array
    args: Args
    spacing: Array

    def __call__(self, place: Float[Array, "2"]) -> Float[Array, "4"]:
        def velocity(place: Array) -> Any:
            return self.flow(self.t, place, self.args)

        return jnp.concatenate(jax.jvp(velocity, (place,), (jnp.asarray(ACROSS),)))


@compiled
def _values_at(sampled: _Sampled, places: Float[Array, "points 2"]) -> Float[Array, "points 4"]:
    return jax.vmap(sampled)(places)


def _contours(values: Float[np.ndarray, "n n"]) -> Sequence[Any]:
    """Curves along which interpolated values change their sign, in cells of the grid; clear of cells without a value."""
    if not (np.any(values < 0) and np.any(values > 0)):
        return []
    generator = contourpy.contour_generator(z=np.ma.masked_invalid(values), corner_mask=False)
    return generator.lines(0.0)


def _vanishing(
    sampled: _Sampled,
    grid: _Grid,
    vertices: Float[np.ndarray, "points 2"],
    numbers: Int[np.ndarray, " points"],
) -> tuple[Float[np.ndarray, "points 2"], Bool[np.ndarray, " points"]]:
    """Vertices moved along their edges to where the value of their number vanishes, and whether the component does there."""
    count = len(vertices)
    room = max(FEWEST_PLACES, 1 << (count - 1).bit_length()) - count
    lower, upper = (
        jnp.asarray(np.pad(grid.place(nodes), ((0, room), (0, 0)))) for nodes in grid.edges(vertices)
    )
    places, vanishes = _bisected(sampled, lower, upper, jnp.asarray(np.pad(numbers, (0, room))))
    return np.asarray(places)[:count], np.asarray(vanishes)[:count]


@compiled
def _bisected(
    sampled: _Sampled, lower: Array, upper: Array, numbers: Array
) -> tuple[Float[Array, "points 2"], Bool[Array, " points"]]:
    return jax.vmap(_bisected_edge, in_axes=(None, 0, 0, 0))(sampled, lower, upper, numbers)


def _bisected_edge(
    sampled: _Sampled, lower: Array, upper: Array, number: Array
) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    at_lower, at_upper = sampled(lower), sampled(upper)
    is_positive = at_lower[number] > 0

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        is_below = (sampled(middle)[number] > 0) == is_positive
        return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (lower, upper))
    component = number % 2
    left = jnp.maximum(jnp.abs(sampled(low)[component]), jnp.abs(sampled(high)[component]))
    passes = left <= LEFT * jnp.maximum(jnp.abs(at_lower[component]), jnp.abs(at_upper[component]))
    step = sampled.spacing * jnp.asarray(ACROSS)
    before, after = sampled(low - step)[component], sampled(low + step)[component]
    touches = (before * after >= 0) & (left <= LEFT_OF_TOUCH * jnp.maximum(jnp.abs(before), jnp.abs(after)))
    return (low + high) / 2, jnp.where(number < 2, passes, touches)


def _stretches(places: Float[np.ndarray, "points 2"], kept: Bool[np.ndarray, " points"]) -> list[Curve]:
    """The pieces of a curve on which the component vanishes."""
    breaks = np.flatnonzero(kept[1:] != kept[:-1]) + 1
    pieces = zip(np.split(places, breaks), np.split(kept, breaks), strict=True)
    return [piece for piece, is_kept in pieces if is_kept.all() and np.ptp(piece, axis=0).max() > 0]
