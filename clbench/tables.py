"""Strict TOML: a file becomes a pydantic model, or one sentence says where it is wrong.

An unknown key is an error that names the file, the line, the table and the nearest known key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from clbench.registry import ClbenchError, suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 has no TOML reader of its own
    import tomli as tomllib


class Table(BaseModel):
    """A TOML table: unknown keys are refused, and values of another kind ("24" is not 24); nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


M = TypeVar("M", bound=Table)


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file and its text; ClbenchError naming the file if it is missing or malformed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ClbenchError(f"file not found: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ClbenchError(f"cannot read {path}: {error}") from None
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise ClbenchError(f"{path} is not valid TOML: {error}") from None


def read_table(path: Path, model: type[M]) -> M:
    """`path` as a `model`; ClbenchError with file, line, table and the nearest known key otherwise."""
    return validated(path, read_toml(path)[0], model)


def validated(path: Path, data: dict[str, Any], model: type[M]) -> M:
    """What `path` says (`data`, joined with other files or not) as a `model`; ClbenchError as of `read_table`."""
    try:
        return model.model_validate(_as_tuples(data))
    except ValidationError as error:
        raise ClbenchError(_sentence(path, read_toml(path)[1], data, model, error)) from None


def _as_tuples(value: Any) -> Any:
    """The same with a tuple for every list: TOML has one kind of row, and tables hold tuples, since they do not change."""
    if isinstance(value, dict):
        return {key: _as_tuples(each) for key, each in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _sentence(path: Path, text: str, data: dict[str, Any], model: type[BaseModel], error: ValidationError) -> str:
    # unknown keys first: a misspelt key often causes the "missing" error beside it
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = tuple(_written(first["loc"], data))
    parents, last, missing = place[:-1], place[-1] if place else "", first["type"] == "missing"
    table, number = _called(parents, data), _lines(text).get(parents if missing else place)
    where = str(path) if number is None else f"{path} line {number}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{last}' in {table}.{suggestion(str(last), _keys(model, parents))}"
    if missing:
        return f"{where}: key '{last}' is missing in {table}."
    value = list(first["input"]) if isinstance(first["input"], tuple) else first["input"]
    given = "" if isinstance(value, dict) else f", not {value!r}"
    what = f"key '{last}' in {table}" if isinstance(last, str) and last else _called(place, data)
    return f"{where}: {what}: {first['msg'].removeprefix('Value error, ')}{given}."


def _written(place: tuple[int | str, ...], data: Any) -> list[int | str]:
    """The part of pydantic's place that the file has, or lacks a key of; behind it come the kinds of value that were tried."""
    found: list[int | str] = []
    for part in place:
        if isinstance(data, dict):
            found.append(part)
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            found.append(part)
            data = data[part]
        else:
            break
    return found


def _called(place: tuple[int | str, ...], data: Any) -> str:
    """A table, or a value in a list, in words; one of several tables with its own id or name, if it has one."""
    words = ""
    for part in place:
        data = data.get(part) if isinstance(data, dict) else data[part]
        if isinstance(part, str):
            words += f"[{part}]"
        elif isinstance(data, dict):
            named = (data.get("id"), data.get("name"))
            words += next((f" '{name}'" for name in named if isinstance(name, str) and name), "")
    return words or "the top level"


def _keys(model: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    """The keys known in the table reached from `model` by `parents`."""
    here: Any = model
    for part in parents:
        if isinstance(part, int):
            continue
        field = here.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        here = inner
    return list(here.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model inside ``Model``, ``Model | None``, ``list[Model]`` or ``tuple[Model, ...]``."""
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _lines(text: str) -> dict[tuple[int | str, ...], int]:
    """Of every table, key and value of a valid TOML text the number of the line where it, or what it stands in, begins."""
    found: dict[tuple[int | str, ...], int] = {}
    latest: dict[tuple[int | str, ...], int] = {}  # repeated table -> the last one so far, which [table.inner] is about
    here: tuple[int | str, ...] = ()
    begun, start = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        begun += line + "\n"
        try:
            said = tomllib.loads(begun)
        except tomllib.TOMLDecodeError:  # a value over several lines
            continue
        if begun.lstrip().startswith("["):
            here = _entered(said, latest)
            for end in range(1, len(here) + 1):
                found.setdefault(here[:end], start)
        else:
            for place in _places(said):
                found.setdefault(here + place, start)
        begun, start = "", number + 1
    return found


def _entered(header: Any, latest: dict[tuple[int | str, ...], int]) -> tuple[int | str, ...]:
    """The place of the table that a header, read on its own, begins; a further one of repeated tables is counted in `latest`."""
    here: tuple[int | str, ...] = ()
    while isinstance(header, dict) and header:
        ((key, header),) = header.items()
        here += (key,)
        if isinstance(header, list):
            latest[here] = latest.get(here, -1) + 1
        if here in latest:
            here += (latest[here],)
    return here


def _places(value: Any) -> Iterator[tuple[int | str, ...]]:
    """The places of all that a table or list holds, at any depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in inside:
        yield (part,)
        yield from ((part, *place) for place in _places(inner))
