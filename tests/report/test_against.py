"""The section about the published figures: planted ratios, targets, what is said where there is no ratio."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import asked
import pytest
import synthetic
from test_report import visible

from clbench.cost.routing import PAPER_BCR
from clbench.published import ABLATION, CLAIMS, MAIN_RESULTS
from clbench.report import build
from clbench.report.against import LEAD, published, reading, told
from clbench.report.blocks import Section
from clbench.report.cells import TableView
from clbench.report.load import load_results
from clbench.report.material import Material
from clbench.report.numbers import compute
from clbench.report.pictures import Album
from clbench.stats import Ratio
from clbench.types import Case, Edit

Values = Callable[[Case], Mapping[str, float]]
NAN, INF = float("nan"), float("inf")


def planted(failing: int, perceptual: float, leak: float, subject: float, uneven: float = 0.0) -> Values:
    """Fails on the first `failing` of three sources in every effect; scores are above and below by `uneven`, by turns."""

    def values(case: Case) -> dict[str, float]:
        bad = float(asked.SOURCES.index(case.source) < failing)
        turn = 1 + uneven * (-1) ** asked.EFFECTS.index(case.effect)
        scores = {"perceptual": perceptual * turn, "leak_total": leak * turn, "subject": 1 + (subject - 1) * turn}
        return {"success": 1 - bad, "bcr": bad, **scores}

    return values


PLANTED = {
    "teacher": planted(1, 0.1, 0.5, 5.0),
    "cascade": planted(2, 0.2, 1.0, 5.0),
    "joint+accelerator": planted(3, 0.4, 2.0, 4.0),
    "collection": planted(1, 0.1, 0.6, 4.0, uneven=0.01),
}


def section(out: Path, systems: Mapping[str, Values], sources: Mapping[str, list[str]] | None = None) -> Section | None:
    """The section about runs that got the given scores, each on its own `sources` (by system; all by default)."""
    runs = []
    for system, values in systems.items():
        cases = asked.each(sources=(sources or {}).get(system, asked.SOURCES))
        runs.append(asked.run_of(out, "bleeding", system, {case: asked.scored(case, values(case)) for case in cases}))
    results = load_results(runs, synthetic.about(asked.NAMES, asked.named("bleeding")))
    return published(Material(compute(results), Album(limit=0)))


def table(found: Section | None) -> TableView:
    assert found is not None and isinstance(found.blocks[0], TableView)
    return found.blocks[0]


def lines(view: TableView) -> dict[str, tuple[str, ...]]:
    """Claim and systems -> ratio, interval, target, reading, the paper's ratio."""
    rows = {f"{row.cells[0].text}, {row.cells[0].sub}": row.cells for row in view.rows}
    return {key: (cells[1].text, cells[1].sub, cells[2].text, cells[3].text, cells[4].text) for key, cells in rows.items()}


def test_the_papers_figures_are_in_one_place_and_reach_its_targets() -> None:
    assert PAPER_BCR == {"teacher": 0.141, "cascade": 0.168, "copies": 0.168, "collection": 0.087}
    ratios = {}
    for claim in CLAIMS:
        if claim.target is not None and claim.published is not None:
            _, first, second = claim.published
            ratios[claim.metric, claim.second] = told(claim, first / second)
            assert abs(first / second - claim.target) < 0.002 or first / second < claim.target
    assert ratios == {
        ("bcr", "teacher"): "0.617", ("bcr", "cascade"): "0.518", ("bcr", "joint+accelerator"): "0.401",
        ("perceptual", "cascade"): "−3.6 %", ("perceptual", "joint+accelerator"): "−9.2 %", ("subject", "teacher"): "−1.8 %",
    }  # fmt: skip
    assert {name for claim in CLAIMS for name in (claim.first, claim.second)} == set(MAIN_RESULTS)


def test_planted_ratios_are_read_against_their_targets(tmp_path: Path) -> None:
    found = lines(table(section(tmp_path, PLANTED)))
    assert found["Failure rate, collection / teacher"] == ("1.000", "[1.000, 1.000]", "≤ 1", "met", "0.617")
    assert found["Perceptual distance, collection / cascade"] == ("−50.0 %", "[−50.9 %, −49.1 %]", "≤ −3.6 %", "met", "−3.6 %")
    assert found["Leak, collection / cascade"] == ("0.600", "[0.589, 0.611]", "≤ 0.5", "missed", "–")
    lost = ("−25.0 %", "[−26.4 %, −23.6 %]", "≥ −1.8 %", "missed", "−1.8 %")
    assert found["Subject score, collection / teacher"] == lost, "4 of 5 is three quarters of the way from 1"
    alike = "the same ratio in every effect, so nothing is known of other ones"  # of four effects a fifth may have another one
    assert found["Failure rate, collection / cascade"] == ("0.500", alike, "≤ 0.52", "met, not certain", "0.518")
    ratio, _, target, said, paper = found["Failure rate, collection / joint+accelerator"]
    assert (ratio, target, said, paper) == ("0.333", "≤ 0.4", "met, not certain", "0.401"), "four effects that always fail"
    assert found["Failure rate, cascade / teacher"][0::2] == ("2.000", "", "1.191"), "a baseline has no target"
    assert len(found) == len(CLAIMS) == 9


