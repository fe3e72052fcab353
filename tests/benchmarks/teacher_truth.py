"""How far a judgement by one teacher's pictures, what a user's own world has, agrees with that by known operators.

On the pictures of finished runs: the same outputs are read twice, among truths from operators (as they were scored) and among the
teacher's own pictures of the same sources, one draw each, or `--draws` of them, what a suite with so many seeds has; further ones
are made now, in `teacher-draws-WORLD-DRAWS` beside the folder of the runs' folder. As in scoring, what each effect does is
learnt from its other sources as well; `--alone` leaves these out. Agreement of labels is Cohen's kappa, of leak Spearman's
correlation over cases; for all effects, for those whose teacher has at least `GOOD` success, and for those of them that are not
random.

    python tests/benchmarks/teacher_truth.py runs/tiny/headline --world tiny --sources 4 --draws 4
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from clbench.calibration import to_tensor
from clbench.edit import bench_for, edit
from clbench.metrics.bleeding import BleedingMeter, SourceFrame
from clbench.results import RunFolder
from clbench.score_elsewhere import Elsewhere
from clbench.selftest.meter import kappa
from clbench.selftest.readings import Laboratory
from clbench.suite import Suite, SuiteTable
from clbench.systems import open_system
from clbench.truth import METER_DRAWS
from clbench.world import World, load_world

GOOD = 0.85
Key = tuple[str, str]
"""Effect and source."""


def pictures(run: RunFolder) -> dict[Key, np.ndarray]:
    """The finished pictures of plain questions."""
    records = (record for record in run.read_edits().values() if record.status == "ok" and not record.case.probe)
    return {(record.case.effect, record.case.source): run.read_picture(record) for record in records}


def scored(run: RunFolder, metric: str) -> dict[Key, object]:
    """What the scores say by operators: labels of `attributed`, values of every other metric."""
    rows = run.read_scores().query("metric == @metric and status == 'ok'")
    values = rows["other"] if metric == "attributed" else rows["value"]
    return dict(zip(zip(rows["effect"], rows["source"], strict=True), values, strict=True))


def by_teacher(
    meter: BleedingMeter, frame: SourceFrame, composed: Callable[[str], dict[str, Tensor]], outputs: dict[str, np.ndarray]
) -> dict[str, tuple[str, float]]:
    """Label and total leak of an output for each asked effect among the truths of `frame`."""
    seen = meter.see(to_tensor(list(outputs.values())))
    labels = meter.attribute(frame, meter.distances(frame, seen))
    frames = [meter.leak_frame(frame, name, composed(name)) for name in outputs]
    leaks = [float(meter.leak(one, row[None]).sum()) for one, row in zip(frames, seen, strict=True)]
    return dict(zip(outputs, zip(labels, leaks, strict=True), strict=True))


def further_draws(world: World, out: Path, sources: list[str], draws: int) -> dict[Key, list[np.ndarray]]:
    """What the teachers make from `draws` - 1 other seeds, by effect and source."""
    if draws < 2:
        return {}
    table = SuiteTable(
        name="teacher-draws", question="How much do right answers of one teacher differ?", sources=tuple(sources),
        seeds=tuple(range(1, draws)), systems=("teacher",), metrics=("success",),
    )  # fmt: skip
    suite = Suite(Path("teacher-draws.toml"), table)
    beside = out.resolve().parents[1] / f"teacher-draws-{world.name}-{draws}"
    run = edit(world, suite, open_system("teacher", bench_for(world, suite)), beside)
    found: dict[Key, list[np.ndarray]] = {}
    for record in run.read_edits().values():
        if record.status == "ok" and record.case.source in sources and record.case.seed < draws:
            found.setdefault((record.case.effect, record.case.source), []).append(run.read_picture(record))
    return found


def elsewhere(laboratory: Laboratory, truth: dict[Key, np.ndarray], effect: str) -> Elsewhere:
    """What the teacher of an effect made of the run's sources, as far as the meter is shown it."""
    names = sorted(source for name, source in truth if name == effect)[:METER_DRAWS]
    sources = torch.stack([laboratory.source(name) for name in names])
    answers = to_tensor([truth[effect, name] for name in names])
    return Elsewhere(laboratory.world.effect(effect).random, names, sources, answers)


def read_again(
    world: World, out: Path, systems: list[str], count: int, draws: int, alone: bool
) -> dict[str, dict[Key, tuple[str, float]]]:
    """Readings by the teacher's pictures of each system, by effect and source."""
    laboratory, truth = Laboratory(world), pictures(RunFolder.open(out / "teacher"))
    effects, sources = (sorted({key[place] for key in truth}) for place in (0, 1))
    made = {name: pictures(RunFolder.open(out / name)) for name in systems}
    found: dict[str, dict[Key, tuple[str, float]]] = {name: {} for name in systems}
    further = further_draws(world, out, sources[:count], draws)
    learnt = {effect: elsewhere(laboratory, truth, effect) for effect in effects}
    for source in sources[:count]:
        here = laboratory.source(source)
        truths = {effect: to_tensor([truth[effect, source], *further.get((effect, source), [])]) for effect in effects}
        if not alone:
            truths = {effect: learnt[effect].draws(source, here, own) for effect, own in truths.items()}

        def composed(asked: str, here: Tensor = here, truths: dict[str, Tensor] = truths) -> dict[str, Tensor]:
            pairs = {} if alone else truths
            return {name: learnt[name].composed(here, drawn, truths[asked][0]) for name, drawn in pairs.items()}

        frame = laboratory.meter.source_frame(here, truths)
        for name, held in made.items():
            read = by_teacher(laboratory.meter, frame, composed, {effect: held[effect, source] for effect in effects})
            found[name] |= {(effect, source): one for effect, one in read.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of runs with scores, one of system teacher among them")
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--systems", default="collection,cascade")
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--alone", action="store_true")
    given = parser.parse_args()
    world, systems = load_world(given.world), given.systems.split(",")
    success = RunFolder.open(given.out / "teacher").read_scores().query("metric == 'success'").groupby("effect")["value"].mean()
    good = {name for name, share in success.items() if share >= GOOD}
    plain = {name for name in good if not world.effect(str(name)).random}
    for name, read in read_again(world, given.out, systems, given.sources, given.draws, given.alone).items():
        run = RunFolder.open(given.out / name)
        labels, leaks = scored(run, "attributed"), scored(run, "leak_total")
        for words, kept in (("all effects", set(success.index)), ("good teachers", good), ("good teachers, not random", plain)):
            keys = [key for key in read if key[0] in kept]
            first, second = [str(labels.get(key, "")) for key in keys], [read[key][0] for key in keys]
            rank = spearmanr([leaks[key] for key in keys], [read[key][1] for key in keys]).statistic
            same = np.mean([one == two for one, two in zip(first, second, strict=True)])
            print(
                f"{name}, {words} ({len(kept)}), {len(keys)} pictures: kappa {kappa(first, second):.2f}, "
                f"{100 * same:.0f} % alike, leak's rank correlation {rank:.2f}"
            )


if __name__ == "__main__":
    main()
