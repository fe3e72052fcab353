"""Metrics against other people's code."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from metric_toys import picture

from clbench.metrics.quality import psnr, ssim
from clbench.metrics.sets import cmmd, kid
from clbench.metrics.similarity import cosine, perceptual_distance

BOUND = 1e-5


@pytest.fixture(scope="module")
def pair():
    images = torch.stack([picture(n) for n in range(4)])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images, (images + 0.1 * noise).clamp(0, 1)


def hwc(image):
    return image.permute(1, 2, 0).double().numpy()


def test_psnr_and_ssim_against_scikit_image(pair):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    for number, (a, b) in enumerate(zip(*pair, strict=True)):
        wanted = structural_similarity(
            hwc(a), hwc(b), channel_axis=2, data_range=1.0, gaussian_weights=True, use_sample_covariance=False
        )
        assert abs(ssim(*pair)[number].item() - wanted) <= BOUND
        assert abs(psnr(*pair)[number].item() - peak_signal_noise_ratio(hwc(a), hwc(b), data_range=1.0)) <= BOUND


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_st_lpips_against_its_package(pair, trunk):
    from stlpips_pytorch import stlpips

    from clbench.encoders import open_perceptual

    theirs = stlpips.LPIPS(net=trunk, variant="shift_tolerant", verbose=False)
    with torch.no_grad():
        wanted = theirs(*pair, normalize=True).flatten()
    ours = perceptual_distance(open_perceptual("st-lpips" if trunk == "alex" else "st-lpips-vgg"), *pair)
    assert (ours - wanted).abs().max() <= BOUND


def test_lpips_heads_against_lpips_on_the_same_backbone(pair, tmp_path):
    import lpips
    import torchvision

    from clbench.encoders import open_perceptual

    torch.manual_seed(0)
    trunk = torchvision.models.alexnet(weights=None)
    torch.save(trunk.state_dict(), tmp_path / "alexnet.pth")
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    for slices in (theirs.net.slice1, theirs.net.slice2, theirs.net.slice3, theirs.net.slice4, theirs.net.slice5):
        for number, module in slices.named_children():
            module.load_state_dict(trunk.features[int(number)].state_dict())
    with torch.no_grad():
        wanted = theirs(*pair, normalize=True).flatten()
    ours = perceptual_distance(open_perceptual("lpips-alex@alexnet.pth", tmp_path), *pair)
    assert (ours - wanted).abs().max() <= BOUND


def test_cosine_against_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    wanted = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.abs(cosine(torch.tensor(a), torch.tensor(b)).numpy() - wanted).max() <= BOUND


@pytest.fixture(scope="module")
def features():
    dice = torch.Generator().manual_seed(0)
    return torch.randn((60, 16), generator=dice), 1.2 * torch.randn((60, 16), generator=dice) + 0.3


def test_kid_against_torchmetrics(features):
    """With one subset of all samples its drawn subsets are the whole, and the order of samples plays no part."""
    from torchmetrics.image.kid import KernelInceptionDistance

    theirs = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=60)
    for number, batch in enumerate(features):
        theirs.update(batch, real=number == 0)
    assert abs(kid(*features) - theirs.compute()[0].item()) <= BOUND


def test_cmmd_against_scipy(features):
    from scipy.spatial.distance import cdist

    x, y = (batch.double().numpy() / np.linalg.norm(batch.double().numpy(), axis=1, keepdims=True) for batch in features)
    near = {pair: np.exp(-cdist(*pair_of, "sqeuclidean") / 200).mean()
            for pair, pair_of in {"xx": (x, x), "yy": (y, y), "xy": (x, y)}.items()}  # fmt: skip
    assert abs(cmmd(*features) - 1000 * (near["xx"] + near["yy"] - 2 * near["xy"])) <= BOUND
