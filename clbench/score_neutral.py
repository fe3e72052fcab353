"""Metrics of neutral questions: what a system made of a general instruction, against what the base made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from torch import Tensor

from clbench.calibration import to_tensor
from clbench.metrics import METRICS
from clbench.metrics.frames import neutral_frame, neutral_leaks
from clbench.neutral import NeutralEdit, neutral_edit
from clbench.score_case import NO_PERCEPTUAL, Row, SourceScorer, Values, column
from clbench.score_looks import Pair
from clbench.truth import Truth
from clbench.types import Case, Score


class NeutralScorer:
    """Scores `outputs` (n, 3, H, W) in [0, 1] of one neutral case; `base` is the base's picture of it, or why there is none."""

    def __init__(self, source: SourceScorer, case: Case, base: np.ndarray | str, outputs: Tensor) -> None:
        self.source, self.case, self.base, self.outputs = source, case, base, outputs

    def rows(self, cases: Sequence[Case]) -> Iterator[Row]:
        """Rows of `cases` (n, all equal, one per run), each with its number."""
        wanted = self.source.scorer.wanted("neutral")
        values = self.source.likeness(f"general instruction '{self._edit.instruction}'", self._truth, self.outputs, wanted, False)
        if "neutral_distance" in wanted:
            values["neutral_distance"] = self._distance()
        if "neutral_leak_total" in wanted:
            values["neutral_leak_total"] = self._blind or self._leak.sum(1)
        for name, value in values.items():
            yield from column(name, cases, value)
        yield from self._pairs(cases, wanted)

    def compared(self) -> list[Pair]:
        """What `rows` will compare by the perceptual network."""
        pairs = self.source.compared(self._truth, self.outputs, "neutral")
        if isinstance(self.base, str) or "neutral_distance" not in self.source.scorer.wanted("neutral"):
            return pairs
        return [*pairs, (self.outputs, to_tensor([self.base]))] if self.source.looks.perceptual is not None else pairs

    @cached_property
    def _edit(self) -> NeutralEdit:
        return neutral_edit(self.source.scorer.world, self.case)

    @cached_property
    def _truth(self) -> Truth:
        if self._edit.target is None:
            return Truth(None, np.zeros((0, 1, 1, 3), np.uint8), None, "the general instruction has many right answers")
        return Truth("operator", self._edit.target[None])

    def _distance(self) -> Values:
        if self.source.looks.perceptual is None:
            return NO_PERCEPTUAL
        if isinstance(self.base, str):
            return self.base
        return self.source.looks.distances(self.outputs, to_tensor([self.base]))[:, 0]

    def _pairs(self, cases: Sequence[Case], wanted: set[str]) -> Iterator[Row]:
        names = sorted({"attributed", "neutral_leak"} & wanted)
        if self._blind:
            for name in names:
                yield from column(name, cases, self._blind)
            return
        if "attributed" in names:
            meter, version = self.source.scorer.meter, METRICS.get("attributed").version
            labels = meter.attribute(self._frame, meter.distances(self._frame, self._seen))
            found = enumerate(zip(cases, labels, strict=True))
            yield from ((number, Score(case, "attributed", version, 1.0, label)) for number, (case, label) in found)
        if "neutral_leak" in names:
            for number, other in enumerate(self._leaks.others):
                yield from column("neutral_leak", cases, self._leak[:, number], other)
            for other, reason in self.source.unknown.items():
                yield from column("neutral_leak", cases, reason, other)

    @cached_property
    def _blind(self) -> str:
        """Why no effect can be seen here, or ""."""
        if isinstance(self.base, str):
            return self.base
        return "" if self.source.frame.truths else "no effect's truth is known on this source, so none could be seen"

    @cached_property
    def _leak(self) -> Tensor:
        return self.source.scorer.meter.leak(self._leaks, self._seen)

    @cached_property
    def _seen(self) -> Tensor:
        return self.source.scorer.meter.see(self.source.small(self.outputs))

    @cached_property
    def _frame(self):
        assert not isinstance(self.base, str)
        return neutral_frame(self.source.scorer.meter, self.source.frame, self.source.small(to_tensor([self.base]))[0])

    @cached_property
    def _leaks(self):
        return neutral_leaks(self.source.scorer.meter, self._frame)
