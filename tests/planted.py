"""Outputs with known answers: scenes and effects of the shipped tiny world, with its CLIP and without its backbone.

Four systems answer every question on two scenes. `right` can do it, and its pictures are a little blurred, shifted, tinted and
noisy; `half` goes half of the way from the source; in `mixed` a third is another effect; in `faded` two thirds are the scene
without its subject. `base` answers neutral questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tiny_scenes import SHIPPED, world_text

from clbench.calibration import to_tensor
from clbench.certificate import Named, describe_run
from clbench.images import reduce_to
from clbench.metrics import METRICS
from clbench.metrics.cards import in_tolerances
from clbench.metrics.nuisance import apply_nuisance
from clbench.neutral import neutral_edit
from clbench.results import EditRecord, RunFolder
from clbench.score import Scorer, _Work
from clbench.suite import Suite, SuiteTable
from clbench.systems.controls import right_answer, truth_draw
from clbench.truth import paint_over
from clbench.types import NEUTRAL, Case, Edit, Score, SystemCard, seed_from
from clbench.world import World, load_world

EFFECTS = ("pixelate", "swirl", "rain", "subject_gold")
"""Two that show in which order they came, one with many right answers, and one that acts on the subject alone."""
SYSTEMS = ("right", "half", "mixed", "faded")
DRAW = 100


@dataclass(frozen=True)
class Planted:
    """Runs of the systems in `folder`, and a scorer that knows all metrics of the shipped suites."""

    world: World
    runs: dict[str, RunFolder]
    scorer: Scorer


def plant(folder: Path) -> Planted:
    world, suite = open_world(folder), every_metric()
    runs = make_runs(folder, world, suite)
    return Planted(world, runs, Scorer(world, suite, base=runs.pop("base")))


def values(scores: Iterable[Score]) -> dict[tuple[str, str, str], float | str]:
    """Value by metric, case and `other`; of `attributed` the label is the value."""
    found: dict[tuple[str, str, str], float | str] = {}
    for score in scores:
        labelled = score.metric == "attributed"
        found[score.metric, score.case.id, "" if labelled else score.other] = score.other if labelled else score.value
    return found


def scored(planted: Planted, source: str, asked: Mapping[str, Sequence[EditRecord]]) -> dict[tuple[str, ...], float | str]:
    """The values of edits of one source, `asked` by system and scored together: by system, then as in `values`."""
    works = [_Work(planted.runs[name], list(records)) for name, records in asked.items()]
    with torch.inference_mode():
        rows = planted.scorer._score_works(source, works)
    return {(name, *key): value for name, scores in zip(asked, rows, strict=True) for key, value in values(scores).items()}


def gap(metric: str, one: float | str, other: float | str) -> float:
    """`in_tolerances`, also of labels: equal or not."""
    if isinstance(one, str) or isinstance(other, str):
        return 0.0 if one == other else math.inf
    return in_tolerances(metric, one, other)


def open_world(folder: Path) -> World:
    (folder / "world.toml").write_text(world_text("planted", 2, f"{SHIPPED}/encoders/clip"))
    return load_world(folder / "world.toml")


def every_metric() -> Suite:
    table = SuiteTable(
        name="planted", question="?", effects=EFFECTS, sources=2, systems=("base",), metrics=tuple(METRICS), sets=("kid", "cmmd")
    )
    return Suite(Path("planted.toml"), table)


def cases(world: World) -> list[Case]:
    """Per source each effect alone, two effects in both orders, and two neutral questions."""
    first, second, *_ = EFFECTS
    found = []
    for source in world.sources:
        found += [Case(effect, source.id, 0) for effect in EFFECTS]
        found += [Case(first, source.id, 0, second=second), Case(second, source.id, 0, second=first)]
        found += [Case(effect, source.id, 0, probe=NEUTRAL) for effect in (first, second)]
    return found


def picture(world: World, system: str, case: Case) -> np.ndarray:
    """What `system` makes of `case`, uint8 (64, 64, 3)."""
    source = world.source_image(case.source, world.resolution)
    right = _right(world, case, source)
    if system == "right":
        (noisy,) = apply_nuisance(to_tensor([right]), [seed_from("planted", case.id)])
        return (noisy * 255).round().byte().permute(1, 2, 0).numpy()
    if system == "half":
        return blend(source, right, 0.5)
    if system == "mixed":
        other = EFFECTS[(EFFECTS.index(case.effect) + 1) % len(EFFECTS)]
        return blend(right, truth_draw(world, other, case.source, DRAW), 1 / 3)
    if system == "faded":
        empty = paint_over(world.source_image(case.source), world.mask(case.source))
        return blend(right, reduce_to(empty, world.resolution), 0.65)
    return right


def _right(world: World, case: Case, source: np.ndarray) -> np.ndarray:
    """The right answer; of a general instruction that has many, a greyer source."""
    if case.probe == NEUTRAL and neutral_edit(world, case).target is None:
        return blend(source, np.full_like(source, 128), 0.2)
    return right_answer(world, case, DRAW)


def blend(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return np.clip(one + share * (other.astype(float) - one) + 0.5, 0, 255).astype(np.uint8)


def make_runs(out: Path, world: World, suite: Suite) -> dict[str, RunFolder]:
    """A run folder for each system, and one of `base`."""
    asked = cases(world)
    neutral = [case for case in asked if case.probe == NEUTRAL]
    return {name: _run(out / name, world, suite, asked) for name in SYSTEMS} | {"base": _run(out / "base", world, suite, neutral)}


def _run(path: Path, world: World, suite: Suite, asked: Sequence[Case]) -> RunFolder:
    names = Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash)
    run = RunFolder.create(path, describe_run(*names, SystemCard(path.name, "planted"), [0], "cpu", "float32", len(asked)))
    for case in asked:
        run.append_edit(Edit(case, picture(world, path.name, case), seconds=1.0))
    return run
