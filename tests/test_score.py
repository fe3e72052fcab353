from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_scenes import world_text

from clbench.certificate import Named, describe_run
from clbench.encoders import LpipsNetwork, open_perceptual
from clbench.metrics import METRICS
from clbench.registry import ClbenchError
from clbench.results import RunFolder
from clbench.score import Scorer, score_run, score_runs
from clbench.score_case import SourceScorer
from clbench.score_parts import FOLDER, ScoreParts
from clbench.score_table import read_competing, read_encoders
from clbench.suite import Suite, SuiteTable
from clbench.systems.controls import truth_draw
from clbench.types import Case, Edit, Score, SystemCard
from clbench.world import load_world

EFFECTS = ("sepia", "upside_down", "rain", "subject_gold")
WITHOUT_CLIP = tuple(name for name in METRICS if not name.startswith("clip") and "effect" in METRICS.get(name).questions)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    file = tmp_path_factory.mktemp("world") / "world.toml"
    file.write_text(world_text("score-test", 4))
    return load_world(file)


@pytest.fixture(scope="module")
def suite():
    table = SuiteTable(
        name="small", question="?", effects=EFFECTS, sources=2, systems=("base",), metrics=(*WITHOUT_CLIP, "clip_text")
    )
    return Suite(Path("small.toml"), table)


def picture(world, system: str, case: Case) -> np.ndarray:
    if system in ("identity", "teacher"):
        return world.source_image(case.source, 64)
    effect = case.effect if system == "truth" else EFFECTS[(EFFECTS.index(case.effect) + 1) % len(EFFECTS)]
    return truth_draw(world, effect, case.source, 100 + case.seed)


def make_run(path: Path, world, suite, system: str, failed: int = 0, cases=None) -> RunFolder:
    cases = cases or suite.cases(world)
    names = Named(name=world.name, hash=world.hash), Named(name=suite.name, hash=suite.hash)
    run = RunFolder.create(path, describe_run(*names, SystemCard(system, "control"), [0], "cpu", "float32", len(cases)))
    for number, case in enumerate(cases):
        if number < failed:
            run.append_edit(Edit(case, None, status="failed", reason="broken"))
        else:
            run.append_edit(Edit(case, picture(world, system, case), seconds=1.0))
    return run


@pytest.fixture(scope="module")
def scored(tmp_path_factory, world, suite):
    """Runs of three controls, scored together; (folder, runs, progress calls)."""
    out = tmp_path_factory.mktemp("runs")
    runs = {name: make_run(out / name, world, suite, name) for name in ("truth", "identity", "wrong-effect")}
    calls: list[tuple[str, int, int]] = []
    score_runs(list(runs.values()), world, suite, lambda run, done, total: calls.append((run.path.name, done, total)))
    return out, runs, calls


def table(run: RunFolder, metric: str):
    frame = run.read_scores()
    return frame[frame["metric"] == metric]


def test_a_metric_that_nothing_computes_is_refused(world, suite, tmp_path, monkeypatch):
    """A card alone makes a metric that can be asked for, and no number."""
    run = make_run(tmp_path / "truth", world, suite, "truth", cases=suite.cases(world)[:1])
    card = METRICS.get("psnr")
    monkeypatch.setitem(METRICS._items, "contrast_ratio", replace(card, name="contrast_ratio"))
    asked = Suite(Path("small.toml"), suite.table.model_copy(update={"metrics": ("psnr", "contrast_ratio")}))
    with pytest.raises(ClbenchError, match=r"metric 'contrast_ratio' is on the list .* nothing computes it"):
        score_runs([run], world, asked)


