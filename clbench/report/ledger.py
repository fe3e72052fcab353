"""The deployment ledger: what ways of deploying cost, measured (memory.json) and by configuration (`clbench.cost`), as tables.

`measured` and `growth` make tables of a `MemoryFile`; `scale` and `scale_curve` make tables of a cost answer or of its
parts. Placing them, and drawing curves from `clbench.cost.curves.rows`, is the page's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from clbench.cost.curves import Curve
from clbench.cost.deployment import SystemCost
from clbench.cost.units import binary
from clbench.left_out import listed
from clbench.memory.points import ALONE, QUANTITIES, Point
from clbench.memory.record import Measurement, MemoryFile
from clbench.memory.table import kept, seconds, written
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, anchor, number, plural

CALLED = {"cascade": "cascade", ALONE: "pool of teachers", "merged-cat": "merged-cat LoRA", "merged": "merged LoRA"}
"""What systems of a pool are called in a sentence; a verdict is about the first that was measured."""
LAST = -1e300
"""Missing values sort below every number."""
MEASURED = {
    "disk_bytes": "On disk", "factor_bytes": "Adapters loaded", "resident_bytes": "Resident", "peak_bytes": "Peak",
    "load_seconds": "Load", "first_picture_seconds": "First picture", "switch_seconds": "Switch", "swap_seconds": "Swap",
    "edit_seconds": "Edit", "loads_per_1000": "Loads", "switches_per_1000": "Switches",
}  # fmt: skip
"""Columns of the ledger, with their titles; `QUANTITIES` says what each means."""


def measured(found: MemoryFile) -> TableView:
    """One row per point: the median of every quantity, with the range over repeats."""
    heads = [Head("System", numeric=False), Head("Effects"), Head("Adapters kept", numeric=False)]
    heads += [Head(title, QUANTITIES[name][1]) for name, title in MEASURED.items()]
    rows = [Row([*point_cells(point), *(_cell(found, point, name) for name in MEASURED)]) for point in found.points()]
    copies = max((point.effects for point in found.points() if point.system != "collection"), default=0) - found.teachers
    note = (
        f"Median of {found.repeats} processes, their range below it; loads and switches for 1,000 queries of equal popularity. "
        f"Device {found.device}, {found.dtype}, {found.threads} threads; peak by {found.peak_by}."
    )
    one = next((point for point in found.points() if point.system == "collection"), None)
    if one is not None:
        note += f" The collection is {held(found, one)}{'' if found.holds else '; it stands at the largest pool'}."
    if full := found.at_full_steps():
        note += f" The edit of {listed(full)} takes the world's full steps with guidance, every other one few steps."
    if copies > 0:
        note += f" The world has {found.teachers} teachers; larger pools hold copies of their files, loaded apart."
    return TableView("t-ledger", "What deployment costs, measured", heads, rows, note, "ledger")


def growth(found: MemoryFile, system: str = "cascade") -> TableView | None:
    """Time to switch against the size of the pool of `system`; None without two pools."""
    points = [point for point in found.points() if point.system == system and found.find(point, "disk_bytes")]
    if len({point.effects for point in points}) < 2:
        return None
    heads = [Head("Effects"), Head("Adapters kept", numeric=False)]
    heads += [Head(MEASURED[name], QUANTITIES[name][1]) for name in ("switch_seconds", "swap_seconds", "load_seconds")]
    heads.append(Head("A query", "mean time spent on switching and loading, over queries of equal popularity"))
    rows = []
    for point in points:
        named = [_cell(found, point, name) for name in ("switch_seconds", "swap_seconds", "load_seconds")]
        rows.append(Row([*point_cells(point)[1:], *named, _mean_query(found, point)]))
    name = "t-ledger-growth" if system == "cascade" else f"t-ledger-growth-{system}"
    return TableView(name, f"Switching in the {CALLED[system]}, by size of the pool", heads, rows, css="ledger")


def held(found: MemoryFile, point: Point) -> str:
    """How many effects the collection at `point` holds, and who says so; files of an older clbench do not know."""
    if not found.holds:
        return "one adapter, of how many effects this file does not say"
    return f"one adapter of {plural(point.effects, 'effect')} ({found.holds})"


def scale(costs: Sequence[SystemCost], title: str, assumptions: Sequence[str] = ()) -> TableView:
    """What each system costs at real scale, as `clbench cost` says."""
    heads = [
        Head("System", numeric=False), Head("Adapters", "bytes of LoRA factors"), Head("On disk", "with the base"),
        Head("Resident", "on the device"), Head("In RAM", "waiting to be loaded"), Head("Loads", "per 1,000 queries"),
        Head("Switches", "per 1,000 queries"), Head("Loading", "seconds per 1,000 queries"), Head("Routing"), Head("BCR"),
        Head("Success", "routing accuracy x (1 - BCR)"),
    ]  # fmt: skip
    return TableView("t-scale", title, heads, [_scale_row(cost) for cost in costs], "; ".join(assumptions), "ledger")


def scale_curve(curve: Curve, systems: Sequence[str], shown: Sequence[int]) -> TableView:
    """Bytes of adapters at some points of a curve, one column per system."""
    axis = "Effects" if curve.axis == "effects" else "Rank of the teachers"
    points = {x: {cost.system: cost for cost in costs} for x, costs in curve.points}
    rows = [Row([Cell(str(x), sort=x), *(_size(points[x][name].adapters) for name in systems)]) for x in shown if x in points]
    caption = f"Bytes of adapters by {axis[0].lower()}{axis[1:]}"
    return TableView(f"t-scale-{anchor(curve.axis)}", caption, [Head(axis), *(Head(name) for name in systems)], rows)


def point_cells(point: Point) -> list[Cell]:
    """System, size of the pool, and how the adapters are kept."""
    return [
        Cell(point.system, "", point.system, css="name"),
        Cell(str(point.effects) if point.effects else MISSING, sort=point.effects),
        Cell(kept(point), sort=f"{point.policy}{point.slots:04d}"),
    ]  # fmt: skip


def _cell(found: MemoryFile, point: Point, quantity: str) -> Cell:
    row = found.find(point, quantity)
    if row is None or row.median is None or row.min is None or row.max is None:
        return Cell(MISSING, sort=LAST, title="not measured" if row is None else row.reason, css="missing")
    spread = f"{write(row.min, row)} to {write(row.max, row)}" if row.max > row.min else ""
    return Cell(written(row), spread, row.median, title=f"{len(row.values)} processes")


def write(value: float, row: Measurement) -> str:
    """A value in the unit of its row."""
    return binary(value) if row.unit == "B" else seconds(value) if row.unit == "s" else f"{value:,.0f}"


def _mean_query(found: MemoryFile, point: Point) -> Cell:
    """Seconds that a query spends on switching and loading on average."""
    loads, switches = (median(found, point, f"{what}_per_1000") for what in ("loads", "switches"))
    swap, switch = (median(found, point, f"{what}_seconds") for what in ("swap", "switch"))
    # a rate of 0 needs no time; a rate above 0 without a time leaves the mean unknown
    parts = [rate * time if rate else 0.0 for rate, time in ((loads, swap), (switches - loads, switch))]
    mean = sum(parts) / 1000
    return Cell(seconds(mean), sort=mean) if math.isfinite(mean) else Cell(MISSING, sort=LAST, css="missing")


def median(found: MemoryFile, point: Point, quantity: str) -> float:
    """The median of a quantity at a point; NaN where it is missing."""
    row = found.find(point, quantity)
    return float("nan") if row is None or row.median is None else row.median


def _scale_row(cost: SystemCost) -> Row:
    shares = [cost.routing, cost.bcr, cost.success]
    return Row(
        [
            Cell(cost.system, cost.about, cost.system, css="name"), _size(cost.adapters), _size(cost.disk),
            _size(cost.resident), _size(cost.host) if cost.host else Cell(MISSING, sort=0),
            *(_figure(value) for value in (cost.loads, cost.switches, cost.loading_seconds)), *(_share(v) for v in shares),
        ]
    )  # fmt: skip


def _size(count: int) -> Cell:
    return Cell(binary(count), sort=count, title=f"{count:,} bytes")


def _figure(value: float) -> Cell:
    if math.isnan(value):
        return Cell(MISSING, sort=LAST, css="missing", title="no time of a load is known")
    return Cell(number(value, 0), sort=value)


def _share(value: float) -> Cell:
    if math.isnan(value):
        return Cell(MISSING, sort=LAST, css="missing", title="no failure rate is known")
    return Cell(f"{number(100 * value, 1)} %", sort=value)
