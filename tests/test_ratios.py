"""Laws of paired ratios. Their coverage at the sizes of the suites: tests/selftest."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clbench import stats

EFFECTS = [f"e{index}" for index in range(8) for _ in range(6)]
SOURCES = [f"s{index}" for _ in range(8) for index in range(6)]
amounts = arrays(np.float64, 48, elements=st.floats(0.125, 4, width=32))
outcomes = arrays(np.float64, 48, elements=st.sampled_from([0.0, 1.0])).filter(np.any)


def ratio(one, two, share: bool = False, seed: int = 0, effects=EFFECTS, sources=SOURCES, same: bool = False) -> stats.Ratio:
    return stats.paired_ratio(one, two, effects, sources, np.random.default_rng(seed), share, same=same)


def bounds(found: stats.Ratio) -> tuple[float, float, float]:
    return found.value, found.low, found.high


@given(amounts, outcomes)
@settings(max_examples=30, deadline=None)
def test_a_system_is_as_good_as_itself(values: np.ndarray, failures: np.ndarray) -> None:
    assert bounds(ratio(values, values, same=True)) == (1, 1, 1)
    assert bounds(ratio(failures, failures, share=True, same=True)) == (1, 1, 1)


def test_equal_scores_of_two_systems_are_no_certainty() -> None:
    """In other effects one of them may be better; a bootstrap of equal means, or of one rate in every effect, cannot see it."""
    rng = np.random.default_rng(0)
    some = np.tile([1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 8)  # a third fails in every effect
    for values, share in ((rng.random(48), False), (some, False), (some, True)):
        found = ratio(values, values, share)
        assert found.value == 1 and np.isnan([found.low, found.high]).all()
        assert found.reason == "equal in every effect, so nothing is known of other ones"
    turned = ratio(some, np.roll(some, 1), share=True)
    assert turned.value == 1 and np.isnan(turned.low) and turned.reason, "other cases, the same rates"
    for count in (1, 3, 7, 8):
        rare = np.repeat(np.arange(8) < count, 6).astype(float)  # whole effects fail: the model tells of others
        found = ratio(rare, rare, share=True)
        assert found.low < 0.99 and found.high > 1.01, count
    half = np.repeat([0.0, 1.0], 24)
    assert np.isnan(ratio(half, half, share=True).low), "equal roots, whatever rounding leaves between them"


@given(amounts, amounts, st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_units_scale_the_ratio_or_nothing(one: np.ndarray, two: np.ndarray, unit: float) -> None:
    means = [side.reshape(8, 6).mean(1) for side in (one, two)]
    assume(np.ptp(means[0] / means[1]) > 1e-3)  # effects of one ratio have no interval
    plain = ratio(one, two)
    assert plain.value == pytest.approx(one.mean() / two.mean()) and plain.low <= plain.value <= plain.high
    assert bounds(ratio(unit * one, two)) == pytest.approx([unit * each for each in bounds(plain)])
    assert bounds(ratio(unit * one, unit * two)) == pytest.approx(bounds(plain))
    alike = ratio(unit * two, two)
    assert alike.value == pytest.approx(unit) and np.isnan([alike.low, alike.high]).all() and alike.reason


@given(amounts, amounts, outcomes, outcomes)
@settings(max_examples=30, deadline=None)
def test_the_other_way_round_is_the_reciprocal(one: np.ndarray, two: np.ndarray, fails: np.ndarray, misses: np.ndarray) -> None:
    for first, second, share in ((one, two, False), (fails, misses, True)):
        forth, back = ratio(first, second, share), ratio(second, first, share)
        turned = [1 / back.value, 1 / back.high, 1 / back.low if back.low else np.inf]
        assert bounds(forth) == pytest.approx(turned, rel=1e-6, nan_ok=True)


@given(amounts, amounts, outcomes, outcomes, st.permutations(range(48)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_cases_changes_nothing(one, two, fails, misses, order: list[int]) -> None:
    effects, sources = [EFFECTS[index] for index in order], [SOURCES[index] for index in order]
    for first, second, share in ((one, two, False), (fails, misses, True)):
        moved = ratio(first[order], second[order], share, effects=effects, sources=sources)
        assert astuple(moved)[:8] == pytest.approx(astuple(ratio(first, second, share))[:8], nan_ok=True)


def test_only_common_cases_count_and_effects_weigh_the_same() -> None:
    one, two = np.array([1.0, 3.0, 8.0, 9.0, np.nan]), np.array([2.0, 2.0, 4.0, np.nan, 5.0])
    found = ratio(one, two, effects=["a", "a", "b", "b", "b"], sources=["x", "y", "x", "y", "z"])
    assert (found.first, found.second, found.value) == (5.0, 3.0, pytest.approx(5 / 3)), "means of (2, 8) and of (2, 4)"
    assert (found.n_pairs, found.n_dropped, found.n_effects) == (3, 2, 2)
    none = ratio(np.full(48, np.nan), np.ones(48))
    assert np.isnan(none.value) and none.reason == "no case was scored for both" and none.n_pairs == 0
    single = ratio([1.0, 2.0], [2.0, 4.0], effects=["a", "a"], sources=["x", "y"])
    assert single.value == 0.5 and np.isnan(single.low) and single.reason == "no interval from a single effect"


@pytest.mark.parametrize("share", [False, True])
def test_nothing_is_divided_by_zero(share: bool) -> None:
    zeros, ones = np.zeros(48), np.ones(48)
    for first in (zeros, ones):
        found = ratio(first, zeros, share)
        assert np.isnan([found.value, found.low, found.high]).all()
        assert found.reason == "no ratio: the second is 0 in every case" and found.first == first[0]
    best = ratio(zeros, ones, share)
    assert best.value == 0, "eight effects without a failure may hide a ninth that fails"
    if share:
        assert best.low == 0 and 0.05 < best.high < 1
    else:
        assert np.isnan([best.low, best.high]).all() and "same ratio in every effect" in best.reason


def test_a_denominator_that_may_be_zero_leaves_the_ratio_open_above() -> None:
    rare = np.zeros(48)
    rare[0] = 1.0
    found = ratio(np.linspace(1, 2, 48), rare)
    assert np.isinf(found.high) and found.reason == "no upper bound: in other effects the second may be 0"
    assert 0 < found.low < found.value < np.inf
    both = ratio(2 * rare, rare)  # one effect alone says something, and is missing from a third of the resamples
    assert (both.value, both.low) == (2, 0) and np.isinf(both.high) and both.reason
    counted = ratio(np.roll(rare, 6), rare, share=True)
    assert counted.low < 0.2 and 5 < counted.high < np.inf, "a rate that was seen once is not 0"


def test_negative_values_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        ratio(-np.ones(48), np.ones(48))


@pytest.mark.parametrize("effects", [8, 50])
def test_a_planted_ratio_is_covered(effects: int) -> None:
    """Skewed values whose effects are alike in both systems: a true ratio of 0.8, 400 benchmarks."""
    rng = np.random.default_rng(effects)
    difficulty = rng.gamma(4, size=(400, effects))
    one, two = (scale * difficulty * rng.gamma(8, 1 / 8, size=difficulty.shape) for scale in (0.8, 1.0))
    low, high = stats.ratio_intervals(one, two, rng, resamples=1000)
    assert 0.92 <= np.mean((low <= 0.8) & (high >= 0.8)) <= 0.98


@pytest.mark.parametrize("count", [3, 8])
def test_one_ratio_in_all_effects_is_no_certainty_of_others(count: int) -> None:
    two = np.random.default_rng(0).uniform(0.5, 1, 6 * count)
    fails, misses = np.tile([1.0, 0, 0, 0, 0, 0], count), np.tile([1.0, 1, 0, 0, 0, 0], count)
    for share, first, second in ((False, two / 2, two), (True, fails, misses)):
        found = ratio(first, second, share, effects=EFFECTS[: 6 * count], sources=SOURCES[: 6 * count])
        assert found.value == pytest.approx(0.5) and np.isnan([found.low, found.high]).all()
        assert found.reason == "the same ratio in every effect, so nothing is known of other ones"


def test_a_ratio_of_few_effects_reaches_beyond_them() -> None:
    """Two effects of ratio .8 and 1.2: a bootstrap would end there, and cover a new pair's ratio half of the time."""
    effects, sources = ["a"] * 4 + ["b"] * 4, list("wxyz") * 2
    first, second = np.repeat([0.8, 1.2], 4), np.ones(8)
    got = stats.paired_ratio(first, second, effects, sources, np.random.default_rng(0))
    assert got.value == pytest.approx(1.0) and got.low < 0.5 and got.high > 1.5


def test_few_effects_of_which_few_differ_leave_the_sign_open() -> None:
    """Three of ten effects fail more often, by a lot, and all others are equal: other effects may all be equal (p .25)."""
    effects = [f"e{index}" for index in range(10) for _ in range(20)]
    sources = [f"s{index}" for _ in range(10) for index in range(20)]
    rates = np.array([0.3, 0.1, 0.6, 0.0, 0.0, 0.0, 0.5, 0.05, 0.1, 0.15])
    more = rates + np.array([0.05, 0.3, 0.2, 0, 0, 0, 0, 0, 0, 0])
    one, two = ((np.arange(20)[None] < np.rint(20 * each)[:, None]).ravel().astype(float) for each in (rates, more))
    found = ratio(one, two, share=True, effects=effects, sources=sources)
    assert found.value < 0.8 and found.high >= 1.0, "the model alone ends at .97"
    gap = stats.paired_difference(one, two, effects, sources, np.random.default_rng(0), stats.SHARE)
    assert gap.low < 0 <= gap.high and gap.p == 0.25
