"""Which leaves of a state are layers with a norm to hold, and which are free."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from curlflow import _checks
from curlflow.system import State


class FreeLeaves(NamedTuple):
    """Which leaves are free, in the order of the pytree: hashable, so that a module can have it as a static field."""

    structure: Any
    free: tuple[bool, ...]


def free_leaves(free: Any) -> FreeLeaves | None:
    """The leaves that a user marked by a pytree of True and False; None stands for none of them."""
    if free is None:
        return None
    leaves = jtu.tree_leaves_with_path(free)
    marks = tuple(_checks.truth_value("free" + jtu.keystr(path), _mark(leaf)) for path, leaf in leaves)
    if all(marks):
        raise ValueError(
            "`free` must be False at one leaf at least, whose norm is held, but is True at every one."
        )
    return FreeLeaves(jtu.tree_structure(free), marks) if any(marks) else None


def split(y: State, free: FreeLeaves | None) -> tuple[State, State]:
    """The leaves whose norms are held, and those which are free, each with None in the place of the others."""
    if free is None:
        return y, jtu.tree_map(lambda leaf: None, y)
    if jtu.tree_structure(y) != free.structure:
        raise ValueError(
            f"`free` must be a pytree like the state, but is {free.structure} for the state {jtu.tree_structure(y)}."
        )
    open_leaves, held = eqx.partition(y, jtu.tree_unflatten(free.structure, free.free))
    return held, open_leaves


def require_nonzero_norms(y: State, free: FreeLeaves | None, sentence: str) -> None:
    """Refuse a state in which a layer whose norm is to be held is zero; the sentence says what every layer must."""
    for path, layer in jtu.tree_leaves_with_path(split(y, free)[0]):
        if not _checks.is_traced(layer) and not jnp.any(layer):
            raise ValueError(
                f"{sentence}, but y{jtu.keystr(path)} is zero. Biases that start at zero are left free by `free`."
            )


def _mark(leaf: Any) -> Any:
    """A mark as Python has it, for the fields of `Weights` are arrays."""
    return leaf if _checks.is_traced(leaf) else np.asarray(leaf).tolist()
