"""An adapter's optimizer against AdamW, clipping, warm-up and running average written out in numpy.

The learners are those that `prepare` makes of a recipe, so a setting that does not arrive is noticed too.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from formula_backbone import FormulaBackbone, words

from reference_trainer.dice import Dice
from reference_trainer.distill import prepare
from reference_trainer.learner import Learner
from reference_trainer.networks import Backbone
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.streams import Router, Stream
from reference_trainer.student_config import StudentConfig

SETTINGS = {"lr": 0.02, "fake_lr": 0.05, "clip": 1.0, "warmup": 3, "weight_decay": 0.2, "ema": 0.9}
SIZES = [0.1, 40.0, 0.5, 7.0, 0.02, 3.0]
"""Of gradients: three are clipped. AdamW does not see a factor that all of them share, so their sizes differ."""


def learner(role: str, **settings) -> Learner:
    kind, source = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3, 2)
    router = Router(None, Stream(source, None, kind, [None], ["general"], words([0.0]), words([0.0])), 0.0, "sample", 0)
    config = StudentConfig.model_validate(SETTINGS | settings)
    training = prepare(cast(Backbone, FormulaBackbone()), config, router, words([0.0]), 1.0, Dice.seeded(0))
    return training.student if role == STUDENT else training.fake


def gradients() -> list[np.ndarray]:
    drawn = np.random.default_rng(3).normal(size=(len(SIZES), 4))
    return [size * each / np.linalg.norm(each) for size, each in zip(SIZES, drawn, strict=True)]


def now(learner: Learner) -> np.ndarray:
    return torch.cat([p.detach() for p in learner.parameters.values()]).double().numpy()


def exported(learner: Learner) -> np.ndarray:
    return torch.cat(list(learner.weights().values())).double().numpy()


def pulled(learner: Learner, gradient: np.ndarray) -> torch.Tensor:
    """A loss with that gradient in the adapter's four numbers."""
    return torch.cat(list(learner.parameters.values())) @ torch.tensor(gradient, dtype=torch.float32)


def by_hand(start: np.ndarray, lr: float, clip: float, decay: float, ema: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weights, their running average) after each update."""
    p, average, m, v, after = start.copy(), start.copy(), np.zeros(4), np.zeros(4), []
    for update, gradient in enumerate(gradients()):
        g = gradient * min(1.0, clip / np.linalg.norm(gradient))
        rate = lr * min(1.0, (update + 1) / 3)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        t = update + 1
        p = p - rate * decay * p - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        average = ema * average + (1 - ema) * p
        after.append((p, average))
    return after


@pytest.mark.parametrize(("role", "lr"), [(STUDENT, 0.02), (FAKE_SCORE, 0.05)])
def test_updates_are_those_of_the_written_out_optimizer(role, lr):
    one = learner(role)
    for update, (p, average) in enumerate(by_hand(now(one), lr, clip=1.0, decay=0.2, ema=0.9)):
        gradient = gradients()[update]
        assert one.step(pulled(one, gradient), update) == pytest.approx(SIZES[update], rel=1e-5), "the norm before clipping"
        np.testing.assert_allclose(now(one), p, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(exported(one), average if role == STUDENT else p, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("other", [{"clip": 1e6}, {"weight_decay": 0.0}, {"ema": 0.1}, {"ema": 0.0}, {"warmup": 0}, {"lr": 0.05}])
def test_the_comparison_sees_each_setting(other):
    """Without it, or with another value, the weights that are exported differ by far more than the tolerance above."""
    one, same = learner(STUDENT, **other), learner(STUDENT)
    for update, gradient in enumerate(gradients()):
        one.step(pulled(one, gradient), update)
        same.step(pulled(same, gradient), update)
    assert np.abs(exported(one) - exported(same)).max() > 1e-3


def test_the_average_is_shown_and_exported_and_training_goes_on_from_the_weights():
    one = learner(STUDENT)
    for update, gradient in enumerate(gradients()):
        one.step(pulled(one, gradient), update)
    trained, average = now(one), exported(one)
    with one.averaged():
        np.testing.assert_array_equal(now(one), average)
    np.testing.assert_array_equal(now(one), trained)
    assert np.abs(trained - average).max() > 1e-3
