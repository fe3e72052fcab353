"""Rectified flow, the student's steps, and the named samplers of training times.

A time `s` runs from 1 (noise) to 0 (picture): ``x_s = (1 - s) x0 + s eps``, ``v = eps - x0`` and therefore
``x0 = x_s - s v`` (Liu et al. 2022, Flow Straight and Fast; CollectionLoRA, arXiv 2605.25378).
Where the paper and its public code disagree on a time, both are here under the names `paper` and `code`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from clbench.registry import Registry
from reference_trainer.dice import Dice


def rows(s: Float[Tensor, " b"], like: Float[Tensor, " b *rest"]) -> Float[Tensor, " b *ones"]:
    """`s` reshaped to broadcast over `like`."""
    return s.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def add_noise(
    x0: Float[Tensor, " b *rest"], eps: Float[Tensor, " b *rest"], s: Float[Tensor, " b"]
) -> Float[Tensor, " b *rest"]:
    """``x_s = (1 - s) x0 + s eps`` for one time per sample; `s` in [0, 1]."""
    s = rows(s, x0)
    return (1 - s) * x0 + s * eps


def velocity(x0: Float[Tensor, " b *rest"], eps: Float[Tensor, " b *rest"]) -> Float[Tensor, " b *rest"]:
    """``v = eps - x0``, what the transformer predicts."""
    return eps - x0


def to_x0(
    x_s: Float[Tensor, " b *rest"], v: Float[Tensor, " b *rest"], s: Float[Tensor, " b"]
) -> Float[Tensor, " b *rest"]:
    """``x0_hat = x_s - s v`` for one time per sample."""
    return x_s - rows(s, x_s) * v


def shift(s: Float[Tensor, " n"], amount: float) -> Float[Tensor, " n"]:
    """Move times towards the noise: ``a s / (1 + (a - 1) s)`` (Esser et al. 2024, eq. 23); keeps 0 and 1."""
    return amount * s / (1 + (amount - 1) * s)


def unshift(s: Float[Tensor, " n"], amount: float) -> Float[Tensor, " n"]:
    """The inverse of `shift`."""
    return s / (amount - (amount - 1) * s)


def student_sigmas(steps: int, amount: float = 3.0) -> Float32[Tensor, " {steps}"]:
    """The student's times ``shift(k / steps)`` for k = steps..1, from 1 downwards.

    Eight steps and shift 3 give the published 1, .9545, .9, .8333, .75, .6429, .5, .3. They are the times of
    FlowMatchEulerDiscreteScheduler with the same shift, so the exported adapter runs in the stock pipeline.
    """
    if steps < 1:
        raise ValueError(f"a student needs at least one step, got {steps}")
    k = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return shift(k, amount).to(torch.float32)


# ---- target simulation: the student's time t_gen -------------------------------------------------------------
TARGET_GENERATION: Registry[Callable[[Float[Tensor, " n"]], Float[Tensor, " m"]]] = Registry("time of target simulation (t_gen)")


@TARGET_GENERATION.register("paper")
def fine_steps_below_three_quarters(sigmas: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
    """The student's steps with sigma < .75; the last step alone where the schedule has none below .75."""
    fine = sigmas[sigmas < 0.75 - 1e-6]
    return fine if len(fine) else sigmas[-1:]


@TARGET_GENERATION.register("code")
def last_five_eighths(sigmas: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
    """The last five of eight steps (.8333 too); of n steps the last ``ceil(5 n / 8)``."""
    return sigmas[-((5 * len(sigmas) + 7) // 8) :]


# ---- times of scores and of flow matching -------------------------------------------------------------------
# Each sampler takes dice, the shift and, where it matters, the times of distribution matching of the same rows.
SCORE_TIME: Registry[Callable[[Dice, int, float], Float[Tensor, " b"]]] = Registry("time of a score or of flow matching")


def _uniform(dice: Dice, count: int, low: float, high: float) -> Float[Tensor, " {count}"]:
    return low + (high - low) * dice.uniform(count)


@SCORE_TIME.register("uniform")
def uniform_time(dice: Dice, count: int, amount: float) -> Float[Tensor, " {count}"]:
    """Uniform on [.02, .98]: the ends carry no gradient (x0_hat = x at 0, no picture at 1)."""
    return _uniform(dice, count, 0.02, 0.98)


@SCORE_TIME.register("shifted")
def shifted_time(dice: Dice, count: int, amount: float) -> Float[Tensor, " {count}"]:
    """Uniform on [.02, .98], then shifted like the student's steps: more weight on the noisy end."""
    return shift(uniform_time(dice, count, amount), amount)


@SCORE_TIME.register("logit-normal")
def logit_normal_time(dice: Dice, count: int, amount: float) -> Float[Tensor, " {count}"]:
    """Sigmoid of a standard normal (Esser et al. 2024): more weight on the middle."""
    return torch.sigmoid(dice.normal(count, ())).clamp(0.001, 0.999)


TARGET_SCORE: Registry[Callable[[Dice, int, float], Float[Tensor, " b"]]] = Registry("time of target simulation (t_critic)")


@TARGET_SCORE.register("paper")
def high_half(dice: Dice, count: int, amount: float) -> Float[Tensor, " {count}"]:
    """t_critic > .5: uniform on [.5, 1), mean .75."""
    return _uniform(dice, count, 0.5, 1.0)


@TARGET_SCORE.register("code")
def high_half_shifted(dice: Dice, count: int, amount: float) -> Float[Tensor, " {count}"]:
    """Drawn on [.5, 1) and then shifted: effectively [.75, 1) with shift 3, mean .89."""
    return shift(high_half(dice, count, amount), amount)


ANCHOR_TIME: Registry[Callable[[Dice, int, float, Float[Tensor, " b"]], Float[Tensor, " b"]]] = Registry(
    "time of trajectory anchoring"
)
ABOVE_SCORE_TIME = frozenset({"code"})
"""Names of `ANCHOR_TIME` that look at the times of distribution matching: a warm start has none."""


@ANCHOR_TIME.register("paper")
def noisy_quarter(
    dice: Dice, count: int, amount: float, score_time: Float[Tensor, " b"]
) -> Float[Tensor, " {count}"]:
    """Uniform on [.75, 1]: the noisy end, where target simulation (t_gen < .75) stops.

    The paper writes only t and that the loss acts at the noisy end; the border is the complement of t_gen.
    """
    return _uniform(dice, count, 0.75, 1.0)


@ANCHOR_TIME.register("code")
def above_score_time_shifted(
    dice: Dice, count: int, amount: float, score_time: Float[Tensor, " b"]
) -> Float[Tensor, " {count}"]:
    """Uniform above the (shifted) time of distribution matching, then shifted once more: mean about .925."""
    above = score_time + (1 - score_time) * dice.uniform(count)
    return shift(above, amount)


@ANCHOR_TIME.register("shifted")
def anywhere_shifted(
    dice: Dice, count: int, amount: float, score_time: Float[Tensor, " b"]
) -> Float[Tensor, " {count}"]:
    """Uniform on [.02, 1], then shifted like the student's steps: half of them in the noisiest quarter, with shift 3."""
    return shift(_uniform(dice, count, 0.02, 1.0), amount)


@ANCHOR_TIME.register("uniform")
def anywhere(
    dice: Dice, count: int, amount: float, score_time: Float[Tensor, " b"]
) -> Float[Tensor, " {count}"]:
    """Uniform on [.02, 1]: plain flow matching of the student, as in the joint baseline."""
    return _uniform(dice, count, 0.02, 1.0)
