"""The deployment ledger: tables of measurements and predictions, on made-up rows."""

from __future__ import annotations

import pytest

from clbench.cost.answer import answer
from clbench.cost.options import Options
from clbench.memory.points import BASE, QUANTITIES, Point
from clbench.memory.record import MemoryFile, measurement
from clbench.report import foretold, ledger
from clbench.report.cells import MISSING

MIB = 2**20
DISK, ALL, ONE = Point("cascade", 9, "disk", 4), Point("cascade", 9), Point("cascade", 1)


@pytest.fixture
def found() -> MemoryFile:
    file = MemoryFile(
        world={"name": "w", "hash": "1" * 64}, suite={"name": "memory", "hash": "2" * 64}, question="q?", adapters="3" * 64,
        teachers=2, repeats=3, queries=8, git={"sha": "", "dirty": False}, versions={}, platform={}, command="clbench",
        created="now", dtype="float32", device="cpu", threads=1, peak_by="a meter",
    )  # fmt: skip
    for point in (BASE, ONE, ALL, DISK):
        n = point.loaded
        given = {
            "disk_bytes": ([9 * MIB], None), "tensor_bytes": ([8 * MIB], 8 * MIB), "factor_bytes": ([n * MIB] * 3, n * MIB),
            "peak_bytes": ([(100 + n) * MIB] * 3, (100 + n) * MIB * (0.9 if point == DISK else 1)),
            "load_seconds": ([1, 2, 3], None),
        }  # fmt: skip
        if point == DISK:
            given |= {"swap_seconds": ([0.5], None), "switch_seconds": ([0.001], None), "loads_per_1000": ([500], 555),
                      "switches_per_1000": ([900], 888)}  # fmt: skip
        for name in QUANTITIES:
            values, told = given.get(name, ([], None))
            file.rows.append(measurement(point, name, values, told, "" if values else "not made up"))
    return file


def words(view) -> dict[tuple[str, ...], list[str]]:
    return {tuple(cell.text for cell in row.cells[:3]): [cell.text for cell in row.cells[3:]] for row in view.rows}


def test_measured_shows_medians_ranges_and_reasons(found):
    view = ledger.measured(found)
    assert all(len(row.cells) == len(view.heads) for row in view.rows)
    cells = words(view)["cascade", "9", "LRU 4 from disk"]
    assert cells[0] == "9.0000 MiB" and "2.00 s" in cells and MISSING in cells
    load = view.rows[-1].cells[3 + list(ledger.MEASURED).index("load_seconds")]
    assert load.sub == "1.00 s to 3.00 s" and load.sort == 2
    missing = view.rows[0].cells[3 + list(ledger.MEASURED).index("swap_seconds")]
    assert missing.text == MISSING and missing.title == "not made up"
    assert "copies" in view.note and "2 teachers" in view.note


def test_growth_needs_two_pools_and_weighs_loads(found):
    view = ledger.growth(found)
    assert view.rows[-1].cells[-1].sort == pytest.approx((500 * 0.5 + 400 * 0.001) / 1000)
    assert view.rows[0].cells[-1].text == MISSING
    found.rows = [row for row in found.rows if row.point in (BASE, ONE)]
    assert ledger.growth(found) is None


def test_foretold_says_exact_within_and_beyond(found):
    view = foretold.table(found)
    verdicts = {(row.cells[0].text, row.cells[3].text): row.cells[-1].text for row in view.rows}
    assert verdicts["factor bytes", "all"] == "exact" and verdicts["peak bytes", "all"] == "within 5 %"
    assert verdicts["peak bytes", "LRU 4 from disk"] == "beyond 5 %"
    assert all(row.cells[1].text != "base" for row in view.rows)
    peak = next(row for row in view.rows if row.cells[0].text == "peak bytes" and row.cells[3].text == "all")
    assert peak.cells[-2].sub == "over the base +9.0000 MiB, foretold +9.0000 MiB"
    assert peak.cells[-1].sub == "growth within 5 % plus 4 MiB" and peak.cells[-1].css == "better"
    row = found.find(ALL, "factor_bytes")
    found.rows[found.rows.index(row)] = row.model_copy(update={"max": row.max + 1})
    changed = {(r.cells[0].text, r.cells[3].text): r.cells[-1].text for r in foretold.table(found).rows}
    assert changed["factor bytes", "all"] == "differs"


def test_scale_holds_the_answer_of_the_cost_command():
    said = answer(Options())
    view = ledger.scale(said.systems, "At real scale", said.assumptions)
    rows = {row.cells[0].text: [cell.text for cell in row.cells[1:]] for row in view.rows}
    assert rows["cascade"][0] == "110.65 GiB" and rows["collection"][0] == "2.1973 GiB"
    assert rows["collection"][-1] == "91.3 %" and rows["merged"][-1] == MISSING
    curve = ledger.scale_curve(said.effects_curve, ("cascade", "collection"), (1, 50, 180, 999))
    assert [row.cells[0].text for row in curve.rows] == ["1", "50", "180"]
    assert all(len(row.cells) == len(curve.heads) for row in curve.rows)
