"""The bleeding meter against planted answers: leak by dose, false alarms, attribution, agreement without operators.

The pictures are the tiny world's: the first scenes of its evaluation split and eight effects (`readings.EFFECTS`, all of their
ordered pairs; tests/benchmarks/meter_fifty.py has those of fifty effects), or, for attribution, every effect of the catalogue. No
adapter is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata, t

from clbench.score_order import in_order, one_thread_each
from clbench.selftest import Check
from clbench.selftest.planted import DOSES, FORMS, Planter, finish
from clbench.selftest.readings import CLEAN, SEEN_DOSE, Laboratory, Pair, Reading, read_source
from clbench.types import seed_from
from clbench.world import World, load_world

SOURCES, CURVE_SOURCES, ATTRIBUTED_SOURCES = 20, 3, 2
ALARM = 0.02
"""A cell of the matrix is an alarm if its mean is above this and the 95 % interval over its sources is above 0."""
WORKERS = 2
KNOWN = "one picture of each source does not say what one effect does to another's answer"
"""Why leak by truths that are reference pairs is known to agree less than it should."""

Kind = tuple[str, float]
"""Form and dose of a planted output."""


def checks() -> Iterator[Check]:
    """All checks of the meter."""
    laboratory = Laboratory(load_world("tiny"))
    sources = [source.id for source in laboratory.world.sources[:SOURCES]]
    laboratory.meter  # noqa: B018  fitted before the workers ask for it
    laboratory.elsewhere  # noqa: B018  likewise
    with one_thread_each():
        found = list(in_order(lambda n: read_source(laboratory, sources[n], n < CURVE_SOURCES), range(SOURCES), WORKERS))
        attributed = list(in_order(lambda source: attribute_all(laboratory, source), sources[-ATTRIBUTED_SOURCES:], WORKERS))
    yield from leak_checks(laboratory.world, [known for known, _ in found])
    yield from agreement_checks(laboratory.world, found[:CURVE_SOURCES])
    yield from attribution_checks([pair for pairs in attributed for pair in pairs])


# ---- leak


@dataclass(frozen=True, slots=True)
class Cells:
    """Readings of ordered pairs: `clean` (S, CLEAN) per pair, `planted` (S',) per pair and kind; S' sources have the dose."""

    clean: Mapping[Pair, np.ndarray]
    planted: Mapping[tuple[Pair, Kind], np.ndarray]


def cells_of(readings: Sequence[Sequence[Reading]]) -> Cells:
    """`readings` per source and asked effect, sorted into pairs."""
    clean: dict[Pair, list[np.ndarray]] = {}
    planted: dict[tuple[Pair, Kind], list[float]] = {}
    for reading in (r for source in readings for r in source):
        for other, values in reading.leak.items():
            clean.setdefault((reading.asked, other), []).append(values[:CLEAN])
        for number, (other, form, dose) in enumerate(reading.kinds[CLEAN:], CLEAN):
            planted.setdefault(((reading.asked, other), (form, dose)), []).append(reading.leak[other][number])
    return Cells({k: np.stack(v) for k, v in clean.items()}, {k: np.array(v) for k, v in planted.items()})


def leak_checks(world: World, readings: Sequence[Sequence[Reading]]) -> Iterator[Check]:
    """Detection, dose-response and false alarms over all pairs; detection over hard pairs apart."""
    cells = cells_of(readings)
    pairs = sorted(cells.clean)
    hard = [(i, j) for i, j in pairs if j in world.effect(i).neighbours or i in world.effect(j).neighbours]
    for words, chosen in ((f"{len(pairs)} pairs", pairs), (f"{len(hard)} hard pairs", hard)):
        for form in FORMS:
            yield from detection(cells, chosen, form, words)
    for form in FORMS:
        yield from response(cells, pairs, form)
    yield from alarm_checks(cells, pairs)


def alarm_checks(cells: Cells, pairs: Sequence[Pair]) -> Iterator[Check]:
    """False alarms of clean cells, and how many cells at `SEEN_DOSE` are alarms as they should be."""
    clean = [cells.clean[pair][:, number] for pair in pairs for number in range(CLEAN)]
    about = f"{len(clean)} cells of {SOURCES} clean outputs; alarm: mean above {ALARM:g} and 95 % interval above 0"
    yield Check("false alarms at 0 %", float(np.mean([alarm(values) for values in clean])), high=0.01, about=about)
    share = float(np.mean([values.mean() > ALARM for values in clean]))
    yield Check("false alarms at 0 %, mean alone", share, about=f"mean above {ALARM:g}, without the interval", reported=True)
    found = [alarm(cells.planted[pair, (form, SEEN_DOSE)]) for pair in pairs for form in FORMS]
    yield Check("alarms at 20 %", float(np.mean(found)), about=f"{len(found)} cells, all forms", reported=True)


def alarm(values: np.ndarray) -> bool:
    """Whether a cell of leaks (S,) is an alarm; Student's interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return bool(values.mean() > ALARM and values.mean() - half > 0)


def detection(cells: Cells, pairs: Sequence[Pair], form: str, words: str) -> Iterator[Check]:
    """How well planted outputs at `SEEN_DOSE` stand out from clean ones, by picture and by cell."""
    planted = [cells.planted[pair, (form, SEEN_DOSE)] for pair in pairs]
    clean = [cells.clean[pair] for pair in pairs]
    name = f"leak of 20 %, {form}, {words}: AUC per"
    about = f"{SOURCES} sources; clean outputs carry the same nuisance"
    yield Check(f"{name} picture", auc(planted, clean), low=0.95, about=about)
    means = [values.mean() for values in planted], [values[:, 0].mean() for values in clean]
    yield Check(f"{name} cell", auc(*means), low=0.99, about=f"means of {SOURCES} sources")


def response(cells: Cells, pairs: Sequence[Pair], form: str) -> Iterator[Check]:
    """Does the reading rise with the dose? Of the mean over pairs, and of each pair's own curve."""
    doses = (0.0, *DOSES)
    curves = [
        [cells.clean[pair][:CURVE_SOURCES, 0].mean(), *(cells.planted[pair, (form, d)][:CURVE_SOURCES].mean() for d in DOSES)]
        for pair in pairs
    ]
    whole = rank_correlation(np.mean(curves, 0), doses)
    each = [0.0 if np.ptp(curve) == 0 else rank_correlation(curve, doses) for curve in curves]
    about = f"doses 0, 5, 10, 20, 40, 80 %; {CURVE_SOURCES} sources"
    yield Check(f"dose-response, {form}: rank correlation", whole, low=0.98, about=f"mean over {len(pairs)} pairs; {about}")
    yield Check(f"dose-response, {form}: mean over pairs", float(np.mean(each)), low=0.98, about=f"each curve; {about}")


def rank_correlation(one: Sequence[float] | np.ndarray, two: Sequence[float]) -> float:
    """Spearman's."""
    return float(np.corrcoef(rankdata(one), rankdata(two))[0, 1])


def auc(planted: Sequence, clean: Sequence) -> float:
    """How often a planted value is above a clean one; ties count half."""
    one, two = (np.concatenate([np.ravel(values) for values in side]) for side in (planted, clean))
    ranks = rankdata(np.concatenate([one, two]))[: len(one)].sum()
    return float((ranks - len(one) * (len(one) + 1) / 2) / (len(one) * len(two)))


# ---- attribution


def attribute_all(laboratory: Laboratory, source: str) -> list[Pair]:
    """(effect, label) of a true output with nuisance of every effect of the catalogue."""
    effects = list(laboratory.world.effects)
    answers = Planter(laboratory.world, source, laboratory.round_trip).answers(effects)
    pictures = torch.stack([answers[effect].returned for effect in effects])
    outputs = finish(pictures, [seed_from("selftest", "attribution", source, effect) for effect in effects])
    frame, meter = laboratory.frame(source, effects), laboratory.meter
    return list(zip(effects, meter.attribute(frame, meter.distances(frame, meter.see(outputs))), strict=True))


def attribution_checks(found: Sequence[Pair]) -> Iterator[Check]:
    """Right labels of true outputs, and of shuffled ones."""
    asked, labels = [pair[0] for pair in found], [pair[1] for pair in found]
    count = len(set(asked))
    about = f"{len(found)} true outputs with nuisance, {ATTRIBUTED_SOURCES} sources"
    yield Check(f"attribution of {count} effects", float(np.mean([a == b for a, b in found])), low=0.99, about=about)
    order = np.random.default_rng(seed_from("selftest", "shuffled")).permutation(len(asked))
    mixed = float(np.mean([asked[at] == label for at, label in zip(order, labels, strict=True)]))
    yield Check("attribution of shuffled outputs", mixed, high=0.04, about=f"chance is {1 / count:.3f}")


# ---- without operators


def agreement_checks(
    world: World, found: Sequence[tuple[list[Reading], dict[str, list[Reading]]]]
) -> Iterator[Check]:
    """The meter without known operators against the meter with them, on the same outputs."""
    for name in found[0][1]:
        both = [(one, two) for known, others in found for one, two in zip(known, others[name], strict=True)]
        plain = [pair for pair in both if not world.effect(pair[0].asked).random]
        yield from _agreement(f"truth from {name}", both, known=KNOWN if name == "reference pairs" else "")
        yield from _agreement(f"truth from {name}, effects with one right answer", plain, reported=True)


def _agreement(
    name: str, both: Sequence[tuple[Reading, Reading]], known: str = "", reported: bool = False
) -> Iterator[Check]:
    one, two = ([pair[side] for pair in both] for side in (0, 1))
    labels = [[label for reading in side for label in reading.labels] for side in (one, two)]
    about = f"{len(labels[0])} clean and planted outputs of {CURVE_SOURCES} sources"
    yield Check(f"{name}: kappa of attribution", kappa(*labels), 0.9, about=about, reported=reported)
    means, others = cell_means(one), cell_means(two)
    value = rank_correlation(list(means.values()), [others[key] for key in means])
    about = f"{len(means)} means over {CURVE_SOURCES} sources: pairs, forms and doses"
    yield Check(f"{name}: rank correlation of leak", value, 0.9, about=about, reported=reported, known=known)


def cell_means(readings: Sequence[Reading]) -> dict[tuple[Pair, Kind], float]:
    """Mean leak of each pair, form and dose."""
    cells = cells_of([readings])
    clean = {(pair, ("clean", 0.0)): float(values.mean()) for pair, values in cells.clean.items()}
    return clean | {key: float(values.mean()) for key, values in cells.planted.items()}


def kappa(one: Sequence[str], two: Sequence[str]) -> float:
    """Cohen's kappa of two lists of labels."""
    same = np.mean([a == b for a, b in zip(one, two, strict=True)])
    chance = sum(list(one).count(label) * list(two).count(label) for label in set(one)) / len(one) ** 2
    return float((same - chance) / (1 - chance)) if chance < 1 else 1.0
