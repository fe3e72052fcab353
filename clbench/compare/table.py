"""The table of a comparison: for each system, condition and metric the paired difference and what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clbench import stats
from clbench.compare.sides import Column, Key, Matched, card_of
from clbench.metrics import METRICS
from clbench.metrics.derived import DERIVED, SHARES, scale_of
from clbench.registry import ClbenchError, suggestion
from clbench.stats import Difference
from clbench.types import NEUTRAL, Direction, Question

ASKED: dict[Question, str] = {"effect": "single effects", "neutral": "neutral questions", "composed": "two effects in turn"}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one side has for a metric. n_total = n_scored + n_failed + the unscored."""

    n_total: int
    n_scored: int
    n_failed: int


@dataclass(frozen=True, slots=True)
class Line:
    """One row: means over the cases that both runs scored, `difference` (second - first), and its adjusted p.

    `difference.detectable` is so after the correction, infinite where no p can pass it.
    `lost`: cases that the first run scored and the second did not, which enter none of these numbers.
    `condition` names steps, probe and composition where a suite asks for several, else "". `reason` says why numbers are
    missing. `reading` is "better" or "worse" (of the second run) where the interval leaves 0 out and the adjusted p is
    below .05, else "open"; for a metric without a direction it is "higher", "lower" or "open".
    """

    system: str
    condition: str
    metric: str
    direction: Direction
    share: bool
    first: float
    second: float
    first_counts: Counts
    second_counts: Counts
    difference: Difference
    adjusted: float
    lost: int
    reason: str = ""

    @property
    def reading(self) -> str:
        if not (self.difference.decided and self.adjusted < stats.SIGNIFICANT):
            return "open"
        up = self.difference.value > 0
        if self.direction == "neutral":
            return "higher" if up else "lower"
        return "better" if up == (self.direction == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison says. `family` says in words what Holm's correction is over; `notes` are sentences."""

    pairs: list[Matched]
    lines: list[Line]
    family: str
    notes: list[str]


def is_share(metric: str) -> bool:
    """Whether the values of a metric are 0 or 1."""
    return metric in SHARES or (metric in DERIVED and DERIVED.get(metric).share)


def compare(pairs: Sequence[Matched], metrics: Sequence[str] = (), also: Sequence[str] = ()) -> Comparison:
    """Differences of all `pairs`, on `metrics` (default: all that both have and that have a direction) and `also`.

    Holm's correction is over the systems, for each metric and condition; where one system is compared, over its lines.
    The same runs give the same bytes. Raises ClbenchError for a metric that is unknown or was not scored in both runs
    of any pair, and when runs have no case in common.
    """
    for name in (*metrics, *also):
        card_of(name)
        _scored_somewhere(name, pairs)
    lines = [line for pair in pairs for line in _lines(pair, _chosen(pair, metrics, also))]
    families = [(line.metric, line.condition) if len(pairs) > 1 else ("", "") for line in lines]
    lines = _adjusted(lines, families)
    family = "the systems compared, for each metric" if len(pairs) > 1 else f"all {len(lines)} lines"
    notes = [*_too_few(lines, families), *(note for pair in pairs for note in _notes(pair))]
    return Comparison(list(pairs), lines, family, notes)


def _adjusted(lines: list[Line], families: list[tuple[str, str]]) -> list[Line]:
    """The lines with Holm's correction within each family, in what they could have found, too."""
    p, groups = np.array([line.difference.p for line in lines]), np.array([families.index(family) for family in families])
    gaps = [line.difference for line in lines]
    for group in set(groups.tolist()):
        held = groups == group
        tested = [gaps[at].n_effects for at in np.flatnonzero(held & np.isfinite(p))]
        p[held] = stats.holm(p[held])
        for at in np.flatnonzero(held):
            gaps[at] = replace(gaps[at], detectable=stats.corrected_detectable(gaps[at], tested))
    return [
        replace(line, adjusted=value, difference=gap) for line, value, gap in zip(lines, p.tolist(), gaps, strict=True)
    ]  # fmt: skip


def _too_few(lines: list[Line], families: list[tuple[str, str]]) -> Iterator[str]:
    """K effects allow no p below 2 / 2^K; a large family then hides every difference, which must be said, and of which."""
    hopeless: dict[tuple[int, int], list[str]] = {}
    for family in dict.fromkeys(families):
        held = [line for line, other in zip(lines, families, strict=True) if other == family and np.isfinite(line.difference.p)]
        if stats.undecidable([line.difference.n_effects for line in held]):
            effects = max(line.difference.n_effects for line in held)
            metric, condition = family
            hopeless.setdefault((effects, len(held)), []).append(f"{metric} ({condition})" if condition else metric)
    for (effects, count), names in hopeless.items():
        start = f"With {effects} effects p cannot be below {stats.least_p(effects):.2g}, and corrected over {count}"
        if any(names):
            systems = f"system{'' if count == 1 else 's'}"
            yield f"{start} {systems} nothing can be called better or worse on {', '.join(names)}."
        else:
            yield f"{start} lines nothing can be called better or worse; name the metrics that matter with --metric."


def _scored_somewhere(name: str, pairs: Sequence[Matched]) -> None:
    asked = {key.question for pair in pairs for side in (pair.first, pair.second) for key in side.keys}
    kinds = card_of(name).questions
    if not kinds & asked:
        read, here = (" and ".join(ASKED[kind] for kind in ASKED if kind in held) for held in (kinds, asked))
        raise ClbenchError(f"metric '{name}' is read of {read}, and these runs were asked {here} alone")
    common = {metric for pair in pairs for metric in pair.first.columns if metric in pair.second.columns}
    if name not in common:
        raise ClbenchError(f"metric '{name}' was not scored in both runs.{suggestion(name, common)}")


def _chosen(pair: Matched, metrics: Sequence[str], also: Sequence[str]) -> list[str]:
    """Metrics of a pair in card order; bcr is left out beside success, which says the same."""
    common = [name for name in (*METRICS, *DERIVED) if name in pair.first.columns and name in pair.second.columns]
    shown = [name for name in common if card_of(name).direction != "neutral" and _by_default(name, common)]
    wanted = {*(metrics or shown), *also}
    return [name for name in common if name in wanted]


def _by_default(name: str, common: Sequence[str]) -> bool:
    return DERIVED.get(name).shown if name in DERIVED else not (name == "bcr" and "success" in common)


def _lines(pair: Matched, metrics: Sequence[str]) -> Iterator[Line]:
    first, second = ({key: at for at, key in enumerate(side.keys)} for side in (pair.first, pair.second))
    keys = sorted({*first, *second})
    if not set(first) & set(second):
        raise ClbenchError(f"{pair.first.folder.path} and {pair.second.folder.path} have no case in common")
    conditions = sorted({_condition(key) for key in keys})
    for condition in conditions:
        chosen = [key for key in keys if _condition(key) == condition]
        places = [np.array([where.get(key, -1) for key in chosen]) for where in (first, second)]
        for metric in (name for name in metrics if _asked(name, condition)):
            yield _line(pair, _words(condition, conditions), metric, chosen, places)


def _line(pair: Matched, words: str, metric: str, keys: list[Key], places: list[NDArray[np.int64]]) -> Line:
    """One row over `keys`; `places` say where they stand in each side's columns (-1: not there)."""
    columns = [side.columns[metric] for side in (pair.first, pair.second)]
    one, two = (_at(column, place) for column, place in zip(columns, places, strict=True))
    effects, sources = [key.effect for key in keys], [f"{key.source}\x1f{key.second}" for key in keys]
    drawn = stats.draws_for("difference", metric)
    found = stats.paired_difference(two, one, effects, sources, drawn, scale_of(metric))
    both = np.isfinite(one) & np.isfinite(two)
    if pair.same and found.n_effects > 1 and np.array_equal(one[both], two[both]):
        found = replace(found, low=0.0, high=0.0, reason="")  # equal scores of different pictures may differ in other effects
    elif metric == "nfe" and found.n_effects > 1 and np.ptp((two - one)[both]) == 0:
        found = replace(found, low=found.value, high=found.value, reason="")  # passes are set by the system, not a sample
    first, second = (_mean(np.where(both, values, np.nan), effects, sources) for values in (one, two))
    first_counts, second_counts = (_counts(column, place) for column, place in zip(columns, places, strict=True))
    reason = found.reason if found.n_pairs else _why(columns, places) or found.reason
    return Line(
        pair.name, words, metric, card_of(metric).direction, is_share(metric), first, second, first_counts, second_counts,
        found, float("nan"), int((np.isfinite(one) & ~both).sum()), reason,
    )  # fmt: skip


def _at(column: Column, place: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(place >= 0, column.values[place], np.nan)


def _mean(values: NDArray[np.float64], effects: list[str], sources: list[str]) -> float:
    nested = stats.effect_means(values, effects, sources)
    return float(nested.means.mean()) if nested.labels else float("nan")


def _counts(column: Column, place: NDArray[np.int64]) -> Counts:
    there = place[place >= 0]
    return Counts(len(there), int(np.isfinite(column.values[there]).sum()), int((column.status[there] == "failed").sum()))


def _why(columns: list[Column], places: list[NDArray[np.int64]]) -> str:
    """The most frequent reasons for missing values, the runs' own words."""
    said: Counter[str] = Counter()
    for column, place in zip(columns, places, strict=True):
        there = place[place >= 0]
        said.update(reason for reason in column.reasons[there[~np.isfinite(column.values[there])]].tolist() if reason)
    return "; ".join(reason for reason, _ in sorted(said.items(), key=lambda item: (-item[1], item[0]))[:2])


Condition = tuple[int, str, bool]


def _condition(key: Key) -> Condition:
    return key.steps, key.probe, bool(key.second)


def _asked(metric: str, condition: Condition) -> bool:
    """Whether a metric or figure is computed for the cases of a condition at all."""
    _, probe, composed = condition
    question = "composed" if composed else "neutral" if probe == NEUTRAL else "effect"
    return question in card_of(metric).questions


def _words(condition: Condition, conditions: Sequence[Condition]) -> str:
    """What tells a condition from the others: ``8 steps``, ``caption-only``, ``two effects``; "" for the only one."""
    steps, probe, composed = condition
    many = [len({each[part] for each in conditions}) > 1 for part in range(3)]
    words = ["own steps" if steps < 0 else f"{steps} steps"] if many[0] or steps >= 0 else []
    words += [probe or "plain"] if many[1] or probe else []
    words += ["two effects" if composed else "one effect"] if many[2] or composed else []
    return ", ".join(words)


def _notes(pair: Matched) -> Iterator[str]:
    for side, other in ((pair.first, pair.second), (pair.second, pair.first)):
        info = side.folder.info
        if info.status != "complete":
            yield f"{side.folder.path} is not finished ({len(side.keys)} of {info.n_cases} cases are scored)."
        if not side.competing and any("meter" in METRICS.get(name).needs for name in side.columns if name in METRICS):
            yield f"{side.folder.path} does not say which effects competed; score it again."
        only = sorted(set(side.columns) - set(other.columns))
        if only:
            yield f"Only {side.folder.path} has {', '.join(only)}."
        alone = len(set(side.keys) - set(other.keys))
        if alone:
            yield f"{alone} of {len(side.keys)} cases are in {side.folder.path} alone and enter no difference."
    yield from _learnt(pair)
    yield from _same(pair)


def _learnt(pair: Matched) -> Iterator[str]:
    """That the truths of effects without operator are not the same pictures, which moves every figure that is read from them."""
    one, other = pair.first.learnt, pair.second.learnt
    if one is not None and other is not None and one != other:
        counts = (
            f"({one.answers} and {other.answers} of them)" if one.answers != other.answers else f"({one.answers} in each run)"
        )
        yield (
            f"{pair.name}: effects without a known operator were judged by other pictures of their teachers {counts}, so a part "
            "of each difference may be that of the truths; scored in one folder, beside one run of `teacher`, it is not."
        )


def _same(pair: Matched) -> Iterator[str]:
    one, other = pair.first.folder.info, pair.second.folder.info
    if one.cache_key == other.cache_key:
        yield f"{pair.name}: both runs were made from the same files and settings."
