"""Tables of set-level values (sets.json): one number for all pictures of a system, and one for those of each effect."""

from __future__ import annotations

from clbench.metrics.cards import SET_METRICS
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, anchor, number
from clbench.report.data import Entry, Results
from clbench.report.tables import ARROWS, LAST
from clbench.set_table import SetRow, read_sets

NOTE = (
    "The estimates come without an interval: a set of pictures is one sample. With few pictures they say more about which ones "
    "were drawn than about the system; compare with the controls, which have the same sources."
)
DECIMALS = {"kid": 4, "cmmd": 2}

Found = dict[tuple[str, str], SetRow]
"""(metric, effect) -> row, of one entry; effect "" is all effects."""


def overall(results: Results) -> TableView | None:
    """One row per entry, one column per metric, over all effects; None where no run has sets.json."""
    found = _found(results)
    metrics = _metrics(found)
    if not metrics:
        return None
    body = [
        Row([Cell(entry.label, sort=entry.label), *(_cell(mine, metric, "") for metric in metrics)],
            "control" if entry.control else "")
        for entry, mine in found
    ]  # fmt: skip
    return TableView("t-sets", "Outputs against truths, all effects together", [_first(), *map(_head, metrics)], body, NOTE)


def per_effect(results: Results) -> list[TableView]:
    """For each metric one row per effect, one column per entry."""
    found, views = _found(results), []
    for metric in _metrics(found):
        shown = [(entry, mine) for entry, mine in found if any(name == metric and effect for name, effect in mine)]
        body = [
            Row([Cell(effect.name, sort=effect.name, css="name"), *(_cell(mine, metric, effect.id) for _, mine in shown)])
            for effect in results.effects
        ]
        heads = [Head("Effect", numeric=False), *(Head(entry.label) for entry, _ in shown)]
        views += [TableView(f"t-sets-{anchor(metric)}", f"{_title(metric)} by effect", heads, body)] if shown else []
    return views


def _found(results: Results) -> list[tuple[Entry, Found]]:
    rows = {system: read_sets(entry.folder) for system, entry in results.runs().items()}
    found = [
        (entry, {(row.metric, row.effect): row for row in rows[entry.system] if row.steps == entry.steps})
        for entry in results.entries
    ]
    return [(entry, mine) for entry, mine in found if mine]


def _metrics(found: list[tuple[Entry, Found]]) -> list[str]:
    return [name for name in SET_METRICS if any(metric == name for _, mine in found for metric, _ in mine)]


def _title(metric: str) -> str:
    return f"{metric.upper()} {ARROWS[SET_METRICS.get(metric).direction]}"


def _first() -> Head:
    return Head("System", numeric=False)


def _head(metric: str) -> Head:
    return Head(_title(metric), SET_METRICS.get(metric).about)


def _cell(mine: Found, metric: str, effect: str) -> Cell:
    row = mine.get((metric, effect))
    if row is None:
        return Cell(MISSING, sort=LAST, title="not computed", css="missing")
    if row.value is None:
        return Cell(MISSING, "" if effect else row.reason, LAST, title=row.reason, css="missing")
    sizes = f"{row.n} pictures, {row.n_truth} truths"
    return Cell(number(row.value, DECIMALS[metric]), "" if effect else sizes, row.value, title=sizes)
