"""The whole scoring path on systems whose scores are known: perfect, idle and wrong; order, batches and repetition.

Runs of the controls are edited and scored as `clbench eval` does, with the tiny world's VAE, CLIP and perceptual network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from clbench.calibration import to_tensor
from clbench.edit import bench_for, edit
from clbench.metrics.cards import in_tolerances
from clbench.results import RunFolder
from clbench.score import Scorer
from clbench.score_case import SourceScorer
from clbench.selftest import Check
from clbench.selftest.readings import EFFECTS
from clbench.suite import Suite, SuiteTable
from clbench.systems import open_system
from clbench.systems.controls import wrong_effects
from clbench.types import Case
from clbench.world import World, load_world

CONTROLS = ("truth", "identity", "wrong-effect")
METRICS = (
    "perceptual", "clip_image", "clip_text", "clip_directional", "psnr", "ssim", "subject", "success", "bcr", "vsa",
    "leak_total", "dose", "attribution_distance", "attributed", "leak",
)  # fmt: skip
SOURCES = 2
SAME = 1e-6


def checks() -> Iterator[Check]:
    """Scores of the controls; order and batch size; a second scoring of the same pictures."""
    world = load_world("tiny")
    table = SuiteTable(
        name="selftest", question="Are known answers scored as such?", effects=EFFECTS, sources=SOURCES,
        systems=(CONTROLS[0],), controls=CONTROLS, metrics=METRICS, probe_sources=None, pairs=None,
    )  # fmt: skip
    suite = Suite(Path("selftest.toml"), table)
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_for(world, suite)
        runs = [edit(world, suite, open_system(name, bench), Path(folder)) for name in CONTROLS]
        scorer = Scorer(world, suite)
        scorer.score(runs)
        first = [run.scores_file.read_bytes() for run in runs]
        tables = {name: run.read_scores() for name, run in zip(CONTROLS, runs, strict=True)}
        yield from controls(tables, wrong_effects(bench), world)
        yield from batches(scorer, runs)
        Scorer(world, suite).score(runs)  # opened and calibrated anew
        changed = sum(run.scores_file.read_bytes() != before for run, before in zip(runs, first, strict=True))
    yield Check("scored again: files that differ", float(changed), high=0, about="scores.parquet, all opened anew")


def controls(tables: Mapping[str, pd.DataFrame], wrong: Mapping[str, str], world: World) -> Iterator[Check]:
    """A perfect system scores perfect; the untouched source and another effect's truth score as such."""
    perfect, idle, other = (tables[name] for name in CONTROLS)
    exact = perfect.loc[[not world.effect(effect).random for effect in perfect.effect]]
    yield Check("perfect system: success", mean(perfect, "success"), low=1, about=f"{len(EFFECTS)} effects, {SOURCES} sources")
    yield Check("perfect system: attributed to its effect", labelled(perfect, {e: e for e in EFFECTS}), low=1)
    yield Check("perfect system: subject score", worst(perfect, "subject", "min"), low=4.5, about="lowest of 1 to 5")
    yield Check("perfect system: total leak", worst(perfect, "leak_total", "max"), high=0.02, about="largest")
    about = "effects with one right answer"
    yield Check("perfect system: perceptual distance", worst(exact, "perceptual", "max"), high=SAME, about=about)
    yield Check("perfect system: CLIP image similarity", worst(exact, "clip_image", "min"), low=1 - SAME, about=about)
    yield Check("perfect system: PSNR", worst(exact, "psnr", "min"), low=100, about=f"{about}; equal pictures give 100 dB")
    yield Check("perfect system: SSIM", worst(exact, "ssim", "min"), low=1 - SAME, about=about)
    yield Check("identity: success", mean(idle, "success"), high=0)
    yield Check("identity: attributed to the source", labelled(idle, dict.fromkeys(EFFECTS, "source")), low=1)
    yield Check("identity: dose", float(values(idle, "dose").abs().max()), high=1e-3, about="largest, either way")
    yield Check("wrong effect: success", mean(other, "success"), high=0)
    yield Check("wrong effect: attributed to it", labelled(other, wrong), low=1)


def values(table: pd.DataFrame, metric: str) -> pd.Series:
    """The scored values of a metric."""
    return table.loc[(table.metric == metric) & (table.status == "ok"), "value"]


def mean(table: pd.DataFrame, metric: str) -> float:
    return float(values(table, metric).mean())


def worst(table: pd.DataFrame, metric: str, which: Literal["min", "max"]) -> float:
    """The smallest or the largest scored value."""
    found = values(table, metric)
    return float(found.min() if which == "min" else found.max())


def labelled(table: pd.DataFrame, wanted: Mapping[str, str]) -> float:
    """Share of cases that are attributed to what is `wanted` of their effect."""
    found = table[table.metric == "attributed"]
    return float((found.other == found.effect.map(wanted)).mean())


def batches(scorer: Scorer, runs: Sequence[RunFolder]) -> Iterator[Check]:
    """The same pictures in one batch, in reverse, and one at a time, each way by a scorer of its own."""
    source, effect = scorer.suite.sources(scorer.world)[0], EFFECTS[2]
    records = [r for run in runs for r in run.read_edits().values() if r.case.source == source]
    pictures = [run.read_picture(r) for run in runs for r in run.read_edits().values() if r.case.source == source]
    cases = [Case(effect, source, seed) for seed in range(len(records))]
    whole = _scored(SourceScorer(source, scorer), effect, [(cases, pictures)])
    turned = _scored(SourceScorer(source, scorer), effect, [(cases[::-1], pictures[::-1])])
    alone = [([case], [picture]) for case, picture in zip(cases, pictures, strict=True)]
    single = _scored(SourceScorer(source, scorer), effect, alone)
    about = f"{len(whole)} scores of {len(cases)} pictures"
    yield Check("order of pictures: largest change of a score, in tolerances", gap(whole, turned), high=1, about=about)
    about = f"{about}, one at a time"
    yield Check("batch size: largest change of a score, in tolerances", gap(whole, single), high=1, about=about)


def _scored(
    scorer: SourceScorer, effect: str, groups: Sequence[tuple[Sequence[Case], Sequence[np.ndarray]]]
) -> dict[tuple[int, str, str], float]:
    """Value by seed, metric and other, each group of cases in a batch of its own; text answers count by their name."""
    batches = [scorer.batch(effect, to_tensor(pictures)) for _, pictures in groups]
    found = {}
    with torch.inference_mode():
        for (cases, _), batch in zip(groups, batches, strict=True):
            rows = scorer.rows(effect, cases, batch)
            found |= {(cases[number].seed, score.metric, score.other): score.value for number, score in rows}
    return found


def gap(one: Mapping[tuple[int, str, str], float], two: Mapping[tuple[int, str, str], float]) -> float:
    """Largest difference in tolerances of its metric; infinite if one has a score that the other lacks."""
    if one.keys() != two.keys():
        return float("inf")
    return max(in_tolerances(key[1], one[key], two[key]) for key in one)
