"""What a perfect system would return: truths of cases, by known operator, reference picture or teacher.

A known operator is applied to the source at the working size and then reduced, like everything in the world; a random effect
has several draws. Where no operator is known, the user's target picture is the truth, else what the teacher makes at full steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from clbench.composition import mask_after, sequence_draw, why_unknown
from clbench.edit_log import about
from clbench.effects import apply_operator
from clbench.images import reduce_mask, reduce_to
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.results import RunFolder
from clbench.types import Effect, Source, TruthKind, seed_from
from clbench.world import World

DRAWS = 8
"""Draws of a random effect that the scorer knows (k = 0..7); controls use draws from 100 on."""
METER_DRAWS = 24
"""Draws of a random effect that the bleeding meter knows (k = 0..23): it learns from them how a new draw may differ."""
REMEMBERED = 1024
"""Truths kept in memory: at 64 px and 8 draws about 200 KB each."""
AT_WORK = 16
"""Pictures of a kind kept in memory at the working size, which every effect of a source asks for."""
INPAINT_RADIUS = 3


@dataclass(frozen=True, slots=True)
class Truth:
    """Right answers for one (effect, source): `draws` uint8 (K, H, W, 3), and the same `without` the subject.

    `without` is None where nobody knows the subject's mask. A missing truth has `kind` None, no draws and a `reason`.
    """

    kind: TruthKind | None
    draws: np.ndarray
    without: np.ndarray | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        return self.kind is not None


def target_caption(source: Source, effect: Effect) -> str:
    """What the wished result shows, in words: the scene, then the effect. Used to train the tiny CLIP and to score."""
    return f"{source.caption}, {effect.caption}" if source.caption else effect.caption


class Truths:
    """Truths of one world. `teacher` is a finished run of system `teacher`, used where nothing better is known.

    `subjects` False leaves out pictures without their subject, for those who do not score it.
    """

    def __init__(self, world: World, teacher: RunFolder | None = None, draws: int = DRAWS, subjects: bool = True) -> None:
        self.world, self.draws, self.subjects = world, draws, subjects
        self._teacher = _teacher_pictures(teacher, world.backbone.full_steps) if teacher is not None else {}
        self._teacher_folder = teacher
        self._cached = lru_cache(maxsize=REMEMBERED)(self._truth)
        self._empty = lru_cache(maxsize=AT_WORK)(self._without)
        self._at_work_size = lru_cache(maxsize=AT_WORK)(self._first)

    @property
    def made_from(self) -> str:
        """The hash of the teachers' pictures where they are the truth of an effect; "" where the world's own hash says it all."""
        by_teacher = any(self.world.truth_kind(effect) == "teacher" for effect in self.world.effects)
        if self._teacher_folder is None or not by_teacher:
            return ""
        return hash_value(about(self._teacher_folder.read_edits().values()))

    def truth(self, effect_id: str, source_id: str) -> Truth:
        """The truth of this pair at the world's resolution; remembered. Never raises for a missing one: see `reason`."""
        return self._cached(effect_id, source_id)

    def knows(self, effect_id: str, source_id: str) -> bool:
        """Whether there is something to make the truth of this pair from, without making it; an operator is always there."""
        kind = self.world.truth_kind(effect_id)
        if kind == "reference":
            return source_id in self.world.pairs.targets(effect_id)
        return kind == "operator" or (effect_id, source_id) in self._teacher

    def many(self, effect_id: str, source_id: str) -> np.ndarray:
        """Draws of a known truth for the bleeding meter, (K, H, W, 3): those of `truth`, then more of a random operator."""
        truth, effect = self.truth(effect_id, source_id), self.world.effect(effect_id)
        if truth.kind != "operator" or not effect.random:
            return truth.draws
        seeds = [seed_from("truth", effect_id, source_id, k) for k in range(len(truth.draws), METER_DRAWS)]
        image = self.world.source_image(source_id)
        return np.concatenate([truth.draws, self._reduced([self._apply(effect, source_id, image, seed) for seed in seeds])])

    def elsewhere(self, effect_id: str, count: int) -> list[tuple[str, np.ndarray]]:
        """At most `count` right answers of an effect without known operator, each a source and a picture uint8 (H, W, 3).

        In the world's order, first one of each source, then the second ones. Empty for an effect with an operator.
        """
        kind = self.world.truth_kind(effect_id)
        if kind not in ("reference", "teacher"):
            return []
        if kind == "reference":
            paired = pairs_elsewhere(self.world, effect_id)[:count]
            return [(source_id, self._target(effect_id, source_id)) for source_id in paired]
        ids = [source.id for source in self.world.sources if self.knows(effect_id, source.id)]
        pictures = [(source_id, self._teacher[effect_id, source_id]) for source_id in ids]
        draws = range(max((len(records) for _, records in pictures), default=0))
        found = [(source_id, records[k]) for k in draws for source_id, records in pictures if k < len(records)]
        return [(source_id, self._made(record)) for source_id, record in found[:count]]

    def count(self, effect_id: str) -> int:
        """How many right answers of an effect without known operator there are, over all sources of the world."""
        ids = [source.id for source in self.world.sources if self.knows(effect_id, source.id)]
        if self.world.truth_kind(effect_id) == "reference":
            return len(ids)
        return sum(len(self._teacher.get((effect_id, source_id), [])) for source_id in ids)

    def composed(self, first: str, second: str, source_id: str, draws: int = 1) -> np.ndarray | None:
        """Operator of `second` on the first truth draw of `first`: uint8 (K, H, W, 3), or None without both operators.

        K is `draws` for a random `second`, else 1.
        """
        a, b = self.world.effect(first), self.world.effect(second)
        if why_unknown(self.world, first, second, source_id) or not self.truth(first, source_id).known:
            return None
        assert b.operator is not None
        base, mask = self._at_work_size(first, source_id), self._known_mask(source_id)
        after = mask_after(a, source_id, mask, 0)
        seeds = [seed_from("composed", first, second, source_id, k) for k in range(draws if b.random else 1)]
        return self._reduced([apply_operator(b.operator, base, after, seed) for seed in seeds])

    def sequence(self, first: str, second: str, source_id: str) -> Truth:
        """The truth of "`first`, then `second`" by known operators; several draws if either effect is random."""
        reason = why_unknown(self.world, first, second, source_id)
        if reason:
            return self._missing(f"no truth of '{first}, then {second}' for source '{source_id}': {reason}")
        many = any(self.world.effect(effect).random for effect in (first, second))
        draws = [sequence_draw(self.world, first, second, source_id, k) for k in range(self.draws if many else 1)]
        return Truth("operator", np.stack(draws))

    def source(self, source_id: str) -> np.ndarray:
        """The source at the world's resolution, uint8 (H, W, 3)."""
        return self.world.source_image(source_id, self.world.resolution)

    def source_without(self, source_id: str) -> np.ndarray | None:
        """The source with its subject painted over, at the world's resolution; None without a mask."""
        empty = self._empty(source_id)
        return None if empty is None else reduce_to(empty, self.world.resolution)

    def _truth(self, effect_id: str, source_id: str) -> Truth:
        effect, kind = self.world.effect(effect_id), self.world.truth_kind(effect_id)
        if kind == "operator":
            return self._by_operator(effect, source_id)
        if kind == "reference":
            if not self.knows(effect_id, source_id):
                return self._missing(f"no truth of '{effect_id}' for source '{source_id}': no reference picture of this source")
            target = self._target(effect_id, source_id)
            return Truth("reference", target[None], self._painted_over(target[None], source_id))
        pictures = self._teacher.get((effect_id, source_id), [])
        if pictures:
            draws = np.stack([self._made(record) for record in pictures])
            return Truth("teacher", draws, self._painted_over(draws, source_id))
        return self._missing(
            f"no truth of '{effect_id}' for source '{source_id}': no operator, no reference picture, no picture of the teacher"
        )

    def _by_operator(self, effect: Effect, source_id: str) -> Truth:
        mask = self.world.mask(source_id)
        if mask is None and effect.scope != "image":
            return self._missing(f"effect '{effect.id}' acts on the {effect.scope} and source '{source_id}' has no mask")
        seeds = [seed_from("truth", effect.id, source_id, k) for k in range(self.draws if effect.random else 1)]
        image, empty = self.world.source_image(source_id), self._empty(source_id)
        draws = self._reduced([self._apply(effect, source_id, image, seed) for seed in seeds])
        if empty is None:
            return Truth("operator", draws)
        # the mask of a painted-over source is empty: an effect on the subject has nothing to act on
        bare = [self._apply(effect, source_id, empty, seed, bare=True) for seed in seeds]
        return Truth("operator", draws, self._reduced(bare))

    def _first(self, effect_id: str, source_id: str) -> np.ndarray:
        """The first draw of a known operator, before it is reduced: uint8 (W, W, 3)."""
        seed = seed_from("truth", effect_id, source_id, 0)
        return self._apply(self.world.effect(effect_id), source_id, self.world.source_image(source_id), seed)

    def _apply(self, effect: Effect, source_id: str, image: np.ndarray, seed: int, bare: bool = False) -> np.ndarray:
        known = np.zeros(image.shape[:2], np.float32) if bare else self._known_mask(source_id)
        assert effect.operator is not None
        return apply_operator(effect.operator, image, known, seed)

    def _known_mask(self, source_id: str) -> np.ndarray:
        """The subject's mask at the working size; empty where nobody knows it."""
        mask = self.world.mask(source_id)
        return np.zeros(self.world.source_image(source_id).shape[:2], np.float32) if mask is None else mask

    def _reduced(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([reduce_to(picture, self.world.resolution) for picture in pictures])

    def _without(self, source_id: str) -> np.ndarray | None:
        mask = self._mask_of_subject(source_id)
        return None if mask is None else paint_over(self.world.source_image(source_id), mask)

    def _mask_of_subject(self, source_id: str) -> np.ndarray | None:
        return self.world.mask(source_id) if self.subjects else None

    def _painted_over(self, pictures: np.ndarray, source_id: str) -> np.ndarray | None:
        mask = self._mask_of_subject(source_id)
        if mask is None:
            return None
        small = reduce_mask(mask, pictures.shape[1])
        return np.stack([paint_over(picture, small) for picture in pictures])

    def _target(self, effect_id: str, source_id: str) -> np.ndarray:
        target = self.world.references(effect_id, source_id)
        assert target is not None  # `knows` said so
        return target

    def _made(self, record) -> np.ndarray:
        """What the teacher made, at the world's resolution."""
        assert self._teacher_folder is not None
        return reduce_to(self._teacher_folder.read_picture(record), self.world.resolution)

    def _missing(self, reason: str) -> Truth:
        side = self.world.resolution
        return Truth(None, np.zeros((0, side, side, 3), np.uint8), None, reason)


def pairs_elsewhere(world: World, effect_id: str) -> list[str]:
    """The sources whose pairs tell what an effect does elsewhere: the first ones that have a pair, in the world's order."""
    targets = world.pairs.targets(effect_id)
    return [source.id for source in world.sources if source.id in targets][:METER_DRAWS]


def paint_over(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`image` (uint8 (H, W, 3)) with the masked part filled from its surroundings (Telea, J. Graphics Tools 2004)."""
    hole = cv2.dilate((mask > 0.05).astype(np.uint8), np.ones((3, 3), np.uint8))
    if hole.all():
        return np.full_like(image, image.mean((0, 1)).astype(np.uint8))
    return cv2.inpaint(image, hole, INPAINT_RADIUS, cv2.INPAINT_TELEA)


def _teacher_pictures(run: RunFolder, full_steps: int) -> dict[tuple[str, str], list]:
    """(effect, source) -> records of the plain question at full steps, by seed; only finished pictures count."""
    if run.info.system_name != "teacher":
        raise ClbenchError(f"{run.path} is a run of '{run.info.system_name}', not of 'teacher', and cannot be the truth")
    found: dict[tuple[str, str], list] = {}
    for record in sorted(run.read_edits().values(), key=lambda r: r.case.seed):
        case = record.case
        if record.status == "ok" and not case.probe and not case.second and case.steps in (None, full_steps):
            found.setdefault((case.effect, case.source), []).append(record)
    return found
