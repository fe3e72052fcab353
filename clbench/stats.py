"""Means with intervals, paired differences and their tests (floor 1: pure numpy and scipy).

A score belongs to an effect, a source and a seed. Means are nested: seeds within a source, sources within an
effect, then effects with equal weight, so an effect with more pictures does not count more. The effect is
the cluster: an interval says how the mean would move with *other effects* on these same sources.

Intervals
- `bootstrap_interval`: percentile bootstrap of effect means, its tails widened by the t quantile
  (Hesterberg, "What teachers should know about the bootstrap", 2015, section 5.4), because a plain percentile
  interval covers only 87-91 % with 8 clusters.
- `share_interval`: for 0/1 scores. A bootstrap of 48 successes out of 48 has no width; here the effective
  sample size is corrected for clusters (Korn and Graubard, Survey Methodology 24, 1998) and put in a Jeffreys
  interval.

Both were chosen by simulated coverage, see ``tests/test_stats.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions

Floats = NDArray[np.float64]

RESAMPLES = 10_000
EXACT_FLIPS_UP_TO = 14
"""Number of effects up to which every sign pattern is tried (2^14 = 16,384)."""
NO_VARIATION = 1e-12


@dataclass(frozen=True, slots=True)
class EffectMeans:
    """Per-effect means of one metric: labels, means and number of sources behind each, all ``(K,)``."""

    labels: tuple[str, ...]
    means: Floats
    sources: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval and what it rests on.

    `low` and `high` are NaN, and `reason` says why, when no interval can be given; `value` is NaN when
    nothing was scored. n_total = n_scored + n_failed + n_unscored.
    """

    value: float
    low: float
    high: float
    n_total: int
    n_scored: int
    n_failed: int
    n_effects: int
    reason: str = ""

    @property
    def n_unscored(self) -> int:
        return self.n_total - self.n_scored - self.n_failed


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a - b over the cases that both have, with interval, p value and detectable difference.

    `p` is two-sided (`sign_flip_p`), before any correction; `detectable` is the true difference that such a
    comparison would find in 80 % of repetitions. NaN, with a `reason`, where there is too little data.
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    n_pairs: int
    n_dropped: int
    n_effects: int
    reason: str = ""

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def effect_means(values: ArrayLike, effects: Sequence[str], sources: Sequence[str]) -> EffectMeans:
    """Nested means of `values` ``(N,)``: seeds -> sources -> effects; NaN values are left out.

    Effects come back sorted by label; an effect without a finite value is absent.
    """
    numbers = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(numbers)
    if not kept.any():
        return EffectMeans((), np.empty(0), np.empty(0, dtype=np.int64))
    labels, effect = np.unique(np.asarray(effects, dtype=str)[kept], return_inverse=True)
    _, source = np.unique(np.asarray(sources, dtype=str)[kept], return_inverse=True)
    cells, cell = np.unique(effect.astype(np.int64) * (int(source.max()) + 1) + source, return_inverse=True)
    cell_means = np.bincount(cell, numbers[kept]) / np.bincount(cell)
    cell_effect = cells // (int(source.max()) + 1)
    counts = np.bincount(cell_effect, minlength=len(labels))
    means = np.bincount(cell_effect, cell_means, minlength=len(labels)) / counts
    return EffectMeans(tuple(str(label) for label in labels), means, counts)


