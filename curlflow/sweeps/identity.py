"""What determines a sweep's numbers, part by part, so that a changed part can be named."""

import ast
import functools
import hashlib
import inspect
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from curlflow.sweeps.grid import Grid

PACKAGES = ("curlflow", "diffrax", "jax", "jaxlib", "numpy")
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def identity(fn: Callable[..., Any], grid: Grid) -> dict[str, str]:
    """Every part that determines the numbers, in words → its value, or a short fingerprint of it.

    The parts are the function with its fixed arguments, the functions, classes and constants of the user's own modules which
    it uses, directly or through others, the axes and seeds, and the versions of the packages underneath. Comments,
    docstrings and layout do not count.
    """
    parts: dict[str, str] = {}
    try:
        _describe(fn, parts)
    except RecursionError:
        raise ValueError("`fn` must not hold an object that contains itself, but does.") from None
    parts["the order of the axes"] = ", ".join(grid.axes)
    for name, values in grid.axes.items():
        parts["the seeds" if name == "seed" else f"the axis `{name}`"] = _values_in_words(values)
    parts["`batch`"] = ", ".join(grid.batch) or "one cell at a time"
    parts["the precision of JAX"] = "float64" if jax.config.jax_enable_x64 else "float32"  # pyright: ignore[reportAttributeAccessIssue]
    return parts | {package: version(package) for package in PACKAGES}


def settings(fn: Callable[..., Any]) -> dict[str, str]:
    """The arguments fixed by `functools.partial`, as text."""
    if not isinstance(fn, functools.partial):
        return {}
    fixed = {str(i): repr(value) for i, value in enumerate(fn.args)}
    return settings(fn.func) | fixed | {name: repr(value) for name, value in fn.keywords.items()}


def name_of(fn: Callable[..., Any]) -> str:
    """The function's file and name, e.g. "fig3.test_error"."""
    definition, file = _definition(fn), source_file(fn)
    return f"{file.stem if file else definition.__module__}.{definition.__qualname__}"


def source_file(fn: Callable[..., Any]) -> Path | None:
    """The file in which the function is written."""
    try:
        return Path(inspect.getfile(_definition(fn)))
    except (TypeError, OSError):
        return None


def _definition(fn: Any) -> Any:
    """The function or class behind fixed arguments and decorators."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    return fn if hasattr(fn, "__qualname__") else type(fn)


def _values_in_words(values: np.ndarray) -> str:
    mark = _mark(repr(values.tolist()))
    return f"{len(values)} values {values[0].item()} … {values[-1].item()} #{mark}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# Functions and classes enter `parts` under their own names; values are spelt out as text and enter where they are used.


def _describe(thing: Any, parts: dict[str, str]) -> str:
    """Enter a callable into `parts`; return its name."""
    if isinstance(thing, functools.partial):
        name = _describe(thing.func, parts)
        for key, value in [*enumerate(thing.args), *thing.keywords.items()]:
            parts[f"the argument `{key}` of `{name}`"] = "#" + _mark(_spell(value, parts))
        return name
    if isinstance(thing, MethodType):
        name = _describe(thing.__func__, parts)
        parts[f"the object behind `{name}`"] = "#" + _mark(_spell(thing.__self__, parts))
        return name
    thing = inspect.unwrap(thing)
    if isinstance(thing, (FunctionType, type)):
        _describe_definition(thing, parts)
        return thing.__qualname__
    parts[f"the object `{type(thing).__qualname__}`"] = "#" + _mark(_spell(thing, parts))
    return type(thing).__qualname__


def _describe_definition(definition: FunctionType | type, parts: dict[str, str]) -> None:
    """A function or class of the user's own: its source, and everything of his own that it uses."""
    if not _is_own(definition):
        return
    # By its file, not its module, which is `__main__` where the file is run.
    own_name = f"{Path(inspect.getfile(definition)).stem}.{definition.__qualname__}"
    name = f"the code of `{own_name}`"
    if name in parts:
        return
    parts[name] = "#" + _mark(_code(definition))  # entered before its contents, which may lead back to it
    for key, value in _used(definition):
        spelt = _spell(value, parts)
        if not isinstance(_unwrapped(value), (FunctionType, type)):
            parts[f"`{key}` in `{own_name}`"] = "#" + _mark(spelt)


def _used(definition: FunctionType | type) -> Iterator[tuple[str, Any]]:
    """The values behind the names that a function, or a class's methods, take from outside."""
    if isinstance(definition, type):
        for member in vars(definition).values():
            if isinstance(_unwrapped(member), FunctionType):
                yield from _used(_unwrapped(member))
        for base in definition.__bases__:
            yield base.__name__, base
        return
    names = set(_names(definition.__code__))
    for name, cell in zip(definition.__code__.co_freevars, definition.__closure__ or (), strict=True):
        yield name, cell.cell_contents
    defaults = inspect.signature(definition).parameters.values()
    yield from ((p.name, p.default) for p in defaults if p.default is not p.empty)
    for name in sorted(names & set(definition.__globals__)):
        value = definition.__globals__[name]
        if not isinstance(value, ModuleType):
            yield name, value
        elif _is_own(value):
            yield from ((key, vars(value)[key]) for key in sorted(names & set(vars(value))))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_own(thing: Any) -> bool:
    """Whether the user wrote it: neither curlflow, nor installed, nor built in."""
    module = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    if module is None or module.partition(".")[0] in ("curlflow", "builtins"):
        return False
    try:
        file = Path(inspect.getfile(thing))
    except (TypeError, OSError):  # built in, or typed at a prompt
        return False
    return not any(file.is_relative_to(folder) for folder in INSTALLED)


def _code(definition: FunctionType | type) -> str:
    """The source without comments, docstrings and layout; of a lambda, or where there is no source, the bytecode."""
    try:
        if definition.__name__ == "<lambda>":
            raise OSError("its line holds more than itself")
        tree = ast.parse(textwrap.dedent(inspect.getsource(definition)))
    except (OSError, TypeError, SyntaxError):
        return (
            _bytecode(definition.__code__)
            if isinstance(definition, FunctionType)
            else definition.__qualname__
        )
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _spell(value: Any, parts: dict[str, str]) -> str:
    """A value as text that is the same in every process."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, Enum)):
        return repr(value)
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _spell_array(value)
    if isinstance(value, Mapping):
        items = [f"{_spell(key, parts)}: {_spell(item, parts)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_spell(item, parts) for item in value))}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(_spell(item, parts) for item in value)})"
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(_unwrapped(value), (FunctionType, type, MethodType, functools.partial)):
        return _describe(value, parts)
    return _spell_object(value, parts)


def _unwrapped(value: Any) -> Any:
    """The function inside `jax.jit` and other decorators; anything else as it is."""
    return inspect.unwrap(value) if callable(value) else getattr(value, "__func__", value)


def _spell_array(value: Any) -> str:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def _spell_object(value: Any, parts: dict[str, str]) -> str:
    """An object by its class and its fields."""
    _describe_definition(type(value), parts)
    if is_dataclass(value) or (_is_own(type(value)) and hasattr(value, "__dict__")):
        return f"{type(value).__qualname__}({_spell(vars(value), parts)})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
