"""Fewer multiplications, the same convolution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from clbench.metrics.winograd import WinogradConvolution, gains, quickened, transforms


def convolution(channels: int, out: int, side: int, padding: int, bias: bool = True, seed: int = 0) -> nn.Conv2d:
    made = nn.Conv2d(channels, out, side, padding=padding, bias=bias)
    dice = torch.Generator().manual_seed(seed)
    for value in made.parameters():
        value.data = torch.randn(value.shape, generator=dice)
    return made.requires_grad_(False)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([3, 5]), st.integers(0, 3), st.booleans(), st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4)),
    st.tuples(st.integers(5, 40), st.integers(5, 90)),
)  # fmt: skip
def test_it_is_the_convolution(side, padding, bias, sizes, shape):
    count, channels, out = sizes
    plain = convolution(channels, out, side, padding, bias).double()
    given_images = images(count, channels, *shape).double()
    found = WinogradConvolution(plain)(given_images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, plain(given_images), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("channels", "out", "side", "pixels"), [(64, 192, 5, 15), (192, 384, 3, 8), (96, 96, 3, 32)])
def test_rounding_in_single_precision_stays_small(channels, out, side, pixels):
    plain, given_images = convolution(channels, out, side, side // 2), images(2, channels, pixels, pixels)
    found, exact = WinogradConvolution(plain)(given_images), plain.double()(given_images.double())
    assert float((found - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()) < 5e-6


def test_a_picture_does_not_depend_on_its_batch():
    quick, batch = WinogradConvolution(convolution(96, 96, 3, 1)), images(7, 96, 13, 22)
    torch.testing.assert_close(quick(batch)[3:4], quick(batch[3:4]), rtol=1e-5, atol=1e-4)  # numbers are about 30


@pytest.mark.parametrize("side", [2, 3, 5])
def test_transforms_give_correlations(side):
    back, kernel, forth = transforms(4, side)
    taps, line = torch.arange(1.0, side + 1).double(), torch.linspace(-2, 3, side + 3).double() ** 2
    wanted = [(line[at : at + side] * taps).sum() for at in range(4)]
    torch.testing.assert_close(back @ ((kernel @ taps) * (forth @ line)), torch.stack(wanted), rtol=1e-12, atol=1e-12)


OTHERS = {
    "stride": nn.Conv2d(96, 96, 3, stride=2, padding=1), "holes": nn.Conv2d(96, 96, 3, padding=1, dilation=2),
    "groups": nn.Conv2d(96, 96, 3, padding=1, groups=2), "border": nn.Conv2d(96, 96, 3, padding=1, padding_mode="reflect"),
    "oblong": nn.Conv2d(96, 96, (3, 5), padding=1), "one pixel": nn.Conv2d(96, 96, 1),
    "words": nn.Conv2d(96, 96, 3, padding="same"), "other padding": nn.Conv2d(96, 96, 3, padding=(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_convolutions_are_left_alone(other):
    assert not gains(other) and quickened(nn.Sequential(other))[0] is other
    with pytest.raises(ValueError, match="square"):
        WinogradConvolution(other)


def test_those_that_gain_are_replaced_wherever_they_are():
    small, large = convolution(3, 96, 3, 1), convolution(96, 96, 3, 1)
    network = nn.Sequential(small, nn.ReLU(), nn.Sequential(large)).double()
    given_images = images(2, 3, 20, 20).double()
    wanted = network(given_images)
    assert quickened(network) is network and network[0] is small and isinstance(network[2][0], WinogradConvolution)
    torch.testing.assert_close(network(given_images), wanted, rtol=0, atol=1e-9)
