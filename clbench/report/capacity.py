"""Tables about the number of effects in one adapter: quality, break-even against a reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from clbench.metrics.capacity import BreakEven, break_even
from clbench.metrics.cards import METRICS
from clbench.metrics.derived import scale_of
from clbench.report.cells import MISSING, Cell, Head, Row, TableView
from clbench.report.differences import compared_cell, reach
from clbench.report.numbers import Compared, judged
from clbench.report.rows import LAST, Frame, as_made, estimate_cell, is_share, mean_of
from clbench.report.tables import head, short
from clbench.stats import NO_VARIATION, Difference, draws_for, few_differ, paired_difference

Held = Mapping[str, Collection[str]]
"""Adapter -> the effects that it was trained on, as its card says (see `trained_effects`)."""
GAP = "paired difference on the cases of both"
PAIRED = "Differences are on the cases of both, with 95 % interval and Holm-corrected p (over the adapters of the column)."
NO_GAP = Cell(MISSING, sort=LAST, title="no case that both were scored on", css="missing")


def plain(frame: Frame, metric: str) -> Frame:
    """The rows of one metric on plain questions about single effects."""
    return frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "")]


def common_gaps(
    frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade"
) -> tuple[list[str], np.ndarray, list[str]]:
    """(candidates by size, gaps (M, K), the K effects): quality minus the reference's on effects that all candidates were asked.

    Only cases that both were scored on count, so that neither has easier scenes. `counts` maps a candidate to how many effects
    it carries. Differences are as measured, whichever direction is better.
    """
    rows = plain(frame, metric)
    rows = rows[rows["status"] == "ok"]
    scored = set(rows["system"])
    ordered = sorted((name for name in counts if name in scored), key=lambda name: counts[name])
    there = reference in scored
    other = rows[rows["system"] == reference]
    paired = [_paired_means(as_made(rows[rows["system"] == name]), other) for name in ordered] if there else []
    shared = sorted(set.intersection(*(set(gaps.index) for gaps in paired))) if paired else []
    gaps = [[gaps[effect] for effect in shared] for gaps in paired]
    return ordered, np.array(gaps, dtype=float).reshape(len(ordered), len(shared)), shared


def _paired_means(rows: Frame, reference: Frame) -> Frame:
    """Mean difference to the reference by effect, over the cases of both at the same steps: seeds first, then sources."""
    both = rows.merge(reference, on=["effect", "source", "seed", "steps"], suffixes=("", "_reference"))
    gaps = both.assign(gap=both["value"] - both["value_reference"])
    return gaps.groupby(["effect", "source"])["gap"].mean().groupby("effect").mean()


def capacity_table(frame: Frame, held: Held, metric: str, reference: str = "cascade") -> TableView | None:
    """One row per candidate by its number of effects: quality on its own effects, and on those that all of them hold, each also
    minus the reference; N* in the note. Without a reference neither differences nor N*.
    """
    rows, counts = plain(frame, metric), {name: len(effects) for name, effects in held.items()}
    if not counts or rows.empty:
        return None
    names, _, shared = common_gaps(frame, counts, metric, reference)
    there, compared = names if shared else [], _ran(rows, reference)
    own_gaps = gap_cells(judged_gaps(rows, {name: (reference, held[name]) for name in names}, metric), metric)
    gaps = gap_cells(judged_gaps(rows, dict.fromkeys(there, (reference, shared)), metric), metric)
    shared = shared if compared else _scored_of_all(rows, names)
    body = []
    for name in sorted(counts, key=lambda name: counts[name]):
        own = _own(rows, name, held)
        size, quality = Cell(str(counts[name]), sort=counts[name]), estimate_cell(metric, mean_of(own, metric))
        common = estimate_cell(metric, mean_of(own[own["effect"].isin(shared)], metric))
        differences = [[found.get(name, NO_GAP)] if compared else [] for found in (own_gaps, gaps)]
        body.append(Row([Cell(name), size, quality, *differences[0], common, *differences[1]]))
    among, alone = f"{len(shared)} common effects", "its own effects"
    label = head(METRICS.get(metric)).label
    heads = [Head("Adapter", numeric=False), Head("Effects in it")]
    for effects in (alone, among):
        heads += [Head(label, sub=effects), *([Head(f"minus {reference}", GAP, sub=effects)] if compared else [])]
    note = f"{PAIRED} {break_even_words(capacity_break_even(frame, counts, metric, reference), reference)}"
    note = note if compared else f"{_not_run(reference)}, nor from which number of effects on it is better."
    return TableView(f"t-capacity-{metric}", f"{short(metric)} by number of effects in one adapter", heads, body, note)


def rank_table(
    frame: Frame, ranks: Mapping[str, int], held: Held, metric: str, reference: str = "cascade"
) -> TableView | None:
    """One row per adapter by its rank: quality on its own effects, and minus the reference on the same effects."""
    rows = plain(frame, metric)
    if rows.empty:
        return None
    names, _, shared = common_gaps(frame, ranks, metric, reference)
    compared = _ran(rows, reference)
    gaps = gap_cells(judged_gaps(rows, dict.fromkeys(names if shared else [], (reference, shared)), metric), metric)
    body = []
    for name in sorted(ranks, key=lambda name: ranks[name]):
        own = _own(rows, name, held)
        quality, rank = estimate_cell(metric, mean_of(own, metric)), Cell(str(ranks[name]), sort=ranks[name])
        body.append(Row([Cell(name), rank, quality, *([gaps.get(name, NO_GAP)] if compared else [])]))
    heads = [Head("Adapter", numeric=False), Head("Rank"), head(METRICS.get(metric))]
    heads += [Head(f"minus {reference}", GAP, sub=f"{len(shared)} common effects")] if compared else []
    note = PAIRED if compared else f"{_not_run(reference)}."
    return TableView(f"t-ranks-{metric}", f"{short(metric)} by rank of the adapter", heads, body, note)


def _ran(rows: Frame, reference: str) -> bool:
    """Whether any case of the reference was scored."""
    return bool(((rows["system"] == reference) & (rows["status"] == "ok")).any())


def _not_run(reference: str) -> str:
    return f"Without a run of {reference} nothing is said about differences to it"


def _scored_of_all(rows: Frame, names: Collection[str]) -> list[str]:
    """The effects that each of these adapters was scored on."""
    done = rows[rows["status"] == "ok"]
    return sorted(set.intersection(*(set(done[done["system"] == name]["effect"]) for name in names))) if names else []


def _own(rows: Frame, name: str, held: Held) -> Frame:
    """The rows of an adapter's own effects; of all that it was asked for where its card does not name them.

    What could not be scored of them stays in, to be counted.
    """
    mine = as_made(rows[rows["system"] == name])
    return mine[mine["effect"].isin(held[name])] if name in held else mine


def gap_on(rows: Frame, name: str, other: str, effects: Collection[str], metric: str) -> Difference:
    """`name` minus `other` on their common cases of `effects`; `rows` are the plain ones of `metric`."""
    mine, theirs = (rows[(rows["system"] == system) & rows["effect"].isin(effects)] for system in (name, other))
    both = as_made(mine).merge(theirs, on=["effect", "source", "seed", "steps"], suffixes=("", "_other"))
    first = both["value"].where(both["status"] == "ok").to_numpy()
    second = both["value_other"].where(both["status_other"] == "ok").to_numpy()
    drawn = draws_for("difference", metric)
    return paired_difference(first, second, both["effect"].tolist(), both["source"].tolist(), drawn, scale_of(metric))


def judged_gaps(rows: Frame, on: Mapping[str, tuple[str, Collection[str]]], metric: str) -> dict[str, Compared]:
    """`gap_on` of each adapter, to the system and on the effects that `on` gives it; the correction is over these adapters."""
    gaps = {name: gap_on(rows, name, other, effects, metric) for name, (other, effects) in on.items()}
    return judged(gaps, METRICS.get(metric).direction)


def gap_cells(found: Mapping[str, Compared], metric: str) -> dict[str, Cell]:
    """The differences of one column, on a common scale."""
    half = reach(found.values())
    return {name: compared_cell(one, METRICS.get(metric), half) for name, one in found.items()}


def capacity_break_even(frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade") -> BreakEven:
    """N*: up to how many effects in one adapter `metric` is as good as the reference's; candidates of equal size count once."""
    names, gaps, _ = common_gaps(frame, counts, metric, reference)
    numbers = [counts[name] for name in names]
    sizes = sorted(set(numbers))
    if not sizes or not gaps.size:
        nan = float("nan")
        return BreakEven(nan, nan, nan, 0, "no adapter and reference share an effect")
    differ = int((np.abs(gaps) > NO_VARIATION).sum(axis=1).min())
    if few_differ(gaps).any() and (is_share(metric) or differ < gaps.shape[1]):  # shares, and what is made of them, as VSA
        reason = (
            f"of the {gaps.shape[1]} effects that all adapters hold, an adapter and the reference differ in {differ} only, too "
            "few to tell where one becomes better"
        )
        nan = float("nan")
        return BreakEven(nan, nan, nan, gaps.shape[1], reason)
    merged = np.stack([gaps[[at for at, number in enumerate(numbers) if number == size]].mean(axis=0) for size in sizes])
    better = -1.0 if METRICS.get(metric).direction == "lower" else 1.0
    return break_even(sizes, better * merged, draws_for("break-even", metric))


def break_even_words(found: BreakEven, reference: str) -> str:
    """N* as a sentence."""
    if np.isnan(found.value):
        return f"No break-even: {found.reason}."
    words = {0.0: "below the smallest adapter", np.inf: "beyond the largest adapter"}
    value = words.get(found.value, f"at about {found.value:.3g} effects")
    ends = (
        [words.get(end, f"{end:.3g}") for end in (found.low, found.high)] if not np.isnan(found.low) else []
    )
    spread = f" (95 % interval: {ends[0]} to {ends[1]}, over {found.n_effects} effects)" if ends else f" ({found.reason})"
    return f"Break-even against {reference}: {value}{spread}."


def trained_effects(card: Mapping) -> tuple[list[str], list[str]] | None:
    """(all, new) effects of a candidate by its system card (``run.info.system.card``); None where it does not say."""
    settings = card["settings"]
    return (settings["effects"], settings["new effects"]) if "effects" in settings else None
