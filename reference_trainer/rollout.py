"""Sampling inside the trainer: the student's few steps, and the teachers' full steps, in mixed batches.

Both equal the stock pipeline's result for the same noise (tests); they are here because one batch may hold
different adapters, which the pipeline cannot do, and because each random draw comes from given dice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reference_trainer.dice import Dice
from reference_trainer.losses import usual_guidance
from reference_trainer.predicting import STUDENT, Inputs, Predicting
from reference_trainer.prompting import Prompts
from reference_trainer.schedule import add_noise, to_x0


@dataclass(frozen=True)
class Trajectory:
    """A rollout of n steps: what the student saw at each step and the picture it predicted there.

    `states` and `predictions` are without gradient; ``predictions[-1]`` is the finished sample. Where `until` says at which step
    each row is looked at, what lies behind that step means nothing.
    """

    states: Float[Tensor, "n b t c"]
    predictions: Float[Tensor, "n b t c"]
    sigmas: Float[Tensor, " n"]
    until: Int[Tensor, " b"] | None = None

    def exits(self, dice: Dice) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
        """A random step (that of `until`, if it was drawn before) and the row for each sample, which index both."""
        count = self.states.shape[1]
        step = dice.integers(count, len(self.sigmas)) if self.until is None else self.until
        return step, torch.arange(count, device=self.states.device)


@torch.no_grad()
def simulate(
    backbone: Predicting,
    sigmas: Float[Tensor, " n"],
    source: Float[Tensor, "b t c"],
    prompts: Prompts,
    dice: Dice,
    adapter: str | None = STUDENT,
    until: Int[Tensor, " b"] | None = None,
) -> Trajectory:
    """Backward simulation: the student's own sampler from pure noise.

    At each step predict x0, then re-noise it to the next sigma with fresh noise (stochastic sampling; diffusers'
    FlowMatchEulerDiscreteScheduler with `stochastic_sampling`). No row goes on behind the step that `until` gives for it; the
    dice are thrown for all of them, so that other rows and processes see the same noise.
    """
    count = len(source)
    x = dice.normal(count, tuple(source.shape[1:]))
    states, predictions = [], []
    for step, sigma in enumerate(sigmas):
        time = sigma.expand(count)
        inputs = Inputs(x, source, time, prompts)
        if until is None:
            x0 = to_x0(x, backbone.predict(inputs, adapter), time)
        else:
            rows, x0 = (until >= step).nonzero().flatten(), torch.zeros_like(x)
            if len(rows):
                x0[rows] = to_x0(x[rows], backbone.predict(inputs.take(rows), adapter), time[rows])
        states.append(x)
        predictions.append(x0)
        if step + 1 < len(sigmas):
            x = add_noise(x0, dice.normal(count, tuple(x0.shape[1:])), sigmas[step + 1].expand(count))
    return Trajectory(torch.stack(states), torch.stack(predictions), sigmas, until)


@torch.no_grad()
def sample_teachers(
    backbone: Predicting,
    source: Float[Tensor, "b t c"],
    prompts: Prompts,
    unconditional: Prompts,
    adapters: Sequence[str | None],
    noise: Float[Tensor, "b t c"],
    sigmas: Float[Tensor, " steps"],
    guidance: float,
) -> Float[Tensor, "b t c"]:
    """Full-step samples of one adapter per sample: Euler steps with classifier-free guidance.

    As FluxKontextPipeline with `true_cfg_scale`; `sigmas` are its times. Guidance 1 leaves the
    unconditional pass out; otherwise both passes, and all adapters, share one forward pass per step.
    """
    count, x = len(source), noise
    guided = guidance != 1.0
    both = Prompts.cat([prompts, unconditional.repeat(count)]) if guided else prompts
    for sigma, following in zip(sigmas, [*sigmas[1:], sigmas.new_zeros(())], strict=True):
        time = sigma.expand(count)
        inputs = Inputs(x, source, time, prompts)
        if guided:
            inputs = Inputs(torch.cat([x, x]), torch.cat([source, source]), torch.cat([time, time]), both)
        v = backbone.predict(inputs, [*adapters, *adapters] if guided else adapters)
        if guided:
            v = usual_guidance(*v.chunk(2), guidance)
        x = x + (following - sigma) * v
    return x
