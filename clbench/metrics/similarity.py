"""Perceptual distance and CLIP similarities per case (floor 1, pure: networks and embeddings come from outside)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor


@runtime_checkable
class PerceptualNetwork(Protocol):
    """A loaded LPIPS-like network.

    `features` turns pictures in [0, 1] into one tensor per layer, unit-normalised over channels and multiplied by the root of
    the layer's linear weights, so that a distance is a plain squared difference.
    """

    def features(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _c _h _w"]]: ...


def perceptual_distance(
    network: PerceptualNetwork, images: Float[Tensor, "n 3 h w"], truths: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, " n"]:
    """LPIPS-like distance between `images` and `truths`, both in [0, 1].

    Zhang et al., CVPR 2018, eq. 1: sum over layers of the mean over positions of the weighted squared difference
    of unit-normalised features.
    """
    return feature_distance(network.features(images), network.features(truths))


def feature_distance(
    features: Sequence[Float[Tensor, "#n _c _h _w"]], others: Sequence[Float[Tensor, "#n _c _h _w"]]
) -> Float[Tensor, " n"]:
    """The same from features that are at hand, so that a truth is computed once; one picture may meet many."""
    layers = [(a - b).square_().sum((1, 2, 3)) / (a.shape[2] * a.shape[3]) for a, b in zip(features, others, strict=True)]
    return torch.stack(layers).sum(0)


def cosine(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float32[Tensor, " n"]:
    """Cosine of each row of `a` and the same row of `b`; 0 where one of them is a zero vector."""
    a, b = a.double(), b.double()
    length = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / length.clamp_min(1e-12)).clamp(-1, 1).float()


def clip_image_similarity(images: Float[Tensor, "n d"], truths: Float[Tensor, "n d"]) -> Float32[Tensor, " n"]:
    """Cosine of CLIP image embeddings of outputs and truths."""
    return cosine(images, truths)


def clip_text_similarity(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float32[Tensor, " n"]:
    """Cosine of image embeddings of outputs and text embeddings of target captions."""
    return cosine(images, texts)


def clip_directional_similarity(
    sources: Float[Tensor, "n d"],
    images: Float[Tensor, "n d"],
    source_texts: Float[Tensor, "n d"],
    target_texts: Float[Tensor, "n d"],
) -> Float32[Tensor, " n"]:
    """Cosine of (images - sources) and (target_texts - source_texts), all unit embeddings.

    Gal et al. 2022, eq. 2. An output equal to its source has no direction and gives 0.
    """
    return cosine(images - sources, target_texts - source_texts)


def nearest_draw(
    values: Float[Tensor, "n k"], direction: Literal["higher", "lower"], valid: Bool[Tensor, "n k"] | None = None
) -> Float[Tensor, " n"]:
    """The best of K draws, largest or smallest by `direction`.

    `valid` masks draws that do not exist; a row without a valid draw gives NaN.
    """
    if valid is None:
        valid = torch.ones_like(values, dtype=torch.bool)
    worst = float("-inf") if direction == "higher" else float("inf")
    filled = torch.where(valid, values, torch.full_like(values, worst))
    best = filled.max(1).values if direction == "higher" else filled.min(1).values
    return torch.where(valid.any(1), best, torch.full_like(best, float("nan")))
