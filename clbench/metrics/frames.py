"""Frames of the bleeding meter for other questions than one effect: neutral ones and compositions (floor 1, pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from clbench.metrics.bleeding import BleedingMeter, LeakFrame, SourceFrame, distances

BASE = "base"
"""Label of what the base made of a neutral question."""
BOTH, REVERSED, FIRST, SECOND = "both", "reversed", "first", "second"
"""Labels of a composition: first A then B, the other order, and only one of the two."""

T = TypeVar("T")


def joined(frame: SourceFrame, more: SourceFrame, kept: Mapping[str, str]) -> SourceFrame:
    """Answers of `frame` (old name -> new name in `kept`), then those of `more`, then the source, which both share."""
    clash = set(kept.values()) & set(more.truths)
    if clash:
        raise ValueError(f"two answers have one name: {', '.join(sorted(clash))}")
    here = [frame.labels.index(name) for name in kept]
    last = len(frame.labels) - 1

    def chosen(own: Sequence[T], other: Sequence[T]) -> tuple[T, ...]:
        return (*(own[at] for at in here), *other[: len(more.truths)], own[last])

    return SourceFrame(
        frame.source,
        {new: frame.truths[old] for old, new in kept.items()} | dict(more.truths),
        (*kept.values(), *more.labels[:-1], frame.labels[last]),
        chosen(frame.draws, more.draws),
        chosen(frame.candidates, more.candidates),
        torch.stack(chosen(list(frame.limit), list(more.limit))),
    )


def neutral_frame(meter: BleedingMeter, frame: SourceFrame, base: Float[Tensor, "3 h w"]) -> SourceFrame:
    """`frame` with the base's answer `base` as one more label."""
    return joined(frame, meter.source_frame(frame.source, {BASE: base[None]}, frame), {name: name for name in frame.truths})


def neutral_leaks(meter: BleedingMeter, frame: SourceFrame) -> LeakFrame:
    """Leak directions around the base's answer of `neutral_frame`: what every effect changes of the source, added to it."""
    return meter.leak_frame(frame, BASE, {})


def composed_frame(
    meter: BleedingMeter, frame: SourceFrame, first: str, second: str, orders: Mapping[str, Float[Tensor, "_k 3 h w"]]
) -> SourceFrame:
    """Labels first, second, both, reversed and source; `orders` has the truths of `BOTH` and `REVERSED`."""
    return joined(frame, meter.source_frame(frame.source, orders, frame), {first: FIRST, second: SECOND})


def apart(meter: BleedingMeter, frame: SourceFrame, one: str, other: str) -> bool:
    """Whether the answers `one` and `other` can be told apart: the meter's distance is beyond what nuisance reaches."""
    a, b = (frame.candidates[frame.labels.index(name)] for name in (one, other))
    gap = torch.maximum(distances(a.centre[None], b, meter.noise.layout)[0], distances(b.centre[None], a, meter.noise.layout)[0])
    return bool(gap > meter.thresholds.nuisance)
