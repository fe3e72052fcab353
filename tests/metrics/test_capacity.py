"""Break-even against a reference, on curves whose crossing is known."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.metrics.capacity import break_even, crossing
from clbench.stats import widened_tail

COUNTS = [8, 16, 32, 64]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_planted_crossing_is_found():
    assert crossing(COUNTS, np.array([0.2, 0.1, -0.1, -0.2])) == pytest.approx(16 * np.sqrt(2))
    assert crossing(COUNTS, np.array([0.3, 0.2, 0.0, -0.2])) == pytest.approx(32)


def test_no_crossing_is_said_by_zero_and_infinity():
    assert crossing(COUNTS, np.array([0.4, 0.3, 0.2, 0.1])) == np.inf
    assert crossing(COUNTS, np.array([-0.1, -0.2, -0.3, -0.4])) == 0


def test_noise_between_neighbours_makes_no_crossing():
    assert crossing(COUNTS, np.array([0.3, -0.01, 0.2, -0.3])) > 32


def test_the_interval_holds_the_truth_and_shrinks_with_more_effects():
    curve = np.array([0.2, 0.1, -0.1, -0.2])[:, None]
    widths = []
    for effects in (8, 128):
        shift = np.random.default_rng(1).normal(0, 0.15, (1, effects))
        found = break_even(COUNTS, curve + shift - shift.mean(), rng())
        assert found.low <= found.value <= found.high and found.n_effects == effects
        assert found.value == pytest.approx(16 * np.sqrt(2))
        widths.append(np.log2(found.high) - np.log2(max(found.low, 1)))
    assert widths[1] < widths[0]


def test_coverage_of_the_interval():
    """Of simulated benchmarks with a known crossing, about 95 % of intervals hold it."""
    curve, hits = np.array([0.2, 0.1, -0.1, -0.2])[:, None], 0
    for seed in range(40):
        noise = np.random.default_rng(seed)
        gaps = curve + noise.normal(0, 0.2, (1, 40)) + noise.normal(0, 0.05, (4, 40))
        found = break_even(COUNTS, gaps, np.random.default_rng(seed))
        hits += found.low <= 16 * np.sqrt(2) <= found.high
    assert hits >= 34


def test_few_effects_have_the_wide_tails_of_the_bootstrap_of_a_mean():
    """Of eight effects a plain percentile interval would hold 87-91 %, see `stats.bootstrap_intervals`."""
    gaps = np.array([0.2, 0.1, -0.1, -0.2])[:, None] + np.random.default_rng(1).normal(0, 0.1, (1, 8))
    found, plain = break_even(COUNTS, gaps, rng()), rng().integers(0, 8, size=(2_000, 8))
    drawn = np.sort([crossing(COUNTS, means) for means in gaps[:, plain].mean(axis=2).T])
    assert found.low < drawn[50] and found.high > drawn[-51]
    assert found.low == drawn[int(2_000 * widened_tail(8))]


def test_what_cannot_be_said_has_a_reason():
    assert break_even(COUNTS, np.zeros((4, 0)), rng()).reason == "no adapter and reference share an effect"
    one = break_even([8], np.array([[0.1]]), rng())
    assert one.value == np.inf and "single effect" in one.reason
    assert break_even(COUNTS, np.zeros((4, 3)), rng()).value == np.inf, "as good as the reference everywhere"
    few = break_even(COUNTS, np.random.default_rng(0).normal(size=(4, 5)), rng())
    assert np.isnan([few.low, few.high]).all() and few.reason == "no interval from 5 effects, fewer than 6"
    equal = break_even(COUNTS, np.repeat([[0.2], [0.1], [-0.1], [-0.2]], 8, axis=1), rng())
    assert equal.value == pytest.approx(16 * np.sqrt(2)) and np.isnan([equal.low, equal.high]).all()
    assert equal.reason == "the same gaps in every effect, so nothing is known of other ones"
    for counts, gaps in (([8, 8], np.zeros((2, 3))), (COUNTS, np.zeros((3, 3))), ([8, 16], np.full((2, 2), np.nan))):
        with pytest.raises(ValueError):
            break_even(counts, gaps, rng())


def test_the_same_seed_gives_the_same_interval():
    gaps = np.random.default_rng(3).normal(0, 0.2, (4, 12))
    assert break_even(COUNTS, gaps, rng()) == break_even(COUNTS, gaps, rng())
