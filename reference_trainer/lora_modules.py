"""Which linear layers of a transformer carry an adapter, by their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from diffusers import FluxTransformer2DModel
from torch import nn

Modules = Literal["all", "attention"]


def target_modules(transformer: FluxTransformer2DModel, modules: Modules = "all") -> list[str]:
    """Full names of the linear layers that carry an adapter.

    `all` is the paper's list: attention, feed-forward and modulation of every block; `attention` leaves the
    last two kinds out. Embedders and the output layer carry none.
    """
    linear = [
        name.removesuffix(".base_layer")  # where an adapter has been put in already
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    ]
    return adapted(linear, modules)


def adapted(linear: Iterable[str], modules: Modules) -> list[str]:
    """Those of a transformer's linear layers that carry an adapter, by their names."""
    names = [name for name in linear if name.split(".")[0] in ("transformer_blocks", "single_transformer_blocks")]
    return [n for n in names if ".attn." in n] if modules == "attention" else names
