"""Pictures of the report: small WebP copies, each embedded once; and what is said below a picture."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from clbench.images import hash_pixels
from clbench.report.cells import metric_value, number
from clbench.report.data import Entry, Results, question
from clbench.types import Case

LARGEST_SIDE = 192
"""Usual side in px at which pictures stand in the page at most."""
BYTES_FOR_PICTURES = 7_000_000
"""Budget of base64 text; rows and strips stop there, so that a page of 5,000 cases stays under 15 MB (matrices of many systems
and effects come on top: half of the page of fifty effects and twenty systems)."""


@dataclass(frozen=True)
class Thumb:
    """An embedded picture: its id in the page, its size and its data URI."""

    id: str
    width: int
    height: int
    uri: str


@dataclass
class Album:
    """All embedded pictures by pixel hash; the same picture is stored once however often it is shown.

    `limit` is how many bytes of base64 text may be used up to now; where several suites share a page, it grows with them.
    `side` is the largest side of an embedded picture, `original` that of the pictures themselves, of the suite at hand.
    """

    limit: float
    side: int = LARGEST_SIDE
    original: int = 0
    thumbs: dict[str, Thumb] = field(default_factory=dict)
    size: int = 0
    made: dict[tuple[object, ...], Thumb | None] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return self.size >= self.limit

    def add(self, picture: np.ndarray) -> Thumb:
        """The thumbnail of a uint8 (H, W, 3) picture."""
        key = hash_pixels(picture)
        self.original = max(self.original, *picture.shape[:2])
        if key not in self.thumbs:
            image = Image.fromarray(picture)
            image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", quality=84, method=2)
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
    """A picture with its words: what it is, one line about it, whether it is good, bad or neither.

    `who` and `step` say what it is to the viewer: source, truth or a system, and at how many steps.
    """

    label: str
    line: str
    thumb: Thumb | None
    css: str = ""
    alt: str = ""
    who: str = ""
    step: int | None = None


def source(case: Case, results: Results, album: Album) -> Figure:
    """The picture that was to be edited."""
    about = results.about
    thumb = album.once((about.world_hash, case.source), lambda: about.source_picture(case.source))
    return Figure("source", "", thumb, "given", f"source {case.source}", "source")


def truth(case: Case, results: Results, album: Album, label: str = "truth") -> Figure:
    """What a perfect system would return, where that is known."""
    about = results.about
    key = (about.world_hash, about.suite_name, question(case))
    thumb = album.once(key, lambda: about.truth_picture(case))
    name = results.asked_for(case)
    if thumb is None:
        return Figure(label, "no truth is known", None, "given", who=label)
    random = any(about.effects[effect].random for effect in (case.effect, case.second) if effect)
    return Figure(label, "one of many" if random else name, thumb, "given", f"truth: {name}", label)


def edited(entry: Entry, case: Case, results: Results, album: Album, label: str = "") -> Figure:
    """What `entry` made of the question of `case`, and what the meters say about it."""
    index, label, who = entry.position.get(question(case)), label or entry.label, entry.name
    if index is None:
        return Figure(label, "not asked for", None, "missing", "", who, entry.steps)
    record = entry.records.get(entry.cases[index].id)
    if record is None or record.status != "ok":
        reason = record.reason if record is not None else "no edit was made"
        return Figure(label, reason, None, "bad", "", who, entry.steps)
    words, css = verdict_line(entry, index, results)
    alt = f"{entry.label}, asked for {results.asked_for(case)} on {case.source}: {words}"
    return Figure(label, words, album.add(entry.folder.read_picture(record)), css, alt, who, entry.steps)


def right(entry: Entry, index: int) -> float:
    """1 if the case at `index` succeeded (of a pair of effects: both show), 0 if not; NaN where nobody knows."""
    return entry.value("both" if entry.cases[index].second else "success", index)


def verdict_line(entry: Entry, index: int, results: Results) -> tuple[str, str]:
    """What the meters say about one picture in a few words, and whether that is good or bad."""
    success, seen, asked = right(entry, index), entry.attributed[index], entry.cases[index].effect
    words = []
    if seen and seen != asked:
        words.append(f"read as {results.name(seen)}")
    elif not math.isnan(success):
        off = "too far off" if seen else "no success"  # what it was read as is not scored by every suite
        words.append("success" if success else "not both" if entry.cases[index].second else off)
    for metric, name in (("vsa", "VSA"), ("leak_total", "leak")):
        if not math.isnan(entry.value(metric, index)) and not (metric == "vsa" and success == 0):
            words.append(f"{name} {number(entry.value(metric, index), 1 if metric == 'vsa' else 2)}")
    if not words and results.headline is not None:
        words.append(metric_value(results.headline.name, entry.value(results.headline.name, index)))
    good = bool(success) if not math.isnan(success) else None
    return ", ".join(words), "" if good is None else "good" if good else "bad"
