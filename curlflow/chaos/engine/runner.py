"""Drives the engine in chunks, so that a bar can show progress, the keyboard can interrupt, and a run can go on later."""

import math
import time
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from curlflow.chaos.engine.intervals import CHUNK, run_chunk
from curlflow.chaos.engine.tangent_system import RUNNING, RunState, TangentSystem, record_shape
from curlflow.orbits.pieces import DAY
from curlflow.system import State

SECONDS_BETWEEN_LOOKS = 0.25
FIRST_CHUNK = 4


@dataclass(frozen=True)
class Run:
    """A run of the engine: what is computed, all that was written down after the transient, and where it stands."""

    tangent: TangentSystem
    first: State  # before the transient
    start: RunState  # after it
    state: RunState
    log_growth: Float[np.ndarray, "intervals k *members"]
    volume_growth: Float[np.ndarray, "intervals *members"]
    transient: int
    n: int

    @property
    def can_go_on(self) -> bool:
        """Whether the run, or any block of an ensemble, has not ended early."""
        return _is_running(self.state)


def intervals(span: float, dt: float) -> int:
    """How many intervals dt cover a span of time, but for rounding."""
    return math.ceil(span / dt * (1 - 1e-12))


def begin(tangent: TangentSystem, state: RunState, transient: int, n: int, progress: bool) -> Run:
    """A run whose transient, so many intervals long, is over and forgotten."""
    first = state.y
    state, log_growth, volume_growth = _go_on(tangent, state, transient, progress)
    return Run(tangent, first, state, state, log_growth[:0], volume_growth[:0], transient, n)


def go_on(run: Run, intervals: int, progress: bool) -> Run:
    """The run, gone on until it has averaged over so many intervals in all or has ended early."""
    until = run.transient + intervals
    state, log_growth, volume_growth = _go_on(run.tangent, run.state, until, progress)
    return Run(
        run.tangent,
        run.first,
        run.start,
        state,
        np.concatenate([run.log_growth, log_growth]),
        np.concatenate([run.volume_growth, volume_growth]),
        run.transient,
        run.n,
    )


def _go_on(
    tangent: TangentSystem, state: RunState, until: int, progress: bool
) -> tuple[RunState, np.ndarray, np.ndarray]:
    k, members = record_shape(tangent, state)
    log_growth, volume_growth = [np.zeros((0, k, *members))], [np.zeros((0, *members))]
    chunk, done = FIRST_CHUNK, _intervals_done(state)
    with tqdm(total=until - done, unit="interval", disable=not progress) as bar:
        while done < until and _is_running(state):
            clock = time.perf_counter()
            count = jnp.asarray(min(chunk, until - done), jnp.int64)
            state, record = run_chunk(tangent, state, count)
            new, seconds = _intervals_done(state) - done, time.perf_counter() - clock
            log_growth.append(np.asarray(record.log_growth[:new]))
            volume_growth.append(np.asarray(record.volume_growth[:new]))
            done += new
            bar.update(new)
            tells = chunk == CHUNK or seconds > SECONDS_BETWEEN_LOOKS
            if tells and len(log_growth) > 2:  # the first chunk was compiled, too
                _refuse_days(seconds / max(new, 1) * (until - done), float(tangent.dt) * until)
            if seconds < SECONDS_BETWEEN_LOOKS:
                chunk = min(4 * chunk, CHUNK)
    return state, np.concatenate(log_growth), np.concatenate(volume_growth)


def _refuse_days(seconds: float, T: float) -> None:
    if seconds > DAY:
        raise ValueError(
            f"`T` and `Ttr` must be so short that the run ends within a day, but with {T:.3g} in all the rest would take "
            f"{seconds / DAY:.3g} days at this pace. A shorter run can be extended afterwards."
        )


def _is_running(state: RunState) -> bool:
    return bool(np.any(np.asarray(state.status) == RUNNING))


def _intervals_done(state: RunState) -> int:
    """The intervals of the block that has come furthest."""
    return int(np.max(state.interval))


def states_along(run: Run, count: int, every: int) -> list[State]:
    """The states that the run has passed at every so many of its first `count` intervals, its start included.

    The same program takes the same steps again, so that even the orbit of chaotic motion is the same.
    """
    state, states = run.start, [run.start.y]
    for _ in range(count // every):
        state, _ = run_chunk(run.tangent, state, jnp.asarray(every, jnp.int64))
        states.append(state.y)
    return states
