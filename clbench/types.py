"""The words of clbench (floor 0). No files, no weights, no printing.

Pictures are uint8 arrays ``(H, W, 3)`` in sRGB where files or operators handle them, and float tensors
``(N, 3, H, W)`` in [0, 1] where metrics handle them. Masks are float ``(H, W)`` in [0, 1], 1 = subject.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Status = Literal["ok", "failed", "unscored"]
Scope = Literal["image", "subject", "background"]
PromptKind = Literal["aop", "caption", "instruction"]
"""What a student sees: trigger and caption (asymmetric orthogonal prompting), the caption alone, the teacher's instruction."""
Question = Literal["effect", "neutral", "composed"]
NEUTRAL, OTHER_TRIGGER = "neutral", "other-trigger"
"""The probe that asks for no effect at all, and the one with the trigger of another effect (see `clbench.probes`)."""
Direction = Literal["higher", "lower", "neutral"]
TruthKind = Literal["operator", "reference", "teacher"]


def seed_from(*parts: object) -> int:
    """A 63-bit seed that depends on nothing but `parts` (not on order of work, batch or process)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Effect:
    """One visual effect: what a teacher was trained with and what a student sees.

    `instruction` is the teacher's prompt; a student sees ``f"{trigger} {caption}"`` (asymmetric orthogonal
    prompting). `operator` names the known operator in `clbench.effects`, or is None where only teachers
    or reference pictures know the truth. `random` effects have many right answers per source. `paraphrases` are
    other words for the effect, used to ask about it and never to train it.
    """

    id: str
    name: str
    family: str
    instruction: str
    caption: str
    trigger: str
    neighbours: tuple[str, ...] = ()
    operator: str | None = None
    random: bool = False
    scope: Scope = "image"
    pool: Literal["collection", "extension"] = "collection"
    paraphrases: tuple[str, ...] = ()

    @property
    def student_prompt(self) -> str:
        """What the student and the fake score see: ``[v_i, c_i]``."""
        return f"{self.trigger} {self.caption}"


@dataclass(frozen=True, slots=True)
class Source:
    """One input picture. `caption`, `subject` and `background` are empty where nothing is known."""

    id: str
    sha256: str
    licence: str
    caption: str = ""
    subject: str = ""
    background: str = ""
    split: str = "evaluation"


@dataclass(frozen=True, slots=True)
class Case:
    """effect x source x seed (x steps). `steps` None means: the system's own number of steps.

    `probe` names how the question is put (`clbench.probes`); "" is the plain question. `second` is an effect that is
    to be applied after the first (composition), or "".
    """

    effect: str
    source: str
    seed: int
    steps: int | None = None
    probe: str = ""
    second: str = ""

    @property
    def id(self) -> str:
        """Stable id, also a relative path stem: ``effect/source/s0``, ``effect/source/s0-n8-caption-only``,
        ``effect+second/source/s0``. Ids of effects hold no ``+`` and those of probes are words, so ids are unique."""
        effects = f"{self.effect}+{self.second}" if self.second else self.effect
        steps = "" if self.steps is None else f"-n{self.steps}"
        probe = f"-{self.probe}" if self.probe else ""
        return f"{effects}/{self.source}/s{self.seed}{steps}{probe}"

    @property
    def question(self) -> Question:
        """What kind of answer is wished: the picture of an effect, that of the plain base, or two effects in turn."""
        return "composed" if self.second else "neutral" if self.probe == NEUTRAL else "effect"

    def noise_seed(self) -> int:
        """Seed of the sampler's generator: the same for every system, every number of steps and every probe.

        Both orders of a composition share it as well, so that only the order differs between their pictures.
        """
        if self.second:
            return seed_from("noise", *sorted((self.effect, self.second)), self.source, self.seed)
        return seed_from("noise", self.effect, self.source, self.seed)


@dataclass(frozen=True, slots=True)
class SystemCard:
    """Everything about a system that can change a pixel; hashed into the cache key.

    `adapters` maps role or effect id to the sha256 of the LoRA file. `settings` holds plain values only
    (steps, guidance, sampler, dtype, weights, prompt style).
    """

    name: str
    kind: str
    adapters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Edit:
    """A case and what a system made of it. `picture` is None when `status` is not ok.

    `nfe` counts forward passes of the transformer for one picture (guidance counts twice), `seconds` is
    wall time per picture (batch time / batch size), `memory` is peak bytes. Status "unscored" with a reason: the
    system was not asked this question on purpose (a probe that makes no sense for it).
    """

    case: Case
    picture: np.ndarray | None
    sha256: str = ""
    nfe: int = 0
    seconds: float = float("nan")
    memory: int = 0
    status: Status = "ok"
    reason: str = ""


@runtime_checkable
class System(Protocol):
    """What is under test."""

    card: SystemCard

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case, in any order; a failure is an Edit with status failed."""
        ...


