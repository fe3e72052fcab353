"""Systems a user would try before distilling anything: ``teacher-few``, ``joint`` and ``joint+accelerator``."""

from __future__ import annotations

from dataclasses import replace

from clbench.backbones import backbone_folder
from clbench.systems import ACCELERATED, Bench
from clbench.systems.sampled import (
    Adapters,
    Plan,
    SampledSystem,
    card_settings,
    checked_adapter,
    few_sampler,
    full_sampler,
    hashes_of,
    suite_teachers,
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
    card = SystemCard(name, name, hashes_of(teachers), card_settings(bench, sampler, "instruction"))
    plan = Plan(lambda effect: ((teachers[effect].path, 1.0),), lambda effect: effect.instruction)
    return SampledSystem(bench, card, plan, sampler)


def open_joint(bench: Bench, name: str) -> SampledSystem:
    """The joint LoRA at full steps with guidance, or beside the accelerator at few steps; trigger and caption."""
    backbone_folder(bench.world)  # a missing backbone is said now
    joint = bench.world.joint()
    info, sampler = checked_adapter(bench, joint.path), full_sampler(bench)
    adapters: Adapters = ((info.path, joint.weight),)
    hashes, weights = {"joint": info.sha256}, {"joint_weight": joint.weight}
    if name.endswith(ACCELERATED):
        accelerator = bench.world.accelerator()
        fast = checked_adapter(bench, accelerator.path)
        sampler = few_sampler(bench, accelerator.steps)
        adapters += ((fast.path, accelerator.weight),)
        hashes, weights = hashes | {"accelerator": fast.sha256}, weights | {"accelerator_weight": accelerator.weight}
    card = SystemCard(name, "joint", hashes, card_settings(bench, sampler, "trigger + caption") | weights)
    return SampledSystem(bench, card, Plan(lambda effect: adapters, lambda effect: effect.student_prompt), sampler)
