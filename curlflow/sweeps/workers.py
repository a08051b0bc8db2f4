"""Where the calls are computed: in this process, or by the workers of a Dask cluster."""

import contextlib
import functools
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


def answers_here(fn: Callable[..., Any], calls: Iterable[Call]) -> Iterator[tuple[Call, Answer]]:
    """One call after the other, in this process."""
    for call in calls:
        try:
            answer = evaluate(fn, call)
        except Exception as error:
            raise _mistake(call, error) from error
        yield call, answer


@dataclass
class _Running:
    """A call that was sent to the cluster: by whom it is computed, and since when, once that is known."""

    call: Call
    worker: str | None = None
    since: float = 0.0


def answers_from(
    client: Any, fn: Callable[..., Any], calls: Iterable[Call], budget: float | None
) -> Iterator[tuple[Call, Answer]]:
    """As the workers finish them. What a dead worker was computing goes to another one."""
    import cloudpickle
    from distributed import wait

    # Pickled here and not by Dask, so that a worker sets its precision before it unpickles any array.
    payload, is_float64 = cloudpickle.dumps(fn), bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
    waiting = iter(calls)
    running: dict[Any, _Running] = {}
    try:
        while True:
            for call in islice(waiting, _free_slots(client, len(running), budget)):
                running[client.submit(_evaluate_there, payload, call, is_float64, pure=False)] = _Running(
                    call
                )
            if not running:
                return
            with contextlib.suppress(TimeoutError):
                wait(list(running), timeout=0.5, return_when="FIRST_COMPLETED")
            yield from _collect(running)
            if budget is not None:
                yield from _cut_off(client, running, budget)
    finally:
        client.cancel(list(running), force=True)


def _free_slots(client: Any, running: int, budget: float | None) -> int:
    """How many calls to send: one more per thread than it computes, so that none is idle; no more if they are timed."""
    threads = sum(client.nthreads().values())
    return max(0, max(1, threads * (1 if budget is not None else 2)) - running)


def _evaluate_there(payload: bytes, call: Call, is_float64: bool) -> Answer:
    jax.config.update("jax_enable_x64", is_float64)
    return evaluate(_loaded(payload), call)


@functools.lru_cache(maxsize=1)
def _loaded(payload: bytes) -> Callable[..., Any]:
    """The function, unpickled once per worker: another copy of it would be compiled again."""
    return pickle.loads(payload)


def _collect(running: dict[Any, _Running]) -> Iterator[tuple[Call, Answer]]:
    """What has come in; a mistake only when everything else is taken."""
    from distributed import KilledWorker

    mistakes = []
    for future in [future for future in running if future.done()]:
        call = running.pop(future).call
        if future.status == "finished":
            yield call, future.result()
        elif future.status != "error":
            raise ConnectionError("The cluster is gone. Run the same sweep again to compute what is missing.")
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


def _cut_off(client: Any, running: dict[Any, _Running], budget: float) -> Iterator[tuple[Call, Answer]]:
    """End the calls over their budget by ending their workers, because nothing else ends a running XLA program."""
    now = time.monotonic()
    worker_of = {key: worker for worker, keys in client.processing().items() for key in keys}
    for future, run in list(running.items()):
        worker = worker_of.get(future.key)
        if worker != run.worker:
            run.worker, run.since = worker, now
        elif worker is not None and now - run.since > budget * run.call.cells:
            del running[future]
            client.cancel([future], force=True)
            client.restart_workers([worker])
            message = f"Not finished after {budget:g} s for each cell. Give a larger `budget`."
            yield run.call, failed(run.call, Ending.OUT_OF_BUDGET, message, now - run.since)


def _mistake(call: Call, error: Exception) -> RuntimeError:
    return RuntimeError(
        f"`fn` failed at {call}: {type(error).__name__}: {error} What was finished before is in the store."
    )
