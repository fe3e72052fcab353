"""memory.json: what was measured, under what, and what had been predicted. Strict, versioned, appears whole or not at all."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clbench.certificate import GitInfo, Named
from clbench.memory.points import ALONE, BESIDE, QUANTITIES, Point
from clbench.registry import ClbenchError
from clbench.results import replace_bytes

MEMORY_SCHEMA = 2
"""2: the collection stands at the number of effects that it holds, and `holds` tells who says so; files of schema 1 have it at
the largest pool and are read as they are."""
FILE = "memory.json"


class Measurement(BaseModel):
    """One quantity at one point: a value for each repeat, and their median, least and greatest.

    Missing: no values, None for the three, and a status with a reason. `predicted` is None where nothing is foretold.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    system: str
    effects: int
    policy: Literal["all", "disk", "ram"]
    slots: int
    quantity: str
    unit: str
    values: list[float]
    median: float | None
    min: float | None
    max: float | None
    predicted: float | None = None
    status: Literal["ok", "failed", "unscored"] = "ok"
    reason: str = ""

    @property
    def point(self) -> Point:
        return Point(self.system, self.effects, self.policy, self.slots)

    @property
    def error(self) -> float:
        """Measured median over prediction, less one; NaN where either is missing."""
        if self.median is None or not self.predicted:
            return float("nan")
        return self.median / self.predicted - 1


class MemoryFile(BaseModel):
    """The whole file. `teachers` of the world's own were there; what a pool needs beyond them are copies.

    `holds`: who says how many effects the collection holds ("" where it was not measured, or by an older clbench). `status` is
    "complete" once every point was measured without a failure. `left_out`: the suite's systems that the world names no file for;
    `alone`: those measured without the accelerator that it lacks; both in words, with the reason.
    """

    model_config = ConfigDict(extra="forbid")
    schema_: int = Field(MEMORY_SCHEMA, alias="schema")
    world: Named
    suite: Named
    question: str
    adapters: str
    teachers: int
    repeats: int
    queries: int
    git: GitInfo
    versions: dict[str, str]
    platform: dict[str, str]
    command: str
    created: str
    dtype: str
    device: str = ""
    threads: int = 0
    peak_by: str = ""
    holds: str = ""
    left_out: str = ""
    alone: str = ""
    status: Literal["running", "complete"] = "running"
    rows: list[Measurement] = []

    def find(self, point: Point, quantity: str) -> Measurement | None:
        """The row of a quantity at a point, or None."""
        return next((row for row in self.rows if row.quantity == quantity and row.point == point), None)

    def points(self) -> list[Point]:
        """Points measured so far, in order."""
        return list(dict.fromkeys(row.point for row in self.rows))

    def at_full_steps(self) -> list[str]:
        """Systems measured so far that are sampled as teachers are, in order; the others, and the base, take few steps."""
        found = dict.fromkeys(point.system for point in self.points())
        return [system for system in found if system == ALONE or (self.alone and system in BESIDE)]

    def failed(self) -> list[Point]:
        """Points of which a process failed, in order."""
        return list(dict.fromkeys(row.point for row in self.rows if row.status == "failed"))

    @property
    def key(self) -> tuple[object, ...]:
        """What must be the same for measurements to stand in one file."""
        return self.world.hash, self.suite.hash, self.adapters, self.dtype, tuple(sorted(self.versions.items()))


def measurement(
    point: Point, quantity: str, values: Sequence[float], predicted: float | None = None, reason: str = "", failed: bool = False
) -> Measurement:
    """A row; without values it is missing, and `reason` must say why."""
    if not values and not reason:
        raise ValueError(f"{quantity} of {point.id} is missing without a reason")
    if any(not math.isfinite(value) for value in values):
        raise ValueError(f"{quantity} of {point.id} is not finite: {values}")
    middle, low, high = (statistics.median(values), min(values), max(values)) if values else (None, None, None)
    return Measurement(
        system=point.system, effects=point.effects, policy=point.policy, slots=point.slots, quantity=quantity,
        unit=QUANTITIES[quantity][0], values=list(values), median=middle, min=low, max=high, predicted=predicted,
        status="ok" if values else "failed" if failed else "unscored", reason=reason,
    )  # fmt: skip


def read_memory(folder: Path) -> MemoryFile:
    """The memory.json of a folder; ClbenchError if it is missing, broken or of a newer schema."""
    file = folder / FILE
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClbenchError(f"no {FILE} in {folder} ({error.strerror}); run `clbench eval --suite memory` first") from None
    except ValueError as error:
        raise ClbenchError(f"{file} is not valid JSON: {error}") from None
    version = plain.get("schema") if isinstance(plain, dict) else None
    if not isinstance(version, int) or version > MEMORY_SCHEMA:
        raise ClbenchError(f"{file} has schema {version}; this clbench reads up to {MEMORY_SCHEMA}")
    try:
        return MemoryFile.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        raise ClbenchError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def write_memory(found: MemoryFile, folder: Path) -> Path:
    """Write memory.json into `folder`; returns its path."""
    unsaid = {name for name in ("left_out", "alone") if not getattr(found, name)}  # files of whole worlds are as they were
    text = json.dumps(found.model_dump(by_alias=True, exclude=unsaid), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    replace_bytes(folder / FILE, text.encode())
    return folder / FILE
