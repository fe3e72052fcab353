"""Metrics: tensors in, one value per case out, shape (N,) (floor 1: no files, no weights, no printing).

`METRICS` lists every metric by name. The functions live in `quality` (PSNR, SSIM), `similarity` (perceptual and CLIP),
`subject` and `bleeding`; they import torch, this package does not.
"""

from clbench.metrics.cards import METRICS

__all__ = ["METRICS"]
