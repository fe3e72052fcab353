"""Shipped suites in worlds that have teachers and no accelerator, from the command to the report, on a small pipeline of random
weights: what the report is about without the cascade.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_scenes import PIPELINE, SHIPPED
from typer.testing import CliRunner

from clbench.cli import app

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
