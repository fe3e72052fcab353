"""The report's plain tables: summary, differences, effects."""

from __future__ import annotations

from collections import Counter

import numpy as np

from clbench import stats
from clbench.report.cells import (
    MINUS,
    MISSING,
    Cell,
    Head,
    Row,
    TableView,
    Whisker,
    anchor,
    interval,
    metric_value,
)
from clbench.report.data import Entry, Results
from clbench.report.numbers import Numbers
from clbench.stats import Estimate
from clbench.types import Effect, MetricCard

ARROWS = {"higher": "↑", "lower": "↓", "neutral": ""}
SUMMARY_ORDER = (
    "success",
    "vsa",
    "leak_total",
    "subject",
    "perceptual",
    "clip_image",
    "clip_directional",
    "clip_text",
    "psnr",
    "ssim",
    "dose",
)
FIRST_COLUMNS = 7
"""Metrics of the first summary table; the others follow in a second one, so that the first fits a screen."""
SHORT = {
    "success": "Success",
    "bcr": "BCR",
    "vsa": "VSA",
    "subject": "Subject",
    "perceptual": "Perceptual",
    "clip_image": "CLIP image",
    "clip_text": "CLIP text",
    "clip_directional": "CLIP direction",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "leak_total": "Leak",
    "dose": "Dose",
}

SUMMARY_NOTE = (
    "Mean over seeds, then sources, then effects (every effect counts the same) with its 95 % interval, in which effects "
    "are the sample and sources are fixed. ↑ higher is better, ↓ lower is better. The line under a number shows "
    "the interval on the scale of its column. Controls, below the rule, show what a perfect, a lazy and a"
    " mistaken system get."
)
LAST = -1e300
"""Missing values sort below every number."""


def short(metric: str) -> str:
    """The column title of a metric; its own name where no shorter word was chosen."""
    return SHORT.get(metric, metric)


def head(card: MetricCard) -> Head:
    """A metric's column: title, direction arrow, and its meaning as tooltip."""
    return Head(f"{short(card.name)} {ARROWS[card.direction]}".strip(), card.about)


def summary_metrics(results: Results) -> list[MetricCard]:
    """Metrics of the summary in reading order; bcr is left out where success says the same."""
    cards = {card.name: card for card in results.metrics}
    if "success" in cards:
        cards.pop("bcr", None)
    ordered = [name for name in SUMMARY_ORDER if name in cards]
    return [cards[name] for name in [*ordered, *(name for name in cards if name not in ordered)]]


def summaries(numbers: Numbers) -> list[TableView]:
    """The summary of the first metrics, and a second one of the others if there are any."""
    cards = summary_metrics(numbers.results)
    first = _summary(numbers, cards[:FIRST_COLUMNS], "t-summary", "Systems at a glance", SUMMARY_NOTE)
    if len(cards) <= FIRST_COLUMNS:
        return [first]
    return [first, _summary(numbers, cards[FIRST_COLUMNS:], "t-summary-more", "Further metrics", "")]


def _summary(numbers: Numbers, cards: list[MetricCard], name: str, caption: str, note: str) -> TableView:
    """Systems, then controls as floor and ceiling, with means, intervals and counts."""
    results = numbers.results
    spans = {card.name: _span(numbers, card.name) for card in cards}
    rows = []
    for entry in results.entries:
        cells = [system_cell(entry, results)]
        cells += [_estimate_cell(numbers.estimates[entry.label, card.name], card.name, spans) for card in cards]
        cells.append(_counts(entry, numbers))
        rows.append(Row(cells, "control" if entry.control else ""))
    heads = [Head("System", numeric=False), *(head(card) for card in cards)]
    heads.append(Head("Scored", "scored / all edits; failed and unscored ones are missing, never 0", sub="of all"))
    return TableView(name, caption, heads, rows, note, "summary")


def _span(numbers: Numbers, metric: str) -> tuple[float, float]:
    found = [
        value
        for (_, name), one in numbers.estimates.items()
        if name == metric
        for value in (one.low, one.value, one.high)
        if np.isfinite(value)
    ]
    return (min(found), max(found)) if found else (0.0, 1.0)


