"""`clbench train --fresh` without --stage: what was there before passes for finished in none of its stages."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from mini_training import changed

from clbench import training
from clbench.lock import hold
from clbench.registry import ClbenchError, Stopped
from reference_trainer.checkpoint import forget
from reference_trainer.loop import telling
from reference_trainer.train import run


@pytest.fixture
def in_turn(shop_floor, monkeypatch):
    """A function: all stages in turn by a recipe, left by Ctrl-C when what is named in `stop` has so many updates."""
    world, _, out = shop_floor

    def call(recipe, resume=True, stop=None):
        def seen(progress):
            if (progress.what, progress.done) == stop:
                raise KeyboardInterrupt

        monkeypatch.setattr("reference_trainer.recipe.load_recipe", lambda name: recipe)
        monkeypatch.setattr(training, "_follow", lambda bar: seen)
        training.train(None, "mini", str(world.file), (), out, resume)
        return times(out)

    return call


def times(out) -> dict[str, int]:
    """When each adapter was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (*out.glob("*.safetensors"), *out.glob("teachers/*.safetensors"))}


@pytest.mark.parametrize("stop", [("teacher sepia", 3), ("teacher upside_down", 4), ("accelerator", 3)])
def test_stopped_and_continued_without_fresh_it_makes_every_stage_anew(shop_floor, in_turn, stop):
    """Though the recipe is the same, so that the old accelerator would pass for what it makes."""
    _, recipe, out = shop_floor
    old = in_turn(recipe)
    with pytest.raises(Stopped):
        in_turn(recipe, resume=False, stop=stop)
    assert times(out).keys() == old.keys() == {"sepia", "upside_down", "accelerator", "collection"}, "files stay until then"
    new = in_turn(recipe)
    assert [name for name in old if new[name] == old[name]] == []
    assert in_turn(recipe) == new, "now all of them are finished"


def test_continued_it_is_not_stopped_by_what_the_old_recipe_finished(shop_floor, in_turn):
    _, recipe, _ = shop_floor
    old = in_turn(recipe)
    other = changed(recipe, "accelerator", lr=1e-4)
    with pytest.raises(Stopped):
        in_turn(other, resume=False, stop=("teacher sepia", 3))
    assert in_turn(other)["accelerator"] != old["accelerator"]


def interrupt(*_, **__):
    raise KeyboardInterrupt


@contextmanager
def left_before_the_second(folder, resume=True):
    """`telling`, whose second use is left by Ctrl-C before anything is told in it."""
    if folder.name == "upside_down":
        raise KeyboardInterrupt
    yield


BETWEEN = {
    "two teachers": ("reference_trainer.train.telling", left_before_the_second, {"sepia"}),
    "teachers and accelerator": ("clbench.training.show", interrupt, {"sepia", "upside_down"}),
    "accelerator and collection": ("reference_trainer.train.with_triggers", interrupt, {"sepia", "upside_down", "accelerator"}),
}


@pytest.mark.parametrize("where", BETWEEN)
def test_stopped_between_trainings_it_does_not_throw_away_finished_ones(shop_floor, in_turn, monkeypatch, where):
    """Stopped is what the terminal answers with the command without --fresh (`test_loop`)."""
    _, recipe, _ = shop_floor
    old = in_turn(recipe)
    name, stopping, finished = BETWEEN[where]
    with monkeypatch.context() as patched:
        patched.setattr(name, stopping)
        with pytest.raises(Stopped, match="what is finished is kept; the last step was of '"):
            in_turn(recipe, resume=False)
    left = times(shop_floor[2])
    assert {name for name in old if left[name] != old[name]} == finished
    new = in_turn(recipe)
    assert {name for name in old if new[name] == left[name]} == finished and all(new[name] != old[name] for name in old)


@pytest.mark.parametrize("where", ["reference_trainer.train._check_pairs", "reference_trainer.train._begin_anew"])
def test_stopped_before_it_has_begun_it_is_repeated_as_it_is(shop_floor, in_turn, monkeypatch, where):
    """Without --fresh nothing, or not all, would be made anew."""
    _, recipe, _ = shop_floor
    old = in_turn(recipe)
    with monkeypatch.context() as patched:
        patched.setattr(where, interrupt)
        with pytest.raises(KeyboardInterrupt) as raised:
            in_turn(recipe, resume=False)
    assert not isinstance(raised.value, Stopped)
    assert in_turn(recipe) == old


def test_of_what_was_being_forgotten_nothing_passes_for_whole(tmp_path, monkeypatch):
    """Removing checkpoints of real size takes seconds, in which a training can be stopped, and `telling` says it has begun."""
    marks = [tmp_path / name for name in ("complete.json", *(f"checkpoints/{n:06d}/complete.json" for n in (2, 4)))]
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    monkeypatch.setattr("reference_trainer.checkpoint.shutil.rmtree", interrupt)
    with pytest.raises(Stopped, match="no update is kept"), telling(tmp_path, resume=False):
        forget(tmp_path)
    assert not any(mark.is_file() for mark in marks)


def test_where_it_cannot_begin_everything_stays_finished(shop_floor, in_turn):
    _, recipe, out = shop_floor
    old = in_turn(recipe)
    with pytest.raises(ClbenchError, match=r"nowhere"):
        in_turn(changed(recipe, "teachers", folder=str(out / "nowhere")), resume=False)
    with hold(out / "collection"), pytest.raises(ClbenchError, match=r"collection is in use by"):
        in_turn(recipe, resume=False)
    assert in_turn(recipe) == old


def test_stages_are_begun_anew_with_the_teachers_alone(shop_floor):
    world, recipe, out = shop_floor
    with pytest.raises(ClbenchError, match="begun anew with stage 'teachers', not with 'joint'"):
        run("joint", recipe, world, None, out, resume=False, then=["collection"])
