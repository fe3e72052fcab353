"""The first of the two programs: cases -> run folder. The loop stays small; systems do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clbench.images import hash_pixels
from clbench.lock import hold
from clbench.probes import TRIGGER
from clbench.provenance import git_state
from clbench.registry import ClbenchError
from clbench.results import EditRecord, Named, RunFolder, RunInfo, describe_run
from clbench.sources import group_of
from clbench.suite import Suite
from clbench.systems import BY_BACKBONE, Bench
from clbench.types import OTHER_TRIGGER, Case, Checking, Edit, System
from clbench.world import World


@dataclass(frozen=True, slots=True)
class Asked:
    """What one `edit` was asked for beyond the files: a part of the suite, and what to do with old work."""

    effects: Sequence[str] = ()
    limit: int | None = None
    overwrite: bool = False
    retry_failed: bool = False


def checked_cases(world: World, suite: Suite, system: System, asked: Asked) -> list[Case]:
    """The cases asked of a system. ClbenchError if a picture that they need cannot be read; nothing is written."""
    cases = suite.cases(world, asked.effects, asked.limit)
    for source_id in sorted({case.source for case in cases}):
        world.source_image(source_id)  # an unreadable picture is said now, not after an hour of sampling
    if isinstance(system, Checking):
        system.check(cases)
    return cases


def prepare(
    world: World, suite: Suite, system: System, cases: Sequence[Case], out: Path, asked: Asked
) -> tuple[RunFolder, list[Case]]:
    """The run folder (new, or taken up again) and those of `cases` that are still to do.

    Raises ClbenchError if the folder cannot be written or holds a run of another cache key.
    """
    info = certificate(world, suite, system, len(cases))
    folder = RunFolder.create(out / system.card.name, info, asked.overwrite)
    return folder, folder.pending(cases, asked.retry_failed)


def certificate(world: World, suite: Suite, system: System, n_cases: int) -> RunInfo:
    """Where the pictures will come from: world, suite, card, versions, device and dtype."""
    device, dtype = "cpu", "uint8"
    if system.card.kind in BY_BACKBONE or system.card.name in BY_BACKBONE:
        from clbench.backbones.common import pick_device

        device, dtype = pick_device(world.backbone.device), world.backbone.arithmetic
    return describe_run(
        Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash), system.card,
        suite.seeds, device, dtype, n_cases, among=_among(world, suite, system), world_parts=world.hash_parts,
    )  # fmt: skip


def _among(world: World, suite: Suite, system: System) -> list[str]:
    """`RunInfo.among` of a run of `system`: with another teacher in the world, an effect's neighbour may be another one."""
    exchanged = OTHER_TRIGGER in suite.table.probes and suite.table.effects == "taught"
    return suite.effects(world) if exchanged and getattr(system, "style", None) == TRIGGER else []


def run(
    folder: RunFolder, system: System, pending: Sequence[Case], seen: Callable[[Edit], None]
) -> RunFolder:
    """Make every pending edit, keep each at once, and mark the run complete.

    `seen` is called after each edit (progress). Stopped at any moment, the folder can be taken up again.
    """
    for edit in system.edit(pending):
        folder.append_edit(edit)
        seen(edit)
    folder.finish()
    return folder


def siblings(out: Path) -> list[Path]:
    """The folders next to `out`, sorted: where runs of other suites may lie. Empty where nobody may look."""
    try:
        return sorted(folder for folder in out.resolve().parent.iterdir() if folder.is_dir() and folder != out.resolve())
    except OSError:
        return []


Alike = Callable[[RunInfo, RunInfo], bool]
"""Whether the second run's pictures can stand in the first one."""


def borrow(
    folder: RunFolder, pending: Sequence[Case], beside: Sequence[Path],
    taken: Callable[[Path, int], None] = lambda *_: None, alike: Alike | None = None,
) -> list[Case]:  # fmt: skip
    """Take over finished pictures of `pending` from runs of the same system in `beside`; returns the cases still to do.

    Only a run that is `alike` counts (None: `same_but_suite`). Only plain questions about the world's own sources are taken
    over: the rest depends on the suite. Another process may be writing to such a run or emptying it, so nothing is waited
    for, and what cannot be read, or is not what its line says, is left.
    `taken` is called with each run that gave pictures and their number.
    """
    left = list(pending)
    for other in beside:
        if not left:
            break
        run, records = _readable(other / folder.path.name, folder.info, alike or same_but_suite)
        given = set()  # not what is pending now: a failed edit to be tried again would pass for done
        for case in left:
            record = records.get(case.id)
            plain = not case.probe and not case.second and not group_of(case.source)
            picture = _whole_picture(run, record) if run and record and plain else None
            if record is not None and picture is not None:
                folder.append_edit(Edit(case, picture, record.sha256, record.nfe, record.seconds, record.memory))
                given.add(case)
        left = [case for case in left if case not in given]
        if given:
            taken(other / folder.path.name, len(given))
    return left


def _readable(path: Path, info: RunInfo, alike: Alike) -> tuple[RunFolder | None, dict[str, EditRecord]]:
    """The run at `path` with its finished edits; None if there is none that is alike and can be read."""
    try:
        if (path / "run.json").is_file() and alike(info, (run := RunFolder.open(path)).info):
            return run, run.read_edits()
    except (ClbenchError, OSError):  # somebody else's folder
        pass
    return None, {}


def _whole_picture(run: RunFolder, record: EditRecord) -> np.ndarray | None:
    """The picture of a finished edit; None if it is not there or not the one that its line tells of."""
    if record.status != "ok":
        return None
    try:
        picture = run.read_picture(record)
    except ClbenchError:
        return None
    return picture if hash_pixels(picture) == record.sha256 else None


def same_but_suite(one: RunInfo, other: RunInfo) -> bool:
    """Whether two runs would make the same picture of the same case: world, card, versions, device and dtype are the same."""
    parts = ("world", "system", "versions", "device", "dtype")
    return all(getattr(one, part) == getattr(other, part) for part in parts)


def same_but_suite_and_code(one: RunInfo, other: RunInfo) -> bool:
    """Whether `other` is a run of another suite that this very clbench made, so far as git knows.

    A run of the same suite elsewhere is a repetition, and one by other code is there to be compared with.
    """
    if one.suite.hash == other.suite.hash or not same_but_suite(one, other):
        return False
    code = git_state()
    return not code["dirty"] and other.git.model_dump() == code


def edit(world: World, suite: Suite, system: System, out: Path, asked: Asked | None = None) -> RunFolder:
    """All of it in one call, silently; what a script or a test uses."""
    asked = asked or Asked()
    cases = checked_cases(world, suite, system, asked)
    with hold(out / system.card.name):
        folder, pending = prepare(world, suite, system, cases, out, asked)
        return run(folder, system, pending, lambda _: None)


def bench_for(
    world: World, suite: Suite, images: Path | None = None, strict: bool = False, skip_bad: bool = False
) -> Bench:
    """What the suite's systems are opened with; the effects are the suite's, whatever part is asked for."""
    return Bench(world, suite.effects(world), images, strict, skip_bad)
