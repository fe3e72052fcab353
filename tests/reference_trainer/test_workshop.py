"""A world opened for training: what is said before weights are moved to a device that has no room for them."""

from __future__ import annotations

import pytest
import torch

from clbench.registry import ClbenchError
from reference_trainer.workshop import Workshop, require_room


def test_too_little_free_memory_is_one_sentence(mini_world, monkeypatch):
    monkeypatch.setattr("reference_trainer.workshop.pick_device", lambda written: "cuda")
    monkeypatch.setattr("reference_trainer.workshop.weight_bytes", lambda module: 2_000_000_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7_500_000_000, 16_000_000_000))
    said = r"needs 8\.0 GB on cuda for the float32 weights .*transformer 2\.0 GB, .* encoders 6\.0 GB\), but 7\.5 GB are free"
    with pytest.raises(ClbenchError, match=said):
        Workshop(mini_world)


def test_free_memory_matters_where_weights_go(pipe, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000, 16_000_000_000))
    require_room(pipe, torch.device("cuda"), "mini")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 16_000_000_000))
    require_room(pipe, torch.device("cpu"), "mini")
