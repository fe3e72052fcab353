"""Do intervals of ratios of failure rates cover what they say? Simulated benchmarks at the published rates.

The benchmarks are those of `clbench.selftest.statistics`: pairs of systems on the same effects, 50 x 20 cases and fewer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clbench import stats
from clbench.selftest import Check
from clbench.selftest.statistics import HIGH, LOW, MOST, RESAMPLES, SIZES, WITHIN, Counts, Floats, Pair, draw_pair
from clbench.types import seed_from

FEW = ((8, 24), (10, 20), (20, 20))
AS_SHIPPED = (Pair(0.18, 0.24, 0.7, 0.97), Pair(0.35, 0.4, 0.7, 0.9))
"""Few effects of which most work or fail as a whole, as those of the ablation's reports."""
PUBLISHED = tuple(Pair(0.087, other, within, 0.8) for other in (0.141, 0.168, 0.217) for within in WITHIN)
"""Failure rates of arXiv 2605.25378: one LoRA against teachers, cascade and joint LoRA with accelerator."""
AGAINST_CASCADE = Pair(0.087, 0.168, 0.1, 0.8)
ALSO_TRIED = (Pair(0.087, 0.168, 0.1, 0.0), Pair(0.03, 0.06, 0.1, 0.8), Pair(0.22, 0.21, 0.3, 0.8))


def checks() -> Iterator[Check]:
    """Coverage of 95 % intervals; benchmarks in which the second system never fails have no ratio and are left out."""
    for pair in (*PUBLISHED, *ALSO_TRIED):
        yield Check(*_covered(pair, *SIZES[-1]), LOW, HIGH, reported=pair not in PUBLISHED)
    for size in FEW:
        for pair in (AGAINST_CASCADE, *AS_SHIPPED):
            yield Check(*_covered(pair, *size), LOW, MOST)


def _covered(pair: Pair, effects: int, sources: int) -> tuple[str, float]:
    """A check's name and its coverage."""
    rng = np.random.default_rng(seed_from("selftest", "ratios", str(effects), pair.words))
    first, second = draw_pair(pair, effects, sources, rng)
    kept = second.any(axis=1)
    low, high = ratio_bounds(first[kept], second[kept], sources, rng)
    covered = float(np.mean((low <= pair.first / pair.second) & (pair.first / pair.second <= high)))
    return f"coverage, ratio of failure rates: {effects} effects x {sources} sources, {pair.words}", covered


def ratio_bounds(first: Counts, second: Counts, sources: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """`stats.paired_ratio`'s rule for many tables of failures out of `sources` at once: ``(B, K)`` -> bounds ``(B,)``."""
    one, two = first / sources, second / sources
    low, high = stats.ratio_intervals(one, two, rng, resamples=RESAMPLES)
    some = ~(stats.shows_both(one) & stats.shows_both(two))
    if some.any():
        sides = (first[some], second[some])
        model = [stats.share_intervals(side, sources, rng, resamples=RESAMPLES, trusted=stats.shows_both) for side in sides]
        given = one[some], model[0], two[some], model[1]
        least, most = stats.recovered_ratios(*given)
        if first.shape[1] < stats.ENOUGH:
            drawn = stats.within_model((low[some], high[some]), stats.recovered_ratios(*given, alike=0.0))
            least, most = np.minimum(least, drawn[0]), np.maximum(most, drawn[1])
        low[some], high[some] = least, most
    return low, high
