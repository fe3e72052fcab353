"""What `clbench cost` is asked for, as typed, and how the small languages of its options are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.cost.deployment import SYSTEMS, Cache
from clbench.cost.routing import PAPER_BCR, Router
from clbench.cost.targets import PRESETS
from clbench.registry import ClbenchError, suggestion

CAPACITY = 50
"""Effects in one collection adapter where nothing says otherwise: as many as the published one has."""
PAPER_BASE = "qwen-image-edit"
"""The base that the published failure rates were measured on."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `clbench cost`; None is "not given", and where a world is named its files decide."""

    base: str | None = None
    world: str | None = None
    targets: str | None = None
    rank: int | None = None
    dtype: str | None = None
    effects: int | None = None
    accelerator_rank: int | None = None
    accelerator_targets: str | None = None
    collection_rank: int | None = None
    capacity: int | None = None
    mix: str = "uniform"
    cache: str = "all"
    router: str = "paper"
    route: Literal["adapters", "effects"] = "adapters"
    bcr: Sequence[str] = ()
    load_seconds: float | None = None


def targets(text: str) -> str | list[str]:
    """A preset's name, or names of modules with commas."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ClbenchError("target modules are a preset or a list of names with commas, not an empty text")
    return parts[0] if parts[0] in PRESETS and len(parts) == 1 else parts


def zipf_exponent(text: str) -> float:
    """``uniform`` -> 0; ``zipf`` -> 1; ``zipf:1.2`` -> 1.2."""
    kind, _, exponent = text.partition(":")
    if kind == "uniform" and not exponent:
        return 0.0
    if kind == "zipf":
        return _number(exponent or "1", f"the exponent in '{text}'")
    raise ClbenchError(f"a query mix is 'uniform', 'zipf' or 'zipf:EXPONENT', not '{text}'")


def cache(text: str) -> Cache:
    """``all``, ``disk:4`` or ``ram:4``."""
    kind, _, slots = text.partition(":")
    if kind == "all" and not slots:
        return Cache()
    if kind in ("disk", "ram") and slots.isdecimal():
        return Cache("disk" if kind == "disk" else "ram", int(slots))
    raise ClbenchError(f"a cache policy is 'all', 'disk:SLOTS' or 'ram:SLOTS', not '{text}'")


def router(text: str) -> Router:
    """``paper``, or an accuracy in [0, 1]."""
    return Router() if text == "paper" else Router(_number(text, "the router's accuracy (or 'paper')"))


def failure_rates(given: Sequence[str], base: str) -> dict[str, float]:
    """``cascade=.17`` over the published ones, which count for the base they were measured on, or if asked for: ``paper``."""
    rates = dict(PAPER_BCR) if base == PAPER_BASE else {}
    for item in (part.strip() for text in given for part in text.split(",") if part.strip()):
        if item == "paper":
            rates |= PAPER_BCR
            continue
        system, equals, value = item.partition("=")
        if not equals or system not in SYSTEMS:
            hint = suggestion(system, SYSTEMS) if system not in SYSTEMS else f" For example: {system}=0.17"
            raise ClbenchError(f"a failure rate is SYSTEM=SHARE, not '{item}'.{hint}")
        rates[system] = _number(value, f"the failure rate of {system}")
    return rates


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ClbenchError(f"{what} must be a number, not '{text}'") from None
