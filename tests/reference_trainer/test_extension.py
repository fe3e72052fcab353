"""Extension: training goes on from a finished adapter, old effects are replayed or not, and the header says which are which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mini_training import changed, interrupted
from safetensors import safe_open
from safetensors.torch import load_file

from clbench.adapter_prompts import own_triggers
from clbench.adapters import describe_adapter
from clbench.hashing import file_digest
from clbench.registry import ClbenchError
from clbench.world import World
from reference_trainer.config import LoraTable
from reference_trainer.extension import budget
from reference_trainer.logs import read_log
from reference_trainer.recipe import load_recipe
from reference_trainer.starts import require_size, tell_short_average
from reference_trainer.train import Extend, run

NEW = ["upside_down"]


def start(world, recipe, out):
    """A collection of one effect, to be extended."""
    (path,) = run("collection", recipe, world, ["sepia"], out / "start")
    return Extend(path)


def header(path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_it_starts_where_the_adapter_ended(shop_floor):
    world, recipe, out = shop_floor
    extend = start(world, recipe, out)
    still = changed(recipe, "extension", lr=1e-9, ema=0.0)
    (path,) = run("collection", still, world, NEW, out, extend=extend)
    before, after = load_file(extend.adapter), load_file(path)
    assert path.name == "extension.safetensors" and before.keys() == after.keys()
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert any(float(before[key].abs().max()) > 1e-4 for key in before if "lora_B" in key)


def test_killed_and_resumed_it_ends_with_the_same_weights_and_names_old_and_new(shop_floor):
    world, recipe, out = shop_floor
    extend = start(world, recipe, out)
    (whole,) = run("collection", recipe, world, NEW, out / "whole", extend=extend)
    interrupted("collection", recipe, world, out / "killed", 3, NEW, extend)
    (resumed,) = run("collection", recipe, world, NEW, out / "killed", extend=extend)
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)
    facts = header(whole)
    assert facts["clbench.stage"] == "extension" and facts["clbench.effects"] == "sepia upside_down"
    assert (facts["clbench.old_effects"], facts["clbench.new_effects"]) == ("sepia", "upside_down")
    assert facts["clbench.extends"] == file_digest(extend.adapter)
    assert [p.name for p in sorted((whole.with_suffix("") / "sheets").iterdir())] == ["000000.png", "000004.png"]
    made = whole.stat().st_mtime_ns
    run("collection", recipe, world, NEW, out / "whole", extend=extend)
    assert whole.stat().st_mtime_ns == made
    with pytest.raises(ClbenchError, match="made by another recipe"):
        run("collection", changed(recipe, "extension", replay=0.25), world, NEW, out / "whole", extend=extend)


def test_the_budget_counts_for_each_new_effect(shop_floor):
    world, recipe, out = shop_floor
    (single,) = run("collection", changed(recipe, "collection", updates=1, warm_start=0), world, ["sepia"], out / "start")
    bare = changed(recipe, "extension", replay=0.0, updates=1, warm_start=1, general_sources=0, p_switch=1.0)
    unnamed = out / "start" / "unnamed.safetensors"
    save_unnamed(single, unnamed)
    (path,) = run("collection", bare, world, ["upside_down", "sepia"], out, extend=Extend(unnamed))
    assert [line["update"] for line in read_log(path.with_suffix("") / "log.jsonl")] == [0, 1]


def save_unnamed(path, copy):
    """The same adapter without a word about its effects."""
    from clbench.adapter_writing import save_adapter
    from clbench.adapters import load_tensors

    info = describe_adapter(path)
    save_adapter(copy, load_tensors(info), info.metadata)


def test_without_replay_no_old_teacher_is_needed(shop_floor):
    world, recipe, out = shop_floor
    extend = start(world, recipe, out)
    (world.root / "teachers" / "sepia.safetensors").unlink()
    with pytest.raises(ClbenchError, match="'sepia' has no teacher"):
        run("collection", recipe, world, NEW, out, extend=extend)
    run("collection", changed(recipe, "extension", replay=0.0, updates=1), world, NEW, out, extend=extend)


@pytest.mark.parametrize(
    ("effects", "old", "settings", "message"),
    [
        (NEW, None, {}, "does not say which effects it knows: name them by --old"),
        (NEW, ["sepai"], {}, "Did you mean 'sepia'"),
        (["sepia"], ["sepia"], {}, "'sepia' is in .* already"),
        (None, ["sepia"], {}, "no effect of pool 'extension' has a teacher"),
        (NEW, ["sepia"], {}, r"other modules than \[extension\] lora.modules = 'all'"),
        (NEW, ["sepia"], {"lora": LoraTable(rank=8, alpha=8)}, r"has rank 4, but \[extension\] lora.rank is 8"),
        (NEW, ["sepia"], {"lora": LoraTable(rank=4)}, r"has alpha 8, but \[extension\] lora.alpha is 4"),
    ],
)
def test_mistakes_are_one_sentence(shop_floor, effects, old, settings, message):
    """The world's random collection: rank 4, alpha 8, queries, keys and values alone, no word about its effects."""
    world, recipe, out = shop_floor
    extend = Extend(world.root / "collection.safetensors", old)
    with pytest.raises(ClbenchError, match=message):
        run("collection", changed(recipe, "extension", **settings), world, effects, out, extend=extend)


