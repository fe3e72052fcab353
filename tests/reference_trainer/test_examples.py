"""What training looks at, in the shipped world of scenes."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.world import load_world
from reference_trainer import examples as E


@pytest.fixture(scope="module")
def world():
    return load_world("tiny")


def test_pairs_are_scenes_of_the_teacher_split_under_the_operator(world):
    effect = world.effect("sepia")
    pairs = E.teacher_pairs(world, effect, 3, None)
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.source.shape == pair.target.shape == (world.resolution, world.resolution, 3)
        assert np.abs(pair.source.astype(int) - pair.target).mean() > 2
    again = E.teacher_pairs(world, effect, 3, None)
    assert E.pixels([p.target for p in pairs]) == E.pixels([p.target for p in again])
    assert len(set(E.pixels([p.source for p in pairs]))) == 3


def test_streams_have_their_own_sources(world):
    a, b = (E.pixels(E.distillation_sources(world, name, 3, None)) for name in ("sepia", "invert"))
    assert len(set(a) | set(b)) == 6


def test_general_examples_are_edits_of_scenes(world):
    examples = E.general_examples(world, 12, None)
    assert len({text for _, text in examples}) > 4
    assert all(picture.shape == (world.resolution, world.resolution, 3) for picture, _ in examples)
