"""What is on disk: a Zarr group with one chunk per call in every array.

A chunk is written array by array, `ending` last, and every file appears under its name only when it is complete. So a cell
with an ending is whole, whenever the process was killed, and a cell without one is computed again.
"""

import contextlib
import errno
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import xarray as xr
import zarr
from zarr.errors import ZarrUserWarning

from curlflow.sweeps.answer import Answer
from curlflow.sweeps.grid import Call, Grid

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PENDING = "pending"
BOOKKEEPING = {
    "ending": (str, PENDING),
    "message": (str, ""),
    "end_time": (float, np.nan),
    "wall_time": (float, np.nan),
}


def open_sweep(store: str | Path) -> xr.Dataset:
    """The results of a sweep, finished or not, as a dataset that reads from disk what is looked at.

    Parameters
    ----------
    store
        The folder which `sweep` wrote, or is writing.

    Returns
    -------
    xarray.Dataset
        What `sweep` returns: one variable per name, NaN where a cell is pending, and the variables `ending`, `end_time`,
        `message` and `wall_time`. The attribute `pending` counts the cells without a result.

    Raises
    ------
    ValueError
        If `store` is not the store of a sweep.

    Examples
    --------
    >>> import tempfile
    >>> import curlflow as cf
    >>> folder = tempfile.mkdtemp()
    >>> square = lambda a, seed: {"a_squared": a**2}
    >>> results = cf.sweep(square, {"a": [1.0, 3.0]}, seeds=2, store=folder, progress=False)
    >>> again = cf.sweeps.open_sweep(folder)
    >>> again.a_squared.sel(a=3.0, seed=1).item(), again.attrs["pending"]
    (9.0, 0)
    """
    path = Path(store)
    if not (path / "ending" / "zarr.json").is_file():
        raise ValueError(f"`store` must be the folder of a sweep, but {path} is none.")
    with warnings.catch_warnings():
        # Zarr warns of an array whose process was killed before it could describe it.
        warnings.simplefilter("ignore", ZarrUserWarning)
        results = xr.open_zarr(path, chunks=None, consolidated=False)
    # Zarr's texts, where they are looked at or selected by, as NumPy's usual ones.
    for name in ("ending", *results.coords):
        if results[name].dtype.kind == "T":
            results[name] = (results[name].dims, np.array(results[name].values.tolist()))
    own = sorted(str(name) for name in results if name not in BOOKKEEPING)
    pending = int((results["ending"] == PENDING).sum())
    return results[[*own, *BOOKKEEPING]].assign_attrs(pending=pending)


class Store:
    """A store open for writing, by this process alone."""

    def __init__(self, path: Path, grid: Grid) -> None:
        self.path, self.grid = path, grid
        self.group = zarr.open_group(path, mode="r+")
        self.arrays: dict[str, zarr.Array] = {}
        self.results: frozenset[str] | None = None
        for name, values in grid.axes.items():
            is_text = values.dtype.kind == "U"
            dtype, fill = (str, "") if is_text else (values.dtype, 0)
            coordinate = self._array(name, values.shape, values.shape, dtype, fill, (name,))
            if not np.array_equal(coordinate[...], values):  # new
                coordinate[:] = values
        for name, (dtype, fill) in reversed(BOOKKEEPING.items()):  # `ending` last, by which a store is known
            self._array(name, grid.shape, grid.call_shape, dtype, fill, tuple(grid.axes))
        self.arrays |= dict(self.group.arrays())

    def note(self, run: str) -> None:
        """Add a line on a run that computes something."""
        self.group.attrs["runs"] = [*self.group.attrs["runs"], run]  # pyright: ignore[reportOptionalIterable, reportGeneralTypeIssues]

    def pending(self) -> list[Call]:
        """The calls that have a cell without an ending."""
        missing = np.asarray(self.arrays["ending"][...]) == PENDING
        return [call for call in self.grid.calls() if missing[call.region].any()]

    def write(self, call: Call, answer: Answer) -> None:
        """Put the answer on disk: its numbers first, its endings last."""
        self._require_same_names(answer)
        columns = {
            "wall_time": np.full(call.cells, answer.seconds / call.cells),
            "end_time": np.array([np.nan if o.time is None else o.time for o in answer.outcomes], float),
            "message": np.array([o.message for o in answer.outcomes], dtype=object),
            "ending": np.array([o.ending.value for o in answer.outcomes], dtype=object),
        }
        with _failure_in_words(self.path):
            for name, value in answer.values.items():
                self._result(name, value)[call.region] = value
            for name, column in columns.items():
                self.arrays[name][call.region] = column.reshape(call.shape)

    def _require_same_names(self, answer: Answer) -> None:
        """Refuse an answer with other names than the ones before; the first of this run may add to those on disk."""
        if not answer.values:
            return
        names = frozenset(answer.values)
        on_disk = frozenset(self.arrays) - frozenset(self.grid.axes) - frozenset(BOOKKEEPING)
        expected = self.results or (on_disk | names)
        if names != expected:
            raise ValueError(
                "`fn` must return the same names in every cell, "
                f"but returned {', '.join(sorted(names))} here and {', '.join(sorted(expected))} before."
            )
        self.results = names

    def _result(self, name: str, value: np.ndarray) -> zarr.Array:
        """The array of a result, made when it is first returned."""
        axes = len(self.grid.axes)
        own, is_complex = value.shape[axes:], value.dtype.kind == "c"
        dims = (*self.grid.axes, *(f"{name}_axis{i}" for i in range(len(own))))
        fill = complex(np.nan, np.nan) if is_complex else np.nan
        chunks = self.grid.call_shape + tuple(max(1, size) for size in own)
        array = self._array(name, self.grid.shape + own, chunks, value.dtype, fill, dims)
        if array.shape[axes:] != own or (is_complex and array.dtype.kind != "c"):
            raise ValueError(
                f"`fn` must return `{name}` with the same shape and the same kind of number in every cell, "
                f"but returned {value.dtype} {own} here and {array.dtype} {array.shape[axes:]} before."
            )
        return array

    def _array(
        self,
        name: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: Any,
        fill: Any,
        dims: tuple[str, ...],
    ) -> zarr.Array:
        if name not in self.arrays:
            there = self.group.get(name)
            if there is None:
                there = self.group.create_array(
                    name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill, dimension_names=dims
                )
            self.arrays[name] = there  # pyright: ignore[reportArgumentType]
        return self.arrays[name]


