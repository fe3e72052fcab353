"""Metrics against other people's code, on the same pictures and the same weights: the largest difference found.

Networks have random weights: parity is about the arithmetic, and nothing has to be downloaded.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.selftest import Check

BOUND = 1e-5
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
WORDS = ["a cat", "a dog on a beach"]


def checks() -> Iterator[Check]:
    """SSIM, PSNR, KID, CMMD, LPIPS heads, CLIP similarities; each as its largest difference to the other code."""
    yield from pictures_against_scikit_image()
    yield from sets_against_other_code()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the libraries draw their weights from the global generator
        yield lpips_heads(Path(folder))
        yield from clip_by_hand(Path(folder))


def _check(name: str, gap: float, against: str) -> Check:
    return Check(name, gap, high=BOUND, about=f"largest difference to {against}")


def _pairs(side: int = 64, count: int = 4) -> tuple[Tensor, Tensor]:
    """Smooth pictures and noisy ones, (count, 3, side, side) in [0, 1]."""
    dice = torch.Generator().manual_seed(0)
    coarse = torch.rand((count, 3, 5, 5), generator=dice)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return images, (images + 0.1 * torch.randn(images.shape, generator=dice)).clamp(0, 1)


def pictures_against_scikit_image() -> Iterator[Check]:
    """PSNR and SSIM."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from clbench.metrics.quality import psnr, ssim

    images, others = _pairs()
    pairs = list(zip(*(batch.permute(0, 2, 3, 1).double().numpy() for batch in (images, others)), strict=True))
    options = {"channel_axis": 2, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    wanted = np.array([structural_similarity(a, b, **options) for a, b in pairs])
    yield _check("SSIM", float(np.abs(ssim(images, others).numpy() - wanted).max()), "scikit-image")
    wanted = np.array([peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs])
    yield _check("PSNR", float(np.abs(psnr(images, others).numpy() - wanted).max()), "scikit-image")


def sets_against_other_code() -> Iterator[Check]:
    """KID and CMMD on features of two different sources."""
    from torchmetrics.image.kid import poly_mmd

    from clbench.metrics.sets import cmmd, kid

    dice = torch.Generator().manual_seed(0)
    one = torch.randn((60, 32), generator=dice, dtype=torch.float64)
    two = 1.2 * torch.randn((60, 32), generator=dice, dtype=torch.float64) + 0.3
    yield _check("KID", abs(kid(one, two) - float(poly_mmd(one, two))), "torchmetrics, all samples as one subset")
    yield _check("CMMD", abs(cmmd(one, two) - _cmmd_by_hand(one.numpy(), two.numpy())), "the published formula, pair by pair")


def _cmmd_by_hand(one: np.ndarray, two: np.ndarray) -> float:
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (one, two))

    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return float(np.mean([np.exp(-np.sum((a - b) ** 2) / 200) for a in p for b in q]))

    return 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


def lpips_heads(folder: Path) -> Check:
    """LPIPS with its published heads on one random AlexNet."""
    import lpips

    from clbench.encoders import open_perceptual
    from clbench.metrics.similarity import perceptual_distance

    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    slices = [part for name, part in theirs.net.named_children() if name.startswith("slice")]
    trunk = {f"features.{key}": value for part in slices for key, value in part.state_dict().items()}
    torch.save(trunk, folder / "alexnet.pth")
    images, others = _pairs()
    with torch.inference_mode():
        wanted = theirs(images, others, normalize=True).flatten()
    found = perceptual_distance(open_perceptual("lpips-alex@alexnet.pth", folder), images, others)
    return _check("LPIPS heads", float((found - wanted).abs().max()), "lpips on the same backbone")


def clip_by_hand(folder: Path) -> Iterator[Check]:
    """CLIP image and text similarity, against open_clip's own calls and numpy."""
    import open_clip
    from safetensors.torch import save_file

    from clbench.encoders import open_clip_encoder
    from clbench.metrics.similarity import clip_image_similarity, clip_text_similarity

    (folder / "selftest-clip.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / "selftest-clip.json")
    with _without_warnings():  # that the weights are random is the point
        model: Any = open_clip.create_model("selftest-clip").eval()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "selftest-clip.safetensors")
    ours = open_clip_encoder("selftest-clip.json", folder)
    images, others = (pictures[:2] for pictures in _pairs(side=32))
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (model.visual.image_mean, model.visual.image_std))
    with torch.inference_mode():
        embedded = [model.encode_image((pictures - mean) / std).double().numpy() for pictures in (images, others)]
        texts = model.encode_text(open_clip.get_tokenizer("selftest-clip")(WORDS)).double().numpy()
    found = clip_image_similarity(ours.embed_image(images), ours.embed_image(others))
    yield _check("CLIP image similarity", _gap(found, embedded[0], embedded[1]), "open_clip by hand")
    found = clip_text_similarity(ours.embed_image(images), ours.embed_text(WORDS))
    yield _check("CLIP text similarity", _gap(found, embedded[0], texts), "open_clip by hand")


@contextmanager
def _without_warnings() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _gap(found: Tensor, one: np.ndarray, two: np.ndarray) -> float:
    wanted = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    return float(np.abs(found.numpy() - wanted).max())
