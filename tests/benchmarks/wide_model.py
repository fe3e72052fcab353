"""A transformer of random weights that is wider than a world's, with teachers to go with it: for times and memory only."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from clbench.adapter_writing import save_adapter
from reference_trainer.lora_modules import target_modules

TEACHER_RANK = 8


def write_wide(folder: Path, narrow: Path, width: int, dtype: torch.dtype, teachers: int) -> None:
    """``folder/transformer``, as the one in `narrow` but `width` channels wide, and ``folder/teachers/<i>.safetensors``.

    Its heads are as large as there, so there are more of them. ValueError for a width that is no whole number of heads.
    """
    config = dict(FluxTransformer2DModel.load_config(narrow))
    heads, rest = divmod(width, config["attention_head_dim"])
    if rest or heads < 1:
        raise ValueError(f"a width of {width} is no whole number of heads of {config['attention_head_dim']} channels")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FluxTransformer2DModel.from_config(config | {"num_attention_heads": heads}).to(dtype)
    model.save_pretrained(folder / "transformer")
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for number in range(teachers):
        generator, factors = torch.Generator().manual_seed(number), {}
        for name in target_modules(model):
            out, into = layers[name].weight.shape
            factors[f"{name}.lora_A.weight"] = torch.randn(TEACHER_RANK, into, generator=generator) / into**0.5
            factors[f"{name}.lora_B.weight"] = torch.randn(out, TEACHER_RANK, generator=generator) / 100
        settings = {"r": TEACHER_RANK, "lora_alpha": TEACHER_RANK}
        path = folder / "teachers" / f"{number:04d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_adapter(path, factors, settings, {}, "bfloat16" if dtype == torch.bfloat16 else None)
