"""How much of each direction is in a deviation, from inner products of vectors alone (floor 1, pure).

Everything that a reading needs of its vectors are their inner products, over the whole picture and over each window. So a
question that is put again and again with almost the same vectors (each draw of a random effect judged by the others) costs
one table of products and small algebra.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clbench.metrics.draws import others_of_each
from clbench.metrics.mixture import non_negative_mixture

LEAK_GATE = 2.5
"""A leak below this many standard errors reads 0."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """P problems of non-negative mixtures with j2 directions of length 1, two forms each of J effects.

    `gram` and `match` are the products of directions with themselves and with n deviations, `unit` is one over the directions'
    lengths (0 for a direction that is free), `energy` that of the deviations.
    """

    gram: Float[Tensor, "p j2 j2"]
    match: Float[Tensor, "p n j2"]
    unit: Float[Tensor, "p 1 j2"]
    energy: Float[Tensor, "p n"]

    def doses(self, size: int | Int[Tensor, "p 1"]) -> Float[Tensor, "p n j"]:
        """Doses, both forms added, of vectors with `size` features; those below the gate are 0."""
        evidence = non_negative_mixture(self.gram, self.match)
        noise = ((self.energy - (evidence * self.match).sum(2)) / size).clamp_min(1.0).sqrt()
        gated = torch.where(evidence > LEAK_GATE * noise[..., None], evidence * self.unit, torch.zeros_like(evidence))
        return gated.unflatten(2, (2, -1)).sum(2)


def inner_products(rows: Float[Tensor, "m d"], windows: Int[Tensor, "w e"]) -> Float[Tensor, "1+w m m"]:
    """Products of `rows` with each other: over all features, then over those of each window."""
    inside = rows.T.contiguous()[windows]  # (W, E, m): whole rows are copied, which is much faster than single features
    return torch.cat([(rows @ rows.T)[None], inside.mT @ inside])


def mixture_of(products: Float[Tensor, "p m m"], free: int, directions: int) -> Mixture:
    """The problems of `products`; of the m vectors the first are `free`, then come `directions`, then deviations.

    Free vectors are projected out at unit cost, as `whitening.project_out` does.
    """
    _, others = products.split([free, products.shape[1] - free], 1)
    across, rest = others.split([free, others.shape[2] - free], 2)
    room = torch.eye(free, dtype=products.dtype) + products[:, :free, :free]
    left = rest - across @ torch.linalg.solve(room, across.mT)
    gram, match = left[:, :directions, :directions], left[:, directions:, :directions]
    length = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    unit = torch.where(length > 1e-6, 1 / length.clamp_min(1e-6), torch.zeros_like(length))[:, None]
    return Mixture(gram * unit * unit.mT, match * unit, unit, left.diagonal(dim1=1, dim2=2)[:, directions:])


def together(mixtures: Iterable[Mixture]) -> Mixture:
    """The problems of all `mixtures`, one after the other."""
    parts = [(m.gram, m.match, m.unit, m.energy) for m in mixtures]
    return Mixture(*(torch.cat(column) for column in zip(*parts, strict=True)))


def left_out_products(products: Float[Tensor, "p m m"], draws: int, at: slice) -> Float[Tensor, "k p l l"]:
    """Products as each draw of `at` (a slice of k) finds them when it is judged by the others.

    The vectors of `products` are K = `draws` centred draws, any others, and last one output per draw, less the mean of all
    draws. The l vectors are the other draws less their own mean, then the rest, and the draw's own output less that mean.
    """
    count = products.shape[-1]
    kept = torch.eye(count, dtype=products.dtype)[draws : count - draws]
    others = others_of_each(draws)[at]
    output = torch.eye(count, dtype=products.dtype)[count - draws :][at, None]
    output[:, 0, :draws] = torch.eye(draws, dtype=products.dtype)[at] / (draws - 1)
    wide = torch.nn.functional.pad(others, (0, count - draws))
    mix = torch.cat([wide, kept.expand(len(wide), -1, -1), output], 1)[:, None]
    return mix @ products @ mix.mT