@contextlib.contextmanager
def opened(path: Path, grid: Grid, identity: dict[str, str], attributes: dict[str, Any]) -> Iterator[Store]:
    """The store at `path`, locked; a new one if there is none. Refused if it belongs to another sweep.

    `identity` says what determines the numbers, `attributes` what else a new store notes.
    """
    if not path.parent.is_dir():
        raise ValueError(f"`store` must lie in an existing folder, but {path.parent} is none.")
    if path.exists() and not _is_ours(path):
        raise ValueError(
            f"`store` must be the folder of a sweep, or not exist yet, but {path} is something else."
        )
    with _locked(path):
        with _failure_in_words(path):
            _clear_torn_files(path)
            if not (path / "zarr.json").is_file():
                zarr.create_group(path, attributes={**attributes, "runs": []})
            notes = zarr.open_group(path, mode="r+").attrs
            # Taken out by hand, the fingerprint is that of the next run: so a user vouches for a change.
            _require_same_identity(
                path, json.loads(str(notes.get("fingerprint", "null"))) or identity, identity
            )
            if "fingerprint" not in notes:
                notes["fingerprint"] = json.dumps(identity, ensure_ascii=False)
            store = Store(path, grid)
        yield store


def _clear_torn_files(path: Path) -> None:
    """Remove what a kill in the middle of writing leaves: a file under a passing name, a folder without any other."""
    for torn in path.rglob("*.partial"):
        torn.unlink()
    for folder in path.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether a sweep's folder is there, even one whose process was killed before it could name it."""
    if not path.is_dir():
        return False
    if (path / "zarr.json").is_file():
        return "runs" in zarr.open_group(path, mode="r").attrs
    return all(item.name == "ending" or item.suffix == ".partial" for item in path.iterdir())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out; the system lifts the lock when this one ends, however it ends."""
    # In an array's folder, because Zarr warns of files it does not know beside the arrays.
    folder = path / "ending"
    with _failure_in_words(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    with file:
        _lock(file, path)
        yield


def _lock(file: IO[str], path: Path) -> None:
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "not on this system")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"`store` must be written by one process at a time, but another one is writing {path}."
        ) from None
    except OSError as error:
        warnings.warn(
            f"{path} cannot be locked ({error.strerror}): see to it that only one process writes it.",
            stacklevel=2,
        )


def _require_same_identity(path: Path, there: dict[str, str], here: dict[str, str]) -> None:
    changed = [
        f"{name} ({there.get(name, 'none')} there, {here.get(name, 'none')} here)"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if changed:
        raise ValueError(
            f"`store` must have been begun by the same sweep, but in {path} there was another value of "
            f"{'; '.join(changed)}. Take a new store, or go back to what it was."
        )


@contextlib.contextmanager
def _failure_in_words(path: Path) -> Iterator[None]:
    """Say of a full disk what is lost, which is nothing that was finished."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: {path} could not be written. What was finished before is whole; "
            "see to the disk and run the same sweep again",
        ) from error
