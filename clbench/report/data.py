"""What a report is made from: entries (a system, or a system at one number of steps) with aligned columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clbench.certificate import RunInfo
from clbench.report.again import Again
from clbench.report.blocks import Section
from clbench.results import EditRecord, RunFolder
from clbench.types import Case, Effect, MetricCard

if TYPE_CHECKING:
    from clbench.report.rows import Frame
    from clbench.scene_parts import Parts

SOURCE, NONE = "source", "none"
"""Labels of attribution that are not effects: the untouched source, and nothing clearly."""

LABELS = {SOURCE: "untouched source", NONE: "nothing clearly"}
LARGE = ("leak", "attribution_distance")
"""Metrics of many rows for each case, which entries hold as columns."""


@dataclass(frozen=True)
class ReportInput:
    """What the run folders do not know: the world's and the suite's words, and pictures of source and truth.

    `effects` are those of the world, by id; `truth_kind` says in words how truth is known, and `by_teacher` are the effects whose
    truth is their teacher's pictures; `reference` is the system that differences are taken against, and `reference_words` why it
    is not the usual one (see `clbench.report.reference`). `truth_picture` may return None where there is no truth.
    Both callables return uint8 (H, W, 3). `world_parts` are the hashes of which the world's is made, where they are known, for
    messages. `adapter_bytes` maps a system to the bytes of its adapter files.
    `asked` are the ids of the suite's effects (which may be more than a part of it was run for). `extra` sections stand
    after the costs. `scenes` are the parts of those sources that are scenes of a group. `names` maps a system whose own name
    does not say which adapter it is to one that does (see `told`);
    `ranks` maps a system to the rank of its adapter, where that is known. `left_out` says what of the suite this world cannot
    run.
    """

    world_name: str
    world_hash: str
    suite_name: str
    suite_hash: str
    question: str
    effects: Mapping[str, Effect]
    truth_kind: str
    again: Again
    truth_picture: Callable[[Case], np.ndarray | None]
    source_picture: Callable[[str], np.ndarray]
    reference: str = "cascade"
    reference_words: str = ""
    adapter_bytes: Mapping[str, int] = field(default_factory=dict)
    asked: Sequence[str] = ()
    extra: Sequence[Section] = ()
    scenes: Mapping[str, Parts] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    world_parts: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""
    by_teacher: frozenset[str] = frozenset()

    def told(self, system: str) -> str:
        """A system's name for readers: ``collection (n5)``, where the first of several candidates was run as ``collection``."""
        return self.names.get(system, system)


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
class Leaks:
    """Leak scores of one entry, three aligned columns: place of the case, id of the other effect, value."""

    places: np.ndarray
    others: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Entry:
    """One line of every table: a system as it ran, at one number of steps if the suite asks for several.

    `system` is what the run folder calls it, `name` what readers do, `label` says its number of steps too.
    `attributed` holds one label per case ("" = missing, or not a question about a single effect).
    """

    label: str
    name: str
    system: str
    steps: int | None
    control: bool
    folder: RunFolder
    cases: list[Case]
    records: dict[str, EditRecord]
    columns: dict[str, Column]
    attributed: list[str]
    leak: Leaks

    @property
    def info(self) -> RunInfo:
        return self.folder.info

    @property
    def extended(self) -> bool:
        """Whether this is an adapter that new effects were added to."""
        return bool(self.info.system.card["settings"].get("new effects"))

    @property
    def collection(self) -> bool:
        return self.info.system.card["kind"] == "collection"

    @property
    def carried(self) -> float:
        """How many effects the adapter was trained on, as its card says; infinity where it may be asked for every one."""
        return len(self.info.system.card["settings"].get("effects", ())) or float("inf")

    @property
    def own_steps(self) -> int | None:
        """The number of steps that the system is made for, as its card says; None where it takes none."""
        return self.info.system.card["settings"].get("steps")

    @cached_property
    def answered(self) -> set[str]:
        """Effects that it was asked for; a candidate is not asked for those that it says it was not trained on."""
        records = [(case.effect, self.records.get(case.id)) for case in self.cases]
        return {effect for effect, record in records if record is None or record.status != "unscored"}

    @cached_property
    def effects(self) -> list[str]:
        return [case.effect for case in self.cases]

    @cached_property
    def sources(self) -> list[str]:
        """What a case's effect was tried on: its source, of a pair of effects also the second one."""
        return [place(case) for case in self.cases]

    @cached_property
    def read(self) -> list[tuple[str, str]]:
        """(asked, seen) of every case that was attributed."""
        return [(asked, seen) for asked, seen in zip(self.effects, self.attributed, strict=True) if seen]

    @cached_property
    def position(self) -> dict[Case, int]:
        """Where a question stands in every column, whatever its number of steps (see `question`)."""
        return {question(case): index for index, case in enumerate(self.cases)}

    @cached_property
    def pictures(self) -> dict[Case, str]:
        """The sha256 of the picture of every question (see `question`); "" where none was made."""
        return {question(case): record.sha256 for case in self.cases if (record := self.records.get(case.id)) is not None}

    @cached_property
    def passes(self) -> float:
        """Median forward passes of the transformer for one picture; NaN where none were counted."""
        found = [record.nfe for record in self.records.values() if record.status == "ok" and record.nfe]
        return float(np.median(found)) if found else float("nan")

    def value(self, metric: str, index: int) -> float:
        """The value of a metric for the case at `index`; NaN when it is missing or was never asked."""
        return float(self.columns[metric].values[index]) if metric in self.columns else float("nan")


