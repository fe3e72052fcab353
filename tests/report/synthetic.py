"""Made-up runs with coloured test pictures: 8 effects x 6 sources x 6 systems, three of them controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from clbench.report import ReportInput
from clbench.report.again import again
from clbench.results import Named, RunFolder, RunInfo, describe_run
from clbench.types import Case, Edit, Effect, Score, SystemCard, seed_from

SIDE = 64
WORLD, SUITE = Named(name="tiny", hash="a1" * 32), Named(name="bleeding", hash="b2" * 32)
NAMES = ("Fog", "Night", "Sepia", "Neon edges", "Pixel art", "Snowfall", "Warm light", "Negative")
Paint = Callable[[np.ndarray], np.ndarray]


def _grey(x: np.ndarray) -> np.ndarray:
    return x.mean(axis=2, keepdims=True).repeat(3, axis=2)


def _pixels(x: np.ndarray) -> np.ndarray:
    return x[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)


def _edges(x: np.ndarray) -> np.ndarray:
    grey = _grey(x)
    edge = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    return np.clip(edge * np.array([4.0, 1.0, 5.0]), 0, 1)


def _snow(x: np.ndarray) -> np.ndarray:
    flakes = np.random.default_rng(1).random((SIDE, SIDE, 1)) > 0.93
    return np.where(flakes, 1.0, 0.7 * x + 0.2)


PAINTS: tuple[Paint, ...] = (
    lambda x: 0.45 * x + 0.5,
    lambda x: x * np.array([0.25, 0.3, 0.55]),
    lambda x: _grey(x) * np.array([1.0, 0.86, 0.62]),
    _edges,
    _pixels,
    _snow,
    lambda x: np.clip(x * np.array([1.15, 0.95, 0.65]) + [0.1, 0.03, 0.0], 0, 1),
    lambda x: 1 - x,
)


def effects(names: tuple[str, ...] = NAMES) -> dict[str, Effect]:
    """One effect per name; each is the neighbour of the next."""
    ids = [f"effect_{index}" for index in range(len(names))]
    return {
        each: Effect(
            each,
            name,
            ("light", "colour", "texture")[index % 3],
            f"make it look like {name}",
            f"the picture with {name}",
            f"<{each}>",
            (ids[(index + 1) % len(ids)],),
            "made-up",
            index == 5,
        )
        for index, (each, name) in enumerate(zip(ids, names, strict=True))
    }


def source_picture(source: str) -> np.ndarray:
    """A coloured sky, a ground and a disc."""
    rng = np.random.default_rng(seed_from("source", source))
    down, right = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    sky, ground, disc = rng.random((3, 3)) * 0.8 + 0.1
    picture = np.where(down[..., None] < 0.6, sky * (0.6 + 0.6 * down[..., None]), ground)
    centre, size = rng.random(2) * 0.4 + 0.3, 0.14 + 0.1 * rng.random()
    inside = (down - centre[0]) ** 2 + (right - centre[1]) ** 2 < size**2
    return (255 * np.clip(np.where(inside[..., None], disc, picture), 0, 1)).astype(np.uint8)


def painted(source: str, effect: int, strength: float = 1.0) -> np.ndarray:
    """The source with an effect laid over it."""
    before = source_picture(source) / 255
    return (255 * np.clip((1 - strength) * before + strength * PAINTS[effect % len(PAINTS)](before), 0, 1)).astype(np.uint8)


def truth_picture(case: Case) -> np.ndarray | None:
    """The perfect picture of a case."""
    return painted(case.source, int(case.effect.split("_")[1]))


SKILL = {
    "teacher": 0.97,
    "cascade": 0.8,
    "collection": 0.9,
    "truth": 1.0,
    "identity": 0.0,
    "wrong-effect": 0.0,
}
KINDS = {"truth": "control", "identity": "control", "wrong-effect": "control", "reseed": "control"}
STEPS = {"teacher": 28, "cascade": 8, "collection": 8}
PATIENCE = {"teacher": 6.0, "cascade": 2.0, "collection": 1.2}
"""After so many steps two thirds of a system's skill is there."""


def skill(system: str, case: Case) -> float:
    """How often a system is right: its skill, less of it in few steps."""
    full = SKILL[system]
    return full if case.steps is None or system in KINDS else full * (1 - float(np.exp(-case.steps / PATIENCE[system])))


def passes_of(system: str, case: Case) -> int:
    """Passes of the transformer; the teacher is guided, so its steps count twice."""
    steps = STEPS.get(system, 0) if case.steps is None or system in KINDS else case.steps
    return 2 * steps if system == "teacher" else steps


def seen_as(system: str, case: Case, count: int) -> str:
    """What a made-up picture shows: its effect, the next one, the source, or nothing clearly."""
    own = int(case.effect.split("_")[1])
    rng = np.random.default_rng(seed_from("seen", system, case.id))
    if system == "identity":
        return "source"
    # Each effect is differently hard, so that intervals are wide and the worst comes first.
    if rng.random() < skill(system, case) - (0.0 if system == "truth" else 0.05 * (own % 4)):
        return case.effect
    if system == "wrong-effect":
        return f"effect_{(own + 1) % count}"
    return str(rng.choice([f"effect_{(own + 1) % count}", "source", "none"], p=[0.6, 0.3, 0.1]))


