"""Teachers that rest on the CPU, and what is said where a device has no room for adapters."""

from __future__ import annotations

import pytest
import torch
from mini_training import changed
from pydantic import ValidationError
from safetensors.torch import load_file

from clbench.adapters import describe_adapter
from clbench.registry import ClbenchError
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.config import LoraTable
from reference_trainer.networks import Backbone
from reference_trainer.room import TRAINED_BYTES, file_numbers, require_adapter_room
from reference_trainer.train import Extend, run


@pytest.fixture
def on_a_card(monkeypatch):
    """A function: a backbone that says it is on a CUDA device with so many bytes free."""

    def call(backbone: Backbone, free: int) -> Backbone:
        backbone.device = torch.device("cuda:0")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
        return backbone

    return call


def test_every_byte_of_what_is_trained_and_of_what_rests_is_counted(make_backbone, lora_files, on_a_card):
    backbone, lora = make_backbone(), LoraTable(rank=3)
    backbone.add_new("fresh", 3, 3.0, "all", torch.Generator())
    trained = sum(p.numel() for p in backbone.parameters("fresh").values())
    file = lora_files["sepia"]
    resting = sum(t.numel() for t in load_file(file).values())
    assert file_numbers(describe_adapter(file)) == resting
    needed = 2 * trained * TRAINED_BYTES + 4 * trained + 2 * resting * 4  # float32 weights
    other = on_a_card(backbone, needed)
    require_adapter_room(other, "collection", [lora, lora], True, [file, file])
    on_a_card(other, needed - 1)
    with pytest.raises(ClbenchError, match=r"\[collection\] needs .* on cuda:0 .* for 2 teachers, .* teachers_on = \"cpu\""):
        require_adapter_room(other, "collection", [lora, lora], True, [file, file])
    with pytest.raises(ClbenchError, match=r"a smaller lora\.rank$"):
        require_adapter_room(on_a_card(other, 0), "joint", [lora])
    other.device = torch.device("cpu")
    require_adapter_room(other, "joint", [lora])


@pytest.mark.parametrize("stage", ["collection", "extension"])
def test_teachers_on_the_cpu_train_the_same_and_lie_there(shop_floor, monkeypatch, stage):
    world, recipe, out = shop_floor
    extend = effects = None
    if stage == "extension":
        (origin,) = run("collection", changed(recipe, "collection", updates=1), world, ["sepia"], out / "first")
        extend, effects = Extend(origin), ["upside_down"]
    asked = []
    add = Backbone.add_frozen
    monkeypatch.setattr(Backbone, "add_frozen", lambda self, *given: (asked.append(given[2]), add(self, *given)))
    made = []
    for where in ("device", "cpu"):
        sized = changed(recipe, stage, lora_forward="low-rank", teachers_on=where)
        made.append(load_file(run("collection", sized, world, effects, out / where, extend=extend)[0]))
    assert set(asked) == {None, "cpu"}
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_merged_weights_are_not_made_of_what_rests_elsewhere(make_backbone, lora_files):
    with pytest.raises(ValueError, match="low-rank"):
        make_backbone().add_frozen("teacher_0009", lora_files["sepia"], "cpu")


def test_merged_weights_of_teachers_on_the_cpu_are_refused():
    with pytest.raises(ValidationError, match='set lora_forward = "low-rank"'):
        CollectionConfig(teachers_on="cpu")
    assert CollectionConfig(teachers_on="cpu", lora_forward="low-rank").teachers_on == "cpu"
