"""What the base and the metric encoders are made of and how long they train: the recipe's [base] and [encoders]."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, model_validator

from clbench.tables import Table
from reference_trainer.precision import Precision

TRAINING_SPLITS = ("base", "teacher", "distill")
"""Splits that a training may look at: all of `clbench.scenes.SPLITS` but the one that systems are measured on."""


def _training_split(name: str) -> str:
    if name not in TRAINING_SPLITS:
        why = "systems are measured on it, so nothing trains on it" if name == "evaluation" else "there is no such split"
        raise ValueError(f"{why}; expected one of {', '.join(TRAINING_SPLITS)}")
    return name


Split = Annotated[str, AfterValidator(_training_split)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class VaeConfig(Table):
    """An AutoencoderKL of factor ``2 ** (len(channels) - 1)``; PSNR is the aim, so the loss is pixel error."""

    channels: tuple[Count, ...] = Field(default=(24, 48, 96), min_length=1)
    layers: Count = 1
    latents: Count = 8
    groups: Count = Field(default=8, description="of every normalisation; each of `channels` is a multiple")
    updates: Count = 3_000
    batch: int = Field(default=8, ge=2, description="an eighth of it is drawn patterns, at least one, and the rest scenes")
    lr: Rate = 3e-3
    muon_lr: Rate = 8e-3
    warmup: int = Field(default=50, ge=0)
    decay_share: Share = 0.4
    ema: float = Field(default=0.0, ge=0, lt=1)
    kl_weight: float = Field(default=1e-6, ge=0)
    scenes: Count = 6_000
    seed: int = Field(default=0, description="left out: the recipe's")

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent number."""
        return 2 ** (len(self.channels) - 1)

    @model_validator(mode="after")
    def _fits_together(self) -> VaeConfig:
        if odd := [width for width in self.channels if width % self.groups]:
            raise ValueError(f"each of channels must be a multiple of groups {self.groups}, {odd[0]} is not")
        return self


class TextConfig(Table):
    """Tokenizers and the two small text encoders, trained together with the transformer."""

    vocab: Count = 4_000
    max_length: int = Field(default=24, ge=2, description="tokens of a prompt for T5, the end mark included")
    pooled_length: int = Field(default=32, ge=3, description="tokens of a prompt for CLIP, both marks included")
    t5_width: Count = 128
    t5_layers: Count = 2
    t5_heads: Count = 4
    clip_width: Count = 96
    clip_layers: Count = 2
    clip_heads: Count = 4

    @model_validator(mode="after")
    def _fits_together(self) -> TextConfig:
        for name, width, heads in (("t5", self.t5_width, self.t5_heads), ("clip", self.clip_width, self.clip_heads)):
            if width % heads:
                raise ValueError(f"{name}_width {width} is not a multiple of {name}_heads {heads}")
        return self


class TransformerConfig(Table):
    """FluxTransformer2DModel: ``heads * head_dim`` wide; the rotary axes must add up to head_dim."""

    heads: Count = 4
    head_dim: Count = 32
    rope_axes: tuple[Count, Count, Count] = (8, 12, 12)
    double_blocks: int = Field(default=2, ge=0)
    single_blocks: int = Field(default=6, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> TransformerConfig:
        if sum(self.rope_axes) != self.head_dim:
            raise ValueError(f"rope_axes add up to {sum(self.rope_axes)}, but head_dim is {self.head_dim}")
        if odd := [axis for axis in self.rope_axes if axis % 2]:
            raise ValueError(f"each of rope_axes must be even, since it is rotated in pairs; {odd[0]} is not")
        if not self.double_blocks + self.single_blocks:
            raise ValueError("there is no block: double_blocks and single_blocks are both 0")
        return self


class EditConfig(Table):
    """Flow-matching pre-training on general edits: times are sigmoid(normal(mean, std))."""

    updates: Count = 12_000
    batch: Count = 24
    lr: Rate = 2e-3
    muon_lr: Rate = 1e-2
    warmup: int = Field(default=100, ge=0)
    decay_share: Share = 0.3
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Precision = "float32"
    drop_instruction: float = Field(default=0.1, ge=0, lt=1, description="share of empty prompts, for guidance")
    time_mean: float = 0.3
    time_std: float = Field(default=1.2, gt=0)
    scenes: Count = Field(default=10_000, description="rounded up to whole chunks of edit_examples.CHUNK")
    edits_per_scene: Count = 3
    checkpoint_every: Count = 250
    sheet_every: Count = 1_000
    seed: int = Field(default=0, description="left out: the recipe's")


class BaseConfig(Table):
    """The recipe's [base]: resolution in pixels and the four parts."""

    resolution: Count = 64
    split: Split = "base"
    vae: VaeConfig = Field(default_factory=VaeConfig)
    text: TextConfig = Field(default_factory=TextConfig)
    transformer: TransformerConfig = Field(default_factory=TransformerConfig)
    edits: EditConfig = Field(default_factory=EditConfig)

    @model_validator(mode="after")
    def _fits_together(self) -> BaseConfig:
        step = 2 * self.vae.factor  # the transformer sees patches of 2 x 2 latents
        if self.resolution % step:
            raise ValueError(f"resolution {self.resolution} is not a multiple of {step}, twice the factor of vae.channels")
        return self

    def seeded(self, seed: int) -> BaseConfig:
        """The same with the recipe's `seed` where a part names none of its own."""
        return self.model_copy(update={"vae": with_seed(self.vae, seed), "edits": with_seed(self.edits, seed)})


class EncodersConfig(Table):
    """The recipe's [encoders]: a small CLIP in open_clip's folder format, on scenes and effects."""

    splits: tuple[Split, ...] = Field(default=TRAINING_SPLITS, min_length=1)
    embed_dim: Count = 128
    image_width: int = Field(default=128, ge=32, multiple_of=32, description="in heads of 32")
    image_layers: Count = 5
    patch: Count = 8
    text_width: int = Field(default=128, ge=4, multiple_of=4, description="in four heads")
    text_layers: Count = 3
    context: int = Field(default=32, ge=2)
    vocab: Count = 4_000
    scenes: Count = Field(default=8_000, description="of all splits together, as many of each")
    effects_per_scene: int = Field(default=3, ge=0)
    updates: Count = 600
    batch: int = Field(default=192, ge=2, description="a picture is told from the others of its batch")
    lr: Rate = 1.5e-3
    muon_lr: Rate = 1e-2
    warmup: int = Field(default=30, ge=0)
    decay_share: Share = 0.4
    checkpoint_every: Count = 100
    seed: int = Field(default=0, description="left out: the recipe's")

    @model_validator(mode="after")
    def _fits_together(self) -> EncodersConfig:
        if len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits names one twice: {', '.join(self.splits)}")
        if self.scenes < len(self.splits):
            raise ValueError(f"scenes {self.scenes} are less than one for each of {len(self.splits)} splits")
        return self


T = TypeVar("T", VaeConfig, EditConfig, EncodersConfig)


def with_seed(table: T, seed: int) -> T:
    """`table` with `seed` unless the recipe names one there."""
    return table if "seed" in table.model_fields_set else table.model_copy(update={"seed": seed})
