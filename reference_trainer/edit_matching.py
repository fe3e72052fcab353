"""Flow matching on general edits: the loss of a batch, with gradients into transformer and text encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import FluxKontextPipeline
from jaxtyping import Float
from torch import Tensor

from reference_trainer.dice import Dice
from reference_trainer.edit_examples import EditExamples
from reference_trainer.latents import LatentSpace
from reference_trainer.losses import flow_matching
from reference_trainer.precision import training_precision
from reference_trainer.pretrain_config import BaseConfig


class TrainableText:
    """Prompt to (sequence, pooled) with gradients, by the very calls that the pipeline makes."""

    def __init__(self, pipeline: FluxKontextPipeline, max_length: int) -> None:
        self.pipeline, self.max_length = pipeline, max_length

    def __call__(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "n l d"], Float[Tensor, "n p"]]:
        """T5 states (N, max_length, d) and the pooled CLIP vector (N, p)."""
        pipe = self.pipeline
        tokens = pipe.tokenizer_2(
            list(prompts), padding="max_length", max_length=self.max_length, truncation=True, return_tensors="pt"
        )
        pooled = pipe.tokenizer(
            list(prompts), padding="max_length", max_length=pipe.tokenizer_max_length, truncation=True, return_tensors="pt"
        )
        return (
            pipe.text_encoder_2(tokens.input_ids, output_hidden_states=False)[0],
            pipe.text_encoder(pooled.input_ids, output_hidden_states=False).pooler_output,
        )


class EditMatching:
    """The objective of [base.edits] on `examples`, whose latents are those of `space`."""

    def __init__(self, pipe: FluxKontextPipeline, config: BaseConfig, space: LatentSpace, examples: EditExamples) -> None:
        self.pipe, self.table, self.space, self.examples = pipe, config.edits, space, examples
        self.text = TrainableText(pipe, config.text.max_length)
        self.image_ids, self.text_ids = space.ids(), torch.zeros(config.text.max_length, 3)

    def loss(self, dice: Dice) -> Float[Tensor, ""]:
        """Mean loss of a batch drawn with `dice`: examples, which of them are asked without words, times, noise."""
        table = self.table
        source, target, prompts = self.examples.batch(dice.integers(table.batch, len(self.examples)))
        kept = dice.uniform(table.batch) >= table.drop_instruction
        prompts = [prompt if keep else "" for prompt, keep in zip(prompts, kept, strict=True)]
        time = torch.sigmoid(dice.normal(table.batch, ()) * table.time_std + table.time_mean)
        noise = dice.normal(table.batch, self.space.shape)
        velocity = self.velocity(torch.lerp(target, noise, time[:, None, None]), source, time, prompts)
        return flow_matching(velocity.float(), target, noise).mean()

    def velocity(
        self, noisy: Float[Tensor, "b t c"], source: Float[Tensor, "b t c"], time: Float[Tensor, " b"], prompts: Sequence[str]
    ) -> Float[Tensor, "b t c"]:
        """What the transformer predicts, in the recipe's precision."""
        states, pooled = self.text(prompts)
        with training_precision(self.table.precision):
            return self.pipe.transformer(
                hidden_states=torch.cat([noisy, source], dim=1), timestep=time, pooled_projections=pooled,
                encoder_hidden_states=states, txt_ids=self.text_ids, img_ids=self.image_ids, return_dict=False,
            )[0][:, : self.space.tokens]  # fmt: skip
