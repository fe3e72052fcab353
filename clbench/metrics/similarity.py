"""Perceptual distance and CLIP similarities per case (floor 1, pure: networks and embeddings come from outside)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor


class PerceptualNetwork(Protocol):
    """A loaded LPIPS-like network.

    `features` turns pictures (N, 3, H, W) in [0, 1] into one tensor (N, C, h, w) per layer, unit-normalised over channels
    and multiplied by the root of the layer's linear weights, so that a distance is a plain squared difference.
    """

    def features(self, images: Tensor) -> list[Tensor]: ...


def perceptual_distance(network: PerceptualNetwork, images: Tensor, truths: Tensor) -> Tensor:
    """LPIPS-like distance (N,) between `images` and `truths`, both (N, 3, H, W) in [0, 1].

    Zhang et al., CVPR 2018, eq. 1: sum over layers of the mean over positions of the weighted squared difference
    of unit-normalised features.
    """
    return feature_distance(network.features(images), network.features(truths))


def feature_distance(features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """The same from features that are at hand, so that a truth is computed once: (N,)."""
    layers = [(a - b).pow(2).sum(1).mean((1, 2)) for a, b in zip(features, others, strict=True)]
    return torch.stack(layers).sum(0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (N,) of rows of `a` and `b`, both (N, D); 0 where one of them is a zero vector."""
    a, b = a.double(), b.double()
    length = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / length.clamp_min(1e-12)).clamp(-1, 1).float()


def clip_image_similarity(images: Tensor, truths: Tensor) -> Tensor:
    """Cosine (N,) of CLIP image embeddings of outputs and truths, both (N, D)."""
    return cosine(images, truths)


def clip_text_similarity(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine (N,) of image embeddings of outputs and text embeddings of target captions, both (N, D)."""
    return cosine(images, texts)


def clip_directional_similarity(sources: Tensor, images: Tensor, source_texts: Tensor, target_texts: Tensor) -> Tensor:
    """Cosine (N,) of (images - sources) and (target_texts - source_texts), all (N, D) unit embeddings.

    Gal et al. 2022, eq. 2. An output equal to its source has no direction and gives 0.
    """
    return cosine(images - sources, target_texts - source_texts)


def nearest_draw(values: Tensor, direction: Literal["higher", "lower"], valid: Tensor | None = None) -> Tensor:
    """The best of K draws: `values` (N, K) -> (N,), largest or smallest by `direction`.

    `valid` (N, K) bool masks draws that do not exist; a row without a valid draw gives NaN.
    """
    if valid is None:
        valid = torch.ones_like(values, dtype=torch.bool)
    worst = float("-inf") if direction == "higher" else float("inf")
    filled = torch.where(valid, values, torch.full_like(values, worst))
    best = filled.max(1).values if direction == "higher" else filled.min(1).values
    return torch.where(valid.any(1), best, torch.full_like(best, float("nan")))
