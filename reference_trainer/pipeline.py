"""Builds the tiny FluxKontextPipeline: real diffusers and transformers classes of small dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
from torch import nn

from reference_trainer.pretrain_config import BaseConfig
from reference_trainer.text import bpe_tokenizer, build_clip_text, build_t5, unigram_tokenizer
from reference_trainer.vae import build_vae

SHIFT = 3.0


def build_transformer(config: BaseConfig) -> FluxTransformer2DModel:
    """An untrained transformer whose blocks start as identities (adaLN-zero) and whose output starts at zero."""
    table = config.transformer
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * config.vae.latents,
        num_layers=table.double_blocks,
        num_single_layers=table.single_blocks,
        attention_head_dim=table.head_dim,
        num_attention_heads=table.heads,
        joint_attention_dim=config.text.t5_width,
        pooled_projection_dim=config.text.clip_width,
        guidance_embeds=False,
        axes_dims_rope=table.rope_axes,
    )
    for name, module in transformer.named_modules():
        modulates = name.endswith(("norm.linear", "norm1.linear", "norm1_context.linear"))
        if isinstance(module, nn.Linear) and (modulates or name == "proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return transformer


def build_pipeline(
    config: BaseConfig, corpus: Sequence[str], vae: AutoencoderKL | None = None, seed: int = 0
) -> FluxKontextPipeline:
    """A pipeline with untrained text encoders and transformer, and `vae` or an untrained autoencoder.

    `corpus` holds sentences with the words that should be one token each; anything else is spelled in pieces.
    """
    torch.manual_seed(seed)
    t5_tokenizer = unigram_tokenizer(corpus, config.text.vocab, config.text.max_length)
    clip_tokenizer = bpe_tokenizer(corpus, config.text)
    pipeline = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae or build_vae(config.vae, config.resolution),
        text_encoder=build_clip_text(config.text, clip_tokenizer),
        tokenizer=clip_tokenizer,
        text_encoder_2=build_t5(config.text, t5_tokenizer),
        tokenizer_2=t5_tokenizer,
        transformer=build_transformer(config),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
