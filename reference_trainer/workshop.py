"""Everything a stage of training shares: the world's pipeline, its latents, prompts, and full-step schedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift
from torch import Tensor

from clbench.backbones import backbone_folder
from clbench.backbones.common import open_pipeline, pick_device
from clbench.hashing import tree_digest
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.world import World
from reference_trainer import processes
from reference_trainer.latents import LatentSpace
from reference_trainer.lora_forward import LoraForward
from reference_trainer.networks import Backbone
from reference_trainer.precision import Precision
from reference_trainer.prompting import PromptCache
from reference_trainer.room import require_pipeline_room


class Workshop:
    """A world opened for training. Weights are of the world's dtype, float32 or bfloat16; nothing here is trained.

    Transformer and autoencoder are on the device; the text encoders visit it while prompts are embedded. A stage calls `begin`
    when all that could stop it at once is checked, before its first long work.
    """

    def __init__(self, world: World, begin: Callable[[], object] = lambda: None) -> None:
        self.begin = begin
        if world.backbone.kind != "flux-kontext":
            raise ClbenchError(f"the reference trainer knows kind = 'flux-kontext', not '{world.backbone.kind}'")
        self.world = world
        self.folder: Path = backbone_folder(world)
        device = torch.device(pick_device(world.backbone.device))
        if processes.count() > 1 and device.type != "cpu":
            raise ClbenchError(f"several processes train on the CPU only, but {world.file} asks for {device.type}")
        table = world.backbone.model_copy(update={"device": "cpu"})
        self.pipe: FluxKontextPipeline = open_pipeline(FluxKontextPipeline, self.folder, table)
        for module in self.pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval().requires_grad_(False)
        require_pipeline_room(self.pipe, device, str(self.folder))
        self.pipe.transformer.to(device)
        self.pipe.vae.to(device)
        self.device: torch.device = self.pipe.transformer.device
        self.space = LatentSpace(self.pipe, world.resolution)
        self.prompts = PromptCache(self.pipe, table.max_sequence_length, table.negative_prompt, self.device)

    @cached_property
    def digest(self) -> str:
        """sha256 of the backbone's files and of what the world tells it besides a prompt: what decides a velocity."""
        table = self.world.backbone
        known = [tree_digest(self.folder), table.negative_prompt, table.max_sequence_length, table.embedded_guidance]
        return hash_value(known if table.dtype == "float32" else [*known, table.dtype])

    @cached_property
    def sampling_digest(self) -> str:
        """sha256 of `digest` and of how the world samples: what, besides a recipe and its examples, decides a training."""
        table = self.world.backbone
        return hash_value([self.digest, table.full_steps, table.full_shift, table.guidance, table.shift])

    def backbone(
        self, lora_forward: LoraForward, precision: Precision = "float32", rows: int | None = None, checkpoint: bool = False
    ) -> Backbone:
        """The frozen transformer without adapters; one per workshop, since adapters stay in it."""
        table = self.world.backbone
        return Backbone(
            self.pipe.transformer, self.space.ids(), table.max_sequence_length, lora_forward, table.embedded_guidance, precision,
            rows, checkpoint,
        )  # fmt: skip

    def full_sigmas(self, steps: int | None = None) -> Tensor:
        """The times ``(steps,)`` of the pipeline's full-step sampling, as the `teacher` system uses them."""
        table, scheduler = self.world.backbone, self.pipe.scheduler
        steps = table.full_steps if steps is None else steps
        if table.full_shift is not None:
            changed = {"shift": table.full_shift, "use_dynamic_shifting": False, "shift_terminal": None}
            # diffusers would take its own defaults for the keys named there, whatever `changed` says
            own = {key: value for key, value in scheduler.config.items() if key != "_use_default_values"}
            scheduler = type(scheduler).from_config(own | changed)
        c = scheduler.config
        mu = calculate_shift(self.space.tokens, c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)  # type: ignore[arg-type]
        return scheduler.sigmas[:-1].to(self.device, torch.float32)
