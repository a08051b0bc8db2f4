"""Results as datasets that lose nothing, and back.

The arrays of a result are variables of its dataset. What they were stands in one attribute as JSON: the class of the result,
which variable holds which array of which field, and everything that is not an array. Nothing in it is run when it is read: a
class is looked up among the modules that are imported, and its fields are filled in.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from curlflow import _checks
from curlflow._later import xr
from curlflow.outcome import Outcome

RECORD, FORMAT = "curlflow", 1

# Arrays that the dataset holds already, each with the name of its variable, or those of its real and imaginary part.
Held: TypeAlias = Iterable[tuple[Any, str | tuple[str, str]]]


def recorded(dataset: "xr.Dataset", kind: type, parts: Mapping[str, Any], held: Held = ()) -> "xr.Dataset":
    """The dataset with all that `parts_of` needs to give the parts of a result back, such as `compared` lists.

    Arrays that are not among those `held` become variables of their own, called by the part and the place in it.
    """
    held = list(held)  # alive, so that no other array has the identity of one of them
    names = {id(array): name for array, name in held}
    writer = _Writer(names, {str(name) for name in (*dataset.variables, *dataset.dims)}, {})
    fields = {name: writer.spell(value, name) for name, value in parts.items()}
    record = {"kind": kind.__name__, "format": FORMAT, "fields": fields}
    return dataset.assign(writer.variables).assign_attrs({RECORD: json.dumps(record, ensure_ascii=False)})


def compared(result: Any) -> dict[str, Any]:
    """The fields of a result by which it equals another: what is handed through, such as the system, is none of them."""
    return {each.name: getattr(result, each.name) for each in dataclasses.fields(result) if each.compare}


def parts_of(dataset: "xr.Dataset", kind: type) -> dict[str, Any]:
    """The parts of a result of this class, from the dataset that `recorded` made of them."""
    _checks.require_float64()
    fields = _record_of(dataset, kind.__name__)["fields"]
    return {name: _read(spelt, dataset) for name, spelt in fields.items()}


def attributes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that NetCDF takes as attributes: texts and numbers, no None, and truth values as 0 and 1."""
    plain = (str, int, float, np.integer, np.floating)
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in values.items()
        if isinstance(value, plain)
    }


def outcome_attributes(outcome: Outcome) -> dict[str, Any]:
    """An outcome as attributes: all of it, its ending, and its time if there is one."""
    time = {} if outcome.time is None else {"end_time": float(outcome.time)}
    return {"outcome": f"{outcome}", "ending": outcome.ending.value, **time}


def outcome_columns(outcomes: Sequence[Outcome], dimension: str) -> dict[str, Any]:
    """Outcomes as variables along a dimension: `ending`, `end_time` (NaN where there is none), `message`."""
    times = [np.nan if each.time is None else each.time for each in outcomes]
    return {
        "ending": (dimension, texts([each.ending.value for each in outcomes])),
        "end_time": (dimension, np.array(times, float)),
        "message": (dimension, texts([each.message for each in outcomes])),
    }


