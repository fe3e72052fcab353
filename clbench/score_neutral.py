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
    """Scores outputs of one neutral case of one source; `base` is the base's picture of it, or why there is none."""

    def __init__(self, source: SourceScorer, case: Case, base: np.ndarray | str) -> None:
        self.source, self.case, self.base = source, case, base

    def rows(self, cases: Sequence[Case], outputs: Tensor) -> Iterator[Row]:
        """Rows of `cases` (n, all equal, one per run) with pictures `outputs` (n, 3, H, W) in [0, 1], each with its number."""
        wanted = self.source.scorer.wanted("neutral")
        values = self.source.likeness(f"general instruction '{self._edit.instruction}'", self._truth, outputs, wanted, False)
        if "neutral_distance" in wanted:
            values["neutral_distance"] = self._distance(outputs)
        if "neutral_leak_total" in wanted:
            values["neutral_leak_total"] = self.base if isinstance(self.base, str) else self._leak(outputs).sum(1)
        for name, value in values.items():
            yield from column(name, cases, value)
        yield from self._pairs(cases, outputs, wanted)

    def compared(self, outputs: Tensor) -> list[Pair]:
        """What will be compared by the perceptual network when `rows` is asked about `outputs`."""
        pairs = self.source.compared(self._truth, outputs, "neutral")
        if isinstance(self.base, str) or "neutral_distance" not in self.source.scorer.wanted("neutral"):
            return pairs
        return [*pairs, (outputs, to_tensor([self.base]))] if self.source.looks.perceptual is not None else pairs

    @cached_property
    def _edit(self) -> NeutralEdit:
        return neutral_edit(self.source.scorer.world, self.case)

    @cached_property
    def _truth(self) -> Truth:
        if self._edit.target is None:
            return Truth(None, np.zeros((0, 1, 1, 3), np.uint8), None, "the general instruction has many right answers")
        return Truth("operator", self._edit.target[None])

    def _distance(self, outputs: Tensor) -> Values:
        if self.source.looks.perceptual is None:
            return NO_PERCEPTUAL
        return self.base if isinstance(self.base, str) else self.source.looks.distances(outputs, to_tensor([self.base]))[:, 0]

    def _pairs(self, cases: Sequence[Case], outputs: Tensor, wanted: set[str]) -> Iterator[Row]:
        names = sorted({"attributed", "neutral_leak"} & wanted)
        if isinstance(self.base, str):
            for name in names:
                yield from column(name, cases, self.base)
            return
        if "attributed" in names:
            meter, version = self.source.scorer.meter, METRICS.get("attributed").version
            labels = meter.attribute(self._frame, meter.distances(self._frame, self._see(outputs)))
            found = enumerate(zip(cases, labels, strict=True))
            yield from ((number, Score(case, "attributed", version, 1.0, label)) for number, (case, label) in found)
        if "neutral_leak" in names:
            leak = self._leak(outputs)
            for number, other in enumerate(self._leaks.others):
                yield from column("neutral_leak", cases, leak[:, number], other)
            for other, reason in self.source.unknown.items():
                yield from column("neutral_leak", cases, reason, other)

    def _leak(self, outputs: Tensor) -> Tensor:
        return self.source.scorer.meter.leak(self._leaks, self._see(outputs))

    def _see(self, outputs: Tensor) -> Tensor:
        return self.source.scorer.meter.see(self.source.small(outputs))

    @cached_property
    def _frame(self):
        assert not isinstance(self.base, str)
        return neutral_frame(self.source.scorer.meter, self.source.frame, self.source.small(to_tensor([self.base]))[0])

    @cached_property
    def _leaks(self):
        return neutral_leaks(self.source.scorer.meter, self._frame)
