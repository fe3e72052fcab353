"""Scores are computed once: a run keeps them as long as nothing that decides them has changed, and no longer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from test_score import make_run, picture, world  # noqa: F401  (a fixture)
from test_score_questions import suite_of

import clbench.score as room
import clbench.score_sets as sets
from clbench.score import Scorer, score_runs
from clbench.score_parts import FOLDER
from clbench.score_table import read_made_from
from clbench.types import Edit


@pytest.fixture
def suite():
    return suite_of("small", ("sepia", "invert"), ("psnr",), sets=("kid",))


def of_half(path, world, suite, system="truth"):  # noqa: F811
    """A run of the first half of the cases."""
    cases = suite.cases(world)
    return make_run(path, world, suite, system, cases=cases[: len(cases) // 2])


def test_a_second_scoring_keeps_the_table(tmp_path, world, suite):  # noqa: F811
    runs = [make_run(tmp_path / name, world, suite, name) for name in ("truth", "identity")]
    assert score_runs(runs, world, suite) == []
    before = [run.scores_file.stat().st_mtime_ns for run in runs]
    assert score_runs(runs, world, suite, keep=True) == runs
    assert [run.scores_file.stat().st_mtime_ns for run in runs] == before
    assert score_runs(runs, world, suite) == [], "unless it is asked for, all is computed"
    assert [run.scores_file.stat().st_mtime_ns for run in runs] != before


def test_only_the_run_that_grew_is_scored(tmp_path, world, suite):  # noqa: F811
    grown, other = of_half(tmp_path / "truth", world, suite), of_half(tmp_path / "identity", world, suite, "identity")
    score_runs([grown, other], world, suite)
    for case in suite.cases(world)[len(suite.cases(world)) // 2 :]:
        grown.append_edit(Edit(case, picture(world, "truth", case), seconds=1.0))
    assert score_runs([grown, other], world, suite, keep=True) == [other]
    assert len(grown.read_scores()) == len(suite.cases(world))


def test_rows_are_those_of_a_scoring_of_all(tmp_path, world, suite):  # noqa: F811
    """A run that is scored alone, beside one that keeps its scores, gets the same bytes."""
    alone, beside = (make_run(tmp_path / side / "truth", world, suite, "truth") for side in ("one", "two"))
    first = make_run(tmp_path / "one" / "identity", world, suite, "identity")
    score_runs([first], world, suite)
    assert score_runs([first, alone], world, suite, keep=True) == [first]
    score_runs([make_run(tmp_path / "two" / "identity", world, suite, "identity"), beside], world, suite)
    assert alone.read_scores().drop(columns="run").equals(beside.read_scores().drop(columns="run"))


def test_what_an_interrupted_scoring_has_left_is_not_taken_for_new(tmp_path, world, suite, monkeypatch):  # noqa: F811
    """Its parts were made by other code by now: the table that is written says of itself that it is of this code."""
    run = make_run(tmp_path / "truth", world, suite, "truth")

    class Stopped(Exception):
        pass

    def stop(folder, done, total):
        raise Stopped

    def interrupt():
        with pytest.raises(Stopped):
            score_runs([run], world, suite, stop)

    monkeypatch.setattr(room, "code_key", lambda: "old code")
    monkeypatch.setattr("clbench.score_case.psnr", lambda outputs, truth: torch.full((len(outputs),), 7.0, dtype=torch.float64))
    interrupt()
    assert (run.path / FOLDER).is_dir()
    monkeypatch.undo()
    score_runs([run], world, suite, keep=True)
    assert 7.0 not in set(run.read_scores()["value"])
    interrupt()  # of one that has its scores
    assert score_runs([run], world, suite, keep=True) == [run] and not (run.path / FOLDER).exists()


def test_a_teacher_beside_known_operators_changes_nothing(tmp_path, world, suite):  # noqa: F811
    run = make_run(tmp_path / "truth", world, suite, "truth")
    score_runs([run], world, suite)
    teacher = make_run(tmp_path / "teacher", world, suite, "teacher")
    assert score_runs([run, teacher], world, suite, keep=True) == [run]


@pytest.mark.parametrize("what", ["code", "metric", "world", "older", "torn"])
def test_what_decides_a_score_makes_it_anew(tmp_path, world, suite, monkeypatch, what):  # noqa: F811
    run = make_run(tmp_path / "truth", world, suite, "truth")
    score_runs([run], world, suite)
    assert Scorer(world, suite).is_scored(run)
    if what == "code":
        monkeypatch.setattr(room, "code_key", lambda: "other code")
    elif what == "metric":
        card = room.METRICS.get("psnr")
        monkeypatch.setitem(room.METRICS._items, "psnr", replace(card, version=card.version + 1))
    elif what == "world":
        monkeypatch.setitem(world.__dict__, "hash", "0" * 64)
    elif what == "older":
        monkeypatch.setattr(room, "read_made_from", lambda path: "")
    else:
        run.scores_file.write_bytes(run.scores_file.read_bytes()[:100])
        assert read_made_from(run.scores_file) == ""
    assert not Scorer(world, suite).is_scored(run)
    assert score_runs([run], world, suite, keep=True) == []


def test_sets_are_kept_likewise(tmp_path, world, suite, monkeypatch):  # noqa: F811
    run = of_half(tmp_path / "truth", world, suite)
    (path,) = sets.score_sets([run], world, suite)
    assert sets.score_sets([run], world, suite, keep=True) == []
    assert sets.score_sets([run], world, suite) == [path]
    content = json.loads(path.read_text())
    for broken in ("no JSON", json.dumps({key: value for key, value in content.items() if key != "made_from"})):
        path.write_text(broken)
        assert sets.score_sets([run], world, suite, keep=True) == [path]
    case = suite.cases(world)[-1]
    run.append_edit(Edit(case, picture(world, "truth", case), seconds=1.0))
    assert sets.score_sets([run], world, suite, keep=True) == [path]