def test_controls_read_right(scored):
    _, runs, _ = scored
    for name, label in (("truth", None), ("identity", "source")):
        found = table(runs[name], "attributed")
        assert (found["other"] == (found["effect"] if label is None else label)).all()
    wrong = table(runs["wrong-effect"], "attributed")
    assert (wrong["other"] == [EFFECTS[(EFFECTS.index(e) + 1) % 4] for e in wrong["effect"]]).all()
    assert (table(runs["truth"], "success")["value"] == 1).all()
    assert (table(runs["identity"], "success")["value"] == 0).all()
    assert table(runs["truth"], "leak_total")["value"].mean() < 0.1
    assert table(runs["identity"], "leak_total")["value"].mean() < 0.1
    assert table(runs["wrong-effect"], "leak_total")["value"].mean() > 0.4
    assert table(runs["truth"], "dose")["value"].mean() == pytest.approx(1, abs=0.2)
    assert table(runs["truth"], "subject")["value"].mean() > 4.5


def test_every_case_has_every_metric_and_bounds_hold(scored, world, suite):
    _, runs, _ = scored
    for run in runs.values():
        frame = run.read_scores()
        cases = len(suite.cases(world))
        assert read_competing(run.scores_file) == sorted(EFFECTS)
        card = open_perceptual("st-lpips").card
        assert read_encoders(run.scores_file) == {"perceptual": (card.name, card.sha256)}, "this world has no CLIP"
        for name in suite.metrics:
            rows, card = frame[frame["metric"] == name], METRICS.get(name)
            per_case = {"attribution_distance": len(EFFECTS) + 1, "leak": len(EFFECTS) - 1}.get(name, 1)
            assert len(rows) == cases * per_case, name
            good = rows[rows["status"] == "ok"]["value"]
            assert ((good >= card.bounds[0]) & (good <= card.bounds[1])).all(), name
        assert frame[frame["status"] != "ok"]["reason"].str.len().min() > 5


def test_only_effects_whose_truth_is_known_compete(tmp_path):
    """The teacher made one picture of glow and none of inkwash, so nothing was told apart from inkwash."""
    own = "".join(f'[[effects.inline]]\nid = "{effect}"\ninstruction = "make it {effect}"\n' for effect in ("glow", "inkwash"))
    (tmp_path / "world.toml").write_text(world_text("score-test", 4) + own)
    world = load_world(tmp_path / "world.toml")
    effects = ("sepia", "subject_gold", "glow", "inkwash")
    table = SuiteTable(name="own", question="?", effects=effects, sources=2, systems=("teacher",), metrics=("psnr",))
    suite = Suite(Path("own.toml"), table)
    first, second = suite.sources(world)
    asked = {"teacher": [Case("glow", second, 0)], "both": suite.cases(world), "few": [Case("sepia", first, 0)]}
    runs = {
        name: make_run(tmp_path / name, world, suite, "teacher" if name == "teacher" else "identity", cases=cases)
        for name, cases in asked.items()
    }
    score_runs(list(runs.values()), world, suite)
    found = {name: read_competing(run.scores_file) for name, run in runs.items()}
    assert found == {
        "teacher": ["glow", "sepia", "subject_gold"], "both": ["glow", "sepia", "subject_gold"], "few": ["sepia", "subject_gold"],
    }  # fmt: skip
    before = runs["both"].scores_file.read_bytes()
    score_run(runs["both"], world, suite)
    assert runs["both"].scores_file.read_bytes() == before


def test_vsa_stays_under_its_bound(scored):
    for run in scored[1].values():
        assert table(run, "vsa")["value"].mean() <= 5 * (1 - table(run, "bcr")["value"].mean()) + 1e-9


def test_vsa_is_unknown_where_the_subject_is_for_failures_too():
    """Otherwise failures alone would count there, and VSA be 0 in every world whose subjects nobody knows."""
    from clbench.score_case import _vsa

    success = torch.tensor([1.0, 0.0, 1.0, 0.0])
    known = _vsa(success, torch.tensor([4.0, 4.0, torch.nan, torch.nan]))
    assert known[:2].tolist() == [4.0, 0.0] and bool(known[2:].isnan().all())
    assert _vsa(success, "no mask") == "no mask"


def test_missing_values_have_their_reason(scored):
    run = scored[1]["truth"]
    pixels = table(run, "psnr").set_index("effect")
    assert "many right answers" in pixels.loc["rain", "reason"].iloc[0]
    assert pixels.loc["sepia", "value"].min() == 100
    assert (table(run, "clip_text")["reason"] == "the world names no CLIP").all()


