"""Are the intervals as wide as they say, and can a comparison find what it should? Simulated benchmarks.

Each benchmark draws effects, then cases within effects; `within` is the correlation of two cases of one effect.
Sizes are those of the shipped suites: 8 effects x 24 sources, and 50 x 20.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, ndtr

from clbench import stats
from clbench.selftest import Check
from clbench.types import seed_from

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WORKERS = 2
BENCHMARKS = 2000
RESAMPLES = 1000
SIZES = ((8, 24), (50, 20))
WITHIN = (0.0, 0.1, 0.3)
FAR_APART = 0.7
"""Correlation within an effect that the shipped systems show: most effects nearly always fail or nearly always succeed."""
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
LOW, HIGH = 0.93, 0.97
WIDE = "a hair too wide: where most effects show one outcome only, too wide was chosen over too short"
TOO_WIDE = {(8, 0.3): WIDE, (8, FAR_APART): WIDE, (50, FAR_APART): WIDE}
"""Cells of `share_coverage` that are known to cover more than `HIGH`."""


def checks() -> Iterator[Check]:
    """Coverage of means, shares and differences; power; false alarms. Each part has generators of its own."""
    parts = (mean_coverage, share_coverage, two_kinds, difference_coverage, few_differing, power, false_alarms, limits)
    with ThreadPoolExecutor(WORKERS) as pool:  # numpy lets other threads work while it computes
        for found in pool.map(lambda part: list(part()), parts):
            yield from found


def _generator(*parts: object) -> np.random.Generator:
    return np.random.default_rng(seed_from("selftest", "statistics", *parts))


def _covered(bounds: tuple[Floats, Floats], truth: float) -> float:
    low, high = bounds
    return float(np.mean((low <= truth) & (truth <= high)))


def _size(effects: int, sources: int, within: float) -> str:
    return f"{effects} effects x {sources} sources, correlation {within:g}"


def draw_means(effects: int, sources: int, within: float, rng: np.random.Generator) -> Floats:
    """Effect means ``(BENCHMARKS, effects)`` of normal scores with true mean 0 and variance 1."""
    between = np.sqrt(within) * rng.normal(size=(BENCHMARKS, effects))
    return between + np.sqrt((1 - within) / sources) * rng.normal(size=(BENCHMARKS, effects))


def draw_shares(share: float, effects: int, within: float, rng: np.random.Generator) -> Floats:
    """True shares of effects ``(BENCHMARKS, effects)``: beta with mean `share` and correlation `within`."""
    return beta_shares(share, within, rng.random(size=(BENCHMARKS, effects)))


def beta_shares(share: float, within: float, ranks: Floats) -> Floats:
    """Shares of effects at the `ranks` (in [0, 1]) of a beta distribution with mean `share`; all equal for `within` 0."""
    if within == 0:
        return np.full(ranks.shape, share)
    strength = 1 / within - 1
    return betaincinv(share * strength, (1 - share) * strength, ranks)


def mean_coverage() -> Iterator[Check]:
    """95 % bootstrap intervals of means."""
    for effects, sources in SIZES:
        for within in WITHIN:
            rng = _generator("mean", effects, within)
            bounds = stats.bootstrap_intervals(draw_means(effects, sources, within, rng), rng, resamples=RESAMPLES)
            name = f"coverage, mean: {_size(effects, sources, within)}"
            yield Check(name, _covered(bounds, 0.0), LOW, HIGH, "95 % intervals of normal scores")


def share_coverage() -> Iterator[Check]:
    """95 % intervals of shares: the lowest and the highest coverage over the true shares `SHARES`."""
    for effects, sources in SIZES:
        for within in (*WITHIN, FAR_APART):
            found = {}
            for share in SHARES:
                rng = _generator("share", effects, within, share)
                successes = rng.binomial(sources, draw_shares(share, effects, within, rng))
                bounds = stats.share_intervals(successes, sources, rng, resamples=RESAMPLES)
                found[share] = _covered(bounds, share)
            for word, pick in (("lowest", min), ("highest", max)):
                share = pick(found, key=found.__getitem__)
                name = f"coverage, share: {_size(effects, sources, within)}, {word}"
                about = f"over shares {SHARES[0]:g} to {SHARES[-1]:g}; here at {share:g}"
                known = TOO_WIDE.get((effects, within), "") if word == "highest" else ""
                yield Check(name, found[share], LOW, HIGH, about, known=known)


FEW_EFFECTS = (10, 20)
MOST = 0.99
"""What intervals of few effects may cover: too wide was chosen over too short there."""
ALWAYS_FAIL, ALWAYS_SUCCEED = 0.25, 0.35


def two_kinds() -> Iterator[Check]:
    """95 % intervals of a share where some effects always fail, others always succeed, and the rest lie anywhere between."""
    effects, sources = SIZES[-1]
    rng = _generator("two kinds")
    kind, between = rng.random(size=(2, BENCHMARKS, effects))
    rates = np.where(kind < ALWAYS_FAIL, 0.0, np.where(kind > 1 - ALWAYS_SUCCEED, 1.0, between))
    bounds = stats.share_intervals(rng.binomial(sources, rates), sources, rng, resamples=RESAMPLES)
    truth = ALWAYS_SUCCEED + (1 - ALWAYS_FAIL - ALWAYS_SUCCEED) / 2
    name = f"coverage, share, effects of two kinds: {effects} effects x {sources} sources"
    about = f"{100 * ALWAYS_FAIL:g} % of effects always fail, {100 * ALWAYS_SUCCEED:g} % always succeed; share {truth:g}"
    yield Check(name, _covered(bounds, truth), LOW, HIGH, about)


@dataclass(frozen=True, slots=True)
class Pair:
    """Failure rates of two systems on the same cases.

    `within`: correlation of two cases of one effect; `alike`: how much the difficulty of an effect for one system
    says about the other (rank correlation of a Gaussian copula over effects).
    """

    first: float
    second: float
    within: float
    alike: float

    @property
    def words(self) -> str:
        rates = f"{100 * self.first:g} % against {100 * self.second:g} %"
        return f"{rates}, correlation {self.within:g}, effects alike {self.alike:g}"


def draw_pair(pair: Pair, effects: int, sources: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Failures out of `sources`, ``(BENCHMARKS, effects)``, of the first and of the second system."""
    shape = (BENCHMARKS, effects)
    one, other = rng.normal(size=(2, *shape))
    two = pair.alike * one + np.sqrt(1 - pair.alike**2) * other
    rates = (beta_shares(rate, pair.within, ndtr(z)) for rate, z in ((pair.first, one), (pair.second, two)))
    first, second = (rng.binomial(sources, rate) for rate in rates)
    return first, second


