"""Where a run begins: a state that the system can move, and random directions beside it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree

from curlflow import _checks
from curlflow._trees import size, take
from curlflow.chaos.engine import frames, intervals
from curlflow.chaos.engine.linearisation import beside_the_start
from curlflow.chaos.engine.tangent_system import RunState, TangentSystem
from curlflow.system import Args, State, StateLike, System, check_state, require_same_structure


def started(
    tangent: TangentSystem,
    y0: StateLike,
    k: int | None,
    key: PRNGKeyArray | None,
    at_least: int = 1,
) -> tuple[TangentSystem, RunState, int]:
    """The tangent system, its first state with k random tangent vectors, and how many exponents there are in all.

    Raises
    ------
    ValueError
        If the system cannot move the state, k is out of range, a flow is not finite there, or what it says of its own
        derivatives is not what automatic differentiation says.
    """
    y0 = _checks.state_pytree("y0", y0)
    _checks.blow_up_limit(float(tangent.blow_up), y0)
    members = None if tangent.members is None else _checks.leading_axis("y0", y0, "members")
    key = jax.random.key(0) if key is None else _checks.random_key("key", key)
    first = y0 if members is None else take(y0, 0)
    units = _check_start(tangent, first, members, key)
    if units is not None:
        tangent = tangent.measured_in(units)
    vector = tangent.vectors_like(first)
    n = size(vector)
    k = max(_exponent_count(k, n), min(at_least, n))
    if tangent.divergence is None:
        tangent = tangent.averaging_divergence(k == n)
    if members is None:
        return tangent, _compiled_start(tangent, y0, frames.random_frame(key, vector, k)), n
    keys = jax.random.split(key, members)
    basis = jax.vmap(lambda key: frames.random_frame(key, vector, k))(keys)
    y0, basis = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 0, -1), (y0, basis))
    return tangent, _compiled_start(tangent, y0, basis), n


_compiled_start = eqx.filter_jit(intervals.start)


def _exponent_count(k: int | None, n: int) -> int:
    if k is None:
        return n
    if not 1 <= _checks.positive_integer("k", k) <= n:
        raise ValueError(f"`k` must lie between 1 and the state's size {n}, but is {k}.")
    return k


def _check_start(
    tangent: TangentSystem, y: State, members: int | None, key: PRNGKeyArray
) -> PyTree[Array] | None:
    """Refuse a state that the system cannot move; return the units of tangent vectors, if not the state's own."""
    system, args = tangent.system, tangent.args
    if tangent.members == "systems" and members is not None:
        system, args = _first_member(system, args, members)
    check_state(system, y)
    if tangent.is_map:
        n = jnp.round(tangent.t0).astype(jnp.int64)
        require_same_structure(lambda y: system.step(n, y, args), y)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        require_same_structure(lambda y: system(tangent.t0, y, args), y)  # pyright: ignore[reportCallIssue]
    if tangent.generator is not None:
        return None
    return beside_the_start(tangent, system, args, y, key, alone=members is None)


def _first_member(system: System, args: Args, members: int) -> tuple[Any, Any]:
    for path, leaf in jtu.tree_leaves_with_path(eqx.filter((system, args), eqx.is_array)):
        if leaf.ndim == 0 or leaf.shape[0] != members:
            raise ValueError(
                f"`system` and `args` must have a leading axis of {members} members on every array, "
                f"but one has shape {leaf.shape} ({jtu.keystr(path)})."
            )
    return jtu.tree_map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, (system, args))
