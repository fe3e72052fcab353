"""Hand-made picture features for the bleeding meter (floor 1, pure).

Four blocks, from local to global, all cheap and without weights: colour means on a 16 x 16 grid (linear in the picture, so
a small dose of an effect moves them in proportion), a band of luma detail on a 32 x 32 grid, energies of texture filters
on an 8 x 8 grid (they see a texture wherever its strokes fall), and histograms of the whole picture
(they see neither where nor which draw). Every feature belongs to a *channel*; features of one channel share their
scale, so a whitening learned from other pictures carries over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor

GRID = 16
DETAIL = 32
CELLS = 8
BINS = 16
ENERGY_FLOOR = 0.01
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which feature is what: `channel` numbers the channel of each feature, `names` names the channels."""

    channel: Int[Tensor, " d"]
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return int(self.channel.numel())


@runtime_checkable
class FeatureSpace(Protocol):
    """Pictures in [0, 1] to features. `windows` index the e features of each of w parts."""

    @property
    def layout(self) -> Layout: ...

    @property
    def windows(self) -> Int[Tensor, "w e"]: ...

    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]: ...


class HandMade:
    """The feature space of `hand_features`; windows are squares of half the side, at every quarter."""

    def __init__(self) -> None:
        self._layout, self._windows = layout(), window_features()

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def windows(self) -> Int[Tensor, "w e"]:
        return self._windows

    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
        return hand_features(images)


CHUNK = 12  # pictures at a time: larger batches fall out of the processor's cache and run slower


