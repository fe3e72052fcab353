"""From pictures to scores: reads run folders, computes a suite's metrics and writes scores.parquet beside the pictures.

Work goes source by source, over all runs at once: what is known about a source (its truths, their features, the meter's frames)
is computed once for every system. Each worker (as many as torch has threads, or as fit into the free memory) has one source
in memory at a time. A source that is finished is kept, so a stopped scoring starts again where it was. A row never depends on
the other cases in its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from clbench.backbones.common import pick_device
from clbench.calibration import RoundTrip, fit_meter, round_trip_of, to_tensor
from clbench.edit_log import about
from clbench.encoders import Encoders, open_encoders
from clbench.metrics import METRICS
from clbench.metrics.bleeding import BleedingMeter
from clbench.notices import say
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.results import EditRecord, RunFolder
from clbench.score_case import Row, SourceScorer
from clbench.score_composed import ComposedScorer
from clbench.score_elsewhere import Shown
from clbench.score_kept import code_key
from clbench.score_looks import Pair
from clbench.score_memory import expected, fitting, free, too_large
from clbench.score_neutral import NeutralScorer
from clbench.score_order import in_order, may_copy, one_thread_each
from clbench.score_parts import ScoreParts
from clbench.score_table import read_made_from
from clbench.suite import Suite
from clbench.truth import DRAWS, Truths
from clbench.types import Case, Question, Score
from clbench.world import World

Progress = Callable[[RunFolder, int, int], None]
"""Called with a run, its finished cases and all its cases."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One source of one run: its finished pictures and its failed edits."""

    folder: RunFolder
    records: list[EditRecord]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Pictures of one source with one right answer: the numbers of their runs, what is compared, and their rows."""

    question: Question
    numbers: Sequence[int]
    outputs: Tensor
    compared: Callable[[], list[Pair]]
    rows: Callable[[], Iterator[Row]]


Picture = tuple[int, Case, np.ndarray]
"""Number of the run, case, and the picture uint8 (R, R, 3)."""


class Scorer:
    """Everything a suite's metrics need in a world, opened once. Raises ClbenchError before any work if a weight is missing."""

    def __init__(
        self, world: World, suite: Suite, teacher: RunFolder | None = None, base: RunFolder | None = None
    ) -> None:
        self.world, self.suite = world, suite
        self.effects = suite.effects(world)
        self.metrics = list(dict.fromkeys(suite.metrics))
        self.encoders: Encoders = open_encoders(world, self.metrics)
        self.truths = Truths(world, teacher)
        self.shown = Shown(self.truths)
        self.base, self._base_records = base, base.read_edits() if base is not None else {}
        self._code, self._by_teacher = code_key(), self.truths.made_from
        self._meter: BleedingMeter | None = None
        self._fitting = Lock()

    def wanted(self, question: Question) -> set[str]:
        """The suite's metrics that are computed for cases of this kind."""
        return {name for name in self.metrics if question in METRICS.get(name).questions}

    @cached_property
    def round_trip(self) -> RoundTrip | None:
        """Pictures through the VAE of the world's backbone, or None where it is not there."""
        return round_trip_of(self.world)

    @property
    def meter(self) -> BleedingMeter:
        """The bleeding meter, calibrated on first use; what the backbone's VAE does counts as nuisance."""
        with self._fitting:
            if self._meter is None:
                self._meter = fit_meter(self.world, self._sources(), self.round_trip)
        return self._meter

    def score(self, folders: Sequence[RunFolder], progress: Progress | None = None) -> None:
        """Score every run in `folders` and write its scores.parquet."""
        for folder in folders:
            self._check(folder)
        rows: dict[str, list[Score]] = {str(folder.path): [] for folder in folders}
        parts = {str(folder.path): ScoreParts(folder.path, self._key()) for folder in folders}
        sources = list(self._by_source(folders))
        totals, done = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
        for work in (work for _, works in sources for work in works):
            totals[str(work.folder.path)] += len(work.records)
        with closing(self._work_through(sources, parts)) as scored:
            for work, scores in scored:
                name = str(work.folder.path)
                rows[name] += scores
                done[name] += len(work.records)
                if progress is not None:
                    progress(work.folder, done[name], totals[name])
        encoders = {role: (card.name, card.sha256) for role, card in self.encoders.cards().items()}
        learnt = self.shown.learnt(self.effects)
        for folder in folders:
            folder.write_scores(rows[str(folder.path)], self.competing(folder), encoders, self.made_from(folder), learnt)
            parts[str(folder.path)].clear()

    def made_from(self, folder: RunFolder) -> str:
        """The hash of everything that decides the rows of a run: equal ones have equal rows."""
        records = list(folder.read_edits().values())
        about_run = [folder.info.run, folder.info.system_name, folder.info.suite.name]
        return hash_value([about_run, self._key(), self._about(_Work(folder, records))])

    def is_scored(self, folder: RunFolder) -> bool:
        """Whether the run's scores.parquet is what `score` would write, and can be read."""
        if read_made_from(folder.scores_file) != self.made_from(folder):
            return False
        try:
            folder.read_scores()
        except ClbenchError:
            return False
        return True

    def forget_parts(self, folder: RunFolder) -> None:
        """Remove what an interrupted scoring has left."""
        ScoreParts(folder.path, self._key()).clear()

    def competing(self, folder: RunFolder) -> list[str]:
        """The suite's effects among which the outputs of a run are told apart: those whose truth is known for any of its sources.

        Where truths come from teachers or reference pairs, two runs of one suite may lack different ones.
        """
        sources = sorted({record.case.source for record in folder.read_edits().values()})
        return [effect for effect in self.effects if any(self.truths.knows(effect, source) for source in sources)]

    def _work_through(
        self, sources: Sequence[tuple[str, list[_Work]]], parts: Mapping[str, ScoreParts]
    ) -> Generator[tuple[_Work, list[Score]]]:
        """Rows of each run for each source, in order; sources are worked on beside each other, and kept when they are done."""
        if "meter" in self._needed:  # once for all workers; in a thread, opening the VAE would set torch's number of threads
            _ = self.meter
            self.shown.learn(self.effects)
        with one_thread_each() as threads:
            workers = self._workers(threads, sources)
            results = in_order(lambda one: self._score_source(*one, parts), sources, workers, copies=may_copy())
            with closing(results):  # left early, what was not begun is dropped
                for (source, works), _ in zip(sources, results, strict=True):
                    yield from ((work, self._kept(source, work, parts)) for work in works)

    def _workers(self, threads: int, sources: Sequence[tuple[str, list[_Work]]]) -> int:
        """How many of `sources` are worked on beside each other; said where there is no memory for one of them."""
        outputs = max((sum(len(work.records) for work in works) for _, works in sources), default=0)
        draws = sum(DRAWS if self.world.effect(effect).random else 1 for effect in self.effects)
        turned = outputs if self.suite.table.pairs else 0  # each output is compared with that of the other order
        side, there = self.world.resolution, free()
        each = expected(side, outputs, draws + turned, self.encoders.perceptual)
        if sentence := too_large(side, outputs, each, there):
            say(sentence, "yellow")
        return fitting(threads, each, there)

    def _score_source(self, source: str, works: Sequence[_Work], parts: Mapping[str, ScoreParts]) -> None:
        """Keep the rows of each run for one source: what an earlier scoring did not keep is computed together.

        They go by way of the disk, so that a copy of the process that ends says nothing half.
        """
        fresh = [work for work in works if parts[str(work.folder.path)].read(source, self._about(work)) is None]
        made = self._score_works(source, fresh) if fresh else []
        for work, rows in zip(fresh, made, strict=True):
            parts[str(work.folder.path)].write(source, self._about(work), rows)

    def _kept(self, source: str, work: _Work, parts: Mapping[str, ScoreParts]) -> list[Score]:
        rows = parts[str(work.folder.path)].read(source, self._about(work))
        if rows is None:
            raise ClbenchError(f"the scores of source '{source}' were removed from {work.folder.path} while it was being scored")
        return rows

    def _score_works(self, source: str, works: Sequence[_Work]) -> list[list[Score]]:
        """Rows per work; one batch per right answer holds the outputs of all runs."""
        rows: list[list[Score]] = [[] for _ in works]
        batches: dict[tuple[str, ...], list[Picture]] = {}
        for number, work in enumerate(works):
            for record in work.records:
                if record.status == "ok":
                    item = (number, record.case, self._picture(work.folder, record))
                    batches.setdefault(_answer(record.case), []).append(item)
                else:
                    rows[number] += self._missing(record)
        scorer = SourceScorer(source, self)
        made = {(number, case): picture for items in batches.values() for number, case, picture in items}
        asked = [self._asked(scorer, batches[answer], made) for answer in sorted(batches)]
        self._look(scorer, asked)
        for each in asked:
            named = set()
            for index, score in each.rows():
                rows[each.numbers[index]].append(score)
                named.add(score.metric)
            self._require_all(each.question, named)
        return rows

    def _require_all(self, question: Question, computed: set[str]) -> None:
        """ClbenchError for a metric that is wanted of such questions and of which not even a reason came back."""
        pairs = {"leak"} if len(self.effects) < 2 else set()  # of no other effect there is no row
        if idle := sorted(self.wanted(question) - computed - pairs):
            raise ClbenchError(
                f"metric '{idle[0]}' is on the list and of kind '{question}', and nothing computes it: the scorer of such "
                "questions (clbench/score_case.py, score_neutral.py or score_composed.py) must yield its rows"
            )

    def _look(self, scorer: SourceScorer, asked: Sequence[_Asked]) -> None:
        """Put all pictures through the networks together, so that passes are full."""
        if self.encoders.perceptual is not None:
            scorer.looks.prepare(pair for each in asked for pair in each.compared())
        if self.encoders.clip is not None:
            outputs = [each.outputs for each in asked if "clip" in self._needs(each.question)]
            scorer.looks.embed(torch.cat(outputs or [scorer.image]))

    def _needs(self, question: Question) -> set[str]:
        return set().union(*(METRICS.get(name).needs for name in self.wanted(question)))

    def _asked(
        self, scorer: SourceScorer, items: Sequence[Picture], made: Mapping[tuple[int, Case], np.ndarray]
    ) -> _Asked:
        """Pictures that have one right answer; `made` holds every picture of this source."""
        numbers, cases, pictures = zip(*items, strict=True)
        outputs, first = to_tensor(pictures), cases[0]
        if first.question == "neutral":
            neutral = NeutralScorer(scorer, first, self._base_picture(first), outputs)
            how = neutral.compared, lambda: neutral.rows(cases)
        elif first.question == "effect":
            truth, batch = self.truths.truth(first.effect, scorer.id), scorer.batch(first.effect, outputs)
            how = lambda: scorer.compared(truth, outputs), lambda: scorer.rows(first.effect, cases, batch)
        else:
            turned = [replace(case, effect=case.second, second=case.effect) for case in cases]
            found = [made.get(key) for key in zip(numbers, turned, strict=True)]
            reverses = [None if picture is None else to_tensor([picture])[0] for picture in found]
            composed = ComposedScorer(scorer, first.effect, first.second)
            how = lambda: composed.compared(outputs, reverses), lambda: composed.rows(cases, outputs, reverses)
        return _Asked(first.question, numbers, outputs, *how)

    def _base_picture(self, case: Case) -> np.ndarray | str:
        """What the base made of `case`, or why there is no such picture."""
        record = self._base_records.get(case.id)
        if self.base is None or record is None:
            return "there is no run of the base on this question"
        return self._picture(self.base, record) if record.status == "ok" else f"the base: {record.reason}"

    def _about(self, work: _Work) -> list[list[str]]:
        """What the rows of `work` are made from; for neutral questions also the base's pictures."""
        neutral = [record.id for record in work.records if record.case.question == "neutral"]
        bases = [self._base_records[case_id] for case_id in neutral if case_id in self._base_records]
        return about(work.records) + [["base", *what] for what in about(bases)]

    def _picture(self, folder: RunFolder, record: EditRecord) -> np.ndarray:
        picture, side = folder.read_picture(record), self.world.resolution
        if picture.shape != (side, side, 3):
            raise ClbenchError(
                f"picture {folder.path / record.file} is {picture.shape[1]} x {picture.shape[0]} px; "
                f"world {self.world.name} has {side} x {side}"
            )
        return picture

    def _missing(self, record: EditRecord) -> Iterator[Score]:
        """One row per metric for a case without a picture: failed, or not asked on purpose (unscored)."""
        wanted, reason = self.wanted(record.case.question), record.reason or "the edit failed"
        for name in self.metrics:
            if name in wanted:
                yield Score(record.case, name, METRICS.get(name).version, math.nan, "", record.status, reason)

    def _by_source(self, folders: Sequence[RunFolder]) -> Iterator[tuple[str, list[_Work]]]:
        grouped: dict[str, dict[int, list[EditRecord]]] = {}
        for number, folder in enumerate(folders):
            for record in sorted(folder.read_edits().values(), key=lambda r: r.id):
                grouped.setdefault(record.case.source, {}).setdefault(number, []).append(record)
        for source in sorted(grouped):
            yield source, [_Work(folders[number], records) for number, records in grouped[source].items()]

    def _check(self, folder: RunFolder) -> None:
        """Unknown effects and sources are said before any work."""
        for record in folder.read_edits().values():
            self.world.source(record.case.source)
            for effect in filter(None, (record.case.effect, record.case.second)):
                if self.world.effect(effect).id not in self.effects:
                    raise ClbenchError(
                        f"{folder.path} holds edits of effect '{effect}', which is not part of suite {self.suite.name}"
                    )

    def _sources(self) -> list[str]:
        """The suite's sources, whatever --limit asked of them; of a world that has fewer, all."""
        return self.suite.sources(self.world, None if self.suite.table.groups else len(self.world.sources))

    def _key(self) -> object:
        """What, beside the pictures, decides a row: also of the sources that an interrupted scoring has left."""
        versions = {name: METRICS.get(name).version for name in self.metrics}
        cards = {role: [card.name, card.sha256] for role, card in self.encoders.cards().items()}
        backbone = self.world.backbone  # the meter's round trip is made on its device
        trip = [backbone.dtype, pick_device(backbone.device)] if "meter" in self._needed else []
        return [self._code, self.world.hash, self.effects, self._sources(), versions, cards, trip, self._by_teacher]

    @property
    def _needed(self) -> set[str]:
        """What any of the suite's metrics needs."""
        return set().union(*(METRICS.get(name).needs for name in self.metrics))


