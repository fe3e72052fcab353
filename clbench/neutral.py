"""Neutral questions: a general instruction that is no effect, drawn for each case, with its own right answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clbench.general import KINDS, GeneralEdit, draw_edit
from clbench.images import reduce_to
from clbench.scenes import Pool, Scene, SceneSpec
from clbench.types import Case, seed_from
from clbench.world import World

PLAIN_KINDS = ("identity", "brightness", "contrast", "saturation", "warmth", "mirror", "shift")
"""General edits of any picture: they need no recipe of a scene, and each has one right answer."""
PLAIN_POOL = Pool({}, {})


@dataclass(frozen=True, slots=True)
class NeutralEdit:
    """`target` is uint8 (R, R, 3) at the world's resolution, or None where there are many right answers."""

    kind: str
    instruction: str
    target: np.ndarray | None


def neutral_edit(world: World, case: Case) -> NeutralEdit:
    """The general edit of a neutral case: depends on its source, effect and seed alone, so it is the same for all systems.

    Scenes with a subject get every kind of general edit, other pictures those of `PLAIN_KINDS`.
    """
    rng = np.random.default_rng(seed_from("neutral", case.effect, case.source, case.seed))
    drawn = _draw(world, case.source, rng)
    known = not KINDS.get(drawn.kind).random
    return NeutralEdit(drawn.kind, drawn.instruction, reduce_to(drawn.target, world.resolution) if known else None)


def _draw(world: World, source_id: str, rng: np.random.Generator) -> GeneralEdit:
    if world.has_scenes and world.scene(source_id).spec.placements:
        return draw_edit(world.scene(source_id), world.scene_pool(source_id), rng)
    image = world.source_image(source_id)
    plain = Scene(image, np.zeros(image.shape[:2], np.float32), "", SceneSpec("", (0.5, 0.5, 1.0), ()))
    return draw_edit(plain, PLAIN_POOL, rng, PLAIN_KINDS[int(rng.integers(len(PLAIN_KINDS)))])
