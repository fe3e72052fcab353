"""What the report takes from a world and a suite, on a user's own world without operators."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clbench.registry import ClbenchError
from clbench.report import write_report
from clbench.report.worldly import adapter_bytes, report_input
from clbench.results import Named, RunFolder, describe_run
from clbench.suite import load_suite
from clbench.types import Case, Edit, Score, SystemCard
from clbench.world import load_world

SUITE = """
name = "mine"
question = "Does it work?"
sources = 2
systems = ["teacher", "cascade", "collection"]
metrics = ["success"]
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(SUITE)
    return file


def teacher_run(world, suite, out: Path) -> RunFolder:
    return run_of("teacher", world, suite, out)


def run_of(name: str, world, suite, out: Path) -> RunFolder:
    info = describe_run(
        Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash),
        SystemCard(name, name), [0], "cpu", "float32", 4,
    )  # fmt: skip
    run = RunFolder.create(out / name, info)
    cases = suite.cases(world)
    for case in cases:
        run.append_edit(Edit(case, np.full((32, 32, 3), 77, dtype=np.uint8)))
    run.finish()
    run.write_scores([Score(case, "success", 1, 1.0) for case in cases])
    return run


def test_the_teacher_is_the_truth_of_a_world_without_operators(mini_world, mini_world_file, suite_file, tmp_path):
    suite, out = load_suite(suite_file), tmp_path / "out"
    run = teacher_run(mini_world, suite, out)
    about = report_input([run], out, str(mini_world_file), str(suite_file))
    assert about.truth_kind == "the teacher at full steps" and about.question == "Does it work?"
    case = next(iter(run.read_edits().values())).case
    truth = about.truth_picture(case)
    assert truth is not None and (truth == 77).all()
    assert about.truth_picture(Case("sepia", "p3", 9)) is None
    assert about.source_picture("p0").shape == (32, 32, 3)
    assert about.by_teacher == {"sepia", "upside_down"}
    page, _ = write_report(out, str(mini_world_file), str(suite_file))
    assert "the teacher at full steps" in page.read_text(encoding="utf-8")


def test_bytes_of_adapters_count_the_accelerator(mini_world, suite_file):
    stored = adapter_bytes(mini_world, load_suite(suite_file), ["sepia", "upside_down"])
    accelerator = mini_world.accelerator().path.stat().st_size
    assert stored["cascade"] == stored["teacher"] + accelerator > accelerator
    assert stored["collection"] < stored["teacher"]


@pytest.mark.parametrize(("name", "reference"), [("mine", "cascade"), ("ablation", "collection")])
def test_an_ablation_is_about_the_full_method(mini_world, mini_world_file, tmp_path, name, reference):
    file = tmp_path / f"{name}.toml"
    file.write_text(SUITE.replace('"mine"', f'"{name}"'))
    run = teacher_run(mini_world, load_suite(file), tmp_path / "out")
    assert report_input([run], tmp_path / "out", str(mini_world_file), str(file)).reference == reference


def test_what_a_world_cannot_run_is_said_and_the_base_stands_in_where_the_teacher_is_the_truth(without, suite_file, tmp_path):
    """Nothing of this machine's folders is in it; a system that was run all the same is not told to be left out."""
    named = SUITE.replace('["teacher"', '["base", "joints", "teacher"')
    suite_file.write_text(named + 'controls = ["truth"]\n')
    file, out = without("accelerator"), tmp_path / "out"
    world, suite = load_world(file), load_suite(suite_file)
    runs = [run_of(name, world, suite, out) for name in ("base", "teacher", "collection", "joint")]
    about = report_input(runs, out, str(file), str(suite_file))
    assert (about.reference, about.reference_words) == (
        "base", "Differences are to base: cascade was not run (world mini has no [accelerator]), and teacher made the truth here."
    )  # fmt: skip
    assert about.left_out == (
        "joint+accelerator (world mini has no [joint]); joint+accelerator and cascade (world mini has no [accelerator]); truth "
        "(no effect has a known operator or pairs of pictures, so no control can repeat the truth)"
    )
    (world.root / "collection.safetensors").unlink()
    suite_file.write_text(named.replace('"collection"', '"candidates"'))
    assert report_input(runs, out, str(file), str(suite_file)).left_out == "", "not to be told, and no reason to stop"
    assert report_input([*runs, run_of("cascade", world, suite, out)], out, str(file), str(suite_file)).reference == "cascade"


def test_a_world_that_is_not_shipped_must_be_named(mini_world, suite_file, tmp_path):
    run = teacher_run(mini_world, load_suite(suite_file), tmp_path / "out")
    with pytest.raises(ClbenchError, match="name its file with --world"):
        report_input([run], tmp_path, None, None)


def test_a_system_without_its_files_costs_no_report(mini_world):
    """Base and teacher alone can be reported before an accelerator or a candidate exists."""
    (mini_world.root / "accelerator.safetensors").unlink()
    (mini_world.root / "collection.safetensors").unlink()
    stored = adapter_bytes(mini_world, load_suite("demo"), ["sepia", "upside_down"])
    assert set(stored) == {"teacher", "teacher-few"}


def test_a_teachers_picture_at_full_steps_is_the_truth_of_cases_at_other_steps(mini_world, mini_world_file, suite_file, tmp_path):
    suite, out = load_suite(suite_file), tmp_path / "out"
    run = teacher_run(mini_world, suite, out)
    plain = suite.cases(mini_world)[0]
    for case in (replace(plain, steps=1), replace(plain, probe="paraphrase")):
        run.append_edit(Edit(case, np.full((32, 32, 3), 5, dtype=np.uint8)))
        truth = report_input([run], out, str(mini_world_file), str(suite_file)).truth_picture(case)
        assert truth is not None and (truth == 77).all()
    neutral = replace(plain, probe="neutral")
    assert report_input([run], out, str(mini_world_file), str(suite_file)).truth_picture(neutral) is None


def test_the_commands_of_a_report_name_the_world_and_the_systems_of_its_runs(tmp_path):
    """Without --world `clbench report` finds the world by its name; eval would take another one."""
    names = Named(name="tiny-8", hash="a" * 64), Named(name="steps", hash="b" * 64)
    runs = []
    for name, typed, day in (("teacher", "make_runs.py", 2), ("cascade", "clbench eval --suite steps --system cascade", 1)):
        info = describe_run(*names, SystemCard(name, name), [0], "cpu", "float32", 1, typed)
        info = info.model_copy(update={"created": f"2025-01-0{day}T00:00:00+00:00"})
        runs.append(RunFolder.create(tmp_path / name, info))
    one = report_input(runs[:1], tmp_path, None, None).again
    assert one.commands[0].line.startswith("clbench eval --suite steps --world tiny-8 --out ")
    both = report_input(runs, tmp_path, None, None).again
    assert [(made.line, made.words) for made in both.commands] == [
        ("clbench eval --suite steps --system cascade", "cascade"), ("make_runs.py", "teacher"),
    ], "in the order of the work"  # fmt: skip


def test_two_runs_of_one_system_are_refused(mini_world, mini_world_file, suite_file, tmp_path):
    run = teacher_run(mini_world, load_suite(suite_file), tmp_path / "out")
    shutil.copytree(run.path, tmp_path / "out" / "teacher-old")
    with pytest.raises(ClbenchError, match=r"teacher and .*teacher-old are both runs of 'teacher'"):
        write_report(tmp_path / "out", str(mini_world_file), str(suite_file))
