"""Intervals of ratios cover what they say at the size of the headline suite."""

from __future__ import annotations

from clbench.selftest import ratios


def test_ratios_of_failure_rates_are_covered() -> None:
    found = list(ratios.checks())
    bound = len(ratios.PUBLISHED) + len(ratios.FEW) * (1 + len(ratios.AS_SHIPPED))
    assert len([check for check in found if not check.reported]) == bound
    assert not [check.sentence for check in found if not check.passed]
    assert min(check.value for check in found) > 0.93, "with few effects too wide was chosen over too short"
