"""Gauges: is an effect there yet, and has another one begun to bleed into it? Read on a few validation scenes in training.

On a scene x the full-step output y_j of teacher j gives a direction d_j = y_j - x. What the student makes when it is asked
for effect i, z_i, is written as z_i - x = a_i1 d_1 + ... + a_iN d_N by least squares over all scenes. The dose a_ii is 0
where nothing happened and 1 where the student does what its teacher does; the largest other dose says how far another
effect came along. Everything happens in latents, so a reading costs one few-step sample per effect and scene.

Gauges are early signs, not metrics: one draw of a random effect says nothing about another draw of it, so the dose of such
an effect stays low. Scenes come from the split of distillation, never from the evaluation's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.hashing import file_digest
from clbench.types import seed_from
from reference_trainer.accelerator import counted
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.dice import Dice
from reference_trainer.distill import Distillation
from reference_trainer.examples import distillation_sources, pixels
from reference_trainer.loop import Progress
from reference_trainer.prompting import Prompts, student_prompt
from reference_trainer.rollout import simulate
from reference_trainer.targets import TargetStore
from reference_trainer.taught import Taught
from reference_trainer.workshop import Workshop

PRESENT, BLEEDING = 0.5, 0.25
"""Doses from which an effect counts as present, and another one as bleeding into it."""
RIDGE = 1e-3
"""Added to the diagonal of the directions' cosines, so that two effects that do almost the same share a dose."""
BATCH = 16


def doses(changes: Tensor, directions: Tensor, ridge: float = RIDGE) -> Tensor:
    """How much of each direction is in each change: ``(M, D)`` and ``(N, D)`` to ``(M, N)``, float64.

    Ridge regression on directions of length 1, read in units of the directions as they were. NaN for a direction that is
    zero: a teacher that changes nothing cannot be recognised.
    """
    changes, directions = changes.double(), directions.double()
    norms = directions.norm(dim=1)
    there = norms > 0
    unit = directions[there] / norms[there, None]
    gram = unit @ unit.T + ridge * torch.eye(len(unit), dtype=unit.dtype, device=unit.device)
    found = changes.new_full((len(changes), len(directions)), math.nan)
    found[:, there] = torch.linalg.solve(gram, unit @ changes.T).T / norms[there]
    return found


def readings(names: Sequence[str], found: Tensor) -> dict[str, float]:
    """What the log says of the doses ``(N, N)``, row = asked for, column = direction.

    ``gauge/present/<effect>`` is the effect's own dose, ``gauge/bleeding/<effect>`` the largest dose of another one, and
    ``gauge/present_share``, ``gauge/bleeding_share`` are shares of effects at or above PRESENT and BLEEDING. What cannot
    be read is left out.
    """
    known = [i for i in range(len(names)) if not math.isnan(float(found[i, i]))]
    own = {names[i]: float(found[i, i]) for i in known}
    others = {names[i]: max(float(found[i, j]) for j in known if j != i) for i in known} if len(known) > 1 else {}
    logs = {f"gauge/present/{name}": dose for name, dose in own.items()}
    logs |= {f"gauge/bleeding/{name}": dose for name, dose in others.items()}
    for what, values, bound in (("present", own, PRESENT), ("bleeding", others, BLEEDING)):
        if values:
            logs[f"gauge/{what}_share"] = sum(dose >= bound for dose in values.values()) / len(values)
    return logs


def contrast(made: Tensor, targets: Tensor) -> dict[str, float]:
    """``gauge/contrast``: how much the student's pictures vary within themselves, over what the teachers' do; 1 is as they do.

    Both ``(N, S, T, C)``: the root mean square of what differs from a picture's mean, one ratio for each effect, and their
    geometric mean. Above 1 distribution matching overshoots, below 1 pictures are pale or blurred. Without any effect whose
    pictures vary there is no reading.
    """
    spread, wanted = ((each - each.mean(2, keepdim=True)).double().square().mean((1, 2, 3)).sqrt() for each in (made, targets))
    known = (spread > 0) & (wanted > 0)
    return {"gauge/contrast": float((spread[known] / wanted[known]).log().mean().exp())} if known.any() else {}


@dataclass(frozen=True)
class Gauges:
    """What a reading needs, on the CPU: effects with the student's `prompts`, scenes ``(S, T, C)``, targets ``(N, S, T, C)``."""

    training: Distillation
    names: list[str]
    prompts: Prompts
    scenes: Tensor
    targets: Tensor

    def read(self) -> dict[str, float]:
        """A reading of the student as it would be exported, always with equal noise; training's dice stay as they are."""
        made = self._pictures()
        change, directions = (made - self.scenes).flatten(1), (self.targets - self.scenes).flatten(1)
        return readings(self.names, doses(change, directions)) | contrast(made, self.targets)

    def _pictures(self) -> Tensor:
        """The student's few-step pictures ``(N, S, T, C)``, on the CPU."""
        count = len(self.names), len(self.scenes)
        source = self.scenes.repeat(count[0], 1, 1)
        rows = torch.arange(count[0]).repeat_interleave(count[1])
        training, made = self.training, []
        dice = Dice(torch.Generator().manual_seed(seed_from("gauges")), device=training.dice.device)
        with training.student.averaged():
            for part in torch.arange(len(rows)).split(BATCH):
                asked, there = self.prompts.take(rows[part]).to(dice.device), source[part].to(dice.device)
                path = simulate(training.backbone, training.objective.sigmas, there, asked, dice)
                made.append(path.predictions[-1].cpu())
        return torch.cat(made).unflatten(0, count)


def make_gauges(
    shop: Workshop, config: CollectionConfig, taught: Sequence[Taught], adapters: Sequence[str], store: TargetStore,
    training: Distillation,
) -> Generator[Progress, None, Callable[[], dict[str, float]] | None]:  # fmt: skip
    """The reading of all `taught` effects, whose teachers are the `adapters`; None where training is too short for one."""
    habits = config.habits
    if not habits.reads_gauges(config.updates) or not taught:
        return None
    pictures = distillation_sources(shop.world, "gauges", habits.gauge_scenes, config.pictures)
    scenes, targets = shop.space.encode(pictures), []
    for done, (item, adapter) in enumerate(zip(taught, adapters, strict=True)):
        effect = item.effect
        content = ["teacher", shop.digest, file_digest(item.teacher), effect.instruction, pixels(pictures)]
        prompts = shop.prompts.one(effect.instruction).repeat(len(scenes))
        counts = store.get(content, adapter, scenes, prompts, seed_from("gauges", effect.id))
        made = yield from counted("gauge outputs", counts, done * len(scenes), len(taught) * len(scenes))
        targets.append(made)
    asked = shop.prompts.many([student_prompt(item.effect, config.prompt) for item in taught])
    return Gauges(training, [item.effect.id for item in taught], asked, scenes, torch.stack(targets)).read
