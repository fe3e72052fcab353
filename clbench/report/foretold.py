"""What was foretold of deployment against what was measured (memory.json): the table, and whether it came true."""

from __future__ import annotations

import math

from clbench.cost.units import binary
from clbench.memory.points import BASE, QUANTITIES
from clbench.memory.record import Measurement, MemoryFile
from clbench.report.cells import MINUS, MISSING, Cell, Head, Row, TableView, number
from clbench.report.ledger import LAST, median, point_cells, write

FORETOLD = ("tensor_bytes", "factor_bytes", "resident_bytes", "peak_bytes", "loads_per_1000", "switches_per_1000")
EXACT = ("tensor_bytes", "factor_bytes")
PEAK_TOLERANCE = 0.05
"""Peak memory counts as foretold when it is within this share, and what it grows by over the base when it is within this share
of it plus `SCATTER`: most of a peak is the base's own memory, which was measured and not foretold."""
SCATTER = 4 << 20
"""Bytes by which peaks of equal processes may differ: on a CPU repeats lie 1 to 3 MiB apart."""
OF_PEAK, OF_GROWTH = "5 %", f"5 % plus {SCATTER >> 20} MiB"
GROWING = ("resident_bytes", "peak_bytes")
"""Quantities of which the base has its own share."""


def table(found: MemoryFile) -> TableView:
    """Prediction against measurement: adapters must agree to the byte, the peak and its growth over the base nearly."""
    rows = [
        _foretold_row(row, found)
        for name in FORETOLD
        for row in found.rows
        if row.quantity == name and row.predicted is not None and row.point != BASE
    ]
    heads = [
        Head("Quantity", numeric=False), Head("System", numeric=False), Head("Effects"), Head("Adapters kept", numeric=False),
        Head("Predicted"), Head("Measured"), Head("Error", "measured / predicted - 1"), Head("Verdict", numeric=False),
    ]  # fmt: skip
    note = (
        "Bytes of adapters are foretold from the base's config and the ranks alone. Resident and peak memory add them to the "
        f"measured base without adapters, so a peak is judged twice: the whole (within {OF_PEAK}), and its growth over that base "
        f"(within {OF_GROWTH}: equal processes may differ by as much). Loads and switches are the steady state's; a run of "
        f"{found.queries} queries scatters around it."
    )
    return TableView("t-ledger-foretold", "Prediction against measurement", heads, rows, note, "ledger")


def _foretold_row(row: Measurement, found: MemoryFile) -> Row:
    assert row.predicted is not None
    name = Cell(row.quantity.replace("_", " "), QUANTITIES[row.quantity][1], row.quantity, css="name")
    cells = [name, *point_cells(row.point)]
    cells.append(Cell(_exactly(row.predicted, row), sort=row.predicted))
    if row.median is None:
        return Row([*cells, *(Cell(MISSING, sort=LAST, title=row.reason, css="missing") for _ in range(3))])
    shown = "0" if row.median == row.predicted else f"{number(100 * row.error, 2, signed=True)} %"
    known = row.median == row.predicted or math.isfinite(row.error)
    error = Cell(shown if known else MISSING, _growth_words(row, found), row.error if math.isfinite(row.error) else 0.0)
    return Row([*cells, Cell(_exactly(row.median, row), sort=row.median), error, _verdict(row, found)])


def ground(found: MemoryFile) -> float:
    """The base's own peak in bytes, as measured; 0 where it was not."""
    base = median(found, BASE, "peak_bytes")
    return 0.0 if math.isnan(base) else base


def near(row: Measurement) -> bool:
    """Whether a peak is as foretold, the base's own memory included."""
    return abs(row.error) <= PEAK_TOLERANCE


def near_growth(row: Measurement, found: MemoryFile) -> bool:
    """Whether a peak grew over the base as foretold; False where the base was not measured."""
    grown = growth_of(row, found)
    return grown is not None and abs(grown[0] - grown[1]) <= PEAK_TOLERANCE * abs(grown[1]) + SCATTER


def growth_of(row: Measurement, found: MemoryFile) -> tuple[float, float] | None:
    """How much of a memory figure is not the base's own, measured and foretold: what the prediction is really about."""
    base = median(found, BASE, row.quantity)
    if row.quantity not in GROWING or math.isnan(base) or row.median is None or row.predicted is None:
        return None
    return row.median - base, row.predicted - base


def _growth_words(row: Measurement, found: MemoryFile) -> str:
    grown = growth_of(row, found)
    return f"over the base {_signed(grown[0])}, foretold {_signed(grown[1])}" if grown is not None else ""


def _signed(count: float) -> str:
    return f"{MINUS if count < 0 else '+'}{binary(abs(count))}"


def _exactly(value: float, row: Measurement) -> str:
    """Adapters to the byte, everything else as it reads best."""
    return f"{value:,.0f} B" if row.quantity in EXACT else write(value, row)


def _verdict(row: Measurement, found: MemoryFile) -> Cell:
    if row.quantity in EXACT:
        same = row.min == row.max == row.predicted
        return Cell("exact" if same else "differs", css="better" if same else "worse")
    if row.quantity == "peak_bytes":
        whole = f"{'within' if near(row) else 'beyond'} {OF_PEAK}"
        if growth_of(row, found) is None:
            return Cell(whole, css="better" if near(row) else "worse")
        grown = f"growth {'within' if near_growth(row, found) else 'beyond'} {OF_GROWTH}"
        return Cell(whole, grown, css="better" if near(row) and near_growth(row, found) else "worse")
    return Cell("", css="quiet")
