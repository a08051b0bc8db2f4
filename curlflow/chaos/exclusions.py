"""What kinds of motion a system cannot have, whatever its exponents seem to say."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jaxtyping import Array

from curlflow._results import result
from curlflow._trees import size, take
from curlflow.chaos.engine.tangent_system import TangentSystem
from curlflow.system import State

# The system is looked at in so many of the states observed.
LOOKS = 32
# A field counts as linear if its value half way between two states is the mean of theirs to this share of them.
ROUNDED = 1e-9
# A forcing is back if the velocity differs by less than this share of the largest.
REPEATED = 1e-6


@result
class Exclusions:
    """Why an orbit of a system can be neither chaotic nor quasi-periodic; None where nothing speaks against it.

    Attributes
    ----------
    chaos, torus
        The reason, as a sentence, or None.
    is_autonomous
        Whether the system was the same at all times at which it was looked at.
    """

    chaos: str | None
    torus: str | None
    is_autonomous: bool

    def __str__(self) -> str:
        return f"Exclusions: chaos {self.chaos or 'possible'}, torus {self.torus or 'possible'}"


def exclusions(
    tangent: TangentSystem, first: State, states: State, times: np.ndarray, angles: int
) -> Exclusions:
    """What is excluded on an orbit with so many angles, observed in these states and at first in another."""
    chosen = np.unique(np.linspace(0, len(times) - 1, LOOKS).astype(int))
    # Where the orbit came to rest, its own states alone would not tell what is linear.
    few = jtu.tree_map(lambda leaf, one: jnp.append(leaf[chosen], one[None], axis=0), states, first)
    autonomous, linear = map(bool, _looks(tangent, few, jnp.asarray(np.append(times[chosen], times[0]))))
    n = size(take(few, 0))
    chaos = "A linear system is not chaotic." if linear else None
    if tangent.is_map:
        return Exclusions(chaos, None, autonomous)
    if autonomous and n == 1:
        both = "An autonomous flow on a line only moves towards rest or away from it."
        return Exclusions(both, both, autonomous)
    if autonomous and n == 2:
        plane = "An autonomous flow in a plane is neither chaotic nor quasi-periodic (Poincaré, Bendixson)."
        return Exclusions(plane, None if angles == 2 else plane, autonomous)
    if n == 1:
        chaos = "Orbits of a flow on a line cannot overtake each other: none is chaotic."
    return Exclusions(chaos, None, autonomous)


def repeats_after(tangent: TangentSystem, states: State, times: np.ndarray, after: float) -> bool:
    """Whether a vector field is the same after a time, in states of the orbit and at theirs."""
    chosen = np.unique(np.linspace(0, len(times) - 1, LOOKS).astype(int))
    change, speed = _changes(tangent, take(states, chosen), jnp.asarray(times[chosen]), jnp.asarray(after))
    return bool(change <= REPEATED * speed)


@eqx.filter_jit
def _changes(tangent: TangentSystem, states: State, times: Array, after: Array) -> tuple[Array, Array]:
    """By how much the velocity changes in a time at most, and the largest velocity."""

    def compare(pair: tuple[Array, State]) -> tuple[Array, Array]:
        t, y = pair
        now, then = (_value(tangent, time, y) for time in (t, t + after))
        return optx.max_norm(jtu.tree_map(jnp.subtract, then, now)), optx.max_norm(now)

    change, speed = jax.lax.map(compare, (times, states))
    return jnp.max(change), jnp.max(speed)


@eqx.filter_jit
def _looks(tangent: TangentSystem, states: State, times: Array) -> tuple[Array, Array]:
    """Whether the system does the same at other times, and whether it is linear, in these states."""

    def shifted(tree: Any) -> Any:
        return jtu.tree_map(lambda leaf: jnp.roll(leaf, 1, axis=0), tree)

    def compare(pair: tuple[Array, Array, State, State]) -> tuple[Array, Array]:
        t, other_time, y, other = pair
        own, others = _value(tangent, t, y), _value(tangent, t, other)
        half_way = _value(tangent, t, jtu.tree_map(lambda a, b: (a + b) / 2, y, other))
        bend = jtu.tree_map(lambda h, a, b: h - (a + b) / 2, half_way, own, others)
        scale = jnp.maximum(optx.max_norm(own), optx.max_norm(others))
        return _equal(own, _value(tangent, other_time, y)), optx.max_norm(bend) <= ROUNDED * scale

    same, straight = jax.lax.map(compare, (times, shifted(times), states, shifted(states)))
    return jnp.all(same), jnp.all(straight)


def _value(tangent: TangentSystem, t: Array, y: State) -> State:
    """The velocity, or a map's next state."""
    system: Any = tangent.system
    if tangent.is_map:
        return system.step(jnp.round(t).astype(jnp.int64), y, tangent.args)
    return system(t, y, tangent.args)


def _equal(one: State, other: State) -> Array:
    pairs = zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True)
    return jnp.all(jnp.stack([jnp.all((a == b) | (jnp.isnan(a) & jnp.isnan(b))) for a, b in pairs]))
