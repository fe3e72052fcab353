"""Figures per case that are read from other rows: what `attributed`, `leak` and the edits themselves say (floor 1).

They are not stored in scores.parquet; whoever needs one computes it, so its version is that of what it is read from.
Their means are rates: mean `bleed_rate` is the share of outputs that look like another effect than the asked one.

A label means another thing for each kind of question, so the card of a figure names the questions that it is read for. Of
a neutral question every effect is a wrong one, and the source may be the right answer. In a composition the meter only
knows the two effects, so no other one could be seen there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clbench.metrics.cards import EVERY, METRICS
from clbench.registry import Registry
from clbench.types import MetricCard, Scale

Floats = NDArray[np.float64]
Words = NDArray[np.str_]

SOURCE, NONE, BASE = "source", "none", "base"
"""Labels of `attributed` that are no effect: the untouched source, nothing clearly, and of neutral questions the base."""
SHARES = frozenset({"success", "bcr", "both", "first_shows", "second_shows", "in_order"})
"""Stored metrics whose values are 0 or 1, so that their means are shares; derived ones say it themselves."""

SCORES = frozenset({"vsa", "subject"})
"""Metrics whose cases lie near both ends of their bounds, so that their means are shares times a score: 9 of 10 subjects of the
shipped systems get 4.9 or more, and most others less than 2."""

Origin = Literal["attributed", "leak", "nfe", "seconds", "failed"]


@dataclass(frozen=True, slots=True)
class Rows:
    """R rows that a figure is read from, all ``(R,)``: place of the case in 0..cases-1, its effects, `other`, value.

    `question` is the kind of the case's question (`Case.question`). `second` is the effect asked for on top of `effect`, or
    "".
    """

    cases: int
    case: NDArray[np.int64]
    question: Words
    effect: Words
    second: Words
    other: Words
    value: Floats


@dataclass(frozen=True, slots=True)
class Derived:
    """A figure: its card, the metric (or the field of an edit) that it is read from, and how.

    `read` returns one value per case ``(cases,)``, NaN where there is no row. `share`: values are 0 or 1.
    """

    card: MetricCard
    origin: Origin
    read: Callable[[Rows], Floats]
    share: bool = False
    shown: bool = True


def _labelled(right: Callable[[Rows], NDArray[np.bool_]]) -> Callable[[Rows], Floats]:
    def read(rows: Rows) -> Floats:
        found = np.full(rows.cases, np.nan)
        found[rows.case] = right(rows)
        return found

    return read


def _elsewhere(rows: Rows) -> NDArray[np.bool_]:
    """Whether the label is an effect that was not asked for: of a neutral question any effect, also the case's own."""
    neutral = rows.question == "neutral"
    right = np.where(neutral, rows.other == BASE, rows.other == rows.effect)
    return ~right & (rows.other != SOURCE) & (rows.other != NONE)


def _worst(rows: Rows) -> Floats:
    found = np.full(rows.cases, -np.inf)
    foreign = rows.other != rows.second
    np.maximum.at(found, rows.case[foreign], rows.value[foreign])
    return np.where(np.isinf(found), np.nan, found)


def _plain(rows: Rows) -> Floats:
    found = np.full(rows.cases, np.nan)
    found[rows.case] = rows.value
    return found


DERIVED: Registry[Derived] = Registry("figure")
_UP = math.inf

for _figure in (
    Derived(
        MetricCard(
            "bleed_rate", 1, "lower", (0.0, 1.0), 0.0,
            "Share of outputs attributed to another effect than the asked one; of neutral questions to any effect.",
            questions=frozenset({"effect", "neutral"}),
        ),
        "attributed", _labelled(_elsewhere), share=True,
    ),
    Derived(
        MetricCard(
            "untouched_rate", 1, "lower", (0.0, 1.0), 0.0, "Share of outputs attributed to the untouched source.",
            questions=frozenset({"effect", "composed"}),
        ),
        "attributed", _labelled(lambda rows: rows.other == SOURCE), share=True,
    ),
    Derived(
        MetricCard(
            "unclear_rate", 1, "lower", (0.0, 1.0), 0.0, "Share of outputs attributed to nothing clearly.", questions=EVERY
        ),
        "attributed", _labelled(lambda rows: rows.other == NONE), share=True,
    ),
    Derived(
        MetricCard(
            "leak_worst", 1, "lower", (0.0, _UP), 2e-6, "Largest leak of another effect than the asked ones into the output."
        ),
        "leak", _worst,
    ),
    Derived(
        MetricCard(
            "edit_failed_rate", 1, "lower", (0.0, 1.0), 0.0, "Share of edits that failed and left no picture.", questions=EVERY
        ),
        "failed", _plain, share=True,
    ),
    Derived(
        MetricCard(
            "nfe", 1, "lower", (0.0, _UP), 0.0, "Forward passes of the transformer for one picture.", questions=EVERY
        ),
        "nfe", _plain, shown=False,
    ),
    Derived(
        MetricCard(
            "seconds", 1, "lower", (0.0, _UP), _UP, "Wall time of one picture; tells systems apart on one machine only.",
            questions=EVERY,
        ),
        "seconds", _plain, shown=False,
    ),
):  # fmt: skip
    DERIVED.add(_figure.card.name, _figure)


def scale_of(metric: str) -> Scale:
    """The scale of a stored metric or derived figure for `clbench.stats`: its card's bounds; any values without a card."""
    if metric in DERIVED:
        figure = DERIVED.get(metric)
        return Scale(*figure.card.bounds, figure.share)
    return Scale(*METRICS.get(metric).bounds, metric in SHARES or metric in SCORES) if metric in METRICS else Scale()
