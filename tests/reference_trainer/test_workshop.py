"""A world opened for training: its full-step times, and what is said where a device has no room for the weights."""

from __future__ import annotations

import pytest
import torch

from clbench.registry import ClbenchError
from clbench.world import World, load_world
from reference_trainer.room import require_pipeline_room
from reference_trainer.workshop import Workshop


def test_too_little_free_memory_is_one_sentence(mini_world, monkeypatch):
    monkeypatch.setattr("reference_trainer.workshop.pick_device", lambda written: "cuda")
    monkeypatch.setattr("reference_trainer.room.weight_bytes", lambda module: 2_000_000_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7_500_000_000, 16_000_000_000))
    said = r"needs 8\.0 GB on cuda for the float32 weights .*transformer 2\.0 GB, .* encoders 6\.0 GB\), but 7\.5 GB are free"
    with pytest.raises(ClbenchError, match=said):
        Workshop(mini_world)


def test_free_memory_matters_where_weights_go(pipe, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000, 16_000_000_000))
    require_pipeline_room(pipe, torch.device("cuda"), "mini")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 16_000_000_000))
    require_pipeline_room(pipe, torch.device("cpu"), "mini")


def test_the_shift_of_full_steps_counts_where_the_base_names_none(mini_world):
    """A scheduler_config.json that leaves the key out; the systems sample so too (`clbench.backbones.common`)."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    backbone = mini_world.table.backbone.model_copy(update={"full_shift": 3.0})
    shop = Workshop(World(mini_world.file, mini_world.table.model_copy(update={"backbone": backbone})))
    shop.pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    t = torch.linspace(1, 1 / 4, 4)
    torch.testing.assert_close(shop.full_sigmas(4), 3 * t / (1 + 2 * t))


def test_times_of_the_tiny_world_stay():
    """Stored outputs are known by them, so other times would be other trainings."""
    shop = Workshop(load_world("tiny"))
    assert [round(float(time), 6) for time in shop.full_sigmas(4)] == [1.0, 0.9, 0.75, 0.5]
