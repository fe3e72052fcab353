"""The other layout of `three_copies.py`: three transformers, batch 1, a teacher put in place by copying its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from torch import Tensor, nn

from reference_trainer.dice import Dice
from reference_trainer.learner import learning_rate
from reference_trainer.objective import Objective
from reference_trainer.precision import Precision, training_precision
from reference_trainer.predicting import FAKE_SCORE, STUDENT, Inputs
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import Trajectory, simulate
from reference_trainer.streams import Batch, Router
from reference_trainer.student_config import StudentConfig

TEACHER = "teacher"
SEED = 0


@dataclass(frozen=True)
class Lora:
    """An adapter as it is put into a transformer: its configuration, and its factors keyed as in a file."""

    config: LoraConfig
    factors: Mapping[str, Tensor]


class ThreeCopies:
    """Three transformers with one adapter each, one sample per forward pass; answers like a `Backbone`.

    `transformer` (without adapters) is copied twice. `teachers` are held in memory; the one that a row asks for is
    copied into the third transformer, None switches the adapter there off.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, image_ids: Tensor, text_length: int, student: Lora, fake: Lora,
        teachers: Mapping[str, Lora], precision: Precision = "float32",
    ) -> None:  # fmt: skip
        plain = transformer.requires_grad_(False).eval()
        slots = {STUDENT: student, FAKE_SCORE: fake, TEACHER: next(iter(teachers.values()))}
        self.copies = {role: copy.deepcopy(plain) if role != TEACHER else plain for role in slots}
        self.image_ids, self.text_ids, self.precision = image_ids, torch.zeros(text_length, 3), precision
        self.teachers, self._in_place, self._switched_on = teachers, "", True
        self.parameters: dict[str, dict[str, nn.Parameter]] = {}
        for role, lora in slots.items():
            self.copies[role].add_adapter(lora.config, role)
            self.parameters[role] = _adapter_parameters(self.copies[role], role)
            self._copy(role, lora.factors)
            _train(self.parameters[role], role != TEACHER)

    @torch.no_grad()
    def _copy(self, role: str, factors: Mapping[str, Tensor]) -> None:
        mine = self.parameters[role]
        assert mine.keys() == factors.keys(), f"the teachers' adapters differ in their modules ({role})"
        for key, parameter in mine.items():
            parameter.copy_(factors[key])

    def predict(self, inputs: Inputs, adapters: str | Sequence[str | None] | None) -> Tensor:
        """Velocities ``(B, T, C)``, row by row."""
        names = [adapters] * len(inputs) if adapters is None or isinstance(adapters, str) else adapters
        rows = [self._one(inputs.take(torch.tensor([i])), name) for i, name in enumerate(names)]
        return torch.cat(rows) if rows else inputs.noisy

    def _one(self, inputs: Inputs, name: str | None) -> Tensor:
        transformer = self.copies[name] if name in (STUDENT, FAKE_SCORE) else self._teacher(name)
        with training_precision(self.precision):
            out = transformer(
                hidden_states=torch.cat([inputs.noisy, inputs.source], dim=1), timestep=inputs.time,
                pooled_projections=inputs.prompts.pooled, encoder_hidden_states=inputs.prompts.tokens,
                txt_ids=self.text_ids, img_ids=self.image_ids, return_dict=False,
            )[0]  # fmt: skip
        return out[:, : inputs.noisy.shape[1]].to(inputs.noisy.dtype)

    def _teacher(self, name: str | None) -> FluxTransformer2DModel:
        transformer = self.copies[TEACHER]
        if (name is not None) != self._switched_on:
            self._switched_on = name is not None
            (transformer.enable_adapters if self._switched_on else transformer.disable_adapters)()
            _train(self.parameters[TEACHER], False)  # peft makes an adapter trainable when it switches it on
        if name is not None and name != self._in_place:
            self._copy(TEACHER, self.teachers[name].factors)
            self._in_place = name
        return transformer


