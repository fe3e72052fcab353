"""What tables share: titles and order of metrics, the cells of systems; and the table of effects."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from clbench import stats
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, anchor, metric_value
from clbench.report.data import Entry, Results
from clbench.report.numbers import Numbers
from clbench.types import Effect, MetricCard

ARROWS = {"higher": "↑", "lower": "↓", "neutral": ""}
SUMMARY_ORDER = (
    "success",
    "both",
    "in_order",
    "first_shows",
    "second_shows",
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
    "neutral_distance": "Neutral distance",
    "neutral_leak": "Neutral leak",
    "neutral_leak_total": "Neutral leak, all",
    "both": "Both effects",
    "first_shows": "First shows",
    "second_shows": "Second shows",
    "in_order": "In order",
    "order_change": "Change by order",
    "attributed": "Read as",
    "attribution_distance": "Distance to each truth",
}
NOUNS = {"success": "success", "both": "success of both effects", "vsa": "VSA", "perceptual": "perceptual distance to the truth"}

LAST = -1e300
"""Missing values sort below every number."""


def short(metric: str) -> str:
    """The column title of a metric; its own name where no shorter word was chosen."""
    return SHORT.get(metric, metric)


def noun(metric: str) -> str:
    """A metric within a sentence; its own name where no words were chosen."""
    return NOUNS.get(metric, metric)


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


def is_known(numbers: Numbers, metric: str) -> bool:
    """Whether anything was scored on a metric; where nothing was, the reason stands with what is missing."""
    return any(numbers.estimates[entry.label, metric].n_scored for entry in numbers.results.entries)


def system_cell(entry: Entry, results: Results) -> Cell:
    """The name of a system with its steps and its part in the report."""
    steps = entry.steps if entry.steps is not None else entry.own_steps
    words = [] if steps is None or entry.control else [f"{steps} step{'' if steps == 1 else 's'}"]
    if entry.control:
        words.append("control")
    if entry.system == results.about.reference:
        words.append("reference")
    elif entry is results.candidate:
        words.append("candidate")
    return Cell(entry.label, ", ".join(words), entry.label, css="name")


def counts(entry: Entry, numbers: Numbers) -> tuple[int, int, int]:
    """n_total, n_scored, n_failed of the first metric that an entry's line shows, whether or not it has a better direction."""
    shown = summary_metrics(numbers.results)
    if not shown:
        return len(entry.cases), 0, 0
    one = numbers.estimates[entry.label, shown[0].name]
    failed = sum(record.status == "failed" for record in entry.records.values())
    return one.n_total, one.n_scored, max(one.n_failed, failed)


def metric_cell(card: MetricCard) -> Cell:
    """A metric at the head of a row, leading to its line in the glossary."""
    words = {"higher": "higher is better", "lower": "lower is better", "neutral": "neither is better"}
    return Cell(short(card.name), words[card.direction], card.name, f"#m-{anchor(card.name)}", card.about, "name")


def worst_first(results: Results, metric: MetricCard) -> list[Effect]:
    """Effects by the candidate's mean of a metric, worst first; those without a score last."""
    means = effect_values(results.candidate, metric.name) if results.candidate is not None else {}
    flip = -1.0 if metric.direction == "lower" else 1.0
    return sorted(results.effects, key=lambda e: (e.id not in means, flip * means.get(e.id, 0.0), e.id))


def per_effect(numbers: Numbers, metric: MetricCard) -> TableView:
    """One row per effect, the candidate's worst first, one column per system (at its own steps); with what it was read as."""
    results, candidate = numbers.results, numbers.results.candidate
    shown = [entry for entry in [*results.finals, *results.controls] if metric.name in entry.columns]
    means = {entry.label: effect_values(entry, metric.name) for entry in shown}
    told = {entry.label: effect_counts(entry, metric.name) for entry in shown}
    confused = candidate if metric.name == "success" and candidate is not None and candidate.read else None
    rows = []
    for effect in worst_first(results, metric):
        cells = [_effect_cell(effect)]
        cells += [
            _mean_cell(metric.name, means[e.label].get(effect.id), told[e.label].get(effect.id, ""), e.control) for e in shown
        ]
        cells += [_read_as(confused, effect, results)] if confused is not None else []
        rows.append(Row(cells, words=f"{effect.name} {effect.family} {effect.id}"))
    up = "descending" if metric.direction == "lower" else "ascending"
    heads = [Head("Effect", numeric=False)]
    heads += [Head(entry.label, order=up if entry is candidate else "") for entry in shown]
    heads += [Head(f"{confused.label}: mistaken for", numeric=False)] if confused is not None else []
    who = f", worst for {candidate.label} first" if candidate is not None else ""
    caption = f"{short(metric.name)} {ARROWS[metric.direction]} by effect{who}".replace("  ", " ")
    return TableView(f"t-effects-{anchor(metric.name)}", caption, heads, rows, metric.about, "effects")


def effect_values(entry: Entry, metric: str) -> dict[str, float]:
    if metric not in entry.columns:
        return {}
    nested = stats.effect_means(entry.columns[metric].values, entry.effects, entry.sources)
    return dict(zip(nested.labels, nested.means.tolist(), strict=True))


def effect_counts(entry: Entry, metric: str) -> dict[str, str]:
    """How many cases of each effect were scored on a metric, and how many failed, in words."""
    column, counted = entry.columns[metric], defaultdict(lambda: [0, 0, 0])
    for effect, scored, failed in zip(entry.effects, np.isfinite(column.values).tolist(), column.failed.tolist(), strict=True):
        for at, one in enumerate((True, scored, failed)):
            counted[effect][at] += one
    return {effect: f"{scored} of {total} scored, {failed} failed" for effect, (total, scored, failed) in counted.items()}


def _effect_cell(effect: Effect) -> Cell:
    words = [
        effect.family,
        *(["random"] if effect.random else []),
        *([effect.scope] if effect.scope != "image" else []),
    ]
    return Cell(effect.name, ", ".join(words), effect.name, f"#g-{anchor(effect.id)}", effect.instruction, "name")


def _mean_cell(metric: str, value: float | None, told: str, control: bool) -> Cell:
    css = "quiet" if control else ""
    if value is None:
        why = f"no scored case of this effect{f': {told}' if told else ''}"
        return Cell(MISSING, "", LAST, title=why, css=f"missing {css}".strip())
    return Cell(metric_value(metric, value), "", value, title=told, css=css)


def _read_as(entry: Entry, effect: Effect, results: Results) -> Cell:
    labels = [label for case, label in zip(entry.cases, entry.attributed, strict=True) if case.effect == effect.id]
    wrong = Counter(label for label in labels if label and label != effect.id)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{results.name(label)} ×{count}" for label, count in ranked[:3]]
    return Cell(", ".join(words) or "never", "", sum(wrong.values()), css="text" if words else "text quiet", key=True)