def question(case: Case) -> Case:
    """The case without its number of steps: what two entries are paired by."""
    return case if case.steps is None else replace(case, steps=None)


def as_made(entries: Sequence[Entry]) -> Entry:
    """That of one system's `entries` at its own number of steps (see `Entry.own_steps`), else the one at most steps."""
    own = [entry for entry in entries if entry.steps == entry.own_steps]
    return own[0] if own else max(entries, key=lambda entry: entry.steps or 0)


def place(case: Case) -> str:
    """Where a case stands within its (first) effect: cases of one place differ in their seed alone."""
    return f"{case.second}/{case.source}" if case.second else case.source


def way(case: Case) -> tuple[bool, str]:
    """How a case asks: whether for two effects, and by which probe. The plain way, ``(False, "")``, sorts first."""
    return bool(case.second), case.probe


@dataclass(frozen=True)
class Results:
    """All entries: systems first, controls after them; effects in the world's order; metrics in card order.

    `entries` hold the cases that ask in one way (see `way`): plainly, or where a suite asks for pairs of effects, for both in
    one edit. What is asked otherwise (probes, two edits) is kept apart in `variants`, under the same labels, and enters no
    table of `entries`. `metrics` of entries have one value per case, `pairwise` ones have a second effect; `asked` are those
    of entries and variants together. `frame` has the score rows of all runs, controls last, without the metrics in `LARGE`, and
    says in `made` which are at the number of steps that their system is made for.
    """

    about: ReportInput
    entries: list[Entry]
    effects: list[Effect]
    metrics: list[MetricCard]
    pairwise: list[MetricCard]
    variants: list[Entry]
    asked: list[MetricCard]
    frame: Frame

    @property
    def systems(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.control]

    @property
    def controls(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.control]

    @property
    def finals(self) -> list[Entry]:
        """Every system once, at the number of steps that it is made for: for tables that would be too wide with all."""
        names = dict.fromkeys(entry.system for entry in self.systems)
        return [as_made([entry for entry in self.systems if entry.system == name]) for name in names]

    @cached_property
    def whole(self) -> list[Entry]:
        """Systems that were asked of every effect that any system was asked of. The mean of another one, such as an adapter of
        five effects, is of other questions: it ranks with nothing.
        """
        asked = {effect for entry in self.systems for effect in entry.answered}
        return [entry for entry in self.systems if asked <= entry.answered] or list(self.systems)

    @cached_property
    def partial(self) -> list[Entry]:
        """The other systems."""
        return [entry for entry in self.systems if entry not in self.whole]

    @cached_property
    def headline(self) -> MetricCard | None:
        """The metric of the verdict: success (of a pair: both) if it was asked, else the first with a direction."""
        directed = [card for card in self.metrics if card.direction != "neutral"]
        return next((card for card in directed if card.name in ("success", "both")), directed[0] if directed else None)

    @property
    def reference_name(self) -> str:
        """The reference's name for readers."""
        return self.about.told(self.about.reference)

    def reference_for(self, entry: Entry) -> Entry | None:
        """The reference system at the same number of steps, or its only entry; None when there is none."""
        same = [other for other in self.systems if other.system == self.about.reference]
        exact = [other for other in same if other.steps == entry.steps]
        chosen = exact or (same if len(same) == 1 else [])
        return chosen[0] if chosen and chosen[0] is not entry else None

    @cached_property
    def candidate(self) -> Entry | None:
        """What the report is about, at its own steps: the reference if it is a collection, whose variants the others are; else
        the largest collection that new effects were added to, the largest collection, or the first other system that is not the
        base. The largest carries the most effects, and of those that carry as many has the highest rank; of equal ones the first.
        """
        whole = [entry for entry in self.systems if entry.system == self.about.reference and entry.collection]
        others = [entry for entry in self.systems if entry.system != self.about.reference]
        ranks = self.about.ranks
        largest = sorted(others, key=lambda entry: (entry.system == "base", -entry.carried, -ranks.get(entry.system, 0)))
        collections = [entry for entry in largest if entry.collection]
        extended = [entry for entry in collections if entry.extended]
        ranked = [*whole, *extended, *collections, *largest, *self.systems]
        return next((entry for entry in self.finals if ranked and entry.system == ranked[0].system), None)

    def runs(self) -> dict[str, Entry]:
        """An entry of every run, by the name of its system; runs that were asked no plain question come last."""
        found: dict[str, Entry] = {}
        for entry in (*self.entries, *self.variants):
            found.setdefault(entry.system, entry)
        return found

    def asked_for(self, case: Case) -> str:
        """What a case asks for, for readers: the effect's name, or both names in their order."""
        return f"{self.name(case.effect)}, then {self.name(case.second)}" if case.second else self.name(case.effect)

    def name(self, effect_id: str) -> str:
        """The name for readers of an effect or of a label that is not an effect."""
        if effect_id in LABELS:
            return LABELS[effect_id]
        return self.about.effects[effect_id].name if effect_id in self.about.effects else effect_id
