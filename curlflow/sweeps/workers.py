"""Where the calls are computed: in this process, or by the workers of a Dask cluster."""

import contextlib
import functools
import logging
import math
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax

from curlflow.outcome import Ending
from curlflow.sweeps.answer import Answer, evaluate, failed
from curlflow.sweeps.grid import Call

# A cluster without workers for longer than this, in seconds, is spoken of.
LONGEST_SILENCE = 60.0
# Dask has its workers give every freed array back to the system at once. An integration frees arrays at every stage, and
# if they are large spends more than half of its time on getting that memory again.
OWN_ALLOCATION = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}
# Some time after any death of a worker (15 s), a cluster on this machine looks whether it is there, and if not gives it up
# for good: on a busy machine one that is about to return, or that died again. Its nanny replaces it however long that takes.
PATIENCE = {"distributed.deploy.lost-worker-timeout": "1000 days"}


def answers_here(fn: Callable[..., Any], calls: Iterable[Call]) -> Iterator[tuple[Call, Answer]]:
    """One call after the other, in this process."""
    for call in calls:
        try:
            answer = evaluate(fn, call)
        except Exception as error:
            raise _mistake(call, error) from error
        yield call, answer


@contextlib.contextmanager
def local_client(workers: int | None) -> Iterator[Any]:
    """A Dask client with as many worker processes on this machine, one thread each; None for None."""
    if workers is None:
        yield None
        return
    try:
        import dask.config
        from distributed import Client, LocalCluster
    except ImportError:
        raise ValueError(
            "`workers` must come with Dask, but it is not installed: run pip install 'curlflow[cluster]'."
        ) from None
    settings = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.ERROR}
    with (
        dask.config.set(OWN_ALLOCATION),
        LocalCluster(n_workers=workers, **settings) as cluster,
        Client(cluster) as client,
    ):
        yield client


@dataclass
class _Running:
    """A call that was sent to the cluster: by whom it is computed, and since when, once that is known."""

    call: Call
    worker: str | None = None
    since: float = 0.0
    alone: bool = False


def answers_from(
    client: Any, fn: Callable[..., Any], calls: Iterable[Call], budget: float | None
) -> Iterator[tuple[Call, Answer]]:
    """As the workers finish them. What a dead worker was computing goes to another one."""
    import cloudpickle
    import dask.config
    from distributed import LocalCluster, wait

    # Pickled here and not by Dask, so that a worker sets its precision before it unpickles any array.
    cargo = cloudpickle.dumps(fn), bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    waiting = iter(calls)
    running: dict[Any, _Running] = {}
    # Calls whose workers died one after the other, perhaps of another call that waited there: tried once more, alone.
    suspects: list[Call] = []
    last_seen = time.monotonic()
    with contextlib.ExitStack() as stack:
        if isinstance(getattr(client, "cluster", None), LocalCluster):
            stack.enter_context(dask.config.set(PATIENCE))
        stack.callback(lambda: client.cancel(list(running), force=True))
        while True:
            threads = sum(client.nthreads().values())
            last_seen = _last_seen(threads, last_seen)
            for call in islice(waiting, _free_slots(threads, len(running), budget)):
                running[client.submit(_evaluate_there, *cargo, call, pure=False)] = _Running(call)
            if not running and suspects:
                call = suspects.pop(0)
                running[client.submit(_evaluate_there, *cargo, call, pure=False)] = _Running(call, alone=True)
            if not running:
                return
            with contextlib.suppress(TimeoutError):
                wait(list(running), timeout=0.5, return_when="FIRST_COMPLETED")
            yield from _collect(running, suspects)
            if budget is not None:
                _start_clocks(client, running, cargo)
                yield from _cut_off(client, running, budget)


