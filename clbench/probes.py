"""Probes: other ways to put the question about an effect, one visible list.

The plain question gives a system its own kind of prompt: `instruction` (base, teacher, cascade) or `trigger + caption` (a
collection). A probe changes the prompt and nothing else: source, noise and steps stay, so a probe and its plain question
are compared case by case. Orthogonal prompting says that the trigger alone decides which effect appears; the
probes take trigger and caption apart to see whether that is so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.registry import ClbenchError, Registry
from clbench.types import NEUTRAL, Case, Effect, seed_from

Style = Literal["instruction", "trigger + caption"]
INSTRUCTION: Style = "instruction"
TRIGGER: Style = "trigger + caption"
BOTH: frozenset[Style] = frozenset({INSTRUCTION, TRIGGER})

Wish = Literal["effect", "other", "no other", "base", "both"]
"""Whose picture a success shows: the asked effect, the effect of the trigger, any but another effect, the base, both effects."""

TWICE = "twice"
UNKNOWN_TRIGGERS = ("<qanev07>", "<wixoz38>", "<jurep65>")
"""Triggers that were made up; the first that no effect of the world has is used."""
INSTRUCTION_FORMS = ("please {}", "edit the picture: {}", "change this picture, {}", "{} please")
CAPTION_FORMS = ("show {}", "make it {}", "change it to {}", "the result is {}")
"""How a wording is changed where an effect brings no `paraphrases`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """`prompt` and `success` say in words what a system gets and what it should do; `styles` can be asked it.

    `composed` probes are asked of two effects, the others of one.
    """

    name: str
    prompt: str
    success: str
    wish: Wish
    styles: frozenset[Style] = frozenset({TRIGGER})
    composed: bool = False


PROBES: Registry[Probe] = Registry("probe")
for _probe in (
    Probe("caption-only", "the effect's caption without its trigger", "the effect appears: what a caption carries", "effect"),
    Probe("trigger-only", "the effect's trigger without its caption", "the effect appears: what a trigger carries", "effect"),
    Probe(
        "other-trigger", "the trigger of the effect's first neighbour in the suite, with this effect's caption",
        "the trigger decides: the neighbour's effect appears, not a mixture", "other",
    ),
    Probe(
        "unknown-trigger", "a trigger that no effect has, with the effect's caption",
        "no other effect appears: a strange word calls nothing up", "no other",
    ),
    Probe(
        "instruction", "the teacher's instruction instead of trigger and caption",
        "the effect appears: the adapter still understands its teacher's words", "effect",
    ),
    Probe("paraphrase", "the effect's own prompt in other words", "the effect appears as for its own words", "effect", BOTH),
    Probe(
        NEUTRAL, "a general instruction (clbench.general) that names no effect, and no trigger",
        "the picture is the one that the base makes from the same noise, as near as a reseeded base comes", "base", BOTH,
    ),
    Probe(
        TWICE, "two effects by two edits: the second effect's own prompt on the first one's result",
        "both effects appear, the second applied to the first", "both", BOTH, composed=True,
    ),
):  # fmt: skip
    PROBES.add(_probe.name, _probe)


def left_out(case: Case, style: Style) -> str:
    """Why a system prompted in `style` is not asked `case`, or "" if it is asked."""
    if not case.probe or style in PROBES.get(case.probe).styles:
        return ""
    if case.probe == "instruction":
        return "the instruction is this system's plain question"
    return f"probe '{case.probe}' takes trigger and caption apart, and this system is prompted by an instruction"


def prompt_of(
    case: Case, style: Style, effects: Mapping[str, Effect], suite: Sequence[str], neutral: Callable[[Case], str]
) -> str:
    """The prompt of a `case` that is made by one edit, for a system of `style`.

    `effects` are the world's, `suite` the ids among which a neighbour is looked for, `neutral` gives a general instruction.
    """
    effect = effects[case.effect]
    if case.second:
        return composed_prompt(effect, effects[case.second], style)
    if case.probe == NEUTRAL:
        return neutral(case)
    if case.probe == "paraphrase":
        return paraphrased(effect, style, seed_from("paraphrase", case.effect, case.source, case.seed))
    if style == INSTRUCTION or case.probe == "instruction":
        return effect.instruction
    words = {
        "": effect.student_prompt,
        "caption-only": effect.caption,
        "trigger-only": effect.trigger,
        "unknown-trigger": f"{unknown_trigger(effects)} {effect.caption}",
    }
    if case.probe == "other-trigger":
        return f"{effects[neighbour_in(effect, suite)].trigger} {effect.caption}"
    return words[case.probe]


def composed_prompt(first: Effect, second: Effect, style: Style) -> str:
    """Two effects in one prompt, in order. Triggers stand first, so that a short text encoder cuts captions, not triggers."""
    if style == INSTRUCTION:
        return f"{first.instruction}, then {second.instruction}"
    return f"{first.trigger} {second.trigger} {first.caption}, then {second.caption}"


def paraphrased(effect: Effect, style: Style, draw: int) -> str:
    """The effect in other words: one of its `paraphrases`, else its own in another form; behind the trigger in that style."""
    own, forms = (effect.instruction, INSTRUCTION_FORMS) if style == INSTRUCTION else (effect.caption, CAPTION_FORMS)
    found = effect.paraphrases or tuple(form.format(own) for form in forms)
    words = found[draw % len(found)]
    return words if style == INSTRUCTION else f"{effect.trigger} {words}"


def neighbour_in(effect: Effect, suite: Sequence[str]) -> str:
    """The first neighbour of `effect` within `suite` (ids), else the next effect there; ClbenchError if it stands alone."""
    near = [other for other in effect.neighbours if other in suite and other != effect.id]
    if near:
        return near[0]
    if len(suite) < 2:
        raise ClbenchError(f"effect '{effect.id}' has no other effect beside it: the suite needs at least two effects")
    return suite[(list(suite).index(effect.id) + 1) % len(suite)]


def unknown_trigger(effects: Mapping[str, Effect]) -> str:
    """A trigger that none of `effects` has."""
    used = {effect.trigger for effect in effects.values()}
    free = [trigger for trigger in UNKNOWN_TRIGGERS if trigger not in used]
    if not free:
        raise ClbenchError(f"every made-up trigger ({', '.join(UNKNOWN_TRIGGERS)}) belongs to an effect of the world")
    return free[0]
