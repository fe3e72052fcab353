"""What a comparison can and cannot find: said where too few effects let nothing pass, and where nothing varied."""

from __future__ import annotations

from pathlib import Path

import asked
import numpy as np
import synthetic

from clbench.metrics.cards import METRICS
from clbench.report.differences import compared_cell, differences, hopeless
from clbench.report.load import load_results
from clbench.report.numbers import compute, judged
from clbench.report.verdict import verdict
from clbench.stats import Difference, paired_difference

NAN = float("nan")


def difference(gaps: np.ndarray) -> Difference:
    """Of one gap for each effect."""
    effects = [f"e{index}" for index in range(len(gaps))]
    return paired_difference(gaps, np.zeros(len(gaps)), effects, ["s"] * len(gaps), np.random.default_rng(0))


def test_four_effects_let_nothing_pass(tmp_path: Path) -> None:
    numbers = compute(load_results(asked.generalization(tmp_path), synthetic.about(asked.NAMES, asked.named("generalization"))))
    said = "ith 4 effects and 1 system no difference can pass the correction (p is .125 at best, before it)"
    table = differences(numbers)
    assert table is not None and table.note.endswith(f"W{said}.") and table.note.count("can pass the correction") == 1
    assert "detectable\u00a0none" in table.rows[0].cells[1].sub
    assert any(sentence.text.endswith(f"w{said}.") for sentence in verdict(numbers))


def test_eight_effects_and_two_systems_can_be_told_apart(tmp_path: Path) -> None:
    numbers = compute(load_results(synthetic.make_runs(tmp_path), synthetic.about()))
    table = differences(numbers)
    assert table is not None and "no difference can pass" not in table.note
    found = numbers.compared["collection", "success"]
    assert found.tests == 2 and f"detectable\u00a0{100 * found.difference.detectable:.0f}\u00a0pt" in table.rows[0].cells[2].sub
    assert any(f"differences of about {100 * found.difference.detectable:.0f} points" in one.text for one in verdict(numbers))


def test_a_table_says_which_of_its_metrics_are_hopeless() -> None:
    spread = np.linspace(-1, 2, 8)
    many, few = (judged({"x": difference(gaps), "y": difference(gaps)}, "higher") for gaps in (spread, spread[:6]))
    many, few = (list(one.values()) for one in (many, few))
    assert hopeless({"success": many, "psnr": many}) == ""
    assert hopeless({"success": many, "psnr": few, "ssim": few}) == (
        "With 6 effects and 2 systems no difference can pass the correction (p is .031 at best, before it): PSNR, SSIM."
    )


def test_where_nothing_varied_no_detectable_difference_is_claimed() -> None:
    card = METRICS.get("success")
    cells = [compared_cell(judged({"x": difference(np.full(8, gap))}, "higher")["x"], card, 1.0) for gap in (0.0, 0.25)]
    assert all(cell.sub.endswith("nothing\u00a0varied") for cell in cells)
    single = compared_cell(judged({"x": difference(np.ones(1))}, "higher")["x"], card, 1.0)
    assert single.sub.replace("\u00a0", " ") == "no interval from a single effect"
