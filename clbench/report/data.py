"""What a report is made from: entries (a system, or a system at one number of steps) with aligned columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clbench.certificate import RunInfo
from clbench.metrics.cards import METRICS
from clbench.registry import ClbenchError
from clbench.results import EditRecord, RunFolder
from clbench.types import Case, Effect, MetricCard

if TYPE_CHECKING:
    import pandas as pd

SOURCE, NONE = "source", "none"
"""Labels of attribution that are not effects: the untouched source, and nothing clearly."""

LABELS = {SOURCE: "untouched source", NONE: "nothing clearly"}

CaseKey = tuple[str, str, int]


@dataclass(frozen=True)
class ReportInput:
    """What the run folders do not know: the world's and the suite's words, and pictures of source and truth.

    `effects` are those of the world, by id; `truth_kind` says in words how truth is known; `reference` is the
    system that differences are taken against. `truth_picture` may return None where there is no truth.
    Both callables return uint8 (H, W, 3). `adapter_bytes` maps a system to the bytes of its adapter files.
    """

    world_name: str
    world_hash: str
    suite_name: str
    suite_hash: str
    question: str
    effects: Mapping[str, Effect]
    truth_kind: str
    command: str
    truth_picture: Callable[[Case], np.ndarray | None]
    source_picture: Callable[[str], np.ndarray]
    reference: str = "cascade"
    adapter_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One metric of one entry, aligned with its cases: values (NaN = missing), status and reason."""

    values: np.ndarray
    status: list[str]
    reasons: list[str]

    @property
    def failed(self) -> np.ndarray:
        return np.array([status == "failed" for status in self.status], dtype=bool)


@dataclass(frozen=True)
class Entry:
    """One line of every table: a system as it ran, at one number of steps if the suite asks for several.

    `attributed` holds one label per case ("" = missing), `leak` a value per (place of case, other effect).
    """

    label: str
    system: str
    steps: int | None
    control: bool
    folder: RunFolder
    cases: list[Case]
    records: dict[str, EditRecord]
    columns: dict[str, Column]
    attributed: list[str]
    leak: dict[tuple[int, str], float]

    @property
    def info(self) -> RunInfo:
        return self.folder.info

    @cached_property
    def effects(self) -> list[str]:
        return [case.effect for case in self.cases]

    @cached_property
    def sources(self) -> list[str]:
        return [case.source for case in self.cases]

    @cached_property
    def position(self) -> dict[CaseKey, int]:
        """Where the case (effect, source, seed) stands in every column."""
        return {(case.effect, case.source, case.seed): index for index, case in enumerate(self.cases)}

    def value(self, metric: str, index: int) -> float:
        """The value of a metric for the case at `index`; NaN when it is missing or was never asked."""
        return float(self.columns[metric].values[index]) if metric in self.columns else float("nan")


@dataclass(frozen=True)
class Results:
    """All entries: systems first, controls after them; effects in the world's order; metrics in card order.

    `metrics` have one value per case, `pairwise` ones have a second effect.
    """

    about: ReportInput
    entries: list[Entry]
    effects: list[Effect]
    metrics: list[MetricCard]
    pairwise: list[MetricCard]

    @property
    def systems(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.control]

    @property
    def controls(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.control]

    @cached_property
    def headline(self) -> MetricCard | None:
        """The metric of the verdict: success if it was asked, else the first with a direction."""
        directed = [card for card in self.metrics if card.direction != "neutral"]
        return next((card for card in directed if card.name == "success"), directed[0] if directed else None)

    def reference_for(self, entry: Entry) -> Entry | None:
        """The reference system at the same number of steps, or its only entry; None when there is none."""
        same = [other for other in self.systems if other.system == self.about.reference]
        exact = [other for other in same if other.steps == entry.steps]
        chosen = exact or (same if len(same) == 1 else [])
        return chosen[0] if chosen and chosen[0] is not entry else None

    @cached_property
    def candidate(self) -> Entry | None:
        """What the report is about: the first collection, else the first non-reference, at its most steps."""
        others = [entry for entry in self.systems if entry.system != self.about.reference]
        collections = [entry for entry in others if entry.info.system.card["kind"] == "collection"]
        ranked = [*collections, *others, *self.systems]
        same = [entry for entry in ranked if entry.system == ranked[0].system]
        return max(same, key=lambda entry: entry.steps or 0) if same else None

    def name(self, effect_id: str) -> str:
        """The name for readers of an effect or of a label that is not an effect."""
        if effect_id in LABELS:
            return LABELS[effect_id]
        return self.about.effects[effect_id].name if effect_id in self.about.effects else effect_id


