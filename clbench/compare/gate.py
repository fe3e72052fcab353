"""Conditions for CI: ``metric:+0.02`` fails when the second run is worse than the first by more than that."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.compare.sides import Matched, Side, card_of
from clbench.compare.table import Comparison, Line, is_share
from clbench.registry import ClbenchError

FailBy = Literal["estimate", "certain", "possible"]
"""What must pass the bound: the difference itself; the whole interval (certainly worse); any of it (maybe worse)."""
WRITTEN = re.compile(r"\s*(\w+)\s*:\s*([+-])\s*(\d+(?:\.\d*)?|\.\d+)\s*")
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class FailOn:
    """A bound on second - first: met above `bound` when `rising`, else below it."""

    metric: str
    bound: float
    rising: bool

    @property
    def text(self) -> str:
        return f"{self.metric}:{'+' if self.rising else '-'}{abs(self.bound):g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a condition is met for one system, at the steps, probe or composition `at` ("": the only one), in a sentence."""

    condition: FailOn
    system: str
    at: str
    met: bool
    sentence: str


def parse_fail_on(text: str) -> FailOn:
    """``"bleed_rate:+0.02"`` -> FailOn, in the metric's own unit (a share is 0..1).

    Raises ClbenchError for another form, an unknown metric, a bound that an improvement would meet, and one that no
    difference can pass.
    """
    read = WRITTEN.fullmatch(text)
    if read is None:
        raise ClbenchError(f"--fail-on '{text}' is not METRIC:+NUMBER or METRIC:-NUMBER, for example bleed_rate:+0.02")
    metric, sign, number = read.groups()
    card, rising = card_of(metric), sign == "+"
    direction, width = card.direction, card.bounds[1] - card.bounds[0]
    if direction != "neutral" and rising == (direction == "higher"):
        turned = f"{metric}:{'-' if rising else '+'}{number}"
        raise ClbenchError(f"--fail-on '{text}' would fail on an improvement ({direction} is better); write {turned}")
    if float(number) >= width:
        unit = "; it is a share, 0.02 are 2 points" if is_share(metric) else ""
        raise ClbenchError(f"--fail-on '{text}' can never be met: {metric} changes by {width:g} at most{unit}")
    return FailOn(metric, float(sign + number), rising)


def judge(conditions: Sequence[FailOn], found: Comparison, by: FailBy = "estimate") -> list[Verdict]:
    """Every condition on every line of its metric, and for each pair at least once.

    What proves nothing counts as met: what could not be computed, a second run that is not finished, or that lacks scores
    which the first has.
    """
    return [
        verdict
        for condition in conditions
        for pair in found.pairs
        for verdict in _of_pair(condition, pair, [line for line in found.lines if line.system == pair.name], by)
    ]


def _of_pair(condition: FailOn, pair: Matched, lines: Sequence[Line], by: FailBy) -> list[Verdict]:
    asked = [line for line in lines if line.metric == condition.metric]
    if not asked:
        lacking = [str(side.folder.path) for side in (pair.first, pair.second) if condition.metric not in side.columns]
        why = f"{' and '.join(lacking)} lacks this metric" if lacking else "no case was asked for it"
        return [Verdict(condition, pair.name, "", True, f"{condition.text}: {pair.name}: no difference ({why})")]
    return [_judge(condition, line, by, pair.second) for line in asked]


def _judge(condition: FailOn, line: Line, by: FailBy, second: Side) -> Verdict:
    met, said = _reading(condition, line, by)
    lacks = _lacks(line, second)
    where = ", ".join(part for part in (line.system, line.condition) if part)
    sentence = f"{condition.text}: {where}: {said}" + (f"; but {lacks}, which counts as worse" if lacks and not met else "")
    return Verdict(condition, line.system, line.condition, met or bool(lacks), sentence)


def _lacks(line: Line, second: Side) -> str:
    """Why the common cases do not speak for the whole second run; "" where they do."""
    if line.lost:
        return f"B lacks {line.lost} of the {line.first_counts.n_scored} scores that A has"
    return "" if second.folder.info.status == "complete" else f"{second.folder.path} is not finished"


def _reading(condition: FailOn, line: Line, by: FailBy) -> tuple[bool, str]:
    gap = line.difference
    worst, best = (gap.high, gap.low) if condition.rising else (gap.low, gap.high)
    value = {"estimate": gap.value, "certain": best, "possible": worst}[by]
    if math.isnan(value):
        what = "difference" if by == "estimate" else "interval"
        return True, f"no {what} ({line.reason or 'too little data'})"
    past = value > condition.bound + ROUNDING if condition.rising else value < condition.bound - ROUNDING
    what = {"estimate": "difference", "certain": "nearer end of the interval", "possible": "farther end of the interval"}[by]
    return past, f"{what} {value:+.4g} {'is past' if past else 'is within'} the bound"
