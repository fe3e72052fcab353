"""What is measured: a list of points, each a system with a pool, and the quantities found at each. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.memory.suite import Measured, MemorySuite, Policy

ALONE: Measured = "teacher"
"""The pool of teachers without an accelerator, sampled at full steps."""
POOLS: tuple[Measured, ...] = ("cascade", ALONE)
"""Systems whose adapters are exchanged for each other, one for each effect."""
BESIDE: tuple[Measured, ...] = ("cascade", "merged", "merged-cat")
"""Systems beside whose adapters the accelerator stays, where the world has one; else they are sampled as the teachers are."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: a system serving so many effects. `slots` 0 means that everything is loaded."""

    system: str
    effects: int
    policy: Policy = "all"
    slots: int = 0

    @property
    def id(self) -> str:
        """Words for progress and messages: ``cascade-50-disk4``."""
        return f"{self.system}-{self.effects}" + (f"-{self.policy}{self.slots}" if self.slots else "")

    @property
    def parts(self) -> int:
        """Adapters that are exchanged for each other: the teachers of a pool, else the one adapter; 0 for the base."""
        return self.effects if self.system in POOLS else int(self.system != "base")

    @property
    def loaded(self) -> int:
        """Exchangeable adapters in the model at once."""
        return min(self.slots, self.parts) if self.slots else self.parts


BASE = Point("base", 0)
"""The base without adapters, measured first: predictions of memory stand on it."""

QUANTITIES = {
    "disk_bytes": ("B", "size of the adapter files"),
    "tensor_bytes": ("B", "LoRA factors in these files, headers apart"),
    "factor_bytes": ("B", "LoRA factors in the model"),
    "resident_bytes": ("B", "memory held when everything is loaded and has been used"),
    "peak_bytes": ("B", "highest memory during an edit"),
    "open_seconds": ("s", "from the start of the process until the base is ready, imports included"),
    "load_seconds": ("s", "loading what must be there before the first edit: the whole pool, unless an LRU reads it from disk"),
    "first_picture_seconds": ("s", "from the start of the process to the first picture"),
    "edit_seconds": ("s", "an edit of one picture after the first"),
    "switch_seconds": ("s", "switching to another effect whose adapter is loaded; median over queries"),
    "swap_seconds": ("s", "switching to another effect whose adapter must be loaded; median over queries"),
    "loads_per_1000": ("", "queries of 1,000 that need a load"),
    "switches_per_1000": ("", "queries of 1,000 that ask for another adapter than the one before"),
}
"""Name -> unit and meaning of each quantity, in the order of the tables."""


def points(suite: MemorySuite, held: int) -> list[Point]:
    """Every point of a suite, the base first.

    `collection` is one adapter, measured once, which serves the effects that it was trained on, `held` of them, whatever the
    pools are. `merged` weighs the same for any number of effects and is measured once, at the largest. An LRU that holds
    the whole pool is the policy `all` and is left out.
    """
    found = [BASE]
    for system in suite.systems:
        if system in POOLS:
            found += [point for policy in suite.policies for point in _pool(system, suite, policy)]
        elif system == "merged-cat":
            found += [Point(system, n) for n in suite.effects]
        else:
            found.append(Point(system, held if system == "collection" else max(suite.effects)))
    return found


def _pool(system: Measured, suite: MemorySuite, policy: Policy) -> list[Point]:
    if policy == "all":
        return [Point(system, n) for n in suite.effects]
    return [Point(system, n, policy, suite.slots) for n in suite.effects if n > suite.slots]
