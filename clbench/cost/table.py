"""An answer as rows of terminal tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clbench.cost.answer import Answer
from clbench.cost.curves import Curve
from clbench.cost.deployment import SystemCost
from clbench.cost.units import binary

Rows = tuple[str, list[str], list[list[str]]]
COLUMNS = [
    "system", "adapters", "on disk", "resident", "in RAM", "loads /1k", "switches /1k", "loading s/1k", "routing", "BCR",
    "success",
]  # fmt: skip


def systems_table(found: Answer) -> Rows:
    """Title, columns and one row per system."""
    deployed = found.deployment
    title = (
        f"{deployed.effects} effects on {found.base.name}: base {binary(deployed.base_bytes)}, teacher "
        f"{binary(deployed.teacher.stored)}, accelerator {binary(deployed.accelerator.stored)}, "
        f"collection {binary(deployed.collection.stored)}"
    )
    return title, COLUMNS, [_row(cost) for cost in found.systems]


def _row(cost: SystemCost) -> list[str]:
    return [
        cost.system, binary(cost.adapters), binary(cost.disk), binary(cost.resident), binary(cost.host) if cost.host else "–",
        _figure(cost.loads), _figure(cost.switches), _figure(cost.loading_seconds), _share(cost.routing), _share(cost.bcr),
        _share(cost.success),
    ]  # fmt: skip


def curve_table(curve: Curve, shown: Sequence[int]) -> Rows:
    """Bytes of adapters, and over effects also expected success, at some points of a curve; what rank does to it nobody knows."""
    systems, over_effects = ("cascade", "merged", "collection"), curve.axis == "effects"
    columns = ["effects" if over_effects else "teacher rank", *(f"{name} adapters" for name in systems)]
    columns += [f"{name} success" for name in systems] if over_effects else []
    found = {x: {cost.system: cost for cost in costs} for x, costs in curve.points if x in shown}
    lines = [[str(x), *(binary(costs[s].adapters) for s in systems)] for x, costs in found.items()]
    if over_effects:
        lines = [[*line, *(_share(costs[s].success) for s in systems)] for line, costs in zip(lines, found.values(), strict=True)]
    return f"over the {'number of effects' if curve.axis == 'effects' else 'rank of the teachers'}", columns, lines


def files_table(found: Answer) -> Rows:
    """Predicted against stored bytes of a world's adapter files."""
    columns = ["adapter", "rank", "layers", "dtype", "predicted", "stored", "file", "exact"]
    lines = [
        [one.name, str(one.rank), str(one.modules), one.dtype, f"{one.predicted:,}", f"{one.stored:,}", f"{one.file:,}",
         "yes" if one.exact else "NO"]
        for one in found.predictions
    ]  # fmt: skip
    return "bytes of the world's adapters, predicted from its config, against the files", columns, lines


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def tables(found: Answer) -> list[Rows]:
    """What the terminal shows: systems, two short curves, and a world's files."""
    shown = [
        systems_table(found),
        curve_table(found.effects_curve, (1, 10, 20, 50, 100, 180)),
        curve_table(found.rank_curve, (8, 16, 32, 64, 128)),
    ]
    return [*shown, files_table(found)] if found.predictions else shown
