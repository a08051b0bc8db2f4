"""Sweeps: every cell is what the function says, what is on disk is whole, and what changed is refused."""

import errno
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
import zarr

import curlflow as cf
from curlflow import cli
from curlflow.sweeps import store as sweep_store
from curlflow.sweeps import workers
from curlflow.sweeps.answer import evaluate
from curlflow.sweeps.recipe import read_recipe

AXES = {"c": [0.5, 1.0, 2.0], "rule": ["curl", "gradient"]}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., xr.Dataset]:
    """A sweep over the same small grid, into the same store unless told otherwise."""

    def sweep(
        fn: Any, axes: Any = AXES, *, seeds: Any = 2, store: str = "store.zarr", **more: Any
    ) -> xr.Dataset:
        return cf.sweep(fn, axes, seeds=seeds, store=tmp_path / store, progress=False, **more)

    return sweep


def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
    return {"value": c * len(rule) + 100 * seed}


def note(path: Path, *what: Any) -> None:
    """Write a line that outlives the process; unlike a list, a file is no part of what the function is made of."""
    with path.open("a") as file:
        file.write(f"{what}\n")


def same_results(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Bit for bit, except for what the computation cost and who ran it."""
    one, other = (dataset.drop_vars("wall_time").drop_attrs() for dataset in (one, other))
    return one.identical(other)


# ---------------------------------------------------------------------------------------------- results


def test_every_cell_holds_what_the_function_returned_for_it(sweep: Any):
    results = sweep(cell, seeds=[3, 7])
    assert results["value"].dims == ("c", "rule", "seed")
    for c in AXES["c"]:
        for rule in AXES["rule"]:
            for seed in (3, 7):
                assert results["value"].sel(c=c, rule=rule, seed=seed) == c * len(rule) + 100 * seed
    assert (results["ending"] == "completed").all()
    assert results.attrs["pending"] == 0


def test_arguments_come_as_plain_numbers_and_texts(sweep: Any):
    seen = []

    def cell(c: Any, n: Any, rule: Any, on: Any, seed: Any) -> dict[str, Any]:
        seen.append((c, n, rule, on, seed))
        return {"value": 0}

    sweep(cell, {"c": [0.5], "n": np.array([3]), "rule": ["curl"], "on": [True]}, seeds=1)
    assert seen == [(0.5, 3, "curl", True, 0)]
    assert [type(argument) for argument in seen[0]] == [float, int, str, bool, int]


def test_arrays_get_axes_of_their_own_and_numbers_keep_their_kind(sweep: Any):
    def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
        return {
            "weights": jnp.full((2, 3), c),
            "eigenvalues": np.array([c + 1j * seed]),
            "count": 2**53,
            "flag": c > 0.7,
            "nothing": np.zeros(0),
        }

    results = sweep(cell)
    assert results["weights"].dims == ("c", "rule", "seed", "weights_axis0", "weights_axis1")
    assert (results["weights"] == results["c"]).all()
    np.testing.assert_array_equal(results["eigenvalues"].sel(c=0.5, rule="curl", seed=1), [0.5 + 1j])
    assert int(results["count"][0, 0, 0]) == 2**53
    np.testing.assert_array_equal(results["flag"][:, 0, 0], [0, 1, 1])
    assert results["nothing"].shape == (3, 2, 2, 0)


def test_a_batch_is_one_call_and_gives_what_single_cells_give(sweep: Any):
    calls = []

    def cells(c: float, rule: Any, seed: Any) -> dict[str, Any]:
        calls.append((c, list(rule), list(seed)))
        return {"value": c * np.array([len(r) for r in rule]) + 100 * seed}

    batched = sweep(cells, batch=("rule", "seed"))
    assert calls == [(c, ["curl", "curl", "gradient", "gradient"], [0, 1, 0, 1]) for c in AXES["c"]]
    assert same_results(batched, sweep(cell, store="single.zarr"))


def test_a_batch_along_an_axis_that_is_not_the_last(sweep: Any):
    def cells(c: Any, rule: str, seed: int) -> dict[str, Any]:
        return {"value": c * len(rule) + 100 * seed, "pair": np.stack([c, c + seed], axis=1)}

    results = sweep(cells, batch="c")
    assert same_results(results[[*sweep(cell, store="single.zarr")]], sweep(cell, store="single.zarr"))
    np.testing.assert_array_equal(results["pair"].sel(c=2.0, rule="curl", seed=1), [2.0, 3.0])


def test_the_dataset_becomes_a_small_netcdf_file(sweep: Any, tmp_path: Path):
    results = sweep(cell)
    results.to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as again:
        assert (again["ending"] == "completed").all()
        assert again["value"].equals(results["value"])
        assert again.attrs["fingerprint"] == results.attrs["fingerprint"]


def test_the_store_says_what_it_was_made_with(sweep: Any):
    attributes = sweep(functools.partial(cell, rule="curl"), {"c": [1.0]}).attrs
    assert attributes["function"] == "test_sweep.cell"
    assert attributes["settings"] == '{"rule": "\'curl\'"}'
    (run,) = attributes["runs"]
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in run
    for package in ("curlflow", "jax", "jaxlib", "diffrax", "numpy"):
        assert f'"{package}": "' in attributes["fingerprint"]


# -------------------------------------------------------------------------------------------- bad endings


def test_a_bad_ending_is_a_value_and_is_not_computed_again(sweep: Any, tmp_path: Path):
    def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
        note(tmp_path / "calls", c)
        if c == 0.5:
            raise FloatingPointError("the norm vanished")
        if c == 1.0:
            return {"value": 3.0, "outcome": cf.Outcome(cf.Ending.BLEW_UP, 1.25, "It passed 1e6.")}
        return {"value": np.nan}

    results = sweep(cell, seeds=1)
    assert results["ending"][:, 0, 0].values.tolist() == ["solver failed", "blew up", "undecided"]
    np.testing.assert_array_equal(results["end_time"][:, 0, 0], [np.nan, 1.25, np.nan])
    np.testing.assert_array_equal(results["value"][:, 0, 0], [np.nan, 3.0, np.nan])
    assert results["message"][0, 0, 0] == "FloatingPointError: the norm vanished"
    assert "`value` is NaN" in results["message"][2, 0, 0].item()
    assert results.attrs["pending"] == 0
    assert same_results(sweep(cell, seeds=1), results)
    assert len((tmp_path / "calls").read_text().splitlines()) == 6


@pytest.mark.parametrize("failure", ["singular", "equinox", "division"])
def test_numerical_failures_of_other_libraries(sweep: Any, failure: str):
    def cell(c: float, seed: int) -> dict[str, Any]:
        if failure == "singular":
            np.linalg.inv(np.zeros((2, 2)))
        if failure == "equinox":
            return {"value": eqx.filter_jit(lambda x: eqx.error_if(x, x > 0, "x is positive"))(jnp.ones(()))}
        return {"value": 1 / int(c - c)}

    results = sweep(cell, {"c": [1.0]}, seeds=1)
    assert results["ending"].item() == "solver failed"
    assert "value" not in results


def test_each_cell_of_a_batch_has_its_own_ending(sweep: Any):
    flow = cf.toy_flow(flip="both")

    def cells(radius: Any, seed: int) -> dict[str, Any]:
        starts = jnp.stack([jnp.asarray(radius), jnp.zeros(len(radius))], axis=1)
        runs = cf.integrate(flow, starts, 3.0, batch=True)
        return {"loss": runs.loss()[-1], "outcome": runs.outcome}

    results = sweep(cells, {"radius": [0.0, 3.0]}, seeds=1, batch="radius")
    assert results["ending"][:, 0].values.tolist() == ["completed", "blew up"]
    assert results["end_time"][0, 0] == 3.0


def test_a_mistake_stops_the_sweep_and_names_the_cell(sweep: Any, tmp_path: Path):
    def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
        if c == 2.0:
            raise TypeError("can only concatenate str")
        return {"value": c}

    message = r"`fn` failed at c = 2, rule = curl, seed = 0: TypeError: can only concatenate str"
    with pytest.raises(RuntimeError, match=message):
        sweep(cell)
    kept = cf.sweeps.open_sweep(tmp_path / "store.zarr")
    assert kept.attrs["pending"] == 4
    np.testing.assert_array_equal(kept["value"][:, 0, 0], [0.5, 1.0, np.nan])
    assert (kept["ending"].sel(c=2.0) == "pending").all()


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (3.0, "must return a mapping of names to numbers, but returned float"),
        ({"value": "three"}, "must return numbers, but returned 'three' as `value`"),
        ({"c": 1.0}, "must return names of its own, other than its parameters"),
        ({"ending": 1.0}, "must return names of its own"),
        ({"value": 2**53 + 1}, "must return whole numbers below 2\\^53"),
        ({"outcome": "fine"}, "must return an Outcome as `outcome`, but returned 'fine'"),
    ],
)
def test_a_wrong_return_value_is_refused_in_a_sentence(sweep: Any, returned: Any, sentence: str):
    with pytest.raises(RuntimeError, match=sentence):
        sweep(lambda c, rule, seed: returned)


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"other": 1.0}, "the same names in every cell, but returned other here and value before"),
        ({"value": 1.0, "other": 1.0}, "but returned other, value here and value before"),
        (
            {"value": [1.0, 2.0]},
            r"`value` with the same shape .* returned float64 \(2,\) here and float64 \(\)",
        ),
        ({"value": 1j}, "`value` with the same shape and the same kind of number"),
    ],
)
def test_cells_that_do_not_fit_together_are_refused(sweep: Any, second: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        sweep(lambda c, rule, seed: {"value": 1.0} if c == 0.5 else second)


def test_a_batch_must_return_one_entry_per_cell(sweep: Any):
    with pytest.raises(RuntimeError, match=r"one entry for each of the 3 cells of a batch, .* shape \(2,\)"):
        sweep(lambda c, rule, seed: {"value": c[:2]}, batch="c")
    with pytest.raises(RuntimeError, match="a list of 3 Outcomes as `outcome`"):
        sweep(
            lambda c, rule, seed: {"value": c, "outcome": cf.Outcome(cf.Ending.COMPLETED, None, "")},
            batch="c",
            store="other.zarr",
        )


# ------------------------------------------------------------------------------------------------ resume


def test_an_interrupted_sweep_computes_only_what_is_missing(sweep: Any, tmp_path: Path):
    def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
        if (c, rule, seed) == (1.0, "curl", 1) and not (tmp_path / "on").exists():
            raise KeyboardInterrupt
        note(tmp_path / "calls", c, rule, seed)
        return {"value": np.sin(c) + len(rule) + seed}

    with pytest.raises(KeyboardInterrupt):
        sweep(cell)
    assert cf.sweeps.open_sweep(tmp_path / "store.zarr").attrs["pending"] == 7
    (tmp_path / "on").touch()
    resumed = sweep(cell)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 12
    assert len(resumed.attrs["runs"]) == 2
    assert same_results(resumed, sweep(cell, store="undisturbed.zarr"))


def test_a_finished_sweep_is_only_read(sweep: Any, tmp_path: Path):
    first = sweep(cell).load()
    files = [path for path in (tmp_path / "store.zarr").rglob("*") if path.is_file() and path.name != ".lock"]
    before = [path.stat().st_mtime_ns for path in files]
    again = sweep(cell)
    assert same_results(again, first)
    assert again.attrs["runs"] == first.attrs["runs"]
    assert [path.stat().st_mtime_ns for path in files] == before


def test_an_unfinished_store_reads_as_pending(tmp_path: Path):
    def cell(seed: int) -> dict[str, Any]:
        seen.append(cf.sweeps.open_sweep(tmp_path / "store.zarr").load())
        return {"value": seed}

    seen: list[xr.Dataset] = []
    cf.sweep(cell, {}, seeds=3, store=tmp_path / "store.zarr", progress=False)
    assert [dataset.attrs["pending"] for dataset in seen] == [3, 2, 1]
    assert seen[2]["ending"].values.tolist() == ["completed", "completed", "pending"]
    np.testing.assert_array_equal(seen[2]["value"], [0.0, 1.0, np.nan])


def test_a_store_is_written_by_one_process_at_a_time(sweep: Any, tmp_path: Path):
    def cell(seed: int) -> dict[str, Any]:
        with pytest.raises(ValueError, match="one process at a time, but another one is writing"):
            cf.sweep(cell, {}, seeds=1, store=tmp_path / "store.zarr", progress=False)
        return {"value": seed}

    assert sweep(cell, {}, seeds=1)["value"].item() == 0


def test_a_file_system_without_locks_is_named(sweep: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep_store, "fcntl", None)
    with pytest.warns(UserWarning, match="cannot be locked .*: see to it that only one process writes it"):
        sweep(cell)


def test_torn_files_of_a_killed_process_are_cleared_away(sweep: Any, tmp_path: Path):
    folder = tmp_path / "store.zarr"
    (folder / "ending").mkdir(parents=True)
    (folder / "zarr.123.partial").write_text("{")
    (folder / "ending" / "zarr.123.partial").write_text("{")
    results = sweep(cell)
    assert results.attrs["pending"] == 0
    assert list(folder.rglob("*.partial")) == []


class DesertedCluster:
    """A Dask client whose cluster has no workers when it is first looked at, so many times; then one computes `cell`."""

    def __init__(self, looks: int):
        self.looks = looks

    def nthreads(self) -> dict[str, int]:
        self.looks -= 1
        return {} if self.looks >= 0 else {"worker": 1}

    def submit(self, fn: Any, *arguments: Any, pure: bool) -> Any:
        return DesertedCluster.Future(self, arguments[-1])

    def cancel(self, futures: Any, force: bool) -> None:
        pass

    class Future:
        status = "finished"

        def __init__(self, cluster: Any, call: Any):
            self.cluster, self.call = cluster, call

        def done(self) -> bool:
            return self.cluster.looks < 0

        def result(self) -> Any:
            return evaluate(cell, self.call)

        def release(self) -> None:
            pass


def test_a_cluster_without_workers_is_waited_for_and_spoken_of_once(
    sweep: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("distributed.wait", lambda *_, **__: None)
    in_time = sweep(cell, client=DesertedCluster(looks=5), store="in_time.zarr")
    monkeypatch.setattr(workers, "LONGEST_SILENCE", 0.0)
    with pytest.warns(
        UserWarning, match="The cluster has had no workers for 0 s, and the sweep waits"
    ) as said:
        late = sweep(cell, client=DesertedCluster(looks=5))
    assert len(said) == 1
    here = sweep(cell, store="here.zarr")
    assert same_results(late, here)
    assert same_results(in_time, here)


# ----------------------------------------------------------------------------------------------- refusals

MODULE = '''
import jax
import numpy as np

RATE = np.array([1.0, 2.0])

def unrelated():
    return 1

def helper(x):
    """Twice."""
    return 2 * x  # twice

@jax.jit
def compiled(x):
    return x + 1

class Model:
    def value(self, c):
        return helper(c)

def cell(c, rule, seed, gain=1.0):
    inner = [helper(x) for x in RATE]
    return {"value": gain * c * inner[0] + Model().value(c) + compiled(c)}
'''


def module(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's module, freshly imported."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("users", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "users", loaded)
    exec(compile(text, str(path), "exec"), vars(loaded))
    return loaded


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("+ Model().value(c)", "- Model().value(c)", "the code of `users.cell`"),
        ("return 2 * x", "return 3 * x", "the code of `users.helper`"),
        ("return helper(c)", "return -helper(c)", "the code of `users.Model`"),
        ("return x + 1", "return x + 2", "the code of `users.compiled`"),
        ("[1.0, 2.0]", "[1.5, 2.0]", "`RATE` in `users.cell`"),
        ("gain=1.0", "gain=2.0", "the code of `users.cell`"),
    ],
)
def test_a_changed_function_is_refused_and_the_change_named(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, changed: str
):
    sweep(module(tmp_path / "users.py", MODULE, monkeypatch).cell)
    assert old in MODULE
    with pytest.raises(ValueError, match=f"begun by the same sweep, but .* {changed}"):
        sweep(module(tmp_path / "users.py", MODULE.replace(old, new), monkeypatch).cell)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # twice", "  # two times"),
        ('"""Twice."""', '"""Two times."""'),
        ("return 1\n", "return 2\n"),
        ("gain * c", "gain*c"),
    ],
)
def test_what_does_not_change_the_numbers_is_not_refused(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
):
    first = sweep(module(tmp_path / "users.py", MODULE, monkeypatch).cell)
    assert old in MODULE
    assert same_results(
        sweep(module(tmp_path / "users.py", MODULE.replace(old, new), monkeypatch).cell), first
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"axes": {**AXES, "c": [0.5, 1.0, 2.5]}},
            r"the axis `c` \(3 values 0.5 … 2.0 #\w+ there, 3 values 0.5 … 2.5",
        ),
        ({"axes": {"rule": AXES["rule"], "c": AXES["c"][:1]}}, "the axis `c`"),
        ({"seeds": 3}, r"the seeds \(2 values 0 … 1 #\w+ there, 3 values 0 … 2"),
        ({"batch": "seed"}, r"`batch` \(one cell at a time there, seed here\)"),
    ],
)
def test_a_changed_grid_is_refused_and_the_store_left_alone(sweep: Any, change: Any, sentence: str):
    first = sweep(cell).load()
    with pytest.raises(ValueError, match=sentence):
        sweep(cell, **change)
    assert same_results(sweep(cell), first)


def test_the_order_of_the_axes_is_part_of_the_grid(sweep: Any):
    sweep(cell)
    with pytest.raises(ValueError, match="the order of the axes"):
        sweep(cell, {"rule": AXES["rule"], "c": AXES["c"]})


def test_changed_arguments_are_refused(sweep: Any):
    def cell(flow: Any, key: Any, c: float, rule: str, seed: int) -> dict[str, Any]:
        return {"value": c}

    def fixed(s: float, key: int) -> Any:
        return functools.partial(cell, cf.toy_flow(s), key=jax.random.key(key))

    sweep(fixed(1.0, 0))
    sweep(fixed(1.0, 0))
    with pytest.raises(ValueError, match=r"the argument `0` of `.*cell`"):
        sweep(fixed(1.5, 0))
    with pytest.raises(ValueError, match=r"the argument `key` of `.*cell`"):
        sweep(fixed(1.0, 1))


def test_a_changed_closure_lambda_or_object_is_refused(sweep: Any):
    class Cell(eqx.Module):
        gain: jax.Array

        def __call__(self, c: float, rule: str, seed: int) -> dict[str, Any]:
            return {"value": self.gain * c}

    def closure(gain: float) -> Any:
        def cell(c: float, rule: str, seed: int) -> dict[str, Any]:
            return {"value": gain * c}

        return cell

    for number, make in enumerate(
        [closure, lambda gain: lambda c, rule, seed: {"value": gain}, lambda g: Cell(jnp.array(g))]
    ):
        store = f"{number}.zarr"
        sweep(make(1.0), store=store)
        sweep(make(1.0), store=store)
        with pytest.raises(ValueError, match="begun by the same sweep"):
            sweep(make(2.0), store=store)


EXECUTED = """
HALF = 0.5

class Model:
    rate = 1.0 * HALF

    @property
    def gain(self):
        return doubled(self.rate)

def doubled(x):
    return 2 * x

def cell(c, rule, seed):
    return {"value": Model().gain * c if rule in {"curl", "gradient", "other"} else 0.0}
"""


def executed(text: str) -> Any:
    """A function that comes from no file and no module."""
    space: dict[str, Any] = {}
    exec(text, space)
    return space["cell"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* c if", "/ c if"),
        ("2 * x", "3 * x"),
        ("return doubled", "return -doubled"),
        ("HALF = 0.5", "HALF = 0.25"),
    ],
)
def test_what_has_no_file_is_the_users_own_and_its_changes_are_noticed(sweep: Any, old: str, new: str):
    first = sweep(executed(EXECUTED))
    assert old in EXECUTED
    with pytest.raises(ValueError, match="begun by the same sweep"):
        sweep(executed(EXECUTED.replace(old, new)))
    assert same_results(sweep(executed(EXECUTED)), first)


def test_code_without_a_file_has_the_same_fingerprint_in_every_process(tmp_path: Path):
    """Sets of texts are in another order in each, if nobody sees to it."""
    program = f"""
import curlflow as cf
space = {{}}
exec({EXECUTED!r}, space)
cf.sweep(space["cell"], {AXES!r}, seeds=1, store={str(tmp_path / "store.zarr")!r}, progress=False)
"""
    for order in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "body",
    [
        "import lab.inner; return {'value': lab.inner.gain(c)}",
        "import lab.inner as inner; return {'value': inner.gain(c)}",
        "from lab import inner; return {'value': inner.gain(c)}",
        "from lab.inner import gain; return {'value': gain(c)}",
        "from lab.outer import relative; return {'value': relative(c)}",
        "import importlib; return {'value': importlib.import_module('lab.inner').gain(c)}",
        "return {'value': (lambda: __import__('lab.inner').inner.gain(c))()}",
    ],
)
def test_a_changed_module_that_is_imported_inside_is_refused(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
):
    """On the first run nothing has imported it yet."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "outer.py").write_text(
        "def relative(x):\n    from . import inner\n    return inner.gain(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cell = executed(f"def cell(c, rule, seed):\n    {body}\n")

    def with_gain(gain: float) -> xr.Dataset:
        (tmp_path / "lab" / "inner.py").write_text(f"GAIN = {gain}\n\n\ndef gain(x):\n    return GAIN * x\n")
        for name in ("lab", "lab.inner", "lab.outer"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "lab" / "__pycache__", ignore_errors=True)
        return sweep(cell)

    first = with_gain(1.0)
    assert same_results(with_gain(1.0), first)
    with pytest.raises(ValueError, match=r"begun by the same sweep, but .*`GAIN` in `inner.gain`"):
        with_gain(2.0)


def test_changed_precision_is_refused(sweep: Any):
    sweep(cell)
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"precision of JAX \(float64 there, float32 here\)"),
    ):
        sweep(cell)


