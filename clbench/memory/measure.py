"""Points -> processes -> memory.json. A stopped run is finished by the same command; a point is kept once all its
repeats are there. One of which a process failed is tried again by the same command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from clbench import provenance
from clbench.adapters import adapter_digest
from clbench.backbones import backbone_folder
from clbench.certificate import GitInfo, Named
from clbench.cost.traffic import draw_queries, popularity
from clbench.cost.units import binary
from clbench.cost.worlds import predict, world_base
from clbench.memory.disk import require_room
from clbench.memory.fit import fit
from clbench.memory.plan import to_do, wanted_points, who_counts
from clbench.memory.points import BESIDE, Point
from clbench.memory.pool import Files, files_of
from clbench.memory.probe import Request
from clbench.memory.record import FILE, MEMORY_SCHEMA, MemoryFile, read_memory, write_memory
from clbench.memory.rows import Answer, rows_of
from clbench.memory.suite import MemorySuite
from clbench.notices import say
from clbench.registry import ClbenchError
from clbench.results import check_writable
from clbench.types import seed_from
from clbench.world import World

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
POOL = ".pool-"
"""Start of the name of the folder, inside the results, that holds copies while they are needed."""


def measure(
    world: World, suite: MemorySuite, out: Path, seen: Callable[[str, int, int], None], overwrite: bool = False
) -> MemoryFile:
    """Measure every point of the suite that `out` lacks and return the whole file.

    `seen(words, done, total)` counts processes. ClbenchError if the folder holds measurements of another world,
    suite or machine set-up, if the world has no adapter to measure or lacks one that it names, or the disk of `out` has no room
    for the files.
    """
    found = _begin(world, suite, out, overwrite)
    wanted = wanted_points(world, suite)
    todo = to_do(found, wanted)
    if needed := require_room(todo, world, out):
        say(f"copies of teachers and merged files take up to {binary(needed)} of disk in {out} while points are measured")
    total, done = len(wanted) * suite.repeats, (len(wanted) - len(todo)) * suite.repeats
    base, dtype = world_base(world), world.backbone.dtype
    with tempfile.TemporaryDirectory(dir=out, prefix=POOL) as folder:
        for point in todo:
            files = files_of(point, world, Path(folder))
            request = _request(world, point, files, suite)
            answers: list[Answer] = []
            for _ in range(suite.repeats):
                seen(point.id, done, total)
                answers.append(run_probe(request))
                _take_setting(found, answers[-1], out)
                done += 1
            sizes = [predict(path.stem, path, base, dtype) for path in files.all]
            rows = [row for row in found.rows if row.point != point] + rows_of(point, sizes, request, answers, found)
            found.rows = sorted((row for row in rows if row.point in wanted), key=lambda row: wanted.index(row.point))
            write_memory(found, out)
            files.drop_spent()
    found.status = "running" if found.failed() else "complete"
    write_memory(found, out)
    seen("done", total, total)
    return found


def foresee(world: World, suite: MemorySuite, out: Path, overwrite: bool = False) -> None:
    """ClbenchError for what `measure` would refuse before its first point, as far as the world and the disk are concerned."""
    found = describe(world, suite)
    if not overwrite and (out / FILE).exists():
        found = read_memory(out)
    require_room(to_do(found, wanted_points(world, suite)), world, out)


def run_probe(request: Request) -> Answer:
    """One process; its reading as a dict, or ``{"failed": reason}``."""
    asked = json.dumps(asdict(replace(request, started=time.time())))
    where = os.pathsep.join([str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "clbench.memory.probe"], input=asked, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": where}, check=False,
    )  # fmt: skip
    if done.returncode < 0:
        return {"failed": f"the process was ended by signal {-done.returncode}; it may have run out of memory"}
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout)


def _request(world: World, point: Point, files: Files, suite: MemorySuite) -> Request:
    rng = np.random.default_rng(seed_from("queries", point.id))
    sequence = draw_queries(popularity(point.parts), suite.queries, rng).tolist() if point.parts else []
    steps = world.backbone.full_steps if files.full else files.steps or world.backbone.few_steps
    return Request(
        str(world.file), [str(path) for path in files.parts], [str(path) for path in files.fixed], files.part_weight,
        files.fixed_weight, point.slots, point.policy == "ram", sequence, steps, files.full,
    )  # fmt: skip


def _take_setting(found: MemoryFile, answer: Answer, out: Path) -> None:
    """Device, threads and kind of meter, as the first process that worked says; ClbenchError if a later one works otherwise."""
    if "failed" in answer:
        return
    if not found.device:
        found.device, found.threads, found.peak_by = answer["device"], answer["threads"], answer["peak_by"]
    if (answer["device"], answer["threads"]) != (found.device, found.threads):
        raise ClbenchError(
            f"{out / FILE} was measured on {_place(found.device, found.threads)}, and this process works on "
            f"{_place(answer['device'], answer['threads'])}; give it the same (OMP_NUM_THREADS), choose another --out, or "
            "add --overwrite"
        )


def _place(device: str, threads: int) -> str:
    return f"{device} with {threads} thread{'' if threads == 1 else 's'}"


def _begin(world: World, suite: MemorySuite, out: Path, overwrite: bool) -> MemoryFile:
    """The file to go on with, or a new one; every adapter that will be needed is looked for now."""
    check_writable(out)
    for left in out.glob(f"{POOL}*"):  # a killed run leaves its copies, which may be large
        shutil.rmtree(left)
    new = describe(world, suite)
    if overwrite:
        (out / FILE).unlink(missing_ok=True)
    if not (out / FILE).exists():
        return new
    held = read_memory(out)
    if held.key != new.key:
        raise ClbenchError(
            f"{out / FILE} was measured with another world, suite, adapter or package version; choose another --out, or "
            "add --overwrite"
        )
    now = {name: getattr(new, name) for name in ("holds", "left_out", "alone")}
    return held.model_copy(update={**now, "schema_": MEMORY_SCHEMA})


def describe(world: World, suite: MemorySuite) -> MemoryFile:
    """An empty file with the certificate of this run.

    ClbenchError where the world has nothing of what the suite measures, for a backbone that is not whole, and for an adapter that
    is named and not there, or whose bytes cannot be foretold: of another base or of mixed dtypes.
    """
    files = {effect: path for effect in world.taught if (path := world.teacher_path(effect)) is not None}
    asked = fit(world, suite)
    if {*asked.systems} & {*BESIDE} and not asked.alone:
        files["accelerator"] = world.accelerator().path
    if "collection" in asked.systems:
        files["collection"] = world.candidate().path
    backbone_folder(world)  # measuring needs its weights too, of which the config says nothing
    base = world_base(world)
    for name, path in files.items():
        predict(name, path, base, world.backbone.dtype)
    adapters = {name: adapter_digest(path) for name, path in files.items()} | _set_otherwise(world, files)
    return MemoryFile(
        schema=MEMORY_SCHEMA, world=Named(name=world.name, hash=world.hash), suite=Named(name=suite.name, hash=suite.hash),
        question=suite.question, adapters=provenance.hash_value(adapters), teachers=len(world.taught),
        repeats=suite.repeats, queries=suite.queries, git=GitInfo(**provenance.git_state()),
        versions=provenance.package_versions(), platform=provenance.platform_facts(), command=provenance.command_line(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"), dtype=world.backbone.precision,
        holds=who_counts(world, suite), left_out="; ".join(one.short for one in asked.left_out),
        alone=asked.alone.short if asked.alone else "",
    )  # fmt: skip


def _set_otherwise(world: World, files: Mapping[str, Path]) -> dict[str, str]:
    """Weights and steps of the measured adapters that are not the usual ones; the world's hash does not cover them."""
    few = {"accelerator": world.accelerator, "collection": world.candidate}
    entries = {name: entry() for name, entry in few.items() if name in files}
    found = {f"{name} weight": entry.weight for name, entry in entries.items() if entry.weight != 1.0}
    usual = (None, world.backbone.few_steps)
    found |= {f"{name} steps": entry.steps for name, entry in entries.items() if entry.steps not in usual}
    if "accelerator" in files and world.teacher_weight != 1.0:
        found["teacher weight"] = world.teacher_weight
    return {name: str(value) for name, value in found.items()}
