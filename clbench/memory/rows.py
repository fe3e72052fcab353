"""What the processes of a point answered, as rows of memory.json beside what was foretold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clbench.cost.worlds import AdapterPrediction
from clbench.memory.points import BASE, QUANTITIES, Point
from clbench.memory.predict import Ground, predict_point
from clbench.memory.probe import Request
from clbench.memory.record import Measurement, MemoryFile, measurement

DIRECT = (
    "factor_bytes", "resident_bytes", "peak_bytes", "open_seconds", "load_seconds", "first_picture_seconds", "edit_seconds",
)  # fmt: skip
"""Quantities that a reading holds as they are."""
Answer = dict[str, Any]


def rows_of(
    point: Point, sizes: Sequence[AdapterPrediction], request: Request, answers: list[Answer], found: MemoryFile
) -> list[Measurement]:
    """Every quantity of a point, whose files have `sizes`; all but the bytes on disk are missing if a process failed."""
    parts, fixed = sizes[: len(request.parts)], sizes[len(request.parts) :]
    told = predict_point(point, parts, fixed, request.sequence, _ground(point, found), found.device.startswith("cuda"))
    stored = {"disk_bytes": [one.file for one in sizes], "tensor_bytes": [one.stored for one in sizes]}
    rows = [measurement(point, name, [sum(values)], told.get(name)) for name, values in stored.items()]
    failures = [answer["failed"] for answer in answers if "failed" in answer]
    for name in QUANTITIES:
        if name in stored:
            continue
        values, reason = ([], failures[0]) if failures else _values(name, point, answers)
        rows.append(measurement(point, name, values, told.get(name), reason, bool(failures)))
    return rows


def _values(name: str, point: Point, answers: list[Answer]) -> tuple[list[float], str]:
    """A value for each repeat, or none and the reason."""
    if name in DIRECT:
        return [float(answer[name]) for answer in answers], ""
    if point.parts == 0:
        return [], "the base has no adapter"
    if name in ("switch_seconds", "swap_seconds"):
        lists = [answer["switches" if name == "switch_seconds" else "swaps"] for answer in answers]
        if not all(lists):
            return [], _why_no_switch(name, point)
        return [float(np.median(seconds)) for seconds in lists], ""
    counted = [len(a["swaps"]) + (len(a["switches"]) if name == "switches_per_1000" else 0) for a in answers]
    return [1000 * count / answer["queries"] for count, answer in zip(counted, answers, strict=True)], ""


def _why_no_switch(name: str, point: Point) -> str:
    if point.parts == 1:
        return "one adapter: nothing to switch"
    if name == "swap_seconds" and not point.slots:
        return "everything is loaded"
    return "no such switch among the queries"


def _ground(point: Point, found: MemoryFile) -> Ground | None:
    held, peak = found.find(BASE, "resident_bytes"), found.find(BASE, "peak_bytes")
    if point == BASE or held is None or peak is None or held.median is None or peak.median is None:
        return None
    return Ground(held.median, peak.median)
