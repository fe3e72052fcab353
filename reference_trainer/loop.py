"""The one training loop: resume, step, log, checkpoint, sample sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clbench.registry import ClbenchError, Stopped
from reference_trainer import processes
from reference_trainer.checkpoint import Checkpoints, Stateful, forget
from reference_trainer.config import HabitsTable
from reference_trainer.logs import Logbook
from reference_trainer.losses import NonFiniteError


@dataclass(frozen=True)
class Progress:
    """Where a stage stands: what is being done, how much of it is done, and the numbers of the last update."""

    what: str
    done: int
    total: int
    logs: Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A training as the loop sees it: `step(update)` makes one update and returns numbers for the log.

    `gauge` looks at the student every now and then; its numbers stand beside those of the update. `keep` is called with the
    number of updates done, before the checkpoint: what it writes is there when a later run resumes behind it.
    """

    step: Callable[[int], dict[str, float]]
    sheet: Callable[[int], object]
    state: Mapping[str, Stateful]
    updates: int
    gauge: Callable[[], dict[str, float]] | None = None
    keep: Callable[[int], object] | None = None


class Rhythm:
    """When a checkpoint is due: every so many updates, and after so many minutes, since updates of real size take minutes."""

    def __init__(self, habits: HabitsTable, clock: Callable[[], float]) -> None:
        self.habits, self.clock, self.last = habits, clock, clock()

    def due(self, done: int) -> bool:
        """Whether a checkpoint belongs behind update `done`; the minutes then count from here."""
        now = self.clock()
        if done % self.habits.checkpoint_every and now - self.last < 60 * self.habits.checkpoint_minutes:
            return False
        self.last = now
        return True


def train(
    job: Job, folder: Path, key: str, habits: HabitsTable, resume: bool = True, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[int, dict[str, float]]]:
    """Run `job` in `folder` to its end, yielding (update, logs) after each update.

    Started again by the same command it goes on from the newest checkpoint and ends with the same weights as an
    uninterrupted run. Of several processes the first alone writes. A non-finite loss stops it with a ClbenchError that
    names the last good checkpoint. `clock` gives seconds, of which `habits.checkpoint_minutes` are counted.
    """
    checkpoints = Checkpoints(folder / "checkpoints", key, habits.keep)
    if not resume and processes.first():
        forget(folder)
    processes.wait()
    start = checkpoints.resume(job.state)
    processes.wait()  # nothing is written before all have read the same checkpoint
    logbook = Logbook(folder, start, habits.tensorboard) if processes.first() else None
    rhythm = Rhythm(habits, clock)
    try:
        if start == 0 and logbook is not None:
            job.sheet(0)
        for update in range(start, job.updates):
            began = time.perf_counter()
            logs = processes.joined(_guarded(job, update, checkpoints))
            logs["seconds"] = time.perf_counter() - began
            if logbook is not None:
                _record(job, update, logs, logbook, checkpoints, rhythm)
            yield update, logs
    finally:
        if logbook is not None:
            logbook.close()


def _record(
    job: Job, update: int, logs: dict[str, float], logbook: Logbook, checkpoints: Checkpoints, rhythm: Rhythm
) -> None:
    """What the first process does after an update: gauges, log, checkpoint and sheet where they are due."""
    done, habits = update + 1, rhythm.habits
    if job.gauge is not None and done % habits.gauge_every == 0:
        logs |= job.gauge()
    logbook.write(update, logs)
    if job.keep is not None:
        job.keep(done)
    if rhythm.due(done) or done == job.updates:
        checkpoints.save(done, job.state)
    if done % habits.sheet_every == 0 or done == job.updates:
        job.sheet(done)


def _guarded(job: Job, update: int, checkpoints: Checkpoints) -> dict[str, float]:
    try:
        return job.step(update)
    except NonFiniteError as error:
        good = checkpoints.newest()
        where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        raise ClbenchError(f"training stopped at update {update}: {error}; {where}") from error


@contextmanager
def telling(folder: Path, resume: bool = True) -> Iterator[None]:
    """Inside, Ctrl-C says what of the training in `folder` is kept: not its last update, but that of its last checkpoint.

    With `resume` false nothing is said as long as what lies there is that of an earlier run.
    Inside another one, this one tells.
    """
    before = [] if resume else _marks(folder)
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt:
        if before and _marks(folder) == before:
            raise
        raise Stopped(kept(folder)) from None


def _marks(folder: Path) -> list[tuple[Path, int]]:
    """The marks of a finished training and of its checkpoints, with their times."""
    found = [folder / "complete.json", *sorted((folder / "checkpoints").glob("*/complete.json"))]
    return [(path, path.stat().st_mtime_ns) for path in found if path.is_file()]


def kept(folder: Path) -> str:
    """What the next run of the training in `folder` will find there, in words."""
    if (folder / "complete.json").is_file():
        return f"the training in {folder} is finished"
    newest = Checkpoints(folder / "checkpoints", "").newest()
    if newest is None:
        return f"of the training in {folder} no update is kept, since no checkpoint was written yet"
    return f"the training in {folder} is kept up to update {int(newest.name)}, where its last checkpoint was written"
