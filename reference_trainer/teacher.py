"""Effect teachers: one LoRA per effect by flow matching on before/after pairs, one recipe for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.adapter_writing import save_adapter
from clbench.provenance import hash_value
from clbench.types import Effect, seed_from
from reference_trainer import processes
from reference_trainer.checkpoint import Checkpoints, DiceState, finish, finished
from reference_trainer.dice import Dice
from reference_trainer.distill import add_up
from reference_trainer.examples import Pair, pixels, teacher_pairs
from reference_trainer.learner import Learner
from reference_trainer.loop import Job, Progress, train
from reference_trainer.networks import Backbone
from reference_trainer.objective import flow_matching_pieces
from reference_trainer.pairs_config import TeachersConfig
from reference_trainer.predicting import Inputs
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import sample_teachers
from reference_trainer.room import require_adapter_room
from reference_trainer.schedule import SCORE_TIME, add_noise
from reference_trainer.settings import settings
from reference_trainer.sheets import write_sheet
from reference_trainer.workshop import Workshop

TEACHER = "teacher"
VERSION = 1


@dataclass
class TeacherTraining:
    """One effect's training: `update` is the whole training step."""

    backbone: Backbone
    config: TeachersConfig
    learner: Learner
    dice: Dice
    source: Tensor
    target: Tensor
    instruction: Prompts
    unconditional: Prompts
    shift: float

    def update(self, update: int) -> dict[str, float]:
        """Flow matching on a batch of pairs; some prompts are dropped so that guidance has its other side."""
        count = self.config.batch
        index = self.dice.integers(count, len(self.source))
        eps = self.dice.normal(count, tuple(self.source.shape[1:]))
        time = SCORE_TIME.get(self.config.time)(self.dice, count, self.shift)
        keep = (self.dice.uniform(count) >= self.config.prompt_dropout).long()
        prompts = Prompts.cat([self.unconditional, self.instruction]).take(keep)
        inputs = Inputs(add_noise(self.target[index], eps, time), self.source[index], time, prompts)
        pieces = flow_matching_pieces(self.backbone, TEACHER, inputs, self.target[index], eps, self.config.rows)
        loss, _ = add_up(pieces, self.learner)
        return {"loss/teacher": loss, "grad/teacher": self.learner.move(update)}


def train_teacher(
    shop: Workshop, backbone: Backbone, effect: Effect, config: TeachersConfig, seed: int, out: Path
) -> Iterator[Progress]:
    """Train one teacher to ``out/<effect>.safetensors``; nothing is done when it is complete already."""
    pairs = teacher_pairs(shop.world, effect, config.pairs, config.folder)
    adapter, work = out / f"{effect.id}.safetensors", out / "work" / effect.id
    key = _key(shop, effect, config, seed, pairs)
    if finished(work / "complete.json", key, adapter):
        yield Progress(f"teacher {effect.id}", config.updates, config.updates, {})
        return
    training = _prepare(shop, backbone, effect, config, seed, pairs)
    state = {"teacher": training.learner, "dice": DiceState(training.dice)}
    job = Job(training.update, _sheets(shop, training, pairs, work, config.habits.sheet_rows), state, config.updates)
    for update, logs in train(job, work, key, config.habits):
        yield Progress(f"teacher {effect.id}", update + 1, config.updates, logs)
    facts = {"clbench.stage": "teacher", "clbench.effect": effect.id, "clbench.instruction": effect.instruction}
    if processes.first():
        save_adapter(adapter, training.learner.weights(), backbone.config(TEACHER).to_dict(), facts, config.lora.dtype)
        finish(work / "complete.json", key, adapter, {"effect": effect.id, "pairs": len(pairs)})
        Checkpoints(work / "checkpoints", key).clear()  # of fifty teachers of real size they would fill a disk
    processes.wait()


def add_teacher(backbone: Backbone, config: TeachersConfig) -> None:
    """The adapter that all teachers are trained in, one after another."""
    lora = config.lora
    require_adapter_room(backbone, "teachers", [lora])
    backbone.add_new(TEACHER, lora.rank, lora.alpha_value, lora.modules, torch.Generator().manual_seed(0))


def _key(shop: Workshop, effect: Effect, config: TeachersConfig, seed: int, pairs: list[Pair]) -> str:
    pictures = pixels([p.source for p in pairs]) + pixels([p.target for p in pairs])
    return hash_value([VERSION, shop.sampling_digest, settings(config), seed, effect.instruction, pictures])


def _prepare(
    shop: Workshop, backbone: Backbone, effect: Effect, config: TeachersConfig, seed: int, pairs: list[Pair]
) -> TeacherTraining:
    backbone.reset(TEACHER, torch.Generator().manual_seed(seed_from("teacher", seed, effect.id, "weights")))
    learner = Learner(
        backbone, TEACHER, config.lr, config.clip, config.warmup,
        config.updates if config.decay else None, config.weight_decay,
    )  # fmt: skip
    source, target = shop.space.encode([p.source for p in pairs]), shop.space.encode([p.target for p in pairs])
    return TeacherTraining(
        backbone, config, learner,
        Dice.seeded(seed_from("teacher", seed, effect.id, "dice"), shop.device),
        source.to(shop.device), target.to(shop.device),
        shop.prompts.one(effect.instruction).to(shop.device), shop.prompts.unconditional().to(shop.device),
        shop.world.backbone.shift,
    )  # fmt: skip


def _sheets(shop: Workshop, training: TeacherTraining, pairs: list[Pair], work: Path, rows: int):
    """A function that draws source | target | teacher at full steps for the first pairs, always with equal noise."""
    count = min(rows, len(pairs))
    noise = Dice.seeded(seed_from("sheet", "teacher"), shop.device).normal(count, shop.space.shape)

    def draw(update: int) -> Path:
        sample = sample_teachers(
            training.backbone, training.source[:count], training.instruction.repeat(count), training.unconditional,
            [TEACHER] * count, noise, shop.full_sigmas(), shop.world.backbone.guidance,
        )  # fmt: skip
        columns = [
            ("source", np.stack([p.source for p in pairs[:count]])),
            ("target", np.stack([p.target for p in pairs[:count]])),
            (f"teacher {update}", shop.space.decode(sample)),
        ]
        return write_sheet(work / "sheets", update, columns, [f"pair {index}" for index in range(count)])

    return draw
