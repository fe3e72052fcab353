"""How many sources can be scored beside each other in the memory that is free: an estimate from the size of pictures."""

from __future__ import annotations

import psutil
import torch

from clbench.metrics.similarity import PerceptualNetwork
from clbench.score_looks import streamed

PIXEL_BYTES = 27
"""Of an output: as it was read (3), as numbers (12), and once more where outputs are put together (12)."""
PROBE = 64
"""Side in px of the picture by which the size of features is measured."""


def fitting(workers: int, side: int, outputs: int, truths: int, perceptual: PerceptualNetwork | None) -> int:
    """At most `workers`, at least 1: as many as have memory for a source with so many pictures of `side` px each.

    What counts are the outputs and the perceptual features: those of truths stay, those of outputs pass by.
    """
    if workers < 2:
        return workers
    features = 0 if perceptual is None else int(_feature_bytes(perceptual) * (side / PROBE) ** 2)
    expected = outputs * PIXEL_BYTES * side**2 + (truths + 2 * streamed(features)) * features
    return max(1, min(workers, psutil.virtual_memory().available // max(1, expected)))


def _feature_bytes(perceptual: PerceptualNetwork) -> int:
    """Bytes of the features of one picture of `PROBE` px; they grow with its pixels."""
    return sum(layer.nbytes for layer in perceptual.features(torch.zeros(1, 3, PROBE, PROBE)))
