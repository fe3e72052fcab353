"""Times: the published steps, the scheduler's steps, and what each switch says about itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from clbench.registry import ClbenchError
from reference_trainer import schedule as S
from reference_trainer.dice import Dice

N = 40_000


def test_eight_steps_are_the_published_ones():
    published = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3]
    np.testing.assert_allclose(S.student_sigmas(8).numpy(), published, atol=5e-5)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 28])
@pytest.mark.parametrize("amount", [1.0, 3.0])
def test_steps_are_the_stock_scheduler_s(steps, amount):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=amount)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    torch.testing.assert_close(S.student_sigmas(steps, amount), scheduler.sigmas[:-1].float(), rtol=1e-5, atol=1e-6)


def test_shift_and_unshift_are_inverse():
    s = torch.linspace(0, 1, 11)
    torch.testing.assert_close(S.unshift(S.shift(s, 3.0), 3.0), s)


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        ("paper", 8, [0.6429, 0.5, 0.3]),
        ("code", 8, [0.8333, 0.75, 0.6429, 0.5, 0.3]),
        ("paper", 4, [0.5]),
        ("code", 4, [0.9, 0.75, 0.5]),
        ("paper", 2, [0.75]),
        ("paper", 1, [1.0]),
    ],
)
def test_times_of_target_simulation(name, steps, expected):
    np.testing.assert_allclose(S.TARGET_GENERATION.get(name)(S.student_sigmas(steps)).numpy(), expected, atol=5e-5)


@pytest.mark.parametrize(("name", "low", "mean"), [("paper", 0.5, 0.75), ("code", 0.75, 0.892)])
def test_score_times_of_target_simulation(name, low, mean):
    t = S.TARGET_SCORE.get(name)(Dice.seeded(0), N, 3.0)
    assert low <= float(t.min()) and float(t.max()) <= 1.0
    assert float(t.mean()) == pytest.approx(mean, abs=0.005)


@pytest.mark.parametrize(("name", "low", "mean"), [("paper", 0.75, 0.875), ("code", 0.0, 0.928), ("uniform", 0.02, 0.51)])
def test_anchor_times(name, low, mean):
    dice = Dice.seeded(0)
    t = S.ANCHOR_TIME.get(name)(dice, N, 3.0, S.SCORE_TIME.get("shifted")(dice, N, 3.0))
    assert low <= float(t.min()) and float(t.max()) <= 1.0
    assert float(t.mean()) == pytest.approx(mean, abs=0.005)


@pytest.mark.parametrize(("name", "mean"), [("uniform", 0.5), ("shifted", 0.682), ("logit-normal", 0.5)])
def test_score_times(name, mean):
    t = S.SCORE_TIME.get(name)(Dice.seeded(0), N, 3.0)
    assert float(t.min()) > 0 and float(t.max()) < 1.0
    assert float(t.mean()) == pytest.approx(mean, abs=0.005)


def test_unknown_sampler_raises_with_a_suggestion():
    with pytest.raises(ClbenchError, match="Did you mean 'shifted'"):
        S.SCORE_TIME.get("shiftet")


def test_two_processes_draw_what_one_draws():
    one = Dice(torch.Generator().manual_seed(5))
    both = [Dice(torch.Generator().manual_seed(5), rank, 2) for rank in (0, 1)]
    assert torch.equal(one.normal(6, (2,)), torch.cat([d.normal(3, (2,)) for d in both]))
    assert torch.equal(one.integers(6, 9), torch.cat([d.integers(3, 9) for d in both]))
    assert torch.equal(one.uniform(6), torch.cat([d.uniform(3) for d in both]))
