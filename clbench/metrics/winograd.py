"""Small convolutions with fewer multiplications (floor 1, pure).

Winograd's minimal filtering (Lavin and Gray, CVPR 2016): a tile of n x n pixels, n = m + k - 1, gives m x m places of a
convolution (k, k) by n^2 multiplications in place of ``m^2 k^2``: a quarter for k = 3, m = 4. The multiplications of all tiles
and channels are n^2 products of matrices. Matrices of Toom and Cook from exact fractions, so no table is typed in.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import starmap
from typing import TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

POINTS = tuple(starmap(Fraction, ((0, 1), (1, 1), (-1, 1), (2, 1), (-2, 1), (1, 2), (-1, 2))))
"""Where polynomials are evaluated, the first ones first: small numbers and their inverses keep rounding small."""
PLACES = 4
"""m; more would cost digits."""
TILES = 64
"""Tiles at a time: what belongs to them stays in a core's cache."""
KERNELS, CHANNELS = (3, 5), {3: 96, 5: 64}
"""Kernels that gain, and from how many channels on both sides on: below, moving numbers takes what multiplying saves."""


class WinogradConvolution(nn.Module):
    """``Conv2d`` (k, k) of stride 1 with zeros around: the same to rounding, for channels as the last axis in memory."""

    forth: Float[Tensor, "tiles tiles"]
    back: Float[Tensor, "places tiles"]

    def __init__(self, convolution: nn.Conv2d) -> None:
        """ValueError for another kind of convolution than `gains` asks for."""
        super().__init__()
        if not _plain(convolution):
            raise ValueError(f"not a square convolution of stride 1 with zeros around: {convolution}")
        self.side, self.padding = convolution.kernel_size[0], int(convolution.padding[0])
        self.tile = PLACES + self.side - 1
        back, kernel, forth = transforms(PLACES, self.side)
        weight = torch.einsum("ai,bj,ocij->abco", kernel, kernel, convolution.weight.detach().double())
        self.weight = nn.Parameter(weight.flatten(0, 1).to(convolution.weight.dtype).contiguous(), requires_grad=False)
        self.bias = convolution.bias
        self.register_buffer("forth", torch.kron(forth, forth).to(self.weight.dtype))
        self.register_buffer("back", torch.kron(back, back).to(self.weight.dtype))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out _ _"]:
        """What the convolution gives, channels last in memory."""
        height, width = (size + 2 * self.padding - self.side + 1 for size in images.shape[2:])
        down, across = -(-height // PLACES), -(-width // PLACES)
        tiles = self._tiles(images, down, across)
        found = images.new_empty((len(images) * down, PLACES, across, PLACES, self.weight.shape[2]))
        rows = max(1, TILES // across)
        for start in range(0, len(found), rows):
            found[start : start + rows] = self._convolved(tiles[start : start + rows])
        whole = found.view(len(images), down * PLACES, across * PLACES, -1)[:, :height, :width]
        return (whole.contiguous() if self.bias is None else whole + self.bias).permute(0, 3, 1, 2)

    def _tiles(self, images: Float[Tensor, "n c h w"], down: int, across: int) -> Float[Tensor, "rows across tile tile c"]:
        """All tiles, row by row of each picture; they overlap."""
        sides = ((self.padding, count * PLACES + self.side - 1 - size - self.padding)
                 for count, size in ((across, images.shape[3]), (down, images.shape[2])))  # fmt: skip
        wide = F.pad(images.permute(0, 2, 3, 1), (0, 0, *(side for pair in sides for side in pair)))
        picture, row, pixel, channel = wide.stride()
        shape = (len(images), down, across, self.tile, self.tile, images.shape[1])
        return wide.as_strided(shape, (picture, PLACES * row, PLACES * pixel, row, pixel, channel)).flatten(0, 1)

    def _convolved(self, tiles: Float[Tensor, "r t tile tile c"]) -> Float[Tensor, "r m t m out"]:
        flat = tiles.permute(2, 3, 0, 1, 4).reshape(self.tile**2, -1)
        seen = (self.forth @ flat).view(self.tile**2, -1, tiles.shape[-1])
        made = self.back @ torch.bmm(seen, self.weight).flatten(1)
        return made.view(PLACES, PLACES, *tiles.shape[:2], -1).permute(2, 0, 3, 1, 4)


def gains(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `module` is a convolution that is faster this way, by measurement on a processor."""
    if not isinstance(module, nn.Conv2d) or not _plain(module):
        return False
    side = module.kernel_size[0]
    return side in KERNELS and min(module.in_channels, module.out_channels) >= CHANNELS[side]


def quickened(network: nn.Module) -> nn.Module:
    """`network` itself, with every convolution that `gains` replaced."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if gains(child):
                setattr(parent, name, WinogradConvolution(child))
    return network


def transforms(
    places: int, side: int
) -> tuple[Float64[Tensor, "places tile"], Float64[Tensor, "tile side"], Float64[Tensor, "tile tile"]]:
    """Matrices A, G, B with ``A (G g * B d)`` = the `places` values of kernel g (`side`) over d (tile = places + side - 1)."""
    points = POINTS[: places + side - 2]
    last = len(points)
    back = [[point**power for point in points] + [Fraction(power == places - 1)] for power in range(places)]
    kernel = []
    for number, point in enumerate(points):
        scale = Fraction(1)
        for other in points[:number] + points[number + 1 :]:
            scale *= point - other
        kernel.append([point**power / scale for power in range(side)])
    kernel.append([Fraction(power == side - 1) for power in range(side)])
    forth = [[*_product(points[:number] + points[number + 1 :]), Fraction(0)] for number in range(last)]
    forth.append(_product(points))
    return _matrix(back), _matrix(kernel), _matrix(forth)


def _product(roots: tuple[Fraction, ...]) -> list[Fraction]:
    """Coefficients of the product of ``x - root``, the constant one first."""
    found = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *found]
        found = [high - root * low for high, low in zip(raised, [*found, Fraction(0)], strict=True)]
    return found


def _matrix(rows: list[list[Fraction]]) -> Float64[Tensor, "r c"]:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def _plain(convolution: nn.Conv2d) -> bool:
    sides, padding = {*convolution.kernel_size}, convolution.padding
    square = isinstance(padding, tuple) and len(sides) == len({*padding}) == 1 and 1 not in sides
    ones = {*convolution.stride, *convolution.dilation, convolution.groups}
    return square and ones == {1} and convolution.padding_mode == "zeros"
