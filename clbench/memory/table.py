"""Measurements as rows of a terminal table."""

from __future__ import annotations

import math

from clbench.cost.units import binary
from clbench.memory.points import Point
from clbench.memory.record import Measurement, MemoryFile

COLUMNS = {
    "disk_bytes": "on disk", "factor_bytes": "adapters loaded", "resident_bytes": "resident", "peak_bytes": "peak",
    "load_seconds": "load", "switch_seconds": "switch", "swap_seconds": "swap", "first_picture_seconds": "first picture",
    "edit_seconds": "edit", "loads_per_1000": "loads /1k",
}  # fmt: skip


def overview(found: MemoryFile) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and one row per point: medians, and how far the peak was foretold."""
    title = f"{found.suite.name} of world {found.world.name} on {found.device or 'no device'}, median of {found.repeats}"
    columns = ["system", "effects", "kept", *COLUMNS.values(), "peak / predicted"]
    return title, columns, [_row(found, point) for point in found.points()]


def kept(point: Point) -> str:
    """How a point keeps its adapters, in words."""
    if not point.slots:
        return "all" if point.parts > 1 else "–"
    return f"LRU {point.slots} from {'RAM' if point.policy == 'ram' else 'disk'}"


def _row(found: MemoryFile, point: Point) -> list[str]:
    cells = [written(found.find(point, name)) for name in COLUMNS]
    peak = found.find(point, "peak_bytes")
    error = peak.error if peak is not None else float("nan")
    return [point.system, str(point.effects), kept(point), *cells, "–" if math.isnan(error) else f"{100 * error:+.1f} %"]


def written(row: Measurement | None) -> str:
    """The median in the quantity's unit; "–" where it is missing."""
    if row is None or row.median is None:
        return "–"
    if row.unit == "B":
        return binary(row.median)
    return seconds(row.median) if row.unit == "s" else f"{row.median:,.0f}"


def seconds(value: float) -> str:
    """Milliseconds below one second."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
