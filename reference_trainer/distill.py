"""Few-step distillation: one round of updates, shared by accelerator and collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.adapter_writing import save_adapter
from clbench.types import seed_from
from reference_trainer import processes
from reference_trainer.checkpoint import Checkpoints, DiceState, finish, finished
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.dice import Dice
from reference_trainer.learner import Later, Learner
from reference_trainer.loop import Job, Progress, train
from reference_trainer.networks import Backbone
from reference_trainer.objective import Logs, Objective, Pieces
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.processes import Mean
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import Trajectory, simulate
from reference_trainer.room import require_adapter_room
from reference_trainer.sheets import write_sheet
from reference_trainer.streams import Batch, Router
from reference_trainer.student_config import StudentConfig
from reference_trainer.workshop import Workshop


@dataclass
class Distillation:
    """A student and its fake score over one backbone; `update` is the whole training step."""

    backbone: Backbone
    config: StudentConfig
    objective: Objective
    router: Router
    student: Learner
    fake: Learner
    dice: Dice

    def update(self, update: int) -> dict[str, float]:
        """One round: K fake-score updates, then one student update (or a warm-start update of the student)."""
        batch = self._draw(update)
        if update < self.config.warm_start:
            return self._student_step(self.objective.warm_start_pieces(batch), update)[1]
        if update == self.config.warm_start > 0 and self.config.fake_start == "student":
            self.fake.copy(self.student)  # else it would push the student away from the base until it has caught up
        turns = self.config.fake_updates if self._needs_fake else 0
        fresh, logs = self.config.rollout == "fresh", dict[str, float]()
        trajectory = self._rollout(batch, finished=turns > 0)
        for turn in range(turns):
            if fresh and turn:
                batch = self._draw(update)
                trajectory = self._rollout(batch, finished=True)
            samples = self.objective.fake_samples(trajectory)
            _, logs = add_up(self.objective.fake_pieces(batch, samples), self.fake)
            logs["grad/fake_score"] = self.fake.move(update - self.config.warm_start)
        if fresh and turns:
            batch = self._draw(update)
            trajectory = self._rollout(batch, finished=False)
        loss, student_logs = self._student_step(self.objective.student_pieces(batch, trajectory), update)
        return logs | student_logs | {"loss/student": Mean(loss, len(batch))}

    @property
    def _needs_fake(self) -> bool:
        return not {"dmd_bs", "dmd_ts"}.isdisjoint(self.config.losses.effective)

    def _draw(self, update: int) -> Batch:
        warm = self.config.warm_batch if update < self.config.warm_start else None
        return self.router.draw(self.dice, update, warm or self.config.batch)

    def _rollout(self, batch: Batch, finished: bool) -> Trajectory:
        """The student's rollout, each row as far as it is looked at: a fresh one once, at a random step unless `finished`
        pictures are what the fake score learns from; a shared one again and again.
        """
        sigmas, until = self.objective.sigmas, None
        if self.config.rollout == "fresh" and not (finished and self.config.fake_samples == "finished"):
            until = self.dice.integers(len(batch), len(sigmas))
        return simulate(self.backbone, sigmas, batch.source, batch.student_prompts, self.dice, until=until)

    def _student_step(self, pieces: Pieces, update: int) -> tuple[float, Logs]:
        """Loss and logs of one update of the student."""
        loss, logs = add_up(pieces, self.student)
        # without any row that a switched-on loss applies to, there is nothing to learn from this batch
        teaches = processes.total(bool(logs)) > 0
        return loss, logs | {"grad/student": self.student.move(update) if teaches else 0.0}


def add_up(pieces: Pieces, learner: Learner) -> tuple[float, Logs]:
    """Put the gradients of all pieces together, of which one is held at a time, for `learner` to move; their loss and logs."""
    learner.clear()
    loss, logs = 0.0, []
    for piece in pieces:
        piece.loss.backward()
        loss += float(piece.loss.detach())
        logs.append(piece.logs)
    return loss, dict(processes.pooled(logs))


def require_room(backbone: Backbone, config: StudentConfig, stage: str, teachers: Sequence[Path] = ()) -> None:
    """ClbenchError where a CUDA device cannot hold student, fake score and those `teachers` that are to lie on it."""
    frozen = [] if isinstance(config, CollectionConfig) and config.teachers_on == "cpu" else teachers
    require_adapter_room(backbone, stage, [config.lora, config.fake_lora or config.lora], config.ema > 0, frozen)


def add_roles(backbone: Backbone, config: StudentConfig, seed: int, stage: str) -> None:
    """Student and fake score as fresh adapters; both start as the plain base."""
    fake = config.lora if config.fake_lora is None else config.fake_lora
    for name, lora in ((STUDENT, config.lora), (FAKE_SCORE, fake)):
        generator = torch.Generator().manual_seed(seed_from(stage, seed, name))
        backbone.add_new(name, lora.rank, lora.alpha_value, lora.modules, generator)


def prepare(
    backbone: Backbone, config: StudentConfig, router: Router, unconditional: Prompts, guidance: float, dice: Dice
) -> Distillation:
    """The distillation at update 0; `add_roles` must have put the roles over the backbone."""
    objective = Objective(backbone, config, unconditional, guidance, dice)
    wd = config.weight_decay
    later = None if config.distill_lr is None else Later(config.warm_start, config.distill_lr)
    decay_over = config.updates if config.lr_decay else None
    student = Learner(backbone, STUDENT, config.lr, config.clip, config.warmup, decay_over, wd, config.ema, later)
    fake = Learner(backbone, FAKE_SCORE, config.fake_lr, config.clip, config.warmup, None, wd)
    return Distillation(backbone, config, objective, router, student, fake, dice)


@dataclass(frozen=True)
class SheetRows:
    """Fixed examples for sample sheets: source and reference latents ``(R, T, C)``, what the student sees.

    `heading` stands above the references: stored outputs at full steps, unless said otherwise.
    """

    labels: list[str]
    source: Tensor
    reference: Tensor
    prompts: Prompts
    heading: str = "full steps"


def run_distillation(
    shop: Workshop, training: Distillation, rows: SheetRows, what: str, adapter: Path, key: str,
    facts: Mapping[str, Any], resume: bool, gauge: Callable[[], dict[str, float]] | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Train to the end, then export `adapter` and mark it complete. Work files lie in a folder beside it.

    With `habits.keep_warm_start` the student as it is when its warm start ends stands there too, as ``<stage>-warm.safetensors``.
    """
    work, config = adapter.with_suffix(""), training.config
    header = {f"clbench.{name}": str(value) for name, value in facts.items()}
    header |= {"clbench.steps": str(config.steps), "clbench.shift": str(config.shift)}

    def keep(done: int) -> None:
        if config.habits.keep_warm_start and done == config.warm_start:
            _export(training, work / f"{adapter.stem}-warm.safetensors", header | {"clbench.warm_start": str(done)})

    state = {"student": training.student, "fake_score": training.fake, "dice": DiceState(training.dice)}
    job = Job(training.update, _sheets(shop, training, rows, work), state, config.updates, gauge, keep)
    for update, logs in train(job, work, key, config.habits, resume):
        yield Progress(what, update + 1, config.updates, logs)
    if processes.first():
        _export(training, adapter, header)
        finish(work / "complete.json", key, adapter, dict(facts))
    processes.wait()


