"""Layers of networks that tolerate shifts, in less time (floor 1, pure).

They convolve at every pixel, blur, and keep every second one (Zhang, ICML 2019). Both steps are
linear, so a wider convolution that visits every second pixel gives the same for a third of the multiplications.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BLUR = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
BORDER = torch.tensor([1.0, 1.0], dtype=torch.float64) / 2
"""The blur where its last pixel lies outside and is reflected onto the first."""


class BlurredConvolution(nn.Module):
    """``Conv2d`` (k, k) of stride 1, reflection by two pixels, blur [1, 2, 1] of stride 2.

    The blur's first place reflects its second, so it is copied; its last place is a copy as well if the convolution has an odd
    number of places, else it needs a kernel of its own.
    """

    def __init__(self, convolution: nn.Conv2d, blur: Float[Tensor, "out 1 3 3"]) -> None:
        """`blur` as the network has it; ValueError for another one, or another kind of convolution."""
        super().__init__()
        self.padding, self.side = int(convolution.padding[0]), int(convolution.kernel_size[0])
        plain = nn.Conv2d(convolution.in_channels, convolution.out_channels, self.side, padding=self.padding)
        if repr(convolution) != repr(plain):
            raise ValueError(f"expected {plain}, not {convolution}")
        if not torch.allclose(blur.double(), torch.outer(BLUR, BLUR).expand_as(blur)):
            raise ValueError(f"expected the blur [1, 2, 1] of each channel, not {blur[0, 0].tolist()}")
        self.bias = convolution.bias
        kernels = [_widened(convolution.weight, down, across) for down in (BLUR, BORDER) for across in (BLUR, BORDER)]
        self.kernels = nn.ParameterList(kernels)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out _ _"]:
        """See the class; h and w at least k."""
        border = self.padding + 2  # one place more on each side, which is written over
        found = F.conv2d(images, self.kernels[0], self.bias, stride=2, padding=border)
        wide = F.pad(images, (border,) * 4)
        rows, columns = (side - self.side + 1 - 4 for side in wide.shape[2:])
        if columns % 2 == 0:
            found[..., -1:] = self._strip(wide[..., columns : columns + self.side + 1], 1)
        if rows % 2 == 0:
            found[..., -1:, :] = self._strip(wide[..., rows : rows + self.side + 1, :], 2)
        if rows % 2 == 0 and columns % 2 == 0:
            found[..., -1:, -1:] = self._strip(wide[..., rows : rows + self.side + 1, columns : columns + self.side + 1], 3)
        found[..., 0], found[..., 0, :] = found[..., 1], found[..., 1, :]
        if columns % 2:
            found[..., -1] = found[..., -2]
        if rows % 2:
            found[..., -1, :] = found[..., -2, :]
        return found.contiguous(memory_format=torch.channels_last)

    def _strip(self, wide: Float[Tensor, "n c h w"], kernel: int) -> Float[Tensor, "n out _ _"]:
        return F.conv2d(wide, self.kernels[kernel], self.bias, stride=2)


class LargestOfNine(nn.Module):
    """``MaxPool2d(3, stride=1)``: the same numbers, as maxima of whole pictures that lie one pixel apart."""

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h-2 w-2"]:
        """See the class."""
        down = torch.maximum(torch.maximum(images[:, :, :-2], images[:, :, 1:-1]), images[:, :, 2:])
        return torch.maximum(torch.maximum(down[..., :-2], down[..., 1:-1]), down[..., 2:])


def _widened(
    weight: Float[Tensor, "out c k k"], down: Float[Tensor, " y"], across: Float[Tensor, " x"]
) -> Float[nn.Parameter, "out c k+y-1 k+x-1"]:
    """The kernels `weight` and then a symmetric blur."""
    flat = weight.detach().double().flatten(0, 1)[:, None]
    blurred = F.conv2d(flat, torch.outer(down, across)[None, None], padding=(len(down) - 1, len(across) - 1))
    return nn.Parameter(blurred[:, 0].unflatten(0, weight.shape[:2]).to(weight.dtype), requires_grad=False)
