"""Who is asked what, when and with which noise: all losses of a batch, and their gradients, worked out by hand.

The backbone is a formula, so that each loss is a few lines of numpy, written from the method and not from the trainer. The
batch mixes both streams, and no two of its prompts, sources, outputs, noises and times are equal: whatever is put in the place
of another gives other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from formula_backbone import SHAPE, FormulaBackbone, words

from reference_trainer.dice import Dice
from reference_trainer.objective import Objective
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.rollout import Trajectory
from reference_trainer.streams import Batch
from reference_trainer.student_config import LossesTable, StudentConfig

TEACHERS = ["teacher_0001", "teacher_0000", None]
ANCHORED = [0, 1]  # rows of the effect stream; row 2 is the general stream's and has no stored output
ASKED_OF_TEACHER, ASKED_OF_STUDENT, EMPTY = [0.5, -0.25, 0.75], [-1.0, 1.25, -0.5], 0.3
WEIGHTS = LossesTable(dmd_ts_weight=0.5, ta_fm_weight=2.0)
STEPS = [3 * k / (8 + 2 * k) for k in range(8, 0, -1)]
FINE = [0.9 / 1.4, 0.5, 0.3]
SEED = 11
GUIDED = pytest.mark.parametrize(("weight", "convention"), [(3.0, "usual"), (1.0, "usual"), (4.0, "code")])
IN_PIECES = pytest.mark.parametrize("rows", [None, 2])
Array = np.ndarray


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(tensor: torch.Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)


@dataclass
class Hand:
    """The same batch and backbone in numpy."""

    source: Array
    target: Array
    states: Array
    numbers: dict[str | None, Array]
    weight: float
    convention: str

    def features(self, row: int, noisy: Array, time: float, prompt: float) -> Array:
        """What a velocity is a sum of, so its derivatives in the adapter's four numbers too."""
        return np.stack([noisy, self.source[row], np.full(SHAPE, time), np.full(SHAPE, prompt)])

    def velocity(self, adapter: str | None, row: int, noisy: Array, time: float, prompt: float) -> Array:
        return np.tensordot(self.numbers[adapter], self.features(row, noisy, time, prompt), 1)

    def taught(self, row: int, noisy: Array, time: float) -> Array:
        """The teacher's velocity with guidance: it sees the effect's own instruction."""
        cond = self.velocity(TEACHERS[row], row, noisy, time, ASKED_OF_TEACHER[row])
        uncond = self.velocity(TEACHERS[row], row, noisy, time, EMPTY)
        return (cond if self.convention == "code" else uncond) + self.weight * (cond - uncond)

    def matched(self, adapter: str, row: int, noisy: Array, time: float, wanted: Array) -> tuple[float, Array]:
        """``|| v - wanted ||^2`` of student or fake score, which see trigger and caption; its gradient."""
        prompt = ASKED_OF_STUDENT[row]
        error = self.velocity(adapter, row, noisy, time, prompt) - wanted
        return float(np.mean(error**2)), (2 * error * self.features(row, noisy, time, prompt)).mean((1, 2))

    def distilled(self, row: int, noisy: Array, time: float, score_time: float, eps: Array) -> tuple[float, Array]:
        """DMD: the student's x0 is noised anew, and moved from where the fake score sees it to where the teacher does."""
        prompt = ASKED_OF_STUDENT[row]
        x = noisy - time * self.velocity(STUDENT, row, noisy, time, prompt)
        seen = (1 - score_time) * x + score_time * eps
        fake = seen - score_time * self.velocity(FAKE_SCORE, row, seen, score_time, prompt)
        real = seen - score_time * self.taught(row, seen, score_time)
        g = (fake - real) / np.mean(np.abs(x - real))
        return float(0.5 * np.mean(g**2)), (g * -time * self.features(row, noisy, time, prompt)).mean((1, 2))


def setup(rows: int | None = None, weight: float = 3.0, convention: str = "usual", **settings):
    """(objective, batch, rollout, the same by hand)."""
    backbone = FormulaBackbone()
    source, target = normal(2, 3, *SHAPE, seed=1)
    has_target = torch.tensor([row in ANCHORED for row in range(3)])
    asked = words(ASKED_OF_TEACHER), words(ASKED_OF_STUDENT)
    batch = Batch(source, target, has_target, list(TEACHERS), ["b", "a", "general"], *asked)
    states, predictions = normal(2, 8, 3, *SHAPE, seed=2)
    config = StudentConfig(steps=8, rows=rows, guidance_convention=convention, losses=WEIGHTS, **settings)
    objective = Objective(backbone, config, words([EMPTY]), weight, Dice.seeded(SEED))
    numbers = {name: exact(backbone.of(name)) for name in backbone.numbers}
    by_hand = Hand(exact(source), exact(target), exact(states), numbers, weight, convention)
    return objective, batch, Trajectory(states, predictions, torch.tensor(STEPS)), by_hand


