"""A sweep survives: kill -9, a full disk, dead workers, a second process. Its results are then those of a quiet run."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import curlflow as cf
from curlflow.sweeps.workers import local_client

pytestmark = pytest.mark.slow

# Run as a program of its own: a sweep whose cells note that they were computed.
PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
import curlflow as cf

here = Path(__file__).parent

def cell(c, seed):
    with (here / "calls").open("a") as calls:
        calls.write(f"{c} {seed}\\n")
    draw = np.random.default_rng(seed)
    return {"value": c * draw.normal(), "path": c + np.cumsum(draw.normal(size=20_000))}

if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    cf.sweep(cell, {"c": np.linspace(0.1, 2.0, 25)}, seeds=4, store=sys.argv[1], progress=False)
"""
CELLS = 100


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the program on a store; the caller waits for it, or kills it."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def start(store: str, *limit: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / store), *map(str, limit)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process to end well."""
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    return complaint


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def same_results(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Bit for bit, except for what the computation cost and who ran it."""
    one, other = (dataset.drop_vars("wall_time").drop_attrs().load() for dataset in (one, other))
    return one.identical(other)


# ---------------------------------------------------------------------------------------------- kill -9


def test_kill_9_at_five_random_moments(program: Any, tmp_path: Path):
    finish(program("undisturbed.zarr"))
    (tmp_path / "calls").unlink()
    rng, done = np.random.default_rng(0), 0
    for _ in range(5):
        process = program("killed.zarr")
        wait_for(lambda: done_on_disk(tmp_path / "killed.zarr") > done)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = done_on_disk(tmp_path / "killed.zarr")
        assert done < now < CELLS
        done = now
        unfinished = cf.sweeps.open_sweep(tmp_path / "killed.zarr")
        assert unfinished.attrs["pending"] == CELLS - done
        finished = unfinished["ending"] != "pending"
        assert bool((unfinished["value"].notnull() | ~finished).all())
        assert bool((unfinished["path"].notnull().all("path_axis0") | ~finished).all())
    finish(program("killed.zarr"))
    assert same_results(
        cf.sweeps.open_sweep(tmp_path / "killed.zarr"), cf.sweeps.open_sweep(tmp_path / "undisturbed.zarr")
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert set(calls) == {f"{c} {seed}" for c in np.linspace(0.1, 2.0, 25).tolist() for seed in range(4)}
    assert len(calls) <= CELLS + 5  # each kill costs the cell it struck, and nothing else


def done_on_disk(store: Path) -> int:
    return sum(
        1 for file in (store / "ending" / "c").rglob("*") if file.is_file() and file.suffix != ".partial"
    )


class Killed(BaseException):
    """Ends a process where it stands: nothing cleans up after it."""


def test_killed_before_any_file_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every file a store consists of appears by a rename; the sweep is ended before the first, the second … of them."""

    def cell(c: float, seed: int) -> dict[str, Any]:
        return {"value": c + seed, "pair": np.stack([c + seed, c - seed], axis=1)}

    def sweep(store: str) -> xr.Dataset:
        return cf.sweep(
            cell, {"c": [0.5, 1.5]}, seeds=2, store=tmp_path / store, batch="seed", progress=False
        )

    undisturbed, rename, renames = sweep("undisturbed.zarr"), Path.replace, []

    def counted(self: Path, target: Path) -> Path:
        if len(renames) == last:
            raise Killed
        renames.append(target)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    last = -1
    sweep("counted.zarr")
    total = len(renames)
    assert total > 20
    for last in range(total):
        renames.clear()
        with pytest.raises(Killed):
            sweep(f"{last}.zarr")
        if (tmp_path / f"{last}.zarr" / "ending" / "zarr.json").exists():
            assert cf.sweeps.open_sweep(tmp_path / f"{last}.zarr").attrs["pending"] in (2, 4)
        renames.clear()
        killed, last = last, -1
        assert same_results(sweep(f"{killed}.zarr"), undisturbed)


# -------------------------------------------------------------------------------------------- full disk


def test_a_file_that_cannot_be_written_ends_in_a_sentence_and_leaves_the_store_intact(
    program: Any, tmp_path: Path
):
    """The limit on file sizes stands in for a full disk: no file of a cell's path fits."""
    process = program("store.zarr", 100_000)
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "OSError: [Errno 27] File too large: " in complaint
    assert (
        "could not be written. What was finished before is whole; see to the disk and run the same"
        in complaint
    )
    assert cf.sweeps.open_sweep(tmp_path / "store.zarr").attrs["pending"] == CELLS
    assert list((tmp_path / "store.zarr").rglob("*.partial")) == []
    finish(program("store.zarr"))
    finish(program("undisturbed.zarr"))
    assert same_results(
        cf.sweeps.open_sweep(tmp_path / "store.zarr"), cf.sweeps.open_sweep(tmp_path / "undisturbed.zarr")
    )


def test_a_disk_that_fills_up_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cell(c: float, seed: int) -> dict[str, Any]:
        return {"value": c + seed, "pair": [c, seed]}

    def sweep(store: str) -> xr.Dataset:
        return cf.sweep(cell, {"c": [0.5, 1.5, 2.5]}, seeds=2, store=tmp_path / store, progress=False)

    rename, room = Path.replace, [36]

    def replace(self: Path, target: Path) -> Path:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(
            OSError, match=r"No space left on device: .*store.zarr could not be written"
        ) as full:
            sweep("store.zarr")
    assert full.value.errno == errno.ENOSPC
    assert 0 < cf.sweeps.open_sweep(tmp_path / "store.zarr").attrs["pending"] < 6
    assert same_results(sweep("store.zarr"), sweep("undisturbed.zarr"))


# -------------------------------------------------------------------------------------- second process


def test_the_second_process_on_a_store_is_refused(program: Any, tmp_path: Path):
    first = program("store.zarr")
    wait_for(lambda: done_on_disk(tmp_path / "store.zarr") > 0)
    os.kill(first.pid, signal.SIGSTOP)  # so that it is still there
    second = program("store.zarr")
    _, complaint = second.communicate(timeout=300)
    assert second.returncode == 1
    assert "ValueError: `store` must be written by one process at a time" in complaint
    os.kill(first.pid, signal.SIGCONT)
    finish(first)
    finish(program("undisturbed.zarr"))
    assert same_results(
        cf.sweeps.open_sweep(tmp_path / "store.zarr"), cf.sweeps.open_sweep(tmp_path / "undisturbed.zarr")
    )


# ------------------------------------------------------------------------------------------------- Dask


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers of one thread each."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # they cannot import tests
    with local_client(2) as client:
        yield client


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., xr.Dataset]:
    """A sweep over four parameters and three seeds."""

    def sweep(fn: Any, store: str = "store.zarr", **more: Any) -> xr.Dataset:
        return cf.sweep(
            fn, {"c": [0.5, 1.0, 1.5, 2.0]}, seeds=3, store=tmp_path / store, progress=False, **more
        )

    return sweep


