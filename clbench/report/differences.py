"""Paired differences to the reference system, on the same cases."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clbench.report.cells import MINUS, MISSING, Cell, Head, Row, TableView, Whisker, interval, metric_value
from clbench.report.numbers import Compared, Numbers
from clbench.report.tables import LAST, head, metric_cell, summary_metrics, system_cell
from clbench.types import MetricCard

COLUMNS = 4
"""With more systems than this the table has a row for each of them instead of a column."""

NOTE = (
    "Difference on the same cases, its 95 % interval, and p (sign flips over effects, Holm-corrected over the systems "
    "of a metric). «better» or «worse» is said only where the interval leaves 0 out and p < .05; «open» means that these "
    "effects cannot tell. «detectable» is the true difference that would be found 4 times in 5."
)


def differences(numbers: Numbers) -> TableView | None:
    """Metrics by systems (systems by metrics where there are many); each cell is system minus reference."""
    results = numbers.results
    shown = [entry for entry in results.systems if results.reference_for(entry) is not None]
    cards = [card for card in summary_metrics(results) if any((e.label, card.name) in numbers.compared for e in shown)]
    if not shown or not cards:
        return None
    caption = f"Paired differences to {results.about.reference}"
    if len(shown) > COLUMNS:
        rows = [Row([system_cell(e, results), *(difference_cell(numbers, e.label, card) for card in cards)]) for e in shown]
        heads = [Head("System", numeric=False), *(head(card) for card in cards)]
    else:
        rows = [Row([metric_cell(card), *(difference_cell(numbers, e.label, card) for e in shown)]) for card in cards]
        heads = [Head("Metric", numeric=False), *(Head(f"{e.label} {MINUS} {results.about.reference}") for e in shown)]
    return TableView("t-differences", caption, heads, rows, NOTE, "differences", sortable=len(shown) > COLUMNS)


def reach(found: Iterable[Compared]) -> float:
    """The largest bound of all intervals: the half width of their common scale around 0."""
    gaps = [one.difference for one in found]
    ends = [abs(end) for gap in gaps for end in (gap.low, gap.value, gap.high) if np.isfinite(end)]
    return max(ends, default=0.0) or 1.0


def difference_cell(numbers: Numbers, label: str, card: MetricCard, short: bool = False) -> Cell:
    """One difference in words, with its interval drawn around 0; `short` leaves p and the detectable difference out."""
    mine = (one for (_, metric), one in numbers.compared.items() if metric == card.name)
    return compared_cell(numbers.compared.get((label, card.name)), card, reach(mine), short)


def compared_cell(one: Compared | None, card: MetricCard, half: float, short: bool = False) -> Cell:
    """As `difference_cell`, on a scale of half width `half`."""
    if one is None or not np.isfinite(one.difference.value):
        reason = one.difference.reason if one is not None else "not computed for both systems"
        return Cell(MISSING, reason, LAST, css="missing", title=reason)
    gap, verdict = one.difference, "open" if one.better is None else "better" if one.better else "worse"
    verdict = "" if card.direction == "neutral" else verdict
    text = f"{metric_value(card.name, gap.value, signed=True)} {verdict}".strip()
    ends = [gap.low, gap.value, gap.high] if np.isfinite(gap.low) else [gap.value] * 3
    whisker = Whisker(*(round(50 + 50 * end / half, 1) for end in ends), zero=50.0)
    title = f"{gap.n_pairs} pairs, {gap.n_dropped} dropped, {gap.n_effects} effects"
    sub = interval(card.name, gap.low, gap.high, signed=True) if short else _words(one, card.name)
    bounds = (gap.low, gap.high)
    return Cell(text, sub or gap.reason, gap.value, title=title, css=f"diff {verdict or 'open'}", whisker=whisker, bounds=bounds)


def _words(one: Compared, metric: str) -> str:
    gap = one.difference
    bounds = interval(metric, gap.low, gap.high, signed=True) or gap.reason
    p = f"p {_p(one.adjusted)}," if np.isfinite(one.adjusted) else ""
    found = metric_value(metric, gap.detectable, signed=True).lstrip("+")
    return " ".join(part.replace(" ", "\u00a0") for part in (bounds, p, f"detectable {found}") if part)


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"
