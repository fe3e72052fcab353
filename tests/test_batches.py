"""A score depends neither on what is scored beside it nor on the order: within the tolerance that the metric's card states.

`test_score.py` holds the same of the number of workers, to the byte.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import EFFECTS, SYSTEMS, Planted, gap, scored

from clbench.calibration import to_tensor
from clbench.metrics import METRICS, SET_METRICS
from clbench.metrics.cards import in_tolerances
from clbench.metrics.derived import DERIVED
from clbench.score_sets import set_metrics
from clbench.suite import load_suite, shipped_suites

LABEL = "attributed"


@pytest.fixture(scope="module")
def units(planted: Planted):
    """Systems and edits of one source that may be scored apart; both orders of a pair stay together: one is read by the other."""
    source, found = planted.world.sources[0].id, {}
    for name, run in planted.runs.items():
        for record in run.read_edits().values():
            if record.case.source == source:
                found.setdefault((name, record.case.probe, *sorted((record.case.effect, record.case.second))), []).append(record)
    return [(name, records) for (name, *_), records in found.items()]


def together(planted: Planted, units) -> dict[tuple[str, ...], float | str]:
    """The values of `units`, scored together in this order."""
    records = {name: [record for other, group in units if other == name for record in group] for name, _ in units}
    return scored(planted, planted.world.sources[0].id, records)


@pytest.fixture(scope="module")
def whole(planted, units):
    return together(planted, units)


@settings(max_examples=3, deadline=None)
@given(dice=st.randoms(use_true_random=False))
def test_every_metric_is_the_same_in_any_batch_and_order(planted, units, whole, dice):
    """One answer alone, and the others in two batches."""
    mixed = dice.sample(units, len(units))
    border = dice.randrange(2, len(units) - 1)
    found = {}
    for part in (mixed[:1], mixed[1:border], mixed[border:]):
        found |= together(planted, part)
    assert found.keys() == whole.keys()
    gaps = {key: gap(key[1], whole[key], found[key]) for key in whole}
    assert max(gaps.values()) <= 1, max(gaps, key=gaps.__getitem__)


def test_every_metric_of_the_shipped_suites_was_asked(whole):
    """And has a value for most of what was asked, so that the test above tests something."""
    suites = [load_suite(name) for name in shipped_suites()]
    named = {metric for suite in suites for metric in suite.metrics}
    known = {metric for metric in named for key, value in whole.items() if key[1] == metric and value == value}
    assert known == named == set(METRICS)
    assert {name for suite in suites for name in suite.table.sets} == set(SET_METRICS)


@settings(max_examples=5, deadline=None)
@given(dice=st.randoms(use_true_random=False))
def test_set_metrics_are_the_same_in_any_batch_and_order(planted, pictures, dice):
    outputs, truths = pictures
    plain = [planted.scorer.encoders.clip.embed_image(images) for images in (outputs, truths)]
    mixed = []
    for images in pictures:
        order, cut = torch.tensor(dice.sample(range(len(images)), len(images))), dice.randrange(1, len(images))
        parts = (images[order[:cut]], images[order[cut:]])
        mixed.append(torch.cat([planted.scorer.encoders.clip.embed_image(part) for part in parts]))
    for name, distance in set_metrics(tuple(SET_METRICS)).items():
        assert in_tolerances(name, distance(*plain), distance(*mixed)) <= 1, name


@pytest.fixture(scope="module")
def pictures(planted):
    """Outputs (n, 3, H, W) of all systems, and their truths (m, 3, H, W)."""
    edits = [(run, record) for run in planted.runs.values() for record in run.read_edits().values()]
    found = [run.read_picture(record) for run, record in edits if record.case.question == "effect"]
    truths = [planted.scorer.truths.truth(effect, source.id).draws[0] for effect in EFFECTS for source in planted.world.sources]
    assert len(found) == len(SYSTEMS) * len(truths)
    return to_tensor(found), to_tensor(truths)


def test_labels_and_counts_allow_no_difference():
    assert {name for name in METRICS if METRICS.get(name).tolerance == 0} == {
        "success", "bcr", "both", "first_shows", "second_shows", "in_order", LABEL,
    }  # fmt: skip
    cards = [*(METRICS.get(name) for name in METRICS), *(SET_METRICS.get(name) for name in SET_METRICS)]
    assert all(0 <= card.tolerance <= 1e-4 for card in cards)
    assert all(DERIVED.get(name).card.tolerance == 0 for name in DERIVED if DERIVED.get(name).share or name == "nfe")
    assert math.isinf(DERIVED.get("seconds").card.tolerance), "a time is another one each time"


def test_differences_are_counted_in_tolerances():
    assert in_tolerances("psnr", 30.0, 30.0 + 4e-5) == pytest.approx(2)
    assert in_tolerances("psnr", math.nan, math.nan) == 0 and in_tolerances("psnr", math.nan, 30.0) == math.inf
    assert in_tolerances("success", 1.0, 1.0) == 0 and in_tolerances("success", 1.0, 0.0) == math.inf
    assert in_tolerances("kid", 0.1, 0.1 + 2e-6) == pytest.approx(2)
