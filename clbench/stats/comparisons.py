"""Two systems on the same cases: paired differences, their tests, and what they could have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from clbench.stats.intervals import ANY, bootstrap_interval, scored_interval, share_interval, shows_both, varies
from clbench.stats.nested import NO_VARIATION, Bounds, EffectMeans, effect_means
from clbench.types import Scale

EXACT_FLIPS_UP_TO = 14
"""Number of effects up to which every sign pattern is tried (2^14 = 16,384)."""
FLIPS = 20_000
TRIED = 1_000
"""Tables on which the reach of the exact test is found by trying it; half of them from 11 effects on, where each takes longer."""
FEW_DIFFER = 6
"""Number of differing effects from which a bootstrap of differences of shares covers what it says."""
ALIKE = "the same difference in every effect, so nothing is known of other ones"
SIGNIFICANT = 0.05
"""A difference is called one where its corrected p is below this."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a - b over the cases that both have, with interval, p value and detectable difference.

    `p` is two-sided (`sign_flip_p`), before any correction; `detectable` is the true difference that such a
    comparison would find in 80 % of repetitions. NaN, with a `reason`, where there is too little data; `low` and `high` alone
    are NaN where all effects differ by the same.
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


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    effects: Sequence[str],
    sources: Sequence[str],
    generator: np.random.Generator,
    scale: Scale = ANY,
    level: float = 0.95,
) -> Difference:
    """Mean of ``first - second`` ``(N,)`` on the same cases; a case that either one lacks is dropped.

    `scale` is the metric's. For shares, and shares times a score, that differ in fewer than `FEW_DIFFER` effects, or equally in
    all, the bootstrap is too narrow; then the two intervals of the means are combined, with the correlation of the two over
    effects (Zou and Donner, Statistics in Medicine 27, 2008). That correlation is hardly known of few effects, and near 1 the
    combined interval has next to no width, so the bootstrap's is joined to it. Other metrics that differ equally in all effects
    have no interval.
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
    reason = ""
    if scale.two_ends and _too_narrow(nested, scale):
        kept = np.isfinite(gaps)
        sides = [effect_means(np.where(kept, side, np.nan), effects, sources) for side in (one, two)]
        found = _recovered(sides, generator, scale, level)
        low, high = min(low, found[0]), max(high, found[1])
    elif not varies(nested.means[None])[0]:
        low, high, reason = nan, nan, ALIKE
    if not reason:
        low, high = Scale(-scale.width, scale.width).within(value, low, high)
    p = sign_flip_p(nested.means, generator)
    return Difference(value, low, high, p, detectable_difference(nested.means, level), pairs, dropped, count, reason)


def few_differ(gaps: Float64[np.ndarray, "b k"]) -> Bool[np.ndarray, " b"]:
    """Whether fewer than `FEW_DIFFER` of the effect differences ``(B, K)`` are not 0: ``(B,)``."""
    return (np.abs(gaps) > NO_VARIATION).sum(axis=1) < FEW_DIFFER


def _too_narrow(gaps: EffectMeans, scale: Scale) -> bool:
    """Whether too few effects differ by half a case or more, or all by the same, for a bootstrap to know what others do."""
    if scale.is_share:
        few = bool(few_differ(gaps.means[None])[0])
    else:  # scores of two successes are hardly ever equal
        few = int((np.abs(gaps.means) > scale.width / (2 * gaps.sources)).sum()) < FEW_DIFFER
    return few or not varies(gaps.means[None])[0]


def _recovered(sides: Sequence[EffectMeans], generator: np.random.Generator, scale: Scale, level: float) -> tuple[float, float]:
    found = [
        share_interval(side.means, side.sources, generator, level, shows_both) if scale.is_share
        else scored_interval(side.means, side.sources, generator, scale, level)
        for side in sides
    ]  # fmt: skip
    bounds = [(np.array([low]), np.array([high])) for low, high in found]
    low, high = recovered_intervals(sides[0].means[None], bounds[0], sides[1].means[None], bounds[1])
    return float(low[0]), float(high[0])


def recovered_intervals(
    one: Float64[np.ndarray, "b k"], one_bounds: Bounds, two: Float64[np.ndarray, "b k"], two_bounds: Bounds
) -> Bounds:
    """Bounds ``(B,)`` of mean(one) - mean(two), both ``(B, K)``, recovered from the bounds ``(B,)`` of each mean."""
    first, second = one.mean(axis=1), two.mean(axis=1)
    alike = correlation(one, two)

    def reach(a: Float64[np.ndarray, " b"], b: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
        return np.sqrt(np.maximum(a**2 - 2 * alike * a * b + b**2, 0.0))

    low = first - second - reach(first - one_bounds[0], two_bounds[1] - second)
    return low, first - second + reach(one_bounds[1] - first, second - two_bounds[0])


def correlation(one: Float64[np.ndarray, "b k"], two: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, " b"]:
    """Pearson's correlation ``(B,)`` of two sets of effect means ``(B, K)``; 0 where one of them does not vary."""
    apart_one, apart_two = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    length = np.sqrt((apart_one**2).sum(axis=1) * (apart_two**2).sum(axis=1))
    return np.divide((apart_one * apart_two).sum(axis=1), length, out=np.zeros_like(length), where=length > NO_VARIATION)


