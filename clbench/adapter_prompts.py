"""What prompts an adapter was trained with, as the reference trainer writes it into the file's header.

``clbench.prompt`` says what a student saw (`aop` = trigger and caption), ``clbench.triggers`` which triggers, as JSON from
effect id to trigger. A file without them is asked in the world's words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from clbench.adapters import AdapterInfo
from clbench.registry import ClbenchError
from clbench.types import Effect, PromptKind

PROMPT_KEY, TRIGGERS_KEY, INSTRUCTION_KEY = "clbench.prompt", "clbench.triggers", "clbench.instruction"


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
    written = info.header.get(TRIGGERS_KEY)
    if written is None:
        return {}
    try:
        found = json.loads(written)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(trigger, str) and trigger for trigger in found.values()):
        raise ClbenchError(f"{info.path}: {TRIGGERS_KEY} in the header is not a JSON table of effect ids and triggers")
    return found


def as_trained(info: AdapterInfo, effects: Mapping[str, Effect], kind: PromptKind = "aop") -> dict[str, Effect]:
    """The effects in the adapter's words: with its own triggers; for `caption` the caption stands as the instruction."""
    triggers = own_triggers(info)
    found = {name: replace(effect, trigger=triggers.get(name, effect.trigger)) for name, effect in effects.items()}
    if kind == "caption":
        return {name: replace(effect, instruction=effect.caption) for name, effect in found.items()}
    return found


def require_instruction(info: AdapterInfo, effect: Effect) -> None:
    """ClbenchError where a teacher's header names another instruction than the effect has: it would be asked in other words."""
    trained = info.header.get(INSTRUCTION_KEY, effect.instruction)
    if trained != effect.instruction:
        raise ClbenchError(
            f"{info.path} was trained with the instruction '{trained}', but that of effect '{effect.id}' is "
            f"'{effect.instruction}': train the teacher again, or give the effect its instruction back"
        )
