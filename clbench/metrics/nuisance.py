"""What a model does to a right answer without meaning anything by it (floor 1, pure).

A model's picture is never its truth pixel for pixel: it is a little blurred, shifted, tinted and noisy. The meter
must not call that an effect. `apply_nuisance` makes such deviations on purpose, from seeds, so that distances
can be whitened by them and planted answers can carry them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clbench.types import seed_from


@dataclass(frozen=True, slots=True)
class Nuisance:
    """Sizes of the deviations, in pixels and in units of the [0, 1] range.

    `blur` is the range of the Gaussian's standard deviation in pixels, `shift` the largest displacement per axis
    in pixels (uniform), `gain`, `offset` and `noise` are standard deviations (gain and offset per colour channel,
    noise per value).
    """

    blur: tuple[float, float] = (0.2, 0.6)
    shift: float = 0.7
    gain: float = 0.04
    offset: float = 0.02
    noise: float = 0.02

    def times(self, factor: float) -> Nuisance:
        """The same kind of nuisance, `factor` times as strong."""
        low, high = self.blur
        return Nuisance(
            (low * factor, high * factor), self.shift * factor, self.gain * factor, self.offset * factor, self.noise * factor
        )


MODEL = Nuisance()


def apply_nuisance(
    images: Float[Tensor, "n 3 h w"], seeds: Sequence[int], size: Nuisance = MODEL
) -> Float[Tensor, "n 3 h w"]:
    """`images` in [0, 1] as a model would return them; one seed per picture, batch-independent."""
    if len(seeds) != images.shape[0]:
        raise ValueError(f"{images.shape[0]} pictures need as many seeds, not {len(seeds)}")
    if not len(seeds):
        return images
    draws = [_draw(image, seed, size) for image, seed in zip(images, seeds, strict=True)]
    blur, shift, gain, offset, noise = (torch.stack(parts) for parts in zip(*draws, strict=True))
    moved = blur_by(shift_by(images, shift), blur)
    return (moved * (1 + gain) + offset + noise).clamp(0, 1)


def shift_by(images: Float[Tensor, "n 3 h w"], shift: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3 h w"]:
    """`images` moved by `shift` pixels (x, y): bicubic, the border is reflected."""
    count, _, height, width = images.shape
    theta = torch.eye(2, 3, dtype=images.dtype).repeat(count, 1, 1)
    theta[:, :, 2] = -2 * shift.to(images.dtype) / torch.tensor([width, height], dtype=images.dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def blur_by(images: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """`images` under Gaussians of standard deviation `sigma` pixels, border replicated."""
    count, channels, height, width = images.shape
    reach = max(4, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets[None] / sigma.to(images.dtype)[:, None].clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = images.reshape(1, count * channels, height, width)
    flat = F.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.reshape(images.shape)


def _draw(
    image: Float[Tensor, "3 h w"], seed: int, size: Nuisance
) -> tuple[
    Float[Tensor, ""], Float[Tensor, " 2"], Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"], Float[Tensor, "3 h w"]
]:
    """Blur in pixels, shift in pixels (x, y), gain, offset and noise of one picture."""
    generator = torch.Generator().manual_seed(seed_from("nuisance", seed))
    low, high = size.blur
    blur = low + (high - low) * torch.rand((), generator=generator)
    shift = size.shift * (2 * torch.rand(2, generator=generator) - 1)
    gain = size.gain * torch.randn((3, 1, 1), generator=generator)
    offset = size.offset * torch.randn((3, 1, 1), generator=generator)
    noise = size.noise * torch.randn(image.shape, generator=generator)
    return blur, shift, gain, offset, noise.to(image.dtype)
