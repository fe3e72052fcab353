"""What a report takes from the world and the suite: words, truth pictures, bytes of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clbench.adapters import describe_adapter
from clbench.cost.answer import answer
from clbench.cost.options import Options
from clbench.hashing import file_digest
from clbench.memory.record import FILE, read_memory
from clbench.provenance import portable_sentence
from clbench.registry import ClbenchError
from clbench.report.again import again, command
from clbench.report.data import ReportInput
from clbench.report.deployment import Deployment
from clbench.report.reference import reference_of
from clbench.results import RunFolder, require_named
from clbench.scene_parts import scene_parts
from clbench.suite import Suite, load_suite, require_shipped
from clbench.systems import ACCELERATED
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
    world = load_world(world_name or require_shipped("world", first.world.name))
    suite = load_suite(suite_name or require_shipped("suite", first.suite.name))
    require_named(runs, world.name)
    asked, names = suite.effects(world), full_names(world)
    ordered = sorted(runs, key=lambda run: run.info.created)
    typed = {names.get(run.info.system_name, run.info.system_name): run.info.command for run in ordered}
    kind_of = {effect: kind for effect in asked if (kind := world.truth_kind(effect)) is not None}
    kinds = sorted({*kind_of.values()})
    lack = world.lack("accelerator")
    reference = reference_of(suite.name, _systems(runs), "teacher" in kinds, lack.why if lack is not None else "")
    return ReportInput(
        world_name=world.name,
        world_hash=world.hash,
        suite_name=suite.name,
        suite_hash=suite.hash,
        question=suite.question,
        effects=world.effects,
        truth_kind=", ".join(KINDS[kind] for kind in kinds) or "none",
        again=again(typed, suite_name or suite.name, world_name or world.name, out, _usual(suite, world)),
        truth_picture=_truth(world, runs),
        source_picture=lambda source: world.source_image(source, world.resolution),
        reference=reference.system,
        reference_words=reference.words,
        left_out=_left_out(suite, world, runs, out),
        adapter_bytes=adapter_bytes(world, suite, asked),
        asked=asked,
        scenes=scene_parts(world, _asked_sources(runs) if suite.table.groups else ()),
        names=names,
        ranks=ranks(world, runs),
        world_parts=world.hash_parts,
        by_teacher=frozenset(effect for effect, kind in kind_of.items() if kind == "teacher"),
    )


def _systems(runs: Sequence[RunFolder]) -> list[str]:
    """The names of those that are no controls."""
    return [run.info.system_name for run in runs if run.info.system.card["kind"] != "control"]


def _left_out(suite: Suite, world: World, runs: Sequence[RunFolder], out: Path) -> str:
    """What the suite asks for, this world cannot run today and no run is there of, with the reasons; "" where that is nothing, or
    cannot be told (a file that is named is gone).
    """
    ran = {run.info.system_name for run in runs}
    try:
        found = suite.idle(world)
    except ClbenchError:
        return ""
    absent = [replace(one, names=names) for one in found if (names := tuple(name for name in one.names if name not in ran))]
    return portable_sentence("; ".join(one.short for one in absent), out)


def _usual(suite: Suite, world: World) -> list[str]:
    """The systems that the suite asks of this world today; none where it could not be asked (a candidate's file is gone)."""
    try:
        return [*suite.systems_in(world), *suite.controls_in(world)]
    except ClbenchError:
        return []


def _asked_sources(runs: Sequence[RunFolder]) -> list[str]:
    """The sources that the runs hold, which may be fewer than the suite's (`--limit`)."""
    return sorted({record.case.source for run in runs for record in run.read_edits().values()})


def deployment(folder: Path, world_name: str | None) -> Deployment:
    """What the memory.json in `folder` says, and the cost of the same world and of the published base by configuration.

    ClbenchError if it was measured in another world than the one of that name now is.
    """
    found = read_memory(folder)
    world = load_world(world_name or require_shipped("world", found.world.name))
    if found.world.hash != world.hash:
        raise ClbenchError(
            f"{folder / FILE} was measured in world '{found.world.name}' ({found.world.hash[:8]}), not in '{world.name}' as it "
            f"is now ({world.hash[:8]}); measure it again with `clbench eval --overwrite` or remove it"
        )
    costs = [(f"The pool of world {world.name}", answer(Options(world=str(world.file))))] if world.taught else []
    published = answer(Options())
    costs.append((f"{published.deployment.effects} effects on {published.base.name}", published))
    return Deployment(found, command(found.command, found.suite.name, world_name or world.name, folder), costs)


def _truth(world: World, runs: Sequence[RunFolder]):
    """Draw 0 of the truth; where the teacher is the truth, its own picture if there is a run of it."""
    teachers = [(run, run.read_edits()) for run in runs if run.info.system_name == "teacher"]
    full = (world.backbone.full_steps, None)

    def truth_picture(case: Case) -> np.ndarray | None:
        kind = world.truth_kind(case.effect)
        if kind in ("operator", "reference"):
            from clbench.systems.controls import known_answer

            return known_answer(world, case)
        for run, records in teachers if kind == "teacher" and case.question == "effect" else ():
            for steps in full:  # as scores do: the plain question at full steps, whatever this case asks
                record = records.get(replace(case, steps=steps, probe="").id)
                if record is not None and record.status == "ok":
                    return run.read_picture(record)
        return None

    return truth_picture


def adapter_bytes(world: World, suite: Suite, effects: Sequence[str]) -> dict[str, int]:
    """Bytes of the adapter files that each system needs to serve all effects of the suite.

    A system whose files are not (all) there has no entry: it was not run, or only long ago.
    """
    files = [path for effect in effects if (path := world.teacher_path(effect)) is not None]
    teachers = sum(path.stat().st_size for path in files)
    table = world.table
    fast = 0 if table.accelerator is None else _size(world, table.accelerator.file)
    joint = 0 if table.joint is None else _size(world, table.joint.file)
    stored = {
        "teacher": teachers, "teacher-few": teachers, "cascade": teachers + fast if teachers and fast else 0,
        "joint": joint, "joint+accelerator": joint + fast if joint and fast else 0,
    }  # fmt: skip
    stored |= {f"collection-{candidate.name}": _size(world, candidate.file) for candidate in table.candidates}
    if table.candidates:
        stored["collection"] = stored[f"collection-{table.candidates[0].name}"]
    merged = [name for name in (suite.merged_in(world) if teachers else ()) if fast or not name.endswith(ACCELERATED)]
    return {name: size for name, size in stored.items() if size} | stored_bytes(world, effects, merged)


def full_names(world: World) -> dict[str, str]:
    """How reports call ``collection``, which is the first of a world's candidates, where it has several; else nothing."""
    names = [candidate.name for candidate in world.table.candidates]
    return {"collection": f"collection ({names[0]})"} if len(names) > 1 and names[0] != "collection" else {}


def ranks(world: World, runs: Sequence[RunFolder]) -> dict[str, int]:
    """The rank of each collection's adapter, by the header of its file; left out where the file is gone, or another by now."""
    found = {}
    for run in runs:
        kind, _, name = run.info.system_name.partition("-")
        table = next((one for one in world.table.candidates if kind == "collection" and name in ("", one.name)), None)
        path = None if table is None else world.path(table.file)
        if path is not None and path.is_file() and file_digest(path) in run.info.system.card["adapters"].values():
            found[run.info.system_name] = describe_adapter(path).rank
    return found


def _size(world: World, file: str) -> int:
    """Bytes of a file that the world names; 0 where it is not there."""
    path = world.path(file)
    return path.stat().st_size if path.is_file() else 0
