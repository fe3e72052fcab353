from __future__ import annotations

import numpy as np
import pytest
import torch

from clbench.calibration import to_tensor
from clbench.images import hash_pixels, write_png
from clbench.score_elsewhere import RULE, Shown
from clbench.score_table import Learnt
from clbench.truth import DRAWS, METER_DRAWS, Truths, paint_over, target_caption
from clbench.types import Effect, Source
from clbench.world import load_world

WORLD = """
name = "truths"
resolution = 64

[backbone]
kind = "flux-kontext"
path = "backbone"

[sources]
kind = "folder"
folder = "pictures"
size = 128

[references]
folder = "references"

[[effects.inline]]
id = "sepia"
instruction = "make it sepia"
operator = "sepia"

[[effects.inline]]
id = "rain"
instruction = "let it rain"
operator = "rain"
random = true

[[effects.inline]]
id = "gold"
instruction = "make the subject gold"
operator = "subject_gold"
scope = "subject"

[[effects.inline]]
id = "glow"
instruction = "make it glow"

[[effects.inline]]
id = "sparks"
instruction = "let sparks fly"
random = true

[[effects.inline]]
id = "unknown"
instruction = "do something"
"""


@pytest.fixture
def world(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        write_png(tmp_path / "pictures" / f"{name}.png", picture)
    for side in ("source", "target"):
        write_png(tmp_path / "references" / "glow" / side / "a.png", _read(tmp_path / "pictures" / "a.png"))
    (tmp_path / "world.toml").write_text(WORLD)
    return load_world(tmp_path / "world.toml")


def _read(path):
    from clbench.images import read_rgb

    return read_rgb(path)


def test_known_operators_give_exact_truths_with_draws(world):
    truths = Truths(world)
    sepia, rain = truths.truth("sepia", "a"), truths.truth("rain", "a")
    assert sepia.kind == "operator" and sepia.draws.shape == (1, 64, 64, 3)
    assert rain.draws.shape == (DRAWS, 64, 64, 3)
    assert len({hash_pixels(draw) for draw in rain.draws}) == DRAWS
    assert truths.truth("rain", "a") is rain
    again = Truths(world).truth("rain", "a")
    assert np.array_equal(again.draws, rain.draws)


def test_the_truth_control_agrees_with_the_scorer(world):
    from clbench.systems.controls import truth_draw

    assert np.array_equal(Truths(world).truth("rain", "b").draws[2], truth_draw(world, "rain", "b", 2))


def test_reference_pictures_come_second_and_missing_truth_has_a_reason(world):
    truths = Truths(world)
    assert truths.truth("glow", "a").kind == "reference"
    missing = truths.truth("glow", "b")
    assert not missing.known and "no reference picture" in missing.reason
    assert not truths.truth("unknown", "a").known
    gold = truths.truth("gold", "a")
    assert not gold.known and "has no mask" in gold.reason
    pairs = (("glow", "a"), ("glow", "b"), ("unknown", "a"), ("sepia", "b"), ("gold", "a"))
    assert [truths.knows(*pair) for pair in pairs] == [True, False, False, True, True]


def test_the_meter_knows_more_draws_of_a_random_operator(world):
    truths = Truths(world)
    many = truths.many("rain", "a")
    assert len(many) == METER_DRAWS > DRAWS
    assert np.array_equal(many[:DRAWS], truths.truth("rain", "a").draws)
    assert len({hash_pixels(draw) for draw in many}) == METER_DRAWS
    assert np.array_equal(truths.many("sepia", "a"), truths.truth("sepia", "a").draws)


def with_sparks(world, names):
    """`world` with a pair of the random effect `sparks` for each of these sources: one grey, a level more for each."""
    root = world.file.parent
    for at, name in enumerate(names):
        write_png(root / "references" / "sparks" / "source" / f"{name}.png", _read(root / "pictures" / f"{name}.png"))
        write_png(root / "references" / "sparks" / "target" / f"{name}.png", np.full((64, 64, 3), 100 + at, np.uint8))
    return load_world(root / "world.toml")


def test_an_effect_without_operator_has_answers_elsewhere(world):
    truths = Truths(with_sparks(world, "ab"))
    assert [(name, int(picture[0, 0, 0])) for name, picture in truths.elsewhere("sparks", 9)] == [("a", 100), ("b", 101)]
    assert [name for name, _ in truths.elsewhere("sparks", 1)] == ["a"]
    assert [name for name, _ in truths.elsewhere("glow", 9)] == ["a"]
    assert [truths.elsewhere(effect, 9) for effect in ("rain", "sepia", "unknown")] == [[], [], []]


def test_the_meter_is_shown_them_behind_the_sources_own(world):
    shown = Shown(Truths(with_sparks(world, "ab")))
    own, other = (to_tensor([np.full((64, 64, 3), level, np.uint8)])[0] for level in (100, 101))
    for source, first, second in (("a", own, other), ("b", other, own)):
        draws = shown.draws("sparks", source)
        assert draws.shape == (2, 3, 64, 64) and torch.equal(draws[0], first)
        assert (draws[1] - second).abs().max() < 0.02  # hides its source, nearly
    for effect in ("rain", "glow", "sepia"):
        assert torch.equal(shown.draws(effect, "a"), to_tensor(shown.truths.many(effect, "a")))
    alone = Shown(Truths(with_sparks(world, "")))
    assert len(alone.draws("glow", "a")) == 1


def test_what_one_effect_makes_of_the_others_answer_is_known_by_operators_or_moved_there(world):
    shown = Shown(Truths(with_sparks(world, "ab")))
    draws = {effect: shown.draws(effect, "a") for effect in ("rain", "sepia", "sparks", "glow")}
    known = shown.composed("rain", "sepia", "a", draws)
    assert torch.equal(known, to_tensor(shown.truths.composed("rain", "sepia", "a", 2)))
    assert shown.composed("sparks", "sepia", "a", draws) is None  # an operator that nobody has applied to a pair's picture
    found = shown.composed("rain", "sparks", "a", draws)
    assert found.shape == (2, 3, 64, 64) and (found - 100 / 255).abs().max() < 0.02
    assert shown.composed("rain", "glow", "a", draws) is None  # a single pair tells nothing of other pictures


def test_one_right_answer_stays_one_however_often_the_teacher_was_asked(world, monkeypatch):
    truths = Truths(with_sparks(world, "ab"))
    twice = lambda effect, source: np.stack([np.full((64, 64, 3), level, np.uint8) for level in (90, 91)])  # noqa: E731
    monkeypatch.setattr(truths, "many", twice)
    shown = Shown(truths)
    assert len(shown.draws("glow", "a")) == 1 and len(shown.draws("sparks", "a")) == 3


def test_how_effects_without_operator_are_judged_is_told_with_the_scores(world):
    shown = Shown(Truths(with_sparks(world, "ab")))
    assert shown.learnt(["rain", "sepia"]) is None
    assert shown.learnt(["rain", "sparks", "glow", "unknown"]) == Learnt(RULE, 3)


def test_no_more_of_them_than_the_meter_wants(world):
    rng = np.random.default_rng(1)
    names = [f"c{number:02}" for number in range(METER_DRAWS + 3)]
    for name in names:
        picture = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        write_png(world.file.parent / "pictures" / f"{name}.png", picture)
    shown = Shown(Truths(with_sparks(world, names)))
    assert {len(shown.draws("sparks", name)) for name in (names[0], names[-1])} == {METER_DRAWS}


def test_composed_truths_need_both_operators(world):
    truths = Truths(world)
    both = truths.composed("sepia", "rain", "a", draws=2)
    assert both is not None and both.shape == (2, 64, 64, 3)
    assert truths.composed("rain", "sepia", "a").shape == (1, 64, 64, 3)
    assert truths.composed("glow", "sepia", "a") is None
    assert truths.composed("sepia", "glow", "a") is None
    assert truths.composed("sepia", "gold", "a") is None


def test_painting_over_removes_the_subject():
    image = np.full((64, 64, 3), 100, np.uint8)
    mask = np.zeros((64, 64), np.float32)
    image[20:40, 20:40], mask[20:40, 20:40] = 255, 1
    painted = paint_over(image, mask)
    assert abs(int(painted.max()) - 100) <= 5
    assert paint_over(image, np.ones((64, 64), np.float32)).std() == 0


def test_target_caption_joins_scene_and_effect():
    effect = Effect("sepia", "Sepia", "colour", "make it sepia", "a sepia photograph", "<x>")
    assert target_caption(Source("a", "", "", caption="a cat"), effect) == "a cat, a sepia photograph"
    assert target_caption(Source("a", "", ""), effect) == "a sepia photograph"


def test_a_composed_effect_on_the_subject_finds_it_where_the_first_effect_left_it():
    world = load_world("tiny")
    source = world.sources[0].id
    truths = Truths(world)
    composed = truths.composed("upside_down", "subject_gold", source)
    assert np.array_equal(composed, truths.sequence("upside_down", "subject_gold", source).draws)
    assert truths.composed("polaroid_frame", "subject_gold", source) is None  # nobody knows where its mask is
