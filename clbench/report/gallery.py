"""Which pictures are shown: rows of the gallery, the candidate's worst first, and strips behind matrix cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from clbench.report.cells import anchor
from clbench.report.data import Entry, Results
from clbench.report.matrices import Behind, behind, case_anchor
from clbench.report.pictures import Album, Figure, edited, right, source, truth
from clbench.report.tables import worst_first
from clbench.types import Case, Effect

PICTURES_AIMED = 480
"""Pictures of the gallery aimed at; each effect gets 2 to 6 rows of them."""
NOT_SHOWN = ("identity", "truth", "wrong-effect")
"""Controls that look like the source or a truth, and would only crowd the rows."""
PICTURES_PER_STRIP = {"system": 4, "control": 1}


@dataclass(frozen=True)
class Line:
    """Figures in a line; `label` names the system where its line holds one picture for each number of steps."""

    label: str
    figures: list[Figure]


@dataclass(frozen=True)
class CaseRow:
    """All pictures of one question: source, truth and every entry's picture; `failed` is about the candidate."""

    id: str
    words: str
    failed: bool
    lines: list[Line]


@dataclass
class EffectGallery:
    """An effect's rows, the candidate's worst first; `left` rows are not shown."""

    id: str
    effect: Effect
    rows: list[CaseRow]
    left: int = 0


@dataclass(frozen=True)
class Gallery:
    """The block of all effects' rows."""

    kind: ClassVar[str] = "gallery"
    effects: list[EffectGallery]

    @property
    def shown(self) -> set[str]:
        """Anchors of all rows that are shown."""
        return {row.id for effect in self.effects for row in effect.rows}


@dataclass(frozen=True)
class Strip:
    """The pictures behind one cell of an attribution matrix."""

    id: str
    words: str
    rows: list[list[Figure]]
    left: int
    more: str


@dataclass(frozen=True)
class Strips:
    """The block of strips of one entry: each appears when its cell is picked; `back` is where closing leads."""

    kind: ClassVar[str] = "strips"
    strips: Sequence[Strip]
    back: str


def badness(entry: Entry, index: int) -> tuple[float, float, float]:
    """Sort key of a case, worst first: failed edits, then low success and vsa, then far from the truth."""
    if "failed" in (column.status[index] for column in entry.columns.values()):
        return (-1.0, 0.0, 0.0)
    vsa, far = (entry.value(name, index) for name in ("vsa", "perceptual"))
    return _or_zero(right(entry, index)), _or_zero(vsa), _or_zero(-far)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def ranked_cases(results: Results) -> dict[str, list[Case]]:
    """Cases per effect, the candidate's worst first; cases of the candidate's own number of steps only."""
    candidate = results.candidate or (results.entries[0] if results.entries else None)
    ranked: dict[str, list[Case]] = {effect.id: [] for effect in results.effects}
    if candidate is None:
        return ranked
    order = sorted(range(len(candidate.cases)), key=lambda index: (badness(candidate, index), index))
    for index in order:
        ranked[candidate.cases[index].effect].append(candidate.cases[index])
    return ranked


def gallery(results: Results, album: Album) -> Gallery:
    """Rows are taken in rounds (the worst of every effect first) until the budget of pictures is used up."""
    ranked = ranked_cases(results)
    order = worst_first(results, results.headline) if results.headline is not None else results.effects
    found = {effect.id: EffectGallery(f"g-{anchor(effect.id)}", effect, []) for effect in order}
    shown = [entry for entry in results.entries if entry.system not in NOT_SHOWN]
    turns = PICTURES_AIMED // max(len(order) * (2 + len(shown)), 1)
    for turn in range(min(6, max(2, turns))):
        for effect in order:
            if turn < len(ranked[effect.id]) and not (album.full and turn):
                found[effect.id].rows.append(_case_row(ranked[effect.id][turn], shown, results, album))
    for effect in order:
        found[effect.id].left = len(ranked[effect.id]) - len(found[effect.id].rows)
    return Gallery(list(found.values()))


def _case_row(case: Case, shown: Sequence[Entry], results: Results, album: Album) -> CaseRow:
    given = [source(case, results, album), truth(case, results, album)]
    many = {entry.name: [one for one in shown if one.name == entry.name] for entry in shown}
    lines = [Line("", given)]
    for name, entries in many.items():
        if len(entries) == 1:
            lines[0].figures.append(edited(entries[0], case, results, album))
        else:
            steps = [edited(entry, case, results, album, _steps(entry)) for entry in entries]
            lines.append(Line(name, steps))
    candidate = results.candidate
    failed = candidate is not None and any(
        figure.who == candidate.name and figure.step == candidate.steps and figure.css == "bad"
        for line in lines
        for figure in line.figures
    )
    seeds = {one.seed for one in candidate.cases} if candidate is not None else set()
    words = f"{case.source}, seed {case.seed}" if len(seeds) > 1 else case.source
    words = f"then {results.name(case.second)}: {words}" if case.second else words
    return CaseRow(case_anchor(case), words, failed, lines)


def _steps(entry: Entry) -> str:
    return "own steps" if entry.steps is None else f"{entry.steps} step{'' if entry.steps == 1 else 's'}"


def strips(results: Results, album: Album) -> dict[str, Strip]:
    """What lies behind off-diagonal cells, by id: source, output, truth as asked and as read.

    In rounds, one picture of every cell first, until the budget of pictures is used up: candidates before the system that they
    are compared with and all others, the base and controls last, since most of what they make is read as something else.
    """
    cells = [cell for entry in sorted(results.entries, key=lambda one: _rank(one, results)) for cell in behind(entry)]
    rows: dict[str, list[list[Figure]]] = {}
    for turn in range(max(PICTURES_PER_STRIP.values())):
        for cell in cells:
            if turn < min(len(cell.cases), PICTURES_PER_STRIP["control" if cell.entry.control else "system"]) and not album.full:
                rows.setdefault(cell.id, []).append(_strip_row(cell, cell.cases[turn], results, album))
    return {cell.id: _strip(cell, rows[cell.id], results) for cell in cells if cell.id in rows}


def _rank(entry: Entry, results: Results) -> tuple[bool, bool, bool, bool, bool]:
    """Sort key of an entry by how much its pictures are looked for."""
    base = entry.info.system.card["kind"] == "base"
    reference = entry.system == results.about.reference
    return entry.control, base, entry is not results.candidate, not entry.collection, not reference


def _strip_row(cell: Behind, case: Case, results: Results, album: Album) -> list[Figure]:
    figures = [source(case, results, album), edited(cell.entry, case, results, album)]
    figures.append(truth(case, results, album, "asked for"))
    if cell.seen in results.about.effects:
        other = Case(cell.seen, case.source, case.seed, case.steps)
        figures.append(truth(other, results, album, "read as"))
    return figures


def _strip(cell: Behind, rows: list[list[Figure]], results: Results) -> Strip:
    words = f"{cell.entry.label}: asked for {results.name(cell.asked)}, read as {results.name(cell.seen)}"
    return Strip(cell.id, words, rows, len(cell.cases) - len(rows), f"#g-{anchor(cell.asked)}")
