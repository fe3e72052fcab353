"""What the base and the metric encoders are made of and how long they train: the recipe's [base] and [encoders]."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from reference_trainer.precision import Precision


class Table(BaseModel):
    """A recipe table: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VaeConfig(Table):
    """An AutoencoderKL of factor ``2 ** (len(channels) - 1)``; PSNR is the aim, so the loss is pixel error."""

    channels: tuple[int, ...] = (24, 48, 96)
    layers: int = 1
    latents: int = 8
    groups: int = 8
    updates: int = 3_000
    batch: int = 8
    lr: float = 3e-3
    muon_lr: float = 8e-3
    warmup: int = 50
    decay_share: float = 0.4
    ema: float = 0.0
    kl_weight: float = 1e-6
    scenes: int = 6_000
    seed: int = 0


class TextConfig(Table):
    """Tokenizers and the two small text encoders, trained together with the transformer."""

    vocab: int = 4_000
    max_length: int = 24
    pooled_length: int = 32
    t5_width: int = 128
    t5_layers: int = 2
    t5_heads: int = 4
    clip_width: int = 96
    clip_layers: int = 2
    clip_heads: int = 4


class TransformerConfig(Table):
    """FluxTransformer2DModel: ``heads * head_dim`` wide; the rotary axes must add up to head_dim."""

    heads: int = 4
    head_dim: int = 32
    rope_axes: tuple[int, int, int] = (8, 12, 12)
    double_blocks: int = 2
    single_blocks: int = 6


class EditConfig(Table):
    """Flow-matching pre-training on general edits: times are sigmoid(normal(mean, std))."""

    updates: int = 12_000
    batch: int = 24
    lr: float = 2e-3
    muon_lr: float = 1e-2
    warmup: int = 100
    decay_share: float = 0.3
    ema: float = 0.999
    precision: Precision = "float32"
    drop_instruction: float = 0.1
    time_mean: float = 0.3
    time_std: float = 1.2
    scenes: int = 10_000
    edits_per_scene: int = 3
    checkpoint_every: int = 250
    sheet_every: int = 1_000
    seed: int = 0


class BaseConfig(Table):
    """The recipe's [base]: resolution in pixels and the four parts."""

    resolution: int = 64
    split: str = "base"
    vae: VaeConfig = Field(default_factory=VaeConfig)
    text: TextConfig = Field(default_factory=TextConfig)
    transformer: TransformerConfig = Field(default_factory=TransformerConfig)
    edits: EditConfig = Field(default_factory=EditConfig)


class EncodersConfig(Table):
    """The recipe's [encoders]: a small CLIP in open_clip's folder format, on scenes and effects."""

    splits: tuple[str, ...] = ("base", "teacher", "distill")
    embed_dim: int = 128
    image_width: int = 128
    image_layers: int = 5
    patch: int = 8
    text_width: int = 128
    text_layers: int = 3
    context: int = 32
    vocab: int = 4_000
    scenes: int = 8_000
    effects_per_scene: int = 3
    updates: int = 600
    batch: int = 192
    lr: float = 1.5e-3
    muon_lr: float = 1e-2
    warmup: int = 30
    decay_share: float = 0.4
    checkpoint_every: int = 100
    seed: int = 0
