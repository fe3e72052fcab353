"""The recipe's [teachers] and [joint]: flow matching on before/after pairs."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from clbench.types import PromptKind
from reference_trainer.config import HabitsTable, LoraTable, registered
from reference_trainer.passes_config import PassesTable
from reference_trainer.schedule import SCORE_TIME


class PairsConfig(PassesTable):
    """What teachers and the joint LoRA share: flow matching on before/after pairs."""

    lora: LoraTable = LoraTable()
    pairs: int = Field(default=20, ge=1, description="before/after pairs per effect")
    folder: str | None = Field(
        default=None,
        description="<effect>/source and target; relative to the current folder, ~ is the home. None: known operators on scenes",
    )
    updates: int = Field(default=250, ge=1)
    batch: int = Field(default=8, ge=1, description="of each process")
    lr: float = Field(default=2e-3, gt=0)
    warmup: int = Field(default=10, ge=0, description="updates of linear warm-up")
    decay: bool = Field(default=True, description="cosine decay of the learning rate to a tenth")
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    time: str = "shifted"
    prompt_dropout: float = Field(default=0.1, ge=0, le=1, description="share of empty prompts, for guidance")
    habits: HabitsTable = HabitsTable()

    _time = field_validator("time")(lambda name: registered(SCORE_TIME, name))

    @model_validator(mode="after")
    def _no_warm_start(self) -> PairsConfig:
        if self.habits.keep_warm_start:
            raise ValueError("there is no warm start to keep here: leave habits.keep_warm_start out")
        self.habits.require_no_gauges()
        return self


class TeachersConfig(PairsConfig):
    """[teachers]: one recipe for all effect teachers."""


class JointConfig(PairsConfig):
    """[joint]: one LoRA on all pairs of all effects at once, the baseline that distillation has to beat."""

    lora: LoraTable = LoraTable(rank=32)
    updates: int = Field(default=2000, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    prompt: PromptKind = "aop"