def texts(values: Sequence[str]) -> np.ndarray:
    """Texts as NetCDF and Zarr take them without a warning; NetCDF would make numbers of none."""
    return np.array(values, object) if len(values) else np.zeros(0, str)


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Spells values as JSON, and puts the arrays in them that no variable holds yet among its own variables."""

    names: dict[int, str | tuple[str, str]]
    taken: set[str]
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]]

    def spell(self, value: Any, place: str) -> Any:
        """The value as JSON; whatever JSON does not know is an object of one key that says what it was."""
        if isinstance(value, Enum):
            return {"enum": _name_of(value), "value": value.value}
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, complex):
            return {"complex": [value.real, value.imag]}
        if _is_array_of_numbers(value):
            return self._spell_array(value, place)
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            items = [self.spell(item, f"{place}_{i}") for i, item in enumerate(value)]
            return {"list" if isinstance(value, list) else "tuple": items}
        if type(value) is dict:
            return {"dict": [[self.spell(k, place), self.spell(v, f"{place}_{k}")] for k, v in value.items()]}
        fields = _fields_of(value)
        if fields is None:
            return {"left out": _name_of(value)}
        spelt = {name: self.spell(each, f"{place}_{name}") for name, each in fields.items()}
        return {"object": _name_of(value), "fields": spelt}

    def _spell_array(self, array: Any, place: str) -> dict[str, Any]:
        numbers = np.asarray(array)
        parts = (
            {"_real": np.real(numbers), "_imaginary": np.imag(numbers)}
            if numbers.dtype.kind == "c"
            else {"": numbers}
        )
        names = self.names.get(id(array))
        if names is None:
            names = tuple(self._new_variable(place + suffix, part) for suffix, part in parts.items())
        return {
            "array": [names] if isinstance(names, str) else list(names),
            "dtype": str(numbers.dtype),
            "shape": list(numbers.shape),
            "jax": isinstance(array, jax.Array),
        }

    def _new_variable(self, place: str, numbers: np.ndarray) -> str:
        name = re.sub(r"\W", "_", place)
        while self.taken & {name, *(f"{name}_axis{i}" for i in range(numbers.ndim))}:
            name += "_"
        dimensions = tuple(f"{name}_axis{i}" for i in range(numbers.ndim))
        self.taken.update((name, *dimensions))
        self.variables[name] = (dimensions, numbers)
        return name


def _is_array_of_numbers(value: Any) -> bool:
    """Whether files know such an array: they know no keys of random numbers, and no bfloat16."""
    is_array = isinstance(value, (np.ndarray, jax.Array))
    return is_array and isinstance(value.dtype, np.dtype) and value.dtype.kind in "biufc"


def _fields_of(value: Any) -> dict[str, Any] | None:
    """What a dataclass, a module or a named tuple consists of; None for anything else."""
    if isinstance(value, type):
        return None
    if isinstance(value, tuple):
        return value._asdict()  # pyright: ignore[reportAttributeAccessIssue]
    return compared(value) if dataclasses.is_dataclass(value) else None


def _name_of(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"


# --------------------------------------------------------------------------------------------------- and back


def _record_of(dataset: Any, kind: str) -> dict[str, Any]:
    """The record of a dataset, or in words why it has none of this kind."""
    expected = f"`dataset` must be what `to_xarray` made of a {kind}"
    if not isinstance(dataset, xr.Dataset):
        raise ValueError(
            f"{expected}, but is {type(dataset).__name__}: open the file by xarray.load_dataset(path) first."
        )
    try:
        record = json.loads(dataset.attrs[RECORD])
        found, version = record["kind"], record["format"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{expected}, but has no attribute `{RECORD}` that says what its variables are."
        ) from None
    if found != kind:
        raise ValueError(f"{expected}, but was made of a {found}.")
    if version != FORMAT:
        raise ValueError(
            f"{expected} by this version of curlflow, whose files have the format {FORMAT}, "
            f"but has the format {version}: open it with the version that wrote it, or a newer one."
        )
    return record


def _read(spelt: Any, dataset: "xr.Dataset") -> Any:
    """The value that was spelt."""
    match spelt:
        case {"array": names, "dtype": dtype, "shape": shape, "jax": is_jax}:
            numbers = _array(names, np.dtype(dtype), tuple(shape), dataset)
            return jnp.asarray(numbers) if is_jax else numbers
        case {"complex": [real, imaginary]}:
            return complex(real, imaginary)
        case {"enum": name, "value": value}:
            return _class_of(name)(value)
        case {"list": items}:
            return [_read(item, dataset) for item in items]
        case {"tuple": items}:
            return tuple(_read(item, dataset) for item in items)
        case {"dict": items}:
            return {_read(key, dataset): _read(item, dataset) for key, item in items}
        case {"object": name, "fields": fields}:
            return _made(_class_of(name), {key: _read(each, dataset) for key, each in fields.items()})
        case {"left out": name}:
            raise ValueError(
                f"`dataset` must hold all of the result, but a {name} in it could not be stored: "
                "its numbers are in the variables, and only there."
            )
    return spelt


def _array(
    names: list[str], dtype: np.dtype[Any], shape: tuple[int, ...], dataset: "xr.Dataset"
) -> np.ndarray:
    if dtype.kind != "c":
        return _variable(names[0], dtype, shape, dataset)
    part = np.dtype(f"f{dtype.itemsize // 2}")
    parts = [_variable(name, part, shape, dataset) for name in names]
    return np.stack(parts, axis=-1).view(dtype)[..., 0]


def _variable(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], dataset: "xr.Dataset") -> np.ndarray:
    if name not in dataset.variables:
        raise ValueError(f"`dataset` must hold all of the result, but the variable `{name}` is missing.")
    numbers = np.array(dataset[name].values)
    if numbers.dtype != dtype or numbers.shape != shape:
        raise ValueError(
            f"`dataset` must hold all of the result as it was, but `{name}` is {numbers.dtype} of shape {numbers.shape} "
            f"and was {dtype} of shape {shape}: select from it after it is a result again."
        )
    return numbers


def _class_of(name: str) -> Any:
    """The class of that name in the module where it was, or in another one of the same package, if there is one."""
    module, _, own = name.partition(":")
    package = module.partition(".")[0]
    others = [other for other in list(sys.modules) if other.partition(".")[0] == package]
    for place in (module, *others):
        found = getattr(sys.modules.get(place), own, None)
        if isinstance(found, type) and (dataclasses.is_dataclass(found) or issubclass(found, (Enum, tuple))):
            return found
    raise ValueError(
        f"`dataset` must hold objects of classes that are imported, but there is no {own} of {module}: import it first."
    )


def _made(kind: Any, fields: dict[str, Any]) -> Any:
    """An object with these fields, made without its own `__init__`, as JAX makes the modules that it hands back."""
    if issubclass(kind, tuple):
        return kind(**fields)
    made = object.__new__(kind)
    for each in dataclasses.fields(kind):
        if each.name in fields or each.default is not dataclasses.MISSING:
            object.__setattr__(made, each.name, fields.get(each.name, each.default))
    return made
