"""Right answers that vary: where a new draw of a random effect may lie, learned from a few draws (floor 1, pure).

Draws differ along a few common directions (a colour, a place in a pattern), which are free, and by what is left, which gives
every feature a variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.metrics.features import Layout
from clbench.metrics.whitening import channel_means, project_out

SMALLEST_VARIANCE = 0.01
"""Added to every estimate; the variance of nuisance is 1."""
LEAST_SCATTER = 1e-3
"""Scatter of log variances that chance does not explain, below which a channel counts as level."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One right answer in whitened features: `centre` (D,), `variance` (D,) of new draws, free `tangents` (T, D)."""

    centre: Tensor
    variance: Tensor
    tangents: Tensor


def candidate_of(draws: Tensor, tangents: Tensor, layout: Layout) -> Candidate:
    """The right answer with draws (K, D) and the picture's own `tangents` (T, D); draws differ freely along themselves."""
    if len(draws) == 1:
        return Candidate(draws[0], torch.zeros_like(draws[0]), tangents)
    return _about(draws, tangents, left_variance(draws, layout))


def without_each(draws: Tensor, tangents: Tensor, variance: Tensor) -> list[Candidate]:
    """For each of K >= 2 draws (K, D) the answer as the others know it, with the same `variance` (D,)."""
    return [_about(torch.cat([draws[:k], draws[k + 1 :]]), tangents, variance) for k in range(len(draws))]


def _about(draws: Tensor, tangents: Tensor, variance: Tensor) -> Candidate:
    centre = draws.mean(0)
    return Candidate(centre, variance, torch.cat([tangents, draws - centre]))


def left_variance(draws: Tensor, layout: Layout) -> Tensor:
    """Variance (D,) of a new draw beyond what the draws have in common, from K >= 2 draws (K, D), each seen by the others."""
    count = len(draws)
    rest = torch.stack([torch.cat([draws[:k], draws[k + 1 :]]) for k in range(count)])
    centre = rest.mean(1, keepdim=True)
    left = project_out(draws[:, None] - centre, rest - centre)[:, 0]
    return shrunk_variance(left.pow(2).mean(0), count - 1, layout)


def shrunk_variance(spread: Tensor, freedom: int, layout: Layout) -> Tensor:
    """Variances (D,) pulled towards the level of their channel, as far as chance alone explains how they differ.

    `spread` (D,) are estimates with `freedom` degrees of freedom each. Empirical Bayes with an inverse gamma prior per channel
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


def _inverse_trigamma(values: Tensor) -> Tensor:
    """x with trigamma(x) = `values` > 0, by Newton's method on 1 / trigamma, which is nearly linear."""
    x = 0.5 + 1 / values
    for _ in range(20):
        slope = torch.polygamma(1, x)
        x = (x + slope * (1 - slope / values) / torch.polygamma(2, x)).clamp_min(1e-3)
    return x
