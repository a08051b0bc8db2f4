"""Steps of a flow: state, frame and volume go through a diffrax solver together, with one error control for all of them.

The loop over steps is this package's own, because the step size must survive every QR and the error of the tangent vectors is
measured relative to their lengths.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from curlflow._compile import apart, in_one_kernel
from curlflow._trees import size
from curlflow.chaos.engine import frames
from curlflow.chaos.engine.tangent_system import (
    BLOWN_UP,
    LARGEST_PACKED,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    RunState,
    TangentSystem,
    choose,
    outside,
    record_shape,
    with_ends,
)
from curlflow.orbits.solvers import LARGEST_UNROLLED

# State and frame of up to this many numbers go through steps which are a single kernel.
LARGEST_IN_ONE_KERNEL = 1000
# Frames of more numbers than this take a step in blocks of tangent vectors, which the processor's caches hold.
LARGEST_BLOCK = 100_000
# Squared lengths of tangent vectors within these limits are far from where float64 ends: a step that leaves them is the last
# of its piece, which is then divided.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-200, 1e200


def first_step(tangent: TangentSystem, y: PyTree[Array]) -> Float[Array, ""]:
    """A hundredth of the time in which the state would double at its present speed: the controller does the rest."""

    def member_step(system: Any, args: Any, t: Array, y: Any) -> Array:
        return 0.01 * (optx.max_norm(y) + tangent.atol) / (optx.max_norm(system(t, y, args)) + 1e-300)

    members = () if tangent.members is None else (jtu.tree_leaves(y)[0].shape[-1],)
    steps = tangent.over_systems(member_step)(jnp.broadcast_to(tangent.t0, members), y)
    usable = jnp.isfinite(steps) & (steps > 0)
    return jnp.minimum(jnp.min(jnp.where(usable, steps, jnp.inf)), tangent.dt)


def solve(tangent: TangentSystem, state: RunState, begin: Array, end: Array) -> tuple[RunState, Array]:
    """State and frame from one time to another, and the growth ∫ tr J dt of the logarithm of volumes.

    It ends before its time where the length of a tangent vector comes near the ends of float64.
    """
    piece = _piece(tangent, state, begin, end)
    k, _ = record_shape(tangent, state)
    frame = frames.in_blocks(state.frame, piece.blocks)
    point = piece.pack((state.y, frame, jnp.zeros(state.escape.shape)))
    begun = _Stepping(
        begin,
        jnp.minimum(state.step, end - begin),
        point,
        _memory_at(piece, begin, point, state.escape),
        state.escape,
        state.status,
        state.steps,
        state.steps,
        jnp.asarray(True),
        jnp.asarray(False) if tangent.members else False,
    )

    def goes_on(now: _Stepping) -> Array:
        return (now.t < end) & jnp.any(now.escape == jnp.inf) & now.in_range

    loop = partial(jax.lax.while_loop, goes_on, partial(_one_step, piece))
    done = in_one_kernel(loop, begun) if size(point) <= LARGEST_IN_ONE_KERNEL else loop(begun)
    y, V, growth = piece.unpack(done.point)
    # A run of short pieces must not forget the step size that it could take.
    step = jnp.where(done.steps == state.steps + 1, jnp.maximum(done.step, state.step), done.step)
    frame = frames.from_blocks(V, k, piece.blocks)
    after = RunState(
        y, frame, step, state.interval, state.pieces, done.escape, done.status, done.t, done.steps
    )
    return after, growth


class _Piece(NamedTuple):
    """What is solved: the vector field of state, frame and volume together, how they are packed, and until when."""

    tangent: TangentSystem
    solver: diffrax.AbstractSolver
    term: diffrax.ODETerm
    pack: Callable[..., Any]
    unpack: Callable[..., Any]
    blocks: int  # of tangent vectors
    end: Float[Array, ""]
    smallest_step: Float[Array, ""]


class _Stepping(eqx.Module):
    """Where the run stands between two steps of the solver."""

    t: Float[Array, ""]
    step: Float[Array, ""]
    point: PyTree[Array]  # state, frame and growth of the log volume, packed
    memory: Any  # the solver's
    escape: Float[Array, "*members"]
    status: Int[Array, "*members"]
    steps: Int[Array, ""]
    steps_before: Int[Array, ""]  # when the piece began, or the last member was given up
    in_range: Bool[Array, ""]  # the lengths of all tangent vectors
    jumped: Any  # whether a member was stopped by the last step, which makes the velocity in the solver's memory wrong


def _piece(tangent: TangentSystem, state: RunState, begin: Array, end: Array) -> _Piece:
    assert tangent.solver is not None
    pack, unpack = _packing(tangent, state)
    return _Piece(
        tangent,
        tangent.solver,
        diffrax.ODETerm(_field(tangent, pack, unpack)),
        pack,
        unpack,
        blocks=1 if tangent.members else -(-size(state.frame) // LARGEST_BLOCK),
        end=end,
        smallest_step=16 * jnp.finfo(jnp.float64).eps * jnp.maximum(jnp.abs(begin), jnp.abs(end)),
    )


def _memory_at(piece: _Piece, begin: Array, point: Any, escape: Array) -> Any:
    """What the solver remembers at the start, of every block of tangent vectors."""

    def memory(point: Any) -> Any:
        return piece.solver.init(piece.term, begin, piece.end, point, escape == jnp.inf)

    if piece.blocks == 1:
        return memory(point)
    y, V, growth = point
    return jax.lax.map(lambda V: memory((y, V, growth)), V)


def _one_step(piece: _Piece, now: _Stepping) -> _Stepping:
    """One step of the solver, taken or refused, and the size of the next."""
    tangent = piece.tangent
    # Equal steps to the end of the piece: the last one is never a crumb, and the step size survives the end.
    count = jnp.ceil((piece.end - now.t) / jnp.minimum(now.step, tangent.dtmax))
    step = (piece.end - now.t) / count
    t = jnp.where(count <= 1, piece.end, now.t + step)
    point, memory, errors, in_range = _try_step_in_blocks(piece, now, t)
    errors = jnp.where(now.escape == jnp.inf, errors, 0.0)
    error = jnp.max(errors)
    accepted = error < 1
    order = piece.solver.error_order(piece.term) or 1
    factor = jnp.clip(0.9 * error ** (-1 / order), 0.2, jnp.where(accepted, 10.0, 0.9))
    t, point, memory = choose(accepted, (t, point, memory), (now.t, now.point, now.memory))
    steps = now.steps + 1
    too_small = step * factor < piece.smallest_step
    too_many = steps - now.steps_before >= tangent.max_steps
    # The members to blame are those which allow no step twice as long: the others go on without them.
    to_blame = (too_small | too_many) & (errors >= error * 0.5**order)
    escape, status = with_ends(now.escape, now.status, outside(tangent, piece.unpack(point)[0]), t, BLOWN_UP)
    reason = jnp.where(too_many, STEP_LIMIT, STEP_TOO_SMALL)
    escape, status = with_ends(escape, status, to_blame, t, reason)
    stopped = jnp.any(escape != now.escape)
    return _Stepping(
        t,
        step * factor,
        point,
        memory,
        escape,
        status,
        steps,
        steps_before=jnp.where(stopped, steps, now.steps_before),
        in_range=~accepted | jnp.all(in_range | (escape < jnp.inf)),
        jumped=stopped if tangent.members else False,
    )


def _try_step_in_blocks(
    piece: _Piece, now: _Stepping, t: Array
) -> tuple[Any, Any, Float[Array, "*members"], Bool[Array, "*members"]]:
    """A step to time t of the state with each block of tangent vectors in turn: the point, the memory, the largest errors."""
    if piece.blocks == 1:
        return _try_step(piece, now, t, now.point, now.memory)
    y, V, growth = now.point
    (y, V, growth), memory, errors, in_range = jax.lax.map(
        lambda block: _try_step(piece, now, t, (y, block[0], growth), block[1]), (V, now.memory)
    )
    # Every block came to the same state and volume.
    y, growth = jtu.tree_map(lambda leaf: leaf[0], (y, growth))
    return (y, V, growth), memory, jnp.max(errors, axis=0), jnp.all(in_range, axis=0)


def _try_step(
    piece: _Piece, now: _Stepping, t: Array, point: Any, memory: Any
) -> tuple[Any, Any, Float[Array, "*members"], Bool[Array, "*members"]]:
    """A step to time t: the point there, the solver's memory, the members' errors in units of the tolerance, the lengths."""
    after, error, _, memory, result = piece.solver.step(
        piece.term, now.t, t, point, now.escape == jnp.inf, memory, now.jumped
    )
    sizes, in_range = _error_sizes(piece.tangent, *map(piece.unpack, (error, point, after)))
    good = (result == diffrax.RESULTS.successful) & jnp.isfinite(sizes)
    return after, memory, jnp.where(good, sizes, jnp.inf), in_range


def _packing(tangent: TangentSystem, state: RunState) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How state, frame and volume become the solver's state, and back.

    A small system is one flat vector: arrays of a few numbers each cost a kernel apiece. A large one stays as it is.
    """
    point = (state.y, state.frame, jnp.zeros(state.escape.shape))
    if size(point) > LARGEST_PACKED * max(state.escape.size, 1):
        return lambda point: point, lambda point: point
    if tangent.members is None:
        return lambda point: ravel_pytree(point)[0], ravel_pytree(point)[1]
    leaves, structure = jtu.tree_flatten(point)
    sizes = [leaf[..., 0].size for leaf in leaves]

    # Not by `vmap`, which would put the members first: rows of members are what the processor adds up fastest.
    def pack(point: Any) -> Array:
        rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in jtu.tree_leaves(point)]
        return jnp.concatenate(rows)

    def unpack(packed: Array) -> Any:
        rows = jnp.split(packed, np.cumsum(sizes)[:-1])
        pairs = zip(rows, leaves, strict=True)
        return jtu.tree_unflatten(structure, [row.reshape(leaf.shape) for row, leaf in pairs])

    return pack, unpack