def test_a_subject_score_is_counted_from_1_where_the_subject_is_gone(tmp_path: Path) -> None:
    """4.14 of 4.2 are 1.4 % less of the score and 1.9 % less of what is above 1: missed, which the offset would hide."""
    some = {"teacher": planted(1, 0.1, 0.5, 4.2), "collection": planted(1, 0.1, 0.5, 4.14)}
    view = table(section(tmp_path, some))
    ratio, _, target, said, _ = lines(view)["Subject score, collection / teacher"]
    assert (ratio, target, said) == ("−1.9 %", "≥ −1.8 %", "missed, not certain"), "one ratio in all effects"
    assert [row.cells[5].text for row in view.rows if row.cells[0].text == "Subject score"] == ["4.14, 4.20"]
    assert "its ratio is of what is above 1" in LEAD


def test_equal_scores_of_other_pictures_are_not_certain(tmp_path: Path) -> None:
    """Four effects in which both are as good say little of a fifth; of the same files there is nothing more to say."""
    answers = {case: asked.scored(case, PLANTED["teacher"](case)) for case in asked.each()}
    runs = [asked.run_of(tmp_path, "bleeding", system, answers) for system in ("teacher", "collection")]

    def failures() -> tuple[str, ...]:
        results = load_results(runs, synthetic.about(asked.NAMES, asked.named("bleeding")))
        return lines(table(published(Material(compute(results), Album(limit=0)))))["Failure rate, collection / teacher"]

    assert failures()[:4] == ("1.000", "[1.000, 1.000]", "≤ 1", "met")
    case = asked.each()[0]
    runs[1].append_edit(Edit(case, synthetic.painted(case.source, 0, 0.7), nfe=8))
    assert failures()[:4] == ("1.000", "equal in every effect, so nothing is known of other ones", "≤ 1", "met, not certain")


def test_only_what_was_run_on_the_same_cases_is_compared(tmp_path: Path) -> None:
    some = {name: PLANTED[name] for name in ("cascade", "collection")}
    view = table(section(tmp_path / "some", some))
    assert [row.cells[0].text for row in view.rows] == ["Failure rate", "Perceptual distance", "Leak"]
    assert "Not run or not scored here: failure rate collection / teacher;" in view.note
    few = section(tmp_path / "few", some, {"cascade": asked.SOURCES[:2]})
    assert table(few).rows[0].cells[5].sub == "8 cases, 4 effects, 4 dropped"
    assert lines(table(few))["Failure rate, collection / cascade"][0] == "0.500", "1 of 2 against 2 of 2"
    apart = {"cascade": asked.SOURCES[:1], "collection": asked.SOURCES[1:]}
    assert section(tmp_path / "apart", some, apart) is None
    for index, names in enumerate((("collection",), ("teacher", "cascade", "joint+accelerator"))):
        assert section(tmp_path / str(index), {name: PLANTED[name] for name in names}) is None


def test_pairs_of_effects_are_not_what_the_paper_counted(tmp_path: Path) -> None:
    runs = asked.composition(tmp_path)
    results = load_results(runs, synthetic.about(asked.NAMES, asked.named("composition")))
    assert published(Material(compute(results), Album(limit=0))) is None


def test_no_ratio_and_no_bound_are_said_in_words(tmp_path: Path) -> None:
    perfect = {**PLANTED, "cascade": planted(0, 0.2, 0.0, 5.0)}
    found = lines(table(section(tmp_path / "zero", perfect)))
    nothing = "no ratio: the second is 0 in every case"
    assert found["Failure rate, collection / cascade"] == ("–", nothing, "≤ 0.52", "open", "0.518")
    assert found["Leak, collection / cascade"][1] == nothing

    def rare(case: Case) -> dict[str, float]:
        return {**PLANTED["cascade"](case), "leak_total": 4.0 if case.effect == "effect_0" else 0.0}

    view = table(section(tmp_path / "rare", {**PLANTED, "cascade": rare}))
    ratio, bounds, _, said, _ = lines(view)["Leak, collection / cascade"]
    assert (ratio, said) == ("0.600", "missed, not certain") and re.fullmatch(r"\[0\.\d{3}, no upper bound\]", bounds)


