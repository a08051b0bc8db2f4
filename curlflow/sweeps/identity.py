"""What determines a sweep's numbers, part by part, so that a changed part can be named."""

import ast
import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
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
    own_name = f"{_place(definition)}.{definition.__qualname__}"
    name = f"the code of `{own_name}`"
    if name in parts:
        return
    parts[name] = "#" + _mark(_code(definition))  # entered before its contents, which may lead back to it
    for key, value in _used(definition):
        spelt = _spell(value, parts)
        if not isinstance(_unwrapped(value), (FunctionType, type)):
            parts[f"`{key}` in `{own_name}`"] = "#" + _mark(spelt)


def _place(definition: FunctionType | type) -> str:
    """Its file, and not its module, which is `__main__` where the file is run; its module where there is no file."""
    file = source_file(definition)
    return file.stem if file is not None and file.is_file() else definition.__module__ or "exec"


def _used(definition: FunctionType | type) -> Iterator[tuple[str, Any]]:
    """The values behind the names that a function, or a class's methods, take from outside."""
    if isinstance(definition, type):
        for name, member in vars(definition).items():
            functions = _functions(member)
            for function in functions:
                yield from _used(function)
            if not functions and not name.startswith("__"):
                yield name, member
        for base in definition.__bases__:
            yield base.__name__, base
        return
    code, outside = definition.__code__, definition.__globals__
    names = set(_names(code))
    yield from _looked_up(names, {name: outside[name] for name in names & set(outside)})
    yield from _looked_up(names, dict(_imported_inside(code, outside.get("__package__"))))
    cells = zip(code.co_freevars, definition.__closure__ or (), strict=True)
    yield from _looked_up(names, {name: cell.cell_contents for name, cell in cells})
    defaults = inspect.signature(definition).parameters.values()
    yield from _looked_up(names, {p.name: p.default for p in defaults if p.default is not p.empty})


def _functions(member: Any) -> list[FunctionType]:
    """The functions which a class calls by the name of this member."""
    if isinstance(member, property):
        candidates = [member.fget, member.fset]
    else:
        candidates = [_unwrapped(member.func if isinstance(member, functools.cached_property) else member)]
    return [each for each in candidates if isinstance(each, FunctionType)]


def _looked_up(
    names: set[str], space: Mapping[str, Any], seen: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """The values of a namespace; of a module of the user's own those behind any of the names, package within package."""
    for name, value in sorted(space.items(), key=lambda item: item[0]):
        if not isinstance(value, ModuleType):
            yield name, value
        elif value.__name__ not in seen and _is_own(value):
            inside = {key: vars(value)[key] for key in names & set(vars(value))}
            yield from _looked_up(names, inside, seen | {value.__name__})


def _imported_inside(code: CodeType, package: str | None) -> Iterator[tuple[str, ModuleType]]:
    """The user's own modules which the code imports when it runs; imported already, so that the first run knows them too."""
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for i, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level, names = (before.argval for before in steps[i - 2 : i])
            module = "." * level + step.argval
            yield from _own_module(module, package)
            for name in names or ():  # what is taken from a package may be a module in it
                yield from _own_module(module + name if module.endswith(".") else f"{module}.{name}", package)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported_inside(constant, package)
        elif isinstance(constant, str) and {"import_module", "__import__"} & set(code.co_names):
            yield from _own_module(constant, package)


def _own_module(name: str, package: str | None) -> Iterator[tuple[str, ModuleType]]:
    """The module of that name, if there is one that the user wrote."""
    try:
        absolute = importlib.util.resolve_name(name, package)
        if absolute in sys.modules:
            yield absolute, sys.modules[absolute]
            return
        top = absolute.partition(".")[0]
        found = None if top in {"curlflow", *sys.stdlib_module_names} else importlib.util.find_spec(top)
        if found is not None and not any(
            map(_is_installed, found.submodule_search_locations or [str(found.origin)])
        ):
            yield absolute, importlib.import_module(absolute)
    except Exception:  # not a module, or one that is imported elsewhere, or under other circumstances
        return


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_own(thing: ModuleType | FunctionType | type) -> bool:
    """Whether the user wrote it: neither curlflow, nor installed, nor built in. What has no file (exec, a prompt) is his."""
    module = thing.__name__ if isinstance(thing, ModuleType) else str(thing.__module__)
    if module.partition(".")[0] == "curlflow":
        return False
    if isinstance(thing, FunctionType) and Path(thing.__code__.co_filename).is_file():
        return not _is_installed(thing.__code__.co_filename)
    if isinstance(thing, type) and "__module__" not in vars(thing):  # written in C
        return False
    home = thing if isinstance(thing, ModuleType) else sys.modules.get(module)
    files = [file] if (file := getattr(home, "__file__", None)) else list(getattr(home, "__path__", ()))
    if files:
        return not any(map(_is_installed, files))
    # `builtins` is where exec says that something comes from, if it was not told.
    return module == "builtins" or module not in sys.builtin_module_names


def _is_installed(file: str) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in INSTALLED)


def _code(definition: FunctionType | type) -> str:
    """The source without comments, docstrings and layout; of a lambda, or where there is no source, the bytecode."""
    try:
        if definition.__name__ == "<lambda>":
            raise OSError("its line holds more than itself")
        tree = ast.parse(textwrap.dedent(inspect.getsource(definition)))
    except (OSError, TypeError, SyntaxError):
        return (
            _bytecode(definition.__code__) if isinstance(definition, FunctionType) else _methods(definition)
        )
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _methods(definition: type) -> str:
    """A class without source, by the code of its methods; what else it holds is among the values that it uses."""
    members = sorted(vars(definition).items())
    return repr([(name, [_code(function) for function in _functions(member)]) for name, member in members])


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(c) if isinstance(c, CodeType) else _spell_constant(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _spell_constant(constant: Any) -> str:
    """A set of texts is in another order in every process."""
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)


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
