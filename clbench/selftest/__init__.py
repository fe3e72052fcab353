"""`clbench selftest`: planted answers, each with the bound that it must meet.

A group is a module of this room with a function ``checks() -> Iterator[Check]``; it is imported when it is run. To
add one, write the module and one line in `GROUPS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from clbench.cores import usable_cores
from clbench.registry import Registry
from clbench.selftest.beside import run_beside

__all__ = ["GROUPS", "Check", "Group", "run"]


@dataclass(frozen=True, slots=True)
class Check:
    """One measured value and the bounds (inclusive) that it must lie in; NaN lies in none.

    `reported` values have no bound: they say what to expect. `known` is the sentence that explains a bound that is
    known to be missed; such a check still reads as missed, but does not fail the command unless it is asked to.
    """

    name: str
    value: float
    low: float = -math.inf
    high: float = math.inf
    about: str = ""
    reported: bool = False
    known: str = ""

    @property
    def passed(self) -> bool:
        return self.reported or self.low <= self.value <= self.high

    @property
    def bound(self) -> str:
        """The bound in words; "" for a value that is only reported."""
        if self.reported:
            return ""
        if math.isinf(self.high):
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if math.isinf(self.low) else f"{self.low:g} to {self.high:g}"

    @property
    def verdict(self) -> str:
        """``passed``, ``missed``, ``missed (known)`` or ``reported``."""
        if self.reported:
            return "reported"
        return "passed" if self.passed else "missed (known)" if self.known else "missed"

    @property
    def sentence(self) -> str:
        """The check in one line: verdict, value, bound and, if known, why it is missed."""
        bound = f", bound {self.bound}" if self.bound else ""
        return f"{self.verdict}: {self.name}: {self.value:.4g}{bound}{f'; {self.known}' if self.known else ''}"

    def plain(self, group: str) -> dict[str, Any]:
        """The check as plain data for JSON; a missing value is null."""
        value = self.value if math.isfinite(self.value) else None
        words = {"bound": self.bound, "verdict": self.verdict, "about": self.about, "known": self.known}
        return {"group": group, "name": self.name, "value": value, **words}


@dataclass(frozen=True, slots=True)
class Group:
    """A module of checks: its import path, what it shows, and about how many seconds it takes on one core."""

    module: str
    about: str
    seconds: int

    def checks(self) -> Iterator[Check]:
        """Run the group; one check at a time, as it is measured."""
        yield from import_module(self.module).checks()


GROUPS: Registry[Group] = Registry("group of checks")
GROUPS.add("statistics", Group("clbench.selftest.statistics", "coverage of intervals, power, false alarms", 10))
GROUPS.add("ratios", Group("clbench.selftest.ratios", "coverage of intervals of ratios of failure rates", 10))
GROUPS.add("parity", Group("clbench.selftest.parity", "metrics against other people's code", 8))
GROUPS.add("meter", Group("clbench.selftest.meter", "the bleeding meter on outputs with a known dose of another effect", 50))
GROUPS.add("scoring", Group("clbench.selftest.scoring", "the whole scoring path on systems whose scores are known", 20))


def run(names: Sequence[str] = (), seen: Callable[[str, Check], None] | None = None) -> list[tuple[str, Check]]:
    """Run the groups called `names` (default: all) by `run_groups`; ClbenchError for an unknown name before any check is run."""
    return run_groups({name: GROUPS.get(name) for name in names or GROUPS}, seen)


def run_groups(
    groups: Mapping[str, Group], seen: Callable[[str, Check], None] | None = None
) -> list[tuple[str, Check]]:
    """Run `groups`, as many beside each other as there are cores, the longest first; (name, check) in the order of `groups`.

    `seen` is called after each check, as it is made.
    """
    tell = seen or (lambda name, check: None)
    workers = min(len(groups), usable_cores())
    if workers > 1:
        found = run_beside(dict(sorted(groups.items(), key=lambda item: -item[1].seconds)), workers, tell)
    else:
        found = {name: list(_told(name, group, tell)) for name, group in groups.items()}
    return [(name, check) for name in groups for check in found[name]]


def _told(name: str, group: Group, seen: Callable[[str, Check], None]) -> Iterator[Check]:
    for check in group.checks():
        seen(name, check)
        yield check
