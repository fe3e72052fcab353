"""What is claimed of CollectionLoRA in ratios, measured here beside the paper's own figures (`clbench.published`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clbench.metrics.cards import METRICS
from clbench.published import ABLATION, CLAIMS, PAPER, Claim
from clbench.report.blocks import Section, folded
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, Whisker, metric_value, number, plural
from clbench.report.data import Entry, Results
from clbench.report.material import Material
from clbench.report.numbers import ratio
from clbench.report.tables import LAST, short
from clbench.stats import Ratio

REACH = 4.0
"""The drawing of an interval goes from the target divided by this to the target times this."""

HEADS = [
    Head("Claim", numeric=False), Head("Ratio", sub="95 % interval"), Head("Target"), Head("Reading", numeric=False),
    Head("Paper", sub="its figures"), Head("Means", sub="first, second"),
]  # fmt: skip
LEAD = (
    f"What the paper ({PAPER}) says of one LoRA of 50 effects, measured here. Its figures are of a base of 20B parameters and "
    "the judgement of a language model, so ratios of two systems can be compared with them, values cannot. Its distance is "
    "DreamSim where this is «perceptual» (ST-LPIPS or LPIPS), its subject score DINO where this is «subject»: other measures of "
    "the same thing. «Subject» runs from 1 (gone) to 5; its ratio is of what is above 1, as DINO counts from 0. It has no figure "
    "of leak."
)
PARTS = (
    f"What the paper ({PAPER}) says of the parts of the method, measured here: failure rates and VSA with a part and without it. "
    "Its figures are of a base of 20B parameters and the judgement of a language model, so signs and ratios can be compared, "
    "values cannot. The target of 0 % is reached where the part does no harm. What prompting does the paper tells of routing "
    "alone (with it and without); here it is taken from the whole method."
)
NOTE = (
    "Ratio of the nested means on the cases that both systems have, each at its usual number of steps, with a 95 % interval over "
    "effects (both systems drawn together). «met» and «missed» are said of the measured ratio; «not certain» means that the "
    "interval also holds ratios of the other kind, or that there is no interval, «open» that there is no ratio. The drawing "
    "shows the interval around the target, from a quarter of it to four times as much. Lines without a target show what the "
    "baselines do there and here. Readings are not corrected for the number of claims, and for failure rates the intervals of "
    "both systems are combined: they may differ from what the table of differences says."
)


@dataclass(frozen=True)
class Found:
    """A claim with what was measured."""

    claim: Claim
    ratio: Ratio


def published(material: Material) -> Section | None:
    """Every collection against teacher, cascade and joint LoRA with accelerator, beside the paper; None without such a pair.

    Where the reference is itself a collection, the others are variants of a method with one part less, of which nobody
    claims to be as good: then what the paper says of each part.
    """
    results = material.results
    if any(entry.collection and entry.system == results.about.reference for entry in results.systems):
        return _published_parts(results)
    views = [view for entry in usual(results) if entry.collection and (view := published_table(results, entry)) is not None]
    if not views:
        return None
    return Section("published", "Against the published figures", LEAD, [views[0], *map(folded, views[1:])])


def _published_parts(results: Results) -> Section | None:
    """One row per part whose variants are there, by their candidates' names; None without any."""
    start = f"{results.about.reference}-"
    entries = {entry.system.removeprefix(start): entry for entry in usual(results)}
    shown = _measured(ABLATION, entries)
    if not shown:
        return None
    caption, rows = "Parts of the method against the published ablation", [_row(one, {}) for one in shown]
    view = TableView("t-published-parts", caption, HEADS, rows, NOTE, "differences", sortable=False)
    return Section("published", "Against the published figures", PARTS, [view])


def usual(results: Results) -> list[Entry]:
    """Systems at the number of steps that their cards name, on questions about single effects, asked of all of them."""
    own = [entry for entry in results.whole if entry.steps in (None, entry.own_steps)]
    return [entry for entry in own if not any(case.second for case in entry.cases)]


def published_table(results: Results, candidate: Entry) -> TableView | None:
    """One row per claim that could be measured for `candidate`; None where none could on common cases."""
    shown = measured(results, candidate)
    if not any(one.claim.target is not None and one.ratio.n_pairs for one in shown):
        return None
    rows = [_row(one, {"collection": candidate.name}) for one in shown]
    caption = f"{candidate.label} against the published figures"
    note = f"{NOTE} {_left_out(shown)}".strip()
    return TableView(f"t-published-{candidate.system}", caption, HEADS, rows, note, "differences", sortable=False)


def measured(results: Results, candidate: Entry) -> list[Found]:
    """The claims both of whose systems were scored, in their order; `candidate` stands for the collection."""
    entries = {entry.system: entry for entry in usual(results) if not entry.collection} | {"collection": candidate}
    return _measured(CLAIMS, entries)


