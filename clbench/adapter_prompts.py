"""What prompts an adapter was trained with, as the reference trainer writes it into the file's header.

``clbench.prompt`` says what a student saw (`aop` = trigger and caption), ``clbench.triggers`` which triggers and
``clbench.captions`` which captions (of kind `instruction`, the instructions that stood in their place), as JSON from effect
id to text. A file without them is asked in the world's words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import get_args

from clbench.adapters import AdapterInfo
from clbench.registry import ClbenchError
from clbench.types import Effect, PromptKind

PROMPT_KEY, TRIGGERS_KEY, CAPTIONS_KEY = "clbench.prompt", "clbench.triggers", "clbench.captions"
INSTRUCTION_KEY = "clbench.instruction"


def prompt_kind(info: AdapterInfo, said: PromptKind | None = None) -> PromptKind:
    """How the adapter wants to be asked: what the user `said`, else its header, else trigger and caption.

    ClbenchError where both speak and differ, and for a header with an unknown word.
    """
    written = info.header.get(PROMPT_KEY, said or "aop")
    kinds: dict[str, PromptKind] = {kind: kind for kind in get_args(PromptKind)}
    if written not in kinds:
        raise ClbenchError(f"{info.path}: {PROMPT_KEY} is '{written}'; expected one of {', '.join(kinds)}")
    if said in (None, written):
        return kinds[written]
    raise ClbenchError(f"{info.path} was trained with prompt = '{written}', but the world file says prompt = '{said}'")


def own_triggers(info: AdapterInfo) -> dict[str, str]:
    """Effect id to the trigger that the adapter was trained with; empty where it does not say. ClbenchError if it is broken."""
    return _texts(info, TRIGGERS_KEY)


def own_captions(info: AdapterInfo) -> dict[str, str]:
    """The same for captions, or for what stood in their place."""
    return _texts(info, CAPTIONS_KEY)


def words_of(effects: Iterable[Effect], kind: PromptKind) -> dict[str, str]:
    """What an adapter's header keeps of the words that its student sees: key without ``clbench.`` -> JSON."""
    triggers = {effect.id: effect.trigger for effect in effects}
    captions = {effect.id: effect.instruction if kind == "instruction" else effect.caption for effect in effects}
    return {"triggers": json.dumps(triggers), "captions": json.dumps(captions)}


def _texts(info: AdapterInfo, key: str) -> dict[str, str]:
    written = info.header.get(key)
    if written is None:
        return {}
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) and text for text in found.values()):
        raise ClbenchError(f"{info.path}: {key} in the header is not a JSON table of effect ids and texts")
    return found


def as_trained(info: AdapterInfo, effects: Mapping[str, Effect], kind: PromptKind = "aop") -> dict[str, Effect]:
    """The effects in the adapter's words: its own triggers and captions; for `caption` the caption stands as the instruction."""
    triggers, captions = own_triggers(info), own_captions(info)
    return {name: _in_words(effect, triggers.get(name), captions.get(name), kind) for name, effect in effects.items()}


def _in_words(effect: Effect, trigger: str | None, caption: str | None, kind: PromptKind) -> Effect:
    effect = replace(effect, trigger=trigger or effect.trigger)
    if kind == "instruction":
        return replace(effect, instruction=caption or effect.instruction)
    effect = replace(effect, caption=caption or effect.caption)
    return replace(effect, instruction=effect.caption) if kind == "caption" else effect


def other_words(effects: Mapping[str, Effect], trained: Mapping[str, Effect], kind: PromptKind) -> dict[str, list[str]]:
    """Where the adapter's words (`as_trained`) are not the world's: "triggers" and "captions" -> ids of effects, if any."""
    said = "instruction" if kind == "instruction" else "caption"
    fields = {"triggers": "trigger", "captions": said} if kind == "aop" else {"captions": said}
    differ = lambda field: [n for n, effect in effects.items() if getattr(effect, field) != getattr(trained[n], field)]  # noqa: E731
    return {what: ids for what, field in fields.items() if (ids := differ(field))}


def require_instruction(info: AdapterInfo, effect: Effect) -> None:
    """ClbenchError where a teacher's header names another instruction than the effect has: it would be asked in other words."""
    trained = info.header.get(INSTRUCTION_KEY, effect.instruction)
    if trained != effect.instruction:
        raise ClbenchError(
            f"{info.path} was trained with the instruction '{trained}', but that of effect '{effect.id}' is "
            f"'{effect.instruction}': train the teacher again, or give the effect its instruction back"
        )
