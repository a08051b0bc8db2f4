"""The engine: a state and its tangent block go forward together, with one QR factorisation per interval.

The loop over steps is this package's own, on diffrax's solver interface, because three things decide speed and accuracy
here: the step size survives every QR, the error of the tangent vectors is measured relative to their lengths, and an
interval in which a column was lost is taken again in halves. Between two looks at the clock it is one compiled program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from curlflow._compile import apart, compiled, in_one_kernel
from curlflow.lyapunov import tangent
from curlflow.solvers import LARGEST_UNROLLED

# The largest number of intervals computed between two looks at the clock.
CHUNK = 512
# Between two QRs a column may lose all of its length but this fraction to the columns before it. At the square root of the
# rounding error the Cholesky factor of a frame's Gram matrix, and the orthogonality of its columns, are half lost.
SMALLEST_FRACTION_LEFT = 1e-7
# No interval is divided into more than 2^20 pieces.
MOST_PIECES = 2**20
# State and frame of up to this many numbers go through the solver as one flat vector,
LARGEST_PACKED = 4096
# and of up to this many through steps which are a single kernel.
LARGEST_IN_ONE_KERNEL = 1000
# Ensembles go in blocks of members, which hold about so many numbers together: the stages of a step then stay in the
# processor's nearest caches. Members are added up in groups of this many, and no block of a larger ensemble has fewer.
LARGEST_ENSEMBLE_BLOCK = 400
MEMBERS_AT_ONCE = 8
# Frames of more numbers than this take a step in blocks of tangent vectors, which the processor's caches hold.
LARGEST_BLOCK = 100_000

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


def start(problem: Problem, y: PyTree[Array], frame: PyTree[Array]) -> State:
    """The state at the beginning of a run."""
    if problem.members is None:
        return _start(problem, y, frame)
    members = jtu.tree_leaves(y)[0].shape[-1]
    lanes = _lanes(members, _block_count(members, (y, frame)))
    blocks = jtu.tree_map(partial(_cut, lanes=lanes), (y, frame))
    state = _block_after_block(lambda own, block: _start(own, *block), problem, lanes, blocks)
    return _joined_state(state, members)


def _start(problem: Problem, y: PyTree[Array], frame: PyTree[Array]) -> State:
    member_axis = () if problem.members is None else (jtu.tree_leaves(y)[0].shape[-1],)
    zero = jnp.zeros((), jnp.int64)
    return State(
        y,
        frame,
        step=jnp.asarray(problem.dt if problem.solver is None else _first_step(problem, y)),
        interval=zero,
        pieces=zero + 1,
        escape=jnp.full(member_axis, jnp.inf),
        status=zero,
        time=problem.t0,
        steps=zero,
    )


@compiled
def run_chunk(problem: Problem, state: State, count: Int[Array, ""]) -> tuple[State, Record]:
    """Go on for `count` intervals, at most CHUNK of them, or until the run ends early.

    An ensemble goes in blocks of members, one after another. Each takes the steps that its own members need, and ends for
    itself.
    """
    if problem.members is None:
        return _run_block(problem, state, count)
    members = state.escape.size
    lanes = _lanes(members, state.status.size)

    def run_block(own: Problem, block: State) -> tuple[State, Record]:
        return _run_block(own, block, count)

    state, record = _block_after_block(run_block, problem, lanes, _cut_state(state, lanes))
    return _joined_state(state, members), jtu.tree_map(partial(_join, members=members), record)


def _run_block(problem: Problem, state: State, count: Int[Array, ""]) -> tuple[State, Record]:
    k, members = record_shape(problem, state)
    record = Record(jnp.zeros((CHUNK, k, *members)), jnp.zeros((CHUNK, *members)))
    last = state.interval + count
    first = state.interval

    def goes_on(carry: tuple[State, Record]) -> Array:
        return (carry[0].interval < last) & (carry[0].status == RUNNING)

    def one_interval(carry: tuple[State, Record]) -> tuple[State, Record]:
        state, record = carry
        state, log_growth, volume_growth = _interval(problem, state)
        row = state.interval - first
        record = Record(
            record.log_growth.at[row].set(log_growth), record.volume_growth.at[row].set(volume_growth)
        )
        done = jnp.where(state.status == RUNNING, 1, 0)
        return eqx.tree_at(lambda s: s.interval, state, state.interval + done), record

    return jax.lax.while_loop(goes_on, one_interval, (state, record))


def record_shape(problem: Problem, state: State) -> tuple[int, tuple[int, ...]]:
    """The number k of tangent vectors, and the number of members if there are any."""
    lengths = jax.eval_shape(problem.over_members(tangent.column_squares), state.frame)
    return lengths.shape[0], lengths.shape[1:]


class _Interval(eqx.Module):
    """Where the run stands within one interval: after `piece` of `pieces` equal parts of it."""

    state: State
    piece: Int[Array, ""]
    log_growth: Float[Array, "k *members"]
    volume_growth: Float[Array, "*members"]


def _interval(problem: Problem, state: State) -> tuple[State, Array, Array]:
    """One interval dt, with a QR after each of its pieces; a piece in which a column was lost is halved and taken again."""
    k, members = record_shape(problem, state)
    zero = jnp.zeros((), jnp.int64)

    def goes_on(now: _Interval) -> Array:
        return (now.piece < now.state.pieces) & (now.state.status == RUNNING)

    def one_piece(now: _Interval) -> _Interval:
        before = now.state
        begin, end = (_time(problem, before, now.piece + i) for i in (0, 1))
        after, volume_growth = advance(problem, before, begin, end)
        qr = partial(tangent.orthonormalise, may_be_singular=problem.solver is None)
        frame, diagonal, left = problem.over_members(qr)(after.frame)
        lost = ~(jnp.min(left) >= SMALLEST_FRACTION_LEFT) & _can_halve(problem, before)
        lost = lost & (after.status == RUNNING)
        after = eqx.tree_at(lambda s: s.frame, after, frame)
        kept = _Interval(
            after,
            now.piece + 1,
            now.log_growth + jnp.log(diagonal),
            now.volume_growth + volume_growth,
        )
        pieces = jnp.where(before.pieces < MOST_PIECES, 2 * before.pieces, before.pieces)
        status = jnp.where(before.pieces < MOST_PIECES, before.status, COLUMN_LOST)
        halved = eqx.tree_at(
            lambda now: (now.state.pieces, now.state.status, now.state.steps, now.piece),
            now,
            (pieces, status, after.steps, 2 * now.piece),
        )
        return _choose(lost, halved, kept)

    begun = _Interval(state, zero, jnp.zeros((k, *members)), jnp.zeros(members))
    done = jax.lax.while_loop(goes_on, one_piece, begun)
    return done.state, done.log_growth, done.volume_growth


def _time(problem: Problem, state: State, piece: Array) -> Array:
    return problem.t0 + (state.interval + piece / state.pieces) * problem.dt


def _can_halve(problem: Problem, state: State) -> Bool[Array, ""]:
    """A flow's interval can always be halved; a map's only while it holds a whole number of steps twice over."""
    if problem.solver is not None:
        return jnp.asarray(True)
    return (jnp.round(problem.dt).astype(jnp.int64) // state.pieces) % 2 == 0


def advance(problem: Problem, state: State, begin: Array, end: Array) -> tuple[State, Array]:
    """State and frame from one time to another, and the growth ∫ tr J dt of the logarithm of volumes."""
    return (_iterate if problem.solver is None else _integrate)(problem, state, begin, end)


# --------------------------------------------------------------------------------------------- blocks of an ensemble

# Which parts of the state have the members as their trailing axis: the others have one value for every block.
_HAS_MEMBERS = {field: field in ("y", "frame", "escape") for field in State.__dataclass_fields__}


def member_state(state: State, member: int) -> State:
    """The state of one member of an ensemble, with the clock of its block."""
    block = member // _lanes(state.escape.size, state.status.size)
    return _on_parts(
        state,
        lambda leaf: np.asarray(leaf)[..., member],
        lambda leaf: np.asarray(leaf)[block],
    )


def _block_count(members: int, point: PyTree[Array]) -> int:
    """How many blocks an ensemble has whose members are this point's trailing axis."""
    most = LARGEST_ENSEMBLE_BLOCK * members // tangent.size(point)
    return -(-members // max(most - most % MEMBERS_AT_ONCE, MEMBERS_AT_ONCE))


def _lanes(members: int, blocks: int) -> int:
    """How many members each of so many blocks has room for."""
    fewest = -(-members // blocks)
    return min(members, fewest + -fewest % MEMBERS_AT_ONCE)


def _block_after_block(fn: Callable[..., Any], problem: Problem, lanes: int, blocks: Any) -> Any:
    """`fn(problem, block)` on every block, with the block's own systems if every member has its own."""
    if problem.members == "states":
        return jax.lax.map(partial(fn, problem), blocks)
    arrays, rest = eqx.partition((problem.system, problem.args), eqx.is_array)

    def with_own_systems(pair: tuple[Any, Any]) -> Any:
        arrays, block = pair
        systems = eqx.combine(arrays, rest)
        own = eqx.tree_at(lambda p: (p.system, p.args), problem, systems, is_leaf=lambda x: x is None)
        return fn(own, block)

    def cut(leaf: Array) -> Array:
        return jnp.moveaxis(_cut(jnp.moveaxis(leaf, 0, -1), lanes), -1, 1)

    return jax.lax.map(with_own_systems, (jtu.tree_map(cut, arrays), blocks))


def _cut_state(state: State, lanes: int) -> State:
    """The state in blocks, along a new first axis.

    The places left over in the last block count as escaped: they are held still, and no step depends on them.
    """
    cut = _on_parts(state, partial(_cut, lanes=lanes), lambda clock: clock)
    return eqx.tree_at(lambda s: s.escape, cut, _cut(state.escape, lanes, mode="constant"))


def _joined_state(state: State, members: int) -> State:
    return _on_parts(state, partial(_join, members=members), lambda clock: clock)


def _on_parts(state: State, of_members: Callable[..., Any], of_clocks: Callable[..., Any]) -> State:
    """Functions of all arrays which have a member axis, and of all which have not."""
    parts = {
        field: jtu.tree_map(of_members if has_members else of_clocks, getattr(state, field))
        for field, has_members in _HAS_MEMBERS.items()
    }
    return State(**parts)


def _cut(leaf: Array, lanes: int, mode: str = "edge") -> Array:
    """Blocks of an array's last axis along a new first one: the last block is filled with copies, or with zeros."""
    blocks = -(-leaf.shape[-1] // lanes)
    width = [(0, 0)] * (leaf.ndim - 1) + [(0, lanes * blocks - leaf.shape[-1])]
    filled = jnp.pad(leaf, width, mode=mode)
    return jnp.moveaxis(filled.reshape(*leaf.shape[:-1], blocks, lanes), -2, 0)


def _join(leaf: Array, members: int) -> Array:
    """The array whose blocks these are."""
    joined = jnp.moveaxis(leaf, 0, -2)
    return joined.reshape(*joined.shape[:-2], -1)[..., :members]


# ------------------------------------------------------------------------------------------------------------- maps


def _iterate(problem: Problem, state: State, begin: Array, end: Array) -> tuple[State, Array]:
    first, last = (jnp.round(t).astype(jnp.int64) for t in (begin, end))

    def member_step(system: Any, args: Any, n: Array, y: Any, V: Any) -> tuple[Any, Any, Array]:
        moves = largest(y) < problem.blow_up

        def fn(y: Any) -> Any:
            return system.step(n, y, args)

        volume_growth = tangent.log_determinant(fn, y) if problem.with_divergence else jnp.zeros(())
        new = (*tangent.push(fn, y, V), volume_growth)
        old = (y, V, jnp.zeros(()))
        return jtu.tree_map(lambda new, old: jnp.where(moves, new, old), new, old)

    def goes_on(carry: Any) -> Array:
        n, _, _, escape = carry
        return (n < last) & jnp.any(escape == jnp.inf)

    def one_step(carry: Any) -> Any:
        n, (y, V), growth, escape = carry
        many = problem.members is not None
        counter = jnp.broadcast_to(n, escape.shape) if many else n
        y, V, grown = problem.over_systems(member_step)(counter, y, V)
        return n + 1, (y, V), growth + grown, _escape_times(problem, y, escape, n + 1.0)

    begun = (first, (state.y, state.frame), jnp.zeros(state.escape.shape), state.escape)
    n, (y, V), growth, escape = jax.lax.while_loop(goes_on, one_step, begun)
    status = jnp.where(jnp.all(escape < jnp.inf), BLOWN_UP, RUNNING)
    after = State(
        y, V, state.step, state.interval, state.pieces, escape, status, n * 1.0, state.steps + n - first
    )
    return after, growth


# ------------------------------------------------------------------------------------------------------------ flows


class _Stepping(eqx.Module):
    """Where the run stands between two steps of the solver."""

    t: Float[Array, ""]
    step: Float[Array, ""]
    point: PyTree[Array]  # state, frame and growth of the log volume, packed
    memory: Any  # the solver's
    escape: Float[Array, "*members"]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    jumped: Any  # whether a member was stopped by the last step, which makes the velocity in the solver's memory wrong


def _integrate(problem: Problem, state: State, begin: Array, end: Array) -> tuple[State, Array]:
    assert problem.solver is not None
    pack, unpack = _packing(problem, state)
    solver, term = problem.solver, diffrax.ODETerm(_field(problem, state, pack, unpack))
    k, _ = record_shape(problem, state)
    blocks = 1 if problem.members else -(-tangent.size(state.frame) // LARGEST_BLOCK)
    point = pack((state.y, tangent.in_blocks(state.frame, blocks), jnp.zeros(state.escape.shape)))
    order = solver.error_order(term) or 1
    smallest_step = 16 * jnp.finfo(jnp.float64).eps * jnp.maximum(jnp.abs(begin), jnp.abs(end))

    def try_step(now: _Stepping, t: Array, point: Any, memory: Any) -> tuple[Any, Any, Array]:
        after, error, _, memory, result = solver.step(
            term, now.t, t, point, now.escape == jnp.inf, memory, now.jumped
        )
        size = _error_size(problem, unpack(error), unpack(point), unpack(after))
        good = (result == diffrax.RESULTS.successful) & jnp.isfinite(size)
        return after, memory, jnp.where(good, size, jnp.inf)

    def step_in_blocks(now: _Stepping, t: Array) -> tuple[Any, Any, Array]:
        if blocks == 1:
            return try_step(now, t, now.point, now.memory)
        y, V, growth = now.point
        (y, V, growth), memory, sizes = jax.lax.map(
            lambda block: try_step(now, t, (y, block[0], growth), block[1]), (V, now.memory)
        )
        # Every block came to the same state and volume.
        y, growth = jtu.tree_map(lambda leaf: leaf[0], (y, growth))
        return (y, V, growth), memory, jnp.max(sizes)

    def memory_at(point: Any) -> Any:
        def memory(point: Any) -> Any:
            return solver.init(term, begin, end, point, state.escape == jnp.inf)

        if blocks == 1:
            return memory(point)
        y, V, growth = point
        return jax.lax.map(lambda V: memory((y, V, growth)), V)

    def goes_on(now: _Stepping) -> Array:
        return (now.t < end) & (now.status == RUNNING)

    def one_step(now: _Stepping) -> _Stepping:
        # Equal steps to the end of the piece: the last one is never a crumb, and the step size survives the end.
        count = jnp.ceil((end - now.t) / now.step)
        step = (end - now.t) / count
        t = jnp.where(count <= 1, end, now.t + step)
        point, memory, size = step_in_blocks(now, t)
        accepted = size < 1
        factor = jnp.clip(0.9 * size ** (-1 / order), 0.2, jnp.where(accepted, 10.0, 0.9))
        t, point, memory = _choose(accepted, (t, point, memory), (now.t, now.point, now.memory))
        escape = _escape_times(problem, unpack(point)[0], now.escape, t)
        steps = now.steps + 1
        status = jnp.where(step * factor < smallest_step, STEP_TOO_SMALL, RUNNING)
        status = jnp.where(steps - state.steps >= problem.max_steps, STEP_LIMIT, status)
        status = jnp.where(jnp.all(escape < jnp.inf), BLOWN_UP, status)
        jumped = jnp.any(escape != now.escape) if problem.members else False
        return _Stepping(t, step * factor, point, memory, escape, status, steps, jumped)

    begun = _Stepping(
        begin,
        jnp.minimum(state.step, end - begin),
        point,
        memory_at(point),
        state.escape,
        state.status,
        state.steps,
        jnp.asarray(False) if problem.members else False,
    )
    loop = partial(jax.lax.while_loop, goes_on, one_step)
    is_small = tangent.size(point) <= LARGEST_IN_ONE_KERNEL
    done = in_one_kernel(loop, begun) if is_small else loop(begun)
    y, V, growth = unpack(done.point)
    V = tangent.from_blocks(V, k, blocks)
    # A run of short pieces must not forget the step size that it could take.
    step = jnp.where(done.steps == state.steps + 1, jnp.maximum(done.step, state.step), done.step)
    after = State(y, V, step, state.interval, state.pieces, done.escape, done.status, done.t, done.steps)
    return after, growth


def _packing(problem: Problem, state: State) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How state, frame and volume become the solver's state, and back.

    A small system is one flat vector: arrays of a few numbers each cost a kernel apiece. A large one stays as it is.
    """
    point = (state.y, state.frame, jnp.zeros(state.escape.shape))
    if tangent.size(point) > LARGEST_PACKED * max(state.escape.size, 1):
        return lambda point: point, lambda point: point
    if problem.members is None:
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


def _choose(condition: Array, new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """One of two values: element by element where they are small, because a branch costs more."""
    if tangent.size(new) <= LARGEST_PACKED:
        return jtu.tree_map(lambda new, old: jnp.where(condition, new, old), new, old)
    return jax.lax.cond(condition, lambda: new, lambda: old)


def _field(
    problem: Problem, state: State, pack: Callable[..., Any], unpack: Callable[..., Any]
) -> Callable[..., Any]:
    """The vector field of state, frame and volume together; members that escaped are held still."""

    def member_field(
        system: Any, args: Any, t: Array, moves: Array, y: Any, V: Any
    ) -> tuple[Any, Any, Array]:
        rate, frame_rate = tangent.push_flow(system, t, y, V, args)
        growth = _divergence(system, t, y, args) if problem.with_divergence else jnp.zeros(())
        rates = (rate, frame_rate, growth)
        if problem.members is None:
            return rates
        return jtu.tree_map(lambda leaf: jnp.where(moves, leaf, 0.0), rates)

    def field(t: Array, point: Any, moves: Array) -> Any:
        y, V, growth = unpack(point)
        times = jnp.broadcast_to(t, growth.shape)
        return pack(problem.over_systems(member_field)(times, moves, y, V))

    return field


def _divergence(system: Any, t: Array, y: Any, args: Any) -> Float[Array, ""]:
    if hasattr(system, "divergence"):
        return system.divergence(t, y, args)
    return tangent.trace(lambda state: system(t, state, args), y)


def _error_size(problem: Problem, error: Any, before: Any, after: Any) -> Float[Array, ""]:
    """The largest of the errors of state, tangent vectors and volume in units of the tolerance, over all members."""
    separately = apart if tangent.size(before) > LARGEST_UNROLLED else lambda function, *args: function(*args)

    def member_size(error: Any, before: Any, after: Any) -> Array:
        (y_error, V_error, q_error), (y0, _, _), (y1, V1, _) = error, before, after
        sizes = [separately(partial(_state_error, problem), y_error, y0, y1)]
        relative = separately(tangent.column_squares, V_error) / tangent.column_squares(V1)
        sizes.append(jnp.sqrt(jnp.max(relative)) / problem.rtol)
        if problem.with_divergence:
            sizes.append(jnp.abs(q_error) / problem.rtol)
        return jnp.stack(sizes).max()

    sizes = problem.over_members(member_size)(error, before, after)
    return jnp.max(sizes)


def _state_error(problem: Problem, error: Any, y0: Any, y1: Any) -> Float[Array, ""]:
    def squares(error: Array, y0: Array, y1: Array) -> Array:
        scale = problem.atol + problem.rtol * jnp.maximum(jnp.abs(y0), jnp.abs(y1))
        return jnp.sum((error / scale) ** 2)

    total = sum(jtu.tree_leaves(jtu.tree_map(squares, error, y0, y1)), jnp.zeros(()))
    return jnp.sqrt(total / tangent.size(y0))


def _escape_times(problem: Problem, y: Any, escape: Array, t: Array) -> Float[Array, "*members"]:
    """When each member's largest entry passed the limit: infinity for those that are still inside."""
    inside = problem.over_members(largest)(y) < problem.blow_up
    return jnp.where((escape == jnp.inf) & ~inside, t, escape)


def _first_step(problem: Problem, y: PyTree[Array]) -> Float[Array, ""]:
    """A hundredth of the time in which the state would double at its present speed: the controller does the rest."""

    def member_step(system: Any, args: Any, t: Array, y: Any) -> Array:
        return 0.01 * (largest(y) + problem.atol) / (largest(system(t, y, args)) + 1e-300)

    members = () if problem.members is None else (jtu.tree_leaves(y)[0].shape[-1],)
    steps = problem.over_systems(member_step)(jnp.broadcast_to(problem.t0, members), y)
    return jnp.minimum(jnp.min(steps), problem.dt)


def largest(y: PyTree[Array]) -> Float[Array, ""]:
    """The largest magnitude of any entry of the pytree."""
    return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jtu.tree_leaves(y) if leaf.size]).max()
