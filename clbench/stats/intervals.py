"""Intervals over effects: a bootstrap for means, with a model's help for shares; and the estimate that holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtrit

from clbench.stats.beta_binomial import model_interval, model_intervals
from clbench.stats.nested import NO_VARIATION, Bounds, EffectMeans, effect_means
from clbench.types import Scale

RESAMPLES = 10_000
SILENT = 3
"""Effects that always fail, and that always succeed, from which the bootstrap of a share beats the model (simulated coverage)."""
FEW = 6
"""Effects below which no bootstrap can say what it claims: it never leaves the smallest and the largest of them."""

Trust = Callable[[Float64[np.ndarray, "b k"]], Bool[np.ndarray, " b"]]
"""Whether a bootstrap knows enough of each of B tables."""
ANY, SHARE = Scale(), Scale(0.0, 1.0, two_ends=True)


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


def bootstrap_interval(
    means: Float64[np.ndarray, " k"], generator: np.random.Generator, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Interval of the mean of `means` ``(K,)``, effects resampled with replacement; NaN for K < 2."""
    if len(means) < 2:
        return float("nan"), float("nan")
    low, high = bootstrap_intervals(means[None], generator, level, resamples)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    means: Float64[np.ndarray, "b k"], generator: np.random.Generator, level: float = 0.95, resamples: int = RESAMPLES
) -> Bounds:
    """The same for B tables at once: `means` ``(B, K)``, K >= 2 -> bounds ``(B,)``; all share their resamples.

    A percentile bootstrap whose tails are widened by the t quantile (Hesterberg, "What teachers should know about
    the bootstrap", 2015, section 5.4): a plain percentile interval covers only 87-91 % with 8 clusters. Of fewer than `FEW`
    effects Student's interval, since a bootstrap ends at the smallest and the largest (coverage 50 % for 2 effects, 75 for 3).
    """
    count = means.shape[1]
    if count < FEW:
        reach = stdtrit(count - 1, 0.5 + level / 2) * means.std(axis=1, ddof=1) / np.sqrt(count)
        return means.mean(axis=1) - reach, means.mean(axis=1) + reach
    tail = widened_tail(means.shape[1], level)
    low, high = np.quantile(drawn_means(means, resample_weights(means.shape[1], generator, resamples)), [tail, 1 - tail], axis=1)
    return low, high


def resample_weights(
    count: int, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Float64[np.ndarray, "{resamples} {count}"]:
    """How much each of `count` effects weighs in every resample, ``(R, count)``; rows sum to 1."""
    picks = generator.integers(0, count, size=(resamples, count))
    flat = picks + count * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * count).reshape(resamples, count) / count


def drawn_means(means: Float64[np.ndarray, "b k"], weights: Float64[np.ndarray, "r k"]) -> Float64[np.ndarray, "b r"]:
    """Means ``(B, R)`` of the tables `means` ``(B, K)`` in every resample of `weights` ``(R, K)``."""
    return np.einsum("bk,rk->br", means, weights)  # not BLAS, whose last bits depend on its number of threads


def widened_tail(count: int, level: float = 0.95) -> float:
    """Share of resamples of `count` >= 2 effects that lies below an interval, and above it (see `bootstrap_intervals`)."""
    return float(ndtr(-stdtrit(count - 1, 0.5 + level / 2) * np.sqrt(count / (count - 1))))


def shows_both(means: Float64[np.ndarray, "b k"]) -> Bool[np.ndarray, " b"]:
    """Whether every effect of `means` ``(B, K)`` has successes and failures: ``(B,)``."""
    return np.all((means > NO_VARIATION) & (means < 1 - NO_VARIATION), axis=1)


def varies(means: Float64[np.ndarray, "b k"]) -> Bool[np.ndarray, " b"]:
    """Whether the effects of `means` ``(B, K)`` differ at all: ``(B,)``. Of equal ones a bootstrap claims to know every other."""
    return np.ptp(means, axis=1) > NO_VARIATION


def shows_ends(means: Float64[np.ndarray, "b k"]) -> Bool[np.ndarray, " b"]:
    """Whether the bootstrap of a share sees what it must: ``(B,)`` for `means` ``(B, K)``.

    Every effect has successes and failures, or both ends are held: at least `SILENT` effects always fail and as many always
    succeed. Effects of two such kinds, with others between them, are no beta distribution: the model leans towards 1/2.
    """
    never, always = (means <= NO_VARIATION).sum(axis=1), (means >= 1 - NO_VARIATION).sum(axis=1)
    return shows_both(means) | (np.minimum(never, always) >= SILENT)


