"""Which way is better: every place of a report that turns a sign, on planted scores of both kinds of metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic

from clbench.report import curves, pareto
from clbench.report.load import load_results
from clbench.report.numbers import Numbers, compute, judged
from clbench.report.tables import worst_first
from clbench.report.verdict import verdict
from clbench.results import RunFolder
from clbench.stats import Difference
from clbench.types import Case, Direction, Edit, Score

NAMES = synthetic.NAMES


def gap(value: float, p: float) -> Difference:
    """A difference whose interval leaves 0 out."""
    return Difference(value, value - 0.05, value + 0.05, p, 0.1, 32, 0, 8)


@pytest.mark.parametrize(("direction", "up"), [("higher", True), ("lower", False), ("neutral", None)])
def test_better_is_said_in_the_direction_of_the_metric(direction: Direction, up: bool | None) -> None:
    found = judged({"up": gap(0.2, 0.01), "down": gap(-0.2, 0.01)}, direction)
    assert (found["up"].better, found["down"].better) == (up, None if up is None else not up)


def test_a_p_that_passes_alone_does_not_pass_among_three() -> None:
    """Holm: 3 x .01, 2 x .03, 1 x .04 (at least the one before)."""
    found = judged({name: gap(0.2, p) for name, p in (("a", 0.01), ("b", 0.03), ("c", 0.04))}, "higher")
    assert [one.adjusted for one in found.values()] == pytest.approx([0.03, 0.06, 0.06])
    assert [one.better for one in found.values()] == [True, None, None] and {one.tests for one in found.values()} == {3}
    assert judged({"b": gap(0.2, 0.03)}, "higher")["b"].better


def test_what_is_detectable_is_never_none_beside_better() -> None:
    """Seven effects alone could not pass over four tests, but may after three of fourteen."""
    gaps = {name: Difference(0.75, 0.6, 0.9, 2 / 2**14, 0.1, 56, 0, 14) for name in "abc"}
    found = judged({**gaps, "few": Difference(0.75, 0.6, 0.9, 2 / 2**7, 0.1, 28, 0, 7)}, "higher")
    assert found["few"].better and math.isfinite(found["few"].difference.detectable)


def run_of(
    out: Path, system: str, metric: str, value: Callable[[Case], float], steps: tuple[int | None, ...] = (None,)
) -> RunFolder:
    """A run of eight effects on two sources with one metric, as many passes as steps."""
    cases = [Case(f"effect_{at}", source, 0, step) for at in range(len(NAMES)) for source in ("a", "b") for step in steps]
    run = RunFolder.create(out / system, synthetic.certificate(system, len(cases), synthetic.STEP_SUITE))
    for case in cases:
        passes = 0 if system in synthetic.KINDS else case.steps or {"cascade": 8, "collection": 4, "teacher": 28}[system]
        run.append_edit(Edit(case, synthetic.painted(case.source, 0), nfe=passes, seconds=0.1))
    run.finish()
    run.write_scores(Score(case, metric, 1, value(case)) for case in cases)
    return run


def numbers_of(runs: list[RunFolder]) -> Numbers:
    return compute(load_results(runs, synthetic.about(suite=synthetic.STEP_SUITE)))


def place(case: Case) -> int:
    return int(case.effect.split("_")[1])


@pytest.mark.parametrize(("metric", "extreme"), [("success", "highest"), ("perceptual", "lowest")])
def test_leader_front_and_worst_effect_follow_the_direction(tmp_path: Path, metric: str, extreme: str) -> None:
    """Cascade .25 in 8 passes, collection .75 in 4, teacher .5 in 28; the collection's effects rise from first to last."""
    cascade, teacher = 0.25, 0.5
    values = {"cascade": lambda _: cascade, "collection": lambda case: 0.4 + 0.1 * place(case), "teacher": lambda _: teacher}
    numbers = numbers_of([run_of(tmp_path, system, metric, value) for system, value in values.items()])
    up = extreme == "highest"
    card = numbers.results.headline
    assert card is not None and card.name == metric
    said = " ".join(sentence.text for sentence in verdict(numbers))
    assert f"{'collection' if up else 'cascade'} has the {extreme} measured" in said
    offers = {offer.entry.system: (offer.front, offer.good > 0) for offer in pareto.offers(numbers, "passes")}
    fronts = {"collection": True, "cascade": not up, "teacher": False}
    assert offers == {system: (front, up) for system, front in fronts.items()}
    order = [effect.id for effect in worst_first(numbers.results, card)]
    assert order == [f"effect_{at}" for at in (range(8) if up else range(7, -1, -1))]


@pytest.mark.parametrize("metric", ["ssim", "perceptual"])
def test_the_teacher_is_reached_from_the_worse_side_and_surely_by_a_whole_interval(tmp_path: Path, metric: str) -> None:
    """The margin is 5 % of .9: far away in 2 steps, .03 behind in 4 with effects between 0 and .06, .001 behind in 8."""
    best, sign = (1.0, -1) if metric == "ssim" else (0.1, 1)
    behind = {2: lambda case: 0.5, 4: lambda case: 0.06 * (place(case) % 2), 8: lambda case: 0.002 * (place(case) % 2)}

    def collection(case: Case) -> float:
        assert case.steps is not None
        return best + sign * behind[case.steps](case)

    runs = [
        run_of(tmp_path, "teacher", metric, lambda _: best, (2, 8)),
        run_of(tmp_path, "collection", metric, collection, (2, 4, 8)),
        run_of(tmp_path, "identity", metric, lambda _: best + sign * 0.9),
    ]
    numbers = numbers_of(runs)
    said, table = curves.answer(numbers), curves.table(numbers)
    assert said is not None and said[0].endswith(": collection at 4 steps, surely at 8 steps.")
    assert table is not None
    (row,) = [row for row in table.rows if row.cells[0].text == "collection"]
    assert [cell.text for cell in row.cells[2:]] == ["4 steps", "8 steps"]
