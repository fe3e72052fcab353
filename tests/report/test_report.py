"""The report: deterministic, self-contained, safe with any name, honest about what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import synthetic

from clbench.registry import ClbenchError
from clbench.report import ReportInput, build, build_all, palette
from clbench.report.blocks import Section
from clbench.report.cells import Cell, Head, Row, TableView
from clbench.report.gallery import strips
from clbench.report.load import load_results
from clbench.report.matrices import behind
from clbench.report.numbers import compute
from clbench.report.pictures import Album
from clbench.report.rows import as_made
from clbench.report.tables import per_effect
from clbench.results import RunFolder
from clbench.types import Case, Score

VOID = {"meta", "input", "br", "img", "image", "use", "path", "circle"}
FAILED = frozenset({"effect_2/source_03/s0", "effect_5/source_01/s0"})


class Outline(HTMLParser):
    """Collects ids, links and tags, and checks that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], "no handlers in attributes"
        found = dict(attrs)
        if found.get("id") is not None:
            self.ids.append(str(found["id"]))
        for name in ("href", "src", "action", "srcset"):
            if found.get(name) is not None:
                self.links.append(str(found[name]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()


def parse(page: str) -> Outline:
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    return synthetic.make_runs(tmp_path_factory.mktemp("runs"), failed=FAILED)


@pytest.fixture(scope="module")
def made(runs: list[RunFolder], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    html, markdown = build(runs, synthetic.about(), tmp_path_factory.mktemp("out"))
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def visible(page: str) -> str:
    """The text of a page without style, script and tags."""
    bare = re.sub(r"<(style|script|title)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def test_the_same_runs_give_the_same_bytes(runs: list[RunFolder], made: tuple[str, str], tmp_path: Path) -> None:
    again = build(runs, synthetic.about(), tmp_path)
    assert tuple(path.read_text(encoding="utf-8") for path in again) == made


def test_bytes_do_not_depend_on_the_process(runs: list[RunFolder], made: tuple[str, str], tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import synthetic; from pathlib import Path;"
        "from clbench.report import build; from clbench.results import find_runs;"
        "found = {run.info.system_name: run for run in find_runs(Path(sys.argv[2]))};"
        "runs = [found[name] for name in synthetic.SKILL];"
        "build(runs, synthetic.about(), Path(sys.argv[3]))"
    )
    root = str(Path(palette.__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONHASHSEED": "77"}
    here, source = str(Path(__file__).parent), str(runs[0].path.parent)
    subprocess.run([sys.executable, "-c", code, here, source, str(tmp_path)], env=environment, check=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == made[0]


def test_the_page_fetches_nothing(made: tuple[str, str]) -> None:
    page = made[0]
    assert "http:" not in page and "https:" not in page and "@import" not in page
    assert re.findall(r"url\((?!#)[^)]*\)", page) == []
    links = parse(page).links
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy[1] and "style-src 'sha256-" in policy[1] and "unsafe" not in policy[1]
    assert " style=" not in page and page.count("<style") == 1, "all style is in the one sheet that the policy allows"


def test_the_page_is_whole(made: tuple[str, str]) -> None:
    outline = parse(made[0])
    assert len(outline.ids) == len(set(outline.ids)), "ids are unique"
    targets = {link[1:] for link in outline.links if link.startswith("#")}
    assert targets - set(outline.ids) == set(), "every link leads somewhere"
    wanted = {
        "summary",
        "differences",
        "effects",
        "bleeding",
        "gallery",
        "cost",
        "missing",
        "provenance",
        "glossary",
    }
    assert wanted <= set(outline.ids)
    assert outline.tags.count("script") == 1
    assert len(made[0].encode()) < 2_000_000


def test_every_picture_is_embedded_once(made: tuple[str, str]) -> None:
    pictures = re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", made[0])
    assert len(pictures) == len(set(pictures)) > 100
    assert made[0].count("<use ") > 1.3 * len(pictures), "strips reuse the gallery's pictures"


def test_coloured_cells_lead_to_the_pictures_behind_them(made: tuple[str, str]) -> None:
    outline = parse(made[0])
    strips = {name for name in outline.ids if name.startswith("b-collection-") and not re.search(r"-\d$", name)}
    assert strips and strips <= {link[1:] for link in outline.links}


def test_pictures_behind_cells_are_dealt_out_in_rounds(runs: list[RunFolder]) -> None:
    """However small the budget: a cell has a second picture only once every cell has one, and controls come last."""
    results = load_results(runs, synthetic.about())
    everything = strips(results, Album(limit=1e9))
    assert set(everything) == {cell.id for entry in results.entries for cell in behind(entry)}
    assert max(len(strip.rows) for strip in everything.values()) > 1
    seen = set()
    for limit in range(0, 60_000, 6_000):
        found = strips(results, Album(limit=limit))
        rows = [len(strip.rows) for strip in found.values()]
        seen.add(len(found))
        assert max(rows, default=1) == 1 or len(found) == len(everything)
        if 0 < len(found) < len(everything):
            assert list(found) == list(everything)[: len(found)], "in their order, none left out"
    assert 0 in seen and len(seen) > 2


def test_what_is_missing_has_a_reason_and_is_never_nan(made: tuple[str, str]) -> None:
    for text in (visible(made[0]), made[1]):
        assert not re.search(r"\b(nan|null|inf|None)\b", text)
        assert "out of memory" in text and "the effect has many right answers" in text
    assert "46 / 48 2 failed" in visible(made[0])


def test_markdown_tables_end_before_their_notes(made: tuple[str, str]) -> None:
    lines = made[1].splitlines()
    for row, after in pairwise(lines):
        assert not row.startswith("|") or after == "" or after.startswith("|")
        if row.startswith("| ---"):
            assert row.count("|") == lines[lines.index(row) - 1].count("|")
    assert sum(line.startswith("| ---") for line in lines) >= 15


def test_the_verdict_does_not_claim_what_an_interval_leaves_open(made: tuple[str, str]) -> None:
    text = visible(made[0])
    assert "collection and cascade cannot be told apart on success." in text and "covers 0" in text
    assert "collection is better" not in text


def test_controls_alone_are_called_that(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path / "runs", systems=("truth", "identity"), sources=1)
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "Only controls were asked, so there is no verdict." in text and "2 controls on 8 effects" in text
    assert "metric with a direction" not in text


def test_a_clear_difference_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SKILL, "cascade", 0.3)
    monkeypatch.setitem(synthetic.SKILL, "collection", 1.2)
    runs = synthetic.make_runs(tmp_path / "runs", systems=("cascade", "collection"))
    page, markdown = build(runs, synthetic.about(), tmp_path)
    assert "collection is better than cascade on success." in visible(page.read_text(encoding="utf-8"))
    assert "No control was run" in markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a" onload="x', "{{ 7 * 7 }}", "$x_1$ & | `b`"])
def test_names_are_only_text(tmp_path: Path, name: str) -> None:
    names = (name, *synthetic.NAMES[1:3])
    runs = synthetic.make_runs(tmp_path / "runs", names=names, sources=2)
    page, markdown = (path.read_text(encoding="utf-8") for path in build(runs, synthetic.about(names), tmp_path))
    outline = parse(page)
    assert outline.tags.count("script") == 1 and "<script>alert" not in page + markdown
    assert name in unescape(visible(page)), "a name is shown as it was written"
    for line in markdown.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_the_teacher_is_not_praised_for_being_the_truth(tmp_path: Path) -> None:
    about, told = synthetic.about(), "is the teacher's own picture at full steps, so there it is right by definition."
    every = [*about.effects]

    def page(systems: tuple[str, ...], own: list[str]) -> str:
        runs = synthetic.make_runs(tmp_path / "-".join(systems) / str(len(own)), systems=systems, sources=1)
        made, _ = build(runs, replace(about, by_teacher=frozenset(own)), tmp_path)
        return unescape(visible(made.read_text(encoding="utf-8")))

    both = "teacher", "cascade"
    assert f"The right answer of 2 of 8 effects {told}" in page(both, every[:2])
    assert f"The right answer of every effect {told}" in page(both, every)
    assert told not in page(both, []) and told not in page(("cascade",), every)


def test_a_reason_that_names_one_of_many_sources_is_said_once(tmp_path: Path) -> None:
    (run,) = synthetic.make_runs(tmp_path / "runs", systems=("cascade",), sources=3)
    cases = [record.case for record in run.read_edits().values()]
    lacking = {"source_00": "has no caption, so it is out", "source_01": "has no mask", "source_02": "has no mask"}
    why = {name: f"source '{name}' {words}" for name, words in lacking.items()}
    rows = [Score(case, "subject", 1, float("nan"), status="unscored", reason=why[case.source]) for case in cases]
    run.write_scores([*rows, *(Score(case, "success", 1, 1.0) for case in cases)])
    text = build([run], synthetic.about(), tmp_path)[1].read_text(encoding="utf-8")
    assert "source '…' has no mask (2 sources)" in text and "source 'source\\_00' has no caption" in text
    assert "source\\_01" not in text.partition("What is missing")[2].partition("##")[0]


def test_a_metric_without_any_score_has_no_column(tmp_path: Path) -> None:
    (run,) = synthetic.make_runs(tmp_path / "runs", systems=("cascade",), sources=1)
    cases = [record.case for record in run.read_edits().values()]
    rows = [Score(case, "subject", 1, float("nan"), status="unscored", reason="there is no mask") for case in cases]
    run.write_scores([*rows, *(Score(case, "success", 1, 1.0) for case in cases)])
    text = build([run], synthetic.about(), tmp_path)[1].read_text(encoding="utf-8")
    assert "Without any score, and not shown: Subject." in text and "there is no mask" in text
    assert "Subject ↑" not in text


def test_what_a_failed_picture_was_read_as_is_not_guessed(tmp_path: Path) -> None:
    """Suites without attribution do not know whether it is too far off or the untouched source."""
    runs = synthetic.make_runs(tmp_path / "runs", systems=("cascade",), sources=1, without=frozenset({"attributed"}))
    text = build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8")
    assert "no success" in text and "too far off" not in text


def test_a_missing_metric_leaves_a_report(tmp_path: Path) -> None:
    absent = frozenset({"success", "bcr", "vsa", "attributed", "leak", "leak_total"})
    runs = synthetic.make_runs(tmp_path / "runs", sources=2, without=absent)
    page = build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8")
    outline = parse(page)
    assert "bleeding" not in outline.ids and "perceptual distance to the truth" in visible(page)


def test_nothing_scored_leaves_a_report(tmp_path: Path) -> None:
    everything = frozenset(f"effect_{e}/source_{s:02d}/s0" for e in range(8) for s in range(2))
    runs = synthetic.make_runs(tmp_path / "runs", sources=2, failed=everything)
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "16 of 16 (collection)" in text and "could not be compared" in text


def test_no_truth_is_said(tmp_path: Path) -> None:
    about: ReportInput = replace(synthetic.about(), truth_picture=lambda case: None)
    runs = synthetic.make_runs(tmp_path / "runs", sources=1)
    assert "no truth is known" in visible(build(runs, about, tmp_path)[0].read_text(encoding="utf-8"))


def test_one_effect_has_no_interval(tmp_path: Path) -> None:
    names = synthetic.NAMES[:1]
    runs = synthetic.make_runs(tmp_path / "runs", names=names, systems=("teacher", "cascade", "collection"))
    text = visible(build(runs, synthetic.about(names), tmp_path)[0].read_text(encoding="utf-8"))
    assert "no interval from a single effect" in text
    assert re.search(r"On the same cases the success of collection differs by .* pt from that of cascade; no interval", text)


def test_the_reference_alone_misses_no_run_of_itself(tmp_path: Path) -> None:
    text = {}
    for system in ("cascade", "collection"):
        runs = synthetic.make_runs(tmp_path / system, sources=2, systems=(system,))
        text[system] = visible(build(runs, synthetic.about(), tmp_path / f"{system}-out")[0].read_text(encoding="utf-8"))
    assert "Without a run of cascade" in text["collection"] and "Without a run of" not in text["cascade"]


def test_what_was_scored_is_counted_by_the_metric_that_is_shown(tmp_path: Path) -> None:
    """A dose has no better direction; its scores are scores all the same."""
    others = {score.metric for score in synthetic.scores("teacher", Case("effect_0", "source_00", 0), 2, False)} - {"dose"}
    runs = synthetic.make_runs(tmp_path / "runs", ("cascade", "truth"), synthetic.NAMES[:2], 2, without=frozenset(others))
    text = visible(build(runs, synthetic.about(synthetic.NAMES[:2]), tmp_path)[0].read_text(encoding="utf-8"))
    assert text.count("4 / 4") == 2 and "unscored" not in text and "0 / 4" not in text


def test_the_mean_of_an_effect_says_how_many_cases_it_is_of(tmp_path: Path) -> None:
    lost = frozenset({"effect_0/source_00/s0", *(f"effect_1/source_{s:02d}/s0" for s in range(3))})
    runs = synthetic.make_runs(tmp_path, ("cascade", "collection"), synthetic.NAMES[:2], 3, failed=lost)
    numbers = compute(load_results(runs, synthetic.about(synthetic.NAMES[:2])))
    (card,) = [card for card in numbers.results.metrics if card.name == "success"]
    found = {row.cells[0].text: [cell.title for cell in row.cells[1:3]] for row in per_effect(numbers, card).rows}
    assert found == {
        "Fog": ["3 of 3 scored, 0 failed", "2 of 3 scored, 1 failed"],
        "Night": ["3 of 3 scored, 0 failed", "no scored case of this effect: 0 of 3 scored, 3 failed"],
    }


def test_steps_make_entries_of_their_own(tmp_path: Path) -> None:
    systems = ("cascade", "collection")
    runs = synthetic.make_runs(tmp_path / "runs", systems=systems, sources=2, steps=(2, 8))
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "collection @2" in text and "cascade @8" in text
    assert "collection @8 − cascade" in text


def test_sections_average_over_the_steps_that_a_system_is_made_for(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path / "runs", sources=2, steps=(1, 4, 16, 8), systems=("cascade", "teacher", "truth"))
    frame = as_made(load_results(runs, synthetic.about()).frame)
    own = {run.info.system_name: run.info.system.card["settings"].get("steps") for run in runs}
    asked = {name: set(frame[frame["system"] == name]["steps"]) for name in own}
    assert asked["truth"] == {16}, "as its entry: what takes no steps counts once"
    for name in ("cascade", "teacher"):
        assert asked[name] == {own[name] if own[name] in (1, 4, 8, 16) else 16}
    plain = synthetic.make_runs(tmp_path / "plain", sources=1, systems=("cascade", "truth"))
    assert load_results(plain, synthetic.about()).frame["made"].all()


def test_a_control_stands_once_for_all_steps(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path / "runs", systems=("collection", "truth"), sources=1, steps=(2, 8))
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "truth @" not in text and "Controls 1" in text and "Control truth: 8 of 8" in text


def test_several_suites_share_a_page(runs: list[RunFolder], tmp_path: Path) -> None:
    steps = synthetic.make_runs(
        tmp_path / "runs", systems=("teacher", "collection"), sources=1, steps=(2, 8), suite=synthetic.STEP_SUITE
    )
    parts = [(runs, synthetic.about()), (steps, synthetic.about(suite=synthetic.STEP_SUITE))]
    page, markdown = (path.read_text(encoding="utf-8") for path in build_all(parts, tmp_path))
    outline = parse(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert {"bleeding-summary", "steps-summary", "steps-steps"} <= set(outline.ids) and "bleeding-steps" not in outline.ids
    assert "2 suites in one report" in visible(page)
    assert all(f"# {question}" in markdown for question in map(synthetic.QUESTIONS.get, ("bleeding", "steps")))
    with pytest.raises(ClbenchError, match="takes each suite once"):
        build_all([parts[0], parts[0]], tmp_path)


def test_sections_can_be_handed_in(runs: list[RunFolder], tmp_path: Path) -> None:
    table = TableView("t-ledger", "What it costs to keep", [Head("System", numeric=False), Head("Bytes")],
                      [Row([Cell("collection"), Cell("1.10 MB", sort=1_100_000)])])  # fmt: skip
    ledger = Section("ledger", "Deployment", "All effects resident.", [table])
    about = replace(synthetic.about(), extra=[ledger])
    page, markdown = (path.read_text(encoding="utf-8") for path in build(runs, about, tmp_path))
    titles = re.findall(r'<section id="([a-z]+)">', page)
    assert titles.index("ledger") == titles.index("cost") + 1 and '<a href="#ledger">Deployment</a>' in page
    assert "## Deployment" in markdown and "| collection | 1.10 MB |" in markdown


def test_controls_are_floor_and_ceiling(made: tuple[str, str]) -> None:
    assert "Floor and ceiling of every scale" in visible(made[0]) and 'class="end"' in made[0]
    row = next(line for line in made[1].splitlines() if line.startswith("| Success (higher is better) | 100 %"))
    assert "| 88 % | 71 % | 85 % |" in row, "success goes from 0 (identity) to 1 (truth), so a place is the share itself"


def test_large_reports_stay_small(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path / "runs", sources=3)
    page = build(runs, synthetic.about(), tmp_path, budget=20_000)[0].read_text(encoding="utf-8")
    targets = {link[1:] for link in parse(page).links if link.startswith("#")}
    assert targets <= set(parse(page).ids)
    assert sum(map(len, re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", page))) < 60_000
    assert "more cases in the run folders" in page


def test_the_size_of_pictures_can_be_chosen_and_is_said_where_they_are_reduced(
    runs: list[RunFolder], made: tuple[str, str], tmp_path: Path
) -> None:
    side = synthetic.source_picture("source_00").shape[0]
    assert "reduced" not in visible(made[0]), "they are small enough"
    pages = {px: build(runs, synthetic.about(), tmp_path, side=px)[0].read_text(encoding="utf-8") for px in (side // 2, side)}
    told = f"Pictures are reduced to {side // 2} px here"
    assert visible(pages[side // 2]).count(told) == 2, "above the gallery, and where cells open pictures"
    assert f"the originals of {side} px lie in pictures/ of each run folder, such as collection/pictures/" in pages[side // 2]
    assert (runs[0].path.parent / "collection" / "pictures").is_dir() and pages[side] == made[0]
    for px, page in pages.items():
        sizes = set(re.findall(r'<image id="[^"]+" width="(\d+)" height="(\d+)"', page))
        assert sizes == {(str(px), str(px))}


def test_runs_of_other_worlds_are_refused(runs: list[RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match="not put in one report"):
        build(runs, replace(synthetic.about(), world_hash="00" * 32), tmp_path)
    with pytest.raises(ClbenchError, match="effects that the world does not know: effect_3"):
        build(runs, synthetic.about(synthetic.NAMES[:3]), tmp_path)
    with pytest.raises(ClbenchError, match="at least one run"):
        build([], synthetic.about(), tmp_path)


def test_runs_scored_with_other_networks_are_refused(tmp_path: Path) -> None:
    runs = synthetic.make_runs(tmp_path, systems=("cascade", "collection", "teacher"), sources=1)
    case = Case("effect_0", "source_00", 0)
    for run, network in zip(runs, (("st-lpips", "ab" * 32), ("lpips", "cd" * 32)), strict=False):
        run.write_scores([Score(case, "perceptual", 1, 0.5)], encoders={"perceptual": network})
    said = r"^scored with st-lpips \(abababab\) in .*/cascade and with lpips \(cdcdcdcd\) in .*/collection; score them together"
    with pytest.raises(ClbenchError, match=said):
        build(runs, synthetic.about(), tmp_path)
    build([runs[0], runs[2]], synthetic.about(), tmp_path)  # a run of an older clbench does not say


def test_unscored_runs_are_refused_in_one_sentence(tmp_path: Path) -> None:
    run = synthetic.make_runs(tmp_path, systems=("collection",), sources=1)[0]
    run.scores_file.unlink()
    with pytest.raises(ClbenchError, match="run `clbench score` first"):
        build([run], synthetic.about(), tmp_path)


def test_a_control_that_reads_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthetic.SKILL, "truth", 0.5)
    runs = synthetic.make_runs(tmp_path / "runs", systems=("collection", "truth"))
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert re.search(r"1 of \d checks do not hold", text)


def test_the_peak_of_a_process_is_not_called_that_of_a_system(tmp_path: Path) -> None:
    """On a CPU each system would have its predecessors' peak, too; a GPU's counts from batch to batch."""
    runs = synthetic.make_runs(tmp_path / "runs", systems=("cascade", "collection"), sources=1)
    text = build(runs, synthetic.about(), tmp_path)[1].read_text(encoding="utf-8")
    assert "412 MB" not in text and "No peak memory is shown of systems on a CPU" in text
    runs = [RunFolder(run.path, run.info.model_copy(update={"device": "cuda:0"})) for run in runs]
    text = build(runs, synthetic.about(), tmp_path)[1].read_text(encoding="utf-8")
    assert text.count("412 MB") == 2 and "No peak memory" not in text
    text = build([runs[0], RunFolder.open(runs[1].path)], synthetic.about(), tmp_path)[1].read_text(encoding="utf-8")
    assert text.count("412 MB") == 1 and "No peak memory is shown of systems on a CPU" in text


def test_without_attribution_controls_are_read_by_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systems, gone = ("collection", "truth", "identity"), frozenset({"attributed", "leak"})
    runs = synthetic.make_runs(tmp_path / "runs", systems=systems, without=gone)
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "Control truth: 48 of 48 count as a success." in text and "Control identity: 48 of 48 count as a failure." in text
    assert "controls read right" in text
    monkeypatch.setitem(synthetic.SKILL, "truth", 0.5)
    runs = synthetic.make_runs(tmp_path / "bad", systems=systems, without=gone)
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert re.search(r"1 of \d checks do not hold", text)


def test_controls_that_nothing_was_read_of_are_not_called_right(tmp_path: Path) -> None:
    """A suite without attribution and success; or with controls of other kinds alone: VSA <= 5 (1 - BCR) proves no meter."""
    gone = frozenset({"attributed", "leak", "success"})
    runs = synthetic.make_runs(tmp_path / "runs", systems=("collection", "truth"), without=gone)
    text = visible(build(runs, synthetic.about(), tmp_path)[0].read_text(encoding="utf-8"))
    assert "all 2 checks hold" in text and "controls read right" not in text and "none of them reads a control" in text


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (Cell("12 %", "[3, 20]", 0.1234), 0.1234), (Cell("−0.5 pt better", sort=-0.005), -0.005), (Cell("Fog", sort=16), None),
        (Cell("not reached", sort=1e9), None), (Cell("4 steps", "8 passes", 8.0, key=True), None), (Cell("–", sort=-1), None),
        (Cell("never", sort=float("inf")), None), (Cell("1.000 MiB", sort=2**20), 2**20), (Cell("8"), None),
    ],
)  # fmt: skip
def test_a_cell_knows_the_number_that_it_shows(cell: Cell, number: float | None) -> None:
    assert cell.number == number and cell.missing == (cell.text == "–")


@pytest.mark.parametrize("dark", [False, True])
def test_ink_is_readable_everywhere(dark: bool) -> None:
    paper, card = palette.TOKENS["paper"][dark], palette.TOKENS["card"][dark]
    for name in ("ink", "soft", "accent", "good", "bad"):
        assert palette.contrast(palette.TOKENS[name][dark], paper) >= 4.5
        assert palette.contrast(palette.TOKENS[name][dark], card) >= 4.5
        assert palette.contrast(palette.TOKENS[name][dark], palette.TOKENS["faint"][dark]) >= 4.5
    for ramp in palette.RAMPS:
        steps = palette.heat_steps(ramp, dark)
        assert all(palette.contrast(back, ink) >= 4.5 for back, ink in steps)
        backs = np.array([palette.parse(back) for back, _ in steps]).sum(axis=1)
        assert (np.diff(backs) != 0).all()


def test_no_heavy_import() -> None:
    heavy = "('torch', 'diffusers', 'matplotlib', 'pandas', 'jinja2', 'scipy')"
    code = f"import sys, clbench.report; print([m for m in {heavy} if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(palette.__file__).parents[2])}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == "[]"


def test_a_report_names_no_folder_of_this_machine(mini_world_file, tmp_path, monkeypatch):
    """Commands with absolute paths and failed edits whose reasons name a folder, from the typed command to both files."""
    from typer.testing import CliRunner

    from clbench.cli import app
    from clbench.images import write_png

    monkeypatch.chdir(tmp_path)
    suite, out, made = tmp_path / "small.toml", tmp_path / "runs" / "all", tmp_path / "made"
    write_png(made / "sepia" / "p0.png", np.zeros((32, 32, 3), np.uint8))  # and none of the other effect
    suite.write_text(
        'name = "small"\nquestion = "?"\neffects = "all"\nsources = 1\nsystems = ["identity"]\nmetrics = ["psnr"]\n'
    )
    command = ["eval", "--suite", suite, "--world", mini_world_file, "--out", out, "--images", made]
    words = ["clbench", *map(str, command)]
    monkeypatch.setattr("sys.argv", words)
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, result.output
    for name in ("report.html", "report.md"):
        text = (out / name).read_text().replace("\\", "")  # what Markdown escapes
        assert str(tmp_path) not in text and "no picture upside_down/p0.png in made" in text, name
        assert "--suite small.toml --world world.toml --out runs/all --images made" in text
