"""The run folder: resume, refusal, defects, and bytes that repeat."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clbench import disk, results
from clbench.registry import ClbenchError
from clbench.results import Named, RunFolder, RunInfo, describe_run
from clbench.score_table import COLUMNS, Learnt, read_competing, read_encoders, read_learnt
from clbench.types import Case, Edit, Score, SystemCard

CASES = [Case(effect, f"s{index}", 0) for effect in ("fog", "night") for index in range(3)]


@functools.cache
def certificate(steps: int = 8, world: str = "w1", n_cases: int = len(CASES)) -> RunInfo:
    card = SystemCard("collection", "collection", {"student": "a" * 64}, {"steps": steps})
    suite = Named(name="bleeding", hash="s" * 64)
    return describe_run(Named(name="tiny", hash=world * 20), suite, card, [0], "cpu", "float32", n_cases)


def picture(case: Case) -> np.ndarray:
    return np.random.default_rng(abs(case.noise_seed()) % 2**32).integers(0, 255, (8, 8, 3), dtype=np.uint8)


def edit(case: Case) -> Edit:
    return Edit(case, picture(case), nfe=8, seconds=0.5, memory=100)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "collection", certificate())


def fill(folder: RunFolder, cases: list[Case] = CASES) -> None:
    for case in cases:
        folder.append_edit(edit(case))


def scores(cases: list[Case] = CASES) -> list[Score]:
    good = [Score(case, "success", 1, 1.0) for case in cases]
    bad = [Score(case, "psnr", 1, float("nan"), status="unscored", reason="random effect") for case in cases]
    leak = [Score(case, "leak", 1, 0.1, other="sketch") for case in cases]
    return good + bad + leak


def test_a_finished_run_reads_back(folder: RunFolder) -> None:
    fill(folder)
    folder.finish()
    again = RunFolder.open(folder.path)
    assert again.info == folder.info and again.info.status == "complete"
    records = again.read_edits(verify=True)
    assert list(records) == [case.id for case in CASES]
    assert (again.read_picture(records[CASES[0].id]) == picture(CASES[0])).all()
    assert again.validate() == [] and again.pending(CASES) == []


def test_finish_refuses_an_unfinished_run(folder: RunFolder) -> None:
    fill(folder, CASES[:2])
    with pytest.raises(ClbenchError, match="2 of 6 cases"):
        folder.finish()


@pytest.mark.parametrize("torn", [b'{"case": {"effect": "fog"', b'{"case"}\n', b"\0\0\0\0", b"\0\0\0\n"])
def test_a_torn_last_line_is_dropped_and_mended(folder: RunFolder, torn: bytes) -> None:
    fill(folder, CASES[:2])
    with folder.edits_file.open("ab") as handle:
        handle.write(torn)
    resumed = RunFolder.create(folder.path, certificate())
    assert resumed.pending(CASES) == CASES[2:]
    fill(resumed, CASES[2:])
    assert list(resumed.read_edits(verify=True)) == [case.id for case in CASES]
    resumed.finish()


def test_every_cut_of_the_log_resumes(folder: RunFolder) -> None:
    fill(folder, CASES[:3])
    whole = folder.edits_file.read_bytes()
    for cut in range(0, len(whole), 11):
        folder.edits_file.write_bytes(whole[:cut])
        resumed = RunFolder.create(folder.path, certificate())
        fill(resumed, resumed.pending(CASES[:3]))
        assert len(resumed.read_edits(verify=True)) == 3


def test_a_broken_line_in_the_middle_is_named(folder: RunFolder) -> None:
    fill(folder, CASES[:2])
    lines = folder.edits_file.read_text().splitlines()
    folder.edits_file.write_text("\n".join(["{}", *lines]) + "\n")
    with pytest.raises(ClbenchError, match=r"edits.jsonl line 1 is not an edit: .*; delete that line and run"):
        folder.read_edits()
    assert len(folder.validate()) == 1


def test_a_damaged_picture_is_made_anew_or_says_what_to_do(folder: RunFolder) -> None:
    fill(folder, CASES)
    records = folder.read_edits()
    first, second, third = (folder.path / records[case.id].file for case in CASES[:3])
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:-1])
    whole = third.read_bytes()
    middle = whole.index(b"IDAT") + 6
    third.write_bytes(whole[:middle] + bytes(9) + whole[middle + 9 :])
    assert folder.pending(CASES) == CASES[:2], "what only decoding tells is not looked for"
    with pytest.raises(ClbenchError, match=r"cannot read the picture .*; delete that file and run the same `clbench edit` again"):
        folder.read_picture(records[CASES[2].id])
    third.unlink()
    with pytest.raises(ClbenchError, match=r"picture not found: .*png; run the same `clbench edit` again"):
        folder.read_picture(records[CASES[2].id])
    fill(folder, folder.pending(CASES))
    assert folder.pending(CASES) == [] and folder.validate() == []


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_results import CASES, certificate, edit
from clbench.results import RunFolder
from pathlib import Path
folder = RunFolder.create(Path({out!r}), certificate())
for count, case in enumerate(folder.pending(CASES)):
    if count == 2:
        folder.edits_file.open("ab").write(b'{{"case": {{"eff')
        os.kill(os.getpid(), signal.SIGKILL)
    folder.append_edit(edit(case))
folder.finish()
"""


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = KILLED.format(tests=str(Path(__file__).parent), out=str(out))
    environment = os.environ | {"PYTHONPATH": str(Path(results.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    codes = [subprocess.run(command, env=environment, check=False).returncode for _ in range(3)]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    folder = RunFolder.create(out, certificate())
    assert folder.pending(CASES) == []
    folder.finish()
    assert folder.validate() == [] and list(folder.read_edits()) == [case.id for case in CASES]


def test_a_later_line_wins(folder: RunFolder) -> None:
    folder.append_edit(Edit(CASES[0], None, status="failed", reason="out of memory"))
    assert folder.pending(CASES[:1]) == [] and folder.pending(CASES[:1], retry_failed=True) == CASES[:1]
    folder.append_edit(edit(CASES[0]))
    assert folder.read_edits()[CASES[0].id].status == "ok"


def test_a_lost_picture_is_pending_and_a_changed_one_is_found(folder: RunFolder) -> None:
    fill(folder)
    folder.picture_path(CASES[0]).unlink()
    results.write_png(folder.picture_path(CASES[1]), picture(CASES[2]))
    assert folder.pending(CASES) == CASES[:1]
    missing, changed = folder.validate()
    assert "is missing" in missing and "was changed" in changed
    with pytest.raises(ClbenchError, match="is missing"):
        folder.read_edits(verify=True)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (certificate(steps=4), "system settings steps is 8, asked for 4"),
        (certificate(world="w2"), r"world 'tiny' \(w1w1w1w1\) is not 'tiny' \(w2w2w2w2\)"),
    ],
)
def test_another_key_is_refused_by_name(folder: RunFolder, asked: RunInfo, named: str) -> None:
    fill(folder)
    with pytest.raises(ClbenchError, match=named):
        RunFolder.create(folder.path, asked)
    assert len(folder.read_edits()) == len(CASES)
    fresh = RunFolder.create(folder.path, asked, overwrite=True)
    assert fresh.read_edits() == {} and not (folder.path / "pictures").exists()


def test_hashes_that_differ_are_short(folder: RunFolder) -> None:
    card = SystemCard("collection", "collection", {"student": "b" * 64}, {"steps": 8})
    held = certificate()
    asked = describe_run(held.world, held.suite, card, [0], "cpu", "float32", len(CASES))
    with pytest.raises(ClbenchError, match=r"student is 'a{8}', asked for 'b{8}'; choose another --out, or add --overwrite"):
        RunFolder.create(folder.path, asked)


def test_what_differs_between_two_worlds_is_named(tmp_path: Path) -> None:
    parts = {"settings": "a", "backbone": "b", "effects": "c", "sources": "d"}
    held = certificate().model_copy(update={"world_parts": parts})
    folder = RunFolder.create(tmp_path / "run", held)
    assert RunFolder.open(folder.path).info.world_parts == parts
    other = certificate(world="w2").model_copy(update={"world_parts": parts | {"backbone": "x", "effects": "y"}})
    with pytest.raises(ClbenchError, match=r"is not 'tiny' \(w2w2w2w2\): backbone differs, effects differ; choose another --out"):
        RunFolder.create(folder.path, other)
    (clause,) = results.differences(certificate(), other)
    assert clause.endswith("(w2w2w2w2)"), "an older run does not tell"


def test_a_run_of_schema_3_is_read_and_takes_the_parts_of_its_world(tmp_path: Path) -> None:
    info = certificate().model_copy(update={"world_parts": {"effects": "c"}})
    folder = RunFolder.create(tmp_path / "run", info)
    file = folder.path / "run.json"
    plain = json.loads(file.read_text()) | {"schema": 3}
    del plain["world_parts"]
    file.write_text(json.dumps(plain))
    old = RunFolder.open(folder.path).info
    assert (old.schema_, old.world_parts, old.cache_key) == (3, {}, info.cache_key)
    assert RunFolder.create(folder.path, info).info == RunFolder.open(folder.path).info == info


def test_every_part_of_the_key_counts() -> None:
    info = certificate()
    assert certificate().cache_key == info.cache_key and certificate(n_cases=1).cache_key == info.cache_key
    assert len({info.cache_key, certificate(steps=4).cache_key, certificate(world="x").cache_key}) == 3
    newer = info.model_copy(update={"versions": info.versions | {"torch": "99"}})
    assert any("version of torch" in clause for clause in results.differences(info, newer))


def test_a_limit_may_grow(folder: RunFolder) -> None:
    small = RunFolder.create(folder.path, certificate(n_cases=2))
    fill(small, CASES[:2])
    small.finish()
    grown = RunFolder.create(folder.path, certificate())
    assert grown.info.status == "running" and grown.pending(CASES) == CASES[2:]


def test_a_run_says_the_command_that_makes_all_of_it(tmp_path: Path) -> None:
    """After `--limit 2` and then the whole suite, a report must not tell others to ask for two."""

    def typed(command: str, n_cases: int, day: int) -> RunInfo:
        return certificate(n_cases=n_cases).model_copy(update={"command": command, "created": f"2025-01-0{day}T00:00:00+00:00"})

    path, small, whole = tmp_path / "run", typed("clbench eval --limit 2", 2, 1), typed("clbench eval", 6, 2)
    fill(RunFolder.create(path, small), CASES[:2])
    grown = RunFolder.create(path, whole)
    fill(grown, CASES[2:])
    expected = small.model_copy(update={"command": "clbench eval", "n_cases": 6})
    assert RunFolder.open(path).info == grown.info == expected, "all other facts are those of its beginning"
    assert RunFolder.create(path, small).info.command == "clbench eval", "a part of what is there"
    assert RunFolder.create(path, whole).info.command == "clbench eval"
    again = RunFolder.create(path, typed("clbench eval --retry-failed", 6, 3))
    assert again.info.command == "clbench eval --retry-failed" and again.info.cache_key == small.cache_key


def test_strangers_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ClbenchError, match=r"holds pictures but no run.json"):
        RunFolder.create(tmp_path, certificate())
    assert (tmp_path / "pictures" / "holiday.png").exists()


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match="cannot write to the output folder"):
        RunFolder.create(tmp_path / "file" / "run", certificate())

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(disk.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(ClbenchError, match="Permission denied"):
        RunFolder.create(tmp_path / "other", certificate())


def test_open_explains_itself(tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match="is not a run folder"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ClbenchError, match="is not valid JSON"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(ClbenchError, match="schema 99"):
        RunFolder.open(tmp_path)
    plain = certificate().model_dump(by_alias=True) | {"colour": 1}
    (tmp_path / "run.json").write_text(json.dumps(plain))
    with pytest.raises(ClbenchError, match="colour"):
        RunFolder.open(tmp_path)
    with pytest.raises(ClbenchError, match="holds no run folder"):
        results.find_runs(tmp_path)


def test_case_ids_cannot_leave_the_folder(folder: RunFolder) -> None:
    for case in (Case("..", "s", 0), Case("a/b", "s", 0), Case("a", "..\\x", 0)):
        with pytest.raises(ClbenchError, match="cannot be a file name"):
            folder.append_edit(edit(case))


def test_scores_read_back_and_repeat_byte_for_byte(folder: RunFolder) -> None:
    fill(folder)
    steps = Score(Case("fog", "s0", 0, 4), "success", 1, 0.0)
    assert folder.write_scores([*scores(), steps]) == 19
    first = folder.scores_file.read_bytes()
    folder.write_scores([steps, *scores()[::-1]])
    assert folder.scores_file.read_bytes() == first
    assert read_competing(folder.scores_file) == []
    folder.write_scores([steps, *scores()], {"sketch", "fog"})
    assert read_competing(folder.scores_file) == ["fog", "sketch"] and read_encoders(folder.scores_file) == {}
    networks = {"perceptual": ("st-lpips-vgg", "ab" * 32), "clip": ("tiny", "cd" * 32)}
    folder.write_scores([steps, *scores()], {"sketch", "fog"}, networks)
    assert read_competing(folder.scores_file) == ["fog", "sketch"] and read_encoders(folder.scores_file) == networks
    assert read_learnt(folder.scores_file) is None
    folder.write_scores([steps, *scores()], learnt=Learnt(2, 40, "ab"))
    assert read_learnt(folder.scores_file) == Learnt(2, 40, "ab")
    frame = folder.read_scores()
    assert list(frame.columns) == list(results.read_all_scores([folder]).columns)
    assert str(frame["steps"].dtype) == "Int64" and frame["steps"].notna().sum() == 1
    assert frame.loc[frame["status"] == "unscored", "value"].isna().all()
    assert set(frame["run"]) == {folder.info.run} and str(frame["value"].dtype) == "float64"
    (defect,) = folder.validate()
    assert defect == f"{folder.scores_file} scores fog/s0/s0-n4, which has no line in edits.jsonl"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Score(CASES[0], "psnr", 1, float("nan")), "status ok"),
        (Score(CASES[0], "psnr", 1, 0.0, status="failed", reason="x"), "must be NaN"),
        (Score(CASES[0], "psnr", 1, float("nan"), status="failed"), "without a reason"),
        (Score(CASES[0], "success", 1, 0.0), "given twice"),
    ],
)
def test_dishonest_scores_are_refused(folder: RunFolder, wrong: Score, words: str) -> None:
    with pytest.raises(ClbenchError, match=words):
        folder.write_scores([*scores(), wrong])
    assert not folder.scores_file.exists()


