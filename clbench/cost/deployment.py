"""What is deployed, and what every system then costs: bytes, loads, switches, expected success. Pure.

Bytes are those of tensors: the transformer and the factors of LoRAs. Text encoders, VAE, activations and the headers
of files are the same for every system and are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clbench.cost.routing import Router
from clbench.cost.traffic import dealt, lru_miss_rate, popularity, switch_rate
from clbench.registry import ClbenchError

NAN = float("nan")
PER = 1000
"""Loads, switches and seconds of loading are given for so many queries."""
SYSTEMS = ("teacher", "cascade", "merged", "merged-cat", "copies", "collection")


@dataclass(frozen=True, slots=True)
class Cache:
    """Where adapters wait: `all` on the device; or an LRU of `slots` there, the others on `disk` or in `ram`."""

    kind: Literal["all", "disk", "ram"] = "all"
    slots: int = 0

    def __post_init__(self) -> None:
        if self.kind != "all" and self.slots < 1:
            raise ClbenchError(f"cache policy '{self.kind}' needs at least one slot, not {self.slots}")

    def resident(self, count: int) -> int:
        """How many of `count` adapters are on the device."""
        return count if self.kind == "all" else min(self.slots, count)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of an adapter in its file, once it is `resident` on the device, and while it is `waiting` in host RAM.

    They differ where the device has another dtype than the file, and where a file holds one matrix for several modules.
    """

    stored: int
    resident: int
    waiting: int

    @classmethod
    def same(cls, count: int) -> Size:
        """The same bytes everywhere."""
        return cls(count, count, count)

    def __add__(self, other: Size) -> Size:
        return Size(self.stored + other.stored, self.resident + other.resident, self.waiting + other.waiting)

    def __mul__(self, count: int) -> Size:
        return Size(self.stored * count, self.resident * count, self.waiting * count)


@dataclass(frozen=True)
class Deployment:
    """The question. Sizes in bytes; `zipf` 0 is a uniform query mix; `capacity` is effects per collection adapter.

    `route` says what a router must choose: `adapters` (the paper: a system of one adapter needs none), or `effects`
    (every system is told the effect by a router, also where only a prompt depends on it). `bcr` lacks a system whose
    failure rate nobody has measured. `load_seconds` are those of one `teacher`; NaN: unknown.
    """

    base_bytes: int
    teacher: Size
    accelerator: Size
    collection: Size
    effects: int
    capacity: int = 50
    zipf: float = 0.0
    cache: Cache = Cache()
    router: Router = field(default_factory=Router)
    route: Literal["adapters", "effects"] = "adapters"
    bcr: Mapping[str, float] = field(default_factory=dict)
    load_seconds: float = NAN

    def __post_init__(self) -> None:
        if self.effects < 1 or self.capacity < 1:
            raise ClbenchError(f"effects and capacity must be at least 1, not {self.effects} and {self.capacity}")
        for system, value in self.bcr.items():
            if system not in SYSTEMS or not 0 <= value <= 1:
                raise ClbenchError(f"a failure rate is SYSTEM=SHARE (0 to 1) of {', '.join(SYSTEMS)}, not {system}={value}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a system is stored: `count` exchangeable parts of `part` bytes over `fixed` bytes that always stay.

    `adapters` are the bytes of LoRA files among both.
    """

    system: str
    about: str
    part: Size
    count: int
    fixed: Size
    adapters: int


@dataclass(frozen=True, slots=True)
class SystemCost:
    """One system's answer. Bytes: `adapters` alone as stored, on `disk` with the base, `resident` on the device, `host` RAM.

    Loads, switches and loading seconds are per 1,000 queries in the steady state. `success` is routing x (1 - bcr),
    NaN where no failure rate is known.
    """

    system: str
    about: str
    effects: int
    parts: int
    adapters: int
    disk: int
    resident: int
    host: int
    loads: float
    switches: float
    loading_seconds: float
    routing: float
    bcr: float
    success: float


def system_costs(asked: Deployment) -> list[SystemCost]:
    """The cost of every system in the order of `SYSTEMS`."""
    return [cost_of(plan, asked) for plan in plans(asked)]


def plans(asked: Deployment) -> list[Plan]:
    """How each system stores what `asked` needs."""
    n, base = asked.effects, Size.same(asked.base_bytes)
    teacher, fast = asked.teacher, asked.accelerator
    collections, pool = math.ceil(n / asked.capacity), n * teacher.stored
    return [
        Plan("teacher", "a LoRA for each effect, full steps", teacher, n, base, pool),
        Plan("cascade", "a LoRA for each effect, and the accelerator", teacher, n, base + fast, pool + fast.stored),
        Plan("merged", "all teachers in one LoRA of a teacher's rank, and the accelerator", teacher, 1, base + fast,
             teacher.stored + fast.stored),
        Plan("merged-cat", "all teachers in one LoRA of their summed rank, and the accelerator", teacher * n, 1,
             base + fast, pool + fast.stored),
        Plan("copies", "a copy of the base for each effect, LoRA and accelerator fused in", base, n, Size.same(0), 0),
        Plan("collection", f"one LoRA for {asked.capacity} effects", asked.collection, collections, base,
             collections * asked.collection.stored),
    ]  # fmt: skip


def cost_of(plan: Plan, asked: Deployment) -> SystemCost:
    """Bytes, traffic and expected success of one plan."""
    shares = dealt(popularity(asked.effects, asked.zipf), plan.count)
    misses = 0.0 if asked.cache.kind == "all" else lru_miss_rate(shares, asked.cache.slots)
    loads = PER * misses
    routing = asked.router.accuracy(plan.count if asked.route == "adapters" else asked.effects)
    bcr = asked.bcr.get(plan.system, NAN)
    return SystemCost(
        plan.system, plan.about, asked.effects, plan.count, plan.adapters,
        disk=plan.fixed.stored + plan.count * plan.part.stored,
        resident=plan.fixed.resident + asked.cache.resident(plan.count) * plan.part.resident,
        host=plan.count * plan.part.waiting if asked.cache.kind == "ram" and plan.count > asked.cache.slots else 0,
        loads=loads, switches=PER * switch_rate(shares),
        loading_seconds=_loading(plan, loads, asked), routing=routing, bcr=bcr, success=routing * (1 - bcr),
    )  # fmt: skip


def _loading(plan: Plan, loads: float, asked: Deployment) -> float:
    """Seconds for `loads`; a whole copy takes longer than a teacher's adapter, in proportion to its bytes."""
    if loads == 0:
        return 0.0
    return loads * asked.load_seconds * plan.part.stored / asked.teacher.stored
