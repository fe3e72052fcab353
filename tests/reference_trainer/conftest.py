"""Fixtures of the trainer's tests: the session's random pipeline, wrapped as the trainer uses it."""

from __future__ import annotations

import pytest
import torch

LENGTH, SIZE = 12, 32


@pytest.fixture
def pipe(flux_folder):
    """A fresh random-weight FluxKontextPipeline, 32 px."""
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline.from_pretrained(flux_folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def space(pipe):
    from reference_trainer.latents import LatentSpace

    return LatentSpace(pipe, SIZE)


@pytest.fixture
def cache(pipe):
    from reference_trainer.prompting import PromptCache

    return PromptCache(pipe, LENGTH)


@pytest.fixture
def make_backbone(pipe, space):
    """A function: a backbone with student, fake_score and two frozen random teachers."""
    from reference_trainer.networks import Backbone

    def make(mode: str = "merged") -> Backbone:
        backbone = Backbone(pipe.transformer, space.ids(), LENGTH, mode)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        for name, rank in (("student", 4), ("fake_score", 4), ("teacher_0000", 2), ("teacher_0001", 2)):
            backbone.add_new(name, rank, 2 * rank, "all", generator)
            for key, parameter in backbone.parameters(name).items():
                if "lora_B" in key:
                    with torch.no_grad():
                        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
                parameter.requires_grad_(not name.startswith("teacher"))
        return backbone

    return make


@pytest.fixture
def make_inputs(space, cache):
    """A function: random inputs for a batch of the given size."""
    from reference_trainer.networks import Inputs

    def make(count: int, seed: int = 0) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        noisy, source = torch.randn(2, count, *space.shape, generator=g)
        prompts = cache.many([f"turn it {'blue' if i % 2 else 'upside down'}" for i in range(count)])
        return Inputs(noisy, source, torch.rand(count, generator=g), prompts)

    return make