def test_no_heavy_import() -> None:
    heavy = "('torch', 'diffusers', 'pandas', 'pyarrow')"
    code = f"import sys, clbench.results; print([m for m in {heavy} if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(results.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, env=environment, text=True).strip() == "[]"


def test_probes_and_second_effects_are_kept(folder: RunFolder) -> None:
    asked = [Case("fog", "s0", 0, None, "neutral"), Case("fog", "s0", 0, 4, "twice", "night"), CASES[0]]
    fill(folder, asked)
    folder.write_scores([Score(case, "success", 1, float(place)) for place, case in enumerate(asked)])
    assert [record.case for record in folder.read_edits(verify=True).values()] == asked
    frame = folder.read_scores()
    assert set(zip(frame["probe"], frame["second"], strict=True)) == {("neutral", ""), ("twice", "night"), ("", "")}
    assert folder.validate() == []
    assert '"probe"' not in folder.edits_file.read_text().splitlines()[2], "lines of plain questions stay as they were"


def test_a_run_of_the_first_schema_is_read() -> None:
    """Made by commit a4d1a60, before cases had probes; see tests/golden/README.md."""
    old = RunFolder.open(Path(__file__).parent / "golden" / "run_schema_1")
    assert old.info.schema_ == 1 and old.validate() == []
    assert [record.id for record in old.read_edits(verify=True).values()] == ["fog/s0/s0", "fog/s0/s0-n4", "night/s1/s1"]
    frame = old.read_scores()
    assert list(frame.columns) == list(results.read_all_scores([old]).columns) == list(COLUMNS)
    assert read_encoders(old.scores_file) == {} and read_competing(old.scores_file) == []
    assert (frame["probe"] == "").all() and (frame["second"] == "").all() and len(frame) == 4
    assert frame["value"].tolist()[:3] == [0.25, 1.0, 0.0] and set(frame["schema"]) == {1}


def test_a_new_file_without_its_columns_is_refused(folder: RunFolder) -> None:
    import pyarrow.parquet as pq

    folder.write_scores(scores())
    pq.write_table(pq.read_table(folder.scores_file).drop_columns(["probe"]), folder.scores_file)
    with pytest.raises(ClbenchError, match="has columns"):
        folder.read_scores()
