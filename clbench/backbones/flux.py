"""FLUX.1 Kontext and small models of its kind, through the stock FluxKontextPipeline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from clbench.backbones import Job, Sampler
from clbench.backbones.common import DiffusersBackbone, open_pipeline, to_vae
from clbench.backbones.processor import suit_processor
from clbench.images import hash_pixels
from clbench.world import BackboneTable, World

Prompt = tuple[torch.Tensor, torch.Tensor]
KEEP_SOURCES = 256
"""Encoded sources kept: every effect and every system asks for the same pictures. 8 KiB each in the tiny world,
1 MiB at 1024 px with the 16 channels of FLUX.1's autoencoder."""


class FluxKontextBackbone(DiffusersBackbone):
    """FluxKontextPipeline with each prompt embedded once and each source encoded once."""

    def __init__(self, pipe, table: BackboneTable, resolution: int, name: str) -> None:
        super().__init__(pipe, table, resolution, name)
        suit_processor(pipe, table)
        self._prompts: dict[str, Prompt] = {}
        self._sources: OrderedDict[str, torch.Tensor] = OrderedDict()

    @classmethod
    def open(cls, folder: Path, world: World) -> FluxKontextBackbone:
        """Open the pipeline saved in `folder` with the world's settings."""
        from diffusers import FluxKontextPipeline

        pipe = open_pipeline(FluxKontextPipeline, folder, world.backbone)
        return cls(pipe, world.backbone, world.resolution, world.name)

    @torch.inference_mode()
    def prompt_vectors(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """See `Backbone.prompt_vectors`: "pooled" as CLIP gives it, "tokens" the mean over T5's tokens without padding."""
        embeds, pooled = self._embed(prompts)
        own = self.pipe.tokenizer_2(
            list(prompts), padding="max_length", max_length=self.table.max_sequence_length, truncation=True, return_tensors="pt"
        ).attention_mask.to(embeds.device)[..., None]
        tokens = (embeds.float() * own).sum(1) / own.sum(1)
        return {"pooled": pooled.float().cpu().numpy(), "tokens": tokens.cpu().numpy()}

    def _call(self, jobs: Sequence[Job], sampler: Sampler, noise: list[torch.Generator]) -> np.ndarray:
        embeds, pooled = self._embed([job.prompt for job in jobs])
        negative = {}
        if sampler.guidance > 1:
            negative_embeds, negative_pooled = self._embed([self.table.negative_prompt] * len(jobs))
            negative = {
                "negative_prompt_embeds": negative_embeds,
                "negative_pooled_prompt_embeds": negative_pooled,
                "true_cfg_scale": sampler.guidance,
            }
        side, embedded = self.resolution, sampler.embedded_guidance
        # max_area and _auto_resize: without them the pipeline silently works at about one megapixel
        return self.pipe(
            image=torch.cat([self._encoded(job.picture) for job in jobs]),
            prompt_embeds=embeds, pooled_prompt_embeds=pooled, **negative,
            height=side, width=side, max_area=side * side, _auto_resize=False,
            num_inference_steps=sampler.steps, guidance_scale=self.table.embedded_guidance if embedded is None else embedded,
            max_sequence_length=self.table.max_sequence_length, generator=noise, output_type="np",
        ).images  # fmt: skip

    def _embed(self, prompts: Sequence[str]) -> Prompt:
        for prompt in set(prompts) - set(self._prompts):
            embeds, pooled, _ = self.pipe.encode_prompt(
                prompt, max_sequence_length=self.table.max_sequence_length
            )
            self._prompts[prompt] = (embeds, pooled)
        found = [self._prompts[prompt] for prompt in prompts]
        return torch.cat([embeds for embeds, _ in found]), torch.cat([pooled for _, pooled in found])

    def _encoded(self, picture: np.ndarray) -> torch.Tensor:
        """A source as latents ``(1, C, h, w)`` in the transformer's scale, which the pipeline takes as they are.

        Encoded alone, as the pipeline itself does it, so that it is the same in every batch.
        """
        key, vae = hash_pixels(picture), self.pipe.vae
        if key not in self._sources:
            mode = vae.encode(to_vae([picture], self.device, vae.dtype)).latent_dist.mode()
            self._sources[key] = (mode - vae.config.shift_factor) * vae.config.scaling_factor
            if len(self._sources) > KEEP_SOURCES:
                self._sources.popitem(last=False)
        self._sources.move_to_end(key)
        return self._sources[key]
