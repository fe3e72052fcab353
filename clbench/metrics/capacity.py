"""Quality against the number of effects in one adapter, and where it falls below a reference (floor 1, pure numpy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from clbench.stats import FEW, NO_VARIATION, widened_tail

Floats = NDArray[np.float64]
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class BreakEven:
    """N*: the number of effects up to which one adapter is at least as good as the reference, with its interval.

    0 means that the reference is better already at the fewest effects tried, infinity that it never is: then N* is only known
    to lie below the smallest, or beyond the largest of the numbers tried. NaN, with a `reason`, where nothing can be said.
    """

    value: float
    low: float
    high: float
    n_effects: int
    reason: str = ""


def break_even(counts: Sequence[int], gaps: Floats, generator: np.random.Generator, level: float = 0.95) -> BreakEven:
    """N* from `gaps` (M, K): quality of the adapter of counts[m] effects minus that of the reference, for K common effects.

    Quality is higher = better and is taken to fall with the number of effects (isotonic regression), so that noise between
    neighbouring adapters makes no crossing. From `FEW` effects on the interval is a percentile bootstrap over effects, the
    clusters, with the tails of `stats.widened_tail`; of effects with equal gaps there is none. ValueError for counts that do not
    grow, or gaps that are not (M, K) and finite.
    """
    table = np.asarray(gaps, dtype=np.float64)
    if table.ndim != 2 or len(counts) != len(table) or not np.isfinite(table).all():
        raise ValueError(f"expected finite gaps of shape ({len(counts)}, K), got {table.shape}")
    if any(b <= a for a, b in pairwise(counts)) or min(counts, default=1) < 1:
        raise ValueError(f"counts must be positive and grow, got {list(counts)}")
    effects, nan = table.shape[1], float("nan")
    if not len(counts) or not effects:
        return BreakEven(nan, nan, nan, effects, "no adapter and reference share an effect")
    value = crossing(counts, table.mean(axis=1))
    if effects < FEW:
        reason = "no interval from a single effect" if effects == 1 else f"no interval from {effects} effects, fewer than {FEW}"
        return BreakEven(value, nan, nan, effects, reason)
    if np.ptp(table, axis=1).max() <= NO_VARIATION:
        return BreakEven(value, nan, nan, effects, "the same gaps in every effect, so nothing is known of other ones")
    drawn = table[:, generator.integers(0, effects, size=(RESAMPLES, effects))].mean(axis=2)
    found = np.sort([crossing(counts, means) for means in drawn.T])
    # order statistics, not interpolated quantiles: between a number and infinity there is nothing to interpolate
    tail = int(np.floor(widened_tail(effects, level) * RESAMPLES))
    return BreakEven(value, float(found[tail]), float(found[-1 - tail]), effects)


def crossing(counts: Sequence[int], means: Floats) -> float:
    """Where falling `means` (M,) cross 0, linear in log2 of `counts`; 0 or infinity where they do not (see `BreakEven`)."""
    falling = isotonic_regression(means, increasing=False).x
    below = np.flatnonzero(falling < 0)
    if not len(below):
        return float("inf")
    at = int(below[0])
    if at == 0:
        return 0.0
    left, right = np.log2(counts[at - 1]), np.log2(counts[at])
    share = falling[at - 1] / (falling[at - 1] - falling[at])
    return float(2 ** (left + share * (right - left)))