def _field(
    tangent: TangentSystem, pack: Callable[..., Any], unpack: Callable[..., Any]
) -> Callable[..., Any]:
    """The vector field of state, frame and volume together; members that escaped are held still."""

    def member_field(
        system: Any, args: Any, t: Array, moves: Array, y: Any, V: Any
    ) -> tuple[Any, Any, Array]:
        rate, frame_rate = tangent.rates(system, args, t, y, V)
        growth = tangent.volume_rate(system, args, t, y) if tangent.with_divergence else jnp.zeros(())
        rates = (rate, frame_rate, growth)
        if tangent.members is None:
            return rates
        return jtu.tree_map(lambda leaf: jnp.where(moves, leaf, 0.0), rates)

    def field(t: Array, point: Any, moves: Array) -> Any:
        y, V, growth = unpack(point)
        times = jnp.broadcast_to(t, growth.shape)
        return pack(tangent.over_systems(member_field)(times, moves, y, V))

    return field


def _error_sizes(
    tangent: TangentSystem, error: Any, before: Any, after: Any
) -> tuple[Float[Array, "*members"], Bool[Array, "*members"]]:
    """Of every member, the largest of the errors of state, tangent vectors and volume, in units of the tolerance.

    And whether the lengths of its tangent vectors are far from the ends of float64.
    """
    separately = apart if size(before) > LARGEST_UNROLLED else lambda function, *args: function(*args)

    def member_size(error: Any, before: Any, after: Any) -> tuple[Array, Array]:
        (y_error, V_error, q_error), (y0, _, _), (y1, V1, _) = error, before, after
        sizes = [separately(partial(_state_error, tangent), y_error, y0, y1)]
        squares = frames.column_squares(V1)
        relative = separately(frames.column_squares, V_error) / squares
        sizes.append(jnp.sqrt(jnp.max(relative)) / tangent.rtol)
        if tangent.with_divergence:
            sizes.append(jnp.abs(q_error) / tangent.rtol)
        return jnp.stack(sizes).max(), jnp.all((squares > SMALLEST_SQUARE) & (squares < LARGEST_SQUARE))

    return tangent.over_members(member_size)(error, before, after)


def _state_error(tangent: TangentSystem, error: Any, y0: Any, y1: Any) -> Float[Array, ""]:
    def squares(error: Array, y0: Array, y1: Array) -> Array:
        scale = tangent.atol + tangent.rtol * jnp.maximum(jnp.abs(y0), jnp.abs(y1))
        return jnp.sum((error / scale) ** 2)

    total = sum(jtu.tree_leaves(jtu.tree_map(squares, error, y0, y1)), jnp.zeros(()))
    return jnp.sqrt(total / size(y0))
