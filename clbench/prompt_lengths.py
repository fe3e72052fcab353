"""How many prompts are longer than the backbone's text encoder takes: the pipeline cuts their end and says nothing.

Counted with the backbone's own tokenizer before anything is sampled, and kept in ``prompts.json`` of the run folder. General
instructions (probe "neutral") are counted too: they are drawn for each case, the same for all systems.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clbench.disk import replace_bytes
from clbench.registry import ClbenchError
from clbench.types import Case, Effect, System
from clbench.world import World

FILE, SCHEMA = "prompts.json", 1
TOKENIZERS = {"flux-kontext": "tokenizer_2"}
"""Kind of a backbone whose pipeline cuts prompts at `max_sequence_length` -> the folder of the tokenizer that it cuts by."""
PLAIN, COMPOSED = "plain", "two effects"

Tokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Asked:
    """Different prompts of one way to ask (`question_of`), and how many of them are longer than `limit` tokens."""

    question: str
    prompts: int
    longer: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """What one run asked in prompts that are counted, by the way to ask."""

    limit: int
    asked: tuple[Asked, ...]

    def longer(self, questions: Iterable[str] | None = None) -> list[Asked]:
        """The ways among those named (None: all) in which a prompt is too long."""
        return [one for one in self.asked if one.longer and (questions is None or one.question in questions)]


def question_of(case: Case) -> str:
    """The way in which a case asks: its probe, else plainly or for two effects in one edit."""
    return case.probe or (COMPOSED if case.second else PLAIN)


def token_counter(world: World, folder: Path) -> Tokens | None:
    """Counts the tokens of a prompt, with those that the encoder adds, by the backbone in `folder`.

    None where its pipeline does not cut prompts, or it has no tokenizer that can be read so.
    """
    kind = world.backbone.kind
    file = folder / TOKENIZERS.get(kind, "") / "tokenizer.json"
    if kind not in TOKENIZERS or not file.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    found = Tokenizer.from_file(str(file))
    found.no_truncation()
    found.no_padding()
    return lambda prompt: len(found.encode(prompt).ids)


def count_prompts(system: System, cases: Sequence[Case], world: World, tokens: Tokens) -> Lengths | None:
    """The prompts by which `system` is asked `cases`; None of one that samples nothing."""
    from clbench.systems.sampled import SampledSystem

    if not isinstance(system, SampledSystem):
        return None
    asked: dict[str, set[str]] = {}
    for case in dict.fromkeys(cases):
        asked.setdefault(question_of(case), set()).update(system.prompts(case))
    limit = world.backbone.max_sequence_length
    counted = (Asked(name, len(held), sum(tokens(one) > limit for one in held)) for name, held in asked.items() if held)
    return Lengths(limit, tuple(counted))


def sentence(name: str, found: Lengths, questions: Iterable[str] | None = None) -> str:
    """How many prompts of system `name` lose their end, by the way to ask; "" where none does."""
    said = [f"{one.longer} of {one.prompts} {way(one.question)}" for one in found.longer(questions)]
    return f"{' and '.join(said)} of {name} are {longer_than(found.limit)}" if said else ""


def way(question: str) -> str:
    """A way to ask, in words."""
    return {PLAIN: "plain prompts", COMPOSED: "prompts for two effects"}.get(question, f"prompts by «{question}»")


def longer_than(limit: int) -> str:
    return f"longer than max_sequence_length ({limit} tokens) and lose their end"


def write_lengths(found: Lengths, run: Path) -> None:
    """Write prompts.json into a run folder."""
    plain = {"schema": SCHEMA, "max_sequence_length": found.limit, "asked": [asdict(one) for one in found.asked]}
    replace_bytes(run / FILE, (json.dumps(plain, indent=1) + "\n").encode())


def read_lengths(run: Path) -> Lengths | None:
    """prompts.json of a run folder; None where it is not there. ClbenchError if it is broken or of a newer schema."""
    try:
        plain = json.loads((run / FILE).read_text(encoding="utf-8"))
        if plain["schema"] > SCHEMA:
            raise ClbenchError(f"{run / FILE} has schema {plain['schema']}; this clbench reads up to {SCHEMA}")
        return Lengths(plain["max_sequence_length"], tuple(Asked(**one) for one in plain["asked"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClbenchError(f"{run / FILE} is not a count of prompts: {error!r}") from None


def world_prompts(world: World) -> set[str]:
    """By what single effects are asked for in this world: their instructions, and the words of every candidate.

    ClbenchError for a broken adapter file.
    """
    from clbench.adapter_prompts import as_trained, prompt_kind
    from clbench.adapters import describe_adapter
    from clbench.holds import held_by

    pool = [name for name, effect in world.effects.items() if effect.pool == "collection"]
    found = {world.effects[name].instruction for name in world.taught or pool}
    for candidate in map(world.candidate, world.trained_candidates):
        info = describe_adapter(candidate.path)
        kind = prompt_kind(info, candidate.prompt)
        words: Mapping[str, Effect] = as_trained(info, world.effects, kind)
        held = held_by(candidate, info.header)
        asked = candidate.effects or [name for name in world.taught or pool if not held or name in held]
        found |= {words[name].student_prompt if kind == "aop" else words[name].instruction for name in asked}
    return found


def examine(world: World, folder: Path) -> tuple[bool, str] | None:
    """Whether all of `world_prompts` fit, and a sentence; None where nobody can count."""
    tokens = token_counter(world, folder)
    if tokens is None:
        return None
    prompts, limit = world_prompts(world), world.backbone.max_sequence_length
    longer = sum(tokens(prompt) > limit for prompt in prompts)
    if longer:
        return False, f"{longer} of {len(prompts)} prompts of single effects are {longer_than(limit)}"
    return True, f"all {len(prompts)} prompts of single effects fit in max_sequence_length ({limit} tokens)"
