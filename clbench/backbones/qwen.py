"""Qwen-Image-Edit through the stock QwenImageEditPipeline.

Its prompt embeddings see the source picture, so nothing is cached; it always conditions on about one
megapixel of the source, whatever the size of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clbench.backbones import Job, Sampler
from clbench.backbones.common import DiffusersBackbone, open_pipeline
from clbench.registry import ClbenchError
from clbench.world import World


class QwenEditBackbone(DiffusersBackbone):
    """QwenImageEditPipeline, batched over cases."""

    @classmethod
    def open(cls, folder: Path, world: World) -> QwenEditBackbone:
        """Open the pipeline saved in `folder` with the world's settings."""
        from diffusers import QwenImageEditPipeline

        pipe = open_pipeline(QwenImageEditPipeline, folder, world.backbone)
        return cls(pipe, world.backbone, world.resolution, world.name)

    def prompt_vectors(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Backbone.prompt_vectors`."""
        raise ClbenchError(f"prompts of {self.name} are embedded together with the source picture, so they have no own vector")

    def _call(self, jobs: Sequence[Job], sampler: Sampler, noise: list[torch.Generator]) -> np.ndarray:
        guided = sampler.guidance > 1
        # the pipeline asks a picture for its `size`, so it gets Pillow images
        return self.pipe(
            image=[Image.fromarray(job.picture) for job in jobs],
            prompt=[job.prompt for job in jobs],
            negative_prompt=[self.table.negative_prompt or " "] * len(jobs) if guided else None,
            true_cfg_scale=sampler.guidance, height=self.resolution, width=self.resolution,
            num_inference_steps=sampler.steps, generator=noise, output_type="np",
            max_sequence_length=min(self.table.max_sequence_length, 1024),
        ).images  # fmt: skip
