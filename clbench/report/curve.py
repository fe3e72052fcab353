"""Curves of quality: against steps (forward passes), and against the number of effects in one adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clbench.metrics.capacity import BreakEven, break_even
from clbench.metrics.cards import METRICS
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.rows import SEED, Frame, estimate_cell, is_share, mean_of, number_cell
from clbench.results import EditRecord
from clbench.stats import Estimate

STEPS_NOTE = (
    "NFE counts forward passes of the transformer (guidance counts twice). The area is the mean of the curve over log2 NFE "
    "between its own ends. «Reaches the teacher» is the fewest passes from which on the mean stays within the margin of the "
    "teacher at its most steps."
)


@dataclass(frozen=True, slots=True)
class Point:
    """One system at one number of steps: forward passes and seconds per edit (medians), and quality."""

    system: str
    steps: int
    nfe: float
    seconds: float
    quality: Estimate


def step_points(frame: Frame, records: Mapping[str, Sequence[EditRecord]], metric: str) -> list[Point]:
    """Points of every system, by steps; `records` maps a system to its edits. Plain questions alone."""
    rows = frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "") & frame["steps"].notna()]
    points = []
    for (system, steps), mine in rows.groupby(["system", "steps"], sort=False):
        made = [r for r in records.get(system, ()) if r.status == "ok" and r.case.steps == steps and not r.case.probe]
        nfe = float(np.median([r.nfe for r in made])) if made else float("nan")
        seconds = float(np.median([r.seconds for r in made])) if made else float("nan")
        points.append(Point(str(system), int(steps), nfe, seconds, mean_of(mine, is_share(metric))))
    return sorted(points, key=lambda point: (list(records).index(point.system) if point.system in records else 0, point.steps))


def area(nfe: Sequence[float], values: Sequence[float]) -> float:
    """Mean of a curve over log2 of its positive `nfe` (trapezoids), in units of `values`; NaN for fewer than two points."""
    x, y = np.log2(np.asarray(nfe, float)), np.asarray(values, float)
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or x[-1] <= x[0]:
        return float("nan")
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def passes_to_reach(nfe: Sequence[float], values: Sequence[float], goal: float, margin: float, higher: bool = True) -> float:
    """Fewest `nfe` from which on all `values` (by growing nfe) are within `margin` of `goal`; infinity where none are.

    `higher` says whether more is better: being better than the goal counts as within.
    """
    short = [(goal - value if higher else value - goal) > margin for value in values]
    first = next((at for at in range(len(short)) if not any(short[at:])), None)
    return float("inf") if first is None else float(nfe[first])


def step_table(points: Sequence[Point], metric: str, margin: float, teacher: str = "teacher") -> TableView | None:
    """One row per system: quality at every number of steps, area, passes to reach the teacher, seconds at its most steps."""
    if not points:
        return None
    systems, steps = list(dict.fromkeys(p.system for p in points)), sorted({p.steps for p in points})
    best = [p for p in points if p.system == teacher]
    goal = best[-1].quality.value if best else float("nan")
    higher = METRICS.get(metric).direction != "lower"
    body = []
    for system in systems:
        mine = [p for p in points if p.system == system]
        by_steps = {p.steps: p for p in mine}
        cells = [Cell(system), *(_point_cell(metric, by_steps.get(step)) for step in steps)]
        nfe, values = [p.nfe for p in mine], [p.quality.value for p in mine]
        reach = passes_to_reach(nfe, values, goal, margin, higher) if np.isfinite([goal, *values, *nfe]).all() else float("nan")
        body.append(Row([*cells, number_cell(area(nfe, values), 3), number_cell(reach, 0), number_cell(mine[-1].seconds, 3)]))
    heads = [Head("System", numeric=False), *(Head(f"{step} steps") for step in steps)]
    heads += [Head("Area"), Head("Reaches the teacher", f"NFE; margin {margin:g}"), Head("Seconds at most steps")]
    return TableView(f"t-steps-{metric}", f"{metric} by number of steps", heads, body, STEPS_NOTE)


def _point_cell(metric: str, point: Point | None) -> Cell:
    return Cell("") if point is None else estimate_cell("success" if is_share(metric) else metric, point.quality)


# ---- the number of effects in one adapter


def common_gaps(
    frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade"
) -> tuple[list[int], np.ndarray, list[str]]:
    """(numbers of effects, gaps (M, K), the K effects): quality minus the reference's on effects that all candidates were asked.

    `counts` maps a candidate to how many effects it carries. A metric whose lower values are better is turned around.
    """
    rows = frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "") & (frame["status"] == "ok")]
    means = rows.groupby(["system", "effect"])["value"].mean()
    ordered = sorted((name for name in counts if name in means.index.get_level_values(0)), key=lambda name: counts[name])
    names = [reference, *ordered] if reference in means.index.get_level_values(0) else []
    shared = sorted(set.intersection(*(set(means[name].index) for name in names))) if len(names) > 1 else []
    sign = -1.0 if METRICS.get(metric).direction == "lower" else 1.0
    gaps = [[sign * (means[name][effect] - means[reference][effect]) for effect in shared] for name in ordered]
    return [counts[name] for name in ordered], np.array(gaps, dtype=float).reshape(len(ordered), len(shared)), shared


def capacity_table(frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade") -> TableView | None:
    """One row per candidate by its number of effects: quality, and minus the reference on common effects; N* in the note."""
    ordered = sorted(counts, key=lambda name: counts[name])
    rows = frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "")]
    if not ordered or rows.empty:
        return None
    _, gaps, shared = common_gaps(frame, counts, metric, reference)
    gap = dict(zip([name for name in ordered if name in set(rows["system"])], gaps.mean(axis=1) if shared else [], strict=False))
    shown = "success" if is_share(metric) else metric
    body = []
    for name in ordered:
        own = rows[(rows["system"] == name) & (rows["status"] != "unscored")]
        quality = estimate_cell(shown, mean_of(own, is_share(metric)))
        body.append(
            Row([Cell(name), Cell(str(counts[name]), sort=counts[name]), quality, number_cell(gap.get(name, float("nan")), 3)])
        )
    heads = [Head("Adapter", numeric=False), Head("Effects in it"), Head(metric), Head(f"minus {reference}, common effects")]
    return TableView(f"t-capacity-{metric}", "Quality by number of effects in one adapter", heads, body, break_even_words(
        capacity_break_even(frame, counts, metric, reference), reference
    ))  # fmt: skip


def capacity_break_even(frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade") -> BreakEven:
    """N*: up to how many effects in one adapter `metric` is as good as the reference's; candidates of equal size count once."""
    numbers, gaps, _ = common_gaps(frame, counts, metric, reference)
    sizes = sorted(set(numbers))
    if not sizes or not gaps.size:
        nan = float("nan")
        return BreakEven(nan, nan, nan, 0, "no adapter and reference share an effect")
    merged = np.stack([gaps[[at for at, number in enumerate(numbers) if number == size]].mean(axis=0) for size in sizes])
    return break_even(sizes, merged, np.random.default_rng(SEED))


