"""Laws that hold for every operator: type, purity, determinism, visibility, scope."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from clbench.effects import OPERATORS, apply_operator
from clbench.images import reduce_to
from clbench.registry import ClbenchError
from clbench.scenes import Scene
from clbench.types import Effect

NAMES = OPERATORS.names()
RIM = 10  # px at side 128: a sticker's border and a neon glow reach this far past the mask


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference at 64 px, in 0..255."""
    return float(np.abs(reduce_to(one, 64).astype(float) - reduce_to(other, 64)).mean())


@pytest.mark.parametrize("name", NAMES)
def test_pure_and_deterministic(name: str, scenes: list[Scene]) -> None:
    scene = scenes[0]
    image, mask = scene.image.copy(), scene.mask.copy()
    image.flags.writeable = mask.flags.writeable = False
    first = apply_operator(name, image, mask, 3)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert np.array_equal(image, scene.image) and np.array_equal(mask, scene.mask)
    assert not np.shares_memory(first, image)
    assert np.array_equal(apply_operator(name, image, mask, 3), first)
    assert difference(first, image) > 3, "the effect does not show at 64 px"


@pytest.mark.parametrize("name", NAMES)
def test_any_size_and_any_mask(name: str, scenes: list[Scene]) -> None:
    image = cv2.resize(scenes[1].image, (97, 64), interpolation=cv2.INTER_AREA)
    for mask in (np.zeros((64, 97), np.float32), np.ones((64, 97), np.float32)):
        out = apply_operator(name, image, mask, 0)
        assert out.shape == image.shape and out.dtype == np.uint8


def test_random_effects_differ_between_seeds(effects: dict[str, Effect], scenes: list[Scene]) -> None:
    for effect in effects.values():
        assert effect.operator is not None
        seeds = range(3) if effect.random else range(2)
        first, *more = (
            apply_operator(effect.operator, scenes[1].image, scenes[1].mask, seed) for seed in seeds
        )
        moved = [difference(first, other) for other in more]
        if effect.random:
            assert np.median(moved) > 2, (effect.id, moved)
        else:
            assert max(moved) == 0, (effect.id, moved)


def test_scope_leaves_the_rest_alone(effects: dict[str, Effect], scenes: list[Scene]) -> None:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1))
    for effect in effects.values():
        if effect.scope == "image":
            continue
        assert effect.operator is not None
        for scene in scenes:
            mask = scene.mask
            kept = cv2.dilate(mask, disc) == 0 if effect.scope == "subject" else mask == 1
            out = apply_operator(effect.operator, scene.image, mask, 5)
            assert kept.any()
            assert np.array_equal(out[kept], scene.image[kept]), effect.id


def test_no_two_operators_agree(scenes: list[Scene]) -> None:
    small = {
        n: reduce_to(apply_operator(n, scenes[2].image, scenes[2].mask, 0), 64).astype(float) for n in NAMES
    }
    for number, one in enumerate(NAMES):
        for other in NAMES[:number]:
            assert np.abs(small[one] - small[other]).mean() > 2, (one, other)


def test_bad_input_is_one_sentence(scenes: list[Scene]) -> None:
    image, mask = scenes[0].image, scenes[0].mask
    with pytest.raises(ClbenchError, match=r"unknown operator 'sepa'\. Did you mean 'sepia'"):
        apply_operator("sepa", image, mask, 0)
    with pytest.raises(ClbenchError, match="got a picture float32"):
        apply_operator("sepia", image.astype(np.float32), mask, 0)
    with pytest.raises(ClbenchError, match="sides >= 64"):
        apply_operator("sepia", image[:40], mask[:40], 0)
    with pytest.raises(ClbenchError, match="got a mask float64"):
        apply_operator("sepia", image, mask.astype(float), 0)
