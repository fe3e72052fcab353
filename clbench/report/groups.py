"""Tables about groups of sources: does quality hold away from the pictures that adapters were trained on?

An effect on subject or background has no truth on a plain photograph. So groups are compared on the effects whose truth is
known in every group; all effects of each group stand in a table of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clbench.metrics.cards import METRICS
from clbench.metrics.derived import scale_of
from clbench.report.cells import MINUS, Cell, Head, Row, TableView, plural
from clbench.report.data import Results
from clbench.report.differences import compared_cell, hopeless, reach
from clbench.report.numbers import judged
from clbench.report.rows import Frame, as_made, estimate_cell, mean_of, share_of
from clbench.report.tables import short
from clbench.sources import GROUPS, group_of
from clbench.stats import Difference, draws_for, paired_difference

HOME = "seen"
"""The group that the others are compared with."""
LEAK = "leak_total"
CASE = ["system", "effect", "source", "seed", "steps", "probe"]
NOTE = (
    "On the effects whose truth is known in every group: one on subject or background has none on a plain photograph. "
    "The few sources of a group are fixed: intervals take effects as the sample and say nothing of other scenes."
)
WHOLE_NOTE = "Each group on all effects whose truth is known there, so that the columns are not of the same effects."
SUMMED = "Leak is the sum over the other effects among these, the same ones in every group."
NOT_SUMMED = (
    "Leak is here the sum over all effects whose truth is known on a picture, fewer of them on photographs: `clbench score` "
    "gives the leak of each effect, so that the same ones can be summed in every group."
)
AGAINST_NOTE = (
    "Each group minus «seen», on the same effects: the first scene of the one with the first of the other, and so on, with its "
    "95 % interval over effects and Holm-corrected p (over the cells of the table)."
)
FEWER = (
    "On photographs fewer effects compete to be read: the last column is the share of pictures of the other groups that were "
    "read as an effect which does not compete there, about what photographs may gain by that."
)


def grouped(frame: Frame, metric: str, probe: str = "") -> Frame:
    """The rows of `metric` on sources of groups for the plain question or a `probe`, with their `group`, at the steps that each
    system is made for."""
    rows = as_made(frame[(frame["metric"] == metric) & (frame["probe"] == probe) & (frame["second"] == "")])
    rows = rows.assign(group=rows["source"].map(group_of))
    return rows[rows["group"] != ""]


def scored_groups(rows: Frame) -> list[str]:
    """The groups in which anything was scored, in their order; of the subject, for one, nothing is known on photographs."""
    scored = set(rows[rows["status"] == "ok"]["group"])
    return [name for name in GROUPS if name in scored]


def common_effects(rows: Frame) -> list[str]:
    """The effects that have a score in every group in which anything was scored; `rows` as `grouped` gives them."""
    scored = rows[rows["status"] == "ok"]
    known = [set(held["effect"]) for _, held in scored.groupby("group")]
    return [effect for effect in dict.fromkeys(scored["effect"]) if all(effect in held for held in known)]


def common_leak(results: Results, rows: Frame, effects: Sequence[str]) -> Frame | None:
    """`rows` of leak_total with the leak summed over `effects` alone; None where the leak of each effect was not scored.

    A case of which no leak of an effect is known has no value.
    """
    sums: dict[tuple[object, ...], float] = {}
    for entry in (*results.entries, *results.variants):
        known = np.bincount(entry.leak.places, minlength=len(entry.cases)) > 0
        mine = np.isin(entry.leak.others.astype(str), list(effects))
        total = np.bincount(entry.leak.places[mine], entry.leak.values[mine], len(entry.cases))
        for place in np.flatnonzero(known).tolist():
            case = entry.cases[place]
            sums[entry.system, case.effect, case.source, case.seed, case.steps, case.probe] = float(total[place])
    if not sums:
        return None
    keys = zip(*(rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in CASE), strict=True)
    values = np.array([sums.get(key, np.nan) for key in keys])
    return rows.assign(value=np.where(rows["status"] == "ok", values, np.nan))


def group_table(frame: Frame, metric: str, probe: str = "", results: Results | None = None) -> TableView | None:
    """One row per system, one column per group, on the effects known in every group; None without groups.

    `results` give the leak of each effect, of which leak_total is summed anew.
    """
    rows = grouped(frame, metric, probe)
    effects = common_effects(rows)
    shared, note = on_common(rows, metric, effects, results)
    view = _table(shared, metric, f"{short(metric)} by group of sources, {plural(len(effects), 'effect')} known in every group")
    if view is None or not effects:
        return None
    name = f"{view.id}-{probe}" if probe else view.id
    caption = f"{view.caption}, probe «{probe}»" if probe else view.caption
    return TableView(name, caption, view.heads, view.rows, " ".join(filter(None, ("" if probe else NOTE, note))))


def on_common(rows: Frame, metric: str, effects: Sequence[str], results: Results | None) -> tuple[Frame, str]:
    """The rows of `effects`, the leak of leak_total summed over them alone where it can be; and what to say of that."""
    shared = rows[rows["effect"].isin(effects)]
    if metric != LEAK:
        return shared, ""
    summed = common_leak(results, shared, effects) if results is not None else None
    return (shared, NOT_SUMMED) if summed is None else (summed, SUMMED)


def whole_table(frame: Frame, metric: str) -> TableView | None:
    """The same on all effects of each group; None where every group has the same ones."""
    rows = grouped(frame, metric)
    if set(common_effects(rows)) == set(rows[rows["status"] == "ok"]["effect"]):
        return None
    view = _table(rows, metric, f"{short(metric)} by group of sources, all effects of each group")
    return None if view is None else TableView(f"{view.id}-all", view.caption, view.heads, view.rows, WHOLE_NOTE)


def _table(rows: Frame, metric: str, caption: str) -> TableView | None:
    groups = scored_groups(rows)
    asked = [name for name in dict.fromkeys(rows["system"]) if (rows[rows["system"] == name]["status"] == "ok").any()]
    if not groups or not asked:
        return None
    body = []
    for system in asked:
        mine = rows[rows["system"] == system]
        found = (mean_of(mine[mine["group"] == group], metric) for group in groups)
        body.append(Row([Cell(system), *(estimate_cell(metric, one) for one in found)]))
    heads = [Head("System", numeric=False), *(Head(name, GROUPS[name].told) for name in groups)]
    return TableView(f"t-groups-{metric}", caption, heads, body)


def against_seen(frame: Frame, metric: str, systems: Sequence[str], results: Results | None = None) -> TableView | None:
    """Every group minus «seen» for each of `systems`, on the effects known in every group; None without «seen» or another one."""
    rows = grouped(frame, metric)
    effects = common_effects(rows)
    shared, note = on_common(rows, metric, effects, results)
    groups = [name for name in scored_groups(shared) if name != HOME]
    asked = [name for name in dict.fromkeys(shared["system"]) if name in systems]
    if not groups or not asked or HOME not in scored_groups(shared) or note == NOT_SUMMED:
        return None
    gaps = {(system, group): group_gap(shared[shared["system"] == system], metric, group) for system in asked for group in groups}
    card = METRICS.get(metric)
    found = judged(gaps, card.direction)
    fewer = _fewer(frame, effects, asked) if metric == "success" else {}
    body = [
        Row([Cell(system), *(compared_cell(found[system, group], card, reach(found.values())) for group in groups),
             *([fewer[system]] if fewer else [])])
        for system in asked
    ]  # fmt: skip
    heads = [Head("System", numeric=False), *(Head(f"{group} {MINUS} {HOME}", GROUPS[group].told) for group in groups)]
    heads += [Head("Read as an effect of scenes only")] if fewer else []
    words = (AGAINST_NOTE, note, FEWER if fewer else "", hopeless({metric: found.values()}, "cell"))
    caption = f"{short(metric)} away from the scenes of the training pictures, {plural(len(effects), 'effect')}"
    return TableView(f"t-groups-{metric}-against", caption, heads, body, " ".join(filter(None, words)), "differences")


def group_gap(rows: Frame, metric: str, group: str) -> Difference:
    """`group` minus «seen» of one system, paired on effect, number of the scene in its group, seed and steps."""
    numbered = rows.assign(number=[source.rpartition("-")[2] for source in rows["source"]])
    sides = (numbered[numbered["group"] == name] for name in (group, HOME))
    both = next(sides).merge(next(sides), on=["effect", "number", "seed", "steps"], suffixes=("", "_seen"))
    first, second = both["value"].to_numpy(dtype=float), both["value_seen"].to_numpy(dtype=float)
    names = both["effect"].tolist(), both["number"].tolist()
    return paired_difference(first, second, *names, draws_for("difference", metric), scale_of(metric))


def _fewer(frame: Frame, effects: Sequence[str], systems: Sequence[str]) -> dict[str, Cell]:
    """How often a picture of `effects` was read as an effect that does not compete in every group, where that one competes; by
    system. Empty where every effect competes everywhere, or nothing was read."""
    rows = grouped(frame, "attributed")
    scored = rows[rows["status"] == "ok"]
    rivals = sorted(set(scored["effect"]) - set(effects))
    there = set(scored[scored["effect"].isin(rivals)]["group"])
    rows = rows[rows["effect"].isin(effects) & rows["group"].isin(there)]
    mine = {system: rows[rows["system"] == system] for system in systems}
    if not there or any(held.empty for held in mine.values()):
        return {}
    shares = {system: share_of(held, held["other"].isin(rivals).to_numpy()) for system, held in mine.items()}
    return {system: estimate_cell("success", share) for system, share in shares.items()}
