"""Metrics of compositions: are both effects of "first A, then B" in the picture, and in that order?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from clbench.metrics import METRICS
from clbench.metrics.bleeding import SOURCE, SourceFrame
from clbench.metrics.frames import BOTH, FIRST, REVERSED, SECOND, apart, composed_frame
from clbench.score_case import NO_PERCEPTUAL, Row, SourceScorer, Values, column, tensor
from clbench.score_looks import Pair
from clbench.truth import Truth
from clbench.types import Case, Score

SHOWN: Mapping[str, frozenset[str]] = {
    "both": frozenset({BOTH, REVERSED}),
    "first_shows": frozenset({BOTH, REVERSED, FIRST}),
    "second_shows": frozenset({BOTH, REVERSED, SECOND}),
}
"""The labels that count as a success of each metric."""
HIDDEN = "one of the two effects hides the other, so nobody can see whether both are there"
ALIKE = "both orders give the same picture"
NOT_BOTH = "the output does not show both effects, so it has no order"


class ComposedScorer:
    """Scores outputs of one ordered pair of effects on one source."""

    def __init__(self, source: SourceScorer, first: str, second: str) -> None:
        self.source, self.first, self.second = source, first, second

    def rows(self, cases: Sequence[Case], outputs: Tensor, reverses: Sequence[Tensor | None]) -> Iterator[Row]:
        """Rows of `cases` (n) with pictures `outputs` (n, 3, H, W) in [0, 1], each with the number of its case.

        `reverses` are the same run's pictures (3, H, W) of the other order, None where it made none.
        """
        wanted = self.source.scorer.wanted("composed")
        name, many = f"'{self.first}, then {self.second}'", len(self.truth.draws) > 1
        values = self.source.likeness(name, self.truth, outputs, wanted, many)
        if "order_change" in wanted:
            values["order_change"] = self._order_change(outputs, reverses)
        if wanted & {*SHOWN, "in_order", "attributed"}:
            yield from self._shown(cases, outputs, wanted)
        for metric, value in values.items():
            yield from column(metric, cases, value)

    def compared(self, outputs: Tensor, reverses: Sequence[Tensor | None]) -> list[Pair]:
        """What will be compared by the perceptual network when `rows` is asked about `outputs`."""
        pairs = self.source.compared(self.truth, outputs, "composed")
        if self.source.looks.perceptual is not None and "order_change" in self.source.scorer.wanted("composed"):
            turned = zip(outputs[:, None], reverses, strict=True)
            pairs += [(output, reverse[None]) for output, reverse in turned if reverse is not None]
        return pairs

    @cached_property
    def truth(self) -> Truth:
        return self.source.scorer.truths.sequence(self.first, self.second, self.source.id)

    @cached_property
    def frame(self) -> SourceFrame | str:
        """The meter's frame of this pair, or why there is none."""
        truths = self.source.scorer.truths
        other = truths.sequence(self.second, self.first, self.source.id)
        for truth in (self.truth, other, *(truths.truth(effect, self.source.id) for effect in (self.first, self.second))):
            if not truth.known:
                return truth.reason
        orders = {BOTH: self.source.small(tensor(self.truth)), REVERSED: self.source.small(tensor(other))}
        return composed_frame(self.source.scorer.meter, self.source.frame, self.first, self.second, orders)

    def _shown(self, cases: Sequence[Case], outputs: Tensor, wanted: set[str]) -> Iterator[Row]:
        names = [name for name in (*SHOWN, "in_order", "attributed") if name in wanted]
        frame, meter = self.frame, self.source.scorer.meter
        if isinstance(frame, str):
            for name in names:
                yield from column(name, cases, frame)
            return
        distance = meter.distances(frame, meter.see(self.source.small(outputs)))
        labels = meter.attribute(frame, distance)
        for name in names:
            if name == "attributed":
                version = METRICS.get(name).version
                found = enumerate(zip(cases, labels, strict=True))
                yield from ((number, Score(case, name, version, 1.0, label)) for number, (case, label) in found)
            elif name == "in_order":
                yield from self._in_order(cases, frame, distance, labels)
            else:
                yield from column(name, cases, self._success(frame, labels, SHOWN[name]))

    def _success(self, frame: SourceFrame, labels: Sequence[str], right: frozenset[str]) -> Values:
        """1 where the label is one of `right`; a reason where a right answer looks like a wrong one."""
        wrong = {FIRST, SECOND, SOURCE} - right
        meter = self.source.scorer.meter
        if not all(apart(meter, frame, one, other) for one in (BOTH, REVERSED) for other in wrong):
            return HIDDEN
        return torch.tensor([float(label in right) for label in labels])

    def _in_order(self, cases: Sequence[Case], frame: SourceFrame, distance: Tensor, labels: Sequence[str]) -> Iterator[Row]:
        if not apart(self.source.scorer.meter, frame, BOTH, REVERSED):
            yield from column("in_order", cases, ALIKE)
            return
        right, other = (distance[:, frame.labels.index(name)] for name in (BOTH, REVERSED))
        for number, case in enumerate(cases):
            shown = labels[number] in SHOWN["both"]
            value: Values = (right < other).float()[number : number + 1] if shown else NOT_BOTH
            yield from ((number, score) for _, score in column("in_order", [case], value))

    def _order_change(self, outputs: Tensor, reverses: Sequence[Tensor | None]) -> Values:
        if self.source.looks.perceptual is None:
            return NO_PERCEPTUAL
        found = torch.full((len(outputs),), torch.nan)
        for number, reverse in enumerate(reverses):
            if reverse is not None:
                found[number] = self.source.looks.distances(outputs[number : number + 1], reverse[None])[0, 0]
        return found
