"""sets.json: sizes, reasons, and the same rows in any order; the metrics themselves are tested with their functions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from test_score import make_run, world  # noqa: F401  (a fixture)
from test_score_questions import suite_of

import clbench.score_sets as room
from clbench.score_sets import SMALLEST, rows_of


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.mean(0) - other.mean(0)).norm())


def test_rows_have_sizes_and_reasons():
    many, few = torch.ones(SMALLEST, 3), torch.zeros(SMALLEST - 1, 3)
    rows = {row.effect: row for row in rows_of({"a": many, "b": few}, {"a": many, "b": few}, None, {"kid": gap})}
    assert rows["a"].value == 0 and rows["a"].n == rows["a"].n_truth == SMALLEST
    assert rows["b"].value is None and rows["b"].status == "unscored" and f"{SMALLEST - 1} pictures" in rows["b"].reason
    assert rows[""].n == 2 * SMALLEST - 1 and rows[""].status == "ok"
    assert rows_of({}, {}, None, {"kid": gap}) == []
    odd = rows_of({"a": many}, {"a": many}, 4, {"kid": lambda a, b: float("nan")})
    assert odd[0].value is None and "not finite" in odd[0].reason and odd[0].steps == 4


def test_a_world_without_clip_says_so(tmp_path, world, monkeypatch):  # noqa: F811
    monkeypatch.setattr(room, "set_metrics", lambda names: dict.fromkeys(names, gap))
    suite = suite_of("small", ("sepia",), ("psnr",), sets=("kid", "cmmd"))
    run = make_run(tmp_path / "truth", world, suite, "truth", cases=suite.cases(world))
    (path,) = room.score_sets([run], world, suite)
    told = json.loads(path.read_text())
    assert told["features"] is None and {row["metric"] for row in told["rows"]} == {"kid", "cmmd"}
    assert all(row["value"] is None and row["reason"] == "the world names no CLIP" for row in told["rows"])


class Colours:
    """A stand-in for CLIP: the mean colour."""

    class card:
        name, sha256 = "colours", "0" * 64

    def embed_image(self, images):
        return images.mean((2, 3))


def test_outputs_are_compared_with_truths(tmp_path, world, monkeypatch):  # noqa: F811
    monkeypatch.setattr(room, "set_metrics", lambda names: dict.fromkeys(names, gap))
    monkeypatch.setattr(room, "SMALLEST", 1)
    monkeypatch.setattr(room, "open_encoders", lambda *_: type("E", (), {"clip": Colours()}))
    suite = suite_of("small", ("sepia", "invert"), ("psnr",), sets=("kid",))
    found = {}
    for name in ("truth", "identity"):
        run = make_run(tmp_path / name, world, suite_of("small", ("sepia", "upside_down"), ("psnr",)), name)
        (path,) = room.score_sets([run], world, suite)
        found[name] = {row["effect"]: row["value"] for row in json.loads(path.read_text())["rows"]}
    assert set(found["truth"]) == {"", "sepia", "upside_down"}
    assert found["truth"]["sepia"] == pytest.approx(0, abs=1e-6) and found["identity"]["sepia"] > 0.01


def test_the_functions_are_those_of_the_metrics():
    sets = pytest.importorskip("clbench.metrics.sets")
    assert room.set_metrics(["cmmd", "kid"]) == {"cmmd": sets.cmmd, "kid": sets.kid}


def test_a_truth_counts_once_however_many_seeds_were_asked(tmp_path, world, monkeypatch):  # noqa: F811
    """Repeated members would bias KID, whose estimate supposes independent ones."""
    monkeypatch.setattr(room, "set_metrics", lambda names: dict.fromkeys(names, gap))
    monkeypatch.setattr(room, "SMALLEST", 1)
    monkeypatch.setattr(room, "open_encoders", lambda *_: type("E", (), {"clip": Colours()}))
    suite = suite_of("small", ("sepia", "upside_down"), ("psnr",), sets=("kid",))
    cases = [replace(case, seed=seed) for case in suite.cases(world) for seed in (0, 1)]
    (path,) = room.score_sets([make_run(tmp_path / "identity", world, suite, "identity", cases=cases)], world, suite)
    sizes = {(row["n"], row["n_truth"]) for row in json.loads(path.read_text())["rows"] if row["effect"]}
    assert sizes == {(len(cases) // 2, len(cases) // 4)}
