"""What is measured, what is foretold, and the file that keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clbench.cost.traffic import count, draw_queries, popularity
from clbench.cost.worlds import AdapterPrediction
from clbench.memory.points import BASE, QUANTITIES, Point, points
from clbench.memory.predict import Ground, last_loaded, predict_point
from clbench.memory.record import FILE, MemoryFile, measurement, read_memory, write_memory
from clbench.memory.suite import load_memory_suite
from clbench.registry import ClbenchError
from clbench.suite import load_suite, shipped_suites, suite_kind

SUITE = """
kind = "memory"
name = "small"
question = "What does it cost?"
effects = [1, 3]
systems = ["cascade", "merged", "merged-cat", "collection"]
policies = ["all", "disk", "ram"]
slots = 2
queries = 8
repeats = 1
"""


@pytest.fixture
def suite_file(tmp_path) -> Path:
    (tmp_path / "small.toml").write_text(SUITE)
    return tmp_path / "small.toml"


def test_the_shipped_suite_reaches_50_effects():
    assert "memory" in shipped_suites("memory") and "memory" not in shipped_suites()
    suite = load_memory_suite("memory")
    assert max(suite.effects) == 50 and min(suite.effects) == 1 and suite.repeats >= 3
    assert suite_kind(shipped_suites()["bleeding"]) == "pictures"


def test_points_of_a_suite(suite_file):
    ids = [point.id for point in points(load_memory_suite(suite_file), held=2)]
    assert ids == [
        "base-0", "cascade-1", "cascade-3", "cascade-3-disk2", "cascade-3-ram2", "merged-3", "merged-cat-1",
        "merged-cat-3", "collection-2",
    ]  # fmt: skip


def test_a_pool_of_teachers_has_the_points_of_a_cascade(suite_file):
    suite = load_memory_suite(suite_file)
    of = lambda system: points(suite.model_copy(update={"systems": (system,)}), 0)[1:]  # noqa: E731
    assert [point.id for point in of("teacher")] == ["teacher-1", "teacher-3", "teacher-3-disk2", "teacher-3-ram2"]
    assert [(p.parts, p.loaded) for p in of("teacher")] == [(p.parts, p.loaded) for p in of("cascade")]


def test_the_shipped_suite_keeps_its_hash():
    """By it a stopped measurement is continued, and the shipped report was made."""
    assert load_memory_suite("memory").hash == "071f767d7347c202e338d5dbbb5f907ad2875e29ce7f1994144fbfe4eb75763d"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"merged",', '"mergd",', "systems"), ("slots = 2", "slot = 2", "unknown key 'slot'.*Did you mean 'slots'"),
        ("[1, 3]", "[0, 3]", "at least one effect"), ('"memory"', '"memories"', "unknown kind 'memories'"),
        ('kind = "memory"', "", "no suite of kind 'memory'"),
    ],
)  # fmt: skip
def test_bad_suites_are_one_sentence(suite_file, old, new, message):
    suite_file.write_text(SUITE.replace(old, new))
    with pytest.raises(ClbenchError, match=message):
        load_memory_suite(suite_file)


def test_a_memory_suite_makes_no_pictures():
    with pytest.raises(ClbenchError, match="makes no pictures; run it with `clbench eval --suite memory`"):
        load_suite("memory")


def adapter(stored: int) -> AdapterPrediction:
    return AdapterPrediction("x", Path("x"), 4, 3, "bfloat16", stored, stored, stored + 100, 2 * stored, stored)


def test_predictions_by_hand():
    parts, fixed, ground = [adapter(10), adapter(20), adapter(30)], [adapter(4)], Ground(1000, 2000)
    told = predict_point(Point("cascade", 3), parts, fixed, [2, 0], ground, on_gpu=False)
    assert told == {
        "tensor_bytes": 64, "factor_bytes": 128, "resident_bytes": 1128, "peak_bytes": 2128,
        "switches_per_1000": pytest.approx(2000 / 3), "loads_per_1000": 0,
    }  # fmt: skip
    lru = predict_point(Point("cascade", 3, "ram", 1), parts, fixed, [2, 0], ground, on_gpu=False)
    assert lru["factor_bytes"] == 28 and lru["peak_bytes"] == 2000 + 28 + 60  # the pool waits in the same memory
    assert lru["loads_per_1000"] == pytest.approx(2000 / 3)
    assert predict_point(Point("cascade", 3, "ram", 1), parts, fixed, [0], ground, on_gpu=True)["peak_bytes"] == 2028
    assert set(predict_point(BASE, [], [], [], None, False)) == {"tensor_bytes", "factor_bytes"}


def test_last_loaded_is_what_an_lru_holds():
    import numpy as np

    sequence = draw_queries(popularity(9), 40, np.random.default_rng(3)).tolist()
    for slots in (1, 3, 8):
        held = last_loaded(sequence, slots)
        follow = [*range(slots), *sequence]
        for part in range(9):  # a further query loads exactly what is not held
            assert (count([*follow, part], slots, warm=len(follow)).loads == 0) == (part in held)


def empty() -> MemoryFile:
    return MemoryFile(
        world={"name": "w", "hash": "1" * 64}, suite={"name": "s", "hash": "2" * 64}, question="q?", adapters="3" * 64,
        teachers=2, repeats=3, queries=8, git={"sha": "", "dirty": False}, versions={}, platform={}, command="clbench",
        created="now", dtype="float32",
    )  # fmt: skip


def test_the_file_comes_back_and_keeps_reasons(tmp_path):
    found = empty()
    found.rows.append(measurement(Point("cascade", 3), "peak_bytes", [3, 1, 2], 4))
    found.rows.append(measurement(Point("collection", 3), "switch_seconds", [], reason="one adapter: nothing to switch"))
    write_memory(found, tmp_path)
    again = read_memory(tmp_path)
    assert again == found and again.points() == [Point("cascade", 3), Point("collection", 3)]
    row = again.find(Point("cascade", 3), "peak_bytes")
    assert (row.median, row.min, row.max, row.error) == (2, 1, 3, -0.5)
    assert again.rows[1].median is None and again.rows[1].status == "unscored" and again.rows[1].reason


def test_what_a_world_lacks_stands_in_the_file_and_nothing_where_it_lacks_nothing(tmp_path):
    write_memory(empty(), tmp_path)
    assert not {"left_out", "alone"} & set(json.loads((tmp_path / FILE).read_text()))
    found = empty().model_copy(update={"left_out": "collection (world w has no [[candidates]])", "alone": "merged (world w ...)"})
    for system in ("base", "teacher", "merged", "collection"):
        found.rows.append(measurement(Point(system, 3), "peak_bytes", [1]))
    write_memory(found, tmp_path)
    assert read_memory(tmp_path) == found and found.at_full_steps() == ["teacher", "merged"]
    assert found.model_copy(update={"alone": ""}).at_full_steps() == ["teacher"]


def test_a_file_of_schema_1_is_read_as_it_is(tmp_path):
    write_memory(empty(), tmp_path)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace('"schema": 2', '"schema": 1').replace(' "holds": "",\n', ""))
    assert '"holds"' not in (tmp_path / FILE).read_text() and read_memory(tmp_path).holds == ""


def test_missing_without_a_reason_is_refused():
    with pytest.raises(ValueError, match="without a reason"):
        measurement(Point("cascade", 3), "peak_bytes", [])
    with pytest.raises(ValueError, match="not finite"):
        measurement(Point("cascade", 3), "peak_bytes", [float("nan")])


def test_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(ClbenchError, match="run `clbench eval --suite memory` first"):
        read_memory(tmp_path)
    write_memory(empty(), tmp_path)
    for old, new, message in (('"schema": 2', '"schema": 9', "reads up to 2"), ('"teachers"', '"techers"', "teachers|techers")):
        text = (tmp_path / FILE).read_text()
        (tmp_path / FILE).write_text(text.replace(old, new))
        with pytest.raises(ClbenchError, match=message):
            read_memory(tmp_path)
        (tmp_path / FILE).write_text(text)
    assert json.loads((tmp_path / FILE).read_text())["schema"] == 2 and set(QUANTITIES) >= {"peak_bytes"}
