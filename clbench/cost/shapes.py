"""Linear layers and parameters of diffusion transformers, by arithmetic over their published dimensions. Pure.

Sources: ``transformer/config.json`` of Qwen/Qwen-Image-Edit-2509 and black-forest-labs/FLUX.1-Kontext-dev, and the
module trees of diffusers' QwenImageTransformer2DModel and FluxTransformer2DModel, which the tests rebuild on the meta
device and compare name by name. The tiny base is the recipe `tiny` of the reference trainer, a small FLUX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TIMES = 256
"""Width of the sinusoidal time embedding in diffusers' Timesteps."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The eight attention layers of a double-stream block; all are width x width."""

Shapes = dict[str, tuple[int, int]]
"""Module name -> weight shape (out, in)."""


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer: its module name, and its weight's shape (out, into)."""

    name: str
    out: int
    into: int


@dataclass(frozen=True)
class Base:
    """A frozen transformer: its linear layers and the number of all its parameters."""

    name: str
    linears: tuple[Linear, ...]
    parameters: int


@dataclass(frozen=True, slots=True)
class FluxDimensions:
    """The keys of a FluxTransformer2DModel's config that shape it; `out_channels` None means `in_channels`."""

    num_layers: int
    num_single_layers: int
    num_attention_heads: int
    attention_head_dim: int
    joint_attention_dim: int
    pooled_projection_dim: int
    in_channels: int
    guidance_embeds: bool
    patch_size: int = 1
    out_channels: int | None = None

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True, slots=True)
class QwenDimensions:
    """The keys of a QwenImageTransformer2DModel's config that shape it."""

    num_layers: int
    num_attention_heads: int
    attention_head_dim: int
    joint_attention_dim: int
    in_channels: int
    out_channels: int
    patch_size: int = 2

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


def flux_base(name: str, dims: FluxDimensions) -> Base:
    """Double-stream blocks (attention 8, feed-forward 4, modulation 2), then single-stream blocks of 6 layers."""
    d = dims.width
    double = {f"attn.{part}": (d, d) for part in ATTENTION}
    double |= {"norm1.linear": (6 * d, d), "norm1_context.linear": (6 * d, d)}
    double |= _mlp("ff", d) | _mlp("ff_context", d)
    single = {f"attn.{part}": (d, d) for part in ("to_q", "to_k", "to_v")}
    single |= {"norm.linear": (3 * d, d), "proj_mlp": (4 * d, d), "proj_out": (d, 5 * d)}
    embedders = {"timestep_embedder": TIMES, "text_embedder": dims.pooled_projection_dim}
    if dims.guidance_embeds:
        embedders["guidance_embedder"] = TIMES
    shapes = _embedders("time_text_embed", embedders, d)
    shapes |= {"context_embedder": (d, dims.joint_attention_dim), "x_embedder": (d, dims.in_channels)}
    shapes |= _repeat("transformer_blocks", dims.num_layers, double)
    shapes |= _repeat("single_transformer_blocks", dims.num_single_layers, single)
    out = dims.in_channels if dims.out_channels is None else dims.out_channels
    shapes |= {"norm_out.linear": (2 * d, d), "proj_out": (dims.patch_size**2 * out, d)}
    # RMS norms over one head: of query and key of both streams, and of the single stream
    norms = dims.attention_head_dim * (4 * dims.num_layers + 2 * dims.num_single_layers)
    return base_of(name, shapes, norms)


def qwen_base(name: str, dims: QwenDimensions) -> Base:
    """Double-stream blocks only: attention 8, feed-forward 4, modulation 2 layers each."""
    d = dims.width
    block = {f"attn.{part}": (d, d) for part in ATTENTION}
    block |= {"img_mod.1": (6 * d, d), "txt_mod.1": (6 * d, d)} | _mlp("img_mlp", d) | _mlp("txt_mlp", d)
    shapes = _embedders("time_text_embed", {"timestep_embedder": TIMES}, d)
    shapes |= {"img_in": (d, dims.in_channels), "txt_in": (d, dims.joint_attention_dim)}
    shapes |= _repeat("transformer_blocks", dims.num_layers, block)
    shapes |= {"norm_out.linear": (2 * d, d), "proj_out": (dims.patch_size**2 * dims.out_channels, d)}
    norms = 4 * dims.attention_head_dim * dims.num_layers + dims.joint_attention_dim
    return base_of(name, shapes, norms)


def base_of(name: str, shapes: Mapping[str, tuple[int, int]], others: int) -> Base:
    """A base from its linear layers, each with a bias, and the number of parameters outside of them."""
    linears = tuple(Linear(module, out, into) for module, (out, into) in shapes.items())
    return Base(name, linears, others + sum(one.out * (one.into + 1) for one in linears))


def _mlp(name: str, d: int) -> Shapes:
    return {f"{name}.net.0.proj": (4 * d, d), f"{name}.net.2": (d, 4 * d)}


def _embedders(prefix: str, widths: Mapping[str, int], d: int) -> Shapes:
    """Two layers each: from the embedder's own width to the model's, then width x width."""
    shapes: Shapes = {}
    for name, width in widths.items():
        shapes |= {f"{prefix}.{name}.linear_1": (d, width), f"{prefix}.{name}.linear_2": (d, d)}
    return shapes


def _repeat(prefix: str, count: int, block: Mapping[str, tuple[int, int]]) -> Shapes:
    return {f"{prefix}.{i}.{name}": shape for i in range(count) for name, shape in block.items()}


QWEN_IMAGE_EDIT = QwenDimensions(
    num_layers=60, num_attention_heads=24, attention_head_dim=128, joint_attention_dim=3584, in_channels=64,
    out_channels=16, patch_size=2,
)  # fmt: skip
FLUX_KONTEXT = FluxDimensions(
    num_layers=19, num_single_layers=38, num_attention_heads=24, attention_head_dim=128, joint_attention_dim=4096,
    pooled_projection_dim=768, in_channels=64, guidance_embeds=True,
)  # fmt: skip
TINY = FluxDimensions(
    num_layers=2, num_single_layers=6, num_attention_heads=4, attention_head_dim=32, joint_attention_dim=128,
    pooled_projection_dim=96, in_channels=32, guidance_embeds=False,
)  # fmt: skip
