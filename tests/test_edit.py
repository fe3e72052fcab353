"""Cases -> run folder: resume, cache key, a killed process."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from clbench.edit import Asked, bench_for, borrow, certificate, edit, prepare, run, same_but_suite
from clbench.registry import ClbenchError
from clbench.results import RunFolder, differences
from clbench.suite import load_suite
from clbench.systems import open_system
from clbench.types import Edit
from clbench.world import load_world

SUITE = """
name = "small"
question = "Does it work?"
effects = "all"
sources = 3
systems = ["identity"]
metrics = ["psnr"]
"""


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SUITE)
    return load_suite(file)


@pytest.fixture
def system(mini_world, suite):
    return open_system("identity", bench_for(mini_world, suite))


def counting(system):
    """The same system, which records the cases it was asked for."""
    asked: list[str] = []
    real = system.edit

    def edit_(cases):
        asked.extend(case.id for case in cases)
        return real(cases)

    system.edit = edit_
    return asked


def test_a_run_is_complete_and_sound(mini_world, suite, system, tmp_path):
    folder = edit(mini_world, suite, system, tmp_path / "out")
    assert folder.path == tmp_path / "out" / "identity"
    assert folder.info.status == "complete" and folder.validate() == []
    assert list(folder.read_edits()) == [case.id for case in suite.cases(mini_world)]
    picture = folder.read_picture(folder.read_edits()["sepia/p1/s0"])
    np.testing.assert_array_equal(picture, mini_world.source_image("p1", 32))


def test_a_stopped_run_is_finished_by_the_same_call(mini_world, suite, system, tmp_path):
    cases = suite.cases(mini_world)

    def stop(edit_: Edit) -> None:
        if edit_.case == cases[2]:
            raise KeyboardInterrupt

    folder, pending = prepare(mini_world, suite, system, suite.cases(mini_world), tmp_path / "out", Asked())
    with pytest.raises(KeyboardInterrupt):
        run(folder, system, pending, stop)
    half = RunFolder.open(folder.path)
    assert half.info.status == "running" and half.validate() == [] and len(half.read_edits()) == 3
    with (folder.path / "edits.jsonl").open("a") as lines:
        lines.write('{"case": {"effect": "se')  # what kill -9 may leave
    asked = counting(system)
    whole = edit(mini_world, suite, system, tmp_path / "out")
    assert asked == [case.id for case in cases[3:]]
    assert whole.info.status == "complete" and len(whole.read_edits()) == 6 and whole.validate() == []


def test_nothing_is_done_twice_and_a_limit_can_grow(mini_world, suite, system, tmp_path):
    edit(mini_world, suite, system, tmp_path / "out", Asked(limit=1))
    asked = counting(system)
    edit(mini_world, suite, system, tmp_path / "out", Asked(limit=1))
    assert asked == []
    folder = edit(mini_world, suite, system, tmp_path / "out")
    assert len(asked) == 4 and len(folder.read_edits()) == 6


def test_failures_are_kept_and_tried_again_when_asked(mini_world, suite, tmp_path):
    """Also where a folder beside has nothing to take over."""
    system = open_system("identity", bench_for(mini_world, suite))
    asked = counting(system)
    counted, system.edit = system.edit, lambda cases: (failed(edit) for edit in counted(cases))
    folder = edit(mini_world, suite, system, tmp_path / "out")
    assert {r.status for r in folder.read_edits().values()} == {"failed"}
    asked.clear()
    edit(mini_world, suite, system, tmp_path / "out")
    assert asked == []
    edit(mini_world, suite, system, tmp_path / "out", Asked(retry_failed=True))
    assert len(asked) == 6
    pending, told = folder.pending(suite.cases(mini_world), retry_failed=True), []
    assert borrow(folder, pending, [tmp_path / "nowhere"], lambda *given: told.append(given)) == pending and told == []


def failed(made: Edit) -> Edit:
    return Edit(made.case, None, status="failed", reason="no luck")


def test_another_world_is_refused_unless_overwritten(mini_world, mini_world_file, suite, system, tmp_path):
    edit(mini_world, suite, system, tmp_path / "out")
    mini_world_file.write_text(mini_world_file.read_text().replace("make it sepia", "make it brown"))
    other = load_world(mini_world_file)
    changed = open_system("identity", bench_for(other, suite))
    with pytest.raises(ClbenchError, match=r"identity holds another run: world 'mini'.*: effects differ; choose another --out"):
        edit(other, suite, changed, tmp_path / "out")
    asked = counting(changed)
    edit(other, suite, changed, tmp_path / "out", Asked(overwrite=True))
    assert len(asked) == 6


def test_cache_key_knows_system_dtype_and_world(mini_world, mini_world_file, suite):
    bench = bench_for(mini_world, suite)
    keys = {
        certificate(mini_world, suite, open_system(name, bench), 6).cache_key
        for name in ("base", "teacher", "collection")
    }
    text = mini_world_file.read_text()
    for line in ("fast_products = true", 'dtype = "bfloat16"'):
        mini_world_file.write_text(text.replace('device = "cpu"', f'device = "cpu"\n{line}'))
        other = load_world(mini_world_file)
        keys.add(certificate(other, suite, open_system("base", bench_for(other, suite)), 6).cache_key)
    mini_world_file.write_text(mini_world_file.read_text().replace("few_steps = 2", "few_steps = 3"))
    other = load_world(mini_world_file)
    keys.add(certificate(other, suite, open_system("collection", bench_for(other, suite)), 6).cache_key)
    assert len(keys) == 6


def test_a_run_that_exchanges_triggers_knows_among_which_effects(mini_world, mini_world_file, tmp_path):
    """With another teacher in the world, an effect's neighbour, and so its question, may be another one."""
    probe, named = 'probes = ["other-trigger"]\n', 'effects = ["sepia", "upside_down"]\n'
    found = {}
    for name, lines in {"plain": "", "probed": probe, "named": probe + named}.items():
        asked = f'name = "{name}"\nquestion = "q?"\nmetrics = ["success"]\nsystems = ["collection"]\nsources = 2\n'
        (tmp_path / f"{name}.toml").write_text(asked + lines)
        probed = load_suite(tmp_path / f"{name}.toml")
        bench = bench_for(mini_world, probed)
        for system in ("collection", "teacher", "identity"):
            found[name, system] = certificate(mini_world, probed, open_system(system, bench), 4)
    assert {key: info.among for key, info in found.items() if info.among} == {("probed", "collection"): mini_world.taught}
    mini_world.teacher_path("sepia").unlink()
    other = load_world(mini_world_file)
    probed = load_suite(tmp_path / "probed.toml")
    changed = certificate(other, probed, open_system("collection", bench_for(other, probed)), 4)
    assert changed.cache_key != found["probed", "collection"].cache_key
    assert "effects among which triggers are exchanged is" in differences(found["probed", "collection"], changed)[-1]


