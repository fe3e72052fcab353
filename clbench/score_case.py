"""All metrics of the cases of one source: what is known about the source is computed once, on first use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clbench.calibration import meter_side, to_tensor
from clbench.metrics import METRICS
from clbench.metrics.bleeding import LEAK_DRAWS, SOURCE, LeakFrame, SourceFrame
from clbench.metrics.features import to_side
from clbench.metrics.quality import psnr, ssim
from clbench.metrics.similarity import (
    clip_directional_similarity,
    clip_image_similarity,
    clip_text_similarity,
    feature_distance,
    nearest_draw,
)
from clbench.metrics.subject import Anchors, anchors_of_draws, reference, subject_score
from clbench.registry import ClbenchError
from clbench.truth import Truth, target_caption
from clbench.types import Case, Score

if TYPE_CHECKING:
    from clbench.score import Scorer

DIGITS = 7
"""Significant digits of a stored value: below the stated tolerance of 1e-6, above what batching can change."""

NOT_FINITE = {
    "vsa": "the edit succeeded, but its subject could not be scored",
    "order_change": "there is no picture of the other order",
}

NO_PERCEPTUAL = "the world names no perceptual network"

Row = tuple[int, Score]

Values = Tensor | str
"""Values (n,) of n cases, or the reason why there are none."""


class SourceScorer:
    """Scores outputs of one source; made anew for each source, so only one is in memory."""

    def __init__(self, source: str, scorer: Scorer) -> None:
        self.id, self.scorer = source, scorer
        self.source = scorer.world.source(source)
        self.image = to_tensor([scorer.truths.source(source)])
        self._features: dict[str, list[list[Tensor]]] = {}
        self._leak_frames: dict[str, LeakFrame] = {}
        self._clip: dict[str, Tensor] = {}

    def rows(self, effect: str, cases: Sequence[Case], outputs: Tensor) -> Iterator[Row]:
        """Rows of `cases` (n, all of this source and `effect`) with pictures `outputs` (n, 3, H, W) in [0, 1].

        Each row comes with the number of its case, since several runs may hold the same case.
        """
        wanted = self.scorer.wanted("effect")
        truth = self._truth(effect)
        batch = Batch(self, outputs)
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
            found["perceptual"] = self._perceptual(name, truth, outputs)
        if "clip_image" in wanted:
            found["clip_image"] = self._clip_image(name, truth, outputs)
        for metric, compare in (("psnr", psnr), ("ssim", ssim)):
            if metric in wanted:
                found[metric] = pixels or compare(outputs, tensor(truth).expand_as(outputs))
        return found

    def _perceptual(self, name: str, truth: Truth, outputs: Tensor) -> Values:
        network = self.scorer.encoders.perceptual
        if network is None:
            return NO_PERCEPTUAL
        if not truth.known:
            return truth.reason
        if name not in self._features:
            layers = network.features(tensor(truth))
            self._features[name] = [[layer[k : k + 1] for layer in layers] for k in range(len(truth.draws))]
        found = network.features(outputs)
        return nearest_draw(torch.stack([feature_distance(found, draw) for draw in self._features[name]], 1), "lower")

    def _clip_image(self, name: str, truth: Truth, outputs: Tensor) -> Values:
        if self.scorer.encoders.clip is None:
            return "the world names no CLIP"
        if not truth.known:
            return truth.reason
        draws = self._embedded(f"truth of {name}", tensor(truth))
        found = self.scorer.encoders.clip.embed_image(outputs)
        return nearest_draw(torch.stack([clip_image_similarity(found, d.expand_as(found)) for d in draws], 1), "higher")

    def _clip_text(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        if self.scorer.encoders.clip is None:
            return "the world names no CLIP"
        found = self.scorer.encoders.clip.embed_image(outputs)
        return clip_text_similarity(found, self._caption(effect).expand_as(found))

    def _clip_directional(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        clip = self.scorer.encoders.clip
        if clip is None:
            return "the world names no CLIP"
        if not self.source.caption:
            return f"source '{self.id}' has no caption, so there is no direction in words"
        found, image = clip.embed_image(outputs), self._embedded("source", self.image)
        before = clip.embed_text([self.source.caption])
        return clip_directional_similarity(
            image.expand_as(found), found, before.expand_as(found), self._caption(effect).expand_as(found)
        )

    def _subject(self, effect: str, truth: Truth, outputs: Tensor) -> Values:
        if not truth.known:
            return truth.reason
        bare = self.scorer.truths.source_without(self.id)
        if truth.without is None or bare is None:
            return f"source '{self.id}' has no subject mask"
        draws, without = self.small(tensor(truth)), self.small(to_tensor(list(truth.without)))
        anchors = anchors_of_draws(draws, without) if len(draws) > 2 else Anchors()
        if not anchors.visible:
            return f"effect '{effect}' hides or moves the subject at random, so its presence cannot be seen"
        truths = reference(draws, without)
        plain = reference(self.small(self.image), self.small(to_tensor([bare])))
        return subject_score(self.small(outputs), [truths, plain], anchors)

    # ---- bleeding

    def _bleeding(self, effect: str, truth: Truth, batch: Batch, subject: Values, wanted: set[str]) -> dict[str, Values]:
        names = {"success", "bcr", "vsa", "leak_total", "dose"} & wanted
        if not names:
            return {}
        if not truth.known:
            return dict.fromkeys(names, truth.reason)
        meter, found = self.scorer.meter, {}
        if names & {"success", "bcr", "vsa"}:
            success = meter.success(self.frame, effect, batch.distance)
            found |= {"success": success, "bcr": 1 - success}
            found["vsa"] = _vsa(success, subject)
        if names & {"leak_total", "dose"}:
            dose = meter.dose(self.leak_frame(effect), batch.seen)
            found |= {"leak_total": batch.leak(effect).sum(1), "dose": dose}
        return {name: found[name] for name in names}

    def _pairs(self, effect: str, truth: Truth, cases: Sequence[Case], batch: Batch, wanted: set[str]) -> Iterator[Row]:
        names = {"attribution_distance", "attributed", "leak"} & wanted
        if names and not truth.known:
            for name in sorted(names):
                yield from column(name, cases, truth.reason)
            return
        if "attribution_distance" in names:
            for number, label in enumerate(self.frame.labels):
                yield from column("attribution_distance", cases, batch.distance[:, number], label)
            for other, reason in self.unknown.items():
                yield from column("attribution_distance", cases, reason, other)
        if "attributed" in names:
            version = METRICS.get("attributed").version
            labels = self.scorer.meter.attribute(self.frame, batch.distance)
            found = enumerate(zip(cases, labels, strict=True))
            yield from ((number, Score(case, "attributed", version, 1.0, label)) for number, (case, label) in found)
        if "leak" in names:
            for number, other in enumerate(self.leak_frame(effect).others):
                yield from column("leak", cases, batch.leak(effect)[:, number], other)
            for other, reason in self.unknown.items():
                yield from column("leak", cases, reason, other)

    @cached_property
    def frame(self) -> SourceFrame:
        """The meter's frame with every effect of the suite whose truth is known here."""
        names = [name for name in self.scorer.effects if self._truth(name).known]
        known = {name: self.small(to_tensor(list(self.scorer.truths.many(name, self.id)))) for name in names}
        if SOURCE in known:
            raise ClbenchError(f"an effect cannot have the id '{SOURCE}'")
        return self.scorer.meter.source_frame(self.small(self.image)[0], known)

    @cached_property
    def unknown(self) -> dict[str, str]:
        """Effects of the suite whose truth is not known here, with the reason."""
        return {name: truth.reason for name in self.scorer.effects if not (truth := self._truth(name)).known}

    def leak_frame(self, effect: str) -> LeakFrame:
        if effect not in self._leak_frames:
            pairs = {name: self.scorer.truths.composed(effect, name, self.id, LEAK_DRAWS) for name in self.frame.truths}
            composed = {name: self.small(to_tensor(list(pictures))) for name, pictures in pairs.items() if pictures is not None}
            self._leak_frames[effect] = self.scorer.meter.leak_frame(self.frame, effect, composed, self._returned(effect))
        return self._leak_frames[effect]

    def _returned(self, effect: str) -> Tensor | None:
        """The first draw of the truth of `effect` as the backbone's VAE returns it, at the side of the meter."""
        if self.scorer.round_trip is None:
            return None
        found = self.scorer.round_trip([self._truth(effect).draws[0]])[0]
        return None if found is None else self.small(to_tensor([found]))[0]

    # ---- what is known

    def _truth(self, effect: str) -> Truth:
        return self.scorer.truths.truth(effect, self.id)

    def _caption(self, effect: str) -> Tensor:
        clip = self.scorer.encoders.clip
        assert clip is not None
        key = f"caption of {effect}"
        if key not in self._clip:
            self._clip[key] = clip.embed_text([target_caption(self.source, self.scorer.world.effect(effect))])
        return self._clip[key]

    def _embedded(self, key: str, images: Tensor) -> Tensor:
        clip = self.scorer.encoders.clip
        assert clip is not None
        if key not in self._clip:
            self._clip[key] = clip.embed_image(images)
        return self._clip[key]


