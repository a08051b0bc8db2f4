"""The verb: compute what is missing of a grid, and keep it."""

import inspect
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm import tqdm

from curlflow import _checks
from curlflow.sweeps.grid import Grid, make_grid
from curlflow.sweeps.identity import identity, name_of, settings, source_file
from curlflow.sweeps.store import open_sweep, opened
from curlflow.sweeps.workers import answers_from, answers_here


def sweep(
    fn: Callable[..., Mapping[str, Any]],
    axes: Mapping[str, Sequence[Any] | np.ndarray],
    *,
    seeds: int | Sequence[int],
    store: str | Path,
    batch: Sequence[str] = (),
    client: Any = None,
    budget: float | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Compute a function over a grid of parameters and seeds, into a store that can be killed at any moment and resumed.

    Every combination of the axes' values and of a seed is a cell. What a call has finished is on disk; the same `sweep` again
    computes only what is missing, and ends with the same numbers.

    Parameters
    ----------
    fn
        Called as ``fn(**parameters, seed=seed)`` with one value of every axis. Returns a mapping from names to numbers or
        arrays, with the same names and shapes in every cell; they are stored as float64 or complex128. An entry `outcome`, an
        `Outcome`, says how the cell ended.
    axes
        The parameters' names and the values of each: distinct numbers, or texts.
    seeds
        How many seeds to take, 0, 1, 2 …, or a list of them.
    store
        The folder of the results, in Zarr's format. Made if it does not exist, resumed if it belongs to the same sweep.
    batch
        Names of axes, possibly "seed", whose cells are computed in one call: `fn` then gets, under each of these names, an
        array with one entry per cell, and returns arrays whose leading axis runs over the cells (and as `outcome` a list).
        Put together what costs alike, such as networks of one size.
    client
        A `dask.distributed.Client`, whose workers compute the calls. By default this process does, one after the other.
    budget
        The seconds that a cell may take; needs a `client`. A call that takes longer than its cells may is ended, with its
        worker.
    progress
        Whether to show a bar with the time left.

    Returns
    -------
    xarray.Dataset
        Along the axes and `seed`: what `fn` returned, with further dimensions `{name}_axis0` … for arrays; `ending`,
        `message` and `end_time`, the cell's outcome; `wall_time`, its cost in seconds (a batch's cost shared equally). Where
        a cell has no numbers they are NaN. The attributes hold the versions, the machines, the commits and the settings.

    Raises
    ------
    ValueError
        If an argument is wrong, if the store belongs to a sweep with another function, other fixed arguments, axes, seeds or
        versions, or if another process is writing it.
    RuntimeError
        If `fn` fails for a reason that is not numerical. What was finished before is in the store.
    OSError
        If the store cannot be written, for example because the disk is full. What was finished before is whole.

    Notes
    -----
    A cell in which `fn` raises an ArithmeticError, a LinAlgError or Equinox's runtime error (in a batch, all its cells) has
    the ending "solver failed", one over its budget "budget exceeded", and one that returns NaN without an outcome
    "undecided". All of them are results: they are not computed again.

    A function is recognised by its code, by that of the functions and classes of your own that it uses, by the constants it
    reads, and by the arguments which `functools.partial` fixes.

    Examples
    --------
    How fast the two-neuron network forgets where it began, for two teachers and three starts each:

    >>> import tempfile
    >>> import jax, jax.numpy as jnp
    >>> import curlflow as cf
    >>> def final_error(s, seed):
    ...     flow = cf.toy_flow(s, flip="readout")
    ...     start = jax.random.normal(jax.random.key(seed), (2,))
    ...     run = cf.integrate(flow, start, 20.0)
    ...     return {"loss": run.loss()[-1], "outcome": run.outcome}
    >>> folder = tempfile.mkdtemp()
    >>> results = cf.sweep(
    ...     final_error, {"s": [0.5, 2.0]}, seeds=3, store=folder + "/one.zarr", progress=False
    ... )
    >>> dict(results.sizes)
    {'s': 2, 'seed': 3}
    >>> bool((results.ending == "completed").all())
    True

    All cells of one teacher in one call:

    >>> def final_errors(s, seed):
    ...     starts = jnp.stack([jax.random.normal(jax.random.key(i), (2,)) for i in seed])
    ...     runs = cf.integrate(cf.toy_flow(s, flip="readout"), starts, 20.0, batch=True)
    ...     return {"loss": runs.loss()[-1], "outcome": runs.outcome}
    >>> batched = cf.sweep(
    ...     final_errors, {"s": [0.5, 2.0]}, seeds=3, store=folder + "/all.zarr", batch="seed", progress=False
    ... )
    >>> bool(abs(batched.loss - results.loss).max() < 1e-6)
    True
    """
    grid = make_grid(axes, seeds, batch)
    _require_parameters(fn, grid)
    if budget is not None:
        budget = _checks.positive_number("budget", budget)
        if client is None:
            raise ValueError(
                "`budget` must come with a `client`, because a running computation can only be ended with its process: "
                "pass client=Client(LocalCluster(n_workers=1, threads_per_worker=1)) from dask.distributed."
            )
    path = Path(store)
    with opened(path, grid, identity(fn, grid), _attributes(fn)) as kept:
        calls = kept.pending()
        if calls:
            kept.note(_this_run(fn, client, budget))
        answers = answers_here(fn, calls) if client is None else answers_from(client, fn, calls, budget)
        done = grid.cells - sum(call.cells for call in calls)
        with tqdm(total=grid.cells, initial=done, unit="cell", smoothing=0, disable=not progress) as bar:
            for call, answer in answers:
                kept.write(call, answer)
                bar.update(call.cells)
    return open_sweep(path)


def _require_parameters(fn: Any, grid: Grid) -> None:
    """Refuse a function that cannot be called with the parameters and a seed."""
    if not callable(fn):
        raise ValueError(f"`fn` must be a function, but is {fn!r}.")
    try:
        inspect.signature(fn).bind(**dict.fromkeys(grid.axes))
    except TypeError as error:
        raise ValueError(
            f"`fn` must take the arguments {', '.join(grid.axes)} and no other without a default, but: {error}."
        ) from None


def _attributes(fn: Callable[..., Any]) -> dict[str, Any]:
    """What a store says of itself, as text."""
    return {"function": name_of(fn), "settings": json.dumps(settings(fn))}


def _this_run(fn: Callable[..., Any], client: Any, budget: float | None) -> str:
    """One line on who computed when, where and with what."""
    where = "in process" if client is None else f"on {len(client.nthreads())} workers"
    limit = "" if budget is None else f", budget {budget:g} s for each cell"
    machine = f"{platform.node()} ({platform.platform()}, {os.cpu_count()} CPUs)"
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {where} of {machine}, {jax.default_backend()}{limit}, "
        f"commit {_commit(fn)}, Python {platform.python_version()}"
    )


def _commit(fn: Callable[..., Any]) -> str:
    """The commit of the repository in which the function is written, marked if files were changed since."""
    file = source_file(fn)
    if file is None or not file.is_file():
        return "none"
    command = ["git", "-C", str(file.parent), "describe", "--always", "--abbrev=40", "--dirty=-changed"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "none"
