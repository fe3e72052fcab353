"""The table about groups of sources: does quality hold away from the pictures that adapters were trained on?"""

from __future__ import annotations

from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.rows import Frame, estimate_cell, is_share, mean_of
from clbench.report.tables import short
from clbench.sources import GROUPS, group_of

NOTE = (
    "The same effects on scenes of different make; «seen» is what the adapters were trained on, in new scenes. An effect on "
    "subject or background has no truth on a plain photograph and is left out there."
)


def group_table(frame: Frame, metric: str, probe: str = "") -> TableView | None:
    """One row per system, one column per group of sources, for the plain question or a `probe`; None without groups."""
    rows = frame[(frame["metric"] == metric) & (frame["probe"] == probe) & (frame["second"] == "")]
    rows = rows.assign(group=rows["source"].map(group_of))
    groups = [name for name in GROUPS if name in set(rows["group"])]
    asked = [name for name in dict.fromkeys(rows["system"]) if (rows[rows["system"] == name]["status"] == "ok").any()]
    if not groups or not asked:
        return None
    body = []
    for system in asked:
        mine = rows[rows["system"] == system]
        found = (mean_of(mine[mine["group"] == group], is_share(metric)) for group in groups)
        body.append(Row([Cell(system), *(estimate_cell(metric, one) for one in found)]))
    heads = [Head("System", numeric=False), *(Head(name, GROUPS[name].about) for name in groups)]
    name, caption = f"t-groups-{metric}", f"{short(metric)} by group of sources"
    if probe:
        return TableView(f"{name}-{probe}", f"{caption}, probe «{probe}»", heads, body)
    return TableView(name, caption, heads, body, NOTE)