def difference_bounds(first: Counts, second: Counts, sources: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """`stats.paired_difference`'s rule for many pairs of tables at once: bounds ``(BENCHMARKS,)`` of second - first."""
    gaps = (second - first) / sources
    low, high = stats.bootstrap_intervals(gaps, rng, resamples=RESAMPLES)
    few = stats.few_differ(gaps)
    if few.any():
        one, two = second[few], first[few]
        sides = [stats.share_intervals(side, sources, rng, resamples=RESAMPLES, trusted=stats.shows_both) for side in (one, two)]
        found = stats.recovered_intervals(one / sources, sides[0], two / sources, sides[1])
        low[few], high[few] = np.minimum(low[few], found[0]), np.maximum(high[few], found[1])
    return low, high


COVERED = tuple(Pair(0.1, 0.15, within, 0.8) for within in WITHIN)
RARE = tuple(Pair(0.02, 0.05, within, 0.8) for within in WITHIN)
FOUND = Pair(0.05, 0.1, 0.1, 0.8)
AS_SHIPPED = Pair(0.35, 0.4, 0.7, 0.9)
"""About what the systems of reports/tiny.md have: most of the shipped fifty effects work, or fail, as a whole."""
TOO_FEW = "where most effects work or fail as a whole and a tenth of them differ between systems, fifty show about 12 points"
ALSO_TRIED = (
    Pair(0.1, 0.15, 0.1, 0.8), Pair(0.2, 0.25, 0.1, 0.8), Pair(0.1, 0.15, 0.0, 0.0), Pair(0.1, 0.15, 0.1, 0.5),
    Pair(0.1, 0.15, 0.1, 0.0), Pair(0.1, 0.15, 0.3, 0.8),
)  # fmt: skip


def difference_coverage() -> Iterator[Check]:
    """95 % bootstrap intervals of paired differences of shares."""
    for effects, sources in SIZES:
        for pair in (*COVERED, *RARE):
            rng = _generator("difference", effects, pair.words)
            bounds = difference_bounds(*draw_pair(pair, effects, sources, rng), sources, rng)
            name = f"coverage, paired difference: {effects} effects x {sources} sources, {pair.words}"
            known = WIDE if (effects, pair) == (8, COVERED[-1]) else ""
            yield Check(name, _covered(bounds, pair.second - pair.first), LOW, HIGH, reported=pair in RARE, known=known)


def few_differing() -> Iterator[Check]:
    """95 % intervals of a paired difference that is 0 in truth, where few effects differ and all others are equal."""
    effects, sources = FEW_EFFECTS
    kinds = {
        "two of five are better or worse by up to a third": _mixed_rates,
        "one of four works in one system alone": _flipped_rates,
    }
    for words, rates in kinds.items():
        rng = _generator("few differ", words)
        first, second = (rng.binomial(sources, rate) for rate in rates(rng))
        bounds = difference_bounds(first, second, sources, rng)
        name = f"coverage, paired difference of few effects: {effects} effects x {sources} sources, {words}"
        yield Check(name, _covered(bounds, 0.0), LOW, MOST, "too wide was chosen over too short")


def _mixed_rates(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Effects of which most never fail, and of the others each system fails a little more or less."""
    middle, gap = rng.beta(2, 2, size=(BENCHMARKS, FEW_EFFECTS[0])), rng.normal(0, 0.15, size=(BENCHMARKS, FEW_EFFECTS[0]))
    there = rng.random(size=middle.shape) < 0.4
    return tuple(np.where(there, np.clip(middle + sign * gap, 0, 1), 0.0) for sign in (1, -1))  # type: ignore[return-value]


def _flipped_rates(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Effects that work or fail as a whole, most in both systems alike."""
    flipped, first, alike = (rng.random(size=(BENCHMARKS, FEW_EFFECTS[0])) < share for share in (0.25, 0.5, 0.3))
    return np.where(flipped, first, alike).astype(float), np.where(flipped, ~first, alike).astype(float)


def power() -> Iterator[Check]:
    """How often a true difference of 5 points in the failure rate is found at 50 effects x 20 sources, paired."""
    effects, sources = SIZES[-1]
    for pair in (FOUND, AS_SHIPPED, *ALSO_TRIED):
        rng = _generator("power", pair.words)
        first, second = draw_pair(pair, effects, sources, rng)
        p = stats.sign_flip_ps((second - first) / sources, rng, draws=RESAMPLES)
        name = f"power, 5 points: {pair.words}"
        about = f"{effects} effects x {sources} sources, paired, two-sided p < .05, one comparison"
        known = TOO_FEW if pair is AS_SHIPPED else ""
        yield Check(name, float(np.mean(p < 0.05)), 0.8, about=about, reported=pair in ALSO_TRIED, known=known)


def false_alarms() -> Iterator[Check]:
    """How often two systems that are equally good differ with p < .05."""
    for effects, sources in SIZES:
        pair = Pair(0.1, 0.1, 0.1, 0.5)
        rng = _generator("null", effects)
        first, second = draw_pair(pair, effects, sources, rng)
        p = stats.sign_flip_ps((second - first) / sources, rng, draws=RESAMPLES)
        name = f"false alarms: {_size(effects, sources, pair.within)}"
        yield Check(name, float(np.mean(p < 0.05)), high=0.06, about=f"{pair.words}, p < .05")


def limits() -> Iterator[Check]:
    """What the intervals do not promise: other sources than these, and effects that differ in another way."""
    effects, sources = SIZES[-1]
    rng = _generator("sources")
    shared = np.sqrt(0.1 / sources) * rng.normal(size=(BENCHMARKS, 1))  # what all effects owe to the same sources
    bounds = stats.bootstrap_intervals(draw_means(effects, sources, 0.1, rng) + shared, rng, resamples=RESAMPLES)
    about = "of the mean over all sources, where a tenth of the variance belongs to the source; sources count as fixed"
    yield Check(f"coverage, other sources: {_size(effects, sources, 0.1)}", _covered(bounds, 0.0), about=about, reported=True)
    for effects, sources in SIZES:
        rng = _generator("logistic", effects)
        rates = expit(-2.5 + 1.2 * rng.normal(size=(BENCHMARKS, effects)))
        truth = float(expit(-2.5 + 1.2 * rng.normal(size=1_000_000)).mean())
        bounds = stats.share_intervals(rng.binomial(sources, rates), sources, rng, resamples=RESAMPLES)
        name = f"coverage, share, logistic effects: {effects} effects x {sources} sources"
        yield Check(name, _covered(bounds, truth), about=f"log odds normal instead of beta; share {truth:.3f}", reported=True)
