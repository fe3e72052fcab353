"""Planted outputs: right answers of known effects, as a model would return them, with a known dose of another effect.

A right answer goes through the backbone's VAE; the planted part is added to what comes back; blur, shift, colour shift and noise
(`clbench.metrics.nuisance`) come last, and pictures have 8 bits. The meter does not know these draws of random effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import RoundTrip, to_tensor
from clbench.composition import mask_after, operated
from clbench.images import reduce_to
from clbench.metrics.nuisance import apply_nuisance
from clbench.types import seed_from
from clbench.world import World

FORMS = ("add", "compose", "region")
"""Effect j's change of the source added; j's operator applied to the answer and blended in; that in one square only."""
DOSES = (0.05, 0.1, 0.2, 0.4, 0.8)
DRAW, OTHER_DRAW = 100, 101
"""Draws of the asked and of the planted effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A right answer at the working size and, as the VAE returns it, (3, R, R) at the world's resolution."""

    effect: str
    image: np.ndarray
    mask: np.ndarray
    returned: Tensor


class Planter:
    """Makes outputs for one source of `world`; `round_trip` None leaves the VAE out."""

    def __init__(self, world: World, source: str, round_trip: RoundTrip | None) -> None:
        self.world, self.source, self._round_trip = world, source, round_trip
        self.image = world.source_image(source)
        mask = world.mask(source)
        self.mask = np.zeros(self.image.shape[:2], np.float32) if mask is None else mask
        self._added: Callable[[str], Tensor] = lru_cache(maxsize=None)(self._change_of_source)

    def answers(self, effects: Sequence[str], draw: int = DRAW) -> dict[str, Answer]:
        """Right answers of `effects`, through the VAE together."""
        images = [operated(self.world.effect(effect), self.source, self.image, self.mask, draw) for effect in effects]
        small = [reduce_to(image, self.world.resolution) for image in images]
        found = small if self._round_trip is None else self._round_trip(small)
        returned = to_tensor([plain if back is None else back for plain, back in zip(small, found, strict=True)])
        masks = [mask_after(self.world.effect(effect), self.source, self.mask, draw) for effect in effects]
        return {e: Answer(e, i, m, r) for e, i, m, r in zip(effects, images, masks, returned, strict=True)}

    def changes(self, answer: Answer, other: str) -> dict[str, Tensor]:
        """What `other` does at full strength, per form: (3, R, R), to be added to the answer with a dose."""
        full = operated(self.world.effect(other), self.source, answer.image, answer.mask, OTHER_DRAW)
        composed = self._small(full) - self._small(answer.image)
        return {"add": self._added(other), "compose": composed, "region": composed}

    def plant(self, answer: Answer, other: str, doses: Sequence[float]) -> dict[tuple[str, float], Tensor]:
        """The answer (3, R, R) with each dose of `other` in each form, before nuisance; not clipped."""
        found = {}
        for form, change in self.changes(answer, other).items():
            for dose in doses:
                share = self._square(answer, other, dose) if form == "region" else dose
                found[form, dose] = answer.returned + share * change
        return found

    def _square(self, answer: Answer, other: str, area: float) -> Tensor:
        return square(answer.returned.shape[1], area, (self.source, answer.effect, other))

    def _change_of_source(self, other: str) -> Tensor:
        full = operated(self.world.effect(other), self.source, self.image, self.mask, OTHER_DRAW)
        return self._small(full) - self._small(self.image)

    def _small(self, image: np.ndarray) -> Tensor:
        return to_tensor([reduce_to(image, self.world.resolution)])[0]


def square(side: int, area: float, key: Sequence[str]) -> Tensor:
    """A square of ones (1, side, side) with this share of the area, where `key` puts it."""
    length = round(side * area**0.5)
    row, column = np.random.default_rng(seed_from("square", *key)).integers(0, side - length + 1, 2)
    mask = torch.zeros((1, side, side))
    mask[:, row : row + length, column : column + length] = 1
    return mask


def finish(pictures: Tensor, seeds: Sequence[int]) -> Tensor:
    """Nuisance and 8 bits: what is stored of (n, 3, R, R), one seed per picture."""
    return (apply_nuisance(pictures.clamp(0, 1), seeds) * 255).round() / 255
