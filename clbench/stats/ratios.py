"""Two systems on the same cases: the ratio of their nested means, for metrics that are never negative.

A ratio carries over from one benchmark to another where a difference does not: 9 % failures against 17 % is half as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from clbench.stats.comparisons import correlation
from clbench.stats.intervals import (
    FEW,
    RESAMPLES,
    bootstrap_interval,
    drawn_means,
    resample_weights,
    share_interval,
    shows_both,
    widened_tail,
)
from clbench.stats.nested import NO_VARIATION, Bounds, EffectMeans, effect_means

Sides = tuple[Float64[np.ndarray, "b k"], Bounds, Float64[np.ndarray, "b k"], Bounds]
"""Two sets of effect means, each followed by the bounds of its means."""

UNBOUNDED = "no upper bound: in other effects the second may be 0"
EQUAL = "equal in every effect, so nothing is known of other ones"
ALIKE = "the same ratio in every effect, so nothing is known of other ones"
ENOUGH = 30
"""Effects from which the model's interval covers what it says by itself; the bootstrap's is joined to that of fewer, whose
correlation is hardly known (simulated coverage)."""
NO_WIDTH = 1e-6
"""Bounds as close as this, by their ratio, are one number: what rounding leaves of two equal roots."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Mean of `first` by mean of `second` over the cases that both have, with its interval.

    `value` is NaN, and `reason` says why, where there is no case or the second mean is 0. `low` and `high` alone are NaN for a
    single effect, and where other pictures have means of one ratio in every effect. `high` is infinite, never without a `reason`,
    where the second mean may be 0 in other effects.
    """

    value: float
    low: float
    high: float
    first: float
    second: float
    n_pairs: int
    n_dropped: int
    n_effects: int
    reason: str = ""


def paired_ratio(
    first: ArrayLike,
    second: ArrayLike,
    effects: Sequence[str],
    sources: Sequence[str],
    generator: np.random.Generator,
    share: bool = False,
    level: float = 0.95,
    same: bool = False,
) -> Ratio:
    """Ratio of the nested means of `first` and `second` ``(N,)``, both >= 0; a case that either one lacks is dropped.

    A bootstrap over effects that draws both systems together (`ratio_intervals`). It is too narrow for shares (0/1 scores)
    where some effect shows one outcome only; there the model's two intervals are combined (`recovered_ratios`), and joined to the
    bootstrap's of fewer than `ENOUGH` effects. Of fewer than `FEW` effects Student's are combined too.

    `same`: both systems made the same pictures, so equal values have the ratio 1 in whatever effects, hence [1, 1]; of others
    that happen to have one ratio in all effects a bootstrap would say so too, and there is no interval. ValueError for negative
    values.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    both = np.isfinite(one) & np.isfinite(two)
    if (one[both] < 0).any() or (two[both] < 0).any():
        raise ValueError("a ratio of means needs values of 0 or more")
    sides = [effect_means(np.where(both, side, np.nan), effects, sources) for side in (one, two)]
    pairs, count, nan = int(both.sum()), len(sides[0].labels), float("nan")
    above, below = (float(side.means.mean()) if count else nan for side in sides)
    counts = (above, below, pairs, len(one) - pairs, count)
    if not count:
        return Ratio(nan, nan, nan, *counts, "no case was scored for both")
    if below <= NO_VARIATION:
        return Ratio(nan, nan, nan, *counts, "no ratio: the second is 0 in every case")
    value = above / below
    if count < 2:
        return Ratio(value, nan, nan, *counts, "no interval from a single effect")
    if same and np.array_equal(one[both], two[both]):
        return Ratio(1.0, 1.0, 1.0, *counts)
    low, high = _bounds(sides[0], sides[1], generator, share, level)
    if high - low <= NO_WIDTH * value:
        equal = np.allclose(sides[0].means, sides[1].means, rtol=0, atol=NO_VARIATION)
        return Ratio(value, nan, nan, *counts, EQUAL if equal else ALIKE)
    return Ratio(value, min(low, value), max(high, value), *counts, UNBOUNDED if np.isinf(high) else "")


