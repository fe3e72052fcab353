"""Right answers that vary: where a new draw of a random effect may lie, learned from a few draws (floor 1, pure).

Draws differ along a few common directions (a colour, a place in a pattern), which are free, and by what is left, which gives
every feature a variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.metrics.features import Layout
from clbench.metrics.whitening import pool_channels, project_out


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
    """Variances (D,) pulled towards the mean of their channel, as far as chance alone explains how they differ.

    `spread` (D,) are estimates with `freedom` degrees of freedom each. Linear credibility (Buehlmann): an effect that varies
    in one place only keeps its map of variances, one whose strokes fall anywhere gets a level one.
    """
    mean = pool_channels(spread, layout)
    scatter = pool_channels((spread - mean) ** 2, layout) / mean.pow(2).clamp_min(1e-24)
    true = ((scatter - 2 / freedom) / (1 + 2 / freedom)).clamp_min(0)
    trust = true / scatter.clamp_min(1e-12)
    return mean + trust * (spread - mean)
