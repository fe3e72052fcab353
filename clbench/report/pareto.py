"""Quality against what it costs: which systems nothing else beats at their price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from clbench.report.cells import MISSING, Cell, Head, Row, TableView, interval, megabytes, metric_value
from clbench.report.data import Entry
from clbench.report.numbers import Numbers
from clbench.report.tables import LAST, head, system_cell

Price = Literal["passes", "bytes"]
WORDS: dict[Price, str] = {
    "passes": "Passes of the transformer for one picture",
    "bytes": "Bytes of the adapters that serve all effects",
}


@dataclass(frozen=True)
class Offer:
    """A system at one price with its quality, ``good`` counting upwards; `front`: no other is as good for less."""

    entry: Entry
    price: float
    good: float
    front: bool


def price_of(numbers: Numbers, entry: Entry, price: Price) -> float:
    """Median passes for one picture, or bytes of the adapter files; NaN where unknown."""
    if price == "passes":
        return entry.passes
    return float(numbers.results.about.adapter_bytes.get(entry.system, float("nan")))


def offers(numbers: Numbers, price: Price) -> list[Offer]:
    """Every system that was asked of all effects and whose price and headline metric are known, the cheapest first."""
    card = numbers.results.headline
    if card is None:
        return []
    flip = -1 if card.direction == "lower" else 1
    known = []
    for entry in numbers.results.whole:
        cost, value = price_of(numbers, entry, price), numbers.estimates[entry.label, card.name].value
        if np.isfinite(cost) and np.isfinite(value):
            known.append((cost, flip * value, entry))
    found = [Offer(e, cost, good, not any(_beats(other[:2], (cost, good)) for other in known)) for cost, good, e in known]
    return sorted(found, key=lambda offer: (offer.price, -offer.good, offer.entry.label))


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether `one` is no dearer and no worse than `other`, and better in one of the two."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def table(numbers: Numbers) -> TableView | None:
    """Quality, passes and bytes of every system, and on which fronts it stands; None with fewer than two."""
    results, card = numbers.results, numbers.results.headline
    by_passes, by_bytes = offers(numbers, "passes"), offers(numbers, "bytes")
    if card is None or max(len(by_passes), len(by_bytes)) < 2:
        return None
    fronts = {"passes": {o.entry.label for o in by_passes if o.front}, "bytes": {o.entry.label for o in by_bytes if o.front}}
    rows = []
    for entry in results.whole:
        one, size = numbers.estimates[entry.label, card.name], price_of(numbers, entry, "bytes")
        on = [name for name, labels in fronts.items() if entry.label in labels]
        value = one.value if np.isfinite(one.value) else LAST
        cells = [
            system_cell(entry, results),
            Cell(metric_value(card.name, one.value), interval(card.name, one.low, one.high), value, bounds=(one.low, one.high)),
            Cell(f"{entry.passes:.0f}" if np.isfinite(entry.passes) else MISSING, sort=_last(entry.passes)),
            Cell(megabytes(size), sort=_last(size)),
            Cell(" and ".join(on) or "neither", css="text" if on else "text quiet"),
        ]
        rows.append(Row(cells))
    heads = [Head("System", numeric=False), head(card), Head("Passes"), Head("Adapter bytes")]
    heads.append(Head("Best for its", numeric=False))
    note = "Best for its passes (bytes): no other system here is as good for fewer, by measured means without their intervals."
    return TableView("t-pareto", "What quality costs", heads, rows, note, "pareto")


def _last(value: float) -> float:
    return value if np.isfinite(value) else LAST