def test_progress_is_told_and_nothing_is_left_behind(scored, world, suite):
    out, runs, calls = scored
    assert calls[-1][1] == calls[-1][2] == len(suite.cases(world))
    assert not list(out.glob(f"*/{FOLDER}"))
    assert runs["truth"].validate() == []


def test_scoring_again_alone_gives_the_same_bytes(scored, world, suite):
    _, runs, _ = scored
    before = {name: run.scores_file.read_bytes() for name, run in runs.items()}
    score_run(runs["wrong-effect"], world, suite)
    assert runs["wrong-effect"].scores_file.read_bytes() == before["wrong-effect"]


@pytest.mark.parametrize("copies", [False, True])
def test_workers_change_nothing(scored, world, suite, monkeypatch, copies):
    import clbench.score as room

    _, runs, _ = scored
    before = {name: run.scores_file.read_bytes() for name, run in runs.items()}
    threads = torch.get_num_threads()
    workers: list[int] = []
    plain = room.in_order
    monkeypatch.setattr(room, "may_copy", lambda: copies)

    def counted(work, items, count, copies):
        workers.append(count)
        return plain(work, items, 2, copies)

    monkeypatch.setattr(room, "in_order", counted)
    score_runs(list(reversed(runs.values())), world, suite)
    assert workers == [threads] and torch.get_num_threads() == threads
    assert {name: run.scores_file.read_bytes() for name, run in runs.items()} == before


def test_scoring_that_may_not_fit_into_memory_is_said_before_it_begins(scored, world, suite, monkeypatch):
    """With one worker as with several; and it is tried all the same, with the same result."""
    import clbench.score as room

    _, runs, _ = scored
    before, said = runs["truth"].scores_file.read_bytes(), []
    monkeypatch.setattr(room, "say", lambda sentence, style: said.append((sentence, style)))
    monkeypatch.setattr(room, "free", lambda: 1000)
    score_run(runs["truth"], world, suite, lambda done, total: said.append("scored"))
    (sentence, style), *rest = said
    assert "0.0 GiB are free" in sentence and "fewer systems" in sentence and style == "yellow"
    assert rest and set(rest) == {"scored"} and runs["truth"].scores_file.read_bytes() == before


