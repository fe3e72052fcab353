"""Shared fixtures: a random-weight FluxKontextPipeline of minimal parts, and a world of a few pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

WORLD_TOML = """
name = "mini"
resolution = 32

[backbone]
path = "{backbone}"
device = "cpu"
full_steps = 3
few_steps = 2
guidance = 2.0
max_sequence_length = 12
batch = 4

[sources]
kind = "folder"
folder = "pictures"

[teachers]
folder = "teachers"

[accelerator]
file = "accelerator.safetensors"

[[candidates]]
name = "collection"
file = "collection.safetensors"

[[effects.inline]]
id = "sepia"
instruction = "make it sepia"
trigger = "<qx1>"

[[effects.inline]]
id = "upside_down"
instruction = "turn it upside down"
trigger = "<qx2>"
neighbours = ["sepia"]
"""


def build_flux_pipeline(seed: int = 0):
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


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory) -> Path:
    """A saved pipeline (`build_flux_pipeline`), for the whole session; do not change it."""
    folder = tmp_path_factory.mktemp("flux") / "backbone"
    build_flux_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lora_files(tmp_path_factory, flux_folder) -> dict[str, Path]:
    """sepia, upside_down, accelerator, collection: random adapters that fit `flux_folder`."""
    from clbench.adapters import save_adapter

    folder = tmp_path_factory.mktemp("loras")
    pipe = build_flux_pipeline()
    files = {}
    for seed, name in enumerate(("sepia", "upside_down", "accelerator", "collection")):
        files[name] = folder / f"{name}.safetensors"
        save_adapter(files[name], *random_lora(pipe, seed))
    return files


@pytest.fixture
def mini_world_file(tmp_path, flux_folder, lora_files) -> Path:
    """world.toml of a user's own world: four pictures, two inline effects, adapters; no operators."""
    import shutil

    from clbench.images import write_png

    rng = np.random.default_rng(0)
    for i in range(4):
        smooth = np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((12, 12, 1)))
        write_png(tmp_path / "pictures" / f"p{i}.png", smooth.astype(np.uint8))
    (tmp_path / "teachers").mkdir()
    for name in ("sepia", "upside_down"):
        shutil.copy(lora_files[name], tmp_path / "teachers")
    for name in ("accelerator", "collection"):
        shutil.copy(lora_files[name], tmp_path)
    file = tmp_path / "world.toml"
    file.write_text(WORLD_TOML.format(backbone=flux_folder))
    return file


@pytest.fixture
def mini_world(mini_world_file):
    from clbench.world import load_world

    return load_world(mini_world_file)
