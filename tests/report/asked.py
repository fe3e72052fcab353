"""Made-up runs of suites that ask otherwise than plainly, every score planted by hand: 4 effects on a few sources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import synthetic

from clbench.certificate import GitInfo
from clbench.memory.points import BASE, QUANTITIES, Point
from clbench.memory.record import MemoryFile, measurement
from clbench.results import Named, RunFolder
from clbench.set_table import SetRow, write_sets
from clbench.types import Case, Edit, Score

NAMES = synthetic.NAMES[:4]
EFFECTS = [f"effect_{index}" for index in range(len(NAMES))]
NEXT = dict(zip(EFFECTS, [*EFFECTS[1:], EFFECTS[0]], strict=True))
SOURCES = ["source_00", "source_01", "source_02"]
GROUPED = [f"{group}-00{index}" for group in ("seen", "photographs") for index in range(2)]
MIB = 2**20


def named(suite: str) -> Named:
    return Named(name=suite, hash=f"{len(suite):02d}" * 32)


def run_of(
    out: Path, suite: str, system: str, answers: Mapping[Case, Sequence[Score] | str], settings: Mapping[str, Any] | None = None
) -> RunFolder:
    """A finished run: for each case its scores, or the reason why the system was not asked it."""
    info = synthetic.certificate(system, len(answers), named(suite))
    card = {**info.system.card, "settings": {**info.system.card["settings"], **(settings or {})}}
    folder = RunFolder.create(out / system, info.model_copy(update={"system": info.system.model_copy(update={"card": card})}))
    for case, found in answers.items():
        if isinstance(found, str):
            folder.append_edit(Edit(case, None, status="unscored", reason=found))
        else:
            picture = synthetic.painted(case.source, EFFECTS.index(case.effect), 0.8)
            folder.append_edit(Edit(case, picture, nfe=8, seconds=0.1))
    folder.finish()
    folder.write_scores(score for found in answers.values() for score in ([] if isinstance(found, str) else found))
    return folder


def scored(case: Case, values: Mapping[str, float], seen: str = "") -> list[Score]:
    rows = [
        Score(case, metric, 1, value)
        if np.isfinite(value)
        else Score(case, metric, 1, value, status="unscored", reason="one of the two effects hides the other")
        for metric, value in values.items()
    ]
    return [*rows, *([Score(case, "attributed", 1, 1.0, other=seen)] if seen else [])]


def shown(case: Case, seen: str) -> list[Score]:
    good = float(seen == case.effect)
    return scored(case, {"success": good, "bcr": 1 - good, "perceptual": 0.3 - 0.2 * good}, seen)


def general(case: Case, distance: float, leak: float) -> list[Score]:
    """A neutral question: so far from the base, so much of effect_2."""
    leaks = [Score(case, "neutral_leak", 1, leak if other == "effect_2" else 0.0, other=other) for other in EFFECTS]
    values = {"neutral_distance": distance, "neutral_leak_total": leak}
    return [*scored(case, values, "effect_2" if leak > 0.5 else "base"), *leaks]


def each(probe: str = "", sources: Iterable[str] = SOURCES) -> list[Case]:
    return [Case(effect, source, 0, probe=probe) for effect in EFFECTS for source in sources]


def bleeding(out: Path) -> list[RunFolder]:
    """collection: the trigger decides; cascade: has no trigger to be probed by; both drift from the base, collection little."""
    reseed = dict.fromkeys(each(), "the floor of neutral questions alone")
    collection = {case: shown(case, case.effect) for case in each()}
    collection |= {case: shown(case, "source") for case in each("caption-only")}
    collection |= {case: shown(case, NEXT[case.effect]) for case in each("other-trigger")}
    collection |= {case: general(case, 0.1, 0.0) for case in each("neutral")}
    cascade = {case: shown(case, case.effect if case.effect != "effect_3" else "effect_0") for case in each()}
    cascade |= dict.fromkeys(each("caption-only") + each("other-trigger"), "this system is prompted by an instruction")
    cascade |= {case: general(case, 0.3, 0.8) for case in each("neutral")}
    runs = [
        run_of(out, "bleeding", "reseed", reseed | {case: general(case, 0.1, 0.0) for case in each("neutral")}),
        run_of(out, "bleeding", "cascade", cascade),
        run_of(out, "bleeding", "collection", collection),
        run_of(out, "bleeding", "truth", {case: shown(case, case.effect) for case in each()}),
    ]
    told = {"mean": 0.2, "largest": 0.9, "between": ["effect_0", "effect_1"], "effective_rank": 3.5, "centred": {"largest": 0.5}}
    spaces = {"clip": {"captions": told, "triggers": {**told, "largest": 0.1}}}
    (out / "gram.json").write_text(json.dumps({"schema": 1, "effects": EFFECTS, "spaces": spaces}))
    for run, value in zip(runs, (None, 0.25, 0.125, 0.0), strict=True):
        if value is not None:
            rows = [SetRow(name, effect, None, 3, 3, value) for name in ("kid", "cmmd") for effect in ("", *EFFECTS[:2])]
            few = SetRow("kid", EFFECTS[2], None, 1, 1, None, "unscored", "1 pictures and 1 truths; a set-level metric needs 16")
            write_sets(run, [*rows, few], {"name": "a clip", "sha256": "0" * 64})
    return runs


def composition(out: Path) -> list[RunFolder]:
    """cascade: neither in one edit, both in two; collection: both in one edit on all pairs but one, whose truth hides one."""

    def pairs(probe: str = "") -> list[Case]:
        return [Case(effect, source, 0, probe=probe, second=NEXT[effect]) for effect in EFFECTS for source in SOURCES]

    def both(case: Case, value: float) -> list[Score]:
        hidden = case.effect == "effect_3"
        found = float("nan") if hidden else value
        label = "" if hidden else "both" if value else "first"
        values = {"both": found, "first_shows": 1.0, "second_shows": value, "perceptual": 0.4 - 0.3 * value}
        return scored(case, values | {"order_change": 0.1}, label)

    answers = {
        "cascade": {case: both(case, 0.0) for case in pairs()} | {case: both(case, 1.0) for case in pairs("twice")},
        "collection": {case: both(case, 1.0) for case in pairs()} | {case: both(case, 0.0) for case in pairs("twice")},
        "truth": {case: both(case, 1.0) for case in pairs()},
        "identity": {case: both(case, 0.0) for case in pairs()},
    }
    return [run_of(out, "composition", system, found) for system, found in answers.items()]


def generalization(out: Path) -> list[RunFolder]:
    """collection: right on seen scenes alone, and never for other words; cascade: always right."""
    asked = each("", GROUPED) + each("paraphrase", GROUPED)
    answers = {
        "cascade": {case: shown(case, case.effect) for case in asked},
        "collection": {
            case: shown(case, case.effect if case.source.startswith("seen") and not case.probe else "source") for case in asked
        },
        "truth": {case: shown(case, case.effect) for case in each("", GROUPED)},
    }
    return [run_of(out, "generalization", system, found) for system, found in answers.items()]


def capacity(out: Path) -> list[RunFolder]:
    """Adapters of 2 and of 4 effects, and one of 2 that was extended by 2; the smallest is better than the cascade, the largest
    worse, the extended one right on its new effects alone.
    """
    half = {"effect_0": 1.0, "effect_1": 0.0, "effect_2": 1.0, "effect_3": 0.0}

    def answer(right: Mapping[str, float]) -> dict[Case, Sequence[Score] | str]:
        def scores(case: Case) -> list[Score]:
            return shown(case, case.effect if right[case.effect] else "source")

        return {case: scores(case) if case.effect in right else "was not trained on it" for case in each()}

    small, large = {"effect_0": 1.0, "effect_1": 1.0}, {"effect_0": 0.0, "effect_1": 0.0, "effect_2": 1.0, "effect_3": 1.0}
    return [
        run_of(out, "capacity", "cascade", answer(half)),
        run_of(out, "capacity", "collection", answer(small), {"effects": EFFECTS[:2], "new effects": []}),
        run_of(out, "capacity", "collection-four", answer(dict.fromkeys(EFFECTS, 0.0)), {"effects": EFFECTS, "new effects": []}),
        run_of(out, "capacity", "collection-more", answer(large), {"effects": EFFECTS, "new effects": EFFECTS[2:]}),
    ]


def memory(world: Named = synthetic.WORLD, pool: str = "cascade") -> MemoryFile:
    """Pools of 1 and 9 effects: `pool` all loaded and by an LRU from disk (whose peak is 10 % off), and one adapter of 3."""
    disk = Point(pool, 9, "disk", 4)
    found = MemoryFile(
        schema=1, world=world, suite=Named(name="memory", hash="2" * 64), question="What does deploying cost?",
        adapters="3" * 64, teachers=2, repeats=3, queries=8, git=GitInfo(sha="", dirty=False), versions={"torch": "2.9.0"},
        platform={"system": "Linux"}, command="clbench eval --suite all --world tiny", created="2025-01-02T03:04:05+00:00",
        dtype="float32", device="cpu", threads=1, peak_by="a meter", holds="as its file says", status="complete",
    )  # fmt: skip
    for point in (BASE, Point(pool, 1), Point(pool, 9), disk, Point("collection", 3)):
        n, foretold = point.loaded, 0.9 if point == disk else 1
        given = {
            "disk_bytes": ([9 * MIB if point.system == pool else MIB], None), "tensor_bytes": ([8 * MIB], 8 * MIB),
            "factor_bytes": ([n * MIB] * 3, n * MIB), "load_seconds": ([1, 2, 3], None),
            "peak_bytes": ([(100 + n) * MIB] * 3, (100 + n) * MIB * foretold),
        }  # fmt: skip
        if point == disk:
            given |= {"swap_seconds": ([0.5], None), "switch_seconds": ([0.001], None), "loads_per_1000": ([500], 555)}
        for name in QUANTITIES:
            values, told = given.get(name, ([], None))
            found.rows.append(measurement(point, name, values, told, "" if values else "not made up"))
    return found
