"""The list of known operators and the one way to apply them.

An operator takes ``(image, mask, rng)``: image uint8 (H, W, 3) sRGB, mask float32 (H, W) in [0, 1] with
1 = subject, and an explicit generator. It returns uint8 (H, W, 3), leaves its inputs as they are and depends
on nothing else. Lengths inside operators are given for a side of 128 px and scale with the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clbench.registry import ClbenchError, Registry

Operator = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

OPERATORS: Registry[Operator] = Registry("operator")
MIN_SIDE = 64


def apply_operator(name: str, image: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """The truth of effect operator `name` for one picture and one seed: uint8 (H, W, 3).

    `image` uint8 (H, W, 3) with both sides >= 64, `mask` float32 (H, W) in [0, 1]. Deterministic effects
    ignore `seed`. Raises ClbenchError for an unknown operator or a picture or mask of another shape or type.
    """
    operator = OPERATORS.get(name)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE:
        raise ClbenchError(
            f"operator '{name}' got a picture {image.dtype} {image.shape}; "
            f"expected uint8 (H, W, 3), sides >= {MIN_SIDE}."
        )
    if mask.dtype != np.float32 or mask.shape != image.shape[:2]:
        raise ClbenchError(
            f"operator '{name}' got a mask {mask.dtype} {mask.shape}; expected float32 {image.shape[:2]}."
        )
    return operator(image, mask, np.random.default_rng(seed))
