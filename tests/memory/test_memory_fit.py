"""Suites of kind `memory` in worlds that name only some of the files: what is measured there, and what is said of the rest."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench.cli import app
from clbench.memory.fit import Fit, fit
from clbench.memory.measure import describe, foresee, measure
from clbench.memory.plan import wanted_points, who_counts
from clbench.memory.points import Point
from clbench.memory.pool import files_of
from clbench.memory.record import FILE, read_memory
from clbench.memory.suite import load_memory_suite
from clbench.registry import ClbenchError
from clbench.world import load_world

SUITE = load_memory_suite("memory")
TEACHERS, FAST = '[teachers] with folder = "..."', '[accelerator] with file = "..."'
ONE = '[[candidates]] with name = "..." and file = "..."'
NONE_FAST = "world mini has no [accelerator]"
SMALL = """
kind = "memory"
name = "small"
question = "What does it cost?"
effects = [2]
systems = ["cascade", "merged", "collection"]
queries = 8
repeats = 1
"""


def asking(*systems: str):
    return SUITE.model_copy(update={"systems": systems})


def test_in_a_world_with_everything_all_is_measured_and_nothing_is_said(mini_world):
    assert fit(mini_world, SUITE) == Fit(SUITE.systems) and fit(mini_world, SUITE).sentences == []
    found = describe(mini_world, SUITE)
    assert (found.left_out, found.alone) == ("", "") and "teacher" not in {p.system for p in wanted_points(mini_world, SUITE)}


def test_without_accelerator_the_teachers_are_measured_alone(without):
    world = load_world(file := without("accelerator"))
    found = fit(world, SUITE)
    assert found.systems == ("teacher", "merged", "merged-cat", "collection") and not found.left_out
    assert found.sentences == [
        f"{NONE_FAST}, so teacher is measured in place of cascade, and merged and merged-cat are measured without it, "
        f"at full steps; add {FAST} to {file} to measure with it"
    ]
    assert describe(world, SUITE).alone == f"teacher in place of cascade; merged and merged-cat ({NONE_FAST})"
    assert fit(world, asking("merged")).sentences == [
        f"{NONE_FAST}, so merged is measured without it, at full steps; add {FAST} to {file} to measure with it"
    ]
    points = [point.id for point in wanted_points(world, SUITE)]
    assert points[:2] == ["base-0", "teacher-1"] and "teacher-50-ram4" in points and not [p for p in points if "cascade" in p]


def test_teachers_that_the_suite_asks_for_stand_in_for_nothing(without, mini_world_file, tmp_path):
    """They are measured with and without an accelerator in the world, alike; the cascade alone is left out."""
    suite = asking("cascade", "teacher")
    whole = load_world(mini_world_file)
    assert fit(whole, suite) == Fit(("cascade", "teacher"))
    alone = describe(whole, asking("teacher"))
    assert alone.adapters != describe(whole, suite).adapters == describe(whole, asking("cascade")).adapters
    files = files_of(Point("teacher", 2), whole, tmp_path)
    world = load_world(file := without("accelerator"))
    found = fit(world, suite)
    assert found.systems == ("teacher",) and found.alone is None
    assert found.sentences == [f"{NONE_FAST}, so cascade is left out; add {FAST} to {file} to run it"]
    assert files == files_of(Point("teacher", 2), world, tmp_path) and alone.key == describe(world, asking("teacher")).key


def test_without_candidates_or_teachers_the_others_are_measured(without, mini_world_file):
    text = mini_world_file.read_text()
    world = load_world(file := without("candidates"))
    found = fit(world, SUITE)
    assert found.systems == ("cascade", "merged", "merged-cat") and found.alone is None and who_counts(world, SUITE) == ""
    assert found.sentences == [f"world mini has no [[candidates]], so collection is left out; add {ONE} to {file} to run it"]
    assert describe(world, SUITE).left_out == "collection (world mini has no [[candidates]])"
    assert "collection" not in {point.system for point in wanted_points(world, SUITE)}
    mini_world_file.write_text(text)
    for tables in (("teachers",), ("teachers", "accelerator")):
        world = load_world(without(*tables))
        found = fit(world, SUITE)
        assert found.systems == ("collection",) and found.alone is None and found.sentences == [
            "world mini has no [teachers], so cascade, merged and merged-cat are left out; "
            f"add {TEACHERS} to {mini_world_file} to run them"
        ]  # fmt: skip
        assert wanted_points(world, SUITE) == [Point("base", 0), Point("collection", 2)]


def test_where_nothing_is_left_one_sentence_says_what_to_add(without, tmp_path):
    file, out = without("teachers", "candidates"), tmp_path / "out"
    told = (
        "nothing would be left of suite memory: world mini has no [teachers] (for cascade, merged and merged-cat) and "
        f"world mini has no [[candidates]] (for collection); add {TEACHERS} to {file} or add {ONE} to {file}"
    )
    for refused in (fit, wanted_points, describe):
        with pytest.raises(ClbenchError, match=f"^{re.escape(told)}$"):
            refused(load_world(file), SUITE)
    done = CliRunner().invoke(app, ["eval", "--suite", "memory", "--world", str(file), "--out", str(out)])
    assert done.exit_code == 2 and told in " ".join(done.stderr.split()) and not out.exists()


def test_a_file_that_is_named_and_is_not_there_is_a_mistake(mini_world_file, tmp_path):
    for file, told in (("accelerator", "accelerator LoRA not found"), ("collection", "candidate LoRA 'collection' not found")):
        (tmp_path / f"{file}.safetensors").rename(tmp_path / "away")
        with pytest.raises(ClbenchError, match=told):
            foresee(load_world(mini_world_file), SUITE, tmp_path / "out")
        (tmp_path / "away").rename(tmp_path / f"{file}.safetensors")
    shutil.rmtree(tmp_path / "teachers")
    with pytest.raises(ClbenchError, match="folder of teacher LoRAs not found"):
        foresee(load_world(mini_world_file), SUITE, tmp_path / "out")
    (tmp_path / "teachers").mkdir()
    assert fit(load_world(mini_world_file), SUITE).left_out[0].lack.why == "the [teachers] folder of world mini holds no LoRA"


def test_files_of_teachers_alone(without, mini_world_file, tmp_path):
    """Nothing beside them and no weight of a cascade, whatever the world says of one."""
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace("[accelerator]\n", "[accelerator]\nteacher_weight = 0.5\nsteps = 1\n"))
    world = load_world(mini_world_file)
    fast, alone = (files_of(Point(system, 2), world, tmp_path) for system in ("cascade", "teacher"))
    assert alone.parts == fast.parts and (alone.fixed, alone.part_weight, alone.full) == ((), 1.0, True)
    assert len(fast.fixed) == 1 and (fast.part_weight, fast.steps, fast.full) == (0.5, 1, False)
    world = load_world(without("accelerator"))
    for system in ("merged", "merged-cat"):
        files = files_of(Point(system, 2), world, tmp_path)
        assert len(files.parts) == 1 and (files.fixed, files.part_weight, files.full) == ((), 1.0, True)


@pytest.mark.parametrize(("system", "full"), [("teacher", True), ("cascade", False), ("merged", False), ("collection", False)])
def test_an_edit_of_teachers_alone_is_sampled_as_theirs_are(mini_world, tmp_path, monkeypatch, system, full):
    from clbench.backbones import Sampler
    from clbench.backbones.common import DiffusersBackbone
    from clbench.memory.measure import _request
    from clbench.memory.probe import measure as probed
    from clbench.systems import Bench
    from clbench.systems.sampled import full_sampler

    real, used = DiffusersBackbone.sample, []
    monkeypatch.setattr(DiffusersBackbone, "sample", lambda self, jobs, how: used.append(how) or real(self, jobs, how))
    point = Point(system, 2)
    suite = SUITE.model_copy(update={"queries": 4})
    found = probed(_request(mini_world, point, files_of(point, mini_world, tmp_path), suite))
    assert found.factor_bytes > 0 and used == [full_sampler(Bench(mini_world, [])) if full else Sampler(2, 1.0, True, 3.0)] * 2


def test_a_measurement_goes_on_in_the_world_of_the_same_adapters_alone(without, mini_world_file, tmp_path, monkeypatch):
    from clbench.memory import measure as program

    monkeypatch.setattr(program, "run_probe", lambda request: {"failed": "not asked for"})
    suite = SUITE.model_copy(update={"effects": (2,), "repeats": 1, "policies": ("all",)})
    whole = mini_world_file.read_text()
    lean = load_world(without("candidates", "accelerator"))
    run = lambda world: measure(world, suite, tmp_path / "out", lambda *words: None)  # noqa: E731
    found = run(lean)
    assert [p.id for p in found.points()] == ["base-0", "teacher-2", "merged-2", "merged-cat-2"]
    assert read_memory(tmp_path / "out") == found and found.alone and found.left_out and run(lean).points() == found.points()
    mini_world_file.write_text(whole)
    with pytest.raises(ClbenchError, match="was measured with another world, suite, adapter"):
        run(load_world(mini_world_file))


@pytest.mark.slow
def test_eval_of_teachers_alone_from_the_command_to_the_report(without, tmp_path):
    file, suite, out = without("accelerator", "candidates"), tmp_path / "small.toml", tmp_path / "out"
    suite.write_text(SMALL)
    done = CliRunner().invoke(app, ["eval", "--suite", str(suite), "--world", str(file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert said.count(f"suite small: {NONE_FAST}, so teacher is measured in place of cascade, and merged is ") == 1
    assert said.count("suite small: world mini has no [[candidates]], so collection is left out; add ") == 1
    assert "--system" not in said, "which such a suite does not take"
    found = read_memory(out)
    assert found.status == "complete" and [p.id for p in found.points()] == ["base-0", "teacher-2", "merged-2"]
    for point in found.points():
        row = found.find(point, "factor_bytes")
        assert row is not None and row.median == row.predicted
    peak = found.find(Point("teacher", 2), "peak_bytes")
    assert peak is not None and abs(peak.error) <= 0.05
    told = (out / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert "The pool of teachers of 2 effects has " in told and "Another effect takes the pool of teachers " in told
    assert "\n- Without accelerator: teacher in place of cascade; merged (world mini has no [accelerator])\n" in told
    assert "\n- Left out: collection (world mini has no [[candidates]])\n" in told
    assert "The edit of teacher and merged takes the world's full steps with guidance, every other one few steps." in told
    assert str(Path(file).parent) not in (out / FILE).read_text().replace(found.command, "")