def test_what_the_header_says_is_believed(shop_floor):
    world, recipe, out = shop_floor
    path = world.root / "named.safetensors"
    info = describe_adapter(world.root / "collection.safetensors")
    from clbench.adapter_writing import save_adapter
    from clbench.adapters import load_tensors

    says = {"clbench.effects": "sepia", "clbench.steps": "2", "clbench.shift": "3.0"}
    save_adapter(path, load_tensors(info), info.metadata, says)
    with pytest.raises(ClbenchError, match=r"was trained with steps = 2, but \[extension\] has steps = 4"):
        run("collection", changed(recipe, "extension", steps=4), world, NEW, out, extend=Extend(path))
    other = World(world.file, world.table.model_copy(update={"backbone": world.backbone.model_copy(update={"shift": 2.0})}))
    with pytest.raises(ClbenchError, match=r"was trained with shift = 3\.0, but \[extension\] has shift = 2\.0"):
        run("collection", changed(recipe, "extension", shift=2.0), other, NEW, out, extend=Extend(path))
    with pytest.raises(ClbenchError, match=r"\[extension\] shift of the recipe is 3, but .* samples with shift 2"):
        run("collection", recipe, other, NEW, out, extend=Extend(path))
    save_adapter(path, load_tensors(info), info.metadata, says | {"clbench.effects": "glow"})
    with pytest.raises(ClbenchError, match=rf"{path} knows 'glow', which {world.file} does not define: add it to \[effects\]"):
        run("collection", recipe, world, NEW, out, extend=Extend(path))
    save_adapter(path, load_tensors(info), info.metadata, says | {"clbench.wordings": "now {}"})
    with pytest.raises(ClbenchError, match=rf"{path}: clbench.wordings in the header is not a JSON list .* but 'now {{}}'"):
        run("collection", recipe, world, NEW, out, extend=Extend(path))
    save_adapter(path, load_tensors(info), info.metadata, says | {"clbench.prompt": "caption"})
    with pytest.raises(ClbenchError, match="was trained on sepia, not on upside_down"):
        run("collection", recipe, world, NEW, out, extend=Extend(path, NEW))
    with pytest.raises(ClbenchError, match="trained with prompt = 'caption'"):
        run("collection", recipe, world, NEW, out, extend=Extend(path))
    with pytest.raises(ClbenchError, match="by stage 'collection', not by 'joint'"):
        run("joint", recipe, world, NEW, out, extend=Extend(path))
    with pytest.raises(ClbenchError, match="overwritten by its own extension"):
        run("collection", recipe, world, NEW, out, extend=Extend(out / "extension.safetensors"))
    modules = list(info.shapes)
    require_size(info, LoraTable(rank=4, alpha=8), modules, "extension")
    with pytest.raises(ClbenchError, match="rank-stabilised"):
        require_size(replace(info, rslora=True), LoraTable(rank=4, alpha=8), modules, "extension")


def test_wordings_that_the_adapter_was_trained_in_are_not_lost(shop_floor):
    world, recipe, out = shop_floor
    forms = ("{}", "now {}")
    (first,) = run("collection", changed(recipe, "collection", wordings=forms, updates=1), world, ["sepia"], out / "start")
    assert header(first)["clbench.wordings"] == '["{}", "now {}"]'
    with pytest.raises(ClbenchError, match=r"was trained in the wordings .*now \{\}.* but \[extension\] wordings"):
        run("collection", recipe, world, NEW, out, extend=Extend(first))
    in_all = changed(recipe, "extension", wordings=forms, updates=1)
    (second,) = run("collection", in_all, world, NEW, out, extend=Extend(first))
    assert header(second)["clbench.wordings"] == header(first)["clbench.wordings"]
    with pytest.raises(ClbenchError, match=r"was trained in the wordings \['\{\}'\], but .*now \{\}"):
        run("collection", in_all, world, NEW, out, extend=Extend(world.root / "collection.safetensors", ["sepia"]))
    words = load_recipe("tiny-words")
    assert words.extension.wordings == words.collection.wordings != ["{}"]


def test_chosen_triggers_stand_in_the_header_and_an_extension_keeps_them(shop_floor):
    world, recipe, out = shop_floor
    (first,) = run("collection", changed(recipe, "collection", triggers="chosen", updates=1), world, ["sepia"], out / "start")
    chosen = own_triggers(describe_adapter(first))
    assert set(chosen) == {"sepia"} and chosen["sepia"] != world.effect("sepia").trigger
    (second,) = run("collection", changed(recipe, "extension", updates=1), world, NEW, out, extend=Extend(first))
    assert own_triggers(describe_adapter(second)) == chosen | {"upside_down": world.effect("upside_down").trigger}


@pytest.mark.parametrize(("new", "told"), [(1, "67 % of the exported average"), (2, "45 % of the exported average"), (10, "")])
def test_an_average_longer_than_distillation_is_told(new, told, capsys):
    """Of one new effect the shipped recipe has 20 updates of distillation, of whose end the average holds a third."""
    tell_short_average(budget(load_recipe("tiny").extension, new), "extension")
    said = " ".join(capsys.readouterr().err.split())
    assert told in said and bool(said) == bool(told)