def test_the_batch_is_part_of_a_run_in_half_precision_alone(mini_world, suite):
    """There a picture differs with it; in float32 it does not, and older keys hold."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        for batch in (4, 2):
            mini_world.backbone = mini_world.backbone.model_copy(update={"dtype": dtype, "batch": batch})
            bench = bench_for(mini_world, suite)
            base, identity, floor = (open_system(name, bench) for name in ("base", "identity", "noise-floor"))
            found[dtype, batch] = certificate(mini_world, suite, base, 4)
            assert certificate(mini_world, suite, identity, 4).dtype == "uint8"
            assert certificate(mini_world, suite, floor, 4).dtype == found[dtype, batch].dtype  # it goes through the VAE
    assert found["float32", 4].cache_key == found["float32", 2].cache_key and found["float32", 4].dtype == "float32"
    assert differences(found["bfloat16", 4], found["bfloat16", 2]) == [
        "dtype is 'bfloat16, batches of 4', asked for 'bfloat16, batches of 2'"
    ]
    assert len({info.cache_key for info in found.values()}) == 3
    assert not same_but_suite(found["bfloat16", 4], found["bfloat16", 2])


def test_pictures_from_the_stock_pipeline_survive_a_resume(mini_world, suite, tmp_path):
    bench = bench_for(mini_world, suite)
    whole = edit(mini_world, suite, open_system("collection", bench), tmp_path / "a")
    edit(mini_world, suite, open_system("collection", bench), tmp_path / "b", Asked(["upside_down"], 2))
    parts = edit(mini_world, suite, open_system("collection", bench), tmp_path / "b")
    for case_id, record in whole.read_edits().items():
        one, other = whole.read_picture(record), parts.read_picture(parts.read_edits()[case_id])
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
        assert record.nfe == 2 and record.seconds > 0 and record.memory > 0
    info = json.loads((whole.path / "run.json").read_text())
    assert info["device"] == "cpu" and info["dtype"] == "float32"


def test_an_unreadable_source_is_said_before_any_picture_is_made(mini_world_file, suite, tmp_path):
    (tmp_path / "pictures" / "p2.png").write_bytes(b"broken")
    world = load_world(mini_world_file)
    system = open_system("identity", bench_for(world, suite))
    with pytest.raises(ClbenchError, match=r"cannot read the picture .*p2.png"):
        edit(world, suite, system, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_of_another_suite_are_taken_over(mini_world, suite, tmp_path):
    text = SUITE.replace('"small"', '"other"').replace("sources = 3", 'sources = 4\nprobes = ["neutral"]')
    (tmp_path / "other.toml").write_text(text)
    other = load_suite(tmp_path / "other.toml")
    edit(mini_world, suite, open_system("identity", bench_for(mini_world, suite)), tmp_path / "small")
    system = open_system("identity", bench_for(mini_world, other))
    folder, pending = prepare(mini_world, other, system, other.cases(mini_world), tmp_path / "out", Asked())
    left = borrow(folder, pending, [tmp_path / "nowhere", tmp_path / "small"])
    plain = {case.id for case in suite.cases(mini_world)}
    assert {case.id for case in pending} - {case.id for case in left} == plain
    asked = counting(system)
    run(folder, system, left, lambda _: None)
    assert set(asked) == {case.id for case in other.cases(mini_world)} - plain
    assert folder.info.status == "complete" and folder.validate() == []


def test_pictures_of_another_system_stay_where_they_are(mini_world, suite, tmp_path):
    edit(mini_world, suite, open_system("identity", bench_for(mini_world, suite)), tmp_path / "small")
    stranger = tmp_path / "small" / "collection"
    (tmp_path / "small" / "identity").rename(stranger)
    system = open_system("collection", bench_for(mini_world, suite))
    folder, pending = prepare(mini_world, suite, system, suite.cases(mini_world), tmp_path / "out", Asked())
    assert not same_but_suite(folder.info, RunFolder.open(stranger).info)
    assert borrow(folder, pending, [tmp_path / "small"]) == pending


def other_suite(folder, name="other", sources=4):
    (folder / f"{name}.toml").write_text(SUITE.replace('"small"', f'"{name}"').replace("sources = 3", f"sources = {sources}"))
    return load_suite(folder / f"{name}.toml")


def test_what_is_not_whole_is_not_taken_over(mini_world, suite, tmp_path):
    """Another process may be writing to the run, or emptying it."""
    from clbench.edit import borrow
    from clbench.images import write_png

    other, system = other_suite(tmp_path), open_system("identity", bench_for(mini_world, suite))
    held = edit(mini_world, suite, system, tmp_path / "small")
    write_png(held.picture_path(suite.cases(mini_world)[0]), np.zeros((32, 32, 3), np.uint8))  # is not what its line says
    held.picture_path(suite.cases(mini_world)[1]).write_bytes(b"half a picture")
    held.picture_path(suite.cases(mini_world)[2]).unlink()
    text = held.edits_file.read_bytes()
    held.edits_file.write_bytes(text[:-20])  # a torn last line
    for name, file in (("broken", "run.json"), ("lines", "edits.jsonl")):
        shutil.copytree(held.path, tmp_path / name / "identity")
        (tmp_path / name / "identity" / file).write_text("no json\nat all\n")
    told: list[tuple[str, int]] = []
    folder, pending = prepare(mini_world, other, system, other.cases(mini_world), tmp_path / "out", Asked())
    beside = [tmp_path / name for name in ("broken", "lines", "small")]
    left = borrow(folder, pending, beside, lambda run, count: told.append((run.parent.name, count)))
    assert told == [("small", 2)] and len(pending) - len(left) == 2
    assert folder.validate() == []


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True), ({"git": {"sha": "a", "dirty": False}}, False), ({"git": {"sha": "b", "dirty": True}}, False),
        ({"suite": {"name": "other", "hash": "other"}}, False), ({"dtype": "float16"}, False),
    ],
)  # fmt: skip
def test_only_another_suite_by_the_same_code_gives_pictures_of_itself(mini_world, suite, system, monkeypatch, change, taken):
    """A run of other code, or of the same suite, is there to be compared with."""
    from clbench import edit as room

    monkeypatch.setattr(room, "git_state", lambda: {"sha": "b", "dirty": False})
    held = certificate(mini_world, suite, system, 6).model_dump() | {"git": {"sha": "b", "dirty": False}} | change
    one = certificate(mini_world, suite, system, 6)
    asked = one.model_copy(update={"suite": one.suite.model_copy(update={"name": "other", "hash": "other"})})
    held["schema"] = held.pop("schema_")
    assert room.same_but_suite_and_code(asked, type(one).model_validate(held)) is taken
