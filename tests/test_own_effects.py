"""A user's own effects, outside of any catalogue: pairs of pictures -> teachers -> extension of a collection -> report.

The commands are those of README, section "Your own effects", at smoke size.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_scenes import PIPELINE, SHIPPED
from typer.testing import CliRunner

from clbench.cli import app
from clbench.images import write_png
from clbench.results import find_runs, read_all_scores

OWN = ("glow", "inkwash")
WORLD = '\nname = "mine"' + PIPELINE + """
[[effects.inline]]
id = "glow"
instruction = "make it glow"

[[effects.inline]]
id = "inkwash"
instruction = "paint it with ink"

[sources]
kind = "scenes"
folder = "{tiny}/sources"
count = 12
size = 64

[teachers]
folder = "trained/teachers"

[[candidates]]
name = "collection"
file = "trained/collection.safetensors"
effects = ["sepia"]

[[candidates]]
name = "mine"
file = "trained/extension.safetensors"
effects = ["sepia", "glow", "inkwash"]
extends = "collection"

[encoders]
perceptual = "st-lpips"
"""


def clbench(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def mine(tmp_path_factory, flux_folder, lora_files) -> Path:
    """The folder of the user: a world, pairs of two effects, a collection of one effect of the catalogue."""
    root = tmp_path_factory.mktemp("mine")
    (root / "world.toml").write_text(WORLD.format(backbone=flux_folder, tiny=SHIPPED))
    rng = np.random.default_rng(0)
    for effect in OWN:
        for i in range(3):
            picture = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            after = 255 - picture if effect == "glow" else picture[::-1].copy()
            write_png(root / "pairs" / effect / "source" / f"p{i}.png", picture)
            write_png(root / "pairs" / effect / "target" / f"p{i}.png", after)
    (root / "trained" / "teachers").mkdir(parents=True)
    shutil.copy(lora_files["sepia"], root / "trained" / "teachers")
    common = ("--world", root / "world.toml", "--recipe", "smoke", "--out", root / "trained")
    clbench("train", "--stage", "collection", "--effects", "sepia", *common)
    clbench("train", "--stage", "teachers", "--effects", ",".join(OWN), "--pairs", root / "pairs", *common)
    start = root / "trained" / "collection.safetensors"
    clbench("train", "--stage", "collection", "--extend", start, "--effects", ",".join(OWN), *common)
    return root


@pytest.fixture(scope="module")
def evaluated(mine: Path) -> Path:
    clbench(
        "eval", "--suite", "incremental", "--world", mine / "world.toml", "--limit", 2, "--out", mine / "out",
        "--system", "teacher,collection,collection-mine",
    )  # fmt: skip
    return mine / "out"


def test_own_effects_are_asked_of_the_extension_alone(evaluated: Path):
    asked = {
        run.info.system_name: {record.case.effect for record in run.read_edits().values() if record.status == "ok"}
        for run in find_runs(evaluated)
    }
    assert asked == {"teacher": {"sepia", *OWN}, "collection": {"sepia"}, "collection-mine": {"sepia", *OWN}}


def test_the_teacher_is_the_truth_of_an_effect_without_operator(evaluated: Path):
    frame = read_all_scores(find_runs(evaluated))
    rows = frame[(frame["effect"].isin(OWN)) & (frame["metric"] == "perceptual")]
    own = rows[(rows["system"] == "teacher") & (rows["status"] == "ok")]["value"]
    other = rows[(rows["system"] == "collection-mine") & (rows["status"] == "ok")]["value"]
    assert len(other) == 4 and (other > 0).all()
    assert (own == 0).all()  # a teacher against itself


def test_they_appear_in_the_report(evaluated: Path):
    told = (evaluated / "report.md").read_text(encoding="utf-8")
    assert all(effect in told for effect in OWN)
    assert "\n## Old and new effects\n" in told
    assert json.loads((evaluated / "collection-mine" / "run.json").read_text())["status"] == "complete"
