"""The joint baseline: one LoRA by flow matching on the pairs of all effects at once, without any teacher.

What the paper calls flow matching on N effects: every batch mixes effects, and the prompt alone says which one is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clbench.adapter_prompts import words_of
from clbench.adapter_writing import save_adapter
from clbench.provenance import hash_value
from clbench.types import Effect, seed_from
from reference_trainer import processes
from reference_trainer.checkpoint import DiceState, finish
from reference_trainer.dice import Dice
from reference_trainer.distill import add_up, is_finished
from reference_trainer.examples import Pair, pixels, teacher_pairs
from reference_trainer.learner import Learner
from reference_trainer.loop import Job, Progress, train
from reference_trainer.networks import Backbone
from reference_trainer.objective import flow_matching_pieces
from reference_trainer.pairs_config import JointConfig
from reference_trainer.predicting import STUDENT, Inputs
from reference_trainer.prompting import Prompts, student_prompt
from reference_trainer.rollout import sample_teachers
from reference_trainer.room import require_adapter_room
from reference_trainer.schedule import SCORE_TIME, add_noise
from reference_trainer.settings import settings
from reference_trainer.sheets import write_sheet
from reference_trainer.streams import Stream, kinds_of
from reference_trainer.workshop import Workshop

VERSION = 2


@dataclass(frozen=True)
class Lesson:
    """An effect, the prompt it is asked by, and its pairs."""

    effect: Effect
    prompt: str
    pairs: list[Pair]


@dataclass
class JointTraining:
    """The training; `update` is the whole training step."""

    backbone: Backbone
    config: JointConfig
    learner: Learner
    dice: Dice
    stream: Stream
    unconditional: Prompts
    shift: float

    def update(self, update: int) -> dict[str, float]:
        """Flow matching on a batch of pairs, each of an effect of its own; some prompts are dropped for guidance."""
        count = self.config.batch
        batch = self.stream.batch(self.dice, count)
        eps = self.dice.normal(count, tuple(batch.source.shape[1:]))
        time = SCORE_TIME.get(self.config.time)(self.dice, count, self.shift)
        dropped = self.dice.uniform(count) < self.config.prompt_dropout
        rows = torch.where(dropped, 0, torch.arange(1, count + 1, device=dropped.device))
        prompts = Prompts.cat([self.unconditional, batch.student_prompts]).take(rows)
        inputs = Inputs(add_noise(batch.target, eps, time), batch.source, time, prompts)
        pieces = flow_matching_pieces(self.backbone, STUDENT, inputs, batch.target, eps, self.config.rows)
        loss, _ = add_up(pieces, self.learner)
        return {"loss/joint": loss, "grad/joint": self.learner.move(update)}


def train_joint(
    shop: Workshop, effects: Sequence[Effect], config: JointConfig, seed: int, out: Path, resume: bool
) -> Iterator[Progress]:
    """Train ``out/joint.safetensors`` on the pairs of `effects`; nothing is done when it is complete already."""
    adapter, work = out / "joint.safetensors", out / "joint"
    lessons = [
        Lesson(effect, student_prompt(effect, config.prompt), teacher_pairs(shop.world, effect, config.pairs, config.folder))
        for effect in effects
    ]
    key = _key(shop, lessons, config, seed)
    if resume and is_finished(adapter, key):
        yield Progress("joint", config.updates, config.updates, {})
        return
    training = _prepare(shop, lessons, config, seed)
    state = {"joint": training.learner, "dice": DiceState(training.dice)}
    job = Job(training.update, _sheets(shop, training, lessons, work), state, config.updates)
    for update, logs in train(job, work, key, config.habits, resume):
        yield Progress("joint", update + 1, config.updates, logs)
    ids = " ".join(effect.id for effect in effects)
    facts = {"stage": "joint", "seed": str(seed), "effects": ids, "prompt": config.prompt, **words_of(effects, config.prompt)}
    if processes.first():
        values = training.learner.weights()
        header = {f"clbench.{key}": value for key, value in facts.items()}
        save_adapter(adapter, values, training.backbone.config(STUDENT).to_dict(), header, config.lora.dtype)
        finish(work / "complete.json", key, adapter, {"effects": ids, "pairs": len(training.stream.source)})
    processes.wait()


def _key(shop: Workshop, lessons: Sequence[Lesson], config: JointConfig, seed: int) -> str:
    taught = [
        [lesson.prompt, pixels([p.source for p in lesson.pairs]), pixels([p.target for p in lesson.pairs])] for lesson in lessons
    ]
    return hash_value([VERSION, "joint", shop.sampling_digest, settings(config), seed, taught])


def _prepare(shop: Workshop, lessons: Sequence[Lesson], config: JointConfig, seed: int) -> JointTraining:
    backbone, lora = shop.backbone(config.lora_forward, config.precision, config.rows, config.checkpoint_blocks), config.lora
    require_adapter_room(backbone, "joint", [lora])
    generator = torch.Generator().manual_seed(seed_from("joint", seed, "weights"))
    backbone.add_new(STUDENT, lora.rank, lora.alpha_value, lora.modules, generator)
    learner = Learner(
        backbone, STUDENT, config.lr, config.clip, config.warmup,
        config.updates if config.decay else None, config.weight_decay,
    )  # fmt: skip
    return JointTraining(
        backbone, config, learner, Dice.seeded(seed_from("joint", seed, "dice"), shop.device),
        _stream(shop, lessons), shop.prompts.unconditional().to(shop.device), shop.world.backbone.shift,
    )  # fmt: skip


def _stream(shop: Workshop, lessons: Sequence[Lesson]) -> Stream:
    """All pairs as one stream; effects are drawn evenly, whatever the number of their pairs."""
    pairs = [pair for lesson in lessons for pair in lesson.pairs]
    source, prompts = shop.space.encode([p.source for p in pairs]), shop.prompts.many([lesson.prompt for lesson in lessons])
    return Stream(
        source, shop.space.encode([p.target for p in pairs]), kinds_of([len(lesson.pairs) for lesson in lessons], source.device),
        [None] * len(lessons), [lesson.effect.id for lesson in lessons], prompts, prompts,
    )  # fmt: skip


def _sheets(shop: Workshop, training: JointTraining, lessons: Sequence[Lesson], work: Path) -> Callable[[int], Path]:
    """Draws source | target | joint at full steps, the first pair of each effect, always with equal noise."""
    shown = lessons[: training.config.habits.sheet_rows]
    firsts = [lesson.pairs[0] for lesson in shown]
    source = shop.space.encode([pair.source for pair in firsts]).to(shop.device)
    prompts = shop.prompts.many([lesson.prompt for lesson in shown]).to(shop.device)
    noise = Dice.seeded(seed_from("sheet", "joint"), shop.device).normal(len(shown), shop.space.shape)

    def draw(update: int) -> Path:
        sample = sample_teachers(
            training.backbone, source, prompts, training.unconditional, [STUDENT] * len(shown), noise,
            shop.full_sigmas(), shop.world.backbone.guidance,
        )  # fmt: skip
        columns = [
            ("source", np.stack([pair.source for pair in firsts])),
            ("target", np.stack([pair.target for pair in firsts])),
            (f"joint {update}", shop.space.decode(sample)),
        ]
        return write_sheet(work / "sheets", update, columns, [lesson.effect.id for lesson in shown])

    return draw
