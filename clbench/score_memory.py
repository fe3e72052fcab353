"""How many sources can be scored beside each other in the memory that is free: an estimate from the size of pictures."""

from __future__ import annotations

import psutil
import torch

from clbench.encoders import rows_of_pass
from clbench.metrics.similarity import PerceptualNetwork

PIXEL_BYTES = 27
"""Of an output: as it was read (3), as numbers (12), and once more where outputs are put together (12)."""
PASSING = 8
"""Times the features of a pass that the network and the comparison hold while they work, at most (measured at 256 to 1024 px)."""
PROBE = 64
"""Side in px of the picture by which the size of features is measured."""


def expected(side: int, outputs: int, truths: int, perceptual: PerceptualNetwork | None) -> int:
    """Bytes that a source with so many pictures of `side` px each takes.

    What counts are the outputs and the perceptual features: those of truths stay, those of outputs pass by.
    """
    features = 0 if perceptual is None else int(_feature_bytes(perceptual) * (side / PROBE) ** 2)
    passing = PASSING * rows_of_pass(torch.empty((3, side, side), device="meta"))
    return outputs * PIXEL_BYTES * side**2 + (truths + passing) * features


def free() -> int:
    """Bytes of memory that are free."""
    return psutil.virtual_memory().available


def fitting(workers: int, each: int, there: int) -> int:
    """At most `workers`, at least 1: for as many sources of `each` bytes are `there` bytes enough."""
    return max(1, min(workers, there // max(1, each)))


def too_large(side: int, outputs: int, each: int, there: int) -> str:
    """What is to be said where not even one source of `each` bytes fits into the `there` bytes that are free; else ""."""
    if each <= there:
        return ""
    return (
        f"scoring needs about {each / 2**30:.1f} GiB for one source, {there / 2**30:.1f} GiB are free: all {outputs} pictures "
        f"of a source ({side} px) are held at once, so it may be ended for lack of memory; score fewer systems in one folder, or "
        "fewer effects or seeds (a smaller --limit does not help: it leaves out sources)"
    )


def _feature_bytes(perceptual: PerceptualNetwork) -> int:
    """Bytes of the features of one picture of `PROBE` px; they grow with its pixels."""
    return sum(layer.nbytes for layer in perceptual.features(torch.zeros(1, 3, PROBE, PROBE)))