class Batch:
    """Outputs of one source under the bleeding meter; each reading is computed once."""

    def __init__(self, scorer: SourceScorer, outputs: Tensor) -> None:
        self._scorer, self._outputs = scorer, scorer.small(outputs)
        self._leak: dict[str, Tensor] = {}

    @cached_property
    def seen(self) -> Tensor:
        return self._scorer.scorer.meter.see(self._outputs)

    @cached_property
    def distance(self) -> Tensor:
        return self._scorer.scorer.meter.distances(self._scorer.frame, self.seen)

    def leak(self, effect: str) -> Tensor:
        if effect not in self._leak:
            self._leak[effect] = self._scorer.scorer.meter.leak(self._scorer.leak_frame(effect), self.seen)
        return self._leak[effect]


def _vsa(success: Tensor, subject: Values) -> Values:
    """0 for a failure, else the subject score; a success whose subject is unknown stays unknown (NaN)."""
    score = subject if isinstance(subject, Tensor) else torch.full_like(success, math.nan)
    return torch.where(success > 0, score, torch.zeros_like(score))


def tensor(truth: Truth) -> Tensor:
    """The draws of a truth, (K, 3, H, W) in [0, 1]."""
    return to_tensor(list(truth.draws))


def column(name: str, cases: Sequence[Case], values: Values, other: str = "") -> Iterator[Row]:
    """One row per case; a reason instead of values gives unscored rows."""
    version = METRICS.get(name).version
    for number, case in enumerate(cases):
        if isinstance(values, str):
            yield number, Score(case, name, version, math.nan, other, "unscored", values)
            continue
        value = float(f"{float(values[number]):.{DIGITS}g}")
        if math.isfinite(value):
            yield number, Score(case, name, version, value, other)
        else:
            yield number, Score(case, name, version, math.nan, other, "unscored", NOT_FINITE.get(name, "the value is not finite"))