def test_a_user_can_vouch_for_a_change(sweep: Any, tmp_path: Path):
    sweep(lambda c, rule, seed: {"value": c})
    del zarr.open_group(tmp_path / "store.zarr").attrs["fingerprint"]
    sweep(lambda c, rule, seed: {"value": c + 1})
    with pytest.raises(ValueError, match="begun by the same sweep"):
        sweep(lambda c, rule, seed: {"value": c})


def test_cells_marked_as_pending_are_computed_again_with_their_batch(sweep: Any, tmp_path: Path):
    def cells(c: float, rule: str, seed: Any) -> dict[str, Any]:
        note(tmp_path / "calls", c, rule)
        return {"value": c + seed}

    first = sweep(cells, batch="seed").load()
    endings = zarr.open_group(tmp_path / "store.zarr")["ending"]
    endings[1, 0, 1] = "pending"
    assert cf.sweeps.open_sweep(tmp_path / "store.zarr").attrs["pending"] == 1
    (tmp_path / "calls").unlink()
    assert same_results(sweep(cells, batch="seed"), first)
    assert (tmp_path / "calls").read_text() == "(1.0, 'curl')\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fn": 3}, "`fn` must be a function, but is 3"),
        (
            {"fn": lambda c, seed: {}},
            "`fn` must take the arguments c, rule, seed and no other without a default",
        ),
        ({"fn": lambda c, rule, seed, more: {}}, "but: missing a required argument: 'more'"),
        ({"axes": [1, 2]}, "`axes` must map each parameter's name to its values"),
        ({"axes": {"seed": [1]}}, "`axes` must have the names of parameters, other than seed"),
        ({"axes": {"my c": [1]}}, "but has 'my c'"),
        ({"axes": {"c": []}}, "`axes\\['c'\\]` must hold at least one value"),
        ({"axes": {"c": [1, 1]}}, "must hold distinct values"),
        ({"axes": {"c": [1, "a"]}}, "must be a list of numbers or of texts"),
        ({"axes": {"c": [None]}}, "must be a list of numbers or of texts"),
        ({"axes": {"c": [[1]]}}, "must be a list of numbers or of texts"),
        ({"axes": {"c": [np.nan]}}, "must hold numbers, but holds NaN"),
        ({"axes": {"c": 3}}, "must be a list of numbers or of texts, but is 3"),
        ({"seeds": 0}, "`seeds` must be at least 1, but is 0"),
        ({"seeds": [0.5]}, "`seeds` must be whole numbers"),
        ({"batch": "alpha"}, "`batch` must be one of 'c', 'rule', 'seed', but is 'alpha'"),
        ({"budget": 1.0}, "`budget` must come with a `client`"),
        ({"budget": -1.0}, "`budget` must be positive"),
        ({"store": "missing/store.zarr"}, "`store` must lie in an existing folder, but .*missing is none"),
        ({"store": "."}, "`store` must be the folder of a sweep, or not exist yet"),
        ({"store": "file"}, "`store` must be the folder of a sweep, or not exist yet"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(sweep: Any, tmp_path: Path, change: Any, sentence: str):
    (tmp_path / "file").write_text("not a sweep")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=sentence):
        sweep(**{"fn": lambda c, rule, seed: {"value": 1}, **change})
    assert sorted(tmp_path.rglob("*")) == before


