"""The tiny world's autoencoder: diffusers' AutoencoderKL, trained for pixel fidelity on scenes of the base split.

No effect of the catalogue is in its training. So that it can carry pictures unlike photographs all the same, scenes
pass through random linear colour maps, and a share of each batch is drawn patterns (stripes, checks, dots, noise).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from clbench.images import reduce_to
from clbench.scenes import Pool, scene_of
from reference_trainer.pretrain_config import VaeConfig


def build_vae(config: VaeConfig, resolution: int) -> AutoencoderKL:
    """An untrained AutoencoderKL; the log-variance starts low, so that latents carry signal from the first step."""
    blocks = len(config.channels)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,  # type: ignore[arg-type]  # annotated as tuples of one
        up_block_types=("UpDecoderBlock2D",) * blocks,  # type: ignore[arg-type]
        block_out_channels=config.channels,  # type: ignore[arg-type]
        layers_per_block=config.layers,
        latent_channels=config.latents,
        norm_num_groups=config.groups,
        sample_size=resolution,
        scaling_factor=1.0,
        shift_factor=0.0,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    with torch.no_grad():
        bias = vae.encoder.conv_out.bias
        assert bias is not None
        bias[config.latents :] = -7.0
        vae.encoder.conv_out.weight[config.latents :] *= 0.1
    return vae


def encode(vae: AutoencoderKL, batch: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] -> the mode of their latents, unscaled."""
    return vae.encode(batch, return_dict=False)[0].mode()


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Unscaled latents -> pictures (N, 3, H, W), about [-1, 1]."""
    return vae.decode(latents, return_dict=False)[0]  # type: ignore[return-value]


def render_scenes(pool: Pool, split: str, count: int, resolution: int) -> Tensor:
    """The first `count` scenes of a split: uint8 (count, 3, resolution, resolution)."""
    pictures = [reduce_to(scene_of(pool, split, i).image, resolution) for i in range(count)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def draw_patterns(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Synthetic pictures (count, 3, size, size) in [0, 1]: two colours mixed by stripes, checks, dots or noise."""
    axis = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    colours = torch.rand(count, 2, 3, 1, 1, generator=generator)
    pictures = []
    for i in range(count):
        angle, period, phase, kind = torch.rand(4, generator=generator).tolist()
        angle, period = angle * math.pi, 3 + period * 20
        u = (x * math.cos(angle) + y * math.sin(angle)) / period + phase
        v = (y * math.cos(angle) - x * math.sin(angle)) / period
        if kind < 0.3:
            weight = (torch.frac(u + 100) < 0.5).float()
        elif kind < 0.5:
            weight = ((torch.floor(u) + torch.floor(v)) % 2).abs()
        elif kind < 0.75:
            weight = ((torch.frac(u + 100) - 0.5) ** 2 + (torch.frac(v + 100) - 0.5) ** 2 < 0.09).float()
        else:
            side = max(2, int(size / period))
            coarse = torch.rand(1, 1, side, side, generator=generator)
            weight = F.interpolate(coarse, size=(size, size), mode="nearest" if kind < 0.87 else "bilinear")[0, 0]
        pictures.append(colours[i, 0] + weight * (colours[i, 1] - colours[i, 0]))
    return torch.stack(pictures)


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (N, 3, H, W) -> float [0, 1]: mirrored at random, half of them through a random linear colour map."""
    batch = pictures.float() / 255
    count = len(batch)
    mirrored = torch.rand(count, generator=generator) < 0.5
    batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    mix = torch.eye(3) + 0.5 * torch.randn(count, 3, 3, generator=generator)
    mix = mix / mix.sum(dim=2, keepdim=True).abs().clamp(min=0.5)
    offset = 0.15 * torch.randn(count, 3, 1, 1, generator=generator)
    mapped = (torch.einsum("nij,njhw->nihw", mix, batch) + offset).clamp(0, 1)
    change = torch.rand(count, generator=generator) < 0.5
    return torch.where(change[:, None, None, None], mapped, batch)


def batches(pictures: Tensor, config: VaeConfig, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless training batches (batch, 3, H, W) in [-1, 1]; an eighth of each is drawn patterns, at least one."""
    drawn = max(1, config.batch // 8)
    while True:
        index = torch.randint(len(pictures), (config.batch - drawn,), generator=generator)
        batch = torch.cat([augment(pictures[index], generator), draw_patterns(drawn, pictures.shape[-1], generator)])
        yield batch * 2 - 1


@dataclass(slots=True)
class VaeLosses:
    pixel: Tensor
    kl: Tensor


def vae_losses(vae: AutoencoderKL, batch: Tensor, generator: torch.Generator) -> VaeLosses:
    """Pixel loss (mean of absolute and squared error) and KL per latent number of a batch in [-1, 1]."""
    (posterior,) = vae.encode(batch, return_dict=False)
    restored = decode(vae, posterior.sample(generator))
    error = restored - batch
    return VaeLosses(error.abs().mean() * 0.5 + error.square().mean() * 2, posterior.kl().mean() / posterior.mean[0].numel())


def psnr_per_picture(vae: AutoencoderKL, pictures: Tensor, batch: int = 32) -> Tensor:
    """PSNR in dB (peak 1) of the round trip of uint8 pictures (N, 3, H, W), clipped to 8 bits as a file would be."""
    found = []
    with torch.no_grad():
        for part in pictures.split(batch):
            wanted = part.float() / 255
            restored = decode(vae, encode(vae, wanted * 2 - 1))
            restored = ((restored / 2 + 0.5).clamp(0, 1) * 255).round() / 255
            found.append(-10 * (restored - wanted).square().mean(dim=(1, 2, 3)).clamp(min=1e-10).log10())
    return torch.cat(found)


def set_latent_scale(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Write the shift and the scaling that give latents of `pictures` mean 0 and standard deviation 1 overall."""
    with torch.no_grad():
        latents = torch.cat([encode(vae, p.float() / 127.5 - 1) for p in pictures[:1024].split(32)])
    vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
