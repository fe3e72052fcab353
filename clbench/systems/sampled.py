"""Systems that sample the backbone: base, teacher, cascade, collection, and base with other noise as a control.

A system is a card and a plan: which adapters and which prompt an effect gets, and one sampler. Cases are
grouped by what they share, so each LoRA is loaded once and every batch is one pipeline call. How a probe changes the
prompt is said in `clbench.probes`; two effects are asked for in one edit, or (probe "twice") by an edit of an edit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clbench.adapter_prompts import as_trained, other_words, prompt_kind, require_instruction
from clbench.adapters import AdapterInfo, describe_adapter
from clbench.attaching import check_adapter
from clbench.backbones import Job, Sampler, backbone_folder
from clbench.holds import trained_on
from clbench.probes import INSTRUCTION, TRIGGER, TWICE, Style, left_out, prompt_of
from clbench.registry import ClbenchError
from clbench.systems import Bench
from clbench.types import NEUTRAL, OTHER_TRIGGER, Case, Edit, Effect, SystemCard, seed_from
from clbench.world_adapters import Adapter

Adapters = tuple[tuple[Path, float], ...]
NOT_FINITE = "the sampler returned values that are not finite"


@dataclass(frozen=True)
class Plan:
    """What an effect gets: adapters with weights, and the prompt of the plain question.

    `noise` is the seed of a case's noise; `refuses` gives the reason why a case is not asked, or "". `effects` are the
    world's in the words that the adapter was trained with; None = in the world's.
    """

    adapters: Callable[[str], Adapters]
    prompt: Callable[[Effect], str]
    noise: Callable[[Case], int] = Case.noise_seed
    refuses: Callable[[Case], str] = lambda case: ""
    effects: Mapping[str, Effect] | None = None


@dataclass(frozen=True, slots=True)
class _Ask:
    """One edit to make for `case`: of `picture` uint8 (R, R, 3), by `prompt`, from the noise of `seed`."""

    case: Case
    picture: np.ndarray
    prompt: str
    seed: int


class SampledSystem:
    """A system over the world's backbone; see `clbench.types.System`."""

    def __init__(self, bench: Bench, card: SystemCard, plan: Plan, sampler: Sampler) -> None:
        self.bench, self.card, self.plan, self.sampler = bench, card, plan, sampler

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case, grouped by adapters and steps; a question it is not asked is an unscored Edit."""
        asked: list[Case] = []
        for case in cases:
            reason = self._refused(case)
            if reason:
                yield Edit(case, None, status="unscored", reason=reason)
            else:
                asked.append(case)
        yield from self._sampled([self._ask(case) for case in asked if case.probe != TWICE])
        yield from self._twice([case for case in asked if case.probe == TWICE])

    def check(self, cases: Sequence[Case]) -> None:
        """ClbenchError if a file of the backbone is missing or broken."""
        backbone_folder(self.bench.world)

    @property
    def style(self) -> Style:
        """What the plain question is put in, as the card says."""
        return TRIGGER if self.card.settings["prompt"] == TRIGGER else INSTRUCTION

    @property
    def effects(self) -> Mapping[str, Effect]:
        """The world's effects, in the words that this system is asked in."""
        return self.bench.world.effects if self.plan.effects is None else self.plan.effects

    def prompts(self, case: Case) -> list[str]:
        """What is asked for `case`, in order: two prompts where it takes two edits, none where the system is not asked it."""
        if self._refused(case):
            return []
        return [self._prompt(one) for one in ((_first(case), _second(case)) if case.probe == TWICE else (case,))]

    def _refused(self, case: Case) -> str:
        """Why this system is not asked `case`; "" where it is."""
        if case.probe == OTHER_TRIGGER and len(self.bench.effects) < 2:
            return "the suite has no other effect, so there is no other trigger to ask with"
        return self.plan.refuses(case) or left_out(case, self.style)

    def _ask(self, case: Case) -> _Ask:
        world = self.bench.world
        return _Ask(case, world.source_image(case.source, world.resolution), self._prompt(case), self.plan.noise(case))

    def _prompt(self, case: Case) -> str:
        if not case.probe and not case.second:
            return self.plan.prompt(self.effects[case.effect])
        return prompt_of(case, self.style, self.effects, self.bench.effects, self.bench.general_instruction)

    def _adapters(self, case: Case) -> Adapters:
        """Those of the case's effect; of both effects, each file once, where two are asked for in one edit."""
        both = self.plan.adapters(case.effect) + (self.plan.adapters(case.second) if case.second else ())
        return tuple(dict.fromkeys(both))

    def _sampled(self, asks: Sequence[_Ask]) -> Iterator[Edit]:
        groups: dict[tuple[Adapters, int], list[_Ask]] = {}
        for ask in asks:
            key = self._adapters(ask.case), ask.case.steps or self.sampler.steps
            groups.setdefault(key, []).append(ask)
        size = self.bench.world.backbone.batch
        for (adapters, steps), members in groups.items():
            self.bench.backbone.use_adapters(adapters)
            sampler = replace(self.sampler, steps=steps)
            for start in range(0, len(members), size):
                yield from self._batch(members[start : start + size], sampler)

    def _twice(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """The second effect on the picture of the first, each from its own noise; a first picture serves all its seconds."""
        by_first: dict[str, list[Case]] = {}
        for case in cases:
            by_first.setdefault(case.effect, []).append(case)
        for members in by_first.values():
            firsts = dict.fromkeys(_first(case) for case in members)
            made = {edit.case: edit for edit in self._sampled([self._ask(first) for first in firsts])}
            begun = {case: made[_first(case)] for case in members}
            for case, first in begun.items():
                if first.picture is None:
                    yield Edit(case, None, status="failed", reason=f"the first of two edits: {first.reason}")
            yield from self._seconds({_second(case): (case, first) for case, first in begun.items() if first.picture is not None})

    def _seconds(self, wanted: Mapping[Case, tuple[Case, Edit]]) -> Iterator[Edit]:
        """`wanted`: the second edit as a plain case -> the case that it finishes, and its first edit."""
        asks = [replace(self._ask(second), picture=first.picture) for second, (_, first) in wanted.items()]
        for edit in self._sampled(asks):
            case, first = wanted[edit.case]
            yield replace(
                edit, case=case, nfe=edit.nfe + first.nfe, seconds=edit.seconds + first.seconds,
                memory=max(edit.memory, first.memory),
            )  # fmt: skip

    def _batch(self, asks: Sequence[_Ask], sampler: Sampler) -> Iterator[Edit]:
        backbone = self.bench.backbone
        start = time.perf_counter()
        pictures = backbone.sample([Job(ask.picture, ask.prompt, ask.seed) for ask in asks], sampler)
        seconds = (time.perf_counter() - start) / len(asks)
        memory = backbone.peak_memory()
        for ask, picture in zip(asks, pictures, strict=True):
            edit = Edit(ask.case, picture, nfe=sampler.nfe, seconds=seconds, memory=memory)
            if picture is None:
                edit.status, edit.reason = "failed", NOT_FINITE
            yield edit


def _first(case: Case) -> Case:
    return Case(case.effect, case.source, case.seed, case.steps)


def _second(case: Case) -> Case:
    return Case(case.second, case.source, case.seed, case.steps)


def open_sampled(bench: Bench, name: str) -> SampledSystem:
    """base, reseed, teacher, cascade or collection[-name]; ClbenchError for a missing, broken or foreign adapter."""
    backbone_folder(bench.world)  # a missing backbone is said now
    kind = name.split("-", 1)[0]
    openers = {"base": _base, "reseed": _reseed, "teacher": _teacher, "cascade": _cascade, "collection": _collection}
    return openers[kind](bench, name)


def _base(bench: Bench, name: str) -> SampledSystem:
    sampler = full_sampler(bench)
    card = SystemCard("base", "base", {}, card_settings(bench, sampler, "instruction"))
    return SampledSystem(bench, card, Plan(lambda effect: (), lambda effect: effect.instruction), sampler)


def _reseed(bench: Bench, name: str) -> SampledSystem:
    """The base from other noise: how far two right answers to a neutral question lie apart."""
    base = _base(bench, name)
    card = SystemCard("reseed", "control", {}, {**base.card.settings, "noise": "reseeded"})
    noise = lambda case: seed_from("reseed", case.noise_seed())  # noqa: E731
    only = lambda case: "" if case.probe == NEUTRAL else "a reseeded base is the floor of neutral questions alone"  # noqa: E731
    return SampledSystem(bench, card, replace(base.plan, noise=noise, refuses=only), base.sampler)


def _teacher(bench: Bench, name: str) -> SampledSystem:
    sampler, teachers = full_sampler(bench), suite_teachers(bench)
    settings = card_settings(bench, sampler, "instruction") | effect_weights(bench)
    plan, apart = teacher_plan(bench, teachers), [e for e in bench.effects if bench.world.truth_kind(e) == "teacher"]
    if apart:
        settings["noise of the truth"] = apart
        plan = replace(plan, noise=_truths_apart(apart, sampler.steps))
    card = SystemCard("teacher", "teacher", hashes_of(teachers), settings)
    return SampledSystem(bench, card, plan, sampler)


def _truths_apart(effects: Sequence[str], full_steps: int) -> Callable[[Case], int]:
    """Noise of its own for what is the truth of `effects`: the plain picture at full steps.

    A system that samples the same way (Euler steps) would else begin at the very noise whose end it is judged by, and seem
    better than one that samples in another way.
    """

    def noise(case: Case) -> int:
        truth = case.effect in effects and not case.probe and not case.second and case.steps in (None, full_steps)
        return seed_from("truth of the teacher", case.noise_seed()) if truth else case.noise_seed()

    return noise


def teacher_plan(bench: Bench, teachers: Mapping[str, AdapterInfo]) -> Plan:
    """Each effect by its own LoRA at its own weight, asked for by its instruction."""
    return Plan(
        lambda effect: ((teachers[effect].path, bench.world.effect_weight(effect)),), lambda effect: effect.instruction
    )


def _cascade(bench: Bench, name: str) -> SampledSystem:
    teachers, accelerator = suite_teachers(bench), bench.world.accelerator()
    info = checked_adapter(bench, accelerator.path)
    sampler, weight = few_sampler(bench, accelerator), bench.world.teacher_weight
    settings = {"teacher_weight": weight, "accelerator_weight": accelerator.weight} | effect_weights(bench)
    card = SystemCard(
        "cascade", "cascade", hashes_of(teachers) | {"accelerator": info.sha256},
        card_settings(bench, sampler, "instruction") | settings,
    )  # fmt: skip
    plan = Plan(
        lambda effect: (
            (teachers[effect].path, weight * bench.world.effect_weight(effect)), (info.path, accelerator.weight),
        ),
        lambda effect: effect.instruction,
    )
    return SampledSystem(bench, card, plan, sampler)


def _collection(bench: Bench, name: str) -> SampledSystem:
    _, _, wanted = name.partition("-")
    candidate = bench.world.candidate(wanted or None)
    info, sampler = checked_adapter(bench, candidate.path), few_sampler(bench, candidate)
    adapters: Adapters = ((info.path, candidate.weight),)
    kind = prompt_kind(info, candidate.prompt)
    effects = as_trained(info, bench.world.effects, kind)
    settings = card_settings(bench, sampler, TRIGGER if kind == "aop" else kind) | {"candidate_weight": candidate.weight}
    settings |= dict.fromkeys(other_words(bench.world.effects, effects, kind), "the adapter's own")
    trained, new = trained_on(bench.world, candidate.name, info.header, bench.effects)
    if trained:
        settings |= {"effects": list(trained), "new effects": list(new)}
    card = SystemCard(name, "collection", {"collection": info.sha256}, settings)
    prompt = lambda effect: effect.student_prompt if kind == "aop" else effect.instruction  # noqa: E731
    plan = Plan(lambda effect: adapters, prompt, refuses=untrained(name, trained, not candidate.effects), effects=effects)
    return SampledSystem(bench, card, plan, sampler)


def untrained(name: str, trained: Sequence[str], by_file: bool) -> Callable[[Case], str]:
    """Refuses cases of effects beyond `trained`; an empty list means that nothing is known, and nothing is refused.

    `by_file`: the adapter's header says so, not the world file.
    """
    who = ", as its file says" if by_file else ""

    def refuses(case: Case) -> str:
        strange = [effect for effect in (case.effect, case.second) if effect and trained and effect not in trained]
        return f"{name} was not trained on '{strange[0]}'{who}" if strange else ""

    return refuses


def full_sampler(bench: Bench) -> Sampler:
    """The world's full steps and guidance, Euler."""
    table = bench.world.backbone
    return Sampler(table.full_steps, table.guidance, False, table.full_shift)


def few_sampler(bench: Bench, fast: Adapter) -> Sampler:
    """The sampler of few-step systems, without guidance: as the LoRA `fast` says, the world's where it says nothing.

    Stochastic with the static shift, as CollectionLoRA's student; or Euler, as most published accelerators are made for: over
    the full-step schedule, or with the static shift that `fast` was distilled with.
    """
    table = bench.world.backbone
    stochastic, shift = table.few_step_times(fast.sampler, fast.shift)
    return Sampler(fast.steps or table.few_steps, 1.0, stochastic, shift, fast.embedded_guidance)


def card_settings(bench: Bench, sampler: Sampler, prompt: str) -> dict[str, Any]:
    """What besides adapters decides a picture; `prompt` says in words what the effect's prompt is."""
    table = bench.world.backbone
    world = {
        "prompt": prompt,
        "negative_prompt": table.negative_prompt,
        "embedded_guidance": table.embedded_guidance,
        "max_sequence_length": table.max_sequence_length,
        "backbone": table.kind,
    }
    return world | sampler.settings()


def effect_weights(bench: Bench) -> dict[str, Any]:
    """What a card says of teachers whose weight is not 1; nothing where there is none, so that older cards hold."""
    odd = {effect: weight for effect in bench.effects if (weight := bench.world.effect_weight(effect)) != 1.0}
    return {"effect_weights": odd} if odd else {}


def suite_teachers(bench: Bench) -> dict[str, AdapterInfo]:
    """The checked teacher of every effect of the suite; ClbenchError naming the effects that have none."""
    paths = {effect: bench.world.teacher_path(effect) for effect in bench.effects}
    missing = [effect for effect, path in paths.items() if path is None]
    if missing:
        told = f"world {bench.world.name} has no teacher LoRA for: {', '.join(missing)}"
        raise ClbenchError(f"{told}; {bench.world.teachers_wanted}")
    found = {effect: checked_adapter(bench, path) for effect, path in paths.items() if path is not None}
    for effect, info in found.items():
        require_instruction(info, bench.world.effects[effect])
    return found


def checked_adapter(bench: Bench, path: Path) -> AdapterInfo:
    """A LoRA file described and compared with the base; ClbenchError for a broken or foreign one."""
    info = describe_adapter(path)
    if bench.base_shapes:  # empty where the base is not stored as safetensors; loading checks again
        check_adapter(info, bench.base_shapes, f"the backbone of world {bench.world.name}")
    return info


def hashes_of(infos: Mapping[str, AdapterInfo]) -> dict[str, str]:
    """The adapters of a card: name -> sha256 of the file."""
    return {effect: info.sha256 for effect, info in infos.items()}
