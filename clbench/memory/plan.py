"""Which points of a suite are measured in a world, and which of them are still to do."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.holds import holds
from clbench.memory.fit import fit
from clbench.memory.points import BASE, Point, points
from clbench.memory.record import MemoryFile
from clbench.memory.suite import MemorySuite
from clbench.world import World


def wanted_points(world: World, suite: MemorySuite) -> list[Point]:
    """Every point of the suite in this world; ClbenchError where `fit` has one."""
    systems = fit(world, suite).systems
    return points(suite.model_copy(update={"systems": systems}), holds(world).effects if "collection" in systems else 0)


def to_do(found: MemoryFile, wanted: Sequence[Point]) -> list[Point]:
    """Those of `wanted` that were not measured, or of which a process failed; all where the base's did, since predictions of
    memory stand on it."""
    failed, done = found.failed(), found.points()
    return [point for point in wanted if point not in done or point in failed or BASE in failed]


def who_counts(world: World, suite: MemorySuite) -> str:
    """Who says how many effects the collection holds; "" where it is not measured."""
    return holds(world).told if "collection" in fit(world, suite).systems else ""
