"""Non-negative mixtures: how much of each direction is in a deviation (floor 1, pure)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 300
TOGETHER_BYTES = 2**21
"""Of problems that take their steps together: more would fall out of a processor's caches."""


def non_negative_mixture(
    gram: Float[Tensor, "p k k"], match: Float[Tensor, "p n k"], steps: int = STEPS
) -> Float[Tensor, "p n k"]:
    """Minimise ``a G a / 2 - b a`` over a >= 0 for many b at once.

    `gram` has ones on the diagonal (zero for a direction that does not exist), `match` is b. Accelerated projected gradient
    with a fixed number of steps (Beck and Teboulle, SIAM J. Imaging Sci. 2009), so that the result of a row does not depend on
    the others in its batch.
    """
    step = 1 / torch.linalg.eigvalsh(gram)[:, -1].clamp_min(1e-9).view(-1, 1, 1)
    keep, pull = torch.eye(gram.shape[-1], dtype=gram.dtype) - step * gram, step * match
    size = max(1, TOGETHER_BYTES // max(1, keep[0].nbytes + 3 * pull[0].nbytes))
    return torch.cat([_descend(*part, steps) for part in zip(keep.split(size), pull.split(size), strict=True)])


def _descend(keep: Float[Tensor, "p k k"], pull: Float[Tensor, "p n k"], steps: int) -> Float[Tensor, "p n k"]:
    weights = torch.zeros_like(pull)
    ahead, momentum = weights, 1.0
    for _ in range(steps):
        moved = torch.baddbmm(pull, ahead, keep).clamp_min_(0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = torch.lerp(weights, moved, 1 + (momentum - 1) / following)
        weights, momentum = moved, following
    return weights
