"""A file to start from that its own training has not ended with is refused before the backbone is opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mini_training import changed

from clbench.lock import hold
from clbench.registry import ClbenchError
from reference_trainer import train
from reference_trainer.checkpoint import forget
from reference_trainer.stale import require_finished
from reference_trainer.train import Extend, run

ELSEWHERE = Path("elsewhere") / "collection.safetensors"


class Opened(Exception):
    """Nothing was refused before the backbone."""


@pytest.fixture
def tried(shop_floor, monkeypatch):
    """A function: both ways to start from a file, up to the opening of the backbone; the sentence of both, "" for none."""
    world, recipe, out = shop_floor

    def opened(*given):
        raise Opened

    def call(start, own=out / "own"):
        told = set()
        ways = [
            (changed(recipe, "collection", warm_start_from=str(start)), "sepia", None), (recipe, "upside_down", Extend(start)),
        ]  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(train, "Workshop", opened)
            for changes, effect, extend in ways:
                try:
                    run("collection", changes, world, [effect], own, extend=extend)
                except Opened:
                    told.add("")
                except ClbenchError as error:
                    told.add(str(error))
        (sentence,) = told
        return sentence

    return call


def test_the_file_of_the_training_before_is_no_start_while_a_new_one_is_under_way(shop_floor, tried):
    world, recipe, out = shop_floor
    (start,) = run("collection", recipe, world, ["sepia"], out)
    work = start.with_suffix("")
    assert tried(start) == ""

    def stop(progress):
        if progress.what == "collection" and progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("collection", recipe, world, ["sepia"], out, resume=False, report=stop)
    said = f"{start} is not the result of its training, which has not ended: the training in {work} is kept up to update 2"
    assert tried(start).startswith(said) and "finish it by its own command without --fresh, or start from a copy" in tried(start)
    with hold(work):
        assert tried(start).startswith(f"{start} may be replaced by process ") and "wait until it has ended" in tried(start)
    copy = out / "copy.safetensors"
    shutil.copy(start, copy)
    assert tried(copy) == ""
    (link := out / "link.safetensors").symlink_to(start)
    assert "which has not ended" in tried(link)
    run("collection", recipe, world, ["sepia"], out)
    assert tried(start) == ""
    start.write_bytes(copy.read_bytes() + b" ")
    assert f"is not the file that its training in {work} ended with" in _mistake(start)
    forget(work)
    assert "of the training in" in _mistake(start) and "no update is kept" in _mistake(start)


def _mistake(start: Path, made: Path = ELSEWHERE) -> str:
    with pytest.raises(ClbenchError) as raised:
        require_finished(start, made)
    return str(raised.value)


def _put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize("name", ["accelerator", "collection", "extension", "joint", "teachers/sepia"])
def test_every_stage_has_its_folder(tmp_path, name):
    """Nothing is made of one that a refused command left, with its lock alone."""
    start = _put(tmp_path / f"{name}.safetensors")
    work = start.parent / "work" / start.stem if "/" in name else start.with_suffix("")
    with hold(work):
        assert "may be replaced by process" in _mistake(start)
    require_finished(start, ELSEWHERE)
    _put(work / "log.jsonl")
    assert "has not ended" in _mistake(start)


def test_a_folder_beside_a_file_of_another_name_is_nobodys(tmp_path):
    start = _put(tmp_path / "mine.safetensors")
    _put(tmp_path / "mine" / "log.jsonl")
    _put(tmp_path / "work" / "mine" / "log.jsonl")
    require_finished(start, ELSEWHERE)


def test_a_warm_start_is_one_from_its_first_checkpoint_on(shop_floor):
    """Its training need not have ended; of a --fresh one that has not come so far it would be the warm start before."""
    world, recipe, out = shop_floor
    habits = recipe.collection.habits.model_copy(update={"keep_warm_start": True})
    run("collection", changed(recipe, "collection", warm_start=3, habits=habits), world, ["sepia"], out)
    warm, work = out / "collection" / "collection-warm.safetensors", out / "collection"
    require_finished(warm, ELSEWHERE)
    (work / "complete.json").unlink()
    require_finished(warm, ELSEWHERE)
    shutil.rmtree(work / "checkpoints" / "000004")
    assert f"the training in {work} is kept up to update 2" in _mistake(warm)
    forget(work)
    assert "no update is kept" in _mistake(warm)
    assert "lies in the folder of the training that starts from it" in _mistake(warm, out / "collection.safetensors")
    alone = out / "alone" / "collection" / warm.name
    shutil.copy(warm, _put(alone))
    require_finished(alone, ELSEWHERE)


def test_a_start_that_is_changed_while_outputs_are_made_is_refused(shop_floor):
    world, recipe, out = shop_floor
    (start,) = run("collection", recipe, world, ["sepia"], out / "first")
    (other,) = run("collection", changed(recipe, "collection", lr=1e-3), world, ["sepia"], out / "other")
    again = changed(recipe, "collection", warm_start_from=str(start))

    def change(progress):
        shutil.copy(other, start)

    with pytest.raises(ClbenchError, match="was changed while outputs were made"):
        run("collection", again, world, ["sepia"], out / "second", report=change)
