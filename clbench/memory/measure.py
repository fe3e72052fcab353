"""Points -> processes -> memory.json. A stopped run is finished by the same command; a point is kept once all its
repeats are there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from clbench import provenance
from clbench.adapters import adapter_digest
from clbench.backbones import backbone_folder
from clbench.certificate import GitInfo, Named
from clbench.cost.traffic import draw_queries, popularity
from clbench.cost.worlds import AdapterPrediction, predict, world_base
from clbench.memory.points import BASE, QUANTITIES, Point, points
from clbench.memory.pool import Files, files_of
from clbench.memory.predict import Ground, predict_point
from clbench.memory.probe import Request
from clbench.memory.record import FILE, MEMORY_SCHEMA, Measurement, MemoryFile, measurement, read_memory, write_memory
from clbench.memory.suite import MemorySuite
from clbench.registry import ClbenchError
from clbench.results import check_writable
from clbench.types import seed_from
from clbench.world import World

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
DIRECT = (
    "factor_bytes", "resident_bytes", "peak_bytes", "open_seconds", "load_seconds", "first_picture_seconds", "edit_seconds",
)  # fmt: skip
"""Quantities that a reading holds as they are."""
POOL = ".pool-"
"""Start of the name of the folder, inside the results, that holds copies while they are needed."""
Answer = dict[str, Any]


def measure(
    world: World, suite: MemorySuite, out: Path, seen: Callable[[str, int, int], None], overwrite: bool = False
) -> MemoryFile:
    """Measure every point of the suite that `out` lacks and return the whole file.

    `seen(words, done, total)` counts processes. ClbenchError if the folder holds measurements of another world,
    suite or machine set-up, or if the world lacks an adapter that a system needs.
    """
    found = _begin(world, suite, out, overwrite)
    wanted = points(suite)
    todo = [point for point in wanted if point not in found.points()]
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
                done += 1
            _take_setting(found, answers)
            sizes = [predict(path.stem, path, base, dtype) for path in files.all]
            found.rows += rows_of(point, sizes, request, answers, found)
            write_memory(found, out)
    found.status = "complete"
    write_memory(found, out)
    seen("done", total, total)
    return found


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


def rows_of(
    point: Point, sizes: Sequence[AdapterPrediction], request: Request, answers: list[Answer], found: MemoryFile
) -> list[Measurement]:
    """Every quantity of a point, whose files have `sizes`; all but the bytes on disk are missing if a process failed."""
    parts, fixed = sizes[: len(request.parts)], sizes[len(request.parts) :]
    told = predict_point(point, parts, fixed, request.sequence, _ground(point, found), found.device.startswith("cuda"))
    stored = {"disk_bytes": [one.file for one in sizes], "tensor_bytes": [one.stored for one in sizes]}
    rows = [measurement(point, name, [sum(values)], told.get(name)) for name, values in stored.items()]
    failures = [answer["failed"] for answer in answers if "failed" in answer]
    for name in QUANTITIES:
        if name in stored:
            continue
        values, reason = ([], failures[0]) if failures else _values(name, point, answers)
        rows.append(measurement(point, name, values, told.get(name), reason, bool(failures)))
    return rows


def _values(name: str, point: Point, answers: list[Answer]) -> tuple[list[float], str]:
    """A value for each repeat, or none and the reason."""
    if name in DIRECT:
        return [float(answer[name]) for answer in answers], ""
    if point.parts == 0:
        return [], "the base has no adapter"
    if name in ("switch_seconds", "swap_seconds"):
        lists = [answer["switches" if name == "switch_seconds" else "swaps"] for answer in answers]
        if not all(lists):
            return [], _why_no_switch(name, point)
        return [float(np.median(seconds)) for seconds in lists], ""
    counted = [len(a["swaps"]) + (len(a["switches"]) if name == "switches_per_1000" else 0) for a in answers]
    return [1000 * count / answer["queries"] for count, answer in zip(counted, answers, strict=True)], ""


def _why_no_switch(name: str, point: Point) -> str:
    if point.parts == 1:
        return "one adapter: nothing to switch"
    if name == "swap_seconds" and not point.slots:
        return "everything is loaded"
    return "no such switch among the queries"


def _ground(point: Point, found: MemoryFile) -> Ground | None:
    held, peak = found.find(BASE, "resident_bytes"), found.find(BASE, "peak_bytes")
    if point == BASE or held is None or peak is None or held.median is None or peak.median is None:
        return None
    return Ground(held.median, peak.median)


def _request(world: World, point: Point, files: Files, suite: MemorySuite) -> Request:
    rng = np.random.default_rng(seed_from("queries", point.id))
    sequence = draw_queries(popularity(point.parts), suite.queries, rng).tolist() if point.parts else []
    return Request(
        str(world.file), [str(path) for path in files.parts], [str(path) for path in files.fixed], files.part_weight,
        files.fixed_weight, point.slots, point.policy == "ram", sequence, files.steps or world.backbone.few_steps,
    )  # fmt: skip


def _take_setting(found: MemoryFile, answers: list[Answer]) -> None:
    """Device, threads and kind of meter, as the first process that worked says."""
    for answer in answers:
        if "failed" not in answer and not found.device:
            found.device, found.threads, found.peak_by = answer["device"], answer["threads"], answer["peak_by"]


def _begin(world: World, suite: MemorySuite, out: Path, overwrite: bool) -> MemoryFile:
    """The file to go on with, or a new one; every adapter that will be needed is looked for now."""
    check_writable(out)
    for left in out.glob(f"{POOL}*"):  # a killed run leaves its copies, which may be large
        shutil.rmtree(left)
    new = describe(world, suite)
    if overwrite or not (out / FILE).exists():
        return new
    held = read_memory(out)
    if held.key != new.key:
        raise ClbenchError(
            f"{out / FILE} was measured with another world, suite, adapter or package version; choose another --out or "
            "overwrite it"
        )
    return held


def describe(world: World, suite: MemorySuite) -> MemoryFile:
    """An empty file with the certificate of this run.

    ClbenchError for a backbone that is not whole, and for an adapter that is not there, or whose bytes cannot be foretold: of
    another base or of mixed dtypes.
    """
    files = {effect: path for effect in world.taught if (path := world.teacher_path(effect)) is not None}
    if set(suite.systems) - {"collection"}:
        if not files:
            raise ClbenchError(f"world {world.name} has no teacher adapter, so a pool cannot be measured")
        files["accelerator"] = world.accelerator().path
    if "collection" in suite.systems:
        files["collection"] = world.candidate().path
    backbone_folder(world)  # measuring needs its weights too, of which the config says nothing
    base = world_base(world)
    for name, path in files.items():
        predict(name, path, base, world.backbone.dtype)
    adapters = {name: adapter_digest(path) for name, path in files.items()}
    return MemoryFile(
        schema=MEMORY_SCHEMA, world=Named(name=world.name, hash=world.hash), suite=Named(name=suite.name, hash=suite.hash),
        question=suite.question, adapters=provenance.hash_value(adapters), teachers=len(world.taught),
        repeats=suite.repeats, queries=suite.queries, git=GitInfo(**provenance.git_state()),
        versions=provenance.package_versions(), platform=provenance.platform_facts(), command=provenance.command_line(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"), dtype=world.backbone.precision,
    )  # fmt: skip
