"""Tables about the number of effects in one adapter: quality, break-even against a reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clbench.metrics.capacity import BreakEven, break_even
from clbench.metrics.cards import METRICS
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.rows import SEED, Frame, estimate_cell, is_share, mean_of, number_cell
from clbench.report.tables import short


def plain(frame: Frame, metric: str) -> Frame:
    """The rows of one metric on plain questions about single effects."""
    return frame[(frame["metric"] == metric) & (frame["probe"] == "") & (frame["second"] == "")]


def common_gaps(
    frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade"
) -> tuple[list[str], np.ndarray, list[str]]:
    """(candidates by size, gaps (M, K), the K effects): quality minus the reference's on effects that all candidates were asked.

    `counts` maps a candidate to how many effects it carries. A metric whose lower values are better is turned around.
    """
    rows = plain(frame, metric)
    means = rows[rows["status"] == "ok"].groupby(["system", "effect"])["value"].mean()
    scored = set(means.index.get_level_values(0))
    ordered = sorted((name for name in counts if name in scored), key=lambda name: counts[name])
    names = [reference, *ordered] if reference in scored else []
    shared = sorted(set.intersection(*(set(means[name].index) for name in names))) if len(names) > 1 else []
    sign = -1.0 if METRICS.get(metric).direction == "lower" else 1.0
    gaps = [[sign * (means[name][effect] - means[reference][effect]) for effect in shared] for name in ordered]
    return ordered, np.array(gaps, dtype=float).reshape(len(ordered), len(shared)), shared


def capacity_table(frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade") -> TableView | None:
    """One row per candidate by its number of effects: quality, and minus the reference on common effects; N* in the note."""
    rows = plain(frame, metric)
    if not counts or rows.empty:
        return None
    names, gaps, shared = common_gaps(frame, counts, metric, reference)
    gap = dict(zip(names, gaps.mean(axis=1), strict=True)) if shared else {}
    body = []
    for name in sorted(counts, key=lambda name: counts[name]):
        own = rows[(rows["system"] == name) & (rows["status"] != "unscored")]
        size, quality = Cell(str(counts[name]), sort=counts[name]), estimate_cell(metric, mean_of(own, is_share(metric)))
        body.append(Row([Cell(name), size, quality, number_cell(gap.get(name, float("nan")), 3)]))
    heads = [Head("Adapter", numeric=False), Head("Effects in it"), Head(short(metric))]
    heads.append(Head(f"minus {reference}", "better is positive", sub=f"{len(shared)} common effects"))
    note = break_even_words(capacity_break_even(frame, counts, metric, reference), reference)
    return TableView(f"t-capacity-{metric}", f"{short(metric)} by number of effects in one adapter", heads, body, note)


def capacity_break_even(frame: Frame, counts: Mapping[str, int], metric: str, reference: str = "cascade") -> BreakEven:
    """N*: up to how many effects in one adapter `metric` is as good as the reference's; candidates of equal size count once."""
    names, gaps, _ = common_gaps(frame, counts, metric, reference)
    numbers = [counts[name] for name in names]
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


def trained_effects(card: Mapping) -> tuple[list[str], list[str]] | None:
    """(all, new) effects of a candidate by its system card (``run.info.system.card``); None where it does not say."""
    settings = card["settings"]
    return (settings["effects"], settings["new effects"]) if "effects" in settings else None