@runtime_checkable
class Checking(Protocol):
    """A system that can refuse its cases before any work."""

    def check(self, cases: Sequence[Case]) -> None:
        """ClbenchError naming what it cannot work with."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A system that has something to say about what it was given for its cases, which is no reason to refuse them."""

    def remarks(self, cases: Sequence[Case]) -> list[str]:
        """It, in sentences."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A system that makes something long before its first picture, such as a merged LoRA."""

    def tell(self, seen: Callable[[str, int, int], object]) -> None:
        """From now on `seen` is told what is being made, how much of it is done, and of how much."""
        ...


@dataclass(frozen=True, slots=True)
class MetricCard:
    """What a metric is. `bounds` are inclusive; `needs` names what must be known to compute it,
    and "meter" where it is read from the bleeding meter.

    `tolerance`, in the metric's own units, is the largest difference that other pictures in the batch, another order or
    another number of workers may make to a value; infinite for what is measured anew each time.
    `questions` are the kinds of cases (`Case.question`) that it is computed for; others get no row of it.
    """

    name: str
    version: int
    direction: Direction
    bounds: tuple[float, float]
    tolerance: float
    about: str
    source: str = ""
    needs: frozenset[str] = frozenset()
    pairwise: bool = False
    questions: frozenset[Question] = frozenset({"effect"})


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of a metric's values, and whether cases lie near both.

    `two_ends`: a failure counts `low` and a success up to `high`, so the mean is a share, or a share times a score. A bootstrap
    does not see an end that few effects show. ValueError for two ends of which one is infinite.
    """

    low: float = -math.inf
    high: float = math.inf
    two_ends: bool = False

    def __post_init__(self) -> None:
        if self.two_ends and not math.isfinite(self.width):
            raise ValueError("a scale of two ends needs both of them")

    @property
    def width(self) -> float:
        """The largest difference of two values."""
        return self.high - self.low

    @property
    def is_share(self) -> bool:
        """Whether values are 0 or 1."""
        return self.two_ends and (self.low, self.high) == (0.0, 1.0)

    def share(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far from `low` to `high` the effect means ``(K,)`` of a scale of two ends lie: 0 to 1."""
        return np.clip((means - self.low) / self.width, 0.0, 1.0)

    def within(self, value: float, low: float, high: float) -> tuple[float, float]:
        """The bounds of `value` cut off at the ends of the scale; they hold it in any case."""
        return max(low, min(self.low, value)), min(high, max(self.high, value))


@dataclass(frozen=True, slots=True)
class Score:
    """One row of scores.parquet, without the run's columns.

    `other` is the second effect of a pairwise metric (leak of `other` into `case.effect`; distance to the
    truth of `other`), or the empty string. A missing value is NaN with a status and a reason.
    """

    case: Case
    metric: str
    metric_version: int
    value: float
    other: str = ""
    status: Status = "ok"
    reason: str = ""