def bootstrap_interval(
    means: Floats, generator: np.random.Generator, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Interval of the mean of `means` ``(K,)``, effects resampled with replacement; NaN for K < 2."""
    count = len(means)
    if count < 2:
        return float("nan"), float("nan")
    drawn = means[generator.integers(0, count, size=(resamples, count))].mean(axis=1)
    quantile = distributions.t.ppf(0.5 + level / 2, count - 1) * np.sqrt(count / (count - 1))
    tail = distributions.norm.cdf(-quantile)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def share_interval(means: Floats, sources: NDArray[np.int64], level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (0/1 scores) from its effect means ``(K,)`` and sources per effect; NaN for K < 2.

    Effective size n* = min(n, p (1 - p) / var(p) * (t_n / t_K)^2), n = all sources; at p = 0 or 1, n* = n.
    """
    count, total = len(means), int(sources.sum())
    if count < 2:
        return float("nan"), float("nan")
    share = float(np.clip(means.mean(), 0.0, 1.0))
    variance = float(means.var(ddof=1)) / count
    size = float(total)
    if variance > NO_VARIATION:
        quantile = 0.5 + level / 2
        ratio = distributions.t.ppf(quantile, total - 1) / distributions.t.ppf(quantile, count - 1)
        size = min(size, share * (1 - share) / variance * ratio**2)
    shape, tail = (share * size + 0.5, (1 - share) * size + 0.5), (1 - level) / 2
    low = 0.0 if share <= NO_VARIATION else float(distributions.beta.ppf(tail, *shape))
    high = 1.0 if share >= 1 - NO_VARIATION else float(distributions.beta.ppf(1 - tail, *shape))
    # Jeffreys' bounds may pass the share by a hair when n* is tiny; an interval holds its own estimate.
    return min(low, share), max(high, share)


def estimate(
    values: ArrayLike,
    failed: ArrayLike,
    effects: Sequence[str],
    sources: Sequence[str],
    generator: np.random.Generator,
    share: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Nested mean of `values` ``(N,)`` (NaN = missing; `failed` marks failures) with its interval."""
    numbers = np.asarray(values, dtype=np.float64)
    nested = effect_means(numbers, effects, sources)
    scored, failures = int(np.isfinite(numbers).sum()), int(np.asarray(failed, dtype=bool).sum())
    if not nested.labels:
        nan = float("nan")
        return Estimate(nan, nan, nan, len(numbers), 0, failures, 0, "nothing was scored")
    if share:
        low, high = share_interval(nested.means, nested.sources, level)
    else:
        low, high = bootstrap_interval(nested.means, generator, level)
    reason = "" if len(nested.labels) > 1 else "no interval from a single effect"
    return Estimate(float(nested.means.mean()), low, high, len(numbers), scored, failures, len(nested.labels), reason)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    effects: Sequence[str],
    sources: Sequence[str],
    generator: np.random.Generator,
    share: bool = False,
    level: float = 0.95,
) -> Difference:
    """Mean of ``first - second`` ``(N,)`` on the same cases; a case that either one lacks is dropped.

    For shares without any variation among the effects the bootstrap has no width; then the two share
    intervals are combined (Newcombe, Statistics in Medicine 17, 1998, method 10).
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    gaps = one - two
    pairs = int(np.isfinite(gaps).sum())
    nested = effect_means(gaps, effects, sources)
    count, dropped, nan = len(nested.labels), len(gaps) - pairs, float("nan")
    if count < 2:
        value = float(nested.means[0]) if count else nan
        reason = "no interval from a single effect" if count else "no case was scored for both"
        return Difference(value, nan, nan, nan, nan, pairs, dropped, count, reason)
    value = float(nested.means.mean())
    low, high = bootstrap_interval(nested.means, generator, level)
    if share and nested.means.std() < NO_VARIATION:
        kept = np.isfinite(gaps)
        low, high = _newcombe(
            effect_means(np.where(kept, one, np.nan), effects, sources),
            effect_means(np.where(kept, two, np.nan), effects, sources),
            level,
        )
    p = sign_flip_p(nested.means, generator)
    return Difference(value, low, high, p, detectable_difference(nested.means, level), pairs, dropped, count)


def _newcombe(one: EffectMeans, two: EffectMeans, level: float) -> tuple[float, float]:
    a, b = float(one.means.mean()), float(two.means.mean())
    a_low, a_high = share_interval(one.means, one.sources, level)
    b_low, b_high = share_interval(two.means, two.sources, level)
    low = a - b - np.hypot(a - a_low, b_high - b)
    return float(low), float(a - b + np.hypot(a_high - a, b - b_low))


def sign_flip_p(means: Floats, generator: np.random.Generator, draws: int = 20_000) -> float:
    """Two-sided p of "the mean of `means` ``(K,)`` is 0", by flipping signs of effect differences.

    Exact for K <= 14 (all 2^K patterns), else (1 + hits) / (1 + draws). Assumes only symmetry about 0.
    """
    count = len(means)
    if count < 2:
        return float("nan")
    if count <= EXACT_FLIPS_UP_TO:
        signs = np.array(list(product((1.0, -1.0), repeat=count)))
        return float(np.mean(np.abs(signs @ means) >= abs(means.sum()) - 1e-9))
    signs = generator.choice((1.0, -1.0), size=(draws, count))
    hits = int(np.sum(np.abs(signs @ means) >= abs(means.sum()) - 1e-9))
    return (1 + hits) / (1 + draws)


def detectable_difference(means: Floats, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true mean difference found with probability `power` given the spread of `means` ``(K,)``.

    (t_{1-a/2} + t_power) s / sqrt(K) with K - 1 degrees of freedom (Bloom, Evaluation Review 19, 1995).
    """
    count = len(means)
    if count < 2:
        return float("nan")
    quantiles = distributions.t.ppf([0.5 + level / 2, power], count - 1).sum()
    return float(quantiles * means.std(ddof=1) / np.sqrt(count))


def holm(values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p ``(M,)`` (Scandinavian Journal of Statistics 6, 1979); NaN stays NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    adjusted = np.full(numbers.shape, np.nan)
    known = np.flatnonzero(np.isfinite(numbers))
    order = known[np.argsort(numbers[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(numbers[order] * factors), 1.0)
    return adjusted
