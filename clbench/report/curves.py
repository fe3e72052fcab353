"""Quality against steps: the curve of every system, the area under it, and the steps that reach the teacher."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clbench import stats
from clbench.metrics.derived import SHARES, scale_of
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, interval, metric_value, number, plural
from clbench.report.data import Entry, Results
from clbench.report.numbers import Numbers, difference
from clbench.report.rows import counted
from clbench.report.tables import LAST, effect_values, noun, short
from clbench.types import MetricCard

TEACHER = "teacher"
MARGIN = 0.05
"""Reaching the teacher: at most 5 points below it where the metric is a share, else at most 5 % of the way that the
teacher goes from doing nothing (the identity control)."""


@dataclass(frozen=True)
class Curve:
    """One system at two or more numbers of steps, in the order of their passes; `passes` are medians, ``(K,)``."""

    system: str
    entries: list[Entry]
    passes: np.ndarray

    @property
    def name(self) -> str:
        """The system's name for readers."""
        return self.entries[0].name


def curves(results: Results, metric: str) -> list[Curve]:
    """The curves of all systems that were asked for several numbers of steps and scored on `metric`."""
    found = []
    for system in dict.fromkeys(entry.system for entry in results.systems):
        mine = [e for e in results.systems if e.system == system and metric in e.columns and np.isfinite(e.passes)]
        mine.sort(key=lambda entry: entry.passes)
        if len({entry.passes for entry in mine}) > 1:
            found.append(Curve(system, mine, np.array([entry.passes for entry in mine])))
    return found


def goal(results: Results, metric: str) -> Entry | None:
    """The teacher at its most steps, if it was scored."""
    teachers = [entry for entry in results.systems if entry.system == TEACHER and metric in entry.columns]
    return max(teachers, key=lambda entry: entry.steps or 0) if teachers else None


def margin(numbers: Numbers, metric: str, teacher: Entry) -> float:
    """How far below the teacher still counts as reaching it; NaN where nothing sets it."""
    if metric in SHARES:
        return MARGIN
    top = numbers.estimates[teacher.label, metric].value
    floors = [numbers.estimates[e.label, metric].value for e in numbers.results.controls if e.system == "identity"]
    return MARGIN * abs(top - floors[-1]) if floors else float("nan")


def common_range(found: list[Curve]) -> tuple[float, float]:
    """The passes that all curves cover; (NaN, NaN) where they do not overlap."""
    low, high = max(curve.passes[0] for curve in found), min(curve.passes[-1] for curve in found)
    return (float(low), float(high)) if low < high else (float("nan"), float("nan"))


def area(passes: np.ndarray, values: np.ndarray, low: float, high: float) -> float:
    """Mean height of a curve over log2 passes from `low` to `high`: each doubling of the passes counts the same.

    `passes` ``(K,)`` ascend and cover the range; `values` ``(K,)`` are joined by straight lines over log2 passes.
    """
    across, ends = np.log2(passes), np.log2([low, high])
    inside = (across > ends[0]) & (across < ends[1])
    grid = np.concatenate([ends[:1], across[inside], ends[1:]])
    heights = np.interp(grid, across, values)
    return float(np.sum((heights[1:] + heights[:-1]) / 2 * np.diff(grid)) / (ends[1] - ends[0]))


@dataclass(frozen=True)
class Areas:
    """The area of every effect, ``(E,)`` by system, over the same passes and the same E effects, so that they compare.

    `sources` ``(E,)`` are those of each effect. `left_out`: systems that were asked of fewer effects than others, which would
    leave little to compare the others on.
    """

    low: float
    high: float
    by_system: dict[str, np.ndarray]
    sources: np.ndarray
    left_out: list[str]

    @property
    def effects(self) -> int:
        """How many effects the areas are of; 0 where curves share no passes, or no effect was scored at all of their steps."""
        return min((len(areas) for areas in self.by_system.values()), default=0)


def areas_of(results: Results, found: list[Curve], metric: str) -> Areas:
    """The areas of those of `found` that were asked of every effect, on the effects that all of them were scored on."""
    whole = [curve for curve in found if all(entry in results.whole for entry in curve.entries)] or found
    low, high = common_range(whole)
    means = {curve.system: [effect_values(entry, metric) for entry in curve.entries] for curve in whole}
    common = sorted(set.intersection(*(set(each) for entries in means.values() for each in entries)))
    common = common if np.isfinite(low) else []
    by_system = {
        curve.system: np.array(
            [area(curve.passes, np.array([each[e] for each in means[curve.system]]), low, high) for e in common]
        )
        for curve in whole
    }  # fmt: skip
    entry = whole[0].entries[0]
    nested = stats.effect_means(entry.columns[metric].values, entry.effects, entry.sources)
    sources = nested.sources[np.isin(nested.labels, common)]  # both are sorted by label
    return Areas(low, high, by_system, sources, [curve.name for curve in found if curve.system not in by_system])


