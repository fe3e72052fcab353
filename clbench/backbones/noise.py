"""Noise that belongs to a case: the same numbers in any batch, order or process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from clbench.registry import ClbenchError


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per case; a CPU draw is the same on every device."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


class CaseNoiseScheduler(FlowMatchEulerDiscreteScheduler):
    """diffusers' flow-matching scheduler whose re-noising draws from the cases' own generators.

    With ``stochastic_sampling`` each step is x0 = x - sigma v, then x' = (1 - sigma') x0 + sigma' noise. The
    pipelines call `step` without a generator, so stock noise comes from the global state and depends on the
    batch. Here case i draws from ``case_generators[i]``: first its initial latents (drawn by the pipeline
    from the same list), then once per step. A stock pipeline after ``torch.manual_seed(seed)``, at batch 1
    and with ``generator=None``, draws the same numbers in the same order.
    """

    case_generators: list[torch.Generator] | None = None

    def step(self, model_output, timestep, sample, return_dict: bool = True):  # type: ignore[override]
        """As in diffusers; ClbenchError if the cases' generators were not set or do not fit the batch."""
        if self.case_generators is None or len(self.case_generators) != sample.shape[0]:
            raise ClbenchError(f"the scheduler needs one generator for each of {sample.shape[0]} cases")
        noise: Any = self.case_generators  # diffusers' randn_tensor takes a list, the annotation says one
        return super().step(model_output, timestep, sample, generator=noise, return_dict=return_dict)


def check_library() -> None:
    """ClbenchError if this diffusers ignores the generator when it re-noises (old versions did)."""
    scheduler = CaseNoiseScheduler(stochastic_sampling=True)
    draws = []
    for _ in range(2):
        scheduler.set_timesteps(2)
        scheduler.case_generators = generators([1, 2])
        first: Any = scheduler.timesteps
        draws.append(
            scheduler.step(torch.zeros(2, 4, 4), first[0], torch.zeros(2, 4, 4), return_dict=False)[0]
        )
    if not torch.equal(*draws):
        raise ClbenchError(
            "this version of diffusers re-noises from the global random state; install diffusers >= 0.36"
        )
