"""How a random effect may fall out here, learned from what it did elsewhere (floor 1, pure).

Where no operator is known, a random effect has one right answer for each source, or a few, and those do not say how another
draw would differ. But its answers on other sources are other draws. What an answer owes to its own source is told by a line,
at each place of the picture; the rest is chance, and is carried over.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PARTS = 8
"""A slope is that of a square window, whose side is 1 / PARTS of the picture's."""
PRIOR = 0.1
"""Weight of the whole picture's slope in each window, as a share of a window's mean weight: few sources say little of a place."""


def carried_over(
    source: Float[Tensor, "3 h w"],
    truths: Float[Tensor, "k 3 h w"],
    sources: Float[Tensor, "m 3 h w"],
    answers: Float[Tensor, "m 3 h w"],
) -> Float[Tensor, "m 3 h w"]:
    """What the effect made of m other `sources`, its `answers`, as it might look on `source`; pictures in [0, 1].

    Each is ``answer + b (source - its source)``, with b from `slopes` over those pairs and the k right answers `truths` of
    `source` itself.
    """
    slope = slopes(torch.cat([source.expand_as(truths), sources]), torch.cat([truths, answers]))
    return (answers + slope * (source - sources)).clamp(0, 1)


def slopes(before: Float[Tensor, "n 3 h w"], after: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "1 h w"]:
    """How much of what differs between pictures `before` an effect is still there `after` it, at each place, in [-1, 1].

    The least-squares slope over pairs, colours and the window around a place: 1 where the effect only adds something, 0 where it
    hides what was there.
    """
    x, y = before - before.mean(0), after - after.mean(0)
    shared, own = (x * y).sum((0, 1))[None], (x * x).sum((0, 1))[None]
    whole, weight = shared.sum() / own.sum().clamp_min(1e-9), PRIOR * own.mean()
    return ((_around(shared) + weight * whole) / (_around(own) + weight).clamp_min(1e-9)).clamp(-1, 1)


def _around(values: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Means over the window around each place, as far as it lies inside."""
    reach = max(values.shape[1:]) // PARTS // 2
    return F.avg_pool2d(values, 2 * reach + 1, 1, reach, count_include_pad=False)
