"""Blocks of an ensemble: groups of members with one clock for each, which go one after another."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int, PyTree

from curlflow._trees import size
from curlflow.chaos.engine.tangent_system import RunState, TangentSystem

# A block holds about so many numbers: the stages of a step then stay in the processor's nearest caches. Members are added up
# in groups of this many, and no block of a larger ensemble has fewer.
LARGEST_ENSEMBLE_BLOCK = 400
MEMBERS_AT_ONCE = 8

# Which parts of the state have the members as their trailing axis: the others have one value for every block.
_HAS_MEMBERS = {field: field in ("y", "frame", "escape", "status") for field in RunState.__dataclass_fields__}


def block_of_members(state: RunState) -> Int[np.ndarray, " members"]:
    """In which block every member of an ensemble is."""
    return np.arange(state.escape.size) // lanes_of(state.escape.size, state.step.size)


def member_state(state: RunState, member: int) -> RunState:
    """The state of one member of an ensemble, with the clock of its block."""
    block = block_of_members(state)[member]
    return _on_parts(
        state,
        lambda leaf: np.asarray(leaf)[..., member],
        lambda leaf: np.asarray(leaf)[block],
    )


def block_count(members: int, point: PyTree[Array]) -> int:
    """How many blocks an ensemble has whose members are this point's trailing axis."""
    most = LARGEST_ENSEMBLE_BLOCK * members // size(point)
    return -(-members // max(most - most % MEMBERS_AT_ONCE, MEMBERS_AT_ONCE))


def lanes_of(members: int, blocks: int) -> int:
    """How many members each of so many blocks has room for."""
    fewest = -(-members // blocks)
    return min(members, fewest + -fewest % MEMBERS_AT_ONCE)


def block_after_block(fn: Callable[..., Any], tangent: TangentSystem, lanes: int, blocks: Any) -> Any:
    """`fn(tangent, block)` on every block, with the block's own systems if every member has its own."""
    if tangent.members == "states":
        return jax.lax.map(partial(fn, tangent), blocks)
    arrays, rest = eqx.partition((tangent.system, tangent.args), eqx.is_array)

    def with_own_systems(pair: tuple[Any, Any]) -> Any:
        arrays, block = pair
        systems = eqx.combine(arrays, rest)
        own = eqx.tree_at(lambda p: (p.system, p.args), tangent, systems, is_leaf=lambda x: x is None)
        return fn(own, block)

    def cut_systems(leaf: Array) -> Array:
        return jnp.moveaxis(cut(jnp.moveaxis(leaf, 0, -1), lanes), -1, 1)

    return jax.lax.map(with_own_systems, (jtu.tree_map(cut_systems, arrays), blocks))


def cut_state(state: RunState, lanes: int) -> RunState:
    """The state in blocks, along a new first axis.

    The places left over in the last block count as escaped: they are held still, and no step depends on them.
    """
    blocks = _on_parts(state, partial(cut, lanes=lanes), lambda clock: clock)
    return eqx.tree_at(lambda s: s.escape, blocks, cut(state.escape, lanes, mode="constant"))


def joined_state(state: RunState, members: int) -> RunState:
    """The state of the whole ensemble, whose blocks these are."""
    return _on_parts(state, partial(join, members=members), lambda clock: clock)


def _on_parts(state: RunState, of_members: Callable[..., Any], of_clocks: Callable[..., Any]) -> RunState:
    """Functions of all arrays which have a member axis, and of all which have not."""
    parts = {
        field: jtu.tree_map(of_members if has_members else of_clocks, getattr(state, field))
        for field, has_members in _HAS_MEMBERS.items()
    }
    return RunState(**parts)


def cut(leaf: Array, lanes: int, mode: str = "edge") -> Array:
    """Blocks of an array's last axis along a new first one: the last block is filled with copies, or with zeros."""
    blocks = -(-leaf.shape[-1] // lanes)
    width = [(0, 0)] * (leaf.ndim - 1) + [(0, lanes * blocks - leaf.shape[-1])]
    filled = jnp.pad(leaf, width, mode=mode)
    return jnp.moveaxis(filled.reshape(*leaf.shape[:-1], blocks, lanes), -2, 0)


def join(leaf: Array, members: int) -> Array:
    """The array whose blocks these are."""
    joined = jnp.moveaxis(leaf, 0, -2)
    return joined.reshape(*joined.shape[:-2], -1)[..., :members]
