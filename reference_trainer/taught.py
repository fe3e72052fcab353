"""What a collection learns from: effects with their teachers, their sources, and the stream made of both."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from clbench.adapter_prompts import require_instruction
from clbench.adapters import describe_adapter
from clbench.hashing import file_digest
from clbench.registry import ClbenchError
from clbench.types import Effect, seed_from
from reference_trainer.accelerator import counted
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.distill import SheetRows
from reference_trainer.examples import Picture, distillation_sources, pixels
from reference_trainer.loop import Progress
from reference_trainer.networks import Backbone
from reference_trainer.prompting import student_prompt
from reference_trainer.streams import Stream, kinds_of
from reference_trainer.targets import TargetStore
from reference_trainer.workshop import Workshop


@dataclass(frozen=True)
class Taught:
    """An effect with its teacher's file and the sources it is distilled on."""

    effect: Effect
    teacher: Path
    sources: list[Picture]


def lessons(
    shop: Workshop, effects: Sequence[Effect], teachers: Mapping[str, Path], config: CollectionConfig
) -> list[Taught]:
    """Each effect with its teacher and its sources; ClbenchError naming the first without a teacher."""
    for effect in effects:
        if effect.id not in teachers:
            raise ClbenchError(f"effect '{effect.id}' has no teacher adapter: run `clbench train --stage teachers` first")
        require_instruction(describe_adapter(teachers[effect.id]), effect)
    count, pictures = config.effect_sources, config.pictures
    return [Taught(e, teachers[e.id], distillation_sources(shop.world, e.id, count, pictures)) for e in effects]


def describe_taught(taught: Sequence[Taught], config: CollectionConfig) -> list[list[object]]:
    """Effects, teachers and sources by content."""
    return [
        [t.effect.instruction, student_prompt(t.effect, config.prompt), file_digest(t.teacher), pixels(t.sources)] for t in taught
    ]


def add_teachers(backbone: Backbone, taught: Sequence[Taught], rest_on: Literal["device", "cpu"] = "device") -> list[str]:
    """Put every teacher over the backbone; fixed-width names, so that none is part of another."""
    names = [f"teacher_{index:04d}" for index in range(len(taught))]
    for name, item in zip(names, taught, strict=True):
        backbone.add_frozen(name, item.teacher, None if rest_on == "device" else rest_on)
    return names


def effect_stream(
    shop: Workshop, config: CollectionConfig, taught: Sequence[Taught], names: Sequence[str], store: TargetStore,
    what: str = "teacher outputs",
) -> Generator[Progress, None, Stream]:
    """The effect stream; yields progress while teacher outputs are made, and returns the Stream."""
    sources, targets, total = [], [], sum(len(t.sources) for t in taught)
    done, effects = 0, [item.effect for item in taught]
    instructions = shop.prompts.many([e.instruction for e in effects])
    student_prompts = shop.prompts.many([student_prompt(e, config.prompt, form) for e in effects for form in config.wordings])
    for item, name in zip(taught, names, strict=True):
        source = shop.space.encode(item.sources)
        prompts = shop.prompts.one(item.effect.instruction).repeat(len(source))
        content = ["teacher", shop.digest, file_digest(item.teacher), item.effect.instruction, pixels(item.sources)]
        counts = store.get(content, name, source, prompts, seed_from("targets", item.effect.id))
        targets.append((yield from counted(what, counts, done, total)))
        sources.append(source)
        done += len(source)
    source = torch.cat(sources)
    kind = kinds_of([len(rows) for rows in sources], source.device)
    return Stream(
        source, torch.cat(targets), kind, list(names), [e.id for e in effects], instructions, student_prompts,
        len(config.wordings),
    )


def first_rows(stream: Stream, count: int) -> SheetRows:
    """One row of a sample sheet per effect, its first source, for at most `count` effects."""
    assert stream.target is not None
    shown = range(min(len(stream.names), count))
    first = torch.tensor([int((stream.kind == k).nonzero()[0]) for k in shown], device=stream.kind.device)
    labels = [stream.names[k] for k in shown]
    return SheetRows(labels, stream.source[first], stream.target[first], stream.plain_prompts.take(stream.kind[first]))
