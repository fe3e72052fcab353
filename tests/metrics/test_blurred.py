"""One wide convolution is the convolution and the blur after it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clbench.metrics.blurred import BLUR, BlurredConvolution, LargestOfNine


def layers(side: int = 5, padding: int = 2) -> tuple[nn.Conv2d, torch.Tensor]:
    convolution = nn.Conv2d(3, 4, side, padding=padding).double()
    dice = torch.Generator().manual_seed(0)
    for value in convolution.parameters():
        value.data = torch.randn(value.shape, generator=dice, dtype=value.dtype)
    return convolution, torch.outer(BLUR, BLUR).expand(4, 1, 3, 3)


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (16, 19), (5, 6)])
@pytest.mark.parametrize(("side", "padding"), [(5, 2), (11, 4), (3, 0)])
def test_it_is_what_the_two_layers_give(shape, side, padding):
    convolution, blur = layers(side, padding)
    images = torch.rand((2, 3, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = F.conv2d(F.pad(convolution(images), (2, 2, 2, 2), mode="reflect"), blur, stride=2, groups=4)
    torch.testing.assert_close(BlurredConvolution(convolution, blur)(images), wanted, rtol=0, atol=1e-12)


def test_other_layers_are_refused():
    convolution, blur = layers()
    with pytest.raises(ValueError, match="blur"):
        BlurredConvolution(convolution, torch.full((4, 1, 3, 3), 1 / 9))
    with pytest.raises(ValueError, match="stride"):
        BlurredConvolution(nn.Conv2d(3, 4, 5, stride=2, padding=2), blur)


def test_the_perceptual_network_is_the_package_s_own():
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips")
    from clbench.encoders import open_perceptual
    from clbench.metrics.similarity import perceptual_distance

    weights = f"{stlpips.__file__.removesuffix('stlpips.py')}weights/vST0.0/alex_shift_tolerant.pth"
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", model_path=weights, verbose=False)
    images, others = torch.rand((2, 3, 3, 64, 64), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = theirs(images, others, normalize=True).flatten()
    torch.testing.assert_close(perceptual_distance(open_perceptual("st-lpips"), images, others), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(3, 3), (4, 9), (30, 30)])
def test_the_largest_of_nine_is_the_pool(shape):
    images = torch.randn((2, 5, *shape), generator=torch.Generator().manual_seed(3))
    assert torch.equal(LargestOfNine()(images), F.max_pool2d(images, 3, stride=1))
