"""`clbench train --fresh` without --stage: what was there before passes for finished in none of its stages."""

from __future__ import annotations

import pytest
from mini_training import changed

from clbench import training
from clbench.lock import hold
from clbench.registry import ClbenchError, Stopped
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
