"""Tables about the number of effects in one adapter: quality, break-even against a reference."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from clbench.metrics.capacity import BreakEven, break_even
from clbench.metrics.cards import METRICS
from clbench.metrics.derived import scale_of
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, metric_value
from clbench.report.rows import LAST, SEED, Frame, as_made, estimate_cell, is_share, mean_of
from clbench.report.tables import head, short
from clbench.stats import NO_VARIATION, few_differ

Held = Mapping[str, Collection[str]]
"""Adapter -> the effects that it was trained on, as its card says (see `trained_effects`)."""
GAP = "difference on the cases of both, as measured"


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
    """One row per candidate by its number of effects: quality on its own effects, and on those that all of them hold, there also
    minus the reference; N* in the note.
    """
    rows, counts = plain(frame, metric), {name: len(effects) for name, effects in held.items()}
    if not counts or rows.empty:
        return None
    names, gaps, shared = common_gaps(frame, counts, metric, reference)
    gap = dict(zip(names, gaps.mean(axis=1), strict=True)) if shared else {}
    body = []
    for name in sorted(counts, key=lambda name: counts[name]):
        own = _own(rows, name, held)
        size, quality = Cell(str(counts[name]), sort=counts[name]), estimate_cell(metric, mean_of(own, scale_of(metric)))
        common = estimate_cell(metric, mean_of(own[own["effect"].isin(shared)], scale_of(metric)))
        body.append(Row([Cell(name), size, quality, common, _gap_cell(metric, gap.get(name))]))
    among = f"{len(shared)} common effects"
    label = head(METRICS.get(metric)).label
    heads = [Head("Adapter", numeric=False), Head("Effects in it"), Head(label, sub="its own effects")]
    heads += [Head(label, sub=among), Head(f"minus {reference}", GAP, sub=among)]
    note = break_even_words(capacity_break_even(frame, counts, metric, reference), reference)
    return TableView(f"t-capacity-{metric}", f"{short(metric)} by number of effects in one adapter", heads, body, note)


def rank_table(
    frame: Frame, ranks: Mapping[str, int], held: Held, metric: str, reference: str = "cascade"
) -> TableView | None:
    """One row per adapter by its rank: quality on its own effects, and minus the reference on the same effects."""
    rows = plain(frame, metric)
    if rows.empty:
        return None
    names, gaps, shared = common_gaps(frame, ranks, metric, reference)
    gap = dict(zip(names, gaps.mean(axis=1), strict=True)) if shared else {}
    body = []
    for name in sorted(ranks, key=lambda name: ranks[name]):
        own = _own(rows, name, held)
        quality, rank = estimate_cell(metric, mean_of(own, scale_of(metric))), Cell(str(ranks[name]), sort=ranks[name])
        body.append(Row([Cell(name), rank, quality, _gap_cell(metric, gap.get(name))]))
    heads = [Head("Adapter", numeric=False), Head("Rank"), head(METRICS.get(metric))]
    heads.append(Head(f"minus {reference}", GAP, sub=f"{len(shared)} common effects"))
    return TableView(f"t-ranks-{metric}", f"{short(metric)} by rank of the adapter", heads, body)


def _own(rows: Frame, name: str, held: Held) -> Frame:
    """The rows of an adapter's own effects; of all that it was asked for where its card does not name them.

    What could not be scored of them stays in, to be counted.
    """
    mine = as_made(rows[rows["system"] == name])
    return mine[mine["effect"].isin(held[name])] if name in held else mine


def _gap_cell(metric: str, gap: float | None) -> Cell:
    """A difference as it was measured, in the metric's own notation."""
    if gap is None:
        return Cell(MISSING, sort=LAST, title="no case that both were scored on", css="missing")
    return Cell(metric_value(metric, gap, signed=True), sort=float(gap))


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
    return break_even(sizes, better * merged, np.random.default_rng(SEED))


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