def _bounds(one: EffectMeans, two: EffectMeans, generator: np.random.Generator, share: bool, level: float) -> tuple[float, float]:
    tables, few = (one.means[None], two.means[None]), len(one.means) < FEW
    silent = share and not all(shows_both(table)[0] for table in tables)
    drawn = ratio_intervals(*tables, generator, level) if len(one.means) < ENOUGH or not (silent or few) else None
    found = []
    if silent:
        model = [share_interval(side.means, side.sources, generator, level, shows_both) for side in (one, two)]
        found.append(_recovered(one, two, model))
        if drawn is not None:  # of a resample in which one of the two is 0 the model knows more, but not their correlation
            drawn = within_model(drawn, recovered_ratios(*_tables(one, two, model), alike=0.0))
    if few:  # also beside the model, since of few effects the correlation is hardly known
        found.append(_recovered(one, two, [bootstrap_interval(side.means, generator, level) for side in (one, two)]))
    if drawn is not None:
        found.append((float(drawn[0][0]), float(drawn[1][0])))
    return min(low for low, _ in found), max(high for _, high in found)


def within_model(drawn: Bounds, model: Bounds) -> Bounds:
    """The bounds ``(B,)`` of a bootstrap, but those of the model where they are 0 or infinite."""
    return np.where(drawn[0] > 0, drawn[0], model[0]), np.where(np.isfinite(drawn[1]), drawn[1], model[1])


def _recovered(one: EffectMeans, two: EffectMeans, bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """`recovered_ratios` of one pair from the bounds of its two means; of Student's bounds that is Fieller's interval."""
    low, high = recovered_ratios(*_tables(one, two, bounds))
    return float(low[0]), float(high[0])


def _tables(one: EffectMeans, two: EffectMeans, bounds: Sequence[tuple[float, float]]) -> Sides:
    (low_one, high_one), (low_two, high_two) = ((np.array([low]), np.array([high])) for low, high in bounds)
    return one.means[None], (low_one, high_one), two.means[None], (low_two, high_two)


def ratio_intervals(
    one: Float64[np.ndarray, "b k"], two: Float64[np.ndarray, "b k"], generator: np.random.Generator,
    level: float = 0.95, resamples: int = RESAMPLES,
) -> Bounds:  # fmt: skip
    """Bootstrap bounds ``(B,)`` of mean(one) / mean(two), tables of effect means ``(B, K)``, K >= 2, values >= 0.

    Percentiles with the widened tails of `bootstrap_intervals`; the same as asking for which r an interval of
    mean(one - r two) covers 0. A resample whose second mean is 0 is therefore infinite, and one in which both are 0 goes
    with any ratio: it counts as 0 for the lower bound and as infinite for the upper one.
    """
    weights = resample_weights(one.shape[1], generator, resamples)
    above, below = drawn_means(one, weights), drawn_means(two, weights)
    drawn = np.divide(above, below, out=np.full_like(above, np.inf), where=below > NO_VARIATION)
    nothing = (below <= NO_VARIATION) & (above <= NO_VARIATION)
    last = resamples - 1
    place = int(widened_tail(one.shape[1], level) * last)  # order statistics, since nothing lies between x and infinity
    low = np.partition(np.where(nothing, 0.0, drawn), place, axis=1)[:, place]
    return low, np.partition(drawn, last - place, axis=1)[:, last - place]


def recovered_ratios(
    one: Float64[np.ndarray, "b k"], one_bounds: Bounds, two: Float64[np.ndarray, "b k"], two_bounds: Bounds,
    alike: float | None = None,
) -> Bounds:  # fmt: skip
    """Bounds ``(B,)`` of mean(one) / mean(two), both ``(B, K)``, recovered from the bounds ``(B,)`` of each mean.

    `alike`: their correlation over effects; None: as measured.

    The ratios r for which the interval of mean(one) - r mean(two) by `recovered_intervals` covers 0: roots of
    (m1 - r m2)^2 = d1^2 - 2 rho r d1 d2 + r^2 d2^2, with d the distances of the means m to their bounds (Donner and Zou,
    Statistical Methods in Medical Research 21, 2012). Infinite above where the lower bound of the second mean is 0.
    """
    first, second = one.mean(axis=1), two.mean(axis=1)
    rho = correlation(one, two) if alike is None else np.full(len(one), alike)

    def terms(
        d1: Float64[np.ndarray, " b"], d2: Float64[np.ndarray, " b"]
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """a, c and b + sqrt(b^2 - a c) of a r^2 - 2 b r + c = 0."""
        a, b, c = second**2 - d2**2, first * second - rho * d1 * d2, first**2 - d1**2
        return a, c, b + np.sqrt(np.maximum(b**2 - a * c, 0.0))

    _, c, reach = terms(first - one_bounds[0], two_bounds[1] - second)
    low = np.divide(c, reach, out=np.zeros_like(c), where=(c > 0) & (reach > NO_VARIATION))
    a, _, reach = terms(one_bounds[1] - first, second - two_bounds[0])
    return low, np.divide(reach, a, out=np.full_like(a, np.inf), where=a > NO_VARIATION)