def _estimate_cell(one: Estimate, metric: str, spans: dict[str, tuple[float, float]]) -> Cell:
    if not np.isfinite(one.value):
        return Cell(MISSING, "", LAST, title=one.reason, css="missing")
    low, high = spans[metric]
    width = (high - low) or 1.0
    ends = [one.low, one.value, one.high] if np.isfinite(one.low) else [one.value] * 3
    whisker = Whisker(*(round(100 * (end - low) / width, 1) for end in ends))
    counted = f"{one.n_scored} of {one.n_total} edits scored, {one.n_failed} failed"
    sub = interval(metric, one.low, one.high) or one.reason
    return Cell(metric_value(metric, one.value), sub, one.value, title=counted, whisker=whisker)


def system_cell(entry: Entry, results: Results) -> Cell:
    """The name of a system with its steps and its part in the report."""
    card = entry.info.system.card
    steps = entry.steps if entry.steps is not None else card["settings"].get("steps")
    words = [] if steps is None or entry.control else [f"{steps} steps"]
    if entry.control:
        words.append("control")
    if entry is results.candidate:
        words.append("candidate")
    elif entry.system == results.about.reference:
        words.append("reference")
    return Cell(entry.label, ", ".join(words), entry.label, css="name")


def counts(entry: Entry, numbers: Numbers) -> tuple[int, int, int]:
    """n_total, n_scored, n_failed of the headline metric of an entry."""
    headline = numbers.results.headline
    if headline is None:
        return len(entry.cases), 0, 0
    one = numbers.estimates[entry.label, headline.name]
    failed = sum(record.status == "failed" for record in entry.records.values())
    return one.n_total, one.n_scored, max(one.n_failed, failed)


def _counts(entry: Entry, numbers: Numbers) -> Cell:
    total, scored, failed = counts(entry, numbers)
    sub = f"{failed} failed" if failed else f"{total - scored} unscored" if total > scored else ""
    return Cell(f"{scored} / {total}", sub, scored, css="bad" if failed else "")


def differences(numbers: Numbers) -> TableView | None:
    """Rows are metrics, columns are systems; each cell is system minus reference on the same cases."""
    results = numbers.results
    shown = [entry for entry in results.systems if results.reference_for(entry) is not None]
    cards = [card for card in summary_metrics(results) if any((e.label, card.name) in numbers.compared for e in shown)]
    if not shown or not cards:
        return None
    rows = []
    for card in cards:
        reach = _reach(numbers, card.name)
        rows.append(Row([_metric_cell(card), *(_difference_cell(numbers, e.label, card, reach) for e in shown)]))
    heads = [
        Head("Metric", numeric=False),
        *(Head(f"{e.label} {MINUS} {results.about.reference}") for e in shown),
    ]
    note = (
        "Difference on the same cases, its 95 % interval, and p (sign flips over effects, Holm-corrected "
        "over the systems of a row). «better» or «worse» is said only where the interval leaves 0 out and"
        " p < .05; «open» means that these effects cannot tell. «detectable» is the true difference that "
        "would be found 4 times in 5."
    )
    caption = f"Paired differences to {results.about.reference}"
    return TableView("t-differences", caption, heads, rows, note, "differences", sortable=False)


def _metric_cell(card: MetricCard) -> Cell:
    words = {"higher": "higher is better", "lower": "lower is better", "neutral": "neither is better"}
    return Cell(short(card.name), words[card.direction], card.name, f"#m-{anchor(card.name)}", card.about, "name")


def _reach(numbers: Numbers, metric: str) -> float:
    """The largest bound of a row's intervals: the half width of its common scale around 0."""
    gaps = [one.difference for (_, name), one in numbers.compared.items() if name == metric]
    ends = [abs(end) for gap in gaps for end in (gap.low, gap.value, gap.high) if np.isfinite(end)]
    return max(ends, default=0.0) or 1.0


