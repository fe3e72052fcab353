"""Paired differences to the reference system, on the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from clbench import stats
from clbench.report.cells import MINUS, MISSING, Cell, Head, Row, TableView, Whisker, interval, metric_value, plural
from clbench.report.numbers import Compared, Numbers
from clbench.report.tables import LAST, head, metric_cell, short, summary_metrics, system_cell
from clbench.types import MetricCard

COLUMNS = 4
"""With more systems than this the table has a row for each of them instead of a column."""

NOTE = (
    "Difference on the same cases, its 95 % interval, and p (sign flips over effects, Holm-corrected over the systems "
    "of a metric). «better» or «worse» is said only where the interval leaves 0 out and p < .05; «open» means that these "
    "effects cannot tell. «detectable» is the true difference that would be found 4 times in 5 after the correction: «none» "
    "where it lets nothing pass, «nothing varied» where all effects differ by the same, so that nothing can be said of it."
)


def differences(numbers: Numbers) -> TableView | None:
    """Metrics by systems (systems by metrics where there are many); each cell is system minus reference."""
    results = numbers.results
    shown = [entry for entry in results.systems if results.reference_for(entry) is not None]
    cards = [card for card in summary_metrics(results) if any((e.label, card.name) in numbers.compared for e in shown)]
    if not shown or not cards:
        return None
    caption = f"Paired differences to {results.reference_name}"
    if len(shown) > COLUMNS:
        rows = [Row([system_cell(e, results), *(difference_cell(numbers, e.label, card) for card in cards)]) for e in shown]
        heads = [Head("System", numeric=False), *(head(card) for card in cards)]
    else:
        rows = [Row([metric_cell(card), *(difference_cell(numbers, e.label, card) for e in shown)]) for card in cards]
        heads = [Head("Metric", numeric=False), *(Head(f"{e.label} {MINUS} {results.reference_name}") for e in shown)]
    by_metric = {card.name: [one for (_, metric), one in numbers.compared.items() if metric == card.name] for card in cards}
    note = f"{NOTE} {hopeless(by_metric)}".strip()
    return TableView("t-differences", caption, heads, rows, note, "differences", sortable=len(shown) > COLUMNS)


def hopeless(found: Mapping[str, Iterable[Compared]], what: str = "system") -> str:
    """Which metrics can have no difference that passes the correction, in sentences; "" where all can.

    `found` maps a metric to the differences that its correction is over, each of one `what`.
    """
    metrics: dict[str, list[str]] = {}
    for metric, held in found.items():
        known = [one for one in held if np.isfinite(one.adjusted)]
        if stats.undecidable([one.difference.n_effects for one in known]):
            words = correction_words(max(known, key=lambda one: one.difference.n_effects), what)
            metrics.setdefault(words, []).append(short(metric))
    if not metrics:
        return ""
    everywhere = len(metrics) == 1 and len(next(iter(metrics.values()))) == len(found)
    said = [words if everywhere else f"{words}: {', '.join(names)}" for words, names in metrics.items()]
    return " ".join(f"{words[0].upper()}{words[1:]}." for words in said)


def correction_words(one: Compared, what: str = "system") -> str:
    """Why nothing can pass: what the smallest possible p is, and over how many systems it is corrected."""
    effects, p = one.difference.n_effects, _p(stats.least_p(one.difference.n_effects))
    held = f"{plural(effects, 'effect')} and {plural(one.tests, what)}"
    return f"with {held} no difference can pass the correction (p is {p} at best, before it)"


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
    return " ".join(part.replace(" ", "\u00a0") for part in (bounds, p, detectable(one, metric)) if part)


def detectable(one: Compared, metric: str) -> str:
    """What could have been found: ``detectable 12 pt``, ``detectable none`` or ``nothing varied``; "" where nothing is known."""
    value = one.difference.detectable
    if np.isnan(value):
        return ""
    if np.isinf(value):
        return "detectable none"
    if value <= stats.NO_VARIATION:
        return "nothing varied"
    return f"detectable {metric_value(metric, value, signed=True).lstrip('+')}"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"
