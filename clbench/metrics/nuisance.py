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
from jaxtyping import Float, Float64, Int
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
    height, width = images.shape[2:]
    down, across = _blurs(height, blur) @ _shifts(height, shift[:, 1]), _blurs(width, blur) @ _shifts(width, shift[:, 0])
    return (_along(images, down, across) * (1 + gain) + offset + noise).clamp(0, 1)


def shift_by(images: Float[Tensor, "n 3 h w"], shift: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3 h w"]:
    """`images` moved by `shift` pixels (x, y): bicubic, the border is reflected."""
    height, width = images.shape[2:]
    return _along(images, _shifts(height, shift[:, 1]), _shifts(width, shift[:, 0]))


def blur_by(images: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """`images` under Gaussians of standard deviation `sigma` pixels, border replicated."""
    height, width = images.shape[2:]
    return _along(images, _blurs(height, sigma), _blurs(width, sigma))


def _along(
    images: Float[Tensor, "n c h w"], down: Float64[Tensor, "n h h"], across: Float64[Tensor, "n w w"]
) -> Float[Tensor, "n c h w"]:
    """Both axes of each picture under its matrices: small products, several times faster than sampling and convolving."""
    return down[:, None].to(images.dtype) @ images @ across[:, None].to(images.dtype).mT


def _shifts(side: int, shift: Float[Tensor, " n"]) -> Float64[Tensor, "n {side} {side}"]:
    """A line of `side` pixels moved by `shift`, as matrices: Keys' cubic convolution (1981) with a = -3/4, as torch has it."""
    place = torch.arange(side) - shift.double()[:, None]
    first = place.floor()
    away = ((place - first)[..., None] - torch.arange(-1, 3)).abs()
    near = (1.25 * away - 2.25) * away**2 + 1
    far = -0.75 * (((away - 5) * away + 8) * away - 4)
    pixel = (first[..., None].long() + torch.arange(-1, 3)).remainder(2 * side)
    pixel = torch.where(pixel < side, pixel, 2 * side - 1 - pixel)
    return _matrices(side, pixel, torch.where(away <= 1, near, far))


def _blurs(side: int, sigma: Float[Tensor, " n"]) -> Float64[Tensor, "n {side} {side}"]:
    """A line of `side` pixels under Gaussians, as matrices."""
    reach = max(4, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma.double()[:, None].clamp_min(1e-3)) ** 2)
    pixel = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    weight = (kernel / kernel.sum(1, keepdim=True))[:, None]
    return _matrices(side, pixel.expand(len(sigma), -1, -1), weight.expand(-1, side, -1))


def _matrices(
    side: int, pixel: Int[Tensor, "n {side} taps"], weight: Float64[Tensor, "n {side} taps"]
) -> Float64[Tensor, "n {side} {side}"]:
    """Matrices whose row p takes `pixel` with `weight` for place p."""
    return torch.zeros((len(pixel), side, side), dtype=torch.float64).scatter_add_(2, pixel, weight)


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
