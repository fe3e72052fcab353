"""Laws of the statistics. Their coverage and power: tests/selftest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import betaincinv, ndtr

from clbench import stats
from clbench.metrics.derived import scale_of
from clbench.types import Scale

VSA = Scale(0.0, 5.0, two_ends=True)
SUBJECT = Scale(1.0, 5.0, two_ends=True)
EFFECTS = [f"e{index}" for index in range(8) for _ in range(6)]
SOURCES = [f"s{index}" for _ in range(8) for index in range(6)]
table = arrays(np.float64, 48, elements=st.floats(-5, 5, width=32))
ps = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_effects_weigh_the_same_however_many_pictures_they_have() -> None:
    effects = ["a"] * 3 + ["b"]
    sources = ["x", "x", "y", "x"]
    nested = stats.effect_means([0.0, 1.0, 1.0, 0.25], effects, sources)
    assert nested.labels == ("a", "b") and nested.sources.tolist() == [2, 1]
    assert nested.means.tolist() == [0.75, 0.25]  # seeds (0, 1) -> .5; sources (.5, 1) -> .75


def test_missing_values_are_counted_and_never_zero() -> None:
    values = np.ones(48)
    values[:9] = np.nan
    failed = np.zeros(48, dtype=bool)
    failed[:4] = True
    got = stats.estimate(values, failed, EFFECTS, SOURCES, generator())
    assert got.value == 1.0 and (got.n_total, got.n_scored, got.n_failed, got.n_unscored) == (48, 39, 4, 5)
    assert got.n_effects == 7  # the first effect has no picture left
    empty = stats.estimate(np.full(48, np.nan), failed, EFFECTS, SOURCES, generator())
    assert np.isnan(empty.value) and empty.reason == "nothing was scored"
    single = stats.estimate([1.0, 2.0], [False, False], ["a", "a"], ["x", "y"], generator())
    assert single.value == 1.5 and np.isnan(single.low) and single.reason


@given(table)
@settings(max_examples=40, deadline=None)
def test_interval_holds_its_mean_and_moves_with_the_data(values: np.ndarray) -> None:
    none = np.zeros(48, dtype=bool)
    got = stats.estimate(values, none, EFFECTS, SOURCES, generator())
    assert got.low - 1e-9 <= got.value <= got.high + 1e-9
    assert got.value == pytest.approx(values.reshape(8, 6).mean())
    assert values.min() - 1e-9 <= got.low and got.high <= values.max() + 1e-9
    moved = stats.estimate(values + 2, none, EFFECTS, SOURCES, generator())
    assert (moved.low, moved.high) == pytest.approx((got.low + 2, got.high + 2))


@given(table, st.permutations(range(48)))
@settings(max_examples=25, deadline=None)
def test_order_of_rows_does_not_matter_and_bytes_repeat(values: np.ndarray, order: list[int]) -> None:
    none = np.zeros(48, dtype=bool)
    one = stats.estimate(values, none, EFFECTS, SOURCES, generator(3))
    again = stats.estimate(values, none, EFFECTS, SOURCES, generator(3))
    assert one == again
    effects, sources = [EFFECTS[index] for index in order], [SOURCES[index] for index in order]
    shuffled = stats.estimate(values[order], none, effects, sources, generator(3))
    assert (shuffled.value, shuffled.low, shuffled.high) == pytest.approx((one.value, one.low, one.high))


@given(table, table)
@settings(max_examples=30, deadline=None)
def test_difference_is_antisymmetric(one: np.ndarray, two: np.ndarray) -> None:
    forth = stats.paired_difference(one, two, EFFECTS, SOURCES, generator())
    back = stats.paired_difference(two, one, EFFECTS, SOURCES, generator())
    assert forth.value == pytest.approx(-back.value) and forth.p == pytest.approx(back.p)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=0.15, nan_ok=True)  # none of equal effects
    assert forth.detectable == pytest.approx(back.detectable) and 0 < forth.p <= 1


def test_difference_uses_common_cases_only() -> None:
    one, two = np.repeat(1 + 0.25 * (np.arange(8) % 2), 6), np.zeros(48)  # equal effects would decide nothing
    one[0], two[1] = np.nan, np.nan
    got = stats.paired_difference(one, two, EFFECTS, SOURCES, generator())
    assert got.value == 1.125 and (got.n_pairs, got.n_dropped) == (46, 2) and got.decided
    assert got.p == pytest.approx(2 / 2**8)
    none = stats.paired_difference(np.full(48, np.nan), two, EFFECTS, SOURCES, generator())
    assert none.reason == "no case was scored for both" and not none.decided


def test_no_variation_is_not_certainty() -> None:
    ones = np.ones(48)
    share = stats.estimate(ones, ones == 0, EFFECTS, SOURCES, generator(), scale=stats.SHARE)
    assert share.value == share.high == 1.0 and 0.78 < share.low < 0.88  # eight effects may hide a ninth that fails
    equal = stats.paired_difference(ones, ones, EFFECTS, SOURCES, generator(), scale=stats.SHARE)
    assert equal.value == 0 and equal.low < -0.02 and equal.high > 0.02 and equal.p == 1.0


@given(arrays(np.float64, 8, elements=st.floats(0, 1)), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_model_interval_stays_in_bounds_and_mirrors(means: np.ndarray, sources: int) -> None:
    counts = np.full(8, sources)
    low, high = stats.model_interval(means, counts)
    assert 0 <= low <= means.mean() + 1e-12 and means.mean() - 1e-12 <= high <= 1
    mirrored = stats.model_interval(1 - means, counts)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


@given(arrays(np.int64, (3, 8), elements=st.integers(0, 6)))
@settings(max_examples=40, deadline=None)
def test_many_share_intervals_at_once_are_each_the_single_one(successes: np.ndarray) -> None:
    low, high = stats.share_intervals(successes, 6, generator(2))
    for table, bounds in zip(successes, zip(low, high, strict=True), strict=True):
        assert stats.share_interval(table / 6, np.full(8, 6), generator(2)) == pytest.approx(bounds, abs=1e-9)


def test_the_grid_of_the_model_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark five times the largest shipped one: a finer grid moves no bound by 3 % of the width."""
    from clbench.stats import beta_binomial

    means = np.concatenate([np.zeros(10), generator().binomial(100, 0.03, size=40) / 100])
    coarse = np.array(stats.model_interval(means, np.full(50, 100)))
    monkeypatch.setattr(beta_binomial, "SHARES", 1024)
    monkeypatch.setattr(beta_binomial, "CORRELATIONS", 64)
    fine = np.array(stats.model_interval(means, np.full(50, 100)))
    assert np.abs(fine - coarse).max() < 0.03 * (fine[1] - fine[0])


