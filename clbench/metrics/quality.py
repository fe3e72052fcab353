"""PSNR and SSIM per case (floor 1, pure)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor

PSNR_CEILING = 100.0
_SIGMA, _REACH = 1.5, 5  # an 11 x 11 window, Wang et al. 2004, section III.C


def psnr(images: Float[Tensor, "n 3 h w"], truths: Float[Tensor, "n 3 h w"]) -> Float32[Tensor, " n"]:
    """Peak signal-to-noise ratio in dB of `images` against `truths`, both in [0, 1].

    Equal pictures would be infinite; the value stops at 100 dB, where 8-bit pictures are equal.
    """
    _check(images, truths)
    error = (images.double() - truths.double()).pow(2).mean((1, 2, 3))
    return (-10 * torch.log10(error.clamp_min(10 ** (-PSNR_CEILING / 10)))).float()


def ssim(images: Float[Tensor, "n 3 h w"], truths: Float[Tensor, "n 3 h w"]) -> Float32[Tensor, " n"]:
    """Structural similarity of `images` and `truths`, both in [0, 1], sides >= 11.

    Wang et al., IEEE TIP 2004, eq. 13 with K1 = .01, K2 = .03, Gaussian window of sigma 1.5 and population
    covariance; mean over the pixels whose window lies inside the picture, then over channels. Agrees with
    ``skimage.metrics.structural_similarity(gaussian_weights=True, use_sample_covariance=False)``.
    """
    return ssim_map(images, truths).mean((1, 2, 3)).float()


def ssim_map(images: Float[Tensor, "n 3 h w"], truths: Float[Tensor, "n 3 h w"]) -> Float64[Tensor, "n 3 h-10 w-10"]:
    """The local similarities of `ssim`."""
    _check(images, truths)
    if min(images.shape[2:]) <= 2 * _REACH:
        raise ValueError(f"SSIM needs sides of at least {2 * _REACH + 1} px, not {tuple(images.shape[2:])}")
    x, y = images.double(), truths.double()
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    cov = _window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def _window(planes: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h-10 w-10"]:
    offsets = torch.arange(-_REACH, _REACH + 1, dtype=planes.dtype)
    kernel = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel = kernel / kernel.sum()
    count, channels, height, width = planes.shape
    flat = planes.reshape(count * channels, 1, height, width)
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return flat.reshape(count, channels, height - 2 * _REACH, width - 2 * _REACH)


def _check(images: Float[Tensor, " ..."], truths: Float[Tensor, " ..."]) -> None:
    if images.shape != truths.shape or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected two equal shapes (N, 3, H, W), not {tuple(images.shape)} and {tuple(truths.shape)}")
