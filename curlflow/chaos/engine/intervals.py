"""The engine: a state and its tangent block go forward together, with one QR factorisation per interval.

An interval in which a column was lost is taken again in halves. Between two looks at the clock all of it is one compiled
program; its steps are those of `map_steps` or `flow_steps`, and an ensemble goes through it in `blocks`.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool, Float, Int, PyTree

from curlflow._compile import compiled
from curlflow.chaos.engine import blocks, flow_steps, frames, map_steps
from curlflow.chaos.engine.tangent_system import (
    COLUMN_LOST,
    Record,
    RunState,
    TangentSystem,
    choose,
    record_shape,
    with_ends,
)

# The largest number of intervals computed between two looks at the clock.
CHUNK = 512
# Between two QRs a column may lose all of its length but this fraction to the columns before it. At the square root of the
# rounding error the Cholesky factor of a frame's Gram matrix, and the orthogonality of its columns, are half lost.
SMALLEST_FRACTION_LEFT = 1e-7
# No interval is divided into more than 2^20 pieces.
MOST_PIECES = 2**20


def start(tangent: TangentSystem, y: PyTree[Array], frame: PyTree[Array]) -> RunState:
    """The state at the beginning of a run."""
    if tangent.members is None:
        return _start(tangent, y, frame)
    members = jtu.tree_leaves(y)[0].shape[-1]
    lanes = blocks.lanes_of(members, blocks.block_count(members, (y, frame)))
    points = jtu.tree_map(partial(blocks.cut, lanes=lanes), (y, frame))
    state = blocks.block_after_block(lambda own, point: _start(own, *point), tangent, lanes, points)
    return blocks.joined_state(state, members)


def _start(tangent: TangentSystem, y: PyTree[Array], frame: PyTree[Array]) -> RunState:
    member_axis = () if tangent.members is None else (jtu.tree_leaves(y)[0].shape[-1],)
    zero = jnp.zeros((), jnp.int64)
    return RunState(
        y,
        frame,
        step=jnp.asarray(tangent.dt if tangent.solver is None else flow_steps.first_step(tangent, y)),
        interval=zero,
        pieces=zero + 1,
        escape=jnp.full(member_axis, jnp.inf),
        status=jnp.zeros(member_axis, jnp.int64),
        time=tangent.t0,
        steps=zero,
    )


@compiled
def run_chunk(tangent: TangentSystem, state: RunState, count: Int[Array, ""]) -> tuple[RunState, Record]:
    """Go on for `count` intervals, at most CHUNK of them, or until the run ends early.

    An ensemble goes in blocks of members, one after another. Each takes the steps that its own members need, and ends for
    itself.
    """
    if tangent.members is None:
        return _run_block(tangent, state, count)
    members = state.escape.size
    lanes = blocks.lanes_of(members, state.step.size)

    def run_block(own: TangentSystem, block: RunState) -> tuple[RunState, Record]:
        return _run_block(own, block, count)

    state, record = blocks.block_after_block(run_block, tangent, lanes, blocks.cut_state(state, lanes))
    return blocks.joined_state(state, members), jtu.tree_map(partial(blocks.join, members=members), record)


def _run_block(tangent: TangentSystem, state: RunState, count: Int[Array, ""]) -> tuple[RunState, Record]:
    k, members = record_shape(tangent, state)
    record = Record(jnp.zeros((CHUNK, k, *members)), jnp.zeros((CHUNK, *members)))
    last = state.interval + count
    first = state.interval

    def goes_on(carry: tuple[RunState, Record]) -> Array:
        return (carry[0].interval < last) & _goes_on(carry[0])

    def one_interval(carry: tuple[RunState, Record]) -> tuple[RunState, Record]:
        state, record = carry
        state, log_growth, volume_growth = _interval(tangent, state)
        row = state.interval - first
        record = Record(
            record.log_growth.at[row].set(log_growth), record.volume_growth.at[row].set(volume_growth)
        )
        done = jnp.where(_goes_on(state), 1, 0)
        return eqx.tree_at(lambda s: s.interval, state, state.interval + done), record

    return jax.lax.while_loop(goes_on, one_interval, (state, record))


class _Interval(eqx.Module):
    """Where the run stands within one interval: after `piece` of `pieces` equal parts of it."""

    state: RunState
    piece: Int[Array, ""]
    log_growth: Float[Array, "k *members"]
    volume_growth: Float[Array, "*members"]


def _interval(tangent: TangentSystem, state: RunState) -> tuple[RunState, Array, Array]:
    """One interval dt, with a QR after each of its pieces; a piece in which a column was lost is halved and taken again."""
    k, members = record_shape(tangent, state)
    zero = jnp.zeros((), jnp.int64)

    def goes_on(now: _Interval) -> Array:
        return (now.piece < now.state.pieces) & _goes_on(now.state)

    def one_piece(now: _Interval) -> _Interval:
        before = now.state
        begin, end = (_time(tangent, before, now.piece + i) for i in (0, 1))
        after, volume_growth = advance(tangent, before, begin, end)
        qr = partial(frames.orthonormalise, may_be_singular=tangent.solver is None)
        frame, diagonal, left = tangent.over_members(qr)(after.frame)
        lost = ~(left >= SMALLEST_FRACTION_LEFT) | _ended_too_soon(tangent, after, end)
        lost = lost & (after.escape == jnp.inf)
        after = eqx.tree_at(lambda s: s.frame, after, frame)
        kept = _Interval(
            after,
            now.piece + 1,
            now.log_growth + jnp.log(diagonal),
            now.volume_growth + volume_growth,
        )
        return choose(
            jnp.any(lost) & _can_halve(tangent, before), _halved(now, lost, begin, after.steps), kept
        )

    begun = _Interval(state, zero, jnp.zeros((k, *members)), jnp.zeros(members))
    done = jax.lax.while_loop(goes_on, one_piece, begun)
    # What only a lost member needed is not imposed on the others.
    member_lost = jnp.any(done.state.status != state.status) & jnp.any(done.state.status == COLUMN_LOST)
    pieces = jnp.where(member_lost, 1, done.state.pieces)
    return eqx.tree_at(lambda s: s.pieces, done.state, pieces), done.log_growth, done.volume_growth


def _halved(now: _Interval, lost: Bool[Array, "*members"], t: Array, steps: Array) -> _Interval:
    """The same place in an interval of twice as many pieces; or, where it can have no more, without the members lost."""
    can_divide = now.state.pieces < MOST_PIECES
    escape, status = with_ends(now.state.escape, now.state.status, lost & ~can_divide, t, COLUMN_LOST)
    factor = jnp.where(can_divide, 2, 1)
    return eqx.tree_at(
        lambda now: (now.state.pieces, now.state.escape, now.state.status, now.state.steps, now.piece),
        now,
        (factor * now.state.pieces, escape, status, steps, factor * now.piece),
    )


def _ended_too_soon(tangent: TangentSystem, after: RunState, end: Array) -> Bool[Array, ""]:
    """Whether the piece of a flow ended before its time, with members that go on."""
    return jnp.asarray(False) if tangent.solver is None else after.time < end


def _goes_on(state: RunState) -> Bool[Array, ""]:
    return jnp.any(state.escape == jnp.inf)


def _time(tangent: TangentSystem, state: RunState, piece: Array) -> Array:
    return tangent.t0 + (state.interval + piece / state.pieces) * tangent.dt


def _can_halve(tangent: TangentSystem, state: RunState) -> Bool[Array, ""]:
    """A flow's interval can always be halved; a map's until every piece of it is one step, or none."""
    return jnp.asarray(True) if tangent.solver is not None else state.pieces < tangent.dt


def advance(tangent: TangentSystem, state: RunState, begin: Array, end: Array) -> tuple[RunState, Array]:
    """State and frame from one time to another, and the growth ∫ tr J dt of the logarithm of volumes."""
    step = map_steps.iterate if tangent.solver is None else flow_steps.solve
    return step(tangent, state, begin, end)