def test_differences_of_shares_in_few_effects_are_never_too_sure() -> None:
    one, two = np.ones(48), np.ones(48)
    two[:6] = 0.0  # one of eight effects is lost
    got = stats.paired_difference(one, two, EFFECTS, SOURCES, generator(), scale=stats.SHARE)
    assert got.value == pytest.approx(1 / 8) and got.low < 0 < got.high
    for effect in range(1, 7):
        two[6 * effect : 6 * effect + 3] = 0.0  # now seven differ: the bootstrap
    assert stats.paired_difference(one, two, EFFECTS, SOURCES, generator(), scale=stats.SHARE).low > 0


@given(ps)
def test_holm_laws(values: list[float]) -> None:
    adjusted = stats.holm(values)
    raw = np.array(values)
    assert (adjusted >= raw).all() and (adjusted <= 1).all()
    assert (adjusted <= np.minimum(raw * len(raw), 1) + 1e-12).all()  # never worse than Bonferroni
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_holm_known_and_missing() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(stats.holm([0.01, np.nan])[1]) and stats.holm([0.01, np.nan])[0] == 0.01


def test_sign_flips_agree_exact_and_drawn() -> None:
    means = np.linspace(-0.5, 1.2, 14)
    exact = stats.sign_flip_p(means, generator())
    longer = np.concatenate([means, [0.0]])  # a 15th effect without a difference changes nothing
    assert stats.sign_flip_p(longer, generator()) == pytest.approx(exact, abs=0.01)