def _adapter_parameters(transformer: FluxTransformer2DModel, name: str) -> dict[str, nn.Parameter]:
    """The adapter's parameters by their key in a file."""
    tail, named = f".{name}.weight", transformer.named_parameters()
    return {key.removesuffix(tail) + ".weight": p for key, p in named if key.endswith(tail) and ".lora_" in key}


def _train(parameters: Mapping[str, nn.Parameter], yes: bool) -> None:
    for parameter in parameters.values():
        if yes:  # in float32, whatever the transformer is in, as in the other layout
            parameter.data = parameter.data.float()
        parameter.requires_grad_(yes)


class Accumulated:
    """One adapter's optimizer, fed row by row: the mean gradient of a batch, then one step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], lr: float, config: StudentConfig) -> None:
        self.parameters, self.lr, self.config = list(parameters.values()), lr, config
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=(0.9, 0.999), weight_decay=config.weight_decay, foreach=True
        )

    def step(self, losses: Iterator[Tensor], count: int, update: int) -> float:
        """One update on the mean of `count` losses; returns that mean."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            (loss / count).backward()
            total += float(loss.detach()) / count
        torch.nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, update, self.config.warmup, None)
        self.optimizer.step()
        return total


class ThreeCopiesTraining:
    """The round of `Distillation.update` in the other layout: every number drawn is the same, row by row."""

    def __init__(
        self, copies: ThreeCopies, config: StudentConfig, router: Router, unconditional: Prompts, guidance: float, dice: Dice
    ) -> None:  # fmt: skip
        assert config.rollout == "shared" and not config.warm_start, "the benchmark compares rounds with one rollout"
        self.copies, self.config, self.router, self.dice = copies, config, router, dice
        self.objective = Objective(copies, config, unconditional, guidance, dice)
        self.student = Accumulated(copies.parameters[STUDENT], config.lr, config)
        self.fake = Accumulated(copies.parameters[FAKE_SCORE], config.fake_lr, config)

    def update(self, update: int) -> dict[str, float]:
        """K fake-score updates on one rollout, then one student update."""
        batch = self.router.draw(self.dice, update, self.config.batch)
        rows = [row(batch, i) for i in range(len(batch))]
        sigmas = self.objective.sigmas
        paths = [simulate(self.copies, sigmas, one.source, one.student_prompts, dice) for one, dice in self._shares(rows)]
        logs: dict[str, float] = {}
        for _ in range(self.config.fake_updates):
            logs["loss/fake_score"] = self.fake.step(self._fake_losses(rows, paths), len(rows), update)
        logs["loss/student"] = self.student.step(self._student_losses(rows, paths), len(rows), update)
        return logs

    def _fake_losses(self, rows: Sequence[Batch], paths: Sequence[Trajectory]) -> Iterator[Tensor]:
        for path, (one, _) in zip(paths, self._shares(rows), strict=True):
            yield self.objective.fake_loss(one, self.objective.fake_samples(path))[0]

    def _student_losses(self, rows: Sequence[Batch], paths: Sequence[Trajectory]) -> Iterator[Tensor]:
        for path, (one, _) in zip(paths, self._shares(rows), strict=True):
            yield self.objective.student_loss(one, path)[0]

    def _shares(self, rows: Sequence[Batch]) -> Iterator[tuple[Batch, Dice]]:
        """Each row with dice that show what this row of the whole batch would see; the objective uses them too."""
        state = self.dice.state()
        for index, one in enumerate(rows):
            share = Dice(torch.Generator(), index, len(rows), self.dice.device)
            share.restore(state)
            self.objective.dice = share
            yield one, share
        self.dice.restore(self.objective.dice.state())
        self.objective.dice = self.dice


def row(batch: Batch, index: int) -> Batch:
    """One row of a batch, as a batch."""
    one = slice(index, index + 1)
    return Batch(
        batch.source[one], batch.target[one], batch.has_target[one], batch.teachers[one], batch.names[one],
        batch.teacher_prompts.take(torch.tensor([index])), batch.student_prompts.take(torch.tensor([index])),
    )  # fmt: skip


# ---- one measurement, in a process of its own -------------------------------------------------------------------