def test_only_a_sweep_opens_as_one(tmp_path: Path):
    with pytest.raises(ValueError, match=r"`store` must be the folder of a sweep, but .* is none"):
        cf.sweeps.open_sweep(tmp_path)


# ---------------------------------------------------------------------------------- recipes, command line

RECIPE = """
function = "study.py:cell"
seeds = 2
store = "store.zarr"
batch = "seed"

[axes]
c = { logspace = [-1, 1, 3] }
alpha = { linspace = [0, 1, 2] }
rule = ["curl", "gradient"]

[settings]
gain = 2.0
"""
STUDY = """
import beside
import numpy as np

def cell(c, alpha, rule, seed, gain):
    return {"value": beside.times(gain, c) + alpha + len(rule) + seed}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    (tmp_path / "beside.py").write_text("def times(a, b):\n    return a * b\n")
    (tmp_path / "study.py").write_text(STUDY)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_is_the_arguments_of_a_sweep(recipe: Path):
    read = read_recipe(recipe)
    np.testing.assert_allclose(read.axes["c"], [0.1, 1.0, 10.0], rtol=1e-15)
    np.testing.assert_array_equal(read.axes["alpha"], [0.0, 1.0])
    assert read.axes["rule"] == ["curl", "gradient"]
    assert (read.seeds, read.batch, read.budget, read.workers) == (2, ("seed",), None, None)
    assert read.store == recipe.parent / "store.zarr"
    assert read.function(c=3.0, alpha=0.5, rule="curl", seed=1) == {"value": 11.5}


def test_a_function_is_also_found_in_a_module_beside_the_recipe(recipe: Path):
    recipe.write_text(RECIPE.replace("study.py:cell", "study:cell"))
    assert read_recipe(recipe).function(c=3.0, alpha=0.5, rule="curl", seed=1) == {"value": 11.5}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seeds = 2", "", "but in .*recipe.toml `seeds` is missing"),
        ("seeds = 2", "seeds = 2\nsede = 3", "`sede` is unknown"),
        ("seeds = 2", "seeds = ", "The recipe must be a TOML file, but .*recipe.toml: Invalid value"),
        ("study.py:cell", "study.py", "`function` must be 'module:function' or 'path/file.py:function'"),
        ("study.py:cell", "other.py:cell", "must lie in an existing file, but .*other.py is none"),
        ("study.py:cell", "no_such_module:cell", "must lie in a module that can be imported, but No module"),
        ("study.py:cell", "study.py:other", "study.py has no function 'other'"),
        ("linspace", "linspce", "`axes.alpha` must be a list, {linspace = "),
        ("[0, 1, 2]", "[0, 1]", "`axes.alpha` must be a list"),
        ("[0, 1, 2]", "[0, 1, 0]", "`axes.alpha` must be at least 1, but is 0"),
        ("seeds = 2", "seeds = 2\nworkers = 0", "`workers` must be at least 1"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(recipe: Path, old: str, new: str, sentence: str):
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        read_recipe(recipe)


def test_fixed_arguments_of_a_recipe_are_a_table(recipe: Path):
    recipe.write_text("settings = 3\n" + RECIPE.partition("[settings]")[0])
    with pytest.raises(
        ValueError, match="`settings` must be a table of arguments for the function, but is 3"
    ):
        read_recipe(recipe)


def test_a_recipe_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"must be a file that can be read, but .*none.toml: No such file"):
        read_recipe(tmp_path / "none.toml")


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    """Run `curlflow sweep …`: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["curlflow", "sweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, *capsys.readouterr()


def test_the_command_computes_a_recipe_and_resumes_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, out, err = command_line(monkeypatch, capsys, recipe, "--quiet")
    assert (code, err) == (0, "")
    assert "completed" in out
    assert "24" in out
    results = cf.sweeps.open_sweep(recipe.parent / "store.zarr").load()
    assert results["value"].sel(c=10.0, alpha=1.0, rule="curl", seed=1) == 26.0
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, _, err = command_line(monkeypatch, capsys, recipe)
    assert code == 0
    assert "100%" in err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert len(cf.sweeps.open_sweep(recipe.parent / "store.zarr").attrs["runs"]) == 1
    recipe.write_text(RECIPE.replace("gain = 2.0", "gain = 3.0"))
    code, out, err = command_line(monkeypatch, capsys, recipe)
    assert (code, out) == (2, "")
    assert err.startswith("curlflow: `store` must have been begun by the same sweep")
    assert "the argument `gain` of `cell`" in err


def test_the_command_writes_where_it_is_told(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, out, err = command_line(monkeypatch, capsys, recipe, "-o", tmp_path / "other.zarr")
    assert (code, err) == (0, "")  # no bar where nobody watches
    assert out.endswith(f"Everything is in {tmp_path / 'other.zarr'}.\n")
    assert not (recipe.parent / "store.zarr").exists()
    assert cf.sweeps.open_sweep(tmp_path / "other.zarr").attrs["pending"] == 0


def test_the_command_says_in_its_own_words_what_a_budget_needs(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe.write_text("budget = 5\n" + recipe.read_text())
    assert command_line(monkeypatch, capsys, recipe) == (
        2,
        "",
        f"curlflow: `budget` must come with workers, which alone can be ended, but in {recipe} it is 5 and there are none: "
        "give --workers 1.\n",
    )


def test_the_command_says_that_the_disk_is_full(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def replace(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        code, out, err = command_line(patch, capsys, recipe, "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("curlflow: No space left on device: ")
    assert "What was finished before is whole; see to the disk and run the same sweep again" in err


@pytest.mark.slow
def test_the_command_computes_on_workers(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, _, _ = command_line(monkeypatch, capsys, recipe, "--quiet", "--workers", 2)
    assert code == 0
    there = cf.sweeps.open_sweep(recipe.parent / "store.zarr").load()
    assert "on 2 workers" in there.attrs["runs"][0]
    recipe.write_text(RECIPE.replace("store.zarr", "here.zarr"))
    command_line(monkeypatch, capsys, recipe, "--quiet")
    assert same_results(there, cf.sweeps.open_sweep(recipe.parent / "here.zarr"))
