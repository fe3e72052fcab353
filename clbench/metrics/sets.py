"""Distances between two sets of pictures, from their features (floor 1, pure): one number for the sets, none per case.

They say whether outputs look like truths as a whole; which picture belongs to which case plays no part. Both need
many pictures: below a hundred or so the value says more about which pictures were drawn than about the system.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0


def kid(features: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """Kernel distance of two sets of features, n and m >= 2; 0 is expected for equal sources.

    Binkowski et al., Demystifying MMD GANs, ICLR 2018, eq. 4: the unbiased estimate of squared MMD with the cubic
    kernel (x.y / D + 1)^3, so it may be below 0. On all samples at once instead of the mean over drawn subsets of
    1,000, which has the same expectation. Published values use Inception features; name what was used instead.
    """
    x, y = _checked(features, others)
    same = (_without_diagonal(_cubic(z, z)) for z in (x, y))
    return float(sum(same) - 2 * _cubic(x, y).mean())


def cmmd(embeddings: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """CLIP-MMD of two sets of image embeddings, n and m >= 2; >= 0, and 0 for equal sets.

    Jayasumana et al., Rethinking FID, CVPR 2024: 1000 times squared MMD of unit embeddings with a Gaussian kernel of
    width 10, by the estimate that keeps the diagonal (Gretton et al., JMLR 13, 2012, eq. 5). Published values use
    CLIP ViT-L/14 at 336 px.
    """
    x, y = (z / z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in _checked(embeddings, others))
    within = _gaussian(x, x).mean() + _gaussian(y, y).mean()
    return float(CMMD_SCALE * (within - 2 * _gaussian(x, y).mean()).clamp_min(0.0))


def _cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _gaussian(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    squared = (x.pow(2).sum(1)[:, None] + y.pow(2).sum(1)[None] - 2 * x @ y.T).clamp_min(0.0)
    return torch.exp(-squared / (2 * CMMD_SIGMA**2))


def _without_diagonal(kernel: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Mean of a kernel matrix over its pairs of different samples."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))


def _checked(
    features: Float[Tensor, " ..."], others: Float[Tensor, " ..."]
) -> tuple[Float64[Tensor, "n d"], Float64[Tensor, "m d"]]:
    if features.ndim != 2 or others.ndim != 2 or features.shape[1] != others.shape[1] or min(len(features), len(others)) < 2:
        raise ValueError(f"expected (N, D) and (M, D), N and M >= 2, not {tuple(features.shape)} and {tuple(others.shape)}")
    return features.double(), others.double()
