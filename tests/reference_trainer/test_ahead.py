"""A mistake of a later stage is said before the first update of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pytest
from mini_training import changed

from clbench import training
from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.registry import ClbenchError
from reference_trainer import train
from reference_trainer.config import LoraTable


@pytest.fixture
def in_turn(shop_floor, monkeypatch):
    """A function: `clbench train` without --stage by a recipe, of which nothing may be trained."""
    world, _, out = shop_floor

    def call(recipe):
        monkeypatch.setattr("reference_trainer.recipe.load_recipe", lambda name: recipe)
        monkeypatch.setattr(train, "run", lambda *given: pytest.fail("a stage was started"))
        training.train(None, "mini", str(world.file), (), out, True)

    return call


def own(world, path, **says):
    """The world's random collection (rank 4, alpha 8, three modules of each block) with other words in its header."""
    info = describe_adapter(world.root / "collection.safetensors")
    header = {f"clbench.{key}": value for key, value in says.items()}
    save_adapter(path, load_tensors(info), info.metadata, header)
    return str(path)


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("accelerator", {"shift": 2.0}, r"\[accelerator\] shift of the recipe is 2"),
        ("collection", {"shift": 2.0}, r"\[collection\] shift of the recipe is 2"),
        ("accelerator", {"pictures": None}, r"no scenes to distil on: .* in \[accelerator\] of the recipe"),
        ("collection", {"pictures": None}, r"no scenes to distil on: .* in \[collection\] of the recipe"),
        ("collection", {"pictures": "nowhere"}, r"folder of pictures not found: .+nowhere"),
        ("collection", {"warm_start_from": "nowhere.safetensors"}, "neither base, merged nor an adapter's file"),
        ("collection", {"warm_start_from": "merged", "lora": LoraTable(rank=4, modules="attention")}, "make them equal"),
        ("collection", {"warm_start_from": "merged", "lora": LoraTable(rank=4000)}, "at most"),
    ],
)
def test_a_mistake_of_a_later_stage_is_said_before_the_first(shop_floor, in_turn, stage, settings, message):
    with pytest.raises(ClbenchError, match=message):
        in_turn(changed(shop_floor[1], stage, **settings))


def test_without_a_mistake_it_starts(shop_floor, in_turn):
    with pytest.raises(pytest.fail.Exception, match="a stage was started"):
        in_turn(shop_floor[1])


@pytest.mark.parametrize(
    ("says", "settings", "message"),
    [
        ({"prompt": "caption"}, {}, "trained with prompt = 'caption'"),
        ({"steps": "3"}, {}, "trained with steps = 3"),
        ({"shift": "2.0"}, {}, "trained with shift = 2.0"),
        ({}, {"lora": LoraTable(rank=8)}, "has rank 4"),
        ({}, {"lora": LoraTable(rank=4)}, "has alpha 8"),
        ({}, {}, "has other modules"),
    ],
)
def test_a_start_that_does_not_fit_is_said_before_the_first_stage(shop_floor, in_turn, tmp_path, says, settings, message):
    world, recipe, _ = shop_floor
    path = own(world, tmp_path / "start.safetensors", **says)
    with pytest.raises(ClbenchError, match=message):
        in_turn(changed(recipe, "collection", warm_start_from=path, **settings))


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize(
    ("lora", "message"), [(LoraTable(rank=8), "has rank 4"), (LoraTable(rank=4), "has alpha 8"), (None, "has other modules")]
)
def test_a_stage_by_itself_says_so_before_the_backbone_is_opened(
    shop_floor, tmp_path, monkeypatch, extended, lora, message
):  # fmt: skip
    world, recipe, out = shop_floor
    path = own(world, tmp_path / "start.safetensors", effects="upside_down")
    sized = {} if lora is None else {"lora": lora}
    monkeypatch.setattr(train, "Workshop", lambda *given: pytest.fail("the backbone was opened"))
    with pytest.raises(ClbenchError, match=message):
        if extended:
            train.run("collection", changed(recipe, "extension", **sized), world, ["sepia"], out, extend=train.Extend(Path(path)))
        else:
            train.run("collection", changed(recipe, "collection", warm_start_from=path, **sized), world, ["sepia"], out)


def test_an_accelerator_that_is_still_to_be_made_can_be_the_start(shop_floor, in_turn):
    _, recipe, out = shop_floor
    with pytest.raises(pytest.fail.Exception, match="a stage was started"):
        in_turn(changed(recipe, "collection", warm_start_from=str(out / "accelerator.safetensors")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 3}, r"\[collection\] steps = 2, but .* \[accelerator\] has steps = 3: make them equal"),
        ({"lora": LoraTable(rank=2, alpha=8)}, "lora.rank = 4, but .* has lora.rank = 2"),
        ({"lora": LoraTable(rank=4)}, r"lora.alpha = 8.*, but .* has lora.alpha = 4"),
        ({"lora": LoraTable(rank=4, alpha=8, modules="attention")}, "lora.modules = 'all', but .* has .* 'attention'"),
    ],
)
def test_an_accelerator_that_cannot_be_the_start_is_said_before_it_is_made(shop_floor, in_turn, settings, message):
    _, recipe, out = shop_floor
    starts = changed(recipe, "collection", warm_start_from=str(out / "accelerator.safetensors"))
    with pytest.raises(ClbenchError, match=message):
        in_turn(changed(starts, "accelerator", **settings))


@pytest.mark.parametrize("bad", ["empty", "truncated"])
def test_pictures_that_cannot_be_read_are_said_before_the_first_stage(shop_floor, in_turn, tmp_path, bad):
    folder = tmp_path / "bad"
    folder.mkdir()
    if bad == "truncated":
        (folder / "p.png").write_bytes(next((tmp_path / "distil").iterdir()).read_bytes()[:200])
    with pytest.raises(ClbenchError, match="holds no picture" if bad == "empty" else "cannot read the picture"):
        in_turn(changed(shop_floor[1], "accelerator", pictures=str(folder)))