def test_the_backbone_is_opened_before_the_workers_begin(scored, world, suite, monkeypatch):
    """Opening it sets torch's number of threads; in a worker that changed the last digits from one scoring to the next."""
    opened_by = []
    monkeypatch.setattr("clbench.score.round_trip_of", lambda world: opened_by.append(threading.current_thread()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("clbench.score.may_copy", lambda: False)
    scorer = Scorer(world, suite)
    scorer.score([RunFolder.open(scored[1]["truth"].path)])
    assert opened_by == [threading.main_thread()]


def test_pictures_go_through_the_vae_by_fours(tmp_path, world, suite, monkeypatch):
    """Always so many, so that what the VAE makes of one does not depend on the effects that are asked beside it."""
    scorer, calls = Scorer(world, suite), []

    def unchanged(pictures):
        calls.append(len(pictures))
        return list(pictures)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("clbench.score.round_trip_of", lambda world: unchanged)
    scorer.score([make_run(tmp_path / "truth", world, suite, "truth")])
    assert len(EFFECTS) == 4 and calls[1:] == [4, 4]  # the first is the meter's calibration
    alone = SourceScorer(suite.sources(world)[0], scorer)
    alone.batch("sepia", torch.zeros(1, 3, world.resolution, world.resolution))
    assert list(alone._returned) == ["sepia"] and calls[-1] == 4
    monkeypatch.setattr("clbench.score_case.TRIPS_SIDE", world.resolution - 1)
    large = SourceScorer(suite.sources(world)[0], scorer)
    for effect in EFFECTS:
        large.batch(effect, torch.zeros(1, 3, world.resolution, world.resolution))
    assert sorted(large._returned) == sorted(EFFECTS) and calls[-4:] == [1] * 4


def test_the_network_sees_each_distinct_picture_of_a_source_once(scored, world, suite, monkeypatch):
    _, runs, _ = scored
    seen: list[bytes] = []
    plain = LpipsNetwork.features

    def counting(self, images):
        seen.extend(image.numpy().tobytes() for image in images)
        return plain(self, images)

    monkeypatch.setattr(LpipsNetwork, "features", counting)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    score_runs(list(runs.values()), world, suite)
    truths = 2 * sum(8 if world.effect(effect).random else 1 for effect in EFFECTS)
    assert len(seen) == len(set(seen)) < truths + sum(len(run.read_edits()) for run in runs.values())


def test_a_stopped_scoring_goes_on(tmp_path, world, suite, monkeypatch):
    run = make_run(tmp_path / "truth", world, suite, "truth")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)

    def stop(_run, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_runs([run], world, suite, stop)
    assert len(list((run.path / FOLDER).glob("*.json"))) == 1
    import clbench.score as room

    made: list[str] = []
    plain = room.SourceScorer
    monkeypatch.setattr(room, "SourceScorer", lambda source, scorer: made.append(source) or plain(source, scorer))
    score_runs([run], world, suite)
    assert len(made) == 1
    assert len(run.read_scores()["source"].unique()) == 2


def test_failed_edits_are_nan_with_their_reason(tmp_path, world, suite):
    run = make_run(tmp_path / "identity", world, suite, "identity", failed=2, cases=suite.cases(world)[:3])
    score_run(run, world, suite)
    failed = run.read_scores()
    failed = failed[failed["status"] == "failed"]
    assert len(failed) == 2 * len(suite.metrics)
    assert failed["value"].isna().all() and (failed["reason"] == "broken").all()


def test_an_effect_alone_has_no_leak_to_read(tmp_path, world):
    table = SuiteTable(
        name="alone", question="?", effects=("sepia",), sources=1, systems=("base",),
        metrics=("success", "dose", "leak", "leak_total"),
    )
    suite = Suite(Path("alone.toml"), table)
    run = make_run(tmp_path / "truth", world, suite, "truth")
    score_run(run, world, suite)
    scores = run.read_scores()
    assert set(scores.metric) == {"success", "dose", "leak_total"}
    assert scores[scores.metric != "leak_total"].value.notna().all()
    assert scores[scores.metric == "leak_total"].reason.str.contains("no other effect").all()


def test_bad_runs_are_refused_before_work(tmp_path, world, suite):
    stray = make_run(tmp_path / "stray", world, suite, "identity", cases=[Case("invert", suite.sources(world)[0], 0)])
    with pytest.raises(ClbenchError, match="not part of suite small"):
        Scorer(world, suite).score([stray])
    small = make_run(tmp_path / "small", world, suite, "identity", failed=1, cases=suite.cases(world)[:1])
    small.append_edit(Edit(suite.cases(world)[0], np.zeros((32, 32, 3), np.uint8)))
    with pytest.raises(ClbenchError, match="32 x 32 px"):
        Scorer(world, suite).score([small])


def test_parts_count_only_for_what_they_were_made_of(tmp_path):
    rows = [Score(Case("a", "s", 0), "psnr", 1, 3.5), Score(Case("a", "s", 1, 8), "leak", 1, math.nan, "b", "unscored", "why")]
    parts = ScoreParts(tmp_path, ["key", 1])
    assert parts.read("s", ["x"]) is None
    parts.write("s", ["x"], rows)
    kept = parts.read("s", ["x"])
    assert kept is not None and kept[0] == rows[0] and math.isnan(kept[1].value) and kept[1].case == rows[1].case
    assert parts.read("s", ["y"]) is None and ScoreParts(tmp_path, ["key", 2]).read("s", ["x"]) is None
    file = next((tmp_path / FOLDER).glob("*.json"))
    file.write_text(file.read_text()[:-20])
    assert parts.read("s", ["x"]) is None
    parts.clear()
    assert not (tmp_path / FOLDER).exists()
