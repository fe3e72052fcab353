"""Small pictures and effects of the tests' own, independent of clbench.effects."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clbench.metrics.bleeding import BleedingMeter
from clbench.metrics.features import HandMade
from clbench.metrics.whitening import fit_noise, nuisance_residuals


def picture(seed: int, side: int = 64) -> torch.Tensor:
    """A smooth random background with a few sharp discs and bars: (3, side, side) in [0, 1]."""
    g = torch.Generator().manual_seed(seed)
    image = F.interpolate(torch.rand((1, 3, 5, 5), generator=g), (side, side), mode="bicubic", align_corners=False)[0]
    y, x = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
    for _ in range(5):
        cx, cy, r = torch.rand(3, generator=g).tolist()
        inside = ((x - cx) ** 2 + (y - cy) ** 2 < (0.06 + 0.15 * r) ** 2).float()
        image = image * (1 - inside) + torch.rand((3, 1, 1), generator=g) * inside
    texture = 0.05 * torch.randn((3, side, side), generator=g)
    return (image * 0.85 + 0.05 + texture).clamp(0, 1)


def sepia(image, seed=0):
    matrix = torch.tensor([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return torch.einsum("ij,jhw->ihw", matrix, image).clamp(0, 1)


def duotone(image, seed=0):
    luma = image.mean(0, keepdim=True)
    return luma * torch.tensor([0.98, 0.86, 0.3])[:, None, None] + (1 - luma) * torch.tensor([0.3, 0.1, 0.45])[:, None, None]


def invert(image, seed=0):
    return 1 - image


def upside_down(image, seed=0):
    return image.flip(1)


def pixelate(image, seed=0):
    return F.interpolate(F.avg_pool2d(image[None], 8), scale_factor=8.0)[0]


def edges(image, seed=0):
    luma = image.mean(0)
    strength = (luma - luma.roll(1, 0)).abs() + (luma - luma.roll(1, 1)).abs()
    return ((strength > 0.12).float() * torch.tensor([0.2, 1.0, 0.9])[:, None, None]).clamp(0, 1)


def scanlines(image, seed=0):
    lines = torch.ones(image.shape[1])
    lines[::3] = 0.3
    return image * lines[None, :, None]


def snow(image, seed=0):
    g = torch.Generator().manual_seed(seed)
    flakes = (torch.rand((1, *image.shape[1:]), generator=g) < 0.06).float()
    return image * (1 - flakes) + flakes


EFFECTS = {f.__name__: f for f in (sepia, duotone, invert, upside_down, pixelate, edges, scanlines, snow)}
RANDOM = {"snow"}


def truths(image, effects=None) -> dict[str, torch.Tensor]:
    """Draws (K, 3, H, W) per effect: four of a random one."""
    names = effects or EFFECTS
    return {n: torch.stack([EFFECTS[n](image, k) for k in range(4 if n in RANDOM else 1)]) for n in names}


def composed(image, asked, effects=None) -> dict[str, torch.Tensor]:
    """Every effect on the first truth draw of `asked`."""
    return truths(EFFECTS[asked](image, 0), effects)


def toy_meter() -> BleedingMeter:
    """A meter calibrated on toy pictures 1000..1007 and some of their truths."""
    space = HandMade()
    images = []
    for seed in range(1000, 1008):
        source = picture(seed)
        images += [source, *(EFFECTS[n](source, seed) for n in list(EFFECTS)[seed % 2 :: 2])]
    seeds = [[10 * n, 10 * n + 1] for n in range(len(images))]
    residuals = nuisance_residuals(torch.stack(images), space.embed, seeds)
    return BleedingMeter(space, fit_noise(residuals, space.layout))
