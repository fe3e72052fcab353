"""What a measurement should find, from configurations and headers; memory stands on the measured base without adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.cost.traffic import lru_miss_rate, popularity, switch_rate
from clbench.cost.worlds import AdapterPrediction
from clbench.memory.points import Point


@dataclass(frozen=True, slots=True)
class Ground:
    """Median bytes of the base without adapters: held, and at the peak of the same edit."""

    resident: float
    peak: float


def last_loaded(sequence: Sequence[int], slots: int) -> list[int]:
    """Parts in an LRU of `slots`, filled with parts 0 .. slots-1 first, after a sequence of queries."""
    recent = dict.fromkeys(reversed([*range(slots), *sequence]))
    return list(recent)[:slots]


def predict_point(
    point: Point, parts: Sequence[AdapterPrediction], fixed: Sequence[AdapterPrediction], sequence: Sequence[int],
    ground: Ground | None, on_gpu: bool,
) -> dict[str, float]:  # fmt: skip
    """Quantity -> predicted value, for those that are foretold.

    Factors in the model are exact, whichever parts the queries leave loaded. Resident and peak add them to the base;
    a pool that waits in RAM counts where RAM is what is measured. Loads and switches are the steady state's.
    """
    loaded = [parts[i] for i in last_loaded(sequence, point.slots)] if point.slots else list(parts)
    factors = sum(one.resident for one in (*loaded, *fixed))
    waiting = sum(one.waiting for one in parts) if point.policy == "ram" and not on_gpu else 0
    found: dict[str, float] = {
        "tensor_bytes": sum(one.predicted for one in (*parts, *fixed)), "factor_bytes": factors,
    }  # fmt: skip
    if ground is not None:
        found |= {"resident_bytes": ground.resident + factors + waiting, "peak_bytes": ground.peak + factors + waiting}
    if point.parts:
        shares = popularity(point.parts)
        found["switches_per_1000"] = 1000 * switch_rate(shares)
        found["loads_per_1000"] = 1000 * lru_miss_rate(shares, point.loaded)
    return found
