"""What a report takes from the world and the suite: words, truth pictures, bytes of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clbench.registry import ClbenchError
from clbench.report.data import ReportInput
from clbench.results import RunFolder
from clbench.suite import Suite, load_suite
from clbench.systems import MERGED
from clbench.systems.merged import stored_bytes
from clbench.types import Case
from clbench.world import World, load_world

KINDS = {
    "operator": "known operators",
    "reference": "reference pictures",
    "teacher": "the teacher at full steps",
}


def report_input(runs: Sequence[RunFolder], out: Path, world_name: str | None, suite_name: str | None) -> ReportInput:
    """Open the world and the suite of `runs`, by the given names or by those in the first run folder."""
    first = runs[0].info
    world = load_world(world_name or _shipped("world", first.world.name))
    suite = load_suite(suite_name or _shipped("suite", first.suite.name))
    asked = suite.effects(world)
    kinds = sorted({kind for effect in asked if (kind := world.truth_kind(effect)) is not None})
    options = f" --world {world_name}" if world_name else ""
    where = out.name if out.is_absolute() else out
    return ReportInput(
        world_name=world.name,
        world_hash=world.hash,
        suite_name=suite.name,
        suite_hash=suite.hash,
        question=suite.question,
        effects=world.effects,
        truth_kind=", ".join(KINDS[kind] for kind in kinds) or "none",
        command=f"clbench eval --suite {suite_name or suite.name}{options} --out {where}",
        truth_picture=_truth(world, runs),
        source_picture=lambda source: world.source_image(source, world.resolution),
        adapter_bytes=adapter_bytes(world, suite, asked),
    )


def _shipped(what: str, name: str) -> str:
    from clbench.suite import shipped_suites
    from clbench.world import shipped_worlds

    if name not in (shipped_worlds() if what == "world" else shipped_suites()):
        raise ClbenchError(f"the runs are of {what} '{name}', which is not a shipped one; name its file with --{what}")
    return name


def _truth(world: World, runs: Sequence[RunFolder]):
    """Draw 0 of the truth; where the teacher is the truth, its own picture if there is a run of it."""
    teachers = [(run, run.read_edits()) for run in runs if run.info.system_name == "teacher"]

    def truth_picture(case: Case) -> np.ndarray | None:
        kind = world.truth_kind(case.effect)
        if kind in ("operator", "reference"):
            from clbench.systems.controls import known_answer

            return known_answer(world, case)
        for run, records in teachers:
            record = records.get(case.id)
            if kind == "teacher" and record is not None and record.status == "ok":
                return run.read_picture(record)
        return None

    return truth_picture


def adapter_bytes(world: World, suite: Suite, effects: Sequence[str]) -> dict[str, int]:
    """Bytes of the adapter files that each system needs to serve all effects of the suite."""
    files = [path for effect in effects if (path := world.teacher_path(effect)) is not None]
    teachers = sum(path.stat().st_size for path in files)
    stored = {"teacher": teachers, "teacher-few": teachers} if teachers else {}
    if "cascade" in suite.systems:
        stored["cascade"] = teachers + world.accelerator().path.stat().st_size
    if world.table.joint is not None and world.path(world.table.joint.file).is_file():
        stored["joint"] = world.joint().path.stat().st_size
        if world.table.accelerator is not None:
            stored["joint+accelerator"] = stored["joint"] + world.accelerator().path.stat().st_size
    stored |= stored_bytes(world, effects, [name for name in suite.systems if name.startswith(MERGED)])
    for index, candidate in enumerate(world.table.candidates):
        size = world.candidate(candidate.name).path.stat().st_size
        stored[f"collection-{candidate.name}"] = size
        if index == 0:
            stored["collection"] = size
    return stored
