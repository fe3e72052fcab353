"""Fixtures of the trainer's tests: the session's random pipeline, wrapped as the trainer uses it."""

from __future__ import annotations

import numpy as np
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
    from reference_trainer.predicting import Inputs

    def make(count: int, seed: int = 0) -> Inputs:
        g = torch.Generator().manual_seed(seed)
        noisy, source = torch.randn(2, count, *space.shape, generator=g)
        prompts = cache.many([f"turn it {'blue' if i % 2 else 'upside down'}" for i in range(count)])
        return Inputs(noisy, source, torch.rand(count, generator=g), prompts)

    return make


@pytest.fixture
def shop_floor(mini_world, tmp_path):
    """(world, recipe, out): two effects with two pairs each in a folder, pictures to distil on, tiny settings."""
    from mini_training import mini_recipe

    from clbench.images import write_png

    rng = np.random.default_rng(1)
    for effect in ("sepia", "upside_down"):
        for i in range(2):
            picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            write_png(tmp_path / "pairs" / effect / "source" / f"p{i}.png", picture)
            write_png(tmp_path / "pairs" / effect / "target" / f"p{i}.png", picture[::-1].copy())
            write_png(tmp_path / "distil" / f"{effect}{i}.png", picture[:, ::-1].copy())
    return mini_world, mini_recipe(tmp_path / "pairs", tmp_path / "distil"), tmp_path / "out"
