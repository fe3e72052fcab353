"""What an effect without a known operator may do to other pictures, learned from what it did elsewhere (floor 1, pure).

Of such an effect there is one right answer for each source, or a few. That does not say how another draw of a random effect
would differ, nor what the effect makes of another effect's answer. But its answers on other sources are other draws, and show
what of a source is still there in an answer. That is a line at each place of the picture; the rest is the effect's own.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PARTS = 8
"""A slope is that of a square window, whose side is 1 / PARTS of the picture's."""
PRIOR = 0.1
"""Weight of the whole picture's slope in each window, as a share of a window's mean weight: few sources say little of a place."""


def slopes(sources: Float[Tensor, "n 3 h w"], answers: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "1 h w"]:
    """How much of what differs between `sources` is still there in an effect's `answers`, at each place, in [-1, 1].

    The least-squares slope over sources, colours and the window around a place: 1 where the effect only adds something, 0 where
    it hides what was there. Pictures are in [0, 1]; of a single source it is 0.
    """
    x, y = sources - sources.mean(0), answers - answers.mean(0)
    shared, own = (x * y).sum((0, 1))[None], (x * x).sum((0, 1))[None]
    whole, weight = shared.sum() / own.sum().clamp_min(1e-9), PRIOR * own.mean()
    return ((_around(shared) + weight * whole) / (_around(own) + weight).clamp_min(1e-9)).clamp(-1, 1)


def moved(
    answers: Float[Tensor, "n 3 h w"],
    sources: Float[Tensor, "#n 3 h w"],
    onto: Float[Tensor, "3 h w"],
    slope: Float[Tensor, "1 h w"],
) -> Float[Tensor, "n 3 h w"]:
    """What an effect made of `sources`, its `answers`, as it might look on `onto`: ``answer + slope (onto - source)``.

    `slope` is that of `slopes`; all pictures are in [0, 1]. On another source this is another draw of a random effect, on another
    effect's answer to the same source it is one effect after the other.
    """
    return (answers + slope * (onto - sources)).clamp(0, 1)


def _around(values: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Means over the window around each place, as far as it lies inside."""
    reach = max(values.shape[1:]) // PARTS // 2
    return F.avg_pool2d(values, 2 * reach + 1, 1, reach, count_include_pad=False)
