"""Is the subject still there? A score from 1 to 5 per case (floor 1, pure).

Raw pixels cannot answer, because the effect changes them on purpose. The question is put to *structure* (contrast-normalised
gradients) where a reference picture with the subject differs from the same picture without it: is the output more like
the one or like the other? References are the draws of the truth and the source itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from clbench.metrics.features import to_opponent

SCALES = (1.2, 2.4)
CONTRAST_FLOOR = 0.02
GONE, THERE = 0.1, 0.5
SMALLEST_GAP = 0.2
"""Where truths with and without the subject respond as alike as this, the subject cannot be seen under the effect."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """Responses that read as 1 (`gone`) and as 5 (`there`).

    The default holds where the truth is one picture: pictures without the subject respond at or below 0, truths
    under nuisance above 0.5. Where it is drawn at random, another draw responds less: see `anchors_of_draws`.
    """

    gone: float = GONE
    there: float = THERE

    @property
    def visible(self) -> bool:
        return self.there - self.gone >= SMALLEST_GAP


DEFAULT = Anchors()


@dataclass(frozen=True, slots=True)
class Reference:
    """Structure `here` with and `gone` without the subject, and where they differ, `weight`."""

    here: Float64[Tensor, "4 h w"]
    gone: Float64[Tensor, "4 h w"]
    weight: Float64[Tensor, "1 h w"]


def reference(present: Float[Tensor, "k 3 h w"], absent: Float[Tensor, "k 3 h w"]) -> Reference:
    """From pictures with the subject and the same without it: what they agree on."""
    return agreed(structure(present), structure(absent))


def agreed(here: Float64[Tensor, "k 4 h w"], gone: Float64[Tensor, "k 4 h w"]) -> Reference:
    """The same from `structure` that is at hand, so that it is computed once."""
    weight = (here - gone).pow(2).sum(1, keepdim=True).mean(0)
    return Reference(here.mean(0), gone.mean(0), weight / weight.amax().clamp_min(1e-9))


def subject_score(
    outputs: Float[Tensor, "n 3 h w"], references: Sequence[Reference], anchors: Anchors = DEFAULT
) -> Float32[Tensor, " n"]:
    """Subject preservation in 1..5 of `outputs` in [0, 1].

    `references` are the truth and the source. With r the best response over them the score is
    ``1 + 4 clip((r - gone) / (there - gone), 0, 1)``.
    """
    seen = structure(outputs)
    best = torch.stack([response(seen, each) for each in references]).amax(0)
    return (1 + 4 * ((best - anchors.gone) / (anchors.there - anchors.gone)).clamp(0, 1)).float()


def response(seen: Float64[Tensor, "n 4 h w"], to: Reference) -> Float64[Tensor, " n"]:
    """1 where the structure `seen` is as with the subject, 0 and less where it is not.

    The cosine with the structure that has the subject, less that with the one that has not, over what a perfect output would
    reach; negative cosines count as 0, and places count as far as the two differ there.
    """
    both = _cosine(to.here, to.gone, to.weight)
    found = (_cosine(seen, to.here, to.weight) - _cosine(seen, to.gone, to.weight)) / (1 - both).clamp_min(1e-6)
    return torch.where(both < 0.999, found, torch.zeros_like(found))


def anchors_of_draws(present: Float[Tensor, "k 3 h w"], absent: Float[Tensor, "k 3 h w"]) -> Anchors:
    """Anchors from k >= 3 draws of a random truth, each judged by what the others agree on: see `anchors_of`."""
    return anchors_of(structure(present), structure(absent))


def anchors_of(here: Float64[Tensor, "k 4 h w"], gone: Float64[Tensor, "k 4 h w"]) -> Anchors:
    """Anchors from the `structure` of k >= 3 draws with the subject and of the same without it.

    The anchor `there` comes from the mean response of draws with the subject, `gone` from that of draws without it, each moved
    a quarter of the way to the other, as much as nuisance and chance may take.
    """
    responses = []
    for number in range(len(here)):
        rest = [k for k in range(len(here)) if k != number]
        responses.append(response(torch.stack([here[number], gone[number]]), agreed(here[rest], gone[rest])))
    high, low = torch.stack(responses).mean(0).tolist()
    return Anchors(gone=max(low + (high - low) / 4, 0.0), there=min(high - (high - low) / 4, THERE))


def structure(images: Float[Tensor, "n 3 h w"]) -> Float64[Tensor, "n 4 h w"]:
    """Gradients of the luma at two scales over their local strength.

    Strength is pooled over a Gaussian window of three times the scale, so contrast and colour drop out and layout stays.
    """
    luma = to_opponent(images.double())[:, :1]
    parts = []
    for scale in SCALES:
        smooth = _blur(luma, scale)
        wide = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
        gradient = torch.cat([wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]], 1)
        strength = _blur(gradient.pow(2).sum(1, keepdim=True), 3 * scale).sqrt()
        parts.append(gradient / (strength + CONTRAST_FLOOR))
    return torch.cat(parts, 1)


def _cosine(
    a: Float64[Tensor, "*n c h w"], b: Float64[Tensor, "c h w"], weight: Float64[Tensor, "1 h w"]
) -> Float64[Tensor, "*n"]:
    """Weighted cosine over channels and places, at least 0."""
    product = ((a * b) * weight).sum((-3, -2, -1))
    length = ((a * a) * weight).sum((-3, -2, -1)) * ((b * b) * weight).sum((-3, -2, -1))
    return (product / length.clamp_min(1e-12).sqrt()).clamp_min(0)


def _blur(planes: Float64[Tensor, "*batch h w"], sigma: float) -> Float64[Tensor, "*batch h w"]:
    """`planes` under a Gaussian, border replicated. As products: several times faster than float64 convolutions."""
    height, width = planes.shape[-2:]
    return _gaussian(height, sigma) @ (planes @ _gaussian(width, sigma).T)


@lru_cache(maxsize=32)
def _gaussian(side: int, sigma: float) -> Float64[Tensor, "{side} {side}"]:
    """The blur of one line of `side` pixels as a matrix; as far-reaching as `nuisance.blur_by`."""
    reach = max(4, math.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    from_pixel = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    return torch.zeros((side, side), dtype=torch.float64).scatter_add_(1, from_pixel, (kernel / kernel.sum()).expand(side, -1))
