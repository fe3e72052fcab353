"""Shipped suites in worlds that lack LoRAs, from the command to the report, on a small pipeline of random weights: what the
report is about without the cascade, and what is asked without teachers.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tiny_scenes import PIPELINE, SHIPPED
from typer.testing import CliRunner

from clbench.cli import app
from clbench.results import RunFolder

EFFECTS = ("sepia", "upside_down")
WORLD = '\nname = "lean"' + PIPELINE + """
[sources]
kind = "scenes"
folder = "{tiny}/sources"
count = 24
size = 64

[teachers]
folder = "teachers"

[encoders]
clip = ""
perceptual = ""
"""
CANDIDATES = """
[[candidates]]
name = "collection"
file = "collection.safetensors"
effects = ["sepia", "upside_down"]

[[candidates]]
name = "half"
file = "accelerator.safetensors"
effects = ["sepia"]
"""
USUAL = "cascade was not run (world lean has no [accelerator])"


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, flux_folder, lora_files) -> Path:
    """A folder with teachers.toml, and collections.toml which has two candidates too."""
    root = tmp_path_factory.mktemp("lean")
    (root / "teachers").mkdir()
    for effect in EFFECTS:
        shutil.copy(lora_files[effect], root / "teachers")
    for name in ("collection", "accelerator"):
        shutil.copy(lora_files[name], root)
    text = WORLD.format(backbone=flux_folder, tiny=SHIPPED)
    (root / "teachers.toml").write_text(text)
    (root / "collections.toml").write_text(text + CANDIDATES)
    return root


def evaluated(root: Path, world: str, suite: str) -> tuple[str, str]:
    """What was said on the way, and report.md without its escapes."""
    out = root / world / suite
    words = ("eval", "--suite", suite, "--world", root / f"{world}.toml", "--limit", 1, "--out", out)
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stderr, (out / "report.md").read_text(encoding="utf-8").replace("\\", "")


@pytest.mark.parametrize("suite", ["bleeding", "steps", "headline"])
def test_teachers_alone_are_held_against_the_base(worlds, suite):
    said, told = evaluated(worlds, "teachers", suite)
    assert said.count("world lean has no [accelerator], so cascade") == 1
    assert said.count("world lean has no [[candidates]], so collection is left out") == 1
    reference = "teacher" if suite == "headline" else "base"  # merged teachers and few steps are held against the teachers
    assert told.count(f"Differences are to {reference}: {USUAL}.") == 2, "in the verdict and under the summary"
    assert f"to {reference} (paired)" in told and f"Paired differences to {reference}" in told
    assert "\n- Left out: cascade" in told and "collection (world lean has no [[candidates]])" in told


@pytest.mark.parametrize("suite", ["bleeding", "ablation", "capacity", "incremental", "composition"])
def test_a_collection_is_held_against_the_teachers(worlds, suite):
    said, told = evaluated(worlds, "collections", suite)
    assert said.count("world lean has no [accelerator], so cascade") == 1 and "has no [[candidates]]" not in said
    usual = f"Differences are to teacher: {USUAL}."
    alone = "Without a run of cascade nothing is said about differences to it"
    expected = {"ablation": "Paired differences to collection", "capacity": alone, "composition": alone}
    assert expected.get(suite, usual) in told


def invoked(*words: object, code: int = 0) -> str:
    """What was said on the way, in one line."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


INSTEAD = "world mini has no [teachers], so instead of taught effects those with an operator or reference pairs are asked: "


def test_a_folder_of_pictures_needs_no_teachers(paired_world_file, tmp_path):
    out = tmp_path / "out"
    words = ("eval", "--suite", "fidelity", "--world", paired_world_file, "--limit", 4, "--out", out)
    said = invoked(*words, "--images", tmp_path / "made", "--system", "folder")
    assert said.count(INSTEAD) == 1 and "left out" not in said and "failed" not in said
    scores = RunFolder.open(out / "folder").read_scores()
    assert set(scores["effect"]) == {"sepia", "upside_down"}
    success = scores[scores["metric"] == "success"]
    assert len(success) == 8 and set(success["status"]) == {"ok"} and (out / "report.md").is_file()
    (tmp_path / "made" / "sepia" / "p0.png").rename(tmp_path / "made" / "sepia" / "ComfyUI_00001_.png")
    said = invoked(*words[:-1], tmp_path / "more", "--images", tmp_path / "made", "--system", "folder")
    assert said.count("is named after no source of world mini, the first sepia/ComfyUI_00001_.png: expected sepia/p0.png") == 1
    refused = invoked(*words, "--images", tmp_path / "made", "--system", "folder", code=2)
    assert re.search(r"folder holds another run: the pictures in the folder have changed since \(\w{8}, now \w{8}\); ", refused)
    assert refused.endswith("choose another --out, or add --overwrite to make it anew")
    assert "system 'teacher' cannot be run: world mini has no [teachers]; add" in invoked(*words, "--system", "teacher", code=2)


def test_all_suites_of_a_world_without_teachers(paired_world_file, tmp_path):
    out = tmp_path / "out"
    said = invoked(
        "eval", "--suite", "all", "--world", paired_world_file, "--limit", 1, "--out", out, "--images", tmp_path / "made"
    )
    assert said.count(INSTEAD) == 1 and said.count("no [teachers], so teacher, ") == 1, "once for all suites"
    made = {path.parent.name for path in out.glob("*/folder")}
    assert {"fidelity", "bleeding"} <= made and not list(out.glob("*/teacher"))
