"""Latents: how many pictures go through the autoencoder at once, and that this changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_trainer.latents import LatentSpace


@pytest.mark.parametrize(("size", "batch"), [(32, 32), (64, 32), (128, 8), (256, 2), (512, 1), (1024, 1)])
def test_a_pass_is_bounded_by_pixels(pipe, size, batch):
    assert LatentSpace(pipe, size).batch == batch


def test_pictures_in_several_passes_are_the_same(space, monkeypatch):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    latents = space.encode(pictures)
    decoded, sizes = space.decode(latents), []
    for name in ("_encode", "_decode"):
        made = getattr(space, name)
        monkeypatch.setattr(space, name, lambda part, made=made: (sizes.append(len(part)), made(part))[1])
    space.batch = 2
    torch.testing.assert_close(space.encode(pictures), latents)
    assert np.abs(space.decode(latents).astype(int) - decoded).max() <= 1
    assert sizes == [2, 2, 1, 2, 2, 1]