def edited(system: str, case: Case, count: int) -> np.ndarray:
    """The picture that matches `seen_as`."""
    seen, own = seen_as(system, case, count), int(case.effect.split("_")[1])
    if seen == "source":
        return source_picture(case.source)
    effect = own if seen == "none" else int(seen.split("_")[1])
    rng = np.random.default_rng(seed_from("paint", system, case.id))
    noise = rng.normal(0, 0 if system in KINDS else 4, (SIDE, SIDE, 3))
    strength = 0.4 if seen == "none" else 1.0 if system in KINDS else 0.9
    return np.clip(painted(case.source, effect, strength) + noise, 0, 255).astype(np.uint8)


def scores(system: str, case: Case, count: int, random: bool) -> Iterator[Score]:
    """Plausible values of every metric for one case."""
    seen, rng = seen_as(system, case, count), np.random.default_rng(seed_from("score", system, case.id))
    success = float(seen == case.effect)
    subject = float(np.clip((5 if system in KINDS else 4.2) + rng.normal(0, 0.2), 1, 5))
    leaks = {f"effect_{j}": float(abs(rng.normal(0, 0.01 if system == "truth" else 0.04))) for j in range(count)}
    if seen in leaks and seen != case.effect:
        leaks[seen] = 0.9
    leaks.pop(case.effect)
    values = {
        "perceptual": 0.05 + 0.25 * (1 - success) + 0.02 * rng.random(),
        "clip_image": 0.97 - 0.15 * (1 - success),
        "clip_text": 0.31 + 0.02 * rng.normal(),
        "clip_directional": 0.2 + 0.25 * success + 0.03 * rng.normal(),
        "subject": subject,
        "success": success,
        "bcr": 1 - success,
        "vsa": success * subject,
        "leak_total": sum(leaks.values()),
        "dose": 0.2 + 0.7 * success + 0.05 * rng.normal(),
    }
    for name, value in values.items():
        yield Score(case, name, 1, float(value))
    if random:
        yield Score(case, "psnr", 1, float("nan"), status="unscored", reason="the effect has many right answers")
    else:
        yield Score(case, "psnr", 1, 18 + 9 * success + rng.normal())
    yield Score(case, "attributed", 1, 1.0, other=seen)
    for other, value in leaks.items():
        yield Score(case, "leak", 1, value, other=other)


def certificate(system: str, n_cases: int, suite: Named = SUITE) -> RunInfo:
    """A certificate that does not depend on the machine or the day."""
    adapters = {"student": "c3" * 32} if system == "collection" else {}
    kind = "collection" if system.startswith("collection-") else KINDS.get(system, system)
    card = SystemCard(system, kind, adapters, {"steps": STEPS[system]} if system in STEPS else {})
    info = describe_run(WORLD, suite, card, [0], "cpu", "float32", n_cases, f"clbench eval --suite {suite.name}")
    return info.model_copy(
        update={
            "created": "2025-01-02T03:04:05+00:00",
            "git": info.git.model_copy(update={"sha": "d" * 40, "dirty": False}),
            "versions": {"torch": "2.9.0"},
            "platform": {"system": "Linux"},
            "run": f"{suite.name}-{system}-0",
            "cache_key": "e5" * 32,
        }
    )


def make_runs(
    out: Path,
    systems: tuple[str, ...] = tuple(SKILL),
    names: tuple[str, ...] = NAMES,
    sources: int = 6,
    failed: frozenset[str] = frozenset(),
    without: frozenset[str] = frozenset(),
    steps: tuple[int | None, ...] = (None,),
    suite: Named = SUITE,
) -> list[RunFolder]:
    """Finished and scored runs; cases in `failed` fail for the collection, metrics `without` are absent."""
    catalogue, runs = effects(names), []
    sources_used = [f"source_{index:02d}" for index in range(sources)]
    cases = [Case(e, s, 0, step) for e in catalogue for s in sources_used for step in steps]
    for system in systems:
        run = RunFolder.create(out / system, certificate(system, len(cases), suite))
        rows: list[Score] = []
        for case in cases:
            if system == "collection" and case.id in failed:
                run.append_edit(Edit(case, None, status="failed", reason="out of memory"))
                rows.append(Score(case, "success", 1, float("nan"), status="failed", reason="out of memory"))
                continue
            passes = passes_of(system, case)
            seconds = passes * 0.011 + 0.0007 * int(case.source[-2:])
            picture = edited(system, case, len(names))
            run.append_edit(Edit(case, picture, nfe=passes, seconds=seconds, memory=412_000_000 if passes else 0))
            rows += scores(system, case, len(names), catalogue[case.effect].random)
        run.finish()
        run.write_scores(row for row in rows if row.metric not in without)
        runs.append(run)
    return runs


STEP_SUITE = Named(name="steps", hash="c3" * 32)
QUESTIONS = {
    "bleeding": "How much do effects bleed into each other when one LoRA carries them all?",
    "steps": "What does quality cost in steps?",
    "composition": "Does «apply A, then B» give both effects?",
    "generalization": "Do effects hold away from the training pictures and words?",
    "capacity": "How does quality fall with the number of effects in one adapter?",
}


def about(names: tuple[str, ...] = NAMES, suite: Named = SUITE) -> ReportInput:
    """The words of the made-up world."""
    return ReportInput(
        world_name="tiny",
        world_hash=WORLD.hash,
        suite_name=suite.name,
        suite_hash=suite.hash,
        question=QUESTIONS[suite.name],
        effects=effects(names),
        truth_kind="known operators",
        again=again({"collection": f"clbench eval --suite {suite.name} --world tiny"}, suite.name, "tiny", Path("runs")),
        truth_picture=truth_picture,
        source_picture=source_picture,
        adapter_bytes={"teacher": 8_800_000, "cascade": 9_900_000, "collection": 1_100_000},
    )
