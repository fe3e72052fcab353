"""Outputs with known answers, and what the bleeding meter reads in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import RoundTrip, fit_meter, round_trip_of, to_tensor
from clbench.composition import why_unknown
from clbench.metrics.bleeding import LEAK_DRAWS, BleedingMeter, SourceFrame
from clbench.registry import ClbenchError
from clbench.score_elsewhere import Elsewhere
from clbench.selftest.planted import DOSES, Answer, Planter, finish
from clbench.truth import Truths
from clbench.types import seed_from
from clbench.world import World

EFFECTS = (
    "background_popart_rays", "colour_frame", "cyanotype", "gameboy_palette",
    "night_vision", "oil_painting", "pixelate", "subject_ice",
)  # fmt: skip
"""Eight effects of the kinds of world tiny-8, by name: the checks need no adapters."""
CLEAN = 3
"""Clean outputs per asked effect and source, each with nuisance of its own."""
SEEN_DOSE = 0.2
REFERENCE_DRAW, REFERENCES = 200, {"reference pairs": 1, "a teacher of four seeds": 4}
"""First draw of truths without known operators, and how many there are of each kind."""
ELSEWHERE = 20
"""Sources of which such truths are known."""

Pair = tuple[str, str]


class Laboratory:
    """The tiny world with its meter, opened once; the meter is fitted as scoring fits it.

    `effects` are those that are asked for, planted in each other's answers and told apart.
    """

    def __init__(self, world: World, effects: Sequence[str] = EFFECTS) -> None:
        self.world, self.effects, self.truths = world, tuple(effects), Truths(world, subjects=False)

    @cached_property
    def round_trip(self) -> RoundTrip:
        """Pictures through the backbone's VAE, each distinct one once: most right answers are equal in every draw."""
        found = round_trip_of(self.world)
        if found is None:
            raise ClbenchError(f"world {self.world.name} has no backbone at {self.world.backbone_path}")
        return once_each(found)

    @cached_property
    def meter(self) -> BleedingMeter:
        return fit_meter(self.world, [source.id for source in self.world.sources], self.round_trip)

    @cached_property
    def elsewhere(self) -> dict[str, Elsewhere]:
        """What a user has of each effect: one right answer for each of the first `ELSEWHERE` sources."""
        names = [source.id for source in self.world.sources[:ELSEWHERE]]
        found = [references(self, name, 1) for name in names]
        sources = torch.stack([self.source(name) for name in names])
        answers = {effect: torch.cat([made[effect] for made in found]) for effect in self.effects}
        return {name: Elsewhere(self.world.effect(name).random, names, sources, each) for name, each in answers.items()}

    def source(self, source: str) -> Tensor:
        """(3, R, R)."""
        return to_tensor([self.truths.source(source)])[0]

    def frame(self, source: str, effects: Sequence[str]) -> SourceFrame:
        """The meter's frame with known operators."""
        truths = {effect: to_tensor(list(self.truths.many(effect, source))) for effect in effects}
        return self.meter.source_frame(self.source(source), truths)

    def composed(self, source: str, asked: str) -> dict[str, Tensor]:
        """Operators of the other effects on the truth of `asked`, as scoring makes them."""
        pairs = {name: self.truths.composed(asked, name, source, LEAK_DRAWS) for name in self.effects}
        return {name: to_tensor(list(found)) for name, found in pairs.items() if found is not None}

    def returned(self, frame: SourceFrame) -> dict[str, Tensor]:
        """The first draw of every truth as the VAE returns it, (3, R, R)."""
        firsts = [(draws[0].permute(1, 2, 0) * 255).round().byte().numpy() for draws in frame.truths.values()]
        found = zip(frame.truths, firsts, self.round_trip(firsts), strict=True)
        return {effect: to_tensor([first if back is None else back])[0] for effect, first, back in found}


