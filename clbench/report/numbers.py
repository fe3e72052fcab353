"""Estimates and paired differences of a report, each computed once and with its own named generator."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from clbench import stats
from clbench.metrics.derived import SHARES, scale_of
from clbench.report.data import Entry, Results, place
from clbench.stats import Difference, Estimate, Ratio
from clbench.types import Case, Direction, MetricCard

K = TypeVar("K", bound=Hashable)
NO_SPAN = 1e-9
OF_EQUAL_PICTURES = ("psnr", "ssim")
"""Metrics pixel by pixel, of which the truth itself has what equal pictures have by definition: 100 dB, 1."""
UNASKED = "this metric was not computed for this system"


@dataclass(frozen=True)
class Compared:
    """A difference to the reference with its Holm-adjusted p and whether it is for the better.

    `better` is True or False where interval and adjusted p agree that there is a difference, else None. `tests` are how many
    differences the correction is over; what is `detectable` is so after it, infinite where no p can pass it.
    """

    difference: Difference
    adjusted: float
    better: bool | None
    tests: int


@dataclass
class Numbers:
    """Estimates by (entry label, metric), differences by (entry label, metric)."""

    results: Results
    estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    compared: dict[tuple[str, str], Compared] = field(default_factory=dict)


def compute(results: Results) -> Numbers:
    """All numbers of the report; the same runs give the same bytes."""
    numbers = Numbers(results)
    for card in results.metrics:
        for entry in results.entries:
            numbers.estimates[entry.label, card.name] = estimate_entry(entry, card.name)
        numbers.compared.update(_compare_all(results, card.name, card.direction))
    return numbers


def estimate_entry(entry: Entry, metric: str, among: Collection[str] | None = None) -> Estimate:
    """The nested mean of one metric of one entry with its interval; of the effects `among` alone where they are given."""
    if metric not in entry.columns:
        nan = float("nan")
        return Estimate(nan, nan, nan, len(entry.cases), 0, 0, 0, UNASKED)
    column = entry.columns[metric]
    drawn = stats.draws_for("estimate", metric)
    kept = [at for at, effect in enumerate(entry.effects) if among is None or effect in among]
    effects, sources = [entry.effects[at] for at in kept], [entry.sources[at] for at in kept]
    found = stats.estimate(column.values[kept], column.failed[kept], effects, sources, drawn, scale_of(metric))
    return found if found.n_scored else _with_reason(found, column.reasons)


def _with_reason(found: Estimate, reasons: list[str]) -> Estimate:
    said = sorted({reason for reason in reasons if reason})
    nan = float("nan")
    return Estimate(nan, nan, nan, found.n_total, 0, found.n_failed, 0, "; ".join(said[:2]) or found.reason)


def _compare_all(results: Results, metric: str, direction: Direction) -> dict[tuple[str, str], Compared]:
    """Differences of all systems to their reference for one metric."""
    found: dict[str, Difference] = {}
    for entry in results.systems:
        reference = results.reference_for(entry)
        if reference is not None and metric in entry.columns and metric in reference.columns:
            found[entry.label] = _difference(entry, reference, metric)
    return {(label, metric): one for label, one in judged(found, direction).items()}


def judged(found: Mapping[K, Difference], direction: Direction) -> dict[K, Compared]:
    """Differences of one metric with Holm's correction over all of them, and which are surely for the better or the worse."""
    adjusted = stats.holm([difference.p for difference in found.values()])
    family = [difference.n_effects for difference, p in zip(found.values(), adjusted, strict=True) if np.isfinite(p)]
    compared, tests = {}, len(family)
    for (key, difference), p in zip(found.items(), adjusted.tolist(), strict=True):
        sure = difference.decided and p < stats.SIGNIFICANT and direction != "neutral"
        better = ((difference.value > 0) == (direction == "higher")) if sure else None
        corrected = replace(difference, detectable=stats.corrected_detectable(difference, family))
        compared[key] = Compared(corrected, p, better, tests)
    return compared


