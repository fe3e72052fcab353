"""The tables of a recipe, one for each stage of `clbench train`; unknown keys and names are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clbench.adapter_writing import StoredDtype
from clbench.registry import ClbenchError, Registry
from clbench.tables import Table
from clbench.types import PromptKind
from reference_trainer import processes
from reference_trainer.losses import GUIDANCE
from reference_trainer.networks import LoraForward, Modules
from reference_trainer.precision import Precision
from reference_trainer.schedule import ABOVE_SCORE_TIME, ANCHOR_TIME, SCORE_TIME, TARGET_GENERATION, TARGET_SCORE
from reference_trainer.streams import ROUTING

LATER = frozenset(
    {
        "warm_start_from", "distill_lr", "target_guidance", "lr_decay", "warm_batch", "triggers", "warm_target", "warm_time",
        "wordings", "fake_samples",
    }
)  # fmt: skip
"""Options that are younger than finished trainings; see `settings`."""
BESIDE = frozenset({"habits", "folder", "pictures", "lora_forward", "rows", "checkpoint_blocks", "teachers_on"})
"""Options that change no number but by rounding; see `settings`."""


def _known(registry: Registry, name: str) -> str:
    try:
        registry.get(name)
    except ClbenchError as error:
        raise ValueError(str(error).removesuffix(".")) from None  # pydantic adds the file, the line and the key
    return name


def _warm_time(name: str) -> str:
    if _known(ANCHOR_TIME, name) in ABOVE_SCORE_TIME:
        known = ", ".join(n for n in ANCHOR_TIME.names() if n not in ABOVE_SCORE_TIME)
        raise ValueError(f"a warm start draws no time of distribution matching to lie above; expected one of {known}")
    return name


class LoraTable(Table):
    """Size of an adapter. `modules` all = attention, feed-forward and modulation, the paper's list."""

    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0, description="None: alpha = rank, scale 1")
    modules: Modules = "all"
    dtype: StoredDtype = Field(default="float32", description="of the exported file; what is trained is always float32")

    @property
    def alpha_value(self) -> float:
        return float(self.rank) if self.alpha is None else self.alpha


class HabitsTable(Table):
    """What every stage does besides training: checkpoints, logs, sample sheets."""

    checkpoint_every: int = Field(default=100, ge=1, description="updates between checkpoints")
    checkpoint_minutes: float = Field(
        default=20, gt=0, description="minutes after which the next update is followed by a checkpoint, whatever checkpoint_every"
    )
    keep: int = Field(default=2, ge=1, description="checkpoints kept")
    sheet_every: int = Field(default=250, ge=1, description="updates between sample sheets; one is made at update 0")
    sheet_rows: int = Field(default=8, ge=1)
    tensorboard: bool = True
    gauge_every: int = Field(default=250, ge=0, description="updates between readings of a collection's gauges; 0: never")
    gauge_scenes: int = Field(default=2, ge=1, description="validation scenes of the gauges")
    keep_warm_start: bool = Field(
        default=False, description="write <stage>-warm.safetensors into the stage's folder when a student's warm start ends"
    )

    def reads_gauges(self, updates: int) -> bool:
        """Whether a training of so many updates is long enough for a reading."""
        return 0 < self.gauge_every <= updates

    def require_no_gauges(self) -> None:
        """ValueError where the recipe says something of gauges, for stages that have none."""
        for name in ("gauge_every", "gauge_scenes"):
            if name in self.model_fields_set:
                raise ValueError(f"only collections and their extensions have gauges: leave habits.{name} out")


class PairsConfig(Table):
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
    lora_forward: LoraForward = "merged"
    rows: int | None = Field(
        default=None, ge=1, description="most rows of one pass through the transformer; None: all. Fewer need less memory"
    )
    checkpoint_blocks: bool = Field(
        default=False, description="compute a block's inner values again in the backward pass instead of keeping them"
    )
    precision: Precision = "float32"
    habits: HabitsTable = HabitsTable()

    _time = field_validator("time")(lambda name: _known(SCORE_TIME, name))

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

    _score = field_validator("score", "fake_score")(lambda name: _known(SCORE_TIME, name))
    _generation = field_validator("target_generation")(lambda name: _known(TARGET_GENERATION, name))
    _target = field_validator("target_score")(lambda name: _known(TARGET_SCORE, name))
    _anchor = field_validator("anchor")(lambda name: _known(ANCHOR_TIME, name))


class StudentConfig(Table):
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
    lora_forward: LoraForward = "merged"
    rows: int | None = Field(
        default=None, ge=1, description="most rows of one pass through the transformer; None: all. Fewer need less memory"
    )
    checkpoint_blocks: bool = Field(
        default=False, description="compute a block's inner values again in the backward pass instead of keeping them"
    )
    precision: Precision = "float32"
    habits: HabitsTable = HabitsTable()

    _warm_time = field_validator("warm_time")(_warm_time)
    _guidance = field_validator("guidance_convention")(lambda name: _known(GUIDANCE, name))

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

    _routing = field_validator("routing")(lambda name: _known(ROUTING, name))

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


def settings(table: PairsConfig | StudentConfig) -> dict[str, Any]:
    """What of a table decides the result: not how often it is looked at, nor how passes compute, nor where pictures lie.

    Keys of finished trainings are made of it, so an option that came later is left out while it has its default value. The
    batch is that of all processes.
    """
    values = table.model_dump(mode="json", exclude=set(BESIDE))
    defaults = type(table)().model_dump(mode="json", include=set(LATER & values.keys()))
    values = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
    for name in ("batch", "warm_batch"):
        if values.get(name) is not None:
            values[name] *= processes.count()
    if values.get("routing") == "every-20" and processes.count() > 1:  # drawn by each process for itself
        values["processes"] = processes.count()
    return values