def hand_features(images: Float[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
    """Features of `images` in [0, 1], h and w multiples of 32; in the order of `layout()`."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % DETAIL or images.shape[3] % DETAIL:
        raise ValueError(f"images must be (N, 3, H, W) with sides that are multiples of {DETAIL}, not {tuple(images.shape)}")
    return torch.cat([_features(part) for part in images.float().split(CHUNK)])


def _features(images: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, "n d"]:
    opponent = to_opponent(images)
    blocks = (_colour_means(opponent), _detail(opponent), _energies(opponent), _histograms(opponent))
    return torch.cat([block.flatten(1) for block in blocks], 1)


def layout() -> Layout:
    """The layout of `hand_features`."""
    sizes = [(f"mean_{name}", GRID * GRID) for name in ("luma", "red", "blue")]
    sizes += [("detail_luma", DETAIL * DETAIL)]
    sizes += [(f"energy_{name}", CELLS * CELLS) for name in _ENERGY_NAMES]
    sizes += [(f"histogram_{name}_{k}", 1) for name in ("luma", "red", "blue") for k in range(BINS)]
    channel = torch.cat([torch.full((size,), number) for number, (_, size) in enumerate(sizes)])
    return Layout(channel, tuple(name for name, _ in sizes))


def feature_cells() -> Int[Tensor, "d 2"]:
    """For each feature its cell, row and column on the CELLS x CELLS grid; -1 for histograms."""
    parts = []
    for grid, copies in ((GRID, 3), (DETAIL, 1), (CELLS, len(_ENERGY_NAMES))):
        line = torch.arange(grid) * CELLS // grid
        parts.append(torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, 2).repeat(copies, 1))
    parts.append(torch.full((3 * BINS, 2), -1))
    return torch.cat(parts)


def window_features(size: int = CELLS // 2, step: int = CELLS // 4) -> Int[Tensor, "w e"]:
    """Indices of the features inside each square window of `size` cells, at every `step` cells."""
    row, column = feature_cells().unbind(1)
    starts = range(0, CELLS - size + 1, step)
    inside = [(row >= y) & (row < y + size) & (column >= x) & (column < x + size) for y in starts for x in starts]
    return torch.stack([mask.nonzero()[:, 0] for mask in inside])


def to_side(images: Float[Tensor, "n 3 h w"], side: int) -> Float[Tensor, "n 3 {side} {side}"]:
    """`images` at `side` x `side` px (bicubic, antialiased); unchanged if they have that size."""
    if images.shape[2:] == (side, side):
        return images
    small = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1)


def to_opponent(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Luma and two colour differences: Y, R - Y, B - Y."""
    weights = images.new_tensor(_LUMA).view(1, 3, 1, 1)
    luma = (images * weights).sum(1, keepdim=True)
    return torch.cat([luma, images[:, 0:1] - luma, images[:, 2:3] - luma], 1)


def _colour_means(opponent: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 grid grid"]:
    return F.adaptive_avg_pool2d(opponent, GRID)


def _detail(opponent: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 grid grid"]:
    fine = F.adaptive_avg_pool2d(opponent[:, :1], DETAIL)
    return fine - F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2.0, mode="nearest")


_ENERGY_NAMES = (
    "luma_x", "luma_y", "luma_d1", "luma_d2", "luma_laplace",
    "half_x", "half_y", "half_laplace", "red_x", "red_y", "blue_x", "blue_y",
)  # fmt: skip


def _energies(opponent: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n energies cells cells"]:
    luma, colours = opponent[:, :1], opponent[:, 1:]
    half = F.avg_pool2d(luma, 2)
    wide, half_wide, colours_wide = (F.pad(part, (1, 1, 1, 1), mode="reflect") for part in (luma, half, colours))
    fine = [*_slopes(wide), *_diagonals(wide), _laplace(luma, wide)]
    coarse = [*_slopes(half_wide), _laplace(half, half_wide)]
    colour_x, colour_y = (_cell_energy(response) for response in _slopes(colours_wide))
    parts = [_cell_energy(response) for response in (*fine, *coarse)]
    return torch.cat([*parts, colour_x[:, :1], colour_y[:, :1], colour_x[:, 1:], colour_y[:, 1:]], 1)


def _slopes(wide: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h-2 w-2"], Float[Tensor, "n c h-2 w-2"]]:
    """Differences of the neighbours along x and y, of pictures with a border of one pixel."""
    return wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2], wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]


def _diagonals(wide: Float[Tensor, "n c h w"]) -> tuple[Float[Tensor, "n c h-2 w-2"], Float[Tensor, "n c h-2 w-2"]]:
    """The same along both diagonals, falling and rising."""
    return wide[..., 2:, 2:] - wide[..., :-2, :-2], wide[..., 2:, :-2] - wide[..., :-2, 2:]


def _laplace(images: Float[Tensor, "n c h w"], wide: Float[Tensor, "n c h+2 w+2"]) -> Float[Tensor, "n c h w"]:
    """The Laplacian of `images`, which are `wide` without its border."""
    north, south, west, east = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
    return 4 * images - (north + south + east + west)


def _cell_energy(response: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c cells cells"]:
    """Root mean square of half of `response` in each cell."""
    # the floor keeps the root's slope finite where a cell is flat, so that noise there is not blown up
    return (F.adaptive_avg_pool2d(response**2, CELLS) / 4 + ENERGY_FLOOR**2).sqrt()


def _histograms(opponent: Float[Tensor, "n 3 h w"]) -> Float32[Tensor, "n 3 bins"]:
    """Soft histograms: triangular bins over [0, 1] for luma, [-0.8, 0.8] for the differences."""
    low = opponent.new_tensor([0.0, -0.8, -0.8]).view(1, 3, 1)
    width = opponent.new_tensor([1.0, 1.6, 1.6]).view(1, 3, 1)
    place = ((opponent.flatten(2) - low) / width).clamp(0, 1) * (BINS - 1)
    lower = place.floor().clamp(max=BINS - 2)
    first = (lower.int() + BINS * torch.arange(len(opponent) * 3, dtype=torch.int32).view(-1, 3, 1)).flatten()
    bins = len(opponent) * 3 * BINS
    upper = torch.bincount(first, (place - lower).double().flatten(), minlength=bins).view(-1, 3, BINS)
    counts = torch.bincount(first, minlength=bins).view(-1, 3, BINS) - upper
    counts[..., 1:] += upper[..., :-1]
    return (counts / place.shape[2]).float()
