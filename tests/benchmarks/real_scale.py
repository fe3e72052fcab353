"""Arithmetic, no measurement: memory of one backbone against three copies at the size of real models.

    python tests/benchmarks/real_scale.py [--ranks 16 64 128] [--teachers 1 8 50]

Shapes come from diffusers' own model classes with their default configurations, which are those of FLUX.1 and of
Qwen-Image, put together without any weights. Counted are a backbone's weights in 2 bytes, student and fake score in
16 bytes a parameter (float32 weight, gradient and two moments, as this trainer keeps them), teachers in 2 bytes. With
three copies one teacher lies in the third transformer and the others outside of the device; with one backbone the
table says how many teachers lie on the device. Activations are those that a pass of one row keeps when blocks are computed again:
the input of each block, 2 bytes a number, equal in both layouts; what one block needs within itself, latents, prompts,
VAE, text encoders and buffers are left out in both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel, QwenImageTransformer2DModel
from torch import nn

TOKENS = 2 * 64 * 64 + 512  # latents of a 1024 px picture and of its source, and the prompt, at most
BLOCKS = ("transformer_blocks", "single_transformer_blocks")
GB = 1e9


@dataclass(frozen=True)
class Shape:
    """Parameters of a transformer, of an adapter of rank 1 over it, and its kept numbers per token of a pass."""

    name: str
    backbone: int
    adapter: int
    kept: int

    def shared(self, rank: int, teachers: int) -> float:
        """Bytes of one backbone with `teachers` on the device."""
        return 2 * self.backbone + (2 * 16 + 2 * teachers) * rank * self.adapter + self.activations

    def copies(self, rank: int) -> float:
        """Bytes of three copies, one teacher on the device."""
        return 3 * 2 * self.backbone + (2 * 16 + 2) * rank * self.adapter + self.activations

    @property
    def activations(self) -> int:
        return 2 * TOKENS * self.kept


def shape(name: str, model: nn.Module) -> Shape:
    """Counts of a model without weights; adapters lie on every linear layer of every block."""
    linear = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.split(".")[0] in BLOCKS]
    blocks = sum(len(getattr(model, key)) for key in BLOCKS if hasattr(model, key))
    width = model.inner_dim
    assert isinstance(width, int)
    parameters, adapter = sum(p.numel() for p in model.parameters()), sum(m.in_features + m.out_features for m in linear)
    return Shape(name, parameters, adapter, blocks * width)


def shapes() -> list[Shape]:
    with torch.device("meta"):
        return [
            shape("FLUX.1 Kontext", FluxTransformer2DModel(guidance_embeds=True)),
            shape("Qwen-Image-Edit", QwenImageTransformer2DModel()),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="*", default=[16, 64, 128])
    parser.add_argument("--teachers", type=int, nargs="*", default=[1, 8, 50], help="on the device, of the one backbone")
    asked = parser.parse_args()
    counts = " | ".join(f"one backbone, {n} teacher{'s' * (n > 1)}" for n in asked.teachers)
    print(f"| model | weights, GB | rank | an adapter, GB | three copies, GB | {counts} |")
    print("| --- " * (5 + len(asked.teachers)) + "|")
    for each in shapes():
        for rank in asked.ranks:
            theirs = each.copies(rank)
            ours = " | ".join(f"{each.shared(rank, n) / GB:.1f} ({each.shared(rank, n) / theirs:.2f} x)" for n in asked.teachers)
            print(
                f"| {each.name} | {2 * each.backbone / GB:.1f} | {rank} | {2 * rank * each.adapter / GB:.2f} | "
                f"{theirs / GB:.1f} | {ours} |"
            )


if __name__ == "__main__":
    main()
