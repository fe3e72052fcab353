"""All metrics of the cases of one source: what is known about the source is computed once, on first use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clbench.calibration import meter_side, to_tensor
from clbench.metrics import METRICS
from clbench.metrics.bleeding import SOURCE, LeakFrame, SourceFrame
from clbench.metrics.features import to_side
from clbench.metrics.quality import psnr, ssim
from clbench.metrics.similarity import (
    clip_directional_similarity,
    clip_image_similarity,
    clip_text_similarity,
    nearest_draw,
)
from clbench.metrics.subject import Anchors, Reference, agreed, anchors_of, reference, structure, subject_score
from clbench.registry import ClbenchError
from clbench.score_looks import Looks, Pair
from clbench.truth import Truth, target_caption
from clbench.types import Case, Question, Score

if TYPE_CHECKING:
    from clbench.score import Scorer

DIGITS = 7
"""Significant digits of a stored value: a step is below the tolerances of the cards and above what batching can change."""

NOT_FINITE = {
    "vsa": "its subject could not be scored",
    "order_change": "there is no picture of the other order",
}

METERED = 32
"""Outputs whose distances are computed at a time: more would fall out of the processor's cache."""
TRIPS, TRIPS_SIDE = 4, 128
"""Pictures that go through the VAE together, up to which side: always so many, so that no last digit depends on the others."""
NO_PERCEPTUAL = "the world names no perceptual network"
NO_CLIP = "the world names no CLIP"
ALONE = "the suite has no other effect whose truth is known here"

Row = tuple[int, Score]

Values = Tensor | str
"""Values (n,) of n cases, or the reason why there are none."""


