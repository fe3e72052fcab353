"""Metrics: tensors in, one value per case out, shape (N,) (floor 1: no files, no weights, no printing).

`METRICS` lists every metric by name, `SET_METRICS` those of whole sets of pictures. The functions live in `quality` (PSNR,
SSIM), `similarity` (perceptual and CLIP), `subject`, `bleeding` and `sets`; they import torch, this package does not.
"""

from clbench.metrics.cards import METRICS, SET_METRICS

__all__ = ["METRICS", "SET_METRICS"]
