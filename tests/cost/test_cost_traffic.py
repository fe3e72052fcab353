"""Loads and switches: exact where theory is exact, and against simulation elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.cost.traffic import count, dealt, lru_miss_rate, popularity, simulate, switch_rate
from clbench.registry import ClbenchError


def test_popularity_is_a_distribution():
    assert popularity(4).tolist() == [0.25] * 4
    zipf = popularity(3, 1.0)
    assert zipf.sum() == pytest.approx(1) and zipf[0] / zipf[2] == pytest.approx(3)


@pytest.mark.parametrize(("items", "slots"), [(50, 1), (50, 10), (50, 49), (7, 3)])
def test_uniform_lru_is_exact(items, slots):
    assert lru_miss_rate(popularity(items), slots) == 1 - slots / items
    assert switch_rate(popularity(items)) == pytest.approx(1 - 1 / items)


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(("items", "slots"), [(50, 1), (50, 4), (180, 20), (20, 15)])
def test_zipf_agrees_with_simulation(items, slots, exponent):
    shares = popularity(items, exponent)
    seen = simulate(shares, slots, 40_000, np.random.default_rng(0))
    assert lru_miss_rate(shares, slots) == pytest.approx(seen.loads / seen.queries, abs=0.012)
    assert switch_rate(shares) == pytest.approx(seen.switches / seen.queries, abs=0.01)


def test_a_cache_that_holds_all_never_loads():
    assert lru_miss_rate(popularity(5, 1.0), 5) == 0 == lru_miss_rate(popularity(1), 3)
    assert simulate(popularity(5), 5, 1000, np.random.default_rng(0)).loads == 0


def test_count_by_hand():
    seen = count([0, 1, 0, 2, 2, 1], slots=2)
    assert (seen.queries, seen.switches, seen.loads) == (6, 4, 4)
    assert count([0, 0, 1, 1], slots=1, warm=2).loads == 1


def test_misses_fall_with_slots_and_with_the_exponent():
    misses = [lru_miss_rate(popularity(50, 1.0), k) for k in range(1, 51)]
    assert misses == sorted(misses, reverse=True)
    assert lru_miss_rate(popularity(50, 1.5), 5) < lru_miss_rate(popularity(50, 0.5), 5)


def test_dealing_keeps_every_share():
    shares = dealt(popularity(101, 1.0), 3)
    assert shares.sum() == pytest.approx(1) and len(shares) == 3


def test_bad_numbers_are_one_sentence():
    for make in (lambda: popularity(0), lambda: popularity(3, -1.0), lambda: lru_miss_rate(popularity(3), 0)):
        with pytest.raises(ClbenchError):
            make()