def _last_seen(threads: int, before: float) -> float:
    """When the cluster last had workers. If that is too long ago, say so, and be silent (infinity) until some are back."""
    now = time.monotonic()
    if threads:
        return now
    if now - before <= LONGEST_SILENCE:
        return before
    warnings.warn(
        f"The cluster has had no workers for {LONGEST_SILENCE:g} s, and the sweep waits for new ones: start some, or end it "
        "and run the same sweep again, here or on another cluster, because what was finished is on disk.",
        stacklevel=2,
    )
    return math.inf


def _free_slots(threads: int, running: int, budget: float | None) -> int:
    """How many calls to send: one more per thread than it computes, so that none is idle; no more if they are timed."""
    return max(0, max(1, threads * (1 if budget is not None else 2)) - running)


def _evaluate_there(payload: bytes, is_float64: bool, call: Call) -> Answer:
    return evaluate(_load(payload, is_float64), call)


def _load(payload: bytes, is_float64: bool) -> Callable[..., Any]:
    """The function, on a worker whose JAX is set up as the caller's."""
    from distributed import get_worker

    # XLA reads the size of its thread pool from this variable when it first computes something, and would take all cores:
    # workers side by side would then slow one another down.
    os.environ.setdefault("NPROC", str(get_worker().state.nthreads))
    jax.config.update("jax_enable_x64", is_float64)
    return _unpickle(payload)


@functools.lru_cache(maxsize=1)
def _unpickle(payload: bytes) -> Callable[..., Any]:
    """Once per worker, because another copy of the function would be compiled again."""
    return pickle.loads(payload)


def _is_ready(payload: bytes, is_float64: bool) -> bool:
    """Import and unpickle what the function needs; its result is not worth sending back."""
    return callable(_load(payload, is_float64))


def _collect(running: dict[Any, _Running], suspects: list[Call]) -> Iterator[tuple[Call, Answer]]:
    """What has come in; a mistake only when everything else is taken."""
    from distributed import KilledWorker

    mistakes = []
    for future in [future for future in running if future.done()]:
        run = running.pop(future)
        call = run.call
        if future.status == "finished":
            answer = future.result()
            future.release()
            yield call, answer
        elif future.status != "error":
            raise ConnectionError("The cluster is gone. Run the same sweep again to compute what is missing.")
        elif isinstance(future.exception(), KilledWorker) and not run.alone:
            suspects.append(call)
        elif isinstance(future.exception(), KilledWorker):
            warnings.warn(
                f"Left pending: {call}, for which one worker after another died. It may need more memory; "
                "run the same sweep again to compute it.",
                stacklevel=2,
            )
        else:
            mistakes.append((call, future.exception().with_traceback(future.traceback())))
    for call, error in mistakes:
        raise _mistake(call, error) from error


def _start_clocks(client: Any, running: dict[Any, _Running], cargo: tuple[bytes, bool]) -> None:
    """A call's time runs from when it is seen on a worker that has imported all it needs."""
    worker_of = {key: worker for worker, keys in client.processing().items() for key in keys}
    for future, run in running.items():
        worker = worker_of.get(future.key)
        if worker != run.worker:
            if worker is not None:
                client.run(_is_ready, *cargo, workers=[worker], on_error="ignore")
            run.worker, run.since = worker, time.monotonic()


def _cut_off(client: Any, running: dict[Any, _Running], budget: float) -> Iterator[tuple[Call, Answer]]:
    """End the calls over their budget by ending their workers, because nothing else ends a running XLA program."""
    for future, run in list(running.items()):
        seconds = time.monotonic() - run.since
        if run.worker is not None and seconds > budget * run.call.cells and not future.done():
            del running[future]
            client.cancel([future], force=True)
            with contextlib.suppress(KeyError):  # of a worker that has died meanwhile
                client.restart_workers([run.worker], raise_for_error=False)
            message = f"Not finished after {budget:g} s for each cell. Give a larger `budget`."
            yield run.call, failed(run.call, Ending.OUT_OF_BUDGET, message, seconds)


def _mistake(call: Call, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"`fn` failed at {call}: {type(error).__name__}: {error} What was finished before is in the store."
    )
