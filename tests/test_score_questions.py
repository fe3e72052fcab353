"""Probes, neutral questions and compositions, scored on pictures whose right scores are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_score import EFFECTS, make_run, table, world  # noqa: F401  (a fixture)

from clbench.certificate import Named, describe_run
from clbench.composition import mask_after, sequence_draw, why_unknown
from clbench.neutral import PLAIN_KINDS, neutral_edit
from clbench.results import RunFolder
from clbench.score import score_run, score_runs
from clbench.suite import Suite, SuiteTable
from clbench.systems.controls import right_answer, truth_draw
from clbench.types import NEUTRAL, Case, Edit, SystemCard

PAIR = ("pixelate", "swirl")
COMPOSED = ("both", "first_shows", "second_shows", "in_order", "order_change", "perceptual", "psnr", "attributed")
NEUTRAL_METRICS = ("neutral_distance", "neutral_leak", "neutral_leak_total", "attributed", "perceptual", "success")


def suite_of(name: str, effects, metrics, **asked) -> Suite:
    table_ = SuiteTable(name=name, question="?", effects=effects, sources=1, systems=("base",), metrics=metrics, **asked)
    return Suite(Path(f"{name}.toml"), table_)


def filled(path: Path, world, suite: Suite, paint) -> RunFolder:  # noqa: F811
    """A run whose pictures are `paint(case)`; None means that the system was not asked."""
    cases = suite.cases(world)
    names = Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash)
    run = RunFolder.create(path, describe_run(*names, SystemCard(path.name, "fake"), [0], "cpu", "float32", len(cases)))
    for case in cases:
        picture = paint(case)
        run.append_edit(Edit(case, None, status="unscored", reason="not asked") if picture is None else Edit(case, picture))
    return run


def blend(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return np.clip(one + share * (other.astype(float) - one) + 0.5, 0, 255).astype(np.uint8)


# ---- compositions


@pytest.fixture(scope="module")
def composed(tmp_path_factory, world):  # noqa: F811
    suite, out = suite_of("pairs", (*PAIR, "upside_down"), COMPOSED, pairs=6), tmp_path_factory.mktemp("pairs")
    turned = lambda case: replace(case, effect=case.second, second=case.effect)  # noqa: E731
    paints = {
        "truth": lambda case: right_answer(world, case, 100),
        "identity": lambda case: world.source_image(case.source, 64),
        "first": lambda case: truth_draw(world, case.effect, case.source, 0),
        "second": lambda case: truth_draw(world, case.second, case.source, 0),
        "turned": lambda case: right_answer(world, turned(case), 100),
        "careless": lambda case: right_answer(world, min(case, turned(case), key=lambda c: c.effect), 100),
    }
    runs = [filled(out / name, world, suite, paint) for name, paint in paints.items()]
    score_runs(runs, world, suite)
    return {run.path.name: run for run in runs}


def value(run: RunFolder, metric: str, first: str, second: str) -> float:
    rows = table(run, metric)
    return float(rows[(rows["effect"] == first) & (rows["second"] == second)]["value"].iloc[0])


@pytest.mark.parametrize(
    ("name", "both", "first", "second", "label"),
    [
        ("truth", 1, 1, 1, "both"), ("turned", 1, 1, 1, "reversed"), ("identity", 0, 0, 0, "source"),
        ("first", 0, 1, 0, "first"), ("second", 0, 0, 1, "second"),
    ],
)  # fmt: skip
def test_planted_compositions_read_right(composed, name, both, first, second, label):
    run = composed[name]
    for a, b in (PAIR, PAIR[::-1]):
        assert [value(run, metric, a, b) for metric in ("both", "first_shows", "second_shows")] == [both, first, second]
    rows = table(run, "attributed")
    kept = rows[rows["effect"].isin(PAIR) & rows["second"].isin(PAIR)]
    assert set(kept["other"]) == {label}


def test_order_is_read_where_it_can_be_seen(composed):
    assert [value(composed["truth"], "in_order", *pair) for pair in (PAIR, PAIR[::-1])] == [1, 1]
    assert [value(composed["turned"], "in_order", *pair) for pair in (PAIR, PAIR[::-1])] == [0, 0]
    rows = table(composed["identity"], "in_order")
    assert rows["value"].isna().all() and rows["reason"].str.len().min() > 10
    assert {"the output does not show both effects, so it has no order"} <= set(rows["reason"])


def test_order_change_is_that_of_the_pictures(composed):
    true = [value(composed["truth"], "order_change", *pair) for pair in (PAIR, PAIR[::-1])]
    assert true[0] == pytest.approx(true[1], rel=1e-5) and true[0] > 0.01
    assert value(composed["careless"], "order_change", *PAIR) == 0
    assert value(composed["turned"], "order_change", *PAIR) == pytest.approx(true[0], rel=1e-5)


def test_compositions_are_compared_with_the_true_sequence(composed):
    assert table(composed["truth"], "psnr")["value"].min() == 100
    assert table(composed["truth"], "perceptual")["value"].max() == 0
    assert value(composed["first"], "perceptual", *PAIR) > 0.01
    assert not (table(composed["truth"], "both")["status"] == "failed").any()


def test_a_mask_moves_with_the_picture(world):  # noqa: F811
    source = world.sources[0].id
    mask = world.mask(source)
    np.testing.assert_allclose(mask_after(world.effect("upside_down"), source, mask, 0), mask[::-1], atol=1 / 255)
    assert mask_after(world.effect("sepia"), source, mask, 0) is mask
    gold_first = sequence_draw(world, "subject_gold", "upside_down", source, 0)
    gold_last = sequence_draw(world, "upside_down", "subject_gold", source, 0)
    assert np.abs(gold_first[8:-8].astype(int) - gold_last[8:-8]).mean() < 6, "gold follows the subject"
    assert "is not known" in why_unknown(world, "polaroid_frame", "subject_gold", source)
    assert why_unknown(world, "polaroid_frame", "sepia", source) == ""
    assert why_unknown(world, "sepia", "subject_gold", "photographs-000") != ""


# ---- neutral questions


@pytest.fixture(scope="module")
def neutral(tmp_path_factory, world):  # noqa: F811
    suite, out = suite_of("neutral", EFFECTS, NEUTRAL_METRICS, probes=(NEUTRAL,)), tmp_path_factory.mktemp("neutral")

    def base(case: Case):
        """What a good base makes: its right answer, or a slight change where there are many."""
        edit = neutral_edit(world, case)
        source = world.source_image(case.source, 64)
        return blend(source, np.full_like(source, 128), 0.2) if edit.target is None else edit.target

    def noisy(case: Case, seed: int):
        rng = np.random.default_rng(seed)
        return np.clip(base(case) + rng.normal(0, 4, (64, 64, 3)), 0, 255).astype(np.uint8)

    def leaky(case: Case):
        source = world.source_image(case.source, 64).astype(float)
        change = truth_draw(world, "sepia", case.source, 0) - source
        return np.clip(base(case) + 0.5 * change, 0, 255).astype(np.uint8)

    only = lambda paint: lambda case: paint(case) if case.probe == NEUTRAL else None  # noqa: E731
    paints = {
        "base": base, "reseed": lambda case: noisy(case, 1), "good": lambda case: noisy(case, 2), "leaky": leaky,
        "stuck": lambda case: truth_draw(world, case.effect, case.source, 0),
    }  # fmt: skip
    runs = [filled(out / name, world, suite, only(paint)) for name, paint in paints.items()]
    score_runs(runs, world, suite)
    return {run.path.name: run for run in runs}


def test_a_system_that_behaves_like_the_base_lies_on_the_floor(neutral):
    mean = {name: table(run, "neutral_distance")["value"].mean() for name, run in neutral.items()}
    assert mean["base"] == 0
    assert mean["reseed"] > 0 and 1 / 3 < mean["good"] / mean["reseed"] < 3, "both are one noise away from the base"
    assert min(mean["leaky"], mean["stuck"]) > 3 * max(mean["good"], mean["reseed"])


def test_a_neutral_leak_is_found_along_its_effect(neutral):
    leaks = {name: table(run, "neutral_leak").groupby("other")["value"].mean() for name, run in neutral.items()}
    assert leaks["leaky"].idxmax() == "sepia" and leaks["leaky"]["sepia"] > 0.2
    for name in ("base", "reseed", "good"):
        assert leaks[name].max() < 0.05, name
    totals = {name: table(run, "neutral_leak_total")["value"].mean() for name, run in neutral.items()}
    assert totals["leaky"] > 0.2 > 0.05 > totals["good"]


def test_neutral_pictures_are_told_apart(neutral):
    for name in ("base", "good"):
        labels = table(neutral[name], "attributed").query("status == 'ok'")["other"]
        assert set(labels) <= {"base", "source"} and (labels == "base").any()
    stuck = table(neutral["stuck"], "attributed").query("status == 'ok'")
    assert (stuck["other"] == stuck["effect"]).all()


def test_metrics_of_other_questions_have_no_rows(neutral, composed):
    for run in neutral.values():
        frame = run.read_scores()
        assert set(frame[frame["probe"] == NEUTRAL]["metric"]) == set(NEUTRAL_METRICS) - {"success"}
        plain = frame[frame["probe"] == ""]
        assert set(plain["metric"]) == {"success", "attributed", "perceptual"}
        assert set(plain["status"]) == {"unscored"} and set(plain["reason"]) == {"not asked"}
    assert set(composed["truth"].read_scores()["metric"]) == set(COMPOSED)


def test_without_a_base_there_is_a_reason(tmp_path, world):  # noqa: F811
    suite = suite_of("neutral", EFFECTS[:2], NEUTRAL_METRICS[:4], probes=(NEUTRAL,))
    run = filled(tmp_path / "good", world, suite, lambda case: world.source_image(case.source, 64) if case.probe else None)
    score_run(run, world, suite)
    rows = table(run, "neutral_distance")
    assert rows["value"].isna().all() and set(rows["reason"]) == {"there is no run of the base on this question"}


def test_general_instructions_are_drawn_for_each_case_and_fit_any_picture(world):  # noqa: F811
    source = world.sources[0].id
    edits = [neutral_edit(world, Case(effect, source, seed, None, NEUTRAL)) for effect in EFFECTS for seed in range(6)]
    assert len({edit.instruction for edit in edits}) > 8
    again = neutral_edit(world, Case(EFFECTS[0], source, 0, 4, NEUTRAL))
    assert again.instruction == edits[0].instruction and (again.target is None) == (edits[0].target is None)
    photos = [neutral_edit(world, Case(effect, "photographs-001", 0, None, NEUTRAL)) for effect in EFFECTS]
    assert {photo.kind for photo in photos} <= set(PLAIN_KINDS) and all(photo.target.shape == (64, 64, 3) for photo in photos)


# ---- probes


def test_a_system_that_ignores_triggers_is_seen(tmp_path, world):  # noqa: F811
    probes = ("caption-only", "trigger-only", "other-trigger")
    suite = suite_of("probes", EFFECTS[:3], ("success", "attributed"), probes=probes)

    def paint(case: Case):
        if case.probe == "trigger-only":
            return world.source_image(case.source, 64)
        return truth_draw(world, case.effect, case.source, 100)

    run = filled(tmp_path / "deaf", world, suite, paint)
    score_run(run, world, suite)
    found = table(run, "success").groupby("probe")["value"].mean()
    assert found.to_dict() == {"": 1, "caption-only": 1, "trigger-only": 0, "other-trigger": 1}


def test_make_run_is_the_plain_question(tmp_path, world):  # noqa: F811
    suite = suite_of("plain", EFFECTS[:2], ("psnr",))
    run = make_run(tmp_path / "r", world, suite, "truth")
    assert all(record.case.question == "effect" for record in run.read_edits().values())


# ---- groups of sources


def test_groups_are_made_of_the_pictures_they_say(world):  # noqa: F811
    held, trained = (world.scene_pool(f"{name}-000") for name in ("other-subjects", "other-backgrounds"))
    plain = world.scene_pool(world.sources[0].id)
    assert set(held.subjects) == set(plain.subjects) and not set(held.backgrounds) & set(plain.backgrounds)
    assert set(trained.backgrounds) == set(plain.backgrounds) and not set(trained.subjects) & set(plain.subjects)
    photo = world.source("photographs-002")
    assert photo.subject == "" and photo.background and photo.split == "photographs"
    assert world.mask("photographs-002") is None and world.mask("seen-000") is not None
    assert len({world.source(source).sha256 for source in world.source_group("seen", 4)}) == 4