def once_each(round_trip: RoundTrip) -> RoundTrip:
    """`round_trip`, which is asked about every distinct picture once; the others are remembered."""
    known: dict[bytes, np.ndarray | None] = {}

    def look(pictures: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        keys = [picture.tobytes() for picture in pictures]
        fresh = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in known}
        if fresh:
            known.update(zip(fresh, round_trip(list(fresh.values())), strict=True))
        return [known[key] for key in keys]

    return look


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of one source asked for one effect: `kinds` (n,) as (other, form, dose), clean ones first, and pictures."""

    asked: str
    kinds: list[tuple[str, str, float]]
    pictures: Tensor


@dataclass(frozen=True, slots=True)
class Seen:
    """The same outputs as the meter sees them: whitened features (n, D)."""

    asked: str
    kinds: list[tuple[str, str, float]]
    features: Tensor


@dataclass(frozen=True, slots=True)
class Reading:
    """Leak (n,) of every other effect into such outputs, and their labels (n,), empty where nobody asked for them."""

    asked: str
    kinds: list[tuple[str, str, float]]
    leak: dict[str, np.ndarray]
    labels: list[str]


def read_source(laboratory: Laboratory, source: str, curve: bool) -> tuple[list[Reading], dict[str, list[Reading]]]:
    """Readings of the outputs of one source, per asked effect: by the meter, and (for `curve`) by those without operators."""
    frame, meter = laboratory.frame(source, laboratory.effects), laboratory.meter
    outputs = outputs_of(laboratory, source, DOSES if curve else (SEEN_DOSE,))
    made = [Seen(out.asked, out.kinds, meter.see(out.pictures)) for out in outputs]
    known = read_all(laboratory, frame, lambda asked: laboratory.composed(source, asked), made, curve)
    if not curve:
        return known, {}
    draws = references(laboratory, source, max(REFERENCES.values()))
    others = {name: without_operators(laboratory, source, draws, count, made) for name, count in REFERENCES.items()}
    return known, others


def without_operators(
    laboratory: Laboratory, source: str, draws: Mapping[str, Tensor], count: int, made: Sequence[Seen]
) -> list[Reading]:
    """Readings of `made` with `count` right answers of each effect and what it made of other sources, as scoring has them."""
    here, elsewhere = laboratory.source(source), laboratory.elsewhere
    truths = {effect: elsewhere[effect].draws(source, here, own[:count]) for effect, own in draws.items()}

    def composed(asked: str) -> dict[str, Tensor]:
        return {name: elsewhere[name].composed(here, drawn, truths[asked][0]) for name, drawn in truths.items()}

    return read_all(laboratory, laboratory.meter.source_frame(here, truths), composed, made, True)


def read_all(
    laboratory: Laboratory, frame: SourceFrame, composed: Callable[[str], Mapping[str, Tensor]], made: Sequence[Seen],
    label: bool,
) -> list[Reading]:  # fmt: skip
    """Leak and, if asked for, labels of outputs of one source; `composed` has pictures for an asked effect, as far as known."""
    meter, returned = laboratory.meter, laboratory.returned(frame)
    readings = []
    for seen in made:
        leaks = meter.leak_frame(frame, seen.asked, composed(seen.asked), returned[seen.asked])
        table = meter.leak(leaks, seen.features).numpy()
        labels = meter.attribute(frame, meter.distances(frame, seen.features)) if label else []
        found = {name: table[:, number] for number, name in enumerate(leaks.others)}
        readings.append(Reading(seen.asked, seen.kinds, found, labels))
    return readings


def outputs_of(laboratory: Laboratory, source: str, doses: Sequence[float]) -> Iterator[Outputs]:
    """Clean and planted outputs of `source` for every asked effect, all with nuisance."""
    planter = Planter(laboratory.world, source, laboratory.round_trip)
    answers = planter.answers(laboratory.effects)
    yield from (_outputs(planter, answers[asked], laboratory.effects, doses) for asked in laboratory.effects)


def _outputs(planter: Planter, answer: Answer, effects: Sequence[str], doses: Sequence[float]) -> Outputs:
    kinds, pictures = [("", "clean", 0.0)] * CLEAN, [answer.returned] * CLEAN
    for other in effects:
        if other != answer.effect and not why_unknown(planter.world, answer.effect, other, planter.source):
            for (form, dose), picture in planter.plant(answer, other, doses).items():
                kinds.append((other, form, dose))
                pictures.append(picture)
    seeds = [seed_from("selftest", planter.source, answer.effect, *kind, n) for n, kind in enumerate(kinds)]
    return Outputs(answer.effect, kinds, finish(torch.stack(pictures), seeds))


def references(laboratory: Laboratory, source: str, count: int) -> dict[str, Tensor]:
    """Per effect `count` right answers (count, 3, R, R) as a model would have made them: truths without known operators."""
    planter, effects = Planter(laboratory.world, source, laboratory.round_trip), laboratory.effects
    draws = [planter.answers(effects, REFERENCE_DRAW + k) for k in range(count)]
    seeds = {effect: [seed_from("reference", source, effect, k) for k in range(count)] for effect in effects}
    return {effect: finish(torch.stack([draw[effect].returned for draw in draws]), seeds[effect]) for effect in effects}