def _difference_cell(numbers: Numbers, label: str, card: MetricCard, reach: float) -> Cell:
    one = numbers.compared.get((label, card.name))
    if one is None or not np.isfinite(one.difference.value):
        reason = one.difference.reason if one is not None else "not computed for both systems"
        return Cell(MISSING, reason, css="missing", title=reason)
    gap = one.difference
    verdict = "open" if one.better is None else "better" if one.better else "worse"
    bounds = interval(card.name, gap.low, gap.high, signed=True) or gap.reason
    p = f"p {_p(one.adjusted)}," if np.isfinite(one.adjusted) else ""
    found = metric_value(card.name, gap.detectable, signed=True).lstrip("+")
    title = f"{gap.n_pairs} pairs, {gap.n_dropped} dropped, {gap.n_effects} effects"
    css = "open" if card.direction == "neutral" else verdict
    value = metric_value(card.name, gap.value, signed=True)
    text = value if card.direction == "neutral" else f"{value} {verdict}"
    ends = [gap.low, gap.value, gap.high] if np.isfinite(gap.low) else [gap.value] * 3
    whisker = Whisker(*(round(50 + 50 * end / reach, 1) for end in ends), zero=50.0)
    said = " ".join(part.replace(" ", "\u00a0") for part in (bounds, p, f"detectable {found}") if part)
    return Cell(text, said, gap.value, title=title, css=css, whisker=whisker)


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def worst_first(results: Results, metric: MetricCard) -> list[Effect]:
    """Effects by the candidate's mean of a metric, worst first; those without a score last."""
    means = effect_values(results.candidate, metric.name) if results.candidate is not None else {}
    flip = -1.0 if metric.direction == "lower" else 1.0
    return sorted(results.effects, key=lambda e: (e.id not in means, flip * means.get(e.id, 0.0), e.id))


def per_effect(numbers: Numbers, metric: MetricCard) -> TableView:
    """One row per effect, the candidate's worst first, one column per system; with what it was read as."""
    results, candidate = numbers.results, numbers.results.candidate
    means = {entry.label: effect_values(entry, metric.name) for entry in results.entries}
    shown = [entry for entry in results.entries if metric.name in entry.columns]
    confused = metric.name == "success" and candidate is not None and any(candidate.attributed)
    rows = []
    for effect in worst_first(results, metric):
        cells = [_effect_cell(effect)]
        cells += [_mean_cell(metric.name, means[entry.label].get(effect.id), entry.control) for entry in shown]
        if confused and candidate is not None:
            cells.append(_read_as(candidate, effect, results))
        rows.append(Row(cells))
    heads = [Head("Effect", numeric=False), *(Head(entry.label) for entry in shown)]
    if confused and candidate is not None:
        heads.append(Head(f"{candidate.label}: mistaken for", numeric=False))
    who = f", worst for {candidate.label} first" if candidate is not None else ""
    caption = f"{short(metric.name)} {ARROWS[metric.direction]} by effect{who}".replace("  ", " ")
    return TableView(f"t-effects-{anchor(metric.name)}", caption, heads, rows, metric.about, "effects")


def effect_values(entry: Entry, metric: str) -> dict[str, float]:
    if metric not in entry.columns:
        return {}
    nested = stats.effect_means(entry.columns[metric].values, entry.effects, entry.sources)
    return dict(zip(nested.labels, nested.means.tolist(), strict=True))


def _effect_cell(effect: Effect) -> Cell:
    words = [
        effect.family,
        *(["random"] if effect.random else []),
        *([effect.scope] if effect.scope != "image" else []),
    ]
    return Cell(effect.name, ", ".join(words), effect.name, f"#g-{anchor(effect.id)}", effect.instruction, "name")


def _mean_cell(metric: str, value: float | None, control: bool) -> Cell:
    css = "quiet" if control else ""
    if value is None:
        return Cell(MISSING, "", LAST, title="no scored case of this effect", css=f"missing {css}".strip())
    return Cell(metric_value(metric, value), "", value, css=css)


def _read_as(entry: Entry, effect: Effect, results: Results) -> Cell:
    labels = [label for case, label in zip(entry.cases, entry.attributed, strict=True) if case.effect == effect.id]
    wrong = Counter(label for label in labels if label and label != effect.id)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{results.name(label)} ×{count}" for label, count in ranked[:3]]
    return Cell(", ".join(words) or "never", "", sum(wrong.values()), css="text" if words else "text quiet")
