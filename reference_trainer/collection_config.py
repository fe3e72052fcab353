"""The recipe's [collection] and [extension]: distillation of every effect's teacher into one student."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from clbench.types import PromptKind
from reference_trainer.config import registered
from reference_trainer.streams import ROUTING
from reference_trainer.student_config import StudentConfig


class CollectionConfig(StudentConfig):
    """[collection]: both streams, every effect's teacher."""

    p_switch: float = Field(default=0.5, ge=0, le=1, description="probability of the effect stream")
    routing: str = "sample"
    effect_sources: int = Field(default=32, ge=1, description="stored teacher outputs per effect")
    prompt: PromptKind = "aop"
    triggers: Literal["world", "chosen"] = Field(
        default="world", description="chosen: made-up words whose prompts are closest to orthogonal, instead of the world's own"
    )
    wordings: tuple[str, ...] = Field(
        default=("{}",),
        description="what the student's caption is put into, drawn for each row: {} is the caption, and '{}' comes first",
    )
    warm_start_from: str = Field(
        default="base",
        description="where the student begins: base (plain), merged (the mean of all teachers, by SVD), or an adapter's file; "
        "a training that goes on from another draws anew with another seed only",
    )

    teachers_on: Literal["device", "cpu"] = Field(
        default="device",
        description="where teachers rest: beside the transformer, or on the CPU, from where each layer fetches its two matrices "
        "for a pass that asks that teacher",
    )

    _routing = field_validator("routing")(lambda name: registered(ROUTING, name))

    @field_validator("wordings")
    @classmethod
    def _wordings(cls, forms: tuple[str, ...]) -> tuple[str, ...]:
        if forms[:1] != ("{}",):
            raise ValueError("the first of the wordings must be \"{}\", the caption as it is: the student is asked in that")
        for form in forms:
            if form.count("{}") != 1 or form.replace("{}", "").count("{") or form.replace("{}", "").count("}"):
                raise ValueError(f"wording '{form}' must hold {{}} once, where the caption goes, and no other brace")
        if len(set(forms)) < len(forms):
            raise ValueError("one of the wordings is there twice")
        return forms

    def starts_elsewhere(self) -> bool:
        return super().starts_elsewhere() or self.warm_start_from != "base"

    def without_outputs(self) -> str:
        return "" if self.p_switch or self.general_targets else "set general_targets = true, or p_switch above 0"

    @model_validator(mode="after")
    def _resting_teachers(self) -> CollectionConfig:
        if self.teachers_on == "cpu" and self.lora_forward != "low-rank":
            raise ValueError(
                'teachers on the CPU would leave their merged weights on the device: with teachers_on = "cpu" set '
                'lora_forward = "low-rank"'
            )
        return self

    @model_validator(mode="after")
    def _streams(self) -> CollectionConfig:
        if self.p_switch < 1 and not self.general_sources:
            raise ValueError(
                f"with p_switch {self.p_switch:g} rows come from the general stream, but general_sources is 0: "
                "set p_switch = 1, or general_sources above 0"
            )
        return self

    @property
    def start_file(self) -> Path | None:
        """The adapter that the student starts as a copy of, if `warm_start_from` is a file."""
        return None if self.warm_start_from in ("base", "merged") else Path(self.warm_start_from).expanduser()


class ExtensionConfig(CollectionConfig):
    """[extension]: further effects for a finished collection adapter, whose size `lora` must name.

    `updates` and `warm_start` count for each new effect; student and fake score both start from the adapter.
    """

    updates: int = Field(default=100, ge=1, description="student updates for each new effect; the paper: 100")
    replay: float = Field(default=0.5, ge=0, lt=1, description="share of old effects in the effect stream; 0: no replay")

    @model_validator(mode="after")
    def _one_start(self) -> ExtensionConfig:
        if self.warm_start_from != "base":
            raise ValueError("an extension starts from its adapter: leave warm_start_from out")
        if self.fake_lora is not None and self.fake_lora != self.lora:
            raise ValueError("the fake score of an extension starts as a copy of the student: leave fake_lora out")
        if self.fake_start != "student":
            raise ValueError("the fake score of an extension starts as a copy of the student: leave fake_start out")
        return self
