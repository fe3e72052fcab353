"""The table about old and new effects of adapters that extend another one, beside what they are to be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clbench.report.capacity import gap_cells, judged_gaps, plain
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.differences import hopeless
from clbench.report.rows import Frame, as_made, estimate_cell, mean_of
from clbench.report.tables import short

TEACHER = "teacher"
Split = tuple[tuple[str, ...], tuple[str, ...]]
"""Old effects, new effects."""
Trained = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""System -> (all its effects, the new ones among them)."""
NOTE = (
    "Below the extended adapters: what they are compared with, on the same old and new effects; an adapter of the old ones alone "
    "is what they were before. Differences are each extended adapter minus the one before on the same cases of old effects, and "
    "minus {reference} on those of new ones, with 95 % intervals and Holm-corrected p (over the extended adapters). The paper's "
    "CLIP similarity goes from .727 to .725 (−0.3 %) with 4 effects more, of which it does not tell old and new apart."
)
EMPTY = Cell("")


def incremental_table(frame: Frame, trained: Trained, metric: str, reference: str = "cascade") -> TableView | None:
    """Old and new effects apart: extended adapters, then adapters of the old effects alone, `reference` and teacher.

    None where no adapter with new effects was scored. Extended adapters of several splits are compared on the split of each.
    """
    rows = plain(frame, metric)
    scored = set(rows["system"])
    extended = {name: _split(*parts) for name, parts in trained.items() if parts[1] and name in scored}
    if not extended:
        return None
    compared = extended if reference in scored else {}
    before = {name: [old for old in _before(trained, split) if old in scored] for name, split in extended.items()}
    kept = judged_gaps(rows, {name: (names[0], extended[name][0]) for name, names in before.items() if names}, metric)
    gained = judged_gaps(rows, {name: (reference, new) for name, (_, new) in compared.items()}, metric)
    old_cells, new_cells = gap_cells(kept, metric), gap_cells(gained, metric)
    body = [
        _row(rows, metric, name, split, old_cells.get(name, EMPTY), new_cells.get(name, EMPTY))
        for name, split in extended.items()
    ]
    splits = list(dict.fromkeys(extended.values()))
    for split in splits:
        words = f"on those of {_of(extended, split)}" if len(splits) > 1 else ""
        olds = [name for name in _before(trained, split) if name in scored]
        body += [_row(rows, metric, name, (split[0], ()), words=words) for name in olds]
        body += [_row(rows, metric, name, split, words=words) for name in dict.fromkeys((reference, TEACHER)) if name in scored]
    heads = [
        Head("Adapter", numeric=False), Head("Old effects"), Head(f"{short(metric)}, old"),
        Head("minus before, old", "paired difference to the adapter before, on old effects"), Head("New effects"),
        Head(f"{short(metric)}, new"), Head(f"minus {reference}, new", "paired difference on new effects"),
    ]  # fmt: skip
    undecided = hopeless({metric: [*kept.values(), *gained.values()]}, "adapter")
    absent = "" if compared else f"Without a run of {reference} there is no difference to it. "
    note = f"{NOTE.format(reference=reference)} {absent}{undecided}".strip()
    caption = f"{short(metric)} of old and new effects of extended adapters"
    return TableView(f"t-incremental-{metric}", caption, heads, body, note)


def _split(effects: Sequence[str], new: Sequence[str]) -> Split:
    return tuple(effect for effect in effects if effect not in new), tuple(new)


def _of(extended: Mapping[str, Split], split: Split) -> str:
    return ", ".join(name for name, other in extended.items() if other == split)


def _before(trained: Trained, split: Split) -> list[str]:
    """The adapters of exactly the old effects: what the extended ones were before."""
    return [name for name, (effects, new) in trained.items() if not new and set(effects) == set(split[0])]


def _row(
    rows: Frame, metric: str, name: str, split: Split, kept: Cell = EMPTY, gained: Cell = EMPTY, words: str = ""
) -> Row:
    """A system on the effects of a split, each part with its difference; empty cells where there are none."""
    cells = [Cell(name, words)]
    for part, gap in zip(split, (kept, gained), strict=True):
        mine = as_made(rows[(rows["system"] == name) & rows["effect"].isin(part)])
        found = estimate_cell(metric, mean_of(mine, metric)) if part else EMPTY
        cells += [Cell(str(len(part)), sort=len(part)), found, gap]
    return Row(cells)
