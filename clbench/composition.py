"""Two effects in turn: the true picture of "first A, then B", by known operators at the working size."""

from __future__ import annotations

import numpy as np

from clbench.effects import OPERATORS, apply_operator
from clbench.images import reduce_to
from clbench.registry import UnknownAnswer
from clbench.types import Effect, seed_from
from clbench.world import World

MOVERS = "clbench.effects.layout"
"""Operators of this module put the same pixels in other places, so a mask goes through them as a picture does."""
RESIZED = ("polaroid_frame",)
"""Operators that move the subject and paint over the rest: where its mask ends up is not known."""


def sequence_draw(world: World, first: str, second: str, source_id: str, draw: int) -> np.ndarray:
    """Draw `draw` of `first` and then of `second` on its result, uint8 (R, R, 3) at the world's resolution.

    UnknownAnswer where it is not known: an effect without an operator, or one on a subject whose place is not known.
    """
    reason = why_unknown(world, first, second, source_id)
    if reason:
        raise UnknownAnswer(f"no known truth of '{first}, then {second}' for source '{source_id}': {reason}")
    one, two = world.effect(first), world.effect(second)
    image, mask = world.source_image(source_id), world.mask(source_id)
    known = np.zeros(image.shape[:2], np.float32) if mask is None else mask
    begun = operated(one, source_id, image, known, draw)
    return reduce_to(operated(two, source_id, begun, mask_after(one, source_id, known, draw), draw), world.resolution)


def why_unknown(world: World, first: str, second: str, source_id: str) -> str:
    """Why nobody knows the truth of "`first`, then `second`" for this source, or ""."""
    one, two = world.effect(first), world.effect(second)
    for effect in (one, two):
        if effect.operator is None:
            return f"'{effect.id}' has no operator"
        if effect.scope != "image" and world.mask(source_id) is None:
            return f"'{effect.id}' acts on the {effect.scope} and the source has no mask"
    if two.scope != "image" and one.operator in RESIZED:
        return f"'{second}' acts on the {two.scope}, whose place after '{first}' is not known"
    return ""


def operated(effect: Effect, source_id: str, image: np.ndarray, mask: np.ndarray, draw: int) -> np.ndarray:
    """Draw `draw` of the effect's operator on `image`; the same draw as that of its own truth."""
    assert effect.operator is not None
    return apply_operator(effect.operator, image, mask, seed_from("truth", effect.id, source_id, draw))


def mask_after(effect: Effect, source_id: str, mask: np.ndarray, draw: int) -> np.ndarray:
    """Where the subject of `mask` (H, W) is after draw `draw` of `effect`."""
    assert effect.operator is not None
    if OPERATORS.get(effect.operator).__module__ != MOVERS:
        return mask
    picture = np.repeat((mask * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=2)
    return operated(effect, source_id, picture, mask, draw)[..., 0].astype(np.float32) / 255
