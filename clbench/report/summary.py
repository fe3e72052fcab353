"""The summary: systems at a glance with intervals, and the controls as floor and ceiling of every scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clbench.report.cells import MISSING, Cell, Head, Row, TableView, Whisker, interval, metric_value, number
from clbench.report.data import Entry
from clbench.report.differences import difference_cell
from clbench.report.numbers import Numbers, Scale, ceiling_of, scale
from clbench.report.tables import LAST, counts, head, is_known, metric_cell, short, summary_metrics, system_cell
from clbench.stats import Estimate
from clbench.types import MetricCard

FIRST_COLUMNS = 6
"""Metrics of the first summary table; the others follow in a second one, so that the first fits a screen."""

SUMMARY_NOTE = (
    "Seeds are averaged within a source, sources within an effect, then effects, each counting the same. 95 % "
    "intervals take effects as the sample and sources as fixed. ↑ higher is better, ↓ lower is better. The line under a "
    "number shows the interval on the scale of its column"
)
TICKS = "; its two ticks are what doing nothing (identity) and the truth get (of PSNR and SSIM: noise-floor)"


def summaries(numbers: Numbers) -> list[TableView]:
    """The summary of the first metrics, and a second one of the others if there are any."""
    cards = summary_metrics(numbers.results)
    empty = [short(card.name) for card in cards if not is_known(numbers, card.name)]
    if len(empty) < len(cards):
        cards = [card for card in cards if is_known(numbers, card.name)]
    unshown = f" Without any score, and not shown: {', '.join(empty)}." if empty else ""
    ticks = TICKS if {"identity", "truth"} <= {entry.system for entry in numbers.results.controls} else ""
    note = f"{SUMMARY_NOTE}{ticks}.{unshown} {numbers.results.about.reference_words}".strip()
    first = _summary(numbers, cards[:FIRST_COLUMNS], "t-summary", "Systems at a glance", note)
    if len(cards) <= FIRST_COLUMNS:
        return [first]
    return [first, _summary(numbers, cards[FIRST_COLUMNS:], "t-summary-more", "Further metrics", "")]


def _summary(numbers: Numbers, cards: list[MetricCard], name: str, caption: str, note: str) -> TableView:
    """Systems, then controls, with means, intervals, the first metric's difference to the reference, and counts."""
    results = numbers.results
    spans = {card.name: _span(numbers, card.name) for card in cards}
    scales = {card.name: scale(numbers, card) for card in cards}
    compared = name == "t-summary" and any((entry.label, cards[0].name) in numbers.compared for entry in results.systems)
    against = cards[0] if compared else None
    rows = []
    for entry in results.entries:
        cells = [system_cell(entry, results)]
        for card in cards:
            one = numbers.estimates[entry.label, card.name]
            cells.append(_estimate_cell(one, card.name, spans[card.name], scales[card.name]))
            cells += [_against(numbers, entry, card)] if card is against else []
        cells.append(_counts(entry, numbers, cards))
        rows.append(Row(cells, "control" if entry.control else ""))
    heads = [Head("System", numeric=False)]
    for card in cards:
        heads.append(head(card))
        heads += [Head(f"to {results.reference_name}", "difference on the same cases", sub="paired")] if card is against else []
    heads.append(Head("Scored", "scored / all edits; failed and unscored ones are missing, never 0", sub="of all"))
    return TableView(name, caption, heads, rows, note, "summary")


def _span(numbers: Numbers, metric: str) -> tuple[float, float]:
    """The smallest and the largest value or bound of a metric's column."""
    found = [
        value
        for (_, name), one in numbers.estimates.items()
        if name == metric
        for value in (one.low, one.value, one.high)
        if np.isfinite(value)
    ]
    return (min(found), max(found)) if found else (0.0, 1.0)


def _estimate_cell(one: Estimate, metric: str, span: tuple[float, float], ends: Scale) -> Cell:
    if not np.isfinite(one.value):
        return Cell(MISSING, "", LAST, title=one.reason, css="missing")
    low, width = span[0], (span[1] - span[0]) or 1.0
    bounds = (one.low, one.value, one.high) if np.isfinite(one.low) else (one.value,) * 3
    drawn, ticks = ([round(100 * (end - low) / width, 1) for end in each] for each in (bounds, ends.ends))
    counted = f"{one.n_scored} of {one.n_total} edits scored, {one.n_failed} failed"
    sub = interval(metric, one.low, one.high) or one.reason
    whisker = Whisker(*drawn, ends=tuple(ticks))
    return Cell(metric_value(metric, one.value), sub, one.value, title=counted, whisker=whisker, bounds=(one.low, one.high))


def _against(numbers: Numbers, entry: Entry, card: MetricCard) -> Cell:
    """The paired difference to the reference in short; the whole of it stands in the table of differences."""
    if entry.system == numbers.results.about.reference:
        return Cell("reference", css="quiet", sort=LAST)
    if entry is numbers.results.candidate or (entry.label, card.name) in numbers.compared:
        return difference_cell(numbers, entry.label, card, short=True)
    return Cell("", css="quiet", sort=LAST)


def _counts(entry: Entry, numbers: Numbers, cards: Sequence[MetricCard]) -> Cell:
    """How many edits the report's first metric scored, and which metrics of this table scored fewer."""
    total, scored, failed = counts(entry, numbers)
    words = [f"{failed} failed" if failed else f"{total - scored} unscored"] if failed or total > scored else []
    fewer: dict[int, list[str]] = {}
    for card in cards:
        if 0 < (one := numbers.estimates[entry.label, card.name].n_scored) < scored:
            fewer.setdefault(one, []).append(short(card.name))
    words += [f"{', '.join(names)} {one}" for one, names in fewer.items()]
    return Cell(f"{scored} / {total}", "; ".join(words), scored, css="bad" if failed else "", key=True)


def scales(numbers: Numbers) -> TableView | None:
    """Per metric the controls' values, and where each system stands from floor (identity) to ceiling (truth)."""
    results = numbers.results
    if not results.controls or not results.systems:
        return None
    rows, placed = [], [entry for entry in results.finals if entry in results.whole]  # the controls are of all effects
    for card in (card for card in summary_metrics(results) if is_known(numbers, card.name)):
        span, cells = scale(numbers, card), [metric_cell(card)]
        for entry in results.controls:
            value = numbers.estimates[entry.label, card.name].value
            cells.append(Cell(metric_value(card.name, value), sort=value if np.isfinite(value) else LAST, css="quiet"))
        for entry in placed:
            place = span.place(numbers.estimates[entry.label, card.name].value)
            known = np.isfinite(place)
            title = "" if known else f"the controls identity and {ceiling_of(card.name)} do not span this scale"
            cells.append(Cell(f"{number(100 * place, 0)} %" if known else MISSING, sort=place if known else LAST, title=title))
        rows.append(Row(cells))
    heads = [Head("Metric", numeric=False), *(Head(entry.label, sub="control") for entry in results.controls)]
    heads += [Head(entry.label, sub="of the way") for entry in placed]
    note = (
        "How much of the way each system (at its own steps) goes from doing nothing (identity, 0 %) to the truth (100 %); below "
        "0 it is worse than doing nothing. For PSNR and SSIM the control noise-floor, another draw of the truth through the "
        "backbone's VAE, stands for the truth, since equal pictures have 100 dB. A missing place: one of the two controls was "
        "not run, they do not differ surely, or neither way is better."
    )
    return TableView("t-scales", "Floor and ceiling of every scale", heads, rows, note, "scales")
