"""Truths without known operators: one right answer of each source, and what the effects did elsewhere."""

from __future__ import annotations

import pytest
import torch

from clbench.metrics.bleeding import NONE
from clbench.selftest import readings
from clbench.selftest.planted import Planter, finish
from clbench.selftest.readings import Laboratory, references
from clbench.world import load_world

EFFECTS = ("background_confetti", "rain", "cyanotype")
DRAW = 300
"""Draws that neither the truths nor their answers elsewhere have."""


@pytest.fixture(scope="module")
def laboratory():
    return Laboratory(load_world("tiny"), EFFECTS)


@pytest.fixture(scope="module")
def labels(laboratory):
    """Labels of a new right answer of each effect on two sources: by the sources' own answers alone, and with other sources."""
    meter, found = laboratory.meter, {"alone": [], "with others": []}
    for source in [source.id for source in laboratory.world.sources[:2]]:
        answers = Planter(laboratory.world, source, laboratory.round_trip).answers(EFFECTS, DRAW)
        seen = meter.see(finish(torch.stack([answers[effect].returned for effect in EFFECTS]), range(len(EFFECTS))))
        own, here = references(laboratory, source, 1), laboratory.source(source)
        shown = {effect: laboratory.elsewhere[effect].draws(source, here, draws) for effect, draws in own.items()}
        for words, truths in (("alone", own), ("with others", shown)):
            frame = meter.source_frame(here, truths)
            found[words] += meter.attribute(frame, meter.distances(frame, seen))
    return found


def test_one_answer_does_not_tell_a_new_draw_of_a_random_effect(labels):
    assert labels["alone"] == [NONE, NONE, "cyanotype"] * 2


def test_answers_elsewhere_do(labels):
    assert labels["with others"] == [*EFFECTS] * 2


def test_a_source_is_not_elsewhere(laboratory):
    source = laboratory.world.sources[3].id
    known = laboratory.elsewhere["rain"]
    draws = known.draws(source, laboratory.source(source), references(laboratory, source, 1)["rain"])
    assert len(draws) == readings.ELSEWHERE and len(known.names) == readings.ELSEWHERE