def test_workers_keep_freed_memory(client: Any):
    """Dask would have them return it at once, at the cost of half of their time."""
    limits = client.run(lambda: os.environ.get("MALLOC_TRIM_THRESHOLD_"))
    assert set(limits.values()) == {None}


def test_workers_compute_what_one_process_computes(client: Any, sweep: Any):
    def cell(c: float, seed: int) -> dict[str, Any]:
        start = c * jax.random.normal(jax.random.key(seed), (2,))
        run = cf.integrate(cf.toy_flow(flip="readout"), start, 5.0)
        return {
            "w": run.final_state,
            "is_float64": run.final_state.dtype == jnp.float64,
            "outcome": run.outcome,
        }

    there, here = sweep(cell, client=client), sweep(cell, "here.zarr")
    assert same_results(there, here)
    assert there["is_float64"].all()
    assert "on 2 workers" in there.attrs["runs"][0]


def test_arrays_among_the_arguments_keep_their_precision(client: Any, sweep: Any):
    third = jnp.array(1 / 3)

    def cell(c: float, seed: int) -> dict[str, Any]:
        return {"value": third}

    assert (sweep(cell, client=client)["value"] == 1 / 3).all()


def test_a_worker_that_dies_costs_its_call_and_nothing_else(client: Any, sweep: Any, tmp_path: Path):
    def cell(c: float, seed: int) -> dict[str, Any]:
        with (tmp_path / "calls").open("a") as calls:
            calls.write(f"{c} {seed}\n")
        if (c, seed) == (1.0, 1) and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": np.sin(c) + seed}

    struck = sweep(cell, client=client)
    assert (tmp_path / "died").exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(set(calls)) == 12
    # The one that was struck, and at most those that the dead worker had finished and not yet handed over.
    assert 13 <= len(calls) <= 16
    assert same_results(struck, sweep(cell, "undisturbed.zarr"))


