"""Systems a user would try before distilling anything: ``teacher-few``, ``joint`` and ``joint+accelerator``."""

from __future__ import annotations

from dataclasses import replace

from clbench.adapter_prompts import as_trained, other_words, prompt_kind
from clbench.backbones import backbone_folder
from clbench.holds import named_in_part
from clbench.probes import TRIGGER
from clbench.systems import ACCELERATED, Bench
from clbench.systems.sampled import (
    Adapters,
    Plan,
    SampledSystem,
    card_settings,
    checked_adapter,
    effect_weights,
    few_sampler,
    full_sampler,
    hashes_of,
    suite_teachers,
    teacher_plan,
    untrained,
)
from clbench.types import SystemCard


def open_teacher_few(bench: Bench, name: str) -> SampledSystem:
    """The teacher's own call with the number of steps turned down to the world's few steps, and nothing else changed.

    Euler and guidance stay, as with ``num_inference_steps`` in a pipeline that works: the teacher was neither made for
    stochastic sampling nor for going without guidance. Guidance counts twice, so at half the steps it costs as many
    passes as the cascade.
    """
    backbone_folder(bench.world)  # a missing backbone is said now
    teachers = suite_teachers(bench)
    sampler = replace(full_sampler(bench), steps=bench.world.backbone.few_steps)
    settings = card_settings(bench, sampler, "instruction") | effect_weights(bench)
    card = SystemCard(name, name, hashes_of(teachers), settings)
    return SampledSystem(bench, card, teacher_plan(bench, teachers), sampler)


def open_joint(bench: Bench, name: str) -> SampledSystem:
    """The joint LoRA at full steps with guidance, or beside the accelerator at few steps, in the words of its training.

    Like a candidate it is not asked effects that its file says it never learnt. Beside the accelerator its embedded guidance
    counts, since it was distilled with it; else the joint LoRA's own.
    """
    backbone_folder(bench.world)  # a missing backbone is said now
    joint = bench.world.joint()
    info = checked_adapter(bench, joint.path)
    sampler = replace(full_sampler(bench), embedded_guidance=joint.embedded_guidance)
    adapters: Adapters = ((info.path, joint.weight),)
    hashes, weights = {"joint": info.sha256}, {"joint_weight": joint.weight}
    if name.endswith(ACCELERATED):
        accelerator = bench.world.accelerator()
        fast = checked_adapter(bench, accelerator.path)
        fast_sampler = few_sampler(bench, accelerator)
        own = joint.embedded_guidance if fast_sampler.embedded_guidance is None else fast_sampler.embedded_guidance
        sampler = replace(fast_sampler, embedded_guidance=own)
        adapters += ((fast.path, accelerator.weight),)
        hashes, weights = hashes | {"accelerator": fast.sha256}, weights | {"accelerator_weight": accelerator.weight}
    kind = prompt_kind(info)
    effects = as_trained(info, bench.world.effects, kind)
    weights |= dict.fromkeys(other_words(bench.world.effects, effects, kind), "the adapter's own")
    settings = card_settings(bench, sampler, TRIGGER if kind == "aop" else kind) | weights
    if trained := named_in_part(info.header, bench.effects):
        settings |= {"effects": list(trained), "new effects": []}
    card = SystemCard(name, "joint", hashes, settings)
    prompt = lambda effect: effect.student_prompt if kind == "aop" else effect.instruction  # noqa: E731
    plan = Plan(lambda effect: adapters, prompt, refuses=untrained(name, trained, by_file=True), effects=effects)
    return SampledSystem(bench, card, plan, sampler)