def _difference(entry: Entry, reference: Entry, metric: str) -> Difference:
    """Mean of entry - reference over the questions that either one was asked; unpaired ones are dropped and counted."""
    first, second, effects, places = _paired(entry, reference, metric)
    found = stats.paired_difference(first, second, effects, places, stats.draws_for("difference", metric), scale_of(metric))
    both = np.isfinite(first) & np.isfinite(second)
    if found.n_effects > 1 and np.array_equal(first[both], second[both]) and same_pictures(entry, reference):
        return replace(found, low=0.0, high=0.0, reason="")  # equal scores of different pictures may differ in other effects
    return found


def same_pictures(entry: Entry, other: Entry) -> bool:
    """Whether both are one, or made equal pictures of every question that both were asked: then they differ in nothing."""
    if entry is other:
        return True
    common = entry.pictures.keys() & other.pictures.keys()
    return bool(common) and all(entry.pictures[key] and entry.pictures[key] == other.pictures[key] for key in common)


def _paired(entry: Entry, other: Entry, metric: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Values of both ``(N,)`` for every question that either one was asked, NaN where it was not; its effects and sources."""
    keys = list(dict.fromkeys([*entry.position, *other.position]))
    first, second = (_values(each, metric, keys) for each in (entry, other))
    return first, second, [key.effect for key in keys], [place(key) for key in keys]


def ratio(entry: Entry, other: Entry, metric: str) -> Ratio | None:
    """Mean of `entry` by that of `other` on the questions of both; None where either one was not scored on the metric."""
    if metric not in entry.columns or metric not in other.columns:
        return None
    same = same_pictures(entry, other)
    return stats.paired_ratio(*_paired(entry, other, metric), stats.draws_for("ratio", metric), metric in SHARES, same=same)


def difference(entry: Entry, reference: Entry, metric: str) -> Difference | None:
    """The paired difference of two entries on one metric; None where either one was not scored on it."""
    both = metric in entry.columns and metric in reference.columns
    return _difference(entry, reference, metric) if both else None


def _values(entry: Entry, metric: str, keys: Sequence[Case]) -> np.ndarray:
    """The metric's values of `entry` for `keys` ``(N,)``, NaN where it was not asked."""
    places = np.array([entry.position.get(key, -1) for key in keys], dtype=np.int64)
    return np.where(places >= 0, entry.columns[metric].values[places], np.nan)


@dataclass(frozen=True)
class Scale:
    """What the controls got on one metric: doing nothing is the floor, `ceiling_of` the ceiling; NaN if not run.

    `spans`: the ceiling is the better of the two, and their intervals do not overlap.
    """

    floor: float
    ceiling: float
    spans: bool

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(end for end in (self.floor, self.ceiling) if np.isfinite(end))

    def place(self, value: float) -> float:
        """Where `value` stands from floor (0) to ceiling (1); NaN where the controls do not span the scale."""
        return (value - self.floor) / (self.ceiling - self.floor) if self.spans else float("nan")


def scale(numbers: Numbers, metric: MetricCard) -> Scale:
    """Floor and ceiling of a metric from the controls identity and truth, or noise-floor (see `ceiling_of`)."""
    low, high = (_control(numbers, metric.name, name) for name in ("identity", ceiling_of(metric.name)))
    above, below = high.low > low.high + NO_SPAN, high.high < low.low - NO_SPAN
    return Scale(low.value, high.value, {"higher": above, "lower": below, "neutral": False}[metric.direction])


def ceiling_of(metric: str) -> str:
    """The control at the top of a metric's scale: the truth; but it equals itself to the last pixel, which no system can, so
    that where equal pictures have a value of their own it is another draw of the truth through the backbone's VAE.
    """
    return "noise-floor" if metric in OF_EQUAL_PICTURES else "truth"


def _control(numbers: Numbers, metric: str, name: str) -> Estimate:
    """The estimate of a control; all NaN where it was not run."""
    labels = [entry.label for entry in numbers.results.controls if entry.system == name]
    nan = float("nan")
    return numbers.estimates[labels[-1], metric] if labels else Estimate(nan, nan, nan, 0, 0, 0, 0, "not run")
