"""When checkpoints are written, and what Ctrl-C says of them."""

from __future__ import annotations

import sys

import pytest
import typer
from mini_training import changed
from safetensors.torch import load_file

from clbench.console import told
from clbench.registry import Stopped
from reference_trainer.checkpoint import DiceState
from reference_trainer.config import HabitsTable
from reference_trainer.dice import Dice
from reference_trainer.loop import Job, kept, telling, train
from reference_trainer.objective import Objective
from reference_trainer.train import run


def trained(folder, updates: int, seconds: float, **habits) -> list[int]:
    """The checkpoints of a training of which each update takes so many seconds by the clock."""
    now = [1000.0]

    def step(update: int) -> dict[str, float]:
        now[0] += seconds
        return {"loss": 1.0}

    job = Job(step, lambda update: None, {"dice": DiceState(Dice.seeded(1))}, updates)
    table = HabitsTable(keep=1000, sheet_every=1000, tensorboard=False, **habits)
    for _ in train(job, folder, "key", table, clock=lambda: now[0]):
        pass
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("seconds", "habits", "wanted"),
    [
        (1, {}, [100, 130]),
        (180, {}, [*range(7, 100, 7), 100, *range(107, 130, 7), 130]),  # the minutes count from the last one, whatever wrote it
        (7200, {"checkpoint_every": 4}, [*range(1, 131)]),
        (60, {"checkpoint_every": 50, "checkpoint_minutes": 45}, [45, 50, 95, 100, 130]),
        (7200, {"checkpoint_every": 50, "checkpoint_minutes": float("inf")}, [50, 100, 130]),
    ],
)
def test_a_checkpoint_is_written_when_the_minutes_are_over(tmp_path, seconds, habits, wanted):
    assert trained(tmp_path, 130, seconds, **habits) == wanted


def test_when_checkpoints_are_written_changes_no_training(shop_floor):
    world, recipe, out = shop_floor
    files = []
    for name, minutes in (("seldom", 1e6), ("often", 1e-9)):
        habits = recipe.accelerator.habits.model_copy(update={"checkpoint_every": 100, "checkpoint_minutes": minutes, "keep": 9})
        often = changed(recipe, "accelerator", habits=habits)
        files.append(run("accelerator", often, world, None, out / name)[0])
    assert [path.name for path in sorted((out / "often/accelerator/checkpoints").iterdir())] == [f"{n:06d}" for n in (1, 2, 3, 4)]
    assert [path.name for path in (out / "seldom/accelerator/checkpoints").iterdir()] == ["000004"]
    first, second = map(load_file, files)
    assert all(first[key].equal(second[key]) for key in first)
    run("accelerator", recipe, world, None, out / "often")  # is known as finished: else another key would be refused


def interrupt(monkeypatch, update: int) -> None:
    """Ctrl-C in the middle of the student's update of that number."""
    real, left = Objective.student_pieces, [update]

    def pieces(self, batch, trajectory):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, batch, trajectory)

    monkeypatch.setattr(Objective, "student_pieces", pieces)


@pytest.mark.parametrize(
    ("update", "said"),
    [(1, "no update is kept, since no checkpoint was written yet"), (3, "is kept up to update 2, where its last checkpoint was")],
)
def test_ctrl_c_says_which_updates_are_kept(shop_floor, monkeypatch, update, said):
    world, recipe, out = shop_floor
    with monkeypatch.context() as patched:
        interrupt(patched, update)
        with pytest.raises(Stopped, match=rf"the training in .*accelerator .*{said}"):
            run("accelerator", recipe, world, None, out)
    run("accelerator", recipe, world, None, out)
    assert kept(out / "accelerator") == f"the training in {out / 'accelerator'} is finished"


def test_ctrl_c_of_a_teacher_names_its_own_training(shop_floor):
    world, recipe, out = shop_floor

    def stop(progress):
        if progress.what == "teacher upside_down" and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match=r"the training in .*work.upside_down is kept up to update 2"):
        run("teachers", recipe, world, None, out, report=stop)


def test_a_fresh_training_that_has_not_begun_says_nothing_of_the_one_that_lies_there(tmp_path):
    trained(tmp_path, 2, 1)
    with pytest.raises(KeyboardInterrupt) as raised, telling(tmp_path, resume=False):
        raise KeyboardInterrupt
    assert not isinstance(raised.value, Stopped)
    with pytest.raises(Stopped, match="up to update 3"), telling(tmp_path, resume=False):
        trained(tmp_path, 3, 1)
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("typed", "interruption", "said"),
    [
        ([], KeyboardInterrupt(), "Stopped; what is done is kept. The same command goes on from here: clbench train"),
        ([], Stopped("half is kept"), "Stopped; half is kept. The same command goes on: clbench train"),
        (["--fresh", "-o", "x"], Stopped("half is kept"), "The same command without --fresh goes on: clbench train -o x"),
        (["--fresh"], KeyboardInterrupt(), "The same command goes on from here: clbench train --fresh"),
    ],
)
def test_the_terminal_says_it_too(monkeypatch, capsys, typed, interruption, said):
    monkeypatch.setattr(sys, "argv", ["clbench", "train", *typed])

    @told
    def command():
        raise interruption

    with pytest.raises(typer.Exit) as left:
        command()
    words = " ".join(capsys.readouterr().err.split())
    assert left.value.exit_code == 130 and words.endswith(said.split("; ")[-1]) and said in words
