"""Systems that sample the backbone: base, teacher, cascade, collection.

A system is a card and a plan: which adapters and which prompt an effect gets, and one sampler. Cases are
grouped by what they share, so each LoRA is loaded once and every batch is one pipeline call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clbench.adapters import AdapterInfo, check_adapter, describe_adapter
from clbench.backbones import Job, Sampler, backbone_folder
from clbench.registry import ClbenchError
from clbench.systems import Bench
from clbench.types import Case, Edit, Effect, SystemCard

Adapters = tuple[tuple[Path, float], ...]
NOT_FINITE = "the sampler returned values that are not finite"


@dataclass(frozen=True)
class Plan:
    """What an effect gets: adapters with weights, and the prompt."""

    adapters: Callable[[str], Adapters]
    prompt: Callable[[Effect], str]


class SampledSystem:
    """A system over the world's backbone; see `clbench.types.System`."""

    def __init__(self, bench: Bench, card: SystemCard, plan: Plan, sampler: Sampler) -> None:
        self.bench, self.card, self.plan, self.sampler = bench, card, plan, sampler

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case, grouped by adapters and steps."""
        groups: dict[tuple[Adapters, int], list[Case]] = {}
        for case in cases:
            key = self.plan.adapters(case.effect), case.steps or self.sampler.steps
            groups.setdefault(key, []).append(case)
        size = self.bench.world.backbone.batch
        for (adapters, steps), members in groups.items():
            self.bench.backbone.use_adapters(adapters)
            sampler = replace(self.sampler, steps=steps)
            for start in range(0, len(members), size):
                yield from self._batch(members[start : start + size], sampler)

    def _batch(self, cases: Sequence[Case], sampler: Sampler) -> Iterator[Edit]:
        world, backbone = self.bench.world, self.bench.backbone
        jobs = [
            Job(
                world.source_image(case.source, world.resolution),
                self.plan.prompt(world.effect(case.effect)),
                case.noise_seed(),
            )
            for case in cases
        ]
        start = time.perf_counter()
        pictures = backbone.sample(jobs, sampler)
        seconds = (time.perf_counter() - start) / len(cases)
        memory = backbone.peak_memory()
        for case, picture in zip(cases, pictures, strict=True):
            edit = Edit(case, picture, nfe=sampler.nfe, seconds=seconds, memory=memory)
            if picture is None:
                edit.status, edit.reason = "failed", NOT_FINITE
            yield edit


def open_sampled(bench: Bench, name: str) -> SampledSystem:
    """base, teacher, cascade or collection[-name]; ClbenchError for a missing, broken or foreign adapter."""
    backbone_folder(bench.world)  # a missing backbone is said now
    kind = name.split("-", 1)[0]
    return {"base": _base, "teacher": _teacher, "cascade": _cascade, "collection": _collection}[kind](
        bench, name
    )


def _base(bench: Bench, name: str) -> SampledSystem:
    sampler = full_sampler(bench)
    card = SystemCard("base", "base", {}, card_settings(bench, sampler, "instruction"))
    return SampledSystem(bench, card, Plan(lambda effect: (), lambda effect: effect.instruction), sampler)


def _teacher(bench: Bench, name: str) -> SampledSystem:
    sampler, teachers = full_sampler(bench), suite_teachers(bench)
    card = SystemCard("teacher", "teacher", hashes_of(teachers), card_settings(bench, sampler, "instruction"))
    plan = Plan(lambda effect: ((teachers[effect].path, 1.0),), lambda effect: effect.instruction)
    return SampledSystem(bench, card, plan, sampler)


def _cascade(bench: Bench, name: str) -> SampledSystem:
    teachers, accelerator = suite_teachers(bench), bench.world.accelerator()
    info = checked_adapter(bench, accelerator.path)
    sampler, weight = few_sampler(bench, accelerator.steps), bench.world.teacher_weight
    settings = {"teacher_weight": weight, "accelerator_weight": accelerator.weight}
    card = SystemCard(
        "cascade", "cascade", hashes_of(teachers) | {"accelerator": info.sha256},
        card_settings(bench, sampler, "instruction") | settings,
    )  # fmt: skip
    plan = Plan(
        lambda effect: ((teachers[effect].path, weight), (info.path, accelerator.weight)),
        lambda effect: effect.instruction,
    )
    return SampledSystem(bench, card, plan, sampler)


def _collection(bench: Bench, name: str) -> SampledSystem:
    _, _, wanted = name.partition("-")
    candidate = bench.world.candidate(wanted or None)
    info, sampler = checked_adapter(bench, candidate.path), few_sampler(bench, candidate.steps)
    adapters: Adapters = ((info.path, candidate.weight),)
    settings = card_settings(bench, sampler, "trigger + caption") | {"candidate_weight": candidate.weight}
    card = SystemCard(name, "collection", {"collection": info.sha256}, settings)
    return SampledSystem(
        bench, card, Plan(lambda effect: adapters, lambda effect: effect.student_prompt), sampler
    )


def full_sampler(bench: Bench) -> Sampler:
    """The world's full steps and guidance, Euler."""
    table = bench.world.backbone
    return Sampler(table.full_steps, table.guidance, False, table.full_shift)


def few_sampler(bench: Bench, steps: int | None) -> Sampler:
    """The few-step student's sampler; `steps` None means the world's few steps."""
    table = bench.world.backbone
    return Sampler(steps or table.few_steps, 1.0, True, table.shift)


def card_settings(bench: Bench, sampler: Sampler, prompt: str) -> dict[str, Any]:
    """What besides adapters decides a picture; `prompt` says in words what the effect's prompt is."""
    table = bench.world.backbone
    return sampler.settings() | {
        "prompt": prompt,
        "negative_prompt": table.negative_prompt,
        "embedded_guidance": table.embedded_guidance,
        "max_sequence_length": table.max_sequence_length,
        "backbone": table.kind,
    }


def suite_teachers(bench: Bench) -> dict[str, AdapterInfo]:
    """The checked teacher of every effect of the suite; ClbenchError naming the effects that have none."""
    paths = {effect: bench.world.teacher_path(effect) for effect in bench.effects}
    missing = [effect for effect, path in paths.items() if path is None]
    if missing:
        raise ClbenchError(f"world {bench.world.name} has no teacher LoRA for: {', '.join(missing)}")
    return {effect: checked_adapter(bench, path) for effect, path in paths.items() if path is not None}


def checked_adapter(bench: Bench, path: Path) -> AdapterInfo:
    """A LoRA file described and compared with the base; ClbenchError for a broken or foreign one."""
    info = describe_adapter(path)
    if bench.base_shapes:  # empty where the base is not stored as safetensors; loading checks again
        check_adapter(info, bench.base_shapes, f"the backbone of world {bench.world.name}")
    return info


def hashes_of(infos: Mapping[str, AdapterInfo]) -> dict[str, str]:
    """The adapters of a card: name -> sha256 of the file."""
    return {effect: info.sha256 for effect, info in infos.items()}