def reached(numbers: Numbers, curve: Curve, metric: str, flip: int, proven: bool) -> Entry | None:
    """The first entry of a curve within the margin of the teacher: measured so, or with its whole interval (`proven`).

    The teacher at its most steps, being the goal, reaches itself.
    """
    teacher = goal(numbers.results, metric)
    if teacher is None:
        return None
    allowed = margin(numbers, metric, teacher)
    for entry in curve.entries:
        if entry is teacher:
            return entry
        gap = difference(entry, teacher, metric)
        if gap is None:
            continue
        behind = max(-flip * gap.low, -flip * gap.high) if proven else -flip * gap.value
        if behind <= allowed + 1e-9:
            return entry
    return None


def answer(numbers: Numbers) -> tuple[str, str] | None:
    """When each system reaches the teacher, and what that rests on with the areas, as sentences; None without a curve.

    The first is "" where there is no teacher, or nothing that sets a margin.
    """
    card = numbers.results.headline
    found = curves(numbers.results, card.name) if card is not None else []
    if card is None or not found:
        return None
    areas, teacher = _area_words(numbers.results, found, card.name), goal(numbers.results, card.name)
    allowed = float("nan") if teacher is None else margin(numbers, card.name, teacher)
    others = [curve for curve in found if curve.system != TEACHER]
    if teacher is None or np.isnan(allowed) or not others:
        return "", areas
    flip = -1 if card.direction == "lower" else 1
    parts = []
    for curve in others:
        measured, surely = (reached(numbers, curve, card.name, flip, proven) for proven in (False, True))
        parts.append(f"{curve.name} {_when(measured, surely)}")
    words = f"Within {_margin_words(card.name, allowed)} of {teacher.label} on {noun(card.name)}: {'; '.join(parts)}."
    return words, f"Surely is said where the whole 95 % interval of the paired difference is within. {areas}".strip()


def _when(measured: Entry | None, surely: Entry | None) -> str:
    """At which steps the teacher is reached: the first whose mean does, and the first that surely does."""
    if measured is None:
        return "at none of its steps"
    if surely is None:
        return f"at {_steps(measured)}, surely at none"
    return f"surely at {_steps(measured)}" if surely is measured else f"at {_steps(measured)}, surely at {_steps(surely)}"


def _steps(entry: Entry) -> str:
    return f"{entry.steps} step{'' if entry.steps == 1 else 's'}"


def _area_words(results: Results, found: list[Curve], metric: str) -> str:
    """The areas in a sentence, and who is left out of it; "" where there is nothing to compare."""
    areas = areas_of(results, found, metric)
    if not areas.effects:
        return ""
    names = {curve.system: curve.name for curve in found}
    told = ", ".join(f"{names[one]} {metric_value(metric, float(each.mean()))}" for one, each in areas.by_system.items())
    what = f"Mean {noun(metric)} from {areas.low:.0f} to {areas.high:.0f} passes on {plural(areas.effects, 'effect')}"
    return f"{what}, each doubling counting the same: {told}. {_left_out(areas)}".strip()


def _left_out(areas: Areas) -> str:
    """Who was asked of fewer effects, in a sentence; "" where nobody was."""
    names, many = areas.left_out, len(areas.left_out) > 1
    verbs = ("were", "have") if many else ("was", "has")
    return f"{', '.join(names)} {verbs[0]} asked of fewer effects and {verbs[1]} no area." if names else ""


def table(numbers: Numbers) -> TableView | None:
    """Every system's area with its interval and the first numbers of steps that reach the teacher."""
    card = numbers.results.headline
    found = curves(numbers.results, card.name) if card is not None else []
    if card is None or not found:
        return None
    areas = areas_of(numbers.results, found, card.name)
    rows = [
        Row(
            [
                Cell(curve.name, f"{curve.entries[0].steps} to {curve.entries[-1].steps} steps", curve.name, css="name"),
                _area_cell(curve, card.name, areas),
                *(_reached_cell(numbers, curve, card, proven) for proven in (False, True)),
            ]
        )
        for curve in found
    ]
    name = short(card.name)
    heads = [
        Head("System", numeric=False),
        Head(f"Area, {name}", sub=_where(areas)),
        Head("Reaches the teacher", "first number of steps whose mean is within the margin", sub="measured"),
        Head("Surely reaches it", "first number of steps whose whole 95 % interval is within the margin", sub="interval"),
    ]
    return TableView("t-steps", "The curve in two numbers", heads, rows, _note(numbers, card.name, areas), "steps")


