"""Every bound of the statistics holds, or is listed as known to be missed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from clbench import stats
from clbench.selftest import statistics


def test_coverage_power_and_false_alarms() -> None:
    start = time.process_time()
    found = list(statistics.checks())
    assert time.process_time() - start < 60  # about 11 s on one quiet core
    assert not [f"{check.name}: {check.value:.3f}" for check in found if check.verdict == "missed"]
    assert len([check for check in found if check.verdict == "missed (known)"]) <= len(statistics.TOO_WIDE)
    for kind in ("coverage, mean", "coverage, share", "coverage, paired difference", "power", "false alarms"):
        assert any(check.name.startswith(kind) and not check.reported for check in found)


@pytest.mark.parametrize("first", [[0, 4, 4, 0], [0, 4, 3, 0]])
def test_many_differences_at_once_are_equal_where_the_single_one_is(first: list[int]) -> None:
    """A share's outcomes are known case by case where an effect shows one of them only."""
    counts = np.array([first])
    low, high = statistics.difference_bounds(counts, counts, 4, np.random.default_rng(0))
    assert (low[0] == high[0] == 0) == (3 not in first) and low[0] <= 0 <= high[0]
    outcomes = np.concatenate([[1.0] * count + [0.0] * (4 - count) for count in first])
    effects, sources = np.repeat(list("abcd"), 4).tolist(), list("wxyz") * 4
    one = stats.paired_difference(outcomes, outcomes, effects, sources, np.random.default_rng(0), share=True)
    assert one.low == one.high == 0