def _measured(claims: Sequence[Claim], entries: Mapping[str, Entry]) -> list[Found]:
    pairs = [(claim, entries.get(claim.first), entries.get(claim.second)) for claim in claims]
    found = [
        (claim, ratio(_from_zero(one, claim.metric), _from_zero(two, claim.metric), claim.metric))
        for claim, one, two in pairs if one is not None and two is not None
    ]  # fmt: skip
    return [Found(claim, one) for claim, one in found if one is not None]


def _from_zero(entry: Entry, metric: str) -> Entry:
    """The entry with the scores of a metric counted from the lowest possible one: an offset in both draws a ratio to 1."""
    lowest = METRICS.get(metric).bounds[0]
    if not lowest or metric not in entry.columns:
        return entry
    column = entry.columns[metric]
    return replace(entry, columns={**entry.columns, metric: replace(column, values=column.values - lowest)})


def reading(claim: Claim, found: Ratio) -> str:
    """``met``, ``missed``, either with ``not certain`` where the interval (or its absence) leaves that open, or ``open``."""
    if claim.target is None:
        return ""
    if math.isnan(found.value):
        return "open"
    held = [_reaches(claim, end) for end in (found.low, found.value, found.high)]
    sure = not math.isnan(found.low) and len(set(held)) == 1
    return f"{'met' if held[1] else 'missed'}{'' if sure else ', not certain'}"


def _reaches(claim: Claim, value: float) -> bool:
    assert claim.target is not None
    return value >= claim.target if METRICS.get(claim.metric).direction == "higher" else value <= claim.target


def _row(one: Found, words: Mapping[str, str]) -> Row:
    """A claim in cells; `words` are what its systems are called where that is not their name in the claim."""
    claim, found, said = one.claim, one.ratio, reading(one.claim, one.ratio)
    names = [words.get(name, name) for name in (claim.first, claim.second)]
    css = {"met": "diff better", "missed": "diff worse"}.get(said, "diff open")
    lowest = METRICS.get(claim.metric).bounds[0]  # means stand on the metric's own scale
    means = ", ".join(metric_value(claim.metric, mean + lowest) for mean in (found.first, found.second))
    dropped = f", {found.n_dropped} dropped" if found.n_dropped else ""
    cells = [
        Cell(claim.words, " / ".join(names), css="name"),
        _ratio_cell(one, css),
        Cell(_target(claim)),
        Cell(said, css=f"text {css}"),
        _paper_cell(claim),
        Cell(means, f"{plural(found.n_pairs, 'case')}, {plural(found.n_effects, 'effect')}{dropped}", title=short(claim.metric)),
    ]
    return Row(cells)


def _ratio_cell(one: Found, css: str) -> Cell:
    claim, found = one.claim, one.ratio
    if math.isnan(found.value):
        return Cell(MISSING, found.reason, LAST, title=found.reason, css="missing")
    value = _apart(claim, found.value)
    if math.isnan(found.low):
        return Cell(value, found.reason, found.value)
    top = "no upper bound" if math.isinf(found.high) else told(claim, found.high)
    high = float("nan") if math.isinf(found.high) else found.high
    drawn = None if claim.target is None else Whisker(*_places(claim.target, (found.low, found.value, found.high)), zero=50.0)
    sub = f"[{told(claim, found.low)}, {top}]"
    return Cell(value, sub, found.value, title=found.reason, css=css, whisker=drawn, bounds=(found.low, high))


def _places(target: float, ends: Sequence[float]) -> list[float]:
    """Where ratios stand on a logarithmic scale around the target, 0 to 100; beyond `REACH` at the end."""
    inside = np.clip(np.asarray(ends) / target, 1 / REACH, REACH)
    return [round(float(place), 1) for place in 50 + 50 * np.log(inside) / np.log(REACH)]


def told(claim: Claim, value: float, more: int = 0) -> str:
    """A ratio as its claim is told: to three decimals, or as a change in per cent with one; to `more` of them on demand."""
    return f"{number(100 * (value - 1), 1 + more, signed=True)} %" if claim.change else number(value, 3 + more)


def _apart(claim: Claim, value: float) -> str:
    """The ratio with so many decimals that it can be told from a target that it misses."""
    if claim.target is None or _reaches(claim, value):
        return told(claim, value)
    return next(words for more in range(6) if (words := told(claim, value, more)) != told(claim, claim.target, more) or more == 5)


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    sign = "≥" if METRICS.get(claim.metric).direction == "higher" else "≤"
    return f"{sign} {told(claim, claim.target) if claim.change else f'{claim.target:g}'}"


def _paper_cell(claim: Claim) -> Cell:
    if claim.published is None:
        return Cell(MISSING, "no figure", css="missing")
    name, first, second = claim.published
    return Cell(told(claim, first / second), f"{name} {number(first)} / {number(second)}", first / second)


def _left_out(shown: Sequence[Found]) -> str:
    """Which claims could not be measured, by the systems and metrics that they need."""
    kept = {one.claim for one in shown}
    words = [f"{claim.words.lower()} {claim.first} / {claim.second}" for claim in CLAIMS if claim.target and claim not in kept]
    return f"Not run or not scored here: {'; '.join(words)}." if words else ""