def break_even_words(found: BreakEven, reference: str) -> str:
    """N* as a sentence."""
    if np.isnan(found.value):
        return f"No break-even: {found.reason}."
    words = {0.0: "below the smallest adapter", np.inf: "beyond the largest adapter"}
    value = words.get(found.value, f"at about {found.value:.3g} effects")
    ends = (
        [words.get(end, f"{end:.3g}") for end in (found.low, found.high)] if np.isfinite(found.low) or found.n_effects > 1 else []
    )
    spread = f" (95 % interval: {ends[0]} to {ends[1]}, over {found.n_effects} effects)" if ends else f" ({found.reason})"
    return f"Break-even against {reference}: {value}{spread}."


def incremental_table(
    frame: Frame, trained: Mapping[str, tuple[Sequence[str], Sequence[str]]], metric: str
) -> TableView | None:
    """Old and new effects apart: one row per candidate; `trained` maps it to (all its effects, the new ones among them)."""
    rows = frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "")]
    shown, body = "success" if is_share(metric) else metric, []
    for name, (effects, new) in trained.items():
        mine = rows[rows["system"] == name]
        old = [effect for effect in effects if effect not in new]
        parts = [mine[mine["effect"].isin(part)] for part in (old, new)]
        if not mine.empty and new:
            cells = [estimate_cell(shown, mean_of(part, is_share(metric))) if len(part) else Cell("") for part in parts]
            body.append(Row([Cell(name), Cell(str(len(old))), cells[0], Cell(str(len(new))), cells[1]]))
    if not body:
        return None
    heads = [
        Head("Adapter", numeric=False),
        Head("Old effects"),
        Head(f"{metric}, old"),
        Head("New effects"),
        Head(f"{metric}, new"),
    ]
    return TableView(f"t-incremental-{metric}", "Old and new effects of extended adapters", heads, body)


def trained_effects(card: Mapping) -> tuple[list[str], list[str]] | None:
    """(all, new) effects of a candidate by its system card (``run.info.system.card``); None where it does not say."""
    settings = card["settings"]
    return (settings["effects"], settings["new effects"]) if "effects" in settings else None