class SourceScorer:
    """Scores outputs of one source; made anew for each source, so only one is in memory."""

    def __init__(self, source: str, scorer: Scorer) -> None:
        self.id, self.scorer = source, scorer
        self.source = scorer.world.source(source)
        self.image = to_tensor([scorer.truths.source(source)])
        self.looks = Looks(scorer.encoders.perceptual, scorer.encoders.clip)
        self._batches: list[Batch] = []
        self._leak_frames: dict[str, LeakFrame] = {}

    def batch(self, effect: str, outputs: Tensor) -> Batch:
        """`outputs` (n, 3, H, W) in [0, 1], asked for `effect`, to ask `rows` about.

        The meter looks at all batches together, on first use.
        """
        self._batches.append(Batch(effect, outputs))
        return self._batches[-1]

    def rows(self, effect: str, cases: Sequence[Case], batch: Batch) -> Iterator[Row]:
        """Rows of `cases` (n, all of this source and `effect`) with the pictures of `batch`.

        Each row comes with the number of its case, since several runs may hold the same case.
        """
        wanted = self.scorer.wanted("effect")
        truth, outputs = self._truth(effect), batch.outputs
        plain = {"clip_text": self._clip_text, "clip_directional": self._clip_directional, "subject": self._subject}
        needed = wanted | ({"subject"} if "vsa" in wanted else set())
        many = self.scorer.world.effect(effect).random or len(truth.draws) > 1
        values = self.likeness(f"effect '{effect}'", truth, outputs, wanted, many)
        values |= {name: make(effect, truth, outputs) for name, make in plain.items() if name in needed}
        values |= self._bleeding(effect, truth, batch, values.get("subject", ""), wanted)
        for name, value in values.items():
            if name in wanted:
                yield from column(name, cases, value)
        yield from self._pairs(effect, truth, cases, batch, wanted)

    def compared(self, truth: Truth, outputs: Tensor, question: Question = "effect") -> list[Pair]:
        """What will be compared by the perceptual network when `rows` is asked about `outputs`."""
        there = self.looks.perceptual is not None and truth.known and "perceptual" in self.scorer.wanted(question)
        return [(outputs, tensor(truth))] if there else []

    def small(self, images: Tensor) -> Tensor:
        """Pictures at the side of the meter."""
        return to_side(images, meter_side(self.scorer.world))

    # ---- fidelity

    def likeness(self, name: str, truth: Truth, outputs: Tensor, wanted: set[str], many: bool) -> dict[str, Values]:
        """The metrics among `wanted` that only compare pictures with a truth, called `name` in what is remembered.

        `many`: the truth has many right answers, so pixels are not compared.
        """
        pixels = truth.reason or (f"{name} has many right answers, so pixels are not compared" if many else "")
        found: dict[str, Values] = {}
        if "perceptual" in wanted:
            found["perceptual"] = self._perceptual(truth, outputs)
        if "clip_image" in wanted:
            found["clip_image"] = self._clip_image(truth, outputs)
        for metric, compare in (("psnr", psnr), ("ssim", ssim)):
            if metric in wanted:
                found[metric] = pixels or compare(outputs, tensor(truth).expand_as(outputs))
        return found

    def _perceptual(self, truth: Truth, outputs: Tensor) -> Values:
        if self.looks.perceptual is None:
            return NO_PERCEPTUAL
        return nearest_draw(self.looks.distances(outputs, tensor(truth)), "lower") if truth.known else truth.reason

    def _clip_image(self, truth: Truth, outputs: Tensor) -> Values:
        if self.looks.clip is None:
            return NO_CLIP
        if not truth.known:
            return truth.reason
        draws, found = self.looks.embed(tensor(truth)), self.looks.embed(outputs)
        return nearest_draw(torch.stack([clip_image_similarity(found, d.expand_as(found)) for d in draws], 1), "higher")

    def _clip_text(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        if self.looks.clip is None:
            return NO_CLIP
        found = self.looks.embed(outputs)
        return clip_text_similarity(found, self._captions[effect].expand_as(found))

    def _clip_directional(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        if self.looks.clip is None:
            return NO_CLIP
        if not self.source.caption:
            return f"source '{self.id}' has no caption, so there is no direction in words"
        found, image = self.looks.embed(outputs), self.looks.embed(self.image)
        before, after = self._captions[""].expand_as(found), self._captions[effect].expand_as(found)
        return clip_directional_similarity(image.expand_as(found), found, before, after)

    def _subject(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        if not truth.known:
            return truth.reason
        plain = self._plain
        if truth.without is None or plain is None:
            return f"source '{self.id}' has no subject mask"
        here, gone = (structure(self.small(to_tensor(list(draws)))) for draws in (truth.draws, truth.without))
        anchors = anchors_of(here, gone) if len(here) > 2 else Anchors()
        if not anchors.visible:
            return f"effect '{effect}' hides or moves the subject at random, so its presence cannot be seen"
        return subject_score(self.small(outputs), [agreed(here, gone), plain], anchors)

    @cached_property
    def _plain(self) -> Reference | None:
        """The subject in the source itself; None without a mask."""
        bare = self.scorer.truths.source_without(self.id)
        return None if bare is None else reference(self.small(self.image), self.small(to_tensor([bare])))

    # ---- bleeding

    def _bleeding(self, effect: str, truth: Truth, batch: Batch, subject: Values, wanted: set[str]) -> dict[str, Values]:
        names = {"success", "bcr", "vsa", "leak_total", "dose"} & wanted
        if not names:
            return {}
        if not truth.known:
            return dict.fromkeys(names, truth.reason)
        meter, found = self.scorer.meter, {}
        if names & {"success", "bcr", "vsa"}:
            success = meter.success(self.frame, effect, self.distance[batch])
            found |= {"success": success, "bcr": 1 - success}
            found["vsa"] = _vsa(success, subject)
        if names & {"leak_total", "dose"}:
            dose = meter.dose(self.leak_frame(effect), self.seen[batch])
            alone = not self.leak_frame(effect).others
            found |= {"leak_total": ALONE if alone else self.leak[batch].sum(1), "dose": dose}
        return {name: found[name] for name in names}

    def _pairs(self, effect: str, truth: Truth, cases: Sequence[Case], batch: Batch, wanted: set[str]) -> Iterator[Row]:
        names = {"attribution_distance", "attributed", "leak"} & wanted
        if names and not truth.known:
            for name in sorted(names):
                yield from column(name, cases, truth.reason)
            return
        if "attribution_distance" in names:
            distance = self.distance[batch]
            for number, label in enumerate(self.frame.labels):
                yield from column("attribution_distance", cases, distance[:, number], label)
            for other, reason in self.unknown.items():
                yield from column("attribution_distance", cases, reason, other)
        if "attributed" in names:
            version = METRICS.get("attributed").version
            labels = self.scorer.meter.attribute(self.frame, self.distance[batch])
            found = enumerate(zip(cases, labels, strict=True))
            yield from ((number, Score(case, "attributed", version, 1.0, label)) for number, (case, label) in found)
        if "leak" in names:
            leak = self.leak[batch]
            for number, other in enumerate(self.leak_frame(effect).others):
                yield from column("leak", cases, leak[:, number], other)
            for other, reason in self.unknown.items():
                yield from column("leak", cases, reason, other)

    @cached_property
    def frame(self) -> SourceFrame:
        """The meter's frame with every effect of the suite whose truth is known here."""
        names = [name for name in self.scorer.effects if self._truth(name).known]
        known = {name: self.scorer.shown.draws(name, self.id) for name in names}
        if SOURCE in known:
            raise ClbenchError(f"an effect cannot have the id '{SOURCE}'")
        return self.scorer.meter.source_frame(self.small(self.image)[0], known)

    @cached_property
    def seen(self) -> dict[Batch, Tensor]:
        """Whitened features of every batch, computed together."""
        return self._parted(self.scorer.meter.see(self.small(torch.cat([batch.outputs for batch in self._batches]))))

    @cached_property
    def distance(self) -> dict[Batch, Tensor]:
        """The meter's distances of every batch, computed together."""
        parts = torch.cat(list(self.seen.values())).split(METERED)
        return self._parted(torch.cat([self.scorer.meter.distances(self.frame, part) for part in parts]))

    def _parted(self, rows: Tensor) -> dict[Batch, Tensor]:
        return dict(zip(self._batches, rows.split([len(batch.outputs) for batch in self._batches]), strict=True))

    @cached_property
    def unknown(self) -> dict[str, str]:
        """Effects of the suite whose truth is not known here, with the reason."""
        return {name: truth.reason for name in self.scorer.effects if not (truth := self._truth(name)).known}

    def leak_frame(self, effect: str) -> LeakFrame:
        if effect not in self._leak_frames:
            known = self.frame.truths
            pairs = {name: self.scorer.shown.composed(effect, name, self.id, known) for name in known}
            composed = {name: pictures for name, pictures in pairs.items() if pictures is not None}
            self._leak_frames[effect] = self.scorer.meter.leak_frame(self.frame, effect, composed, self._returned.get(effect))
        return self._leak_frames[effect]

    @cached_property
    def leak(self) -> dict[Batch, Tensor]:
        """The meter's leak (n, J) of every other effect into the outputs of every batch whose truth is known, read together."""
        known = [batch for batch in self._batches if self._truth(batch.effect).known]
        found = self.scorer.meter.leaks([(self.leak_frame(batch.effect), self.seen[batch]) for batch in known])
        return dict(zip(known, found, strict=True))

    @cached_property
    def _returned(self) -> dict[str, Tensor]:
        """The first draw of the truth of every asked effect as the backbone's VAE returns it, at the side of the meter."""
        asked = sorted({batch.effect for batch in self._batches if self._truth(batch.effect).known})
        if self.scorer.round_trip is None or not asked:
            return {}
        firsts = [self._truth(effect).draws[0] for effect in asked]
        world = self.scorer.world
        size = TRIPS if world.resolution <= TRIPS_SIDE and world.backbone.batch >= TRIPS else 1
        firsts += firsts[-1:] * (-len(firsts) % size)
        found = [back for at in range(0, len(firsts), size) for back in self.scorer.round_trip(firsts[at : at + size])]
        pictures = dict(zip(asked, found, strict=False))
        return {effect: self.small(to_tensor([picture]))[0] for effect, picture in pictures.items() if picture is not None}

    # ---- what is known

    def _truth(self, effect: str) -> Truth:
        return self.scorer.truths.truth(effect, self.id)

    @cached_property
    def _captions(self) -> dict[str, Tensor]:
        """Embeddings (D,) of what each effect's result shows, in words; "" has the source's own caption."""
        assert self.looks.clip is not None
        effects = [self.scorer.world.effect(effect) for effect in self.scorer.effects]
        texts = [self.source.caption, *(target_caption(self.source, effect) for effect in effects)]
        return dict(zip(("", *self.scorer.effects), self.looks.clip.embed_text(texts), strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Outputs (n, 3, H, W) of one source, asked for `effect`; by itself the key of what the source's scorer reads of it."""

    effect: str
    outputs: Tensor


def _vsa(success: Tensor, subject: Values) -> Values:
    """0 for a failure, else the subject score; unknown where the subject is, for failures too, or they alone would count."""
    if isinstance(subject, str):
        return subject
    return torch.where(subject.isnan() | (success > 0), subject, torch.zeros_like(subject))


def tensor(truth: Truth) -> Tensor:
    """The draws of a truth, (K, 3, H, W) in [0, 1]."""
    return to_tensor(list(truth.draws))


def column(name: str, cases: Sequence[Case], values: Values, other: str = "") -> Iterator[Row]:
    """One row per case; a reason instead of values gives unscored rows."""
    version = METRICS.get(name).version
    if isinstance(values, str):
        for number, case in enumerate(cases):
            yield number, Score(case, name, version, math.nan, other, "unscored", values)
        return
    for number, (case, exact) in enumerate(zip(cases, values.tolist(), strict=True)):
        value = float(f"{exact:.{DIGITS}g}")
        if math.isfinite(value):
            yield number, Score(case, name, version, value, other)
        else:
            yield number, Score(case, name, version, math.nan, other, "unscored", NOT_FINITE.get(name, "the value is not finite"))
