"""How fast pictures are scored: every per-case metric of a shipped suite in the tiny world, with processor time and memory.

    python tests/benchmarks/scoring.py [--cases 5000] [--suite bleeding] [--effects 8] [--systems 8] [--keep FOLDER] [--profile]

Runs are made first and are not part of the time: one for each made-up system, its pictures right answers as a model would
return them (some too weak, some of another effect), for the plain question, the probes and the neutral one. A case is one
picture of one system; right answers of (effect, source) are shared by the systems, as in a real run of the suite.
With --keep the pictures are used again.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import os
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from clbench import results  # noqa: E402
from clbench.calibration import to_tensor  # noqa: E402
from clbench.certificate import Named, describe_run  # noqa: E402
from clbench.metrics.nuisance import apply_nuisance  # noqa: E402
from clbench.neutral import neutral_edit  # noqa: E402
from clbench.registry import ClbenchError  # noqa: E402
from clbench.results import RunFolder  # noqa: E402
from clbench.score import Scorer  # noqa: E402
from clbench.suite import Suite, load_suite  # noqa: E402
from clbench.systems.controls import truth_draw  # noqa: E402
from clbench.types import NEUTRAL, Case, Edit, SystemCard, seed_from  # noqa: E402
from clbench.world import World, load_world  # noqa: E402

DRAW = 300
"""Draw of a random effect that the pictures show; the scorer compares with draws 0..7."""


def enlarged(world: World, name: str, effects: int, cases: int, systems: int) -> Suite:
    """The shipped suite with as many sources as `cases` pictures of `systems` systems need, and the first `effects` effects."""
    suite = load_suite(name)
    chosen = tuple(suite.effects(world))[:effects]
    if len(chosen) < effects:
        chosen += tuple(effect for effect in world.effects if effect not in chosen)[: effects - len(chosen)]
    ratio = suite.table.sources / (suite.table.probe_sources or suite.table.sources)
    for sources in range(1, len(world.sources) + 1):
        table = suite.table.model_copy(
            update={"effects": chosen, "sources": sources, "probe_sources": max(1, round(sources / ratio))}
        )
        found = Suite(suite.file, table)
        if len(found.cases(world)) * systems >= cases:
            return found
    raise ClbenchError(f"world {world.name} has too few sources for {cases} cases of {effects} effects and {systems} systems")


def made_up(out: Path, world: World, suite: Suite, systems: int) -> list[RunFolder]:
    """The runs in `out`, made now unless they are there."""
    names = ["base", *(f"system-{number}" for number in range(1, systems))]
    if not all((out / name / "run.json").is_file() for name in names):
        results.os.fsync = lambda _: None  # made-up runs need not survive a power cut
        write_runs(out, world, suite, names)
    return [RunFolder.open(out / name) for name in names]


def write_runs(out: Path, world: World, suite: Suite, names: Sequence[str]) -> None:
    cases = suite.cases(world)
    about = Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash)
    runs = [
        RunFolder.create(out / name, describe_run(*about, SystemCard(name, "made-up"), [0], "cpu", "float32", len(cases)))
        for name in names
    ]
    right: dict[tuple[str, str], np.ndarray] = {}
    for case in cases:
        for run, picture in zip(runs, pictures(world, suite, case, right, names), strict=True):
            run.append_edit(Edit(case, picture, seconds=0.1))
    for run in runs:
        run.finish()


def pictures(
    world: World, suite: Suite, case: Case, right: dict[tuple[str, str], np.ndarray], names: Sequence[str]
) -> Iterator[np.ndarray]:
    """What each system made of `case`: its right answer, or a mixture with the source or with another effect, plus nuisance."""
    effects = suite.effects(world)
    other = effects[(effects.index(case.effect) + 1) % len(effects)]
    source, wrong = world.source_image(case.source, world.resolution), truth_of(world, other, case.source, right)
    answer = neutral_edit(world, case).target if case.probe == NEUTRAL else truth_of(world, case.effect, case.source, right)
    answer = source if answer is None else answer
    for name in names:
        rng = np.random.default_rng(seed_from("made-up", name, case.id))
        mixed, share = (wrong, source, answer)[int(rng.integers(3))], rng.uniform(0, 0.6)
        image = to_tensor([answer]) * (1 - share) + to_tensor([mixed]) * share
        shown = apply_nuisance(image, [int(rng.integers(2**31))])[0]
        yield (shown * 255).round().byte().permute(1, 2, 0).numpy()


def truth_of(world: World, effect: str, source: str, right: dict[tuple[str, str], np.ndarray]) -> np.ndarray:
    if (effect, source) not in right:
        right[effect, source] = truth_draw(world, effect, source, DRAW)
    return right[effect, source]


def processor_seconds() -> float:
    """Of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(runs: list[RunFolder], world: World, suite: Suite, profile: bool) -> None:
    """Score once; print rates, processor time and memory, and what took longest if asked."""
    profiler = cProfile.Profile()
    marks = [(time.perf_counter(), processor_seconds())]
    scorer = Scorer(world, suite, base=runs[0])
    _ = scorer.meter
    marks.append((time.perf_counter(), processor_seconds()))
    if profile:
        profiler.enable()
    scorer.score(runs)
    profiler.disable()
    marks.append((time.perf_counter(), processor_seconds()))
    cases = sum(len(run.read_edits()) for run in runs)
    (opened, opened_busy), (scored, busy) = (
        (after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)
    )
    own, children = (resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{cases} cases, {len(runs)} systems, {len(suite.effects(world))} effects, {len(suite.sources(world))} sources")
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load {os.getloadavg()[0]:.1f}")
    print(f"opening and calibration: {opened:.1f} s, {opened_busy:.1f} s of processor time")
    print(f"scoring: {scored:.1f} s = {cases / scored:.0f} cases/s")
    print(f"         {busy:.1f} s of processor time = {cases / busy:.0f} cases for each second of one core")
    print(f"peak memory {own:.0f} MB, of the largest worker process {children:.0f} MB")
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--suite", default="bleeding")
    parser.add_argument("--effects", type=int, default=8)
    parser.add_argument("--systems", type=int, default=8)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    world = load_world("tiny")
    suite = enlarged(world, asked.suite, asked.effects, asked.cases, asked.systems)
    with tempfile.TemporaryDirectory() as scratch:
        runs = made_up(asked.keep or Path(scratch), world, suite, asked.systems)
        measure(runs, world, suite, asked.profile)


if __name__ == "__main__":
    main()
