"""Run folders -> results: entries with aligned columns. Score tables have millions of rows, so no row is a Python object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from clbench.certificate import differing_parts
from clbench.metrics.cards import METRICS
from clbench.provenance import portable_sentence
from clbench.registry import ClbenchError
from clbench.report.data import LARGE, Column, Entry, Leaks, ReportInput, Results, way
from clbench.report.rows import Frame
from clbench.results import RunFolder
from clbench.score_table import network_words, other_encoders, read_encoders
from clbench.types import Case, MetricCard

if TYPE_CHECKING:
    import pandas as pd


def load_results(runs: Sequence[RunFolder], about: ReportInput) -> Results:
    """Read records and scores of all runs; ClbenchError when runs of different worlds or suites are mixed."""
    if not runs:
        raise ClbenchError("a report needs at least one run folder")
    for run in runs:
        for what, asked in (("world", about.world_hash), ("suite", about.suite_hash)):
            found = getattr(run.info, what)
            if found.hash != asked:
                parts = differing_parts(run.info.world_parts, about.world_parts) if what == "world" else ""
                raise ClbenchError(
                    f"{run.path} was made with {what} '{found.name}' ({found.hash[:8]}), the report is about "
                    f"({asked[:8]}){parts}; runs of different {what}s are not put in one report"
                )
    _check_names(runs)
    tables = sorted((_RunTable(run, about) for run in runs), key=lambda table: table.control)
    _check_encoders(tables)
    mainly = min((way(case) for table in tables for case in table.cases), default=(False, ""))
    entries = [entry for table in tables for entry in table.entries(lambda case: way(case) == mainly)]
    variants = [entry for table in tables for entry in table.entries(lambda case: way(case) != mainly)]
    _check_effects([*entries, *variants], about)
    entries = [entry for entry in entries if not _floor_of_a_probe(entry)]
    seen = {effect for entry in entries for effect in entry.effects}
    scored = {metric for entry in entries for metric in entry.columns}
    pairwise = {"attributed"} if any(entry.read for entry in entries) else set()
    pairwise |= {"leak"} if any(len(entry.leak) for entry in entries) else set()
    effects = [effect for effect in about.effects.values() if effect.id in seen]
    asked = {metric for table in tables for metric in table.metrics}
    return Results(about, entries, effects, _cards(scored), _cards(pairwise), variants, _cards(asked), _frame(tables))


def _check_names(runs: Sequence[RunFolder]) -> None:
    """ClbenchError where two runs are of one system: its name could stand for one of them only."""
    first: dict[str, RunFolder] = {}
    for run in runs:
        other = first.setdefault(run.info.system_name, run)
        if other is not run:
            name = run.info.system_name
            raise ClbenchError(f"{other.path} and {run.path} are both runs of '{name}': remove one, or move it away")


def _check_encoders(tables: list[_RunTable]) -> None:
    """ClbenchError where two runs were scored with different networks; one that does not say with which passes."""
    for pair in combinations(tables, 2):
        for role in other_encoders(pair[0].encoders, pair[1].encoders):
            said = [f"{network_words(table.encoders[role])} in {table.run.path}" for table in pair]
            raise ClbenchError(f"scored with {said[0]} and with {said[1]}; score them together with `clbench score`")


def _floor_of_a_probe(entry: Entry) -> bool:
    """Whether a control answers probes alone (as reseed does), and would be a line of blanks in the main tables."""
    return entry.control and bool(entry.records) and {record.status for record in entry.records.values()} == {"unscored"}


def _frame(tables: list[_RunTable]) -> Frame:
    import pandas as pd

    return pd.concat([frame[~frame["metric"].isin(LARGE)] for frame in map(_with_made, tables)], ignore_index=True)


def _with_made(table: _RunTable) -> Frame:
    """The rows with `made`: whether they are at the steps that the system is made for, as `clbench.report.data.as_made`.

    No row is dropped here: a reference is needed at the steps of what it is compared with. Of a control the rows at most
    steps are taken, as its entry has them.
    """
    steps = table.frame["steps"]
    asked = set(steps.dropna().unique())
    if len(asked) < 2:
        return table.frame.assign(made=True)
    own = None if table.control else table.run.info.system.card["settings"].get("steps")
    return table.frame.assign(made=(steps == (own if own in asked else max(asked))).fillna(False).to_numpy(dtype=bool))


def _check_effects(entries: list[Entry], about: ReportInput) -> None:
    named = {name for entry in entries for case in entry.cases for name in (case.effect, case.second) if name}
    unknown = sorted(named - set(about.effects))
    if unknown:
        raise ClbenchError(f"the runs hold effects that the world does not know: {', '.join(unknown)}")


def _cards(names: set[str]) -> list[MetricCard]:
    return [METRICS.get(name) for name in METRICS if name in names]


_NO_ROWS = np.empty(0, dtype=np.int64)


class _RunTable:
    """Records and scores of one run, every score row with the number of its case in `cases`."""

    def __init__(self, run: RunFolder, about: ReportInput) -> None:
        self.run, self.name = run, about.told(run.info.system_name)
        self.records = {key: replace(record, reason=self._told(record.reason)) for key, record in run.read_edits().items()}
        self.control = run.info.system.card["kind"] == "control"
        self.frame = run.read_scores()
        self.encoders = read_encoders(run.scores_file)
        scored, self.codes = _cases(self.frame)
        known = dict.fromkeys([*scored, *(record.case for record in self.records.values())])
        rank = {effect: index for index, effect in enumerate(about.effects)}
        self.scored = scored
        self.cases = sorted(known, key=lambda case: (rank.get(case.effect, len(rank)), case.source, case.seed, case.id))
        self.metric, names = self.frame["metric"].factorize()
        self.metrics = [str(name) for name in names]
        self.values = self.frame["value"].to_numpy()

    def entries(self, wanted: Callable[[Case], bool]) -> list[Entry]:
        """An entry for every number of steps that has a wanted case; controls take no steps, so one of theirs stands for all."""
        kept = [case for case in self.cases if wanted(case)]
        steps = sorted({case.steps for case in kept}, key=lambda step: -1 if step is None else step)
        asked = steps[-1:] if self.control else steps
        return [self._entry(step, [case for case in kept if case.steps == step]) for step in asked]

    def _entry(self, step: int | None, cases: list[Case]) -> Entry:
        index = {case: place for place, case in enumerate(cases)}
        places = np.array([index.get(case, -1) for case in self.scored], dtype=np.int64)[self.codes]
        rows = {name: np.flatnonzero((self.metric == code) & (places >= 0)) for code, name in enumerate(self.metrics)}
        columns = {
            name: self._filled(places, found, len(cases))
            for name, found in rows.items()
            if len(found) and not METRICS.get(name).pairwise
        }
        name, system = self.name, self.run.info.system_name
        label = name if step is None or self.control else f"{name} @{step}"
        records = {case.id: self.records[case.id] for case in cases if case.id in self.records}
        seen, leaks = (self._pairs(places, rows.get(metric, _NO_ROWS)) for metric in ("attributed", "leak"))
        attributed = [""] * len(cases)
        for place, other in zip(seen.places.tolist(), seen.others.tolist(), strict=True):
            if cases[place].question == "effect":  # labels of neutral and composed questions mean other things
                attributed[place] = other
        return Entry(label, name, system, step, self.control, self.run, cases, records, columns, attributed, leaks)

    def _pairs(self, places: np.ndarray, rows: np.ndarray) -> Leaks:
        """Place, other and value of those `rows` that were scored."""
        kept = rows[np.isfinite(self.values[rows])]
        return Leaks(places[kept], self.frame["other"].to_numpy(dtype=object)[kept], self.values[kept])

    def _column(self, name: str, rows: np.ndarray) -> list:
        return self.frame[name].to_numpy(dtype=object)[rows].tolist()

    def _filled(self, places: np.ndarray, rows: np.ndarray, count: int) -> Column:
        column = Column(np.full(count, np.nan), ["unscored"] * count, ["no row in scores.parquet"] * count)
        column.values[places[rows]] = self.values[rows]
        said = (self._column(name, rows) for name in ("status", "reason"))
        for place, status, reason in zip(places[rows].tolist(), *said, strict=True):
            column.status[place], column.reasons[place] = status, self._told(reason)
        return column

    def _told(self, reason: str) -> str:
        """A reason without this machine's folders."""
        return portable_sentence(reason, self.run.path.parent) if "/" in reason else reason


def _cases(frame: pd.DataFrame) -> tuple[list[Case], np.ndarray]:
    """Every scored case once, and for each row the number of its case; columns are the fields of a case.

    Rows of one case mostly follow each other, so a case is made where a row differs from the one before.
    """
    names = [field.name for field in dataclasses.fields(Case) if field.name in frame.columns]
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None).to_numpy() for name in names}
    new = np.zeros(len(frame), dtype=bool)
    new[:1] = True
    for values in columns.values():
        new[1:] |= values[1:] != values[:-1]
    rows = zip(*(values[new].tolist() for values in columns.values()), strict=True)
    cases: dict[Case, int] = {}
    codes = [cases.setdefault(Case(**dict(zip(names, row, strict=True))), len(cases)) for row in rows]
    return list(cases), np.array(codes, dtype=np.int64)[np.cumsum(new) - 1]
