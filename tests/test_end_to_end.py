"""The main job on a smoke recipe: base, encoders, two teachers, accelerator, collection, joint, eval, report; then resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench.cli import app

TINY = Path(__file__).parent.parent / "suites/worlds/tiny"
EFFECTS = ("night_vision", "colour_frame")
WORLD = """
name = "smoke"
resolution = 32

[backbone]
path = "trained/backbone"
device = "cpu"
full_steps = 3
few_steps = 2
guidance = 2.0
max_sequence_length = 24
batch = 8

[effects]
file = "{tiny}/effects.toml"

[sources]
kind = "scenes"
folder = "{tiny}/sources"
count = 8

[teachers]
folder = "trained/teachers"

[accelerator]
file = "trained/accelerator.safetensors"

[[candidates]]
name = "collection"
file = "trained/collection.safetensors"

[encoders]
clip = "trained/encoders/clip"
perceptual = "st-lpips"
"""


def clbench(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("smoke")
    (root / "world.toml").write_text(WORLD.format(tiny=TINY))
    for stage in ("base", "encoders", "teachers", "accelerator", "collection", "joint"):
        clbench(
            "train", "--stage", stage, "--recipe", "smoke", "--world", str(root / "world.toml"),
            "--effects", ",".join(EFFECTS), "--out", str(root / "trained"),
        )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> Path:
    clbench("eval", "--suite", "demo", "--world", str(trained / "world.toml"), "--limit", "3", "--out", str(trained / "out"))
    return trained / "out"


def test_every_stage_leaves_its_files(trained: Path):
    made = trained / "trained"
    assert (made / "backbone/model_index.json").is_file() and (made / "encoders/clip/open_clip_config.json").is_file()
    for name in (*(f"teachers/{effect}" for effect in EFFECTS), "accelerator", "collection", "joint"):
        assert (made / f"{name}.safetensors").is_file(), name


def test_report_holds_every_system_and_picture(evaluated: Path):
    page, text = (evaluated / "report.html").read_text(), (evaluated / "report.md").read_text()
    for system in ("base", "teacher", "cascade", "collection", "truth", "identity", "wrong-effect", "noise-floor"):
        run = json.loads((evaluated / system / "run.json").read_text())
        assert run["status"] == "complete" and run["n_cases"] == 6
        assert len(list((evaluated / system / "pictures").rglob("*.png"))) == 6
        assert system in page and system in text


def test_a_second_eval_makes_no_picture_and_the_same_report(evaluated: Path, trained: Path):
    before = {path: path.stat().st_mtime_ns for path in evaluated.rglob("pictures/**/*.png")}
    page = (evaluated / "report.html").read_bytes()
    clbench("eval", "--suite", "demo", "--world", str(trained / "world.toml"), "--limit", "3", "--out", str(evaluated))
    assert before == {path: path.stat().st_mtime_ns for path in evaluated.rglob("pictures/**/*.png")}
    assert page == (evaluated / "report.html").read_bytes()


def test_a_torn_run_is_finished_with_the_same_scores(evaluated: Path, trained: Path, tmp_path: Path):
    torn = tmp_path / "torn"
    shutil.copytree(evaluated, torn)
    edits = torn / "collection" / "edits.jsonl"
    lines = edits.read_bytes().splitlines(keepends=True)
    edits.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # as kill -9 leaves it
    (torn / "collection" / "scores.parquet").unlink()
    clbench("eval", "--suite", "demo", "--world", str(trained / "world.toml"), "--limit", "3", "--out", str(torn))
    first, again = (json.loads(line) for line in (lines[-1], edits.read_bytes().splitlines()[-1]))
    assert set(first) == set(again)
    table, other = ((folder / "report.md").read_text().split("## ")[1] for folder in (evaluated, torn))
    assert table == other
