"""How much of the disk a pool takes while it is measured, foretold from headers, so that nothing is made that does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from clbench.adapters import describe_adapter
from clbench.cost.targets import dtype_bytes
from clbench.cost.units import binary
from clbench.cost.worlds import predict, world_base
from clbench.memory.points import Point
from clbench.memory.pool import own_teachers
from clbench.registry import ClbenchError
from clbench.world import World

LINE = 160
"""Bytes in a header for a module, beside its name: two tensors with shape and place, and its rank and alpha."""


def disk_bytes(todo: Sequence[Point], world: World) -> int:
    """The most that `todo`, measured in this order, holds on disk at once: copies stay until the end, a point's own merged file
    until it is measured. At most some KiB too many for each merged file, for its header.
    """
    pool = [point for point in todo if point.system not in ("base", "collection")]
    if not pool:
        return 0
    own, most, copies = own_teachers(world), 0, 0
    sizes = [path.stat().st_size for path in own]
    for point in pool:
        copies = max(copies, sum(sizes[i % len(own)] for i in range(len(own), point.effects)))
        merged = merged_bytes([own[i % len(own)] for i in range(point.effects)], world) if point.system == "merged-cat" else 0
        most = max(most, copies + merged)
    return most


def merged_bytes(files: Sequence[Path], world: World) -> int:
    """At most the size of `pool.concatenated` of these files, of which some may be the same."""
    base, numbers, dtypes, modules = world_base(world), {}, set(), set()
    for path in set(files):
        info, told = describe_adapter(path), predict(path.stem, path, base, world.backbone.dtype)
        numbers[path] = told.waiting // dtype_bytes(told.dtype)
        dtypes.add(told.dtype)
        modules |= set(info.modules)
    each = 4 if {"float16", "bfloat16"} <= dtypes else max(map(dtype_bytes, dtypes))  # what holds both is float32
    return each * sum(numbers[path] for path in files) + sum(5 * len(module) + 2 * LINE for module in modules) + 1024


def require_room(todo: Sequence[Point], world: World, out: Path) -> int:
    """`disk_bytes`; ClbenchError where the disk of `out` has less that is free."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    needed, free = disk_bytes(todo, world), shutil.disk_usage(there).free
    if needed > free:
        raise ClbenchError(
            f"copies of teachers and merged files take up to {binary(needed)} in {out} while points are measured, and "
            f"{binary(free)} are free there: choose an --out on another disk, or a suite of kind 'memory' with smaller pools or "
            "without merged-cat"
        )
    return needed
