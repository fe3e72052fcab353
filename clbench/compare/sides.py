"""Run folders as aligned columns, and which run of one side is compared with which of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clbench.compare.alike import refuse_effects, refuse_encoders, refuse_judgement, refuse_other, refuse_versions
from clbench.metrics import METRICS
from clbench.metrics.derived import DERIVED, NONE, SOURCE, Derived, Rows
from clbench.registry import ClbenchError, suggestion
from clbench.results import RunFolder, find_runs
from clbench.score_table import Learnt, Networks, read_competing, read_encoders, read_learnt
from clbench.types import Case, MetricCard, Question

if TYPE_CHECKING:
    import pandas as pd

CASE = ["effect", "source", "seed", "steps", "probe", "second"]


class Key(NamedTuple):
    """What makes a case the same case in two runs. `steps` -1: the system's own number."""

    effect: str
    source: str
    seed: int
    steps: int
    probe: str
    second: str

    @property
    def question(self) -> Question:
        """The kind of the case's question, as `Case.question`."""
        return Case(self.effect, self.source, self.seed, probe=self.probe, second=self.second).question


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of one run, aligned with its keys: values (NaN = missing), status and reason of each."""

    values: NDArray[np.float64]
    status: NDArray[np.str_]
    reasons: NDArray[np.str_]


@dataclass(frozen=True)
class Side:
    """A run as it enters a comparison. `versions` are those of the stored metrics.

    `competing`: the effects among which the meter told outputs apart; empty where the scores do not say, as are the `encoders`.
    `learnt`: how effects without known operator were judged; None where there are none, or where the scores do not say.
    """

    folder: RunFolder
    keys: list[Key]
    columns: Mapping[str, Column]
    versions: Mapping[str, int]
    competing: frozenset[str] = frozenset()
    encoders: Networks = field(default_factory=dict)
    learnt: Learnt | None = None

    @property
    def system(self) -> str:
        return self.folder.info.system_name


@dataclass(frozen=True)
class Matched:
    """Two runs that can be compared, and what the pair is called."""

    name: str
    first: Side
    second: Side

    @cached_property
    def same(self) -> bool:
        """Whether both are one run, or runs of equal pictures: then they differ in nothing, whatever effects are asked."""
        if self.first.folder.path.resolve() == self.second.folder.path.resolve():
            return True
        one, two = ({r.id: r.sha256 for r in side.folder.read_edits().values()} for side in (self.first, self.second))
        return one == two and all(one.values())


def card_of(name: str) -> MetricCard:
    """The card of a stored metric or of a derived figure; ClbenchError with the nearest name otherwise."""
    if name in DERIVED:
        return DERIVED.get(name).card
    if name in METRICS and not METRICS.get(name).pairwise:
        return METRICS.get(name)
    known = [*DERIVED, *(each for each in METRICS if not METRICS.get(each).pairwise)]
    raise ClbenchError(f"unknown metric '{name}'.{suggestion(name, known)}")


def match_runs(first: Path, second: Path, systems: Sequence[str] = ()) -> list[Matched]:
    """Pairs of runs: the two named, or those of the same system in two folders of results (controls aside).

    Raises ClbenchError when nothing matches, and when worlds, suites, competing effects, the versions or networks of a metric, or
    the rules for effects without known operator differ.
    """
    sides = [_runs(first), _runs(second)]
    pairs = _pairs(sides[0], sides[1], (first, second), systems)
    for one, other in pairs:
        refuse_other(one, other)
    opened = [(read_side(one), read_side(other)) for one, other in pairs]
    for one, other in opened:
        refuse_effects(one, other)
        refuse_versions(one, other)
        refuse_encoders(one, other)
        refuse_judgement(one, other)
    return [Matched(_name(one, other), one, other) for one, other in opened]


def _name(one: Side, other: Side) -> str:
    return one.system if one.system == other.system else f"{one.system} -> {other.system}"


def _runs(path: Path) -> RunFolder | dict[str, RunFolder]:
    """One run folder, or the runs of a folder of results by system."""
    if (path / "run.json").is_file():
        return RunFolder.open(path)
    runs: dict[str, RunFolder] = {}
    for run in find_runs(path):
        if run.info.system_name in runs:
            held = runs[run.info.system_name].path
            raise ClbenchError(f"{held} and {run.path} are both runs of system '{run.info.system_name}'; name one of them")
        runs[run.info.system_name] = run
    return runs


def _pairs(
    one: RunFolder | dict[str, RunFolder], other: RunFolder | dict[str, RunFolder], paths: tuple[Path, Path],
    systems: Sequence[str],
) -> list[tuple[RunFolder, RunFolder]]:  # fmt: skip
    if isinstance(one, RunFolder) and isinstance(other, RunFolder):
        return [(one, other)]
    first, second = ({side.info.system_name: side} if isinstance(side, RunFolder) else side for side in (one, other))
    common = [name for name in first if name in second]
    unknown = [name for name in systems if name not in common]
    if unknown:
        raise ClbenchError(f"system '{unknown[0]}' is not in both {paths[0]} and {paths[1]}.{suggestion(unknown[0], common)}")
    single = isinstance(one, RunFolder) or isinstance(other, RunFolder)
    chosen = systems or [name for name in common if single or first[name].info.system.card["kind"] != "control"]
    if not chosen:
        held = [f"{path} holds {', '.join(side)}" for path, side in zip(paths, (first, second), strict=True)]
        raise ClbenchError(f"no system to compare is in both: {held[0]}; {held[1]}")
    return [(first[name], second[name]) for name in chosen]


def read_side(folder: RunFolder) -> Side:
    """The scores and edits of one run as columns; ClbenchError when it has no scores or mixes versions of a metric."""
    frame = folder.read_scores()
    for name in ("probe", "second"):  # files of an older clbench lack them
        if name not in frame:
            frame[name] = ""
    frame["steps"] = frame["steps"].fillna(-1).astype("int64")
    place = frame.groupby(CASE, sort=True).ngroup().to_numpy()
    cases = frame[CASE].assign(place=place).drop_duplicates("place").sort_values("place")
    keys = [Key(*row) for row in zip(*(cases[name].tolist() for name in CASE), strict=True)]
    questions = np.array([key.question for key in keys], dtype=object)
    frame = frame.assign(place=place, question=questions[place])
    columns = {}
    for name, rows in frame.groupby("metric", sort=True):
        if not METRICS.get(str(name)).pairwise:
            columns[str(name)] = _column(rows, len(keys), rows["value"].to_numpy(dtype=np.float64))
    for name in DERIVED:
        column = _derived(DERIVED.get(name), frame, folder, keys)
        if column is not None:
            columns[name] = column
    told = _competing(frame, folder), read_encoders(folder.scores_file), read_learnt(folder.scores_file)
    return Side(folder, keys, columns, _versions(frame, folder), *told)


def _versions(frame: pd.DataFrame, folder: RunFolder) -> dict[str, int]:
    versions: dict[str, int] = {}
    for metric, version in sorted(set(zip(frame["metric"].tolist(), frame["metric_version"].tolist(), strict=True))):
        if metric in versions:
            raise ClbenchError(f"{folder.path} holds several versions of metric '{metric}'; score it again")
        versions[metric] = version
    return versions


def _competing(frame: pd.DataFrame, folder: RunFolder) -> frozenset[str]:
    """What the file says; of an older one, the effects that each output was compared with, row by row."""
    written = read_competing(folder.scores_file)
    rows = frame.loc[frame["metric"].isin(["attribution_distance", "leak"]) & (frame["other"] != "")]
    return frozenset(written or {*rows["effect"], *rows["other"]} - {SOURCE, NONE})


def _column(rows: pd.DataFrame, count: int, values: NDArray[np.float64]) -> Column:
    """A column of `count` cases from one row per case; a case without a row is unscored."""
    place = rows["place"].to_numpy()
    whole = np.full(count, np.nan)
    whole[place] = values
    status, reasons = np.full(count, "unscored", dtype=object), np.full(count, "it was never scored", dtype=object)
    status[place], reasons[place] = rows["status"].to_numpy(dtype=object), rows["reason"].to_numpy(dtype=object)
    return Column(whole, status.astype(str), reasons.astype(str))


def _derived(figure: Derived, frame: pd.DataFrame, folder: RunFolder, keys: list[Key]) -> Column | None:
    """The column of a derived figure; None when nothing that it is read from was scored, or for none of its questions."""
    if figure.origin not in ("attributed", "leak"):
        return _from_edits(figure, folder, keys)
    rows = frame.loc[(frame["metric"] == figure.origin) & frame["question"].isin(sorted(figure.card.questions))]
    if not len(rows):
        return None
    fine = rows.loc[rows["status"] == "ok"]
    question, effect, second, other = (fine[name].to_numpy(dtype=str) for name in ("question", "effect", "second", "other"))
    values = fine["value"].to_numpy(dtype=np.float64)
    read = figure.read(Rows(len(keys), fine["place"].to_numpy(), question, effect, second, other, values))
    once = rows.sort_values(by=["place", "status"], kind="stable").drop_duplicates("place")  # "ok" before "unscored"
    return _column(once, len(keys), read[once["place"].to_numpy()])


def _from_edits(figure: Derived, folder: RunFolder, keys: list[Key]) -> Column | None:
    records = {_key(record.case): record for record in folder.read_edits().values()}
    found = [(place, records[key]) for place, key in enumerate(keys) if key in records]
    if not found:
        return None
    fields = {"failed": lambda r: float(r.status == "failed"), "nfe": lambda r: float(r.nfe), "seconds": lambda r: r.seconds}
    place, value = np.array([at for at, _ in found]), np.array([fields[figure.origin](record) for _, record in found])
    # A failed edit is what the share of failures counts; one that was never asked for says nothing of it.
    gone = np.array([r.status == "unscored" or (r.status == "failed" and figure.origin != "failed") for _, r in found])
    value[gone] = np.nan
    question, effect, second = (
        np.array([getattr(keys[at], name) for at in place], dtype=str) for name in ("question", "effect", "second")
    )
    read = figure.read(Rows(len(keys), place, question, effect, second, np.full(len(place), ""), value))
    status = np.full(len(keys), "unscored", dtype=object)
    reasons = np.full(len(keys), "it was not recorded", dtype=object)
    for at, record in found:
        fine = np.isfinite(read[at])
        status[at], reasons[at] = ("ok", "") if fine else (record.status if record.status != "ok" else "unscored", record.reason)
    return Column(read, status.astype(str), reasons.astype(str))


def _key(case: Case) -> Key:
    steps = -1 if case.steps is None else case.steps
    return Key(case.effect, case.source, case.seed, steps, case.probe, case.second)