def sign_flip_p(means: Float64[np.ndarray, " k"], generator: np.random.Generator, draws: int = FLIPS) -> float:
    """Two-sided p of "the mean of `means` ``(K,)`` is 0"; NaN for K < 2. See `sign_flip_ps`."""
    return float(sign_flip_ps(means[None], generator, draws)[0]) if len(means) > 1 else float("nan")


def sign_flip_ps(
    means: Float64[np.ndarray, "b k"], generator: np.random.Generator, draws: int = FLIPS
) -> Float64[np.ndarray, " b"]:
    """Two-sided p ``(B,)`` of "the mean is 0" for B tables `means` ``(B, K)``, by flipping signs of effect differences.

    Exact for K <= 14 (all 2^K patterns), else (1 + hits) / (1 + draws). Assumes only symmetry about 0.
    """
    count = means.shape[1]
    exact = count <= EXACT_FLIPS_UP_TO
    patterns = np.arange(2**count)[:, None] >> np.arange(count) & 1 if exact else generator.integers(0, 2, (draws, count))
    sums = means @ (2.0 * patterns - 1).T
    hits = (np.abs(sums) >= np.abs(means.sum(axis=1, keepdims=True)) - 1e-9).sum(axis=1)
    return hits / 2**count if exact else (1 + hits) / (1 + draws)


def least_p(effects: int) -> float:
    """The smallest p that `sign_flip_p` can give for a number of effects: 2 / 2^K while it is exact; NaN for K < 2."""
    if effects < 2:
        return float("nan")
    return 2.0 ** (1 - effects) if effects <= EXACT_FLIPS_UP_TO else 1 / (1 + FLIPS)


def undecidable(effects: Sequence[int]) -> bool:
    """Whether no p can pass Holm's correction over tests of so many `effects` each; tests of one effect have no p and count not.

    The smallest p of M tests is multiplied by M, so that nothing is ever decided where M 2 / 2^K is `SIGNIFICANT` or more.
    """
    least = [least_p(count) for count in effects if count > 1]
    return bool(least) and min(least) * len(least) >= SIGNIFICANT


def corrected_detectable(gap: Difference, family: Sequence[int], level: float = 0.95) -> float:
    """`gap.detectable` (of `level`) where the correction is over the tests of `family`, this one among them: that of the level
    1 - (1 - level) / tests. `family` holds the number of effects of each test.

    Infinite where its p cannot pass whatever the others say; NaN where there is none. 0 where nothing varies between effects:
    then nothing is known of what could be found.
    """
    if not np.isfinite(gap.detectable):
        return float("nan")
    tested = [count for count in family if count > 1]
    best = holm([least_p(count) for count in tested])[tested.index(gap.n_effects)]  # with every other p as small as it can be
    if best >= SIGNIFICANT:
        return float("inf")
    return gap.detectable * _reach(gap.n_effects, 1 - (1 - level) / len(tested)) / _reach(gap.n_effects, level)


@cache
def _reach(effects: int, level: float, power: float = 0.8) -> float:
    """Standard errors that a true difference must measure to be found with probability `power`.

    Of few effects more than Student's quantiles say: exact sign flips know 2^K levels only, so that their reach is found by
    trying them on normal effects. Where nothing can be found, and where flips are drawn, the quantiles stand.
    """
    formula = float(stdtrit(effects - 1, np.array([0.5 + level / 2, power])).sum())
    if effects > EXACT_FLIPS_UP_TO or least_p(effects) >= 1 - level:
        return formula
    tables = np.random.default_rng(0).standard_normal((TRIED if effects <= 10 else TRIED // 2, effects))
    signs = 2.0 * (np.arange(2 ** (effects - 1))[:, None] >> np.arange(effects) & 1) - 1  # the other half mirrors these
    sums, moved, own = tables @ signs.T, signs.sum(axis=1) / np.sqrt(effects), tables.sum(axis=1, keepdims=True)
    low, high = 0.0, 16.0  # the same places for every level, so that a stricter one never reaches less
    for _ in range(12):
        middle = (low + high) / 2
        hits = np.abs(sums + middle * moved) >= np.abs(own + middle * np.sqrt(effects)) - 1e-9
        low, high = (low, middle) if (hits.mean(axis=1) < 1 - level).mean() >= power else (middle, high)
    return max(formula, high)


def detectable_difference(means: Float64[np.ndarray, " k"], level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true mean difference found with probability `power` given the spread of `means` ``(K,)``.

    (t_{1-a/2} + t_power) s / sqrt(K) with K - 1 degrees of freedom (Bloom, Evaluation Review 19, 1995).
    """
    count = len(means)
    if count < 2:
        return float("nan")
    return float(_reach(count, level, power) * means.std(ddof=1) / np.sqrt(count))


def holm(values: ArrayLike) -> Float64[np.ndarray, " m"]:
    """Holm's step-down adjusted p ``(M,)`` (Scandinavian Journal of Statistics 6, 1979); NaN stays NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    adjusted = np.full(numbers.shape, np.nan)
    known = np.flatnonzero(np.isfinite(numbers))
    order = known[np.argsort(numbers[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(numbers[order] * factors), 1.0)
    return adjusted