def uniform(low: float, high: float, dice: Dice) -> Array:
    return low + (high - low) * exact(dice.uniform(3))


def shifted(time: Array) -> Array:
    return 3 * time / (1 + 2 * time)


def noise(dice: Dice) -> Array:
    return exact(dice.normal(3, SHAPE))


def agree(objective: Objective, role: str, found: torch.Tensor, terms: list[tuple[float, Array]], count: int) -> None:
    """The loss and its gradient are the sum of `terms` over `count`, and the gradient is the role's alone."""
    found.backward()
    backbone = objective.backbone
    assert isinstance(backbone, FormulaBackbone)
    assert float(found.detach()) == pytest.approx(sum(value for value, _ in terms) / count, rel=1e-4)
    gradient = backbone.gradient(role)
    assert gradient is not None
    np.testing.assert_allclose(exact(gradient), sum(slope for _, slope in terms) / count, rtol=1e-3, atol=1e-4)
    assert [name for name in backbone.numbers if backbone.gradient(name) is not None] == [role]


@GUIDED
@IN_PIECES
def test_student_loss(rows, weight, convention):
    """DMD_BS on every row, DMD_TS and TA-FM where an output is stored, each with times and noise of its own.

    The order of the draws is part of a training: with another one a resumed run would not end where it should.
    """
    objective, batch, path, hand = setup(rows, weight, convention)
    dice = Dice.seeded(SEED)
    t_bs, t_ts, t_ta = shifted(uniform(0.02, 0.98, dice)), uniform(0.5, 1, dice), uniform(0.75, 1, dice)
    eps_ta, step, fine = noise(dice), dice.integers(3, 8).tolist(), dice.integers(3, 3).tolist()
    eps_y, eps_bs, eps_ts = noise(dice), noise(dice), noise(dice)

    terms = [hand.distilled(row, hand.states[step[row], row], STEPS[step[row]], t_bs[row], eps_bs[row]) for row in range(3)]
    for row in ANCHORED:
        y, t, fine_time = hand.target[row], t_ta[row], FINE[fine[row]]
        value, slope = hand.distilled(row, (1 - fine_time) * y + fine_time * eps_y[row], fine_time, t_ts[row], eps_ts[row])
        terms.append((0.5 * value, 0.5 * slope))
        value, slope = hand.matched(STUDENT, row, (1 - t) * y + t * eps_ta[row], t, eps_ta[row] - y)
        terms.append((2 * value, 2 * slope))
    agree(objective, STUDENT, objective.student_loss(batch, path)[0], terms, 3)


@IN_PIECES
def test_fake_loss(rows):
    """Flow matching on the student's samples, asked as the student is, at times that each row draws for itself."""
    objective, batch, path, hand = setup(rows)
    samples, dice = path.predictions[3], Dice.seeded(SEED)
    eps, time, x0 = noise(dice), shifted(uniform(0.02, 0.98, dice)), exact(samples)
    terms = [
        hand.matched(FAKE_SCORE, row, (1 - time[row]) * x0[row] + time[row] * eps[row], time[row], eps[row] - x0[row])
        for row in range(3)
    ]
    agree(objective, FAKE_SCORE, objective.fake_loss(batch, samples)[0], terms, 3)


def test_the_fake_score_teaches_the_student_nothing():
    """Samples that still hang on the student are taken as they are."""
    objective, batch, path, _ = setup()
    samples = path.predictions[3].clone().requires_grad_(True)
    objective.fake_loss(batch, samples)[0].backward()
    assert samples.grad is None


@GUIDED
@IN_PIECES
@pytest.mark.parametrize("target", ["outputs", "teacher"])
def test_warm_start_loss(rows, target, weight, convention):
    """Where an output is stored: its own flow, or the velocity of the row's teacher, guided and asked its instruction."""
    objective, batch, _, hand = setup(rows, weight, convention, warm_target=target)
    dice, terms = Dice.seeded(SEED), []
    eps, time = noise(dice), uniform(0.02, 1, dice)
    for row in ANCHORED:
        noisy = (1 - time[row]) * hand.target[row] + time[row] * eps[row]
        wanted = hand.taught(row, noisy, time[row]) if target == "teacher" else eps[row] - hand.target[row]
        terms.append(hand.matched(STUDENT, row, noisy, time[row], wanted))
    agree(objective, STUDENT, objective.warm_start_loss(batch)[0], terms, len(ANCHORED))
