"""Checkpoints are whole or absent; a finished adapter is recognised; logs survive a kill."""

from __future__ import annotations

import json

import pytest
import torch

from clbench.registry import ClbenchError
from reference_trainer.checkpoint import Checkpoints, DiceState, finish, finished
from reference_trainer.dice import Dice
from reference_trainer.logs import Logbook, read_log


def test_round_trip_keeps_the_newest(tmp_path):
    dice = Dice.seeded(1)
    checkpoints = Checkpoints(tmp_path, "key", keep=2)
    for update in (1, 2, 3):
        dice.normal(1, ())
        checkpoints.save(update, {"dice": DiceState(dice)})
    expected = dice.normal(3, ())
    other = Dice.seeded(99)
    assert Checkpoints(tmp_path, "key").resume({"dice": DiceState(other)}) == 3
    assert torch.equal(other.normal(3, ()), expected)
    assert [path.name for path in checkpoints.complete()] == ["000002", "000003"]


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path, "key")
    checkpoints.save(5, {"dice": DiceState(Dice.seeded(1))})
    broken = checkpoints.save(6, {"dice": DiceState(Dice.seeded(1))})
    (broken / "complete.json").unlink()
    assert checkpoints.resume({"dice": DiceState(Dice.seeded(2))}) == 5


def test_a_full_disk_is_one_sentence_and_keeps_the_checkpoints_before(tmp_path, full_disk):
    checkpoints, dice = Checkpoints(tmp_path, "key"), DiceState(Dice.seeded(1))
    for update in (1, 2):
        checkpoints.save(update, {"dice": dice})
    with full_disk(), pytest.raises(ClbenchError, match=r"cannot write the checkpoint .*000003: File too large$"):
        checkpoints.save(3, {"dice": dice})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]
    assert checkpoints.resume({"dice": DiceState(Dice.seeded(2))}) == 2


def test_a_full_disk_leaves_no_part_of_a_mark(tmp_path, full_disk):
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    with full_disk(8), pytest.raises(ClbenchError, match=r"cannot write .*complete\.json: File too large$"):
        finish(tmp_path / "complete.json", "key", tmp_path / "a.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_recipe_and_a_damaged_file_are_refused(tmp_path):
    path = Checkpoints(tmp_path, "key").save(1, {"dice": DiceState(Dice.seeded(1))})
    with pytest.raises(ClbenchError, match="another recipe"):
        Checkpoints(tmp_path, "other").resume({})
    (path / "state.safetensors").write_bytes(b"x")
    with pytest.raises(ClbenchError, match="is damaged"):
        Checkpoints(tmp_path, "key").resume({})


def test_another_version_of_the_trainer_is_said(tmp_path, capsys, monkeypatch):
    Checkpoints(tmp_path, "key").save(1, {"dice": DiceState(Dice.seeded(1))})
    assert Checkpoints(tmp_path, "key").resume({"dice": DiceState(Dice.seeded(2))}) == 1
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("reference_trainer.checkpoint.trainer_code", lambda: "edited since")
    assert Checkpoints(tmp_path, "key").resume({"dice": DiceState(Dice.seeded(2))}) == 1
    assert "other code of the trainer" in " ".join(capsys.readouterr().err.split())


def test_completion_mark(tmp_path):
    adapter, mark = tmp_path / "a.safetensors", tmp_path / "complete.json"
    adapter.write_bytes(b"weights")
    assert not finished(mark, "key", adapter)
    finish(mark, "key", adapter, {"effect": "fx"})
    assert finished(mark, "key", adapter)
    with pytest.raises(ClbenchError, match="another recipe"):
        finished(mark, "other", adapter)
    adapter.write_bytes(b"changed")
    with pytest.raises(ClbenchError, match=r"a\.safetensors was changed since it was made; .* --fresh"):
        finished(mark, "key", adapter)
    assert adapter.read_bytes() == b"changed"
    adapter.unlink()
    assert not finished(mark, "key", adapter)


def test_log_drops_what_will_be_done_again(tmp_path):
    book = Logbook(tmp_path, tensorboard=False)
    for update in range(4):
        book.write(update, {"loss": update / 3})
    book.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"update": 4, "lo')  # a torn line
    Logbook(tmp_path, start=2, tensorboard=False).close()
    assert read_log(tmp_path / "log.jsonl") == [{"update": 0, "loss": 0.0}, {"update": 1, "loss": 0.333333}]


def test_tensorboard_files_are_written(tmp_path):
    book = Logbook(tmp_path)
    book.write(0, {"loss": 1.0})
    book.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"update": 0, "loss": 1.0}


@pytest.mark.parametrize("start", [0, 2])
def test_tensorboard_forgets_what_is_done_again(tmp_path, start):
    """A run of four updates, then one from `start` on that is killed after the next: no update of the first lies behind it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Logbook(tmp_path)
    for update in range(4):
        first.write(update, {"loss": 1.0})
    first.close()
    again = Logbook(tmp_path, start)
    again.write(start, {"loss": 2.0})
    again.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [*((step, 1.0) for step in range(start)), (start, 2.0)]


def test_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match="cannot write"):
        Checkpoints(tmp_path / "file" / "x", "key").save(1, {})
    with pytest.raises(ClbenchError, match="cannot write the log"):
        Logbook(tmp_path / "file" / "x", tensorboard=False)
