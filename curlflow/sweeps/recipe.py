"""A sweep written down in a TOML file."""

import functools
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from curlflow import _checks

SPACINGS = {"linspace": np.linspace, "logspace": np.logspace}


@dataclass(frozen=True)
class Recipe:
    """What a TOML file asks for: the arguments of `sweep`, and how many workers compute it (None: this process).

    Paths in the file are seen from the folder in which it lies.
    """

    function: Callable[..., Any]
    axes: dict[str, Any]
    seeds: int | list[int]
    store: Path
    batch: tuple[str, ...] = ()
    budget: float | None = None
    workers: int | None = None


def read_recipe(path: Path) -> Recipe:
    """Read a sweep from a TOML file, and load its function."""
    entries = _entries(path)
    function = load_function(entries.pop("function"), path.parent)
    fixed = entries.pop("settings", {})
    if not isinstance(fixed, dict):
        raise ValueError(f"`settings` must be a table of arguments for the function, but is {fixed!r}.")
    entries["function"] = functools.partial(function, **fixed) if fixed else function
    if not isinstance(entries["axes"], dict):
        raise ValueError(f"`axes` must be a table of lists, but is {entries['axes']!r}.")
    entries["axes"] = {name: _values(name, given) for name, given in entries["axes"].items()}
    entries["store"] = path.parent / entries["store"]
    batch = entries.get("batch", ())
    entries["batch"] = (batch,) if isinstance(batch, str) else tuple(batch)
    if "workers" in entries:
        entries["workers"] = _checks.positive_integer("workers", entries["workers"])
    return Recipe(**entries)


def load_function(reference: Any, folder: Path) -> Callable[..., Any]:
    """The function named "module:function" or "path/file.py:function"; both are looked for from `folder`."""
    place, _, name = str(reference).rpartition(":")
    if not place or not name.isidentifier():
        raise ValueError(
            f"`function` must be 'module:function' or 'path/file.py:function', but is {reference!r}."
        )
    module = _load_file(folder / place) if place.endswith(".py") else _load_module(place, folder)
    if not callable(getattr(module, name, None)):
        raise ValueError(f"`function` must name a function, but {place} has no function {name!r}.")
    return getattr(module, name)


def _entries(path: Path) -> dict[str, Any]:
    """The file's entries, with none missing and none unknown."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"The recipe must be a file that can be read, but {path}: {error.strerror}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The recipe must be a TOML file, but {path}: {error}.") from None
    required, known = {"function", "axes", "seeds", "store"}, {"settings", *Recipe.__dataclass_fields__}
    wrong = sorted(required - set(entries)) + sorted(set(entries) - known)
    if wrong:
        raise ValueError(
            f"The recipe must have {', '.join(sorted(required))}, and may have "
            f"{', '.join(sorted(known - required))}, but in {path} `{wrong[0]}` is "
            f"{'missing' if wrong[0] in required else 'unknown'}."
        )
    return entries


def _values(name: str, given: Any) -> Any:
    """A list as it is; {linspace = [first, last, count]} and logspace as NumPy has them."""
    if not isinstance(given, dict):
        return given
    (kind, arguments), *more = given.items() or [("", ())]
    if more or kind not in SPACINGS or not isinstance(arguments, list) or len(arguments) != 3:
        raise ValueError(
            f"`axes.{name}` must be a list, {{linspace = [first, last, count]}} "
            f"or {{logspace = [exponent, exponent, count]}}, but is {given!r}."
        )
    first, last = (_checks.finite_number(f"axes.{name}", end) for end in arguments[:2])
    return SPACINGS[kind](first, last, _checks.positive_integer(f"axes.{name}", arguments[2]))


def _load_module(name: str, folder: Path) -> ModuleType:
    _look_in(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"`function` must lie in a module that can be imported, but {error}.") from None


def _load_file(path: Path) -> ModuleType:
    """Run a file as a module; what it defines travels to workers by value, because they cannot import it."""
    if not path.is_file():
        raise ValueError(f"`function` must lie in an existing file, but {path} is none.")
    _look_in(path.parent)
    spec = importlib.util.spec_from_file_location(f"sweep_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)  # pyright: ignore[reportArgumentType]
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
    if importlib.util.find_spec("cloudpickle") is not None:
        importlib.import_module("cloudpickle").register_pickle_by_value(module)
    return module


def _look_in(folder: Path) -> None:
    """Let modules in `folder` be imported, as Python does for those beside a script."""
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
