"""Curves over steps, Pareto fronts, scales and how plots are drawn: planted answers and laws."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from clbench.report import curves, drawing, figures, pareto
from clbench.report.curves import area
from clbench.report.data import Results, question, way
from clbench.report.load import load_results
from clbench.report.numbers import Numbers, Scale, compute, scale
from clbench.report.summary import summaries
from clbench.report.tables import per_effect
from clbench.report.verdict import verdict
from clbench.results import RunFolder
from clbench.types import Case, Edit, Score

heights = st.floats(-5, 5)


@given(heights, st.lists(st.integers(1, 100), min_size=2, max_size=6, unique=True))
def test_a_flat_curve_has_its_height_as_area(height: float, passes: list[int]) -> None:
    across = np.array(sorted(passes), dtype=np.float64)
    assert area(across, np.full(len(across), height), across[0], across[-1]) == pytest.approx(height, abs=1e-9)


def test_each_doubling_counts_the_same() -> None:
    passes, values = np.array([1.0, 2.0, 4.0, 16.0]), np.array([0.0, 1.0, 1.0, 1.0])
    assert area(passes, values, 1, 16) == pytest.approx((0.5 + 1 + 2) / 4)
    assert area(passes, values, 1, 2) == pytest.approx(0.5)
    assert area(passes, values, math.sqrt(2), 2) == pytest.approx(0.75), "ends between two points are interpolated"


@given(st.lists(heights, min_size=4, max_size=4), st.lists(heights, min_size=4, max_size=4))
def test_area_is_linear_in_the_curve(one: list[float], two: list[float]) -> None:
    passes, first, second = np.array([1.0, 3.0, 8.0, 20.0]), np.array(one), np.array(two)
    together = area(passes, first + 2 * second, 2, 15)
    assert together == pytest.approx(area(passes, first, 2, 15) + 2 * area(passes, second, 2, 15), abs=1e-9)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    patch = pytest.MonkeyPatch()
    patch.setitem(synthetic.SKILL, "collection", 1.2)  # as good as the teacher from a few steps on
    patch.setitem(synthetic.SKILL, "teacher", 1.2)
    patch.setitem(synthetic.SKILL, "cascade", 0.4)
    systems, steps = ("teacher", "cascade", "collection", "identity", "truth"), (1, 2, 4, 8, 28)
    runs = synthetic.make_runs(
        tmp_path_factory.mktemp("runs"), systems=systems, sources=4, steps=steps, suite=synthetic.STEP_SUITE
    )
    patch.undo()
    return compute(load_results(runs, synthetic.about(suite=synthetic.STEP_SUITE)))


def test_curves_ascend_in_passes(numbers: Numbers) -> None:
    found = curves.curves(numbers.results, "success")
    assert [curve.system for curve in found] == ["teacher", "cascade", "collection"]
    assert found[0].passes.tolist() == [2, 4, 8, 16, 56] and found[2].passes.tolist() == [1, 2, 4, 8, 28]
    assert curves.common_range(found) == (2, 28)


def test_the_steps_that_reach_the_teacher(numbers: Numbers) -> None:
    _, cascade, collection = curves.curves(numbers.results, "success")
    reached = curves.reached(numbers, collection, "success", 1, proven=False)
    assert reached is not None and reached.steps == 2, "its skill is .68 in one step and .97 in two, the teacher's 1"
    assert curves.reached(numbers, cascade, "success", 1, proven=False) is None


def test_the_goal_surely_reaches_itself(numbers: Numbers) -> None:
    teacher, *_ = curves.curves(numbers.results, "success")
    goal = curves.goal(numbers.results, "success")
    assert goal is not None and curves.reached(numbers, replace(teacher, entries=[goal]), "success", 1, proven=True) is goal
    assert curves.reached(numbers, teacher, "success", 1, proven=True) is not None


def test_equal_pictures_differ_in_nothing_and_equal_scores_of_others_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cascade", "collection"):
        monkeypatch.setitem(synthetic.SKILL, name, 2.0)  # never wrong
    found = []
    for same in (True, False):
        shown = {"cascade": 0, "collection": 0 if same else 1}
        monkeypatch.setattr(synthetic, "edited", lambda system, case, _, by=shown: synthetic.painted(case.source, by[system]))
        runs = synthetic.make_runs(tmp_path / str(same), ("cascade", "collection"), sources=3)
        gap = compute(load_results(runs, synthetic.about())).compared["collection", "success"].difference
        found.append((gap.value, gap.low, gap.high))
    assert found[0] == (0, 0, 0) and found[1][0] == 0 and found[1][1] < 0 < found[1][2]


def test_margin_of_a_share_is_in_points_and_else_on_the_controls_scale(numbers: Numbers) -> None:
    teacher = curves.goal(numbers.results, "perceptual")
    assert teacher is not None and teacher.steps == 28 and curves.margin(numbers, "success", teacher) == 0.05
    far = numbers.estimates["identity", "perceptual"].value - numbers.estimates[teacher.label, "perceptual"].value
    assert curves.margin(numbers, "perceptual", teacher) == pytest.approx(0.05 * abs(far))


def test_the_step_table_says_what_its_numbers_are(numbers: Numbers) -> None:
    table, values = curves.table(numbers), curves.values(numbers)
    assert table is not None and values is not None
    assert "at most 5.0 points behind teacher @28" in table.note
    assert len(values.rows) == 3 and len(values.heads) == 6
    assert {cell.title for row in values.rows for cell in row.cells[1:]} == {"32 of 32 scored, 0 failed"}


def test_every_system_stands_at_the_steps_that_it_is_made_for(numbers: Numbers) -> None:
    results = numbers.results
    assert [entry.label for entry in results.finals] == ["teacher @28", "cascade @8", "collection @8"]
    assert results.candidate is not None and results.candidate.label == "collection @8"
    assert [one.cells[0].text for one in summaries(numbers)[0].rows if "candidate" in one.cells[0].sub] == ["collection @8"]
    cards = {card.name: card for card in results.metrics}
    assert [head.label for head in per_effect(numbers, cards["vsa"]).heads[1:4]] == ["teacher @28", "cascade @8", "collection @8"]
    (differs,) = [one.text for one in verdict(numbers) if one.text.startswith("On the same cases")]
    assert "the success of collection @8 differs" in differs


def test_a_system_not_asked_at_its_own_steps_stands_at_its_most(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path, ("teacher", "collection"), sources=1, steps=(4, 2))
    results = load_results(runs, synthetic.about())
    assert [entry.label for entry in results.finals] == ["teacher @4", "collection @4"]


def test_the_verdict_says_when_the_teacher_is_reached(numbers: Numbers) -> None:
    found = curves.answer(numbers)
    assert found is not None
    key, why = found
    margin, systems = key.split(": ")
    assert margin == "Within 5.0 points of teacher @28 on success"
    assert re.fullmatch(r"cascade at none of its steps; collection at 2 steps, surely at (none|\d+ steps)\.", systems)
    told = r"Mean success from 2 to 28 passes on 8 effects, .*: teacher [\d.]+ %, cascade [\d.]+ %, collection [\d.]+ %\.$"
    assert re.search(told, why)
    said = verdict(numbers)
    assert [one.text for one in said[:2]] == [key, why] and said[0].key and said[1].why


def test_without_a_teacher_nothing_is_said_to_be_reached_or_not(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path, ("cascade", "collection"), sources=2, steps=(2, 8))
    some = compute(load_results(runs, synthetic.about()))
    found, table = curves.answer(some), curves.table(some)
    assert found is not None and found[0] == "" and found[1].startswith("Mean success from 2 to 8 passes")
    assert table is not None and {row.cells[column].text for row in table.rows for column in (2, 3)} == {"–"}


def stepped(out: Path, system: str, right: dict[str, bool], lost: tuple[str, ...] = ()) -> RunFolder:
    """A system in 2 and 8 steps that always is right or wrong on an effect, as `right` says; not asked for any other of four.

    Every edit of the effects in `lost` failed in 2 steps.
    """
    cases = [Case(f"effect_{at}", source, 0, steps) for at in range(4) for source in ("a", "b") for steps in (2, 8)]
    run = RunFolder.create(out / system, synthetic.certificate(system, len(cases), synthetic.STEP_SUITE))
    rows = []
    for case in cases:
        failed = case.effect in lost and case.steps == 2
        status = "unscored" if case.effect not in right else "failed" if failed else "ok"
        picture = synthetic.painted(case.source[:1], 0) if status == "ok" else None
        run.append_edit(Edit(case, picture, nfe=case.steps or 0, status=status, reason="" if status == "ok" else "why"))
        value = float(right[case.effect]) if status == "ok" else math.nan
        rows.append(Score(case, "success", 1, value, status=status, reason="" if status == "ok" else "why"))
    run.finish()
    run.write_scores(rows)
    return run


def test_areas_are_of_the_same_effects_and_of_no_system_that_was_asked_of_fewer(tmp_path: Path) -> None:
    """Each is right on the easy half; one failed on a hard effect, and an adapter holds the easy half alone: none is better."""
    easy, every = {"effect_0": True, "effect_1": True}, {f"effect_{at}": at < 2 for at in range(4)}
    runs = [stepped(tmp_path, "cascade", every), stepped(tmp_path, "collection", every, lost=("effect_2",))]
    runs.append(stepped(tmp_path, "collection-two", easy))
    some = compute(load_results(runs, synthetic.about(synthetic.NAMES[:4], synthetic.STEP_SUITE)))
    told = "Mean success from 2 to 8 passes on 3 effects, each doubling counting the same: cascade 67 %, collection 67 %."
    left_out = "collection-two was asked of fewer effects and has no area."
    found, table = curves.answer(some), curves.table(some)
    assert found is not None and found[1] == f"{told} {left_out}"
    assert table is not None and left_out in table.note and table.heads[1].sub == "2 to 8 passes, 3 effects"
    cells = {row.cells[0].text: row.cells[1] for row in table.rows}
    assert [cells[name].text for name in ("cascade", "collection", "collection-two")] == ["67 %", "67 %", "–"]
    assert cells["collection-two"].title == "asked of fewer effects than other systems"


def test_an_area_without_failures_is_no_certainty(tmp_path: Path) -> None:
    """All four effects succeed at every step: a fifth may fail, in the area as in the mean beside it."""
    runs = [stepped(tmp_path, name, {f"effect_{at}": True for at in range(4)}) for name in ("cascade", "collection")]
    some = compute(load_results(runs, synthetic.about(synthetic.NAMES[:4], synthetic.STEP_SUITE)))
    table = curves.table(some)
    assert table is not None
    mean = some.estimates["collection @8", "success"]
    for row in table.rows:
        assert row.cells[1].text == "100 %" and row.cells[1].bounds == pytest.approx((mean.low, 1.0)) and mean.low < 0.75


def test_one_number_of_steps_is_no_curve(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path, systems=("teacher", "collection"), sources=1)
    assert curves.table(compute(load_results(runs, synthetic.about()))) is None


def test_the_front_is_what_nothing_beats(numbers: Numbers) -> None:
    for price in ("passes", "bytes"):
        found = pareto.offers(numbers, price)
        for one in found:
            beaten = any(
                other.price <= one.price and other.good >= one.good and (other.price, other.good) != (one.price, one.good)
                for other in found
            )
            assert one.front is not beaten
        assert any(offer.front for offer in found)
        assert [offer.price for offer in found] == sorted(offer.price for offer in found)


@given(st.floats(0, 1))
def test_a_place_on_a_scale(share: float) -> None:
    for one in (Scale(0.2, 0.7, True), Scale(0.7, 0.2, True)):
        value = one.floor + share * (one.ceiling - one.floor)
        assert one.place(value) == pytest.approx(share, abs=1e-9)
    assert math.isnan(Scale(0.2, 0.7, False).place(share))


def test_controls_span_a_scale_only_where_they_surely_differ(numbers: Numbers) -> None:
    cards = {card.name: card for card in numbers.results.metrics}
    assert scale(numbers, cards["success"]) == Scale(0.0, 1.0, True)
    assert scale(numbers, cards["perceptual"]).spans and not scale(numbers, cards["dose"]).spans
    assert not scale(numbers, cards["subject"]).spans, "the untouched source keeps its subject as well as the truth does"


def test_pictures_equal_to_the_pixel_are_nobodys_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SKILL, "noise-floor", 0.9)
    monkeypatch.setitem(synthetic.KINDS, "noise-floor", "control")
    runs = synthetic.make_runs(tmp_path, ("collection", "truth", "identity", "noise-floor"), sources=2)
    found = []
    for kept in (runs, runs[:3]):
        some = compute(load_results(kept, synthetic.about()))
        cards = {card.name: card for card in some.results.metrics}
        assert scale(some, cards["success"]).ceiling == 1.0
        found.append(scale(some, cards["psnr"]))
        if len(kept) == 4:
            assert found[0].ceiling == some.estimates["noise-floor", "psnr"].value < some.estimates["truth", "psnr"].value
    assert found[0].spans and not found[1].spans and math.isnan(found[1].ceiling) and len(found[1].ends) == 1


def test_a_question_has_no_steps() -> None:
    case = Case("a", "b", 1, 8)
    assert question(case) == Case("a", "b", 1) and way(case) == (False, "")


def test_entries_of_different_steps_answer_the_same_questions(numbers: Numbers) -> None:
    results: Results = numbers.results
    two, eight = (next(e for e in results.systems if e.label == f"collection @{step}") for step in (2, 8))
    assert list(two.position) == list(eight.position) and len(two.position) == 32


def test_twelve_systems_look_different_and_have_a_legend_and_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = {(drawing.series_colour(index), drawing.series_mark(index)) for index in range(36)}
    assert len(looks) == 36
    names = ["collection", *(f"collection-{index}" for index in range(11))]
    for name in names:
        monkeypatch.setitem(synthetic.SKILL, name, 0.9)
    runs = synthetic.make_runs(tmp_path, tuple(names), sources=2)
    plot = figures.trade(compute(load_results(runs, synthetic.about())))
    assert plot is not None
    titles = re.findall(r"<title>([^<]+)</title>", plot.svg)
    for name in names:
        assert f">{name}</text>" in plot.svg, "the legend"
        assert any(title.startswith(f"{name}: Success ") and ", Leak 0." in title for title in titles)
