"""What a training takes of a CUDA device, and one sentence where there is no room for it, before anything long begins.

Weights of the pipeline and of adapters are counted, with what the optimizer keeps of those in training; activations are not.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import FluxKontextPipeline
from torch import nn

from clbench.adapters import AdapterInfo, describe_adapter
from clbench.registry import ClbenchError
from reference_trainer.config import LoraTable
from reference_trainer.lora_modules import adapted
from reference_trainer.networks import Backbone

TRAINED_BYTES = 16
"""Of each number in training, which is float32: itself, its gradient, and the two moments of AdamW."""


def require_pipeline_room(pipe: FluxKontextPipeline, device: torch.device, name: str) -> None:
    """ClbenchError unless the free memory of a CUDA device holds the pipeline's weights. Adapters come on top."""
    if device.type != "cuda":
        return
    gc.collect()  # a backbone that was open before, to choose triggers with
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    large = weight_bytes(pipe.transformer)
    held, half = str(pipe.transformer.dtype).removeprefix("torch."), 'dtype = "bfloat16" or '
    beside = weight_bytes(pipe.vae) + weight_bytes(pipe.text_encoder) + weight_bytes(pipe.text_encoder_2)
    if free < large + beside:
        raise ClbenchError(
            f"training needs {gigabytes(large + beside)} on {device} for the {held} weights of {name} alone (transformer "
            f"{gigabytes(large)}, autoencoder and text encoders {gigabytes(beside)}), but {gigabytes(free)} are free: "
            f"use a larger device, {'' if held == 'bfloat16' else half}device = \"cpu\" in the world file"
        )


def require_adapter_room(
    backbone: Backbone, stage: str, trained: Sequence[LoraTable], averaged: bool = False, frozen: Sequence[Path] = ()
) -> None:
    """ClbenchError unless the free memory of a CUDA device holds the adapters that are still to be put over the backbone.

    `trained` are the sizes of those in training, the first with a running average if `averaged`; `frozen` the files of those that
    lie on the device beside them.
    """
    if backbone.device.type != "cuda":
        return
    sizes = [_numbers(backbone, lora) for lora in trained]
    moving = sum(sizes) * TRAINED_BYTES + (4 * sizes[0] if averaged else 0)
    resting = sum(file_numbers(describe_adapter(path)) for path in frozen) * backbone.transformer.dtype.itemsize
    free = torch.cuda.mem_get_info(backbone.device)[0]
    if free < moving + resting:
        teachers = f" and {gigabytes(resting)} for {len(frozen)} teachers" if frozen else ""
        remedy = ', teachers_on = "cpu"' if frozen else ""
        raise ClbenchError(
            f"[{stage}] needs {gigabytes(moving)} on {backbone.device} for what it trains{teachers}, beside the backbone and "
            f"what passes take, but {gigabytes(free)} are free: use a larger device, a smaller lora.rank{remedy}"
        )


def _numbers(backbone: Backbone, lora: LoraTable) -> int:
    """Numbers of an adapter of this size over the backbone."""
    return sum(lora.rank * sum(backbone.shapes[name]) for name in adapted(backbone.shapes, lora.modules))


def file_numbers(info: AdapterInfo) -> int:
    """Numbers of an adapter's factors."""
    return sum(info.ranks[module] * sum(shape) for module, shape in info.shapes.items())


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def gigabytes(number: int) -> str:
    """ "1.5 GB" for 1.5 billion bytes."""
    return f"{number / 1e9:.1f} GB"