def test_a_worker_that_takes_long_to_return_is_not_given_up(client: Any, sweep: Any, tmp_path: Path):
    """Dask gives up one that is away for so long after a death; here, no time at all."""
    import dask.config

    def cell(c: float, seed: int) -> dict[str, Any]:
        if (c, seed) == (1.0, 1) and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": c + seed}

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0 s"}):
        results = sweep(cell, client=client)
        wait_for(lambda: sum(client.nthreads().values()) == 2)
    assert same_results(results, sweep(cell, "undisturbed.zarr"))


def test_a_call_that_kills_every_worker_stays_pending(client: Any, sweep: Any, tmp_path: Path):
    def cell(c: float, seed: int) -> dict[str, Any]:
        if (c, seed) == (1.0, 1) and not (tmp_path / "memory").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": c + seed}

    with pytest.warns(
        UserWarning, match="Left pending: c = 1, seed = 1, for which one worker after another died"
    ):
        unfinished = sweep(cell, client=client)
    assert unfinished.attrs["pending"] == 1
    (tmp_path / "memory").touch()
    assert same_results(sweep(cell, client=client), sweep(cell, "undisturbed.zarr"))


def test_a_cell_over_its_budget_is_ended_and_is_a_value(client: Any, sweep: Any):
    """Also inside XLA, where nothing but the end of the process ends it."""

    def cell(c: float, seed: int) -> dict[str, Any]:
        is_endless = (c, seed) == (1.0, 1)
        return {"value": jax.lax.while_loop(lambda x: (x < 3.0) | is_endless, lambda x: x + c, 0.0)}

    results = sweep(cell, client=client, budget=5.0)
    endless = results.sel(c=1.0, seed=1)
    assert endless["ending"] == "budget exceeded"
    assert endless["wall_time"] > 5.0
    assert np.isnan(endless["value"])
    assert int((results["ending"] == "completed").sum()) == 11
    np.testing.assert_array_equal(results["value"].sel(seed=0), [3.0, 3.0, 3.0, 4.0])


def test_a_mistake_on_a_worker_stops_the_sweep_and_keeps_the_rest(client: Any, sweep: Any, tmp_path: Path):
    def cell(c: float, seed: int) -> dict[str, Any]:
        if c == 2.0 and not (tmp_path / "width").exists():
            raise KeyError("width")
        return {"value": c + seed}

    with pytest.raises(RuntimeError, match=r"`fn` failed at c = 2, seed = \d: KeyError: 'width'"):
        sweep(cell, client=client)
    kept = cf.sweeps.open_sweep(tmp_path / "store.zarr")
    assert (kept["ending"].sel(c=2.0) == "pending").all()
    assert (kept["ending"].sel(c=0.5) == "completed").any()
    (tmp_path / "width").touch()
    assert same_results(sweep(cell, client=client), sweep(cell, "undisturbed.zarr"))
