"""Whose teachers a training uses, which of them it needs, and that they were taught what they are asked for."""

from __future__ import annotations

import pytest
from mini_training import changed

from clbench.registry import ClbenchError
from clbench.world import World
from reference_trainer.choice import teacher_files
from reference_trainer.train import Extend, run


def weighted(world, **weights) -> World:
    teachers = world.table.teachers.model_copy(update={"weights": weights})
    return World(world.file, world.table.model_copy(update={"teachers": teachers}))


def test_teachers_of_an_earlier_stage_are_said_where_the_world_has_others(shop_floor, capsys):
    world, recipe, out = shop_floor
    short = changed(recipe, "collection", updates=1, warm_start=0)
    run("collection", short, world, None, out / "worlds")
    assert "not the world's" not in capsys.readouterr().err
    run("teachers", recipe, world, ["sepia"], out)
    run("collection", short, world, None, out)
    said = " ".join(capsys.readouterr().err.split())
    assert "of 1 effects (sepia) the teachers are those in" in said and "not the world's" in said


def test_weights_stop_no_training_that_uses_no_such_teacher(shop_floor, capsys):
    world, recipe, out = shop_floor
    other = weighted(world, sepia=0.5)
    run("joint", recipe, other, None, out)
    (start,) = run("collection", changed(recipe, "collection", updates=1, warm_start=0), world, ["sepia"], out / "start")
    short = changed(recipe, "extension", updates=1, warm_start=0)
    with pytest.raises(ClbenchError, match=r"gives the teacher of 'sepia' the weight 0\.5"):
        run("collection", short, other, ["upside_down"], out, extend=Extend(start))
    run("collection", changed(short, "extension", replay=0.0), other, ["upside_down"], out, extend=Extend(start))
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of the old effects have no gauge, the first because" in said and "the weight 0.5" in said


def test_a_killed_fresh_stage_of_teachers_leaves_none_that_a_collection_takes(shop_floor):
    """The second effect was not reached: its file is that of the training before. Finished, both are taken."""
    world, recipe, out = shop_floor
    other, short = changed(recipe, "teachers", lr=1e-4), changed(recipe, "collection", updates=1, warm_start=0)
    run("teachers", recipe, world, None, out)

    def stop(progress):
        if progress.what == "teacher sepia" and progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("teachers", other, world, None, out, resume=False, report=stop)
    said = r"sepia\.safetensors is no finished teacher: its training in .*sepia has begun .* `clbench train .* --effects sepia`"
    with pytest.raises(ClbenchError, match=said):
        run("collection", short, world, None, out)
    run("teachers", other, world, ["sepia"], out)
    with pytest.raises(ClbenchError, match=r"upside_down\.safetensors is no finished teacher"):
        run("collection", short, world, None, out)
    run("collection", short, world, ["sepia"], out)
    run("teachers", other, world, None, out)
    run("collection", short, world, None, out, resume=False)


def test_a_teacher_that_somebody_put_there_is_taken(shop_floor):
    world, recipe, out = shop_floor
    made, *_ = run("teachers", recipe, world, None, out)
    home = out / "by-hand"
    home.mkdir()
    (home / "sepia.safetensors").write_bytes(made.read_bytes())
    assert teacher_files(world, [world.effect("sepia")], home) == {"sepia": home / "sepia.safetensors"}
    made.write_bytes(world.teacher_path("sepia").read_bytes())
    with pytest.raises(ClbenchError, match=r"sepia\.safetensors is not the file that its training in .*sepia ended with"):
        teacher_files(world, [world.effect("sepia")], made.parent)
    made.unlink()
    assert teacher_files(world, [world.effect("sepia")], made.parent) == {"sepia": world.teacher_path("sepia")}