@pytest.mark.parametrize(
    ("claim", "low", "value", "high", "said"),
    [
        (0, 0.2, 0.5, 0.9, "met"), (0, 0.2, 0.5, 1.1, "met, not certain"), (0, 0.9, 1.5, 3.0, "missed, not certain"),
        (0, 1.1, 1.5, INF, "missed"), (0, 0.1, 0.5, INF, "met, not certain"), (0, NAN, 0.5, NAN, "met, not certain"),
        (0, NAN, NAN, NAN, "open"), (6, 0.99, 1.0, 1.02, "met"), (6, 0.9, 0.97, 0.99, "missed, not certain"),
        (6, 0.9, 0.95, 0.97, "missed"), (7, 1.0, 2.0, 3.0, ""),
    ],
)  # fmt: skip
def test_a_reading_claims_no_more_than_its_interval(claim: int, low: float, value: float, high: float, said: str) -> None:
    assert reading(CLAIMS[claim], Ratio(value, low, high, value, 1.0, 10, 0, 3)) == said


def test_systems_are_taken_at_their_usual_steps(tmp_path: Path) -> None:
    systems = ("teacher", "cascade", "collection")
    runs = synthetic.make_runs(tmp_path, systems=systems, sources=2, steps=(2, 8), suite=synthetic.STEP_SUITE)
    results = load_results(runs, synthetic.about(suite=synthetic.STEP_SUITE))
    view = table(published(Material(compute(results), Album(limit=0))))
    assert view.caption == "collection @8 against the published figures"
    assert {row.cells[0].sub for row in view.rows} == {"collection / cascade"}, "the teacher was not asked at its 28 steps"
    early = synthetic.make_runs(tmp_path / "early", systems=systems, sources=1, steps=(2,), suite=synthetic.STEP_SUITE)
    results = load_results(early, synthetic.about(suite=synthetic.STEP_SUITE))
    assert published(Material(compute(results), Album(limit=0))) is None


def test_readings_and_corrected_differences_may_differ_which_is_said(tmp_path: Path) -> None:
    assert "Readings are not corrected for the number of claims" in table(section(tmp_path, PLANTED)).note


def test_variants_of_a_method_are_held_against_no_claim(tmp_path: Path) -> None:
    runs = [asked.run_of(tmp_path, "bleeding", name, {case: asked.scored(case, PLANTED[name](case)) for case in asked.each()})
            for name in ("teacher", "collection")]  # fmt: skip
    about = replace(synthetic.about(asked.NAMES, asked.named("bleeding")), reference="collection")
    assert published(Material(compute(load_results(runs, about)), Album(limit=0))) is None


def test_parts_of_the_method_are_read_against_the_papers_ablation(tmp_path: Path) -> None:
    """Planted: anchoring halves failures, routing does nothing, prompting harms; target simulation was not taken out alone."""
    systems = {"collection": planted(2, 0.1, 0.5, 5.0), "collection-no-ta": planted(3, 0.1, 0.5, 5.0)}
    systems |= {"collection-no-pdsr": planted(2, 0.1, 0.5, 5.0), "collection-no-aop": planted(1, 0.1, 0.5, 5.0)}
    runs = [asked.run_of(tmp_path, "bleeding", name, {case: asked.scored(case, values(case)) for case in asked.each()})
            for name, values in systems.items()]  # fmt: skip
    about = replace(synthetic.about(asked.NAMES, asked.named("bleeding")), reference="collection")
    view = table(published(Material(compute(load_results(runs, about)), Album(limit=0))))
    found = {key: (ratio, target, said, paper) for key, (ratio, _, target, said, paper) in lines(view).items()}
    start = "Failure rate with and without"
    assert found == {
        f"{start} orthogonal prompting, collection / no-aop": ("+100.0 %", "≤ 0.0 %", "missed, not certain", "−45.2 %"),
        f"{start} target anchoring, collection / no-ta": ("−33.3 %", "≤ 0.0 %", "met, not certain", "−56.3 %"),
        f"{start} dual-stream routing, collection / no-pdsr": ("0.0 %", "≤ 0.0 %", "met", "−19.4 %"),
    }


def test_the_papers_ablation_gives_its_published_signs() -> None:
    parts = ("orthogonal prompting", "target simulation", "target anchoring", "dual-stream routing")
    for metric, changes in {"bcr": (-45, -4, -56, -19), "vsa": (35, 8, 9, 3)}.items():
        said = {claim.words.rpartition("without ")[2]: claim.published for claim in ABLATION if claim.metric == metric}
        found = {part: round(100 * (first / second - 1)) for part, (_, first, second) in said.items()}
        assert found == dict(zip(parts, changes, strict=True))


def test_the_page_holds_the_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SKILL, "joint+accelerator", 0.5)
    runs = synthetic.make_runs(tmp_path / "runs", systems=("teacher", "cascade", "joint+accelerator", "collection"))
    html, markdown = (path.read_text(encoding="utf-8") for path in build(runs, synthetic.about(), tmp_path))
    assert '<section id="published">' in html and html.index('id="published"') < html.index('<section id="effects">')
    assert LEAD in visible(html) and "\n## Against the published figures\n" in markdown
    assert "DreamSim 0.425 / 0.441" in visible(html) and "20B" in LEAD and "arXiv 2605.25378" in LEAD
    for text in (visible(html), markdown):
        assert not re.search(r"\b(nan|null|inf|None)\b", text)
