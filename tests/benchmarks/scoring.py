"""How fast pictures are scored: every per-case metric of a shipped suite in the tiny world, with processor time and memory.

    python tests/benchmarks/scoring.py [--cases 5000] [--suite bleeding] [--effects 8] [--workers 2] [--keep FOLDER] [--profile]
        [--memory]

Runs are made first and are not part of the time: those of the suite's systems and controls. Controls make the pictures that
they always make; systems, which need adapters, are made up: right answers as a model would return them, some too weak, some
mixed with another effect. A case is one picture of one system; what is known of a source is shared by all systems, as in
every run of the suite. With --keep the pictures are used again. --profile looks at one worker, in this process. --memory
looks twice a second at what all processes hold, which takes time of its own: rates are then too low.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

sys.path[:0] = [str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
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
from clbench.systems.controls import TRUTH_DRAW, truth_draw  # noqa: E402
from clbench.types import NEUTRAL, Case, Edit, SystemCard, seed_from  # noqa: E402
from clbench.world import World, load_world  # noqa: E402


def enlarged(world: World, name: str, effects: int, cases: int) -> Suite:
    """The shipped suite with the first `effects` effects and so many sources that its runs hold `cases` pictures."""
    suite = load_suite(name)
    chosen = suite.effects(world)[:effects]
    chosen += [effect for effect in world.effects if effect not in chosen][: effects - len(chosen)]
    ratio = suite.table.sources / (suite.table.probe_sources or suite.table.sources)
    for sources in range(1, len(world.sources) + 1):
        probed = max(1, round(sources / ratio))
        update = {"effects": tuple(chosen), "sources": sources, "probe_sources": probed}
        found = Suite(suite.file, suite.table.model_copy(update=update))
        if sum(len(asked_of(system, found.cases(world))) for system in systems_of(found)) >= cases:
            return found
    raise ClbenchError(f"world {world.name} has too few sources for {cases} cases of {effects} effects")


def systems_of(suite: Suite) -> list[str]:
    return [*suite.systems, *suite.controls]


def asked_of(system: str, cases: Sequence[Case]) -> list[Case]:
    """Those of `cases` that a system of this kind answers: controls see no prompt, teachers no trigger."""
    neutral = {"truth", "identity", "reseed", "base", "teacher", "cascade"}
    kinds = {"reseed": {NEUTRAL}, "collection": {case.probe for case in cases}}
    wanted = kinds.get(system, {"", NEUTRAL} if system in neutral else {""})
    return [case for case in cases if case.probe in wanted]


def made_up(out: Path, world: World, suite: Suite) -> list[RunFolder]:
    """The runs in `out`, made now unless they are there."""
    names = systems_of(suite)
    if not all((out / name / "run.json").is_file() for name in names):
        results.os.fsync = lambda _: None  # made-up runs need not survive a power cut
        for name in names:
            write_run(out / name, name, world, suite)
    return [RunFolder.open(out / name) for name in names]


def write_run(path: Path, name: str, world: World, suite: Suite) -> None:
    cases = asked_of(name, suite.cases(world))
    about = Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash)
    run = RunFolder.create(path, describe_run(*about, SystemCard(name, "made-up"), [0], "cpu", "float32", len(cases)))
    for case in cases:
        run.append_edit(Edit(case, picture(world, suite, name, case), seconds=0.1))
    run.finish()


def picture(world: World, suite: Suite, name: str, case: Case) -> np.ndarray:
    """What a control makes of `case`; of other systems a right answer mixed with something else, as a model would return it."""
    effects = suite.effects(world)
    source, wrong = world.source_image(case.source, world.resolution), effects[(effects.index(case.effect) + 1) % len(effects)]
    right, other = (truth_draw(world, effect, case.source, TRUTH_DRAW) for effect in (case.effect, wrong))
    target = neutral_edit(world, case).target if case.probe == NEUTRAL else right
    answer = source if target is None else target
    if name in ("truth", "identity"):
        return answer if name == "truth" else source
    if name == "wrong-effect":
        return other
    rng = np.random.default_rng(seed_from("made-up", name, case.id))
    mixed, share = (other, source, answer)[int(rng.integers(3))], rng.uniform(0, 0.6) * (name not in ("noise-floor", "reseed"))
    image = to_tensor([answer]) * (1 - share) + to_tensor([mixed]) * share
    shown = apply_nuisance(image, [int(rng.integers(2**31))])[0]
    return (shown * 255).round().byte().permute(1, 2, 0).numpy()


def processor_seconds() -> float:
    """Of all threads of this process and of the copies that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Memory:
    """The most that this process and its copies held at once, in MB of 10^6 bytes; what they share counts once."""

    def __init__(self) -> None:
        self.most, self._over = held(), Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> float:
        self._over.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, held())


def held() -> float:
    """By this process and its copies now, in MB of 10^6 bytes."""
    total, own = 0, psutil.Process()
    for process in (own, *own.children()):
        with suppress(psutil.Error):  # a copy may just have ended
            total += process.memory_full_info().pss
    return total / 1e6


def measure(runs: list[RunFolder], world: World, suite: Suite, workers: int, profile: bool, memory: bool) -> None:
    """Score once; print rates, processor time and memory, and what took longest if asked."""
    profiler = cProfile.Profile()
    marks = [(time.perf_counter(), processor_seconds())]
    scorer = Scorer(world, suite, base=next(run for run in runs if run.info.system_name == "base"))
    _ = scorer.meter
    import_module("pandas")  # which writes the tables; its import is no part of scoring
    marks.append((time.perf_counter(), processor_seconds()))
    torch.set_num_threads(workers)
    watch = Memory() if memory else None
    if profile:
        profiler.enable()
    scorer.score(runs)
    profiler.disable()
    marks.append((time.perf_counter(), processor_seconds()))
    cases = sum(len(run.read_edits()) for run in runs)
    (opened, opened_busy), (scored, busy) = (
        (after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)
    )
    print(f"{cases} cases, {len(runs)} systems, {len(suite.effects(world))} effects, {len(suite.sources(world))} sources")
    print(f"{os.cpu_count()} cores, {workers} workers, load {os.getloadavg()[0]:.1f}")
    print(f"opening and calibration: {opened:.1f} s, {opened_busy:.1f} s of processor time")
    print(f"scoring: {scored:.1f} s = {cases / scored:.0f} cases/s")
    print(f"         {busy:.1f} s of processor time = {cases / busy:.0f} cases for each second of one core")
    if watch:
        print(f"at most {watch.end():.0f} MB held at once")
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--suite", default="bleeding")
    parser.add_argument("--effects", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    world = load_world("tiny")
    suite = enlarged(world, asked.suite, asked.effects, asked.cases)
    with tempfile.TemporaryDirectory() as scratch:
        runs = made_up(asked.keep or Path(scratch), world, suite)
        measure(runs, world, suite, 1 if asked.profile else asked.workers, asked.profile, asked.memory)


if __name__ == "__main__":
    main()
