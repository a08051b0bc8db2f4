"""What the engine is asked, where it stands, and what it writes down."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Float, Int, PyTree

from curlflow._trees import size
from curlflow.chaos.engine import frames

# State and frame of up to this many numbers go through the solver as one flat vector, and are chosen without a branch.
LARGEST_PACKED = 4096

RUNNING, BLOWN_UP, STEP_LIMIT, STEP_TOO_SMALL, COLUMN_LOST = range(5)


class Problem(eqx.Module):
    """What to compute and how. Numbers are arrays, so that new ones do not recompile; the rest is compiled in."""

    system: Any
    args: Any
    t0: Float[Array, ""]
    dt: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    blow_up: Float[Array, ""]
    max_steps: Int[Array, ""]
    solver: diffrax.AbstractSolver | None  # None for maps
    with_divergence: bool
    members: str | None  # None: one run; "states": an ensemble; "systems": one with a system for every member

    def over_members(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` on every member of the ensemble, or itself where there is only one run."""
        return fn if self.members is None else jax.vmap(fn, in_axes=-1, out_axes=-1)

    def over_systems(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn(system, args, *rest)` on every member's own system, or on the one that all members share."""
        if self.members is None:
            return lambda *rest: fn(self.system, self.args, *rest)
        if self.members == "states":
            return jax.vmap(lambda *rest: fn(self.system, self.args, *rest), in_axes=-1, out_axes=-1)
        arrays, rest_of_system = eqx.partition((self.system, self.args), eqx.is_array)

        def member(arrays: Any, rest: tuple[Any, ...]) -> Any:
            return fn(*eqx.combine(arrays, rest_of_system), *rest)

        return lambda *rest: jax.vmap(member, in_axes=(0, -1), out_axes=-1)(arrays, rest)


class State(eqx.Module):
    """Everything that a run needs in order to go on.

    Members of an ensemble are the trailing axis of y, frame and escape; every block of them has a clock of its own.
    """

    y: PyTree[Array]
    frame: PyTree[Array]
    step: Float[Array, "*blocks"]
    interval: Int[Array, "*blocks"]
    pieces: Int[Array, "*blocks"]
    escape: Float[Array, "*members"]
    status: Int[Array, "*blocks"]
    time: Float[Array, "*blocks"]
    steps: Int[Array, "*blocks"]


class Record(eqx.Module):
    """What is written down at the end of every interval."""

    log_growth: Float[Array, "intervals k *members"]
    volume_growth: Float[Array, "intervals *members"]


def record_shape(problem: Problem, state: State) -> tuple[int, tuple[int, ...]]:
    """The number k of tangent vectors, and the number of members if there are any."""
    lengths = jax.eval_shape(problem.over_members(frames.column_squares), state.frame)
    return lengths.shape[0], lengths.shape[1:]


def choose(condition: Array, new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """One of two values: element by element where they are small, because a branch costs more."""
    if size(new) <= LARGEST_PACKED:
        return jtu.tree_map(lambda new, old: jnp.where(condition, new, old), new, old)
    return jax.lax.cond(condition, lambda: new, lambda: old)


def escape_times(problem: Problem, y: Any, escape: Array, t: Array) -> Float[Array, "*members"]:
    """When each member's largest entry passed the limit: infinity for those that are still inside."""
    inside = problem.over_members(optx.max_norm)(y) < problem.blow_up
    return jnp.where((escape == jnp.inf) & ~inside, t, escape)
