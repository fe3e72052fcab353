"""The table about old and new effects of adapters that extend another one, beside what they are to be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clbench.metrics.cards import METRICS
from clbench.metrics.derived import scale_of
from clbench.report.capacity import plain
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.differences import compared_cell, hopeless, reach
from clbench.report.numbers import judged
from clbench.report.rows import SEED, Frame, as_made, estimate_cell, mean_of
from clbench.report.tables import short
from clbench.stats import Difference, paired_difference

TEACHER = "teacher"
Split = tuple[tuple[str, ...], tuple[str, ...]]
"""Old effects, new effects."""
Trained = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""System -> (all its effects, the new ones among them)."""
NOTE = (
    "Below the extended adapters: what they are compared with, on the same old and new effects; an adapter of the old ones alone "
    "is what they were before. The last column is each extended adapter minus {reference} on the same cases of new effects, with "
    "its 95 % interval and Holm-corrected p (over the extended adapters)."
)


def incremental_table(frame: Frame, trained: Trained, metric: str, reference: str = "cascade") -> TableView | None:
    """Old and new effects apart: extended adapters, then adapters of the old effects alone, `reference` and teacher.

    None where no adapter with new effects was scored. Extended adapters of several splits are compared on the split of each.
    """
    rows = plain(frame, metric)
    scored = set(rows["system"])
    extended = {name: _split(*parts) for name, parts in trained.items() if parts[1] and name in scored}
    if not extended:
        return None
    card = METRICS.get(metric)
    compared = extended if reference in scored else {}
    gaps = {name: new_gap(rows, name, reference, new, metric) for name, (_, new) in compared.items()}
    found = judged(gaps, card.direction)
    half = reach(found.values())
    body = [
        _row(rows, metric, name, split, compared_cell(found[name], card, half) if found else Cell(""))
        for name, split in extended.items()
    ]
    splits = list(dict.fromkeys(extended.values()))
    for split in splits:
        words = f"on those of {_of(extended, split)}" if len(splits) > 1 else ""
        before = [name for name, (effects, new) in trained.items() if not new and set(effects) == set(split[0])]
        body += [_row(rows, metric, name, (split[0], ()), Cell(""), words) for name in before if name in scored]
        body += [_row(rows, metric, name, split, Cell(""), words) for name in (reference, TEACHER) if name in scored]
    heads = [
        Head("Adapter", numeric=False), Head("Old effects"), Head(f"{short(metric)}, old"), Head("New effects"),
        Head(f"{short(metric)}, new"), Head(f"minus {reference}, new", "paired difference on new effects"),
    ]  # fmt: skip
    note = f"{NOTE.format(reference=reference)} {hopeless({metric: found.values()}, 'adapter')}".strip()
    caption = f"{short(metric)} of old and new effects of extended adapters"
    return TableView(f"t-incremental-{metric}", caption, heads, body, note)


def new_gap(rows: Frame, name: str, reference: str, new: Sequence[str], metric: str) -> Difference:
    """`name` minus `reference` on their common cases of `new` effects; `rows` are the plain ones of `metric`."""
    mine, other = (rows[(rows["system"] == system) & rows["effect"].isin(new)] for system in (name, reference))
    both = as_made(mine).merge(other, on=["effect", "source", "seed", "steps"], suffixes=("", "_reference"))
    first, second = both["value"].to_numpy(), both["value_reference"].to_numpy()
    drawn = np.random.default_rng(SEED)
    return paired_difference(first, second, both["effect"].tolist(), both["source"].tolist(), drawn, scale_of(metric))


def _split(effects: Sequence[str], new: Sequence[str]) -> Split:
    return tuple(effect for effect in effects if effect not in new), tuple(new)


def _of(extended: Mapping[str, Split], split: Split) -> str:
    return ", ".join(name for name, other in extended.items() if other == split)


def _row(rows: Frame, metric: str, name: str, split: Split, gap: Cell, words: str = "") -> Row:
    """A system on the effects of a split; an empty cell where there are none."""
    cells = [Cell(name, words)]
    for part in split:
        mine = as_made(rows[(rows["system"] == name) & rows["effect"].isin(part)])
        found = estimate_cell(metric, mean_of(mine, scale_of(metric))) if part else Cell("")
        cells += [Cell(str(len(part)), sort=len(part)), found]
    return Row([*cells, gap])
