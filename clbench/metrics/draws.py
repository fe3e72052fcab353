"""Right answers that vary: where a new draw of a random effect may lie, learned from a few draws (floor 1, pure).

Draws differ along a few common directions (a colour, a place in a pattern), which are free, and by what is left, which gives
every feature a variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clbench.metrics.features import Layout
from clbench.metrics.whitening import channel_means, channel_shares

SMALLEST_VARIANCE = 0.01
"""Added to every estimate; the variance of nuisance is 1."""
NOISE_LEVELS = torch.logspace(-0.6, 5, 225, dtype=torch.float64)
"""Noise variances that a distance tries, from 1/4 of the nuisance on, in steps of 6 %."""
LEAST_SCATTER = 1e-3
"""Scatter of log variances that chance does not explain, below which a channel counts as level."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Mean negative log likelihoods at each of L noise levels: channel energies times `weights`, plus `price`."""

    weights: Float64[Tensor, "c L"]
    price: Float64[Tensor, " L"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One right answer in whitened features: its `centre`, the `variance` of new draws, and free `tangents`.

    `levels` follow from the variance, and are asked for again and again.
    """

    centre: Float[Tensor, " d"]
    variance: Float[Tensor, " d"]
    tangents: Float[Tensor, "t d"]
    levels: Levels


def candidate_of(draws: Float[Tensor, "k d"], tangents: Float[Tensor, "t d"], layout: Layout) -> Candidate:
    """The right answer with these draws and the picture's own `tangents`; draws differ freely along themselves."""
    if len(draws) == 1:
        nothing = torch.zeros_like(draws[0])
        return Candidate(draws[0], nothing, tangents, levels_of(nothing, layout))
    centre, variance = draws.mean(0), left_variance(draws, layout)
    return Candidate(centre, variance, torch.cat([tangents, draws - centre]), levels_of(variance, layout))


def levels_of(variance: Float[Tensor, " d"], layout: Layout) -> Levels:
    """The noise levels of draws with this `variance`, pooled by channel."""
    share, spread = channel_shares(layout), NOISE_LEVELS[:, None] + channel_means(variance, layout)
    return Levels((share / spread).T, spread.log() @ share)


def others_of_each(count: int) -> Float64[Tensor, "k k-1 k"]:
    """For each of `count` = k >= 2 draws the others less their own mean, as mixtures of draws less the mean of all.

    The mean of all but draw k lies ``centred[k] / (K - 1)`` on the other side of the mean of all.
    """
    every = torch.eye(count, dtype=torch.float64)
    kept = torch.stack([torch.cat([every[:k], every[k + 1 :]]) for k in range(count)])
    return kept + every[:, None] / (count - 1)


def judged_by_others(
    draws: Float[Tensor, "k d"], tangents: Float[Tensor, "t d"]
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d"]]:
    """Each of k >= 2 draws less the mean of the others, and what is left of that.

    `tangents` and the differences of the others are projected out at unit cost (`whitening.project_out`). All k questions
    share their inner products.
    """
    count = len(draws)
    rows = torch.cat([draws - draws.mean(0), tangents])
    others = torch.nn.functional.pad(others_of_each(count), (0, len(tangents)))
    own = torch.eye(len(rows), dtype=rows.dtype)[count:].expand(count, -1, -1)
    mix, products = torch.cat([others, own], 1), rows @ rows.T
    deviation = torch.eye(count, len(rows), dtype=rows.dtype)[:, None] * count / (count - 1)
    room = torch.eye(mix.shape[1], dtype=rows.dtype) + mix @ products @ mix.mT
    weights = torch.linalg.solve(room, mix @ products @ deviation.mT)
    return deviation[:, 0] @ rows, (deviation - weights.mT @ mix)[:, 0] @ rows


def left_variance(draws: Float[Tensor, "k d"], layout: Layout) -> Float[Tensor, " d"]:
    """Variance of a new draw beyond what the draws have in common, from k >= 2 draws, each seen by the others."""
    _, left = judged_by_others(draws, draws[:0])
    return shrunk_variance(left.pow(2).mean(0), len(draws) - 1, layout)


def shrunk_variance(spread: Float[Tensor, " d"], freedom: int, layout: Layout) -> Float[Tensor, " d"]:
    """Variances pulled towards the level of their channel, as far as chance alone explains how they differ.

    `spread` are estimates with `freedom` degrees of freedom each. Empirical Bayes with an inverse gamma prior per channel
    (Smyth, Stat. Appl. Genet. Mol. Biol. 2004): an effect that varies in one place only keeps its map of variances, one whose
    strokes fall anywhere gets a level one.
    """
    spread = spread + SMALLEST_VARIANCE
    half = torch.full((), freedom / 2, dtype=spread.dtype)
    level = spread.log() - torch.digamma(half) + half.log()
    centre = channel_means(level, layout)
    counts = torch.bincount(layout.channel, minlength=len(layout.names))
    scatter = channel_means((level - centre[layout.channel]) ** 2, layout) * counts / (counts - 1).clamp_min(1)
    prior = _inverse_trigamma((scatter - torch.polygamma(1, half)).clamp_min(LEAST_SCATTER))
    mean = (centre + torch.digamma(prior) - prior.log()).exp()
    degrees = (2 * prior)[layout.channel]
    return (degrees * mean[layout.channel] + freedom * spread) / (degrees + freedom)


def _inverse_trigamma(values: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    """x with trigamma(x) = `values` > 0, by Newton's method on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1 / values
    for _ in range(20):
        slope = torch.polygamma(1, x)
        x = (x + slope * (1 - slope / values) / torch.polygamma(2, x)).clamp_min(1e-3)
    return x
