"""Steps of a map: a state, and the frame pushed along by the derivative."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from curlflow.chaos.engine.tangent_system import BLOWN_UP, RunState, TangentSystem, outside, with_ends


def turn(tangent: TangentSystem, like: Any, first: Array, steps: int) -> Callable[[Array], Array]:
    """A number of steps of a map, from step number `first` on, as a function of flattened states."""
    system: Any = tangent.system
    unravel = ravel_pytree(like)[1]

    def several(flat: Array) -> Array:
        y = jax.lax.fori_loop(0, steps, lambda i, y: system.step(first + i, y, tangent.args), unravel(flat))
        return ravel_pytree(y)[0]

    return several


def iterate(tangent: TangentSystem, state: RunState, begin: Array, end: Array) -> tuple[RunState, Array]:
    """State and frame from one step number to another, and the growth Σ log |det J| of the logarithm of volumes."""
    first, last = (jnp.round(t).astype(jnp.int64) for t in (begin, end))

    def member_step(system: Any, args: Any, n: Array, y: Any, V: Any) -> tuple[Any, Any, Array]:
        moves = optx.max_norm(y) < tangent.blow_up
        averages = tangent.with_divergence
        volume_growth = tangent.volume_step(system, args, n, y) if averages else jnp.zeros(())
        new = (*tangent.stepped(system, args, n, y, V), volume_growth)
        old = (y, V, jnp.zeros(()))
        return jtu.tree_map(lambda new, old: jnp.where(moves, new, old), new, old)

    def goes_on(carry: Any) -> Array:
        n, _, _, (escape, _) = carry
        return (n < last) & jnp.any(escape == jnp.inf)

    def one_step(carry: Any) -> Any:
        n, (y, V), growth, (escape, status) = carry
        many = tangent.members is not None
        counter = jnp.broadcast_to(n, escape.shape) if many else n
        y, V, grown = tangent.over_systems(member_step)(counter, y, V)
        ends = with_ends(escape, status, outside(tangent, y), n + 1.0, BLOWN_UP)
        return n + 1, (y, V), growth + grown, ends

    begun = (first, (state.y, state.frame), jnp.zeros(state.escape.shape), (state.escape, state.status))
    n, (y, V), growth, (escape, status) = jax.lax.while_loop(goes_on, one_step, begun)
    after = RunState(
        y, V, state.step, state.interval, state.pieces, escape, status, n * 1.0, state.steps + n - first
    )
    return after, growth
