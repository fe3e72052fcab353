"""Reads a catalogue of effects (``effects.toml``) and refuses everything it does not understand."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from clbench.effects.operators import OPERATORS
from clbench.registry import ClbenchError, suggestion
from clbench.tables import read_toml
from clbench.types import Effect

REQUIRED = ("id", "name", "family", "instruction", "caption", "trigger")
FLAGS = {"scope": ("image", "subject", "background"), "pool": ("collection", "extension")}
LISTS = {"neighbours": "effect ids", "paraphrases": "texts"}
KNOWN = tuple(field.name for field in fields(Effect))
ID_FORM = re.compile(r"[a-z][a-z0-9_]*")


def load_effects(path: Path | str) -> dict[str, Effect]:
    """The effects of one TOML file, by id, in the order of the file.

    Each ``[[effect]]`` table holds the fields of `clbench.types.Effect`. Raises ClbenchError, one sentence
    naming file and effect, for a file that cannot be read, an unknown or missing key, a value of the wrong
    type, a duplicate id or trigger, an unknown operator or an unknown neighbour.
    """
    path = Path(path)
    effects: dict[str, Effect] = {}
    for number, table in enumerate(_tables(path), start=1):
        effect = _effect(table, f"{path}: effect {_label(table, number)}")
        if effect.id in effects:
            raise ClbenchError(f"{path}: effect '{effect.id}' is defined twice.")
        effects[effect.id] = effect
    _check_together(effects, path)
    return effects


def _label(table: dict[str, Any], number: int) -> str:
    return f"'{table['id']}'" if isinstance(table.get("id"), str) else f"number {number}"


def _tables(path: Path) -> list[dict[str, Any]]:
    content, _ = read_toml(path)
    for key in content:
        if key != "effect":
            raise ClbenchError(f"{path}: unknown key '{key}' at the top.{suggestion(key, ['effect'])}")
    tables = content.get("effect", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ClbenchError(f"{path}: expected one [[effect]] table or more and found none.")
    return tables


def _effect(table: dict[str, Any], where: str) -> Effect:
    for key in table:
        if key not in KNOWN:
            raise ClbenchError(f"{where}: unknown key '{key}'.{suggestion(key, KNOWN)}")
    for key in REQUIRED:
        if key not in table:
            raise ClbenchError(f"{where}: the field '{key}' is missing.")
    for key, value in table.items():
        _check_value(key, value, where)
    return Effect(**{**table, **{key: tuple(table.get(key, ())) for key in LISTS}})


def _check_value(key: str, value: Any, where: str) -> None:
    if key in LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise ClbenchError(f"{where}: '{key}' is {value!r}; expected a list of {LISTS[key]}.")
    elif key == "random":
        if not isinstance(value, bool):
            raise ClbenchError(f"{where}: 'random' is {value!r}; expected true or false.")
    elif not isinstance(value, str) or not value.strip():
        raise ClbenchError(f"{where}: '{key}' is {value!r}; expected text.")
    elif key == "id" and not ID_FORM.fullmatch(value):
        raise ClbenchError(f"{where}: an id has the form snake_case, lower-case letters, digits and '_'.")
    elif key in FLAGS and value not in FLAGS[key]:
        raise ClbenchError(f"{where}: '{key}' is '{value}'.{suggestion(value, FLAGS[key])}")
    elif key == "operator" and value not in OPERATORS:
        raise ClbenchError(f"{where}: unknown operator '{value}'.{suggestion(value, OPERATORS)}")


def _check_together(effects: dict[str, Effect], path: Path) -> None:
    owner: dict[str, str] = {}
    for effect in effects.values():
        if effect.trigger in owner:
            first = owner[effect.trigger]
            raise ClbenchError(
                f"{path}: effect '{effect.id}' has the trigger {effect.trigger} of effect '{first}'."
            )
        owner[effect.trigger] = effect.id
        for other in effect.neighbours:
            if other == effect.id:
                raise ClbenchError(f"{path}: effect '{effect.id}' names itself as a neighbour.")
            if other not in effects:
                near = suggestion(other, effects)
                raise ClbenchError(f"{path}: effect '{effect.id}' has the unknown neighbour '{other}'.{near}")