def test_detectable_difference_shrinks_with_effects() -> None:
    few, many = np.tile([0.0, 1.0], 4), np.tile([0.0, 1.0], 25)
    assert stats.detectable_difference(few) > 2 * stats.detectable_difference(many) > 0
    assert np.isnan(stats.detectable_difference(few[:1]))


@given(st.integers(2, 13))
def test_the_least_p_is_that_of_effects_that_all_agree(effects: int) -> None:
    assert stats.least_p(effects) == stats.sign_flip_p(np.ones(effects), generator())
    assert stats.least_p(effects + 1) < stats.least_p(effects) and np.isnan(stats.least_p(1))


@given(st.integers(2, 20), st.integers(1, 40))
def test_what_no_correction_lets_pass(effects: int, tests: int) -> None:
    best = stats.holm([stats.least_p(effects), *np.ones(tests - 1)])[0]
    assert stats.undecidable([effects] * tests) == (best >= stats.SIGNIFICANT)
    assert stats.undecidable([effects] * tests + [1]) == stats.undecidable([effects] * tests), "one effect has no p"
    assert not stats.undecidable([]) and not stats.undecidable([1, 1])


def test_the_detectable_difference_grows_with_the_correction() -> None:
    rng = generator()
    one, two = rng.normal(size=48), rng.normal(size=48)
    gap = stats.paired_difference(one, two, EFFECTS, SOURCES, rng)
    found = [stats.corrected_detectable(gap, [8] * tests) for tests in (1, 2, 5, 6, 7, 40)]
    assert found[0] == gap.detectable < found[1] < found[2] < np.inf and found[4:] == [np.inf, np.inf]
    assert found[2] == found[3], "p below .05 / 5 and below .05 / 6 are the same two of 256 signs"
    strict = stats.paired_difference(one, two, EFFECTS, SOURCES, rng, level=1 - 0.05 / 5)
    assert found[2] == pytest.approx(strict.detectable)
    same = stats.paired_difference(one, one, EFFECTS, SOURCES, rng)
    assert stats.corrected_detectable(same, [8] * 2) == 0 and stats.corrected_detectable(same, [8] * 40) == np.inf
    single = stats.paired_difference(one[:6], two[:6], EFFECTS[:6], SOURCES[:6], rng)
    assert np.isnan(stats.corrected_detectable(single, [1]))


def planted_shares(effects: int, sources: int, share: float, within: float, tables: int, seed: int) -> np.ndarray:
    """Beta-binomial effect means ``(tables, effects)`` with intra-effect correlation `within`."""
    rng, strength = generator(seed), 1 / within - 1
    chance = rng.beta(share * strength, (1 - share) * strength, (tables, effects))
    return rng.binomial(sources, chance) / sources


@pytest.mark.parametrize(("effects", "sources", "fails"), [(8, 24, 0.02), (50, 20, 0.02), (50, 20, 0.4)])
def test_a_share_times_a_score_covers_its_mean(effects: int, sources: int, fails: float) -> None:
    """VSA of 5 for every success: the plain bootstrap covers .62 and .83 of the first two."""
    tables = 5 * planted_shares(effects, sources, 1 - fails, 0.3, 150, seed=3)
    counts = np.full(effects, sources)
    found = np.array([stats.scored_interval(means, counts, generator(1), VSA) for means in tables])
    held = (found[:, 0] <= 5 * (1 - fails)) & (5 * (1 - fails) <= found[:, 1])
    assert held.mean() >= 0.9 and (found[:, 1] <= 5).all() and (found[:, 0] >= 0).all()


def test_a_score_of_many_failures_and_successes_keeps_its_bootstrap() -> None:
    means = np.concatenate([np.linspace(0, 1, 20), np.linspace(3, 4.9, 30)])
    assert stats.scored_interval(means, np.full(50, 20), generator(1), VSA) == stats.bootstrap_interval(means, generator(1))


