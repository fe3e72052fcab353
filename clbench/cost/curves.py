"""Deployment cost as curves: over the number of effects, and over the teachers' rank. Pure.

For a report: build a `Deployment` (by hand, or with `clbench.cost.answer.deployment`), call `over_effects` or
`over_rank`, and draw `rows(curve)`: one plain dict per point and system, with the axis' value under ``x``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from clbench.cost.deployment import Deployment, Size, SystemCost, system_costs

EFFECTS = range(1, 181)
"""1 to 180 effects: the paper's largest collection."""
RANKS = (4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Curve:
    """`points` are (x, the cost of every system at x); `axis` says what x is."""

    axis: Literal["effects", "teacher_rank"]
    points: tuple[tuple[int, tuple[SystemCost, ...]], ...]

    def of(self, system: str) -> list[tuple[int, SystemCost]]:
        """The points of one system."""
        return [(x, cost) for x, costs in self.points for cost in costs if cost.system == system]


def over_effects(asked: Deployment, counts: Iterable[int] = EFFECTS) -> Curve:
    """The same deployment with each number of effects."""
    return Curve("effects", tuple((n, tuple(system_costs(replace(asked, effects=n)))) for n in counts))


def over_rank(asked: Deployment, per_rank: Size, ranks: Iterable[int] = RANKS) -> Curve:
    """The same deployment with teachers of each rank, which load in proportion to their bytes; `per_rank` is the size of one of
    rank 1.
    """
    found = []
    for rank in ranks:
        teacher = per_rank * rank
        seconds = asked.load_seconds * teacher.stored / asked.teacher.stored
        found.append((rank, tuple(system_costs(replace(asked, teacher=teacher, load_seconds=seconds)))))
    return Curve("teacher_rank", tuple(found))


def rows(curve: Curve) -> list[dict[str, Any]]:
    """One plain dict per point and system; NaN becomes None so that the rows are JSON."""
    return [{"x": x} | plain(cost) for x, costs in curve.points for cost in costs]


def plain(cost: SystemCost) -> dict[str, Any]:
    """A cost as JSON can hold it, without the words about the system."""
    values = asdict(cost)
    del values["about"]
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}
