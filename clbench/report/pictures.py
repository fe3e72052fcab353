"""Pictures of the report: small WebP copies, each embedded once; gallery rows; strips behind matrix cells."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from clbench.images import hash_pixels
from clbench.report.cells import anchor, metric_value, number
from clbench.report.data import Entry, Results
from clbench.report.matrices import Behind, behind, case_anchor
from clbench.report.tables import worst_first
from clbench.types import Case, Effect

LARGEST_SIDE = 192
BYTES_FOR_PICTURES = 9_000_000
"""Budget of base64 text; rows and strips stop there, so that the page stays under 15 MB."""
ROWS = 60
"""Gallery rows aimed at; each effect gets 3 to 6 of them."""
NOT_SHOWN = ("identity", "truth", "wrong-effect")
"""Controls that look like the source or a truth, and would only crowd the rows."""
PICTURES_PER_STRIP = {"system": 4, "control": 1}


@dataclass(frozen=True)
class Thumb:
    """An embedded picture: its id in the page, its size and its data URI."""

    id: str
    width: int
    height: int
    uri: str


@dataclass
class Album:
    """All embedded pictures by pixel hash; the same picture is stored once however often it is shown."""

    thumbs: dict[str, Thumb] = field(default_factory=dict)
    size: int = 0
    made: dict[tuple[object, ...], Thumb | None] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return self.size >= BYTES_FOR_PICTURES

    def add(self, picture: np.ndarray) -> Thumb:
        """The thumbnail of a uint8 (H, W, 3) picture."""
        key = hash_pixels(picture)
        if key not in self.thumbs:
            image = Image.fromarray(picture)
            image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=84, method=4)
            uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
            self.thumbs[key] = Thumb(f"i{key[:10]}", image.width, image.height, uri)
            self.size += len(uri)
        return self.thumbs[key]

    def once(self, key: tuple[object, ...], make: Callable[[], np.ndarray | None]) -> Thumb | None:
        """The thumbnail known as `key`; its picture is made only the first time (truths may be slow)."""
        if key not in self.made:
            picture = make()
            self.made[key] = None if picture is None else self.add(picture)
        return self.made[key]


@dataclass(frozen=True)
class Figure:
    """A picture with its words: what it is, one line about it, whether it is good, bad or neither."""

    label: str
    line: str
    thumb: Thumb | None
    css: str = ""
    alt: str = ""


@dataclass(frozen=True)
class CaseRow:
    """One gallery row: source, truth and every entry's picture of one case."""

    id: str
    words: str
    failed: bool
    figures: list[Figure]


@dataclass
class EffectGallery:
    """An effect's rows, the candidate's worst first; `left` rows are not shown."""

    id: str
    effect: Effect
    rows: list[CaseRow]
    left: int = 0


@dataclass(frozen=True)
class Strip:
    """The pictures behind one cell of an attribution matrix."""

    id: str
    words: str
    rows: list[list[Figure]]
    left: int
    more: str


def badness(entry: Entry, index: int) -> tuple[float, float, float]:
    """Sort key of a case, worst first: failed edits, then low success and vsa, then far from the truth."""
    if "failed" in (column.status[index] for column in entry.columns.values()):
        return (-1.0, 0.0, 0.0)
    success, vsa, far = (entry.value(name, index) for name in ("success", "vsa", "perceptual"))
    return _or_zero(success), _or_zero(vsa), _or_zero(-far)


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


