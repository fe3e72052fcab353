"""The table about compositions: "apply A, then B" in one edit and in two, against the true sequence."""

from __future__ import annotations

import numpy as np

from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.rows import SEED, Frame, estimate_cell, mean_of
from clbench.stats import paired_difference

WAYS = {"": "one edit", "twice": "two edits"}
METRICS_SHOWN = {
    "both": "Both effects", "first_shows": "First shows", "second_shows": "Second shows", "in_order": "In order",
    "perceptual": "Distance to the truth", "order_change": "Change by order",
}  # fmt: skip
NOTE = (
    "«Both» counts pictures that are closest to the true picture of both effects; pairs in which one effect hides the other are "
    "left out there, and pairs whose orders look alike in «in order». The control truth shows what a perfect system gets, also "
    "how much the order changes a true picture. Intervals take the first effects as the sample."
)


def composition_table(frame: Frame) -> TableView | None:
    """One row per system and way (one edit, two edits), controls last in the order of `frame`; None without compositions."""
    rows = frame[frame["second"] != ""]
    asked = rows[rows["status"] != "unscored"]
    keys = dict.fromkeys(zip(asked["system"], asked["probe"], strict=True))
    body = [_row(system, way, rows[(rows["system"] == system) & (rows["probe"] == way)]) for system, way in keys]
    if not body:
        return None
    heads = [Head("System", numeric=False), Head("By", numeric=False), *(Head(title) for title in METRICS_SHOWN.values())]
    pairs = len(rows[["effect", "second"]].drop_duplicates())
    return TableView("t-composition", f"Apply one effect, then another: {pairs} ordered pairs", heads, body, NOTE)


def _row(system: str, way: str, rows: Frame) -> Row:
    cells = [Cell(system), Cell(WAYS.get(way, way))]
    for metric in METRICS_SHOWN:
        mine = rows[rows["metric"] == metric]
        share = metric not in ("perceptual", "order_change")
        cells.append(estimate_cell("success" if share else metric, mean_of(mine, share)))
    return Row(cells)


def against_twice(frame: Frame, system: str, metric: str = "both", reference: str = "cascade", way: str = ""):
    """`system` (by `way`) minus the `reference` run twice, paired on pair, source and seed: a `clbench.stats.Difference`."""
    keys = ["effect", "second", "source", "seed"]
    rows = frame[(frame["metric"] == metric) & (frame["second"] != "")]
    mine = rows[(rows["system"] == system) & (rows["probe"] == way)]
    other = rows[(rows["system"] == reference) & (rows["probe"] == "twice")]
    both = mine.merge(other, on=keys, suffixes=("", "_reference"))
    sources = [f"{second}/{source}" for second, source in zip(both["second"], both["source"], strict=True)]
    share = metric not in ("perceptual", "order_change")
    first, second = both["value"].to_numpy(), both["value_reference"].to_numpy()
    return paired_difference(first, second, both["effect"].tolist(), sources, np.random.default_rng(SEED), share)