def load_results(runs: Sequence[RunFolder], about: ReportInput) -> Results:
    """Read records and scores of all runs; ClbenchError when runs of different worlds or suites are mixed."""
    if not runs:
        raise ClbenchError("a report needs at least one run folder")
    for run in runs:
        for what, asked in (("world", about.world_hash), ("suite", about.suite_hash)):
            found = getattr(run.info, what)
            if found.hash != asked:
                raise ClbenchError(
                    f"{run.path} was made with {what} '{found.name}' ({found.hash[:8]}), the report is about "
                    f"({asked[:8]}); runs of different {what}s are not put in one report"
                )
    entries = [entry for run in runs for entry in _entries(run, list(about.effects))]
    seen = {effect for entry in entries for effect in entry.effects}
    unknown = sorted(seen - set(about.effects))
    if unknown:
        raise ClbenchError(f"the runs hold effects that the world does not know: {', '.join(unknown)}")
    scored = {metric for entry in entries for metric in entry.columns}
    pairwise = {"attributed"} if any(any(entry.attributed) for entry in entries) else set()
    pairwise |= {"leak"} if any(entry.leak for entry in entries) else set()
    effects = [effect for effect in about.effects.values() if effect.id in seen]
    ordered = sorted(entries, key=lambda entry: entry.control)
    return Results(about, ordered, effects, _cards(scored), _cards(pairwise))


def _cards(names: set[str]) -> list[MetricCard]:
    return [METRICS.get(name) for name in METRICS if name in names]


def _entries(run: RunFolder, order: list[str]) -> list[Entry]:
    records, frame = run.read_edits(), run.read_scores()
    rank = {effect: index for index, effect in enumerate(order)}
    scored = _cases(frame)
    known = {record.case for record in records.values()} | set(scored)
    steps = sorted({case.steps for case in known}, key=lambda step: -1 if step is None else step)
    entries = []
    for step in steps:
        cases = sorted(
            (case for case in known if case.steps == step),
            key=lambda case: (rank.get(case.effect, len(rank)), case.source, case.seed),
        )
        entries.append(_entry(run, step, cases, records, frame, scored))
    return entries


def _entry(
    run: RunFolder,
    step: int | None,
    cases: list[Case],
    records: dict[str, EditRecord],
    frame: pd.DataFrame,
    scored: list[Case],
) -> Entry:
    index = {case: place for place, case in enumerate(cases)}
    columns: dict[str, Column] = {}
    attributed = [""] * len(cases)
    leak: dict[tuple[int, str], float] = {}
    names = ("metric", "other", "value", "status", "reason")
    rows = zip(scored, *(frame[name].tolist() for name in names), strict=True)
    for case, metric, other, value, status, reason in rows:
        place = index.get(case)
        if place is None:
            continue
        if metric == "attributed" and status == "ok":
            attributed[place] = other
        elif metric == "leak" and status == "ok":
            leak[place, other] = value
        if other or METRICS.get(metric).pairwise:
            continue
        if metric not in columns:
            columns[metric] = _empty(len(cases))
        column = columns[metric]
        column.values[place], column.status[place], column.reasons[place] = value, status, reason
    name = run.info.system_name
    label = name if step is None else f"{name} @{step}"
    kept = {case.id: records[case.id] for case in cases if case.id in records}
    control = run.info.system.card["kind"] == "control"
    return Entry(label, name, step, control, run, cases, kept, columns, attributed, leak)


def _empty(count: int) -> Column:
    return Column(np.full(count, np.nan), ["unscored"] * count, ["no row in scores.parquet"] * count)


def _cases(frame: pd.DataFrame) -> list[Case]:
    absent = frame["steps"].isna().tolist()
    steps = [None if gone else int(step) for step, gone in zip(frame["steps"].tolist(), absent, strict=True)]
    keys = zip(frame["effect"].tolist(), frame["source"].tolist(), frame["seed"].tolist(), steps, strict=True)
    made: dict[tuple[str, str, int, int | None], Case] = {}  # one row per metric and pair: few cases, many rows
    return [made.get(key) or made.setdefault(key, Case(*key)) for key in keys]