def _export(training: Distillation, path: Path, header: Mapping[str, str]) -> None:
    """Write the student's weights, averaged where they are, as an adapter file."""
    values, dtype = training.student.weights(), training.config.lora.dtype
    save_adapter(path, values, training.backbone.config(STUDENT).to_dict(), header, dtype)


def is_finished(adapter: Path, key: str) -> bool:
    """Whether `adapter` was completed by the same recipe.

    ClbenchError where another one completed it or began it: a checkpoint is looked at here, before outputs are made for it.
    """
    work = adapter.with_suffix("")
    if finished(work / "complete.json", key, adapter):
        return True
    Checkpoints(work / "checkpoints", key).check()
    return False


def show(training: Distillation, source: Tensor, prompts: Prompts) -> Tensor:
    """The student's pictures ``(R, T, C)`` as sample sheets show them: few steps, always with equal noise."""
    dice = Dice(torch.Generator().manual_seed(seed_from("sheet", "student")), device=training.dice.device)
    with training.student.averaged():
        asked, there = prompts.to(dice.device), source.to(dice.device)
        return simulate(training.backbone, training.objective.sigmas, there, asked, dice).predictions[-1].cpu()


def _sheets(shop: Workshop, training: Distillation, rows: SheetRows, work: Path) -> Callable[[int], Path]:
    """Draws source | reference | student at its few steps."""
    source, reference = shop.space.decode(rows.source), shop.space.decode(rows.reference)

    def draw(update: int) -> Path:
        made = shop.space.decode(show(training, rows.source, rows.prompts))
        columns: list[tuple[str, np.ndarray]] = [
            ("source", source), (rows.heading, reference), (f"student {update}", made),
        ]  # fmt: skip
        return write_sheet(work / "sheets", update, columns, rows.labels)

    return draw