def test_a_subject_that_is_seldom_gone_covers_its_mean() -> None:
    """1 where the subject is gone, near 5 elsewhere, as the shipped systems have it; the bootstrap covers .6 of these."""
    assert scale_of("subject") == SUBJECT and scale_of("vsa") == VSA and scale_of("success").is_share
    tables = 1 + 3.9 * planted_shares(8, 24, 0.97, 0.3, 150, seed=4)
    found = np.array([stats.scored_interval(means, np.full(8, 24), generator(1), SUBJECT) for means in tables])
    truth = 1 + 3.9 * 0.97
    assert np.mean((found[:, 0] <= truth) & (truth <= found[:, 1])) >= 0.93
    assert (found[:, 0] >= 1).all() and (found[:, 1] <= 5).all()


def test_scores_near_0_are_mirrored_by_those_near_5() -> None:
    zeros = np.zeros(48)
    rare, never = zeros.copy(), stats.estimate(zeros, zeros > 0, EFFECTS, SOURCES, generator(), VSA)
    rare[0] = 5.0
    low, high = (stats.estimate(values, zeros > 0, EFFECTS, SOURCES, generator(), VSA) for values in (rare, 5 - rare))
    assert never.low == 0 and 0.6 < never.high < 1.1
    assert (low.low, low.high) == pytest.approx((5 - high.high, 5 - high.low), abs=0.01) and low.high > 0.6
    moved = stats.estimate(1 + 0.8 * rare, zeros > 0, EFFECTS, SOURCES, generator(), SUBJECT)
    assert (moved.low, moved.high) == pytest.approx((1 + 0.8 * low.low, 1 + 0.8 * low.high)), "the same share of a scale from 1"


def test_no_interval_leaves_its_scale() -> None:
    """Student's interval of three effects would end at 5.6, and that of their differences above 4."""
    values, effects, sources = np.array([4.9, 4.9, 4.3]), list("abc"), ["x"] * 3
    for scale in (SUBJECT, Scale(1.0, 5.0)):
        got = stats.estimate(values, values < 0, effects, sources, generator(), scale)
        assert 1 <= got.low < got.value < got.high == 5
        apart = stats.paired_difference(values, [1.0, 3.0, 4.0], effects, sources, generator(), scale)
        assert -4 <= apart.low < apart.value < apart.high <= 4
    outside = stats.estimate(values + 1, values < 0, effects, sources, generator(), Scale(1.0, 5.0))
    assert outside.high == outside.value, "values beyond their card are still held"
    with pytest.raises(ValueError, match="both of them"):
        Scale(0.0, two_ends=True)


def test_a_score_without_failures_is_no_certainty() -> None:
    fives = np.full(48, 5.0)
    got = stats.estimate(fives, fives == 0, EFFECTS, SOURCES, generator(), scale=VSA)
    assert got.value == got.high == 5.0 and 3.9 < got.low < 4.4
    equal = stats.paired_difference(fives, fives, EFFECTS, SOURCES, generator(), scale=VSA)
    assert equal.value == 0 and equal.low < -0.1 and equal.high > 0.1
    lost = fives.copy()
    lost[:6] = 0.0  # one of eight effects
    assert stats.paired_difference(lost, fives, EFFECTS, SOURCES, generator(), scale=VSA).high > 0.2


@pytest.mark.parametrize("effects", [2, 3, 4, 5])
def test_few_effects_cover_what_is_beyond_them(effects: int) -> None:
    tables = generator(5).normal(size=(2_000, effects))
    low, high = stats.bootstrap_intervals(tables, generator(1))
    assert 0.935 <= ((low <= 0) & (high >= 0)).mean() <= 0.965


