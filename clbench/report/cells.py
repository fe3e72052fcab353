"""Tables as plain data, rendered to HTML and to Markdown from the same cells; and how numbers are written."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from clbench.metrics.derived import SHARES

DECIMALS = {"psnr": 1, "vsa": 2, "subject": 2}
MISSING = "–"
NUMERIC = re.compile(r"[+\u2212]?[0-9]")
"""How the text of a number begins."""
MINUS = "−"


@dataclass(frozen=True)
class Whisker:
    """A small drawing of value and interval on a common scale, all in 0..100.

    `zero` draws a mark there; `ends` are where the scale's floor and ceiling stand, as the controls measured them.
    """

    low: float
    value: float
    high: float
    zero: float | None = None
    ends: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One cell: the text, a second quiet line, what to sort by, where it leads, and its looks.

    `bounds` are the ends of an interval, for a copy of the table; NaN where there is none. `key`: `sort` is no value that the
    text shows, such as the passes behind «4 steps», although both are numbers.
    """

    text: str
    sub: str = ""
    sort: float | str = ""
    href: str = ""
    title: str = ""
    css: str = ""
    whisker: Whisker | None = None
    bounds: tuple[float, float] | None = None
    key: bool = False

    @property
    def missing(self) -> bool:
        """Whether the cell stands for a value that is not there; it is sorted last and copied as nothing."""
        return self.text == MISSING

    @property
    def number(self) -> float | None:
        """The number that the text shows, in full precision; None where it shows none."""
        if self.key or isinstance(self.sort, str) or not math.isfinite(self.sort) or not NUMERIC.match(self.text):
            return None
        return self.sort


@dataclass(frozen=True)
class Head:
    """A column: its label, a longer word for the tooltip, whether it holds numbers, and how it is sorted at first."""

    label: str
    title: str = ""
    numeric: bool = True
    sub: str = ""
    order: Literal["", "ascending", "descending"] = ""


@dataclass(frozen=True)
class Row:
    """A row; `css` marks groups such as controls; a row with `words` is kept or hidden by the filter over effects."""

    cells: list[Cell]
    css: str = ""
    words: str = ""


@dataclass(frozen=True)
class TableView:
    """A table with a stable id, a caption that says what is in it, and an optional note below."""

    kind: ClassVar[str] = "table"
    id: str
    caption: str
    heads: list[Head]
    rows: list[Row]
    note: str = ""
    css: str = ""
    sortable: bool = True


def number(value: float, decimals: int = 3, signed: bool = False) -> str:
    """A number with a real minus sign; the missing sign for NaN."""
    if math.isnan(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
        signed = False
    return (f"+{text}" if signed and value > 0 else text).replace("-", MINUS)


def metric_value(metric: str, value: float, signed: bool = False, unit: bool = True) -> str:
    """A value as its metric is read: shares in per cent (differences in points), others in decimals."""
    if metric not in SHARES:
        return number(value, DECIMALS.get(metric, 3), signed)
    fine = 0 < abs(value) < 0.0995 or 0.9905 < abs(value) < 1  # 99.7 must not read as 100
    text = number(100 * value, 1 if fine else 0, signed)
    suffix = " pt" if signed else " %"
    return text + suffix if unit and not math.isnan(value) else text


def interval(metric: str, low: float, high: float, signed: bool = False) -> str:
    """``[low, high]`` in the metric's own notation; empty when there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return ""
    bounds = (metric_value(metric, bound, signed, unit=False) for bound in (low, high))
    return f"[{', '.join(bounds)}]"


def megabytes(count: float) -> str:
    """Bytes as MB (10^6) with three significant digits; the missing sign for 0 or NaN."""
    if not count or math.isnan(count):
        return MISSING
    return f"{count / 1e6:,.{max(0, 2 - int(math.log10(max(count / 1e6, 1))))}f} MB"


def plural(count: int, word: str) -> str:
    """``1 edit``, ``2 edits``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


@cache
def anchor(*parts: object) -> str:
    """A stable id for HTML from any words; changed words get a short hash, so that ids stay distinct."""
    raw = "-".join(str(part) for part in parts)
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", raw).strip("-")
    return clean if clean == raw else f"{clean}-{hashlib.sha256(raw.encode()).hexdigest()[:6]}"
