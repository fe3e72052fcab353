"""The one training loop: resume, step, log, checkpoint, sample sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clbench.registry import ClbenchError
from reference_trainer.checkpoint import Checkpoints, Stateful
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
    """A training as the loop sees it: `step(update)` makes one update and returns numbers for the log."""

    step: Callable[[int], dict[str, float]]
    sheet: Callable[[int], object]
    state: Mapping[str, Stateful]
    updates: int


def train(job: Job, folder: Path, key: str, habits: HabitsTable, resume: bool = True) -> Iterator[tuple[int, dict[str, float]]]:
    """Run `job` in `folder` to its end, yielding (update, logs) after each update.

    Started again by the same command it goes on from the newest checkpoint and ends with the same weights as an
    uninterrupted run. A non-finite loss stops it with a ClbenchError that names the last good checkpoint.
    """
    checkpoints = Checkpoints(folder / "checkpoints", key, habits.keep)
    if not resume:
        checkpoints.clear()
    start = checkpoints.resume(job.state)
    logbook = Logbook(folder, start, habits.tensorboard)
    try:
        if start == 0:
            job.sheet(0)
        for update in range(start, job.updates):
            began = time.perf_counter()
            logs = _guarded(job, update, checkpoints)
            logs["seconds"] = time.perf_counter() - began
            logbook.write(update, logs)
            done = update + 1
            if done % habits.checkpoint_every == 0 or done == job.updates:
                checkpoints.save(done, job.state)
            if done % habits.sheet_every == 0 or done == job.updates:
                job.sheet(done)
            yield update, logs
    finally:
        logbook.close()


def _guarded(job: Job, update: int, checkpoints: Checkpoints) -> dict[str, float]:
    try:
        return job.step(update)
    except NonFiniteError as error:
        good = checkpoints.newest()
        where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        raise ClbenchError(f"training stopped at update {update}: {error}; {where}") from error