@pytest.mark.parametrize("effects", [2, 3, 4, 5])
def test_shares_of_few_effects_cover_their_mean_difference_and_ratio(effects: int) -> None:
    """Shares of .1 and .3. Of two effects the correlation of both systems is always 1 or -1, which let ratios cover .84."""
    ranks = ndtr(generator(effects).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=(150, effects)))
    pairs = [betaincinv(share * 7 / 3, (1 - share) * 7 / 3, ranks[..., at]) for at, share in enumerate((0.1, 0.3))]
    names, sources = [f"e{at}" for at in range(effects) for _ in range(6)], [f"s{at}" for _ in range(effects) for at in range(6)]
    held: dict[str, list[bool]] = {"mean": [], "difference": [], "ratio": []}
    for counts in zip(*(generator(at).binomial(6, rates) for at, rates in enumerate(pairs)), strict=True):
        a, b = ((np.arange(6) < count[:, None]).astype(float).ravel() for count in counts)
        mean = stats.estimate(a, a < 0, names, sources, generator(), stats.SHARE)
        gap = stats.paired_difference(a, b, names, sources, generator(), stats.SHARE)
        ratio = stats.paired_ratio(a, b, names, sources, generator(), share=True)
        for name, found, truth in (("mean", mean, 0.1), ("difference", gap, -0.2), ("ratio", ratio, 1 / 3)):
            held[name] += [found.low <= truth <= found.high] if np.isfinite(found.low) else []
        assert -1 <= gap.low <= gap.value <= gap.high <= 1 and 0 <= mean.low <= mean.high <= 1
    assert all(np.mean(found) >= 0.92 for found in held.values()), {name: np.mean(found) for name, found in held.items()}


def test_one_difference_in_all_effects_is_no_certainty_of_others() -> None:
    values = generator().random(48)
    for shift in (0.5, 0.0):
        got = stats.paired_difference(values + shift, values, EFFECTS, SOURCES, generator())
        assert got.value == pytest.approx(shift) and np.isnan([got.low, got.high]).all() and not got.decided
        assert got.reason == "the same difference in every effect, so nothing is known of other ones" and got.detectable < 1e-9


def test_equal_effects_are_no_certainty_of_a_share() -> None:
    halves = np.tile([0.0, 1.0], 24)
    got = stats.estimate(halves, halves < 0, EFFECTS, SOURCES, generator(), scale=stats.SHARE)
    assert got.value == 0.5 and got.low < 0.45 and got.high > 0.55
    half, none = halves, np.zeros(48)
    apart = stats.paired_difference(half, none, EFFECTS, SOURCES, generator(), scale=stats.SHARE)
    assert apart.value == 0.5 and apart.low < 0.45 and apart.high > 0.55


@pytest.mark.parametrize(("effects", "tests"), [(6, 1), (8, 4), (10, 10), (11, 40), (14, 40), (50, 1)])
def test_what_is_detectable_is_found_four_times_in_five(effects: int, tests: int) -> None:
    """At the stated difference for a spread of 1: the rule is p below .05 / M, as of the first of Holm's steps.

    Half of what is stated would be found in half of the cases at most; Student's quantiles gave .54 to .75 of 11 to 14 effects.
    """
    draws = generator(11).normal(size=(1_000, effects))
    spread = draws[0] / draws[0].std(ddof=1)
    alone = stats.Difference(0, 0, 0, 1, stats.detectable_difference(spread), effects, 0, effects)
    stated = stats.corrected_detectable(alone, [effects] * tests)
    found = stats.sign_flip_ps(draws + stated, generator(1)) < stats.SIGNIFICANT / tests
    assert 0.76 <= found.mean() <= 0.84
    assert (stats.sign_flip_ps(draws + stated / 2, generator(1)) < stats.SIGNIFICANT / tests).mean() < 0.5


def test_a_test_of_fewer_effects_may_pass_after_the_others() -> None:
    few = stats.Difference(0.75, 0.5, 1.0, 2 / 2**7, 0.3, 7, 0, 7)
    assert np.isfinite(stats.corrected_detectable(few, [14, 14, 14, 7]))
    assert stats.corrected_detectable(few, [7, 7, 7, 7]) == np.inf
