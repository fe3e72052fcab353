"""The table about compositions: "apply A, then B" in one edit and in two, against the true sequence."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.metrics.cards import METRICS
from clbench.metrics.derived import scale_of
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.differences import compared_cell, hopeless, reach
from clbench.report.numbers import judged
from clbench.report.rows import Frame, as_made, estimate_cell, mean_of
from clbench.stats import Difference, draws_for, paired_difference

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

AGAINST = ("both", "perceptual")
TWICE_NOTE = (
    "Each system minus the reference run twice, on the same pairs and sources, with its 95 % interval and Holm-corrected p (over "
    "the lines of a column); the reference needs two loads and two edits for it."
)


def composition_table(frame: Frame) -> TableView | None:
    """One row per system and way (one edit, two edits), controls last in the order of `frame`; None without compositions."""
    rows = as_made(frame[frame["second"] != ""])
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
        cells.append(estimate_cell(metric, mean_of(mine, metric)))
    return Row(cells)


def against_twice(frame: Frame, system: str, metric: str = "both", reference: str = "cascade", way: str = "") -> Difference:
    """`system` (by `way`) minus the `reference` run twice, paired on pair, source, seed and steps."""
    keys = ["effect", "second", "source", "seed", "steps"]
    rows = frame[(frame["metric"] == metric) & (frame["second"] != "")]
    mine = as_made(rows[(rows["system"] == system) & (rows["probe"] == way)])
    other = rows[(rows["system"] == reference) & (rows["probe"] == "twice")]
    both = mine.merge(other, on=keys, suffixes=("", "_reference"))
    sources = [f"{second}/{source}" for second, source in zip(both["second"], both["source"], strict=True)]
    first, second = both["value"].to_numpy(), both["value_reference"].to_numpy()
    drawn = draws_for("difference", metric)
    return paired_difference(first, second, both["effect"].tolist(), sources, drawn, scale_of(metric))


def twice_table(frame: Frame, systems: Sequence[str], reference: str = "cascade") -> TableView | None:
    """Every one of `systems`, by each way it was asked, minus the `reference` run twice; None where that was not run."""
    rows = frame[(frame["second"] != "") & (frame["status"] == "ok")]
    ways = dict.fromkeys(zip(rows["system"], rows["probe"], strict=True))
    shown = [key for key in ways if key[0] in systems and key != (reference, "twice")]
    if (reference, "twice") not in ways or not shown:
        return None
    cards = [METRICS.get(metric) for metric in AGAINST if metric in set(rows["metric"])]
    found = {
        card.name: judged({key: against_twice(frame, key[0], card.name, reference, key[1]) for key in shown}, card.direction)
        for card in cards
    }
    body = [
        Row([Cell(key[0]), Cell(WAYS[key[1]] if key[1] in WAYS else key[1]),
             *(compared_cell(found[card.name][key], card, reach(found[card.name].values())) for card in cards)])
        for key in shown
    ]  # fmt: skip
    heads = [Head("System", numeric=False), Head("By", numeric=False), *(Head(METRICS_SHOWN[card.name]) for card in cards)]
    note = f"{TWICE_NOTE} {hopeless({metric: held.values() for metric, held in found.items()}, 'line')}".strip()
    return TableView("t-twice", f"Against {reference} in two edits", heads, body, note, "differences")