def galleries(results: Results, album: Album) -> list[EffectGallery]:
    """Rows are taken in rounds (the worst of every effect first) until the budget of pictures is used up."""
    ranked = ranked_cases(results)
    order = worst_first(results, results.headline) if results.headline is not None else results.effects
    found = {effect.id: EffectGallery(f"g-{anchor(effect.id)}", effect, []) for effect in order}
    for turn in range(min(6, max(3, ROWS // max(len(order), 1)))):
        for effect in order:
            if turn < len(ranked[effect.id]) and not (album.full and turn):
                found[effect.id].rows.append(_case_row(ranked[effect.id][turn], results, album))
    for effect in order:
        found[effect.id].left = len(ranked[effect.id]) - len(found[effect.id].rows)
    return list(found.values())


def _case_row(case: Case, results: Results, album: Album) -> CaseRow:
    figures = [_source(case, results, album), _truth(case, results, album)]
    figures += [_edited(entry, case, results, album) for entry in results.entries if entry.system not in NOT_SHOWN]
    candidate = results.candidate
    failed = candidate is not None and any(f.label == candidate.label and f.css == "bad" for f in figures)
    seeds = {one.seed for one in candidate.cases} if candidate is not None else set()
    words = f"{case.source}, seed {case.seed}" if len(seeds) > 1 else case.source
    return CaseRow(case_anchor(case), words, failed, figures)


def _source(case: Case, results: Results, album: Album) -> Figure:
    thumb = album.once((case.source,), lambda: results.about.source_picture(case.source))
    return Figure("source", "", thumb, "given", f"source {case.source}")


def _truth(case: Case, results: Results, album: Album, label: str = "truth") -> Figure:
    key = (case.effect, case.source, case.seed)
    thumb = album.once(key, lambda: results.about.truth_picture(case))
    name = results.name(case.effect)
    if thumb is None:
        return Figure(label, "no truth is known", None, "given")
    random = results.about.effects[case.effect].random
    return Figure(label, "one of many" if random else name, thumb, "given", f"truth: {name}")


def _edited(entry: Entry, case: Case, results: Results, album: Album) -> Figure:
    index = entry.position.get((case.effect, case.source, case.seed))
    if index is None:
        return Figure(entry.label, "not asked for", None, "missing")
    record = entry.records.get(entry.cases[index].id)
    if record is None or record.status != "ok":
        return Figure(entry.label, record.reason if record is not None else "no edit was made", None, "bad")
    words, css = verdict_line(entry, index, results)
    alt = f"{entry.label}, asked for {results.name(case.effect)} on {case.source}: {words}"
    return Figure(entry.label, words, album.add(entry.folder.read_picture(record)), css, alt)


def verdict_line(entry: Entry, index: int, results: Results) -> tuple[str, str]:
    """What the meters say about one picture in a few words, and whether that is good or bad."""
    success, seen, asked = entry.value("success", index), entry.attributed[index], entry.cases[index].effect
    words = []
    if seen and seen != asked:
        words.append(f"read as {results.name(seen)}")
    elif not math.isnan(success):
        words.append("success" if success else "too far off")
    for metric, name in (("vsa", "VSA"), ("leak_total", "leak")):
        if not math.isnan(entry.value(metric, index)) and not (metric == "vsa" and success == 0):
            words.append(f"{name} {number(entry.value(metric, index), 1 if metric == 'vsa' else 2)}")
    if not words and results.headline is not None:
        words.append(metric_value(results.headline.name, entry.value(results.headline.name, index)))
    good = bool(success) if not math.isnan(success) else None
    return ", ".join(words), "" if good is None else "good" if good else "bad"


def strips(results: Results, album: Album) -> list[Strip]:
    """What lies behind off-diagonal cells: source, output, truth as asked, truth of what it was read as."""
    found = []
    for entry in results.entries:
        for cell in behind(entry):
            if album.full:
                return found
            found.append(_strip(cell, results, album))
    return found


def _strip(cell: Behind, results: Results, album: Album) -> Strip:
    asked, seen = results.name(cell.asked), results.name(cell.seen)
    rows = []
    for case in cell.cases[: PICTURES_PER_STRIP["control" if cell.entry.control else "system"]]:
        figures = [_source(case, results, album), _edited(cell.entry, case, results, album)]
        figures.append(_truth(case, results, album, "asked for"))
        if cell.seen in results.about.effects:
            other = Case(cell.seen, case.source, case.seed, case.steps)
            figures.append(_truth(other, results, album, "read as"))
        rows.append(figures)
    words = f"{cell.entry.label}: asked for {asked}, read as {seen}"
    left = len(cell.cases) - len(rows)
    return Strip(cell.id, words, rows, left, f"#g-{anchor(cell.asked)}")


def gallery_cases(found: list[EffectGallery]) -> set[str]:
    """Anchors of all case rows that are shown."""
    return {row.id for gallery in found for row in gallery.rows}
