"""Strict TOML: a file becomes a pydantic model, or one sentence says where it is wrong.

An unknown key is an error that names the file, the line, the table and the nearest known key.
"""

from __future__ import annotations

import re
import sys
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
    *parents, last = _written(first["loc"], data) or ("",)
    table = "".join(f"[{part}]" for part in parents if isinstance(part, str)) or "the top level"
    where = f"{path}{_line_of(text, [str(p) for p in parents if isinstance(p, str)], str(last))}"
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{last}' in {table}.{suggestion(str(last), _keys(model, parents))}"
    if first["type"] == "missing":
        return f"{where}: key '{last}' is missing in {table}."
    value = list(first["input"]) if isinstance(first["input"], tuple) else first["input"]
    given = "" if isinstance(value, dict) else f", not {value!r}"
    what = f"key '{last}' in {table}" if last else table
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


def _keys(model: type[BaseModel], parents: list[int | str]) -> list[str]:
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


def _line_of(text: str, table: list[str], key: str) -> str:
    """`` line N`` of `key` under the header of `table`, or an empty string if it is not found."""
    header: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}\s*(#.*)?$", line):
            header = [part.strip().strip("\"'") for part in match[1].split(".")]
            if header == [*table, key]:
                return f" line {number}"
        elif header == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f" line {number}"
    return ""