def score_runs(
    folders: Sequence[RunFolder], world: World, suite: Suite, progress: Progress | None = None, keep: bool = False
) -> list[RunFolder]:
    """Score `folders` together (the fast way); where only teachers know the truth, a run of `teacher` among them is it.

    With `keep`, runs that have these very scores already are left alone, and returned.
    """
    named = {folder.info.system_name: folder for folder in folders}
    scorer = Scorer(world, suite, named.get("teacher"), named.get("base"))
    done = [folder for folder in folders if scorer.is_scored(folder)]
    for folder in done:  # what an interrupted scoring has left is of no use to a finished one, and must not be taken for new
        scorer.forget_parts(folder)
    kept = done if keep else []
    if pending := [folder for folder in folders if folder not in kept]:
        scorer.score(pending, progress)
    return kept


def score_run(folder: RunFolder, world: World, suite: Suite, progress: Callable[[int, int], None] | None = None) -> None:
    """Score one run; runs of `teacher` (truth where nothing better is known) and `base` (of neutral cases) beside it serve."""
    beside = {name: folder.path.parent / name for name in ("teacher", "base")}
    there = {name: RunFolder.open(path) for name, path in beside.items() if (path / "run.json").is_file()}
    told = None if progress is None else lambda _, done, total: progress(done, total)
    Scorer(world, suite, there.get("teacher"), there.get("base")).score([folder], told)


def _answer(case: Case) -> tuple[str, ...]:
    """Cases of one source with the same right answer have the same value."""
    return (case.question, case.effect, case.second, case.id if case.question == "neutral" else "")
