"""Conditions for CI: ``metric:+0.02`` fails when the second run is worse than the first by more than that."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.compare.sides import card_of
from clbench.compare.table import Line
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
    """Whether a condition is met on one line, with a sentence that says so in numbers."""

    condition: FailOn
    line: Line
    met: bool
    sentence: str


def parse_fail_on(text: str) -> FailOn:
    """``"bleed_rate:+0.02"`` -> FailOn, in the metric's own unit (a share is 0..1).

    Raises ClbenchError for another form, an unknown metric, and a bound that an improvement would meet.
    """
    read = WRITTEN.fullmatch(text)
    if read is None:
        raise ClbenchError(f"--fail-on '{text}' is not METRIC:+NUMBER or METRIC:-NUMBER, for example bleed_rate:+0.02")
    metric, sign, number = read.groups()
    direction, rising = card_of(metric).direction, sign == "+"
    if direction != "neutral" and rising == (direction == "higher"):
        turned = f"{metric}:{'-' if rising else '+'}{number}"
        raise ClbenchError(f"--fail-on '{text}' would fail on an improvement ({direction} is better); write {turned}")
    return FailOn(metric, float(sign + number), rising)


def judge(conditions: Sequence[FailOn], lines: Sequence[Line], by: FailBy = "estimate") -> list[Verdict]:
    """Every condition on every line of its metric. What could not be computed counts as met: it proves nothing."""
    return [_judge(one, line, by) for one in conditions for line in lines if line.metric == one.metric]


def _judge(condition: FailOn, line: Line, by: FailBy) -> Verdict:
    gap = line.difference
    worst, best = (gap.high, gap.low) if condition.rising else (gap.low, gap.high)
    value = {"estimate": gap.value, "certain": best, "possible": worst}[by]
    where = ", ".join(part for part in (line.system, line.condition) if part)
    if math.isnan(value):
        what = "difference" if by == "estimate" else "interval"
        return Verdict(condition, line, True, f"{condition.text}: {where}: no {what} ({line.reason or 'too little data'})")
    past = value > condition.bound + ROUNDING if condition.rising else value < condition.bound - ROUNDING
    what = {"estimate": "difference", "certain": "nearer end of the interval", "possible": "farther end of the interval"}[by]
    relation = "is past" if past else "is within"
    return Verdict(condition, line, past, f"{condition.text}: {where}: {what} {value:+.4g} {relation} the bound")
