"""Stored teacher outputs: on disk they are whole or absent."""

from __future__ import annotations

import pytest
import torch

from clbench.registry import ClbenchError
from reference_trainer.targets import TargetStore


@pytest.fixture
def make(make_backbone, space, cache, tmp_path):
    """A function: the outputs of the plain base for `count` sources in batches of two, stored in `folder`."""
    backbone = make_backbone()
    source = torch.randn(5, *space.shape, generator=torch.Generator().manual_seed(3))
    prompts = cache.many([f"turn it {word}" for word in ("blue", "red", "round", "upside down", "grey")])

    def made(folder, stop=None):
        """Killed after `stop` outputs were reported, if that is given."""
        store = TargetStore(tmp_path / folder, backbone, torch.tensor([1.0, 0.5]), 2.0, cache.many([""]))
        counts, done = store.get(["base"], None, source, prompts, 7, batch=2), []
        while stop is None or sum(done) < stop:
            try:
                done.append(next(counts))
            except StopIteration as end:
                return done, end.value
        return done, None

    return made


def test_a_full_disk_is_one_sentence(make, tmp_path, full_disk):
    with full_disk(), pytest.raises(ClbenchError, match=r"cannot write stored targets .*\.safetensors: File too large$"):
        make("full")
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]
    assert make("full")[1].shape[0] == 5