def _where(areas: Areas) -> str:
    """What areas are taken over, for the head of their column."""
    passes = f"{areas.low:.0f} to {areas.high:.0f} passes" if np.isfinite(areas.low) else ""
    return f"{passes}, {plural(areas.effects, 'effect')}" if areas.effects else passes


def _note(numbers: Numbers, metric: str, areas: Areas) -> str:
    words = (
        "Area: mean height of the curve over the passes that all systems cover, each doubling counting the same, on the effects "
        "that all were scored on at every step; its 95 % interval takes effects as the sample."
    )
    words = f"{words} {_left_out(areas)}".strip()
    teacher = goal(numbers.results, metric)
    if teacher is None:
        return f"{words} No teacher was run, so there is nothing to reach."
    allowed = margin(numbers, metric, teacher)
    if np.isnan(allowed):
        return f"{words} Without the identity control nothing sets a margin to the teacher for this metric."
    return f"{words} Reaching: at most {_margin_words(metric, allowed)} behind {teacher.label}, on the same cases."


def _margin_words(metric: str, allowed: float) -> str:
    return metric_value(metric, allowed, unit=False) + (" points" if metric in SHARES else "")


def _area_cell(curve: Curve, metric: str, found: Areas) -> Cell:
    areas = found.by_system.get(curve.system)
    if areas is None:
        return Cell(MISSING, sort=LAST, title="asked of fewer effects than other systems", css="missing")
    if not len(areas):
        why = "the curves share no passes, or no effect was scored at every step of all"
        return Cell(MISSING, sort=LAST, title=why, css="missing")
    nested = stats.EffectMeans(tuple(map(str, range(len(areas)))), areas, found.sources)
    value, bounds = float(areas.mean()), stats.interval_of(nested, stats.draws_for("area", metric), scale_of(metric))
    sub = interval(metric, *bounds) or "no interval from a single effect"
    return Cell(metric_value(metric, value), sub, value, bounds=bounds)


def _reached_cell(numbers: Numbers, curve: Curve, card: MetricCard, proven: bool) -> Cell:
    teacher = goal(numbers.results, card.name)
    if teacher is None or np.isnan(margin(numbers, card.name, teacher)):
        return Cell(MISSING, sort=LAST, title="nothing to reach: see the note", css="missing")
    entry = reached(numbers, curve, card.name, -1 if card.direction == "lower" else 1, proven)
    if entry is None:
        return Cell("not reached", sort=1e9, css="quiet")
    return Cell(_steps(entry), _passes(entry), float(entry.passes), key=True)


def values(numbers: Numbers) -> TableView | None:
    """Systems by numbers of steps: the headline metric with its interval, and median seconds for one picture."""
    card = numbers.results.headline
    found = curves(numbers.results, card.name) if card is not None else []
    if card is None or not found:
        return None
    steps = sorted({entry.steps for curve in found for entry in curve.entries if entry.steps is not None})
    rows = []
    for curve in found:
        by_step = {entry.steps: entry for entry in curve.entries}
        cells = [_value_cell(numbers, card.name, by_step.get(step)) for step in steps]
        rows.append(Row([Cell(curve.name, sort=curve.name, css="name"), *cells]))
    heads = [Head("System", numeric=False), *(Head(f"{step} step{'' if step == 1 else 's'}") for step in steps)]
    note = "Mean over effects with its 95 % interval, passes of the transformer and median wall time for one picture."
    return TableView("t-step-values", f"{short(card.name)} at every number of steps", heads, rows, note, "steps")


def _passes(entry: Entry) -> str:
    """``1 pass``, ``8 passes``."""
    return f"{entry.passes:.0f} pass{'' if entry.passes == 1 else 'es'}"


def _value_cell(numbers: Numbers, metric: str, entry: Entry | None) -> Cell:
    if entry is None:
        return Cell(MISSING, sort=LAST, title="not asked for", css="missing")
    one = numbers.estimates[entry.label, metric]
    seconds = [r.seconds for r in entry.records.values() if r.status == "ok" and np.isfinite(r.seconds)]
    cost = _passes(entry).replace(" ", "\u00a0") + (f", {number(float(np.median(seconds)), 3)}\u00a0s" if seconds else "")
    sub = f"{interval(metric, one.low, one.high)} {cost}".strip()
    return Cell(metric_value(metric, one.value), sub, one.value, title=counted(one), bounds=(one.low, one.high))
