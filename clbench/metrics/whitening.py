"""The noise of a right answer, and a space in which it is white (floor 1, pure).

Two parts. What a small blur, shift, tint or noise does to *this* picture is computed from the picture itself: its
*tangents*, directions in which a right answer may move. What is left, measured on other pictures, gives every feature channel
its scale and a few common modes (a shrunk covariance: identity plus a low rank).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clbench.metrics.features import Layout
from clbench.metrics.nuisance import MODEL, Nuisance, apply_nuisance, blur_by, shift_by

Embed = Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n d"]]

TANGENTS = 10
SMALLEST_SCALE = 1e-4


@dataclass(frozen=True, slots=True)
class Residuals:
    """Deviations of right answers: `values` for n variants of m pictures, `tangents` of the pictures."""

    values: Float[Tensor, "m n d"]
    tangents: Float[Tensor, "m t d"]


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Whitening learned from residuals: divide by `scale`, then shrink along `basis` by `gain`."""

    layout: Layout
    scale: Float64[Tensor, " d"]
    basis: Float64[Tensor, "d r"]
    gain: Float64[Tensor, " r"]

    def whiten(self, features: Float[Tensor, "*batch d"]) -> Float64[Tensor, "*batch d"]:
        """Whitened features; linear."""
        scaled = features.double() / self.scale
        return scaled - ((scaled @ self.basis) * self.gain) @ self.basis.T


def tangent_images(images: Float[Tensor, "n 3 h w"], size: Nuisance = MODEL) -> Float[Tensor, "n t 3 h w"]:
    """What nuisance of one standard deviation does to each picture, `TANGENTS` pictures of each.

    In order: shift in x, shift in y, blur, noise, and per colour channel gain and offset.
    """
    count = len(images)
    step = size.shift / 3**0.5  # standard deviation of a uniform draw from [-shift, shift]
    along_x, along_y = images.new_tensor([[step, 0.0]]), images.new_tensor([[0.0, step]])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, *images.shape[1:]), generator=generator).to(images.dtype)
    moved = [
        shift_by(images, along_x.expand(count, 2)),
        shift_by(images, along_y.expand(count, 2)),
        blur_by(images, images.new_full((count,), sum(size.blur) / 2)),
        images + size.noise * noise,
    ]
    for channel in range(3):
        only = torch.zeros((1, 3, 1, 1), dtype=images.dtype)
        only[:, channel] = 1
        moved += [images * (1 + size.gain * only), images + size.offset * only]
    return torch.stack(moved, 1).clamp(0, 1)


def tangents_of(images: Float[Tensor, "n 3 h w"], embed: Embed, size: Nuisance = MODEL) -> Float[Tensor, "n t d"]:
    """Feature changes of `tangent_images`."""
    moved = tangent_images(images, size)
    base = embed(images)
    return embed(moved.flatten(0, 1)).view(len(images), TANGENTS, -1) - base[:, None]


def nuisance_residuals(
    images: Float[Tensor, "m 3 h w"],
    embed: Embed,
    seeds: Sequence[Sequence[int]],
    size: Nuisance = MODEL,
    extra: Sequence[Float[Tensor, "m 3 h w"]] = (),
) -> Residuals:
    """Residuals of right answers `images` under nuisance; `seeds` has n seeds per picture.

    `extra` are further versions of the same pictures that count as right, for instance their round trip through a backbone's
    VAE; each goes through the first nuisance seed's draw as well.
    """
    base = embed(images)
    versions = [apply_nuisance(images, list(column), size) for column in zip(*seeds, strict=True)]
    firsts = [row[0] for row in seeds]
    versions += [apply_nuisance(version, firsts, size) for version in extra]
    values = torch.stack([embed(version) for version in versions], 1) - base[:, None]
    return Residuals(values, tangents_of(images, embed, size))


def fit_noise(residuals: Residuals, layout: Layout, rank: int = 64, rounds: int = 3) -> NoiseModel:
    """The noise model of `residuals`: channel scales with the tangents taken out, then `rank` common modes.

    Scales are pooled over the features of a channel, so that they hold for other pictures; scale and projection
    depend on each other and are found in `rounds` turns. Eigenvalues are shrunk by pulling every mode below 1 to 1.
    """
    values, tangents = residuals.values.double(), residuals.tangents.double()
    scale = _scale(values, layout)
    for _ in range(rounds):
        left = project_out(values / scale, tangents / scale)
        scale = _scale(left * scale, layout)
    left = project_out(values / scale, tangents / scale).flatten(0, 1)
    rank = min(rank, *left.shape)
    _, singular, modes = torch.linalg.svd(left / len(left) ** 0.5, full_matrices=False)
    spread = singular[:rank].pow(2).clamp_min(1.0)
    return NoiseModel(layout, scale, modes[:rank].T.contiguous(), 1 - spread.rsqrt())


def project_out(
    vectors: Float[Tensor, "*batch n d"], tangents: Float[Tensor, "*batch t d"]
) -> Float[Tensor, "*batch n d"]:
    """`vectors` times the inverse of I + tangents^T tangents.

    So ``v @ project_out(v)`` is the squared length of v with each tangent free at unit cost (Woodbury).
    """
    size = tangents.shape[-2]
    small = torch.eye(size, dtype=tangents.dtype) + tangents @ tangents.transpose(-1, -2)
    weights = torch.linalg.solve(small, tangents @ vectors.transpose(-1, -2))
    return vectors - weights.transpose(-1, -2) @ tangents


def channel_means(values: Float[Tensor, "*batch d"], layout: Layout) -> Float[Tensor, "*batch c"]:
    """Mean over the features of each channel."""
    channels = len(layout.names)
    total = torch.zeros((*values.shape[:-1], channels), dtype=values.dtype).index_add_(-1, layout.channel, values)
    return total / torch.bincount(layout.channel, minlength=channels)


def channel_shares(layout: Layout) -> Float64[Tensor, " c"]:
    """Share of the features that each channel holds."""
    return torch.bincount(layout.channel, minlength=len(layout.names)).double() / layout.size


def pool_channels(values: Float[Tensor, "*batch d"], layout: Layout) -> Float[Tensor, "*batch d"]:
    """Mean over the features of each channel, written back to every feature."""
    return channel_means(values, layout)[..., layout.channel]


def _scale(values: Float[Tensor, "m n d"], layout: Layout) -> Float[Tensor, " d"]:
    return pool_channels(values.pow(2).mean((0, 1)), layout).sqrt().clamp_min(SMALLEST_SCALE)
