"""The meter's planted answers: every bound holds, or says why it is known to be missed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clbench.selftest import meter, planted, scoring
from clbench.selftest.readings import CLEAN, Reading, once_each
from clbench.truth import Truths
from clbench.world import load_world


@pytest.mark.parametrize("group", [meter, scoring])
def test_every_bound_holds_or_is_known(group):
    found = list(group.checks())
    assert len({check.name for check in found}) == len(found)
    assert not [check.sentence for check in found if check.verdict == "missed"]


@pytest.fixture(scope="module")
def planter():
    world = load_world("tiny")
    return planted.Planter(world, world.sources[0].id, None)


def test_an_answer_with_nothing_planted_is_the_answer(planter):
    answer = planter.answers(["cyanotype"])["cyanotype"]
    outputs = planter.plant(answer, "oil_painting", (0.0, 0.2, 1.0))
    for form in planted.FORMS:
        torch.testing.assert_close(outputs[form, 0.0], answer.returned)
    torch.testing.assert_close(outputs["region", 1.0], outputs["compose", 1.0])
    assert not torch.equal(outputs["add", 0.2], outputs["compose", 0.2])


def test_a_region_has_the_area_of_its_dose():
    mask = planted.square(64, 0.2, ("a", "b"))
    assert float(mask.mean()) == pytest.approx(0.2, abs=0.01)
    assert torch.equal(mask, planted.square(64, 0.2, ("a", "b")))


def test_finished_pictures_have_eight_bits_and_their_own_nuisance(planter):
    answer = planter.answers(["sepia"])["sepia"].returned
    one, two = planted.finish(answer.expand(2, -1, -1, -1), [1, 2])
    assert not torch.equal(one, two)
    torch.testing.assert_close(one * 255, (one * 255).round())


def test_auc_counts_ties_half():
    assert meter.auc([np.array([1.0, 2.0])], [np.array([0.0, 1.0])]) == 0.875
    assert meter.auc([np.zeros(3)], [np.zeros(5)]) == 0.5


def test_kappa_is_one_for_the_same_and_zero_for_chance():
    assert meter.kappa(["a", "b"], ["a", "b"]) == 1
    assert meter.kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"]) == 0


def test_cells_are_sorted_by_pair_form_and_dose():
    kinds = [("", "clean", 0.0)] * CLEAN + [("b", "add", 0.2)]
    reading = Reading("a", kinds, {"b": np.array([0.0, 0.0, 0.1, 0.3])}, ["a"] * (CLEAN + 1))
    cells = meter.cells_of([[reading], [reading]])
    assert cells.clean["a", "b"].shape == (2, CLEAN)
    assert cells.planted[("a", "b"), ("add", 0.2)].tolist() == [0.3, 0.3]


def test_every_distinct_picture_is_looked_at_once():
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 1, 3)]
    asked = []

    def negative(seen):
        asked.extend(seen)
        return [255 - picture for picture in seen]

    look = once_each(negative)
    assert [found[0, 0, 0] for found in look(pictures)] == [254, 253, 254, 252]
    assert len(asked) == 3
    assert look(pictures[1:2])[0][0, 0, 0] == 253
    assert len(asked) == 3


def test_truths_without_subjects_are_the_same_pictures(planter):
    world, source = planter.world, planter.source
    whole, bare = (Truths(world, draws=1, subjects=wanted) for wanted in (True, False))
    for effect in ("sepia", "subject_ice"):
        assert np.array_equal(whole.truth(effect, source).draws, bare.truth(effect, source).draws)
        assert whole.truth(effect, source).without is not None and bare.truth(effect, source).without is None
    assert bare.source_without(source) is None
