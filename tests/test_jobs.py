"""What `clbench eval` checks and adds before any picture is made, in a world of a user's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench import jobs
from clbench.cli import app
from clbench.order import Order, check, chosen_systems
from clbench.registry import ClbenchError
from clbench.results import find_runs
from clbench.suite import Suite, SuiteTable, load_suite
from clbench.world import World, load_world

SUITE = """
name = "mine"
question = "Does it work?"
effects = "taught"
sources = 24
systems = ["collection"]
controls = ["wrong-effect"]
probes = ["other-trigger"]
metrics = ["success", "attributed", "leak_total", "psnr"]
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(SUITE.replace('controls = ["wrong-effect"]', "controls = []"))
    return file


def order(suite: Path, world: Path, **more) -> Order:
    plain = Order(str(suite), str(world), (), (), None, 2, suite.parent / "out", False, False, False)
    return dataclasses.replace(plain, **more)


def opened(given: Order) -> tuple[World, Suite]:
    return load_world(given.world), load_suite(given.suite)


def test_a_world_with_fewer_sources_than_the_suite_asks_is_scored_with_a_limit(suite_file, mini_world_file):
    words = ["eval", "--suite", suite_file, "--world", mini_world_file, "--limit", 2, "--out", suite_file.parent / "out"]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "system teacher is added: its pictures are the truth of 'sepia'" in done.output
    runs = {run.info.system_name: run.read_scores() for run in find_runs(suite_file.parent / "out")}
    assert set(runs) == {"teacher", "collection"}
    scored = runs["collection"].query("metric == 'success' and probe == ''")
    assert len(scored) == 4 and scored["value"].notna().all()


def test_the_teacher_is_not_added_where_the_truth_is_known_or_not_asked_for(suite_file, mini_world_file):
    given = order(suite_file, mini_world_file)
    world, suite = opened(given)
    assert chosen_systems(world, suite, given) == ["teacher", "collection"]
    demo = SuiteTable(name="s", question="?", effects="taught", sources=1, systems=("collection",), metrics=("success",))
    tiny = load_world("tiny-8")
    assert chosen_systems(tiny, Suite(Path("s.toml"), demo), given) == ["collection"]
    words = Suite(Path("s.toml"), demo.model_copy(update={"metrics": ("clip_text",)}))
    assert chosen_systems(world, words, given) == ["collection"]


def test_systems_without_their_truth_are_refused_before_work(suite_file, mini_world_file):
    given = order(suite_file, mini_world_file, systems=["collection"])
    with pytest.raises(ClbenchError, match=r"'sepia' should look like .* holds no run of teacher: name teacher among"):
        check(given, *opened(given))
    jobs.edit(dataclasses.replace(given, systems=["teacher"]))
    check(given, *opened(given))


def test_a_run_of_another_world_is_refused_before_work(suite_file, mini_world_file):
    """By every command with what of the world is another, which older runs do not tell."""
    given = order(suite_file, mini_world_file)
    jobs.edit(dataclasses.replace(given, systems=["cascade"]))
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace("resolution = 32", "resolution = 64"))
    assert text != mini_world_file.read_text()
    (run,) = find_runs(given.out)
    is_now = r"cascade was made with world 'mini' \(\w+\), not with 'mini' as it is now \(\w+\)"
    one_report = r"cascade was made with world 'mini' \(\w+\), the report is about \(\w+\)"
    for parts, told in ((run.info.world_parts, ": settings differ, sources differ; "), ({}, "; ")):
        run.info = run.info.model_copy(update={"world_parts": parts})
        run._write_info()
        with pytest.raises(ClbenchError, match=f"{is_now}{told}name the world that"):
            check(given, *opened(given))
        with pytest.raises(ClbenchError, match=f"{is_now}{told}name the world that"):
            jobs.score(given.out, given.world, given.suite)
        with pytest.raises(ClbenchError, match=f"{one_report}{told}runs of different worlds"):
            jobs.report(given.out, given.world, given.suite)


def test_a_world_of_the_same_hash_and_another_name_is_refused(suite_file, mini_world_file):
    """It may have teachers of other effects, among which the same pictures would be told apart: other scores, unsaid."""
    given = order(suite_file, mini_world_file)
    jobs.edit(dataclasses.replace(given, systems=["teacher"]))
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace('name = "mini"', 'name = "other"'))
    assert load_world(mini_world_file).hash == find_runs(given.out)[0].info.world.hash
    with pytest.raises(ClbenchError, match="teacher was made in world 'mini', not in 'other': name that one"):
        check(given, *opened(given))
    for command in (jobs.score, jobs.report):
        with pytest.raises(ClbenchError, match="teacher was made in world 'mini', not in 'other'"):
            command(given.out, given.world, given.suite)
    check(dataclasses.replace(given, overwrite=True), *opened(given))
    with pytest.raises(ClbenchError, match="world 'mini', which is not a shipped one; name its file with --world"):
        jobs.score(given.out, None, given.suite)


def test_an_adapter_is_never_written_over(mini_world_file, tmp_path):
    path = tmp_path / "collection.safetensors"
    before = path.read_bytes()
    for words in (["export", path, "--format", "kohya"], ["merge", "--method", "linear", "--world", mini_world_file]):
        done = CliRunner().invoke(app, [str(word) for word in (*words, "--out", path)])
        assert done.exit_code == 2 and "is there already; name another file with --out" in " ".join(done.stderr.split())
    assert path.read_bytes() == before


def test_one_effect_has_no_wrong_one_and_no_other_trigger(suite_file, mini_world_file):
    (mini_world_file.parent / "teachers" / "upside_down.safetensors").unlink()
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace('trigger = "<qx1>"', 'trigger = "<qx1>"\noperator = "sepia"'))
    suite_file.write_text(SUITE)
    given = order(suite_file, mini_world_file)
    world, suite = opened(given)
    assert chosen_systems(world, suite, given) == ["collection"]
    assert suite.left_out(world) == [
        "suite mine: control wrong-effect is left out: there is a single effect, so none is the wrong one"
    ]
    run = next(run for run in find_runs(jobs.edit(given)[0]) if run.info.system_name == "collection")
    reasons = {record.reason for record in run.read_edits().values() if record.case.probe == "other-trigger"}
    assert reasons == {"the suite has no other effect, so there is no other trigger to ask with"}


def test_where_no_effect_could_be_seen_neutral_questions_show_none(suite_file, mini_world_file):
    """Not leak 0 and "no effect": nobody made the teacher's pictures, which alone say what the effects look like."""
    text = SUITE.replace("other-trigger", "neutral").replace("wrong-effect", "identity")
    suite_file.write_text(text.replace("leak_total", "neutral_leak_total"))
    out, _ = jobs.edit(order(suite_file, mini_world_file, systems=["base", "collection"], limit=1))
    jobs.score(out, str(mini_world_file), str(suite_file))
    for run in find_runs(out):
        rows = run.read_scores().query("probe == 'neutral' and metric in ('attributed', 'neutral_leak_total')")
        assert len(rows) == 4 and rows["value"].isna().all()
        assert rows["reason"].str.contains("no effect's truth is known on this source").all()