def share_interval(
    means: Float64[np.ndarray, " k"], sources: Int64[np.ndarray, " k"], generator: np.random.Generator, level: float = 0.95,
    trusted: Trust = shows_ends,
) -> tuple[float, float]:  # fmt: skip
    """Interval of a share (0/1 scores) from its effect means ``(K,)`` and sources per effect; NaN for K < 2.

    The bootstrap where the effects show enough (`trusted`). Elsewhere it is too narrow, down to no width at all for 48
    successes out of 48: what the silent effects would do on more sources, a model must say (`beta_binomial`).
    """
    if len(means) < 2:
        return float("nan"), float("nan")
    if trusted(means[None])[0] and varies(means[None])[0]:
        low, high = bootstrap_interval(means, generator, level)
        return max(low, 0.0), min(high, 1.0)
    return model_interval(means, sources, level)


def scored_interval(
    means: Float64[np.ndarray, " k"], sources: Int64[np.ndarray, " k"], generator: np.random.Generator, scale: Scale,
    level: float = 0.95,
) -> tuple[float, float]:  # fmt: skip
    """Interval of a share times a score (VSA: 0 for a failure, up to 5 for a success) from effect means ``(K,)``.

    The bootstrap where `SILENT` effects at least lie below the middle of the scale and as many above. Where fewer do, it has not
    seen what fails (or succeeds) seldom, and the model's interval of the means as shares of the scale is added to it. NaN for
    K < 2.
    """
    low, high = bootstrap_interval(means, generator, level)
    shares = scale.share(means)
    above = int((shares > 0.5).sum())
    if len(means) < 2:
        return low, high
    if min(above, len(means) - above) < SILENT:
        least, most = model_interval(shares, sources, level)
        low, high = min(low, scale.low + scale.width * least), max(high, scale.low + scale.width * most)
    return scale.within(float(means.mean()), low, high)


def share_intervals(
    successes: Int64[np.ndarray, "b k"], sources: int, generator: np.random.Generator, level: float = 0.95,
    resamples: int = RESAMPLES, trusted: Trust = shows_ends,
) -> Bounds:  # fmt: skip
    """`share_interval` for B tables at once: `successes` ``(B, K)`` out of `sources` each -> bounds ``(B,)``."""
    means = successes / sources
    low, high = np.empty(len(means)), np.empty(len(means))
    drawn = trusted(means) & varies(means)
    if drawn.any():
        bounds = bootstrap_intervals(means[drawn], generator, level, resamples)
        low[drawn], high[drawn] = np.maximum(bounds[0], 0.0), np.minimum(bounds[1], 1.0)
    if not drawn.all():
        low[~drawn], high[~drawn] = model_intervals(successes[~drawn], sources, level)
    return low, high


def estimate(
    values: ArrayLike,
    failed: ArrayLike,
    effects: Sequence[str],
    sources: Sequence[str],
    generator: np.random.Generator,
    scale: Scale = ANY,
    level: float = 0.95,
) -> Estimate:
    """Nested mean of `values` ``(N,)`` (NaN = missing; `failed` marks failures) with its interval; `scale` is the metric's."""
    numbers = np.asarray(values, dtype=np.float64)
    nested = effect_means(numbers, effects, sources)
    scored, failures = int(np.isfinite(numbers).sum()), int(np.asarray(failed, dtype=bool).sum())
    if not nested.labels:
        nan = float("nan")
        return Estimate(nan, nan, nan, len(numbers), 0, failures, 0, "nothing was scored")
    low, high = interval_of(nested, generator, scale, level)
    reason = "" if len(nested.labels) > 1 else "no interval from a single effect"
    return Estimate(float(nested.means.mean()), low, high, len(numbers), scored, failures, len(nested.labels), reason)


def interval_of(nested: EffectMeans, generator: np.random.Generator, scale: Scale, level: float = 0.95) -> tuple[float, float]:
    """The interval that suits the scale and does not leave it; NaN for fewer than two effects."""
    if len(nested.means) < 2:
        return float("nan"), float("nan")
    if scale.is_share:
        return share_interval(nested.means, nested.sources, generator, level)
    if scale.two_ends:
        return scored_interval(nested.means, nested.sources, generator, scale, level)
    low, high = bootstrap_interval(nested.means, generator, level)
    return scale.within(float(nested.means.mean()), low, high)  # Student's interval of few effects knows no ends
