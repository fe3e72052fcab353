"""A random-weight FluxKontextPipeline of minimal parts, and random LoRAs for it."""

from __future__ import annotations


def build_flux_pipeline(seed: int = 0, guidance_embeds: bool = False):
    """A FluxKontextPipeline of about 0.2 M random parameters; 32 px, 8 latent channels, f = 4."""
    import torch
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxKontextPipeline,
        FluxTransformer2DModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
        T5Config,
        T5EncoderModel,
        T5TokenizerFast,
    )

    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 6, 6),
        guidance_embeds=guidance_embeds,
    )  # fmt: skip
    vae = AutoencoderKL(
        latent_channels=8, block_out_channels=(16, 16, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=32, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0, scaling_factor=1.0,
    )  # fmt: skip
    characters = [chr(code) for code in range(33, 127)]
    vocabulary = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    clip_tokens = CLIPTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[])
    clip_tokens.model_max_length = 16
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=16, eos_token_id=len(vocabulary) - 1,
            bos_token_id=len(vocabulary) - 2, pad_token_id=len(vocabulary) - 1,
        )
    ).eval()  # fmt: skip
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in characters)]
    t5_tokens = T5TokenizerFast(vocab=pieces, extra_ids=0)
    t5 = T5EncoderModel(
        T5Config(vocab_size=len(pieces), d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
    ).eval()
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae, text_encoder=clip,
        tokenizer=clip_tokens, text_encoder_2=t5, tokenizer_2=t5_tokens, transformer=transformer,
    )  # fmt: skip


def random_lora(
    pipe, seed: int, rank: int = 4, targets: tuple[str, ...] = ("to_q", "to_k", "to_v"), scale=0.3
):
    """Random LoRA factors for modules whose last name is in `targets`, and their metadata."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, module in pipe.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] in targets:
            factors[f"{name}.lora_A.weight"] = (
                torch.randn(rank, module.in_features, generator=generator) * scale
            )
            factors[f"{name}.lora_B.weight"] = (
                torch.randn(module.out_features, rank, generator=generator) * scale
            )
    return factors, {"r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}


BLOCK_MODULES = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "net.0.proj", "net.2",
    "norm1.linear", "norm1_context.linear", "norm.linear", "proj_mlp", "blocks.0.proj_out",
)  # fmt: skip
"""Ends of the names of all linear layers in the blocks of `build_flux_pipeline`, the paper's list of LoRA targets."""


def full_lora(pipe, seed: int, rank: int = 4, skip: tuple[str, ...] = (), scale: float = 0.3):
    """Random LoRA factors for every linear layer in the blocks but those whose name ends in one of `skip`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, module in pipe.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(BLOCK_MODULES) and not (skip and name.endswith(skip)):
            factors[f"{name}.lora_A.weight"] = torch.randn(rank, module.in_features, generator=generator) * scale
            factors[f"{name}.lora_B.weight"] = torch.randn(module.out_features, rank, generator=generator) * scale
    modules = sorted({key.rsplit(".lora_", 1)[0] for key in factors})
    return factors, {"r": rank, "lora_alpha": 2 * rank, "target_modules": modules}


def converter_of_width(width: int):
    """diffusers' own reader of kohya's FLUX names, its one number of FLUX.1's width replaced by `width`."""
    import inspect

    from diffusers.loaders import lora_conversion_utils as room

    source = inspect.getsource(room._convert_kohya_flux_lora_to_diffusers)
    fixed = "dims=[3072, 3072, 3072, 12288]"
    assert source.count(fixed) == 1, "diffusers has changed; look at its converter again"
    names = dict(vars(room))
    exec(source.replace(fixed, f"dims={[width] * 3 + [4 * width]}"), names)
    return names["_convert_kohya_flux_lora_to_diffusers"]
