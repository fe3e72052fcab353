"""The tables of a world file, as pydantic models; every key is documented in the tiny world's world.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from clbench.tables import Table
from clbench.types import Effect, PromptKind, Scope

SamplerKind = Literal["stochastic", "euler"]
"""x0 is predicted and noised again, or Euler steps."""


class BackboneTable(Table):
    """[backbone]: the frozen base model and how it is sampled."""

    kind: Literal["flux-kontext", "qwen-image-edit"] = "flux-kontext"
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    batch: int = Field(16, ge=1)
    fold: bool = True
    fast_products: bool = False
    full_steps: int = Field(28, ge=1)
    few_steps: int = Field(8, ge=1)
    guidance: float = Field(4.0, ge=1.0)
    embedded_guidance: float = Field(3.5, gt=0)
    negative_prompt: str = ""
    few_sampler: SamplerKind = "stochastic"
    shift: float = Field(3.0, gt=0)
    full_shift: float | None = Field(None, gt=0)
    max_sequence_length: int = Field(512, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> BackboneTable:
        if (self.path is None) == (self.hub is None):
            raise ValueError("name the backbone by exactly one of 'path' (a folder) and 'hub' (a hub name)")
        if self.fast_products and self.dtype != "float32":
            raise ValueError(f"fast_products is for dtype = 'float32'; products of '{self.dtype}' are in half precision already")
        return self

    @property
    def precision(self) -> str:
        """What a measurement says of its arithmetic: the dtype, and whether products are rounded."""
        return f"{self.dtype}, products in bfloat16" if self.fast_products else self.dtype

    def few_step_times(self, sampler: SamplerKind | None = None, shift: float | None = None) -> tuple[bool, float | None]:
        """Whether few-step systems sample stochastically, and with which static shift (None: the model's own schedule).

        `sampler` and `shift` are what their LoRA says for itself. Euler steps that name no shift take the full-step schedule.
        """
        stochastic = (sampler or self.few_sampler) == "stochastic"
        return stochastic, (self.shift if stochastic else self.full_shift) if shift is None else shift

    @property
    def arithmetic(self) -> str:
        """What a run's certificate says: `precision`, and the batch in half precision, where a picture differs with it."""
        return self.precision if self.dtype == "float32" else f"{self.precision}, batches of {self.batch}"


class EffectTable(Table):
    """[[effects.inline]]: an effect of the user's own; only id and instruction are required."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    instruction: str
    name: str = ""
    family: str = "custom"
    caption: str = ""
    trigger: str = ""
    neighbours: tuple[str, ...] = ()
    operator: str | None = None
    random: bool = False
    scope: Scope = "image"
    pool: Literal["collection", "extension"] = "collection"
    paraphrases: tuple[str, ...] = ()

    def effect(self) -> Effect:
        plain = self.model_dump()
        plain["name"] = self.name or self.id.replace("_", " ")
        plain["caption"] = self.caption or self.instruction
        plain["trigger"] = self.trigger or f"<{self.id}>"
        return Effect(**plain)


class EffectsTable(Table):
    """[effects]: a catalogue file, tables in place, or both."""

    file: str | None = None
    inline: tuple[EffectTable, ...] = ()


class SourcesTable(Table):
    """[sources]: where the source pictures come from."""

    kind: Literal["scenes", "folder"]
    folder: str
    split: str = "evaluation"
    count: int | None = Field(None, ge=1)
    size: int | None = Field(None, ge=8)
    licence: str = "not stated"

    @model_validator(mode="after")
    def _scenes_have_a_count(self) -> SourcesTable:
        if self.kind == "scenes" and self.count is None:
            raise ValueError("kind = 'scenes' needs 'count', the number of scenes")
        return self


class TeachersTable(Table):
    """[teachers]: a folder with ``<effect id>.safetensors``, or an explicit file per effect; weights other than 1."""

    folder: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)


class FewStepTable(Table):
    """What a few-step LoRA may say of its own sampling; left out = the world's."""

    steps: int | None = Field(None, ge=1)
    sampler: SamplerKind | None = None
    shift: float | None = Field(None, gt=0)
    embedded_guidance: float | None = Field(None, gt=0)


class AcceleratorTable(FewStepTable):
    """[accelerator]: the few-step LoRA of the cascade and the weights both LoRAs get there."""

    file: str
    weight: float = 1.0
    teacher_weight: float = 1.0


class CandidateTable(FewStepTable):
    """[[candidates]]: a collection adapter under test.

    `effects` are the ids it was trained on (left out: those that its file names; where it names none, every effect);
    `extends` names the candidate that it was trained on from, so that old and new effects can be told apart. `prompt` is
    what it was trained with: trigger and caption (aop), the caption or the instruction; left out = what its file says, else aop.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    file: str
    weight: float = 1.0
    effects: tuple[str, ...] = ()
    extends: str | None = None
    prompt: PromptKind | None = None


class JointTable(Table):
    """[joint]: one LoRA trained on all pairs of all effects, a baseline for the candidates, sampled as the teachers are."""

    file: str
    weight: float = 1.0
    embedded_guidance: float | None = Field(None, gt=0)


class MergedTable(Table):
    """[merged]: how the teachers are merged into one LoRA (systems merged-<method>); see `clbench.merging`."""

    weight: float | None = Field(default=None, gt=0)
    density: float = Field(default=0.5, gt=0, le=1)
    rank: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)


class EncodersTable(Table):
    """[encoders]: names or local files of the metric encoders (see `clbench.encoders`)."""

    clip: str = ""
    perceptual: str = "st-lpips"


class ReferencesTable(Table):
    """[references]: a folder with one folder per effect id, each with source/ and target/."""

    folder: str


class WorldTable(Table):
    """The whole file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    resolution: int = Field(ge=8)
    backbone: BackboneTable
    effects: EffectsTable
    sources: SourcesTable
    teachers: TeachersTable = TeachersTable()
    accelerator: AcceleratorTable | None = None
    candidates: tuple[CandidateTable, ...] = ()
    joint: JointTable | None = None
    merged: MergedTable = MergedTable()
    encoders: EncodersTable = EncodersTable()
    references: ReferencesTable | None = None

    @model_validator(mode="after")
    def _guidance_is_an_input(self) -> WorldTable:
        tables = {"accelerator": self.accelerator, "joint": self.joint}
        tables |= {f"candidate {table.name}": table for table in self.candidates}
        for name, table in tables.items():
            if table is not None and table.embedded_guidance is not None and self.backbone.kind == "qwen-image-edit":
                raise ValueError(
                    f"embedded_guidance = {table.embedded_guidance} of the {name} has no effect: Qwen-Image-Edit takes no "
                    "guidance as an input, as FLUX does; remove it"
                )
        return self
