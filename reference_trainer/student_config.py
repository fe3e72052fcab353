"""Few-step distillation of a student: what [accelerator], [collection] and [extension] share, and [accelerator] itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from clbench.tables import Table
from reference_trainer.config import HabitsTable, LoraTable, registered
from reference_trainer.losses import GUIDANCE
from reference_trainer.passes_config import PassesTable
from reference_trainer.schedule import ABOVE_SCORE_TIME, ANCHOR_TIME, SCORE_TIME, TARGET_GENERATION, TARGET_SCORE


def _warm_time(name: str) -> str:
    if registered(ANCHOR_TIME, name) in ABOVE_SCORE_TIME:
        known = ", ".join(n for n in ANCHOR_TIME.names() if n not in ABOVE_SCORE_TIME)
        raise ValueError(f"a warm start draws no time of distribution matching to lie above; expected one of {known}")
    return name


class LossesTable(Table):
    """The three parts of C2F-DO, each with a switch and a weight (the paper: all on, equal weights)."""

    dmd_bs: bool = True
    dmd_ts: bool = True
    ta_fm: bool = True
    dmd_bs_weight: float = Field(default=1.0, ge=0)
    dmd_ts_weight: float = Field(default=1.0, ge=0)
    ta_fm_weight: float = Field(default=1.0, ge=0)

    @property
    def effective(self) -> frozenset[str]:
        """Names of the losses that are switched on and weigh something."""
        weights = {
            "dmd_bs": self.dmd_bs * self.dmd_bs_weight,
            "dmd_ts": self.dmd_ts * self.dmd_ts_weight,
            "ta_fm": self.ta_fm * self.ta_fm_weight,
        }
        return frozenset(name for name, weight in weights.items() if weight)

    @model_validator(mode="after")
    def _something(self) -> LossesTable:
        if not self.effective:
            raise ValueError("all losses are switched off or have weight 0")
        return self


class TimesTable(Table):
    """Named samplers of times; `paper` and `code` where the paper and its public code differ."""

    score: str = "shifted"
    fake_score: str = "shifted"
    target_generation: str = "paper"
    target_score: str = "paper"
    anchor: str = "paper"

    _score = field_validator("score", "fake_score")(lambda name: registered(SCORE_TIME, name))
    _generation = field_validator("target_generation")(lambda name: registered(TARGET_GENERATION, name))
    _target = field_validator("target_score")(lambda name: registered(TARGET_SCORE, name))
    _anchor = field_validator("anchor")(lambda name: registered(ANCHOR_TIME, name))


class StudentConfig(PassesTable):
    """What accelerator and collection share: few-step distillation of a student."""

    lora: LoraTable = LoraTable(rank=32)
    fake_lora: LoraTable | None = Field(default=None, description="None: as the student's")
    updates: int = Field(default=500, ge=1, description="student updates")
    warm_start: int = Field(default=0, ge=0, description="of these, first updates with joint flow matching alone")
    warm_batch: int | None = Field(default=None, ge=1, description="batch of the warm start, of each process; None: `batch`")
    warm_target: Literal["outputs", "teacher"] = Field(
        default="outputs",
        description="what the warm start matches where noise is mixed into a stored output y: outputs: eps - y; teacher: what "
        "the teacher predicts there",
    )
    warm_time: str = Field(default="uniform", description="time of the warm start, by a name of times.anchor other than code")
    fake_start: Literal["student", "base"] = Field(
        default="student", description="the fake score where the student no longer is the plain base: a copy of it, or the base"
    )
    batch: int = Field(default=8, ge=1, description="of each process")
    steps: int = Field(default=4, ge=1, description="sampling steps of the student; the world samples in its own few_steps")
    shift: float = Field(default=3.0, gt=0, description="shift of the student's times; the world must have it too")
    fake_updates: int = Field(default=5, ge=0, description="fake-score updates per student update")
    fake_samples: Literal["exits", "finished"] = Field(
        default="exits",
        description="what the fake score learns from: the student's x0 at a random step, as the public code, or at the last one",
    )
    rollout: Literal["shared", "fresh"] = Field(
        default="shared", description="shared: one rollout serves all updates of a round; fresh: one for each"
    )
    lr: float = Field(default=5e-4, gt=0)
    distill_lr: float | None = Field(
        default=None,
        gt=0,
        description="the student's after warm_start (of 0 too: then there is no other), with a warm-up of its own; None: lr, "
        "without one",
    )
    lr_decay: bool = Field(
        default=False, description="cosine decay of the student's rate to a tenth, in each phase where distill_lr parts them"
    )
    fake_lr: float = Field(default=5e-4, gt=0)
    warmup: int = Field(default=10, ge=0, description="updates of linear warm-up, of the student again where distill_lr begins")
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=10.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1, description="0: no averaging; else the decay per student update")
    guidance: float | None = Field(default=None, ge=0, description="weight of the teacher's guidance; None: the world's")
    guidance_convention: str = "usual"
    losses: LossesTable = LossesTable()
    times: TimesTable = TimesTable()
    general_sources: int = Field(default=256, ge=0, description="examples of the general stream")
    general_targets: bool = Field(default=False, description="store the base's outputs for the general stream too")
    target_steps: int | None = Field(default=None, ge=1, description="steps of stored outputs; None: the world's full steps")
    target_guidance: float | None = Field(default=None, ge=0, description="guidance of stored outputs; None: the world's")
    pictures: str | None = Field(
        default=None,
        description="folder of source pictures; relative to the current folder, ~ is the home. None: the world's scenes",
    )
    habits: HabitsTable = HabitsTable()

    _warm_time = field_validator("warm_time")(_warm_time)
    _guidance = field_validator("guidance_convention")(lambda name: registered(GUIDANCE, name))

    def starts_elsewhere(self) -> bool:
        """Whether the student is something else than the plain base when distillation begins."""
        return self.warm_start > 0

    def without_outputs(self) -> str:
        """What to change where no stream has stored outputs, of which a warm start and all losses but DMD_BS live; else ""."""
        return ""

    @model_validator(mode="after")
    def _within(self) -> StudentConfig:
        if self.warm_start > self.updates:
            raise ValueError(f"warm_start {self.warm_start} is more than updates {self.updates}")
        if self.habits.keep_warm_start and not self.warm_start:
            raise ValueError("habits.keep_warm_start needs warm_start updates")
        if self.starts_elsewhere() and self.fake_start == "student" and self.fake_lora not in (None, self.lora):
            raise ValueError('a fake score that starts as the student has its LoRA: leave fake_lora out, or fake_start = "base"')
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> StudentConfig:
        remedy = self.without_outputs()
        if remedy and self.warm_start:
            raise ValueError(f"a warm start learns from stored outputs, and no stream has any: {remedy}")
        if remedy and "dmd_bs" not in self.losses.effective:
            raise ValueError(f"the losses that count learn from stored outputs, and no stream has any: {remedy}")
        return self


class AcceleratorConfig(StudentConfig):
    """[accelerator]: the plain base as the only teacher, general stream alone."""

    general_sources: int = Field(default=256, ge=1)
    general_targets: bool = True

    def without_outputs(self) -> str:
        return "" if self.general_targets else "set general_targets = true"

    @model_validator(mode="after")
    def _no_gauges(self) -> AcceleratorConfig:
        self.habits.require_no_gauges()
        return self
