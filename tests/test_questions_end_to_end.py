"""Shipped suites with probes, neutral questions and pairs, from prompts to tables, on a small pipeline of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_scenes import PIPELINE, SHIPPED

from clbench import jobs
from clbench.order import Order
from clbench.report.composition import composition_table
from clbench.report.probes import gram_table, neighbours_of, neutral_table, probe_table
from clbench.results import find_runs, read_all_scores
from clbench.world import load_world

EFFECTS = ("sepia", "upside_down")
WORLD = '\nname = "questions"' + PIPELINE + """
[sources]
kind = "scenes"
folder = "{tiny}/sources"
count = 24
size = 64

[teachers]
folder = "teachers"

[accelerator]
file = "accelerator.safetensors"

[[candidates]]
name = "collection"
file = "collection.safetensors"

[encoders]
clip = ""
perceptual = "st-lpips"
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory, flux_folder, lora_files) -> Path:
    """Suites bleeding and composition on one source, edited and scored; world.toml beside them."""
    root = tmp_path_factory.mktemp("questions")
    (root / "world.toml").write_text(WORLD.format(backbone=flux_folder, tiny=SHIPPED))
    (root / "teachers").mkdir()
    for effect in EFFECTS:
        shutil.copy(lora_files[effect], root / "teachers")
    for name in ("accelerator", "collection"):
        shutil.copy(lora_files[name], root)
    for suite in ("bleeding", "composition"):
        order = Order(suite, str(root / "world.toml"), (), (), None, 1, root / suite, False, False, False)
        jobs.edit(order)
        jobs.score(root / suite, str(root / "world.toml"), suite)
    return root


def test_every_system_answers_or_says_why_not(out: Path):
    for suite in ("bleeding", "composition"):
        for run in find_runs(out / suite):
            records = run.read_edits(verify=True).values()
            assert run.info.status == "complete" and run.validate() == []
            assert {record.status for record in records} <= {"ok", "unscored"}, run.path
            assert all(record.reason for record in records if record.status != "ok")


def test_tables_are_made_of_it(out: Path):
    world, frame = load_world(out / "world.toml"), read_all_scores(find_runs(out / "bleeding"))
    table = probe_table(frame, neighbours_of(world.effects, EFFECTS))
    assert [line.cells[1].text for line in table.rows if line.cells[0].text == "collection"] == [
        "plain", "caption-only", "trigger-only", "other-trigger", "unknown-trigger", "instruction",
    ]  # fmt: skip
    systems = [line.cells[0].text for line in neutral_table(frame).rows]
    assert {"teacher", "cascade", "collection", "reseed", "identity", "truth"} >= set(systems) >= {"collection", "reseed"}
    assert len(gram_table(json.loads((out / "bleeding" / "gram.json").read_text())).rows) == 8
    composed = composition_table(read_all_scores(find_runs(out / "composition")))
    ways = {(line.cells[0].text, line.cells[1].text) for line in composed.rows}
    assert {(system, way) for system in ("cascade", "collection") for way in ("one edit", "two edits")} <= ways
    assert ("truth", "one edit") in ways and ("truth", "two edits") not in ways


def test_one_report_has_a_section_for_each(out: Path):
    jobs.report(out, str(out / "world.toml"), None)
    told = (out / "report.md").read_text(encoding="utf-8")
    for title in ("Prompts", "Neutral questions", "Two effects"):
        assert f"\n## {title}\n" in told
    assert "Control truth: " in told and "Against cascade in two edits" in told


def test_the_truth_of_a_composition_is_right(out: Path):
    (truth,) = (run for run in find_runs(out / "composition") if run.info.system_name == "truth")
    rows = truth.read_scores()
    assert (rows[(rows["metric"] == "perceptual") & (rows["status"] == "ok")]["value"] == 0).all()
    assert (rows[(rows["metric"] == "both") & (rows["status"] == "ok")]["value"] == 1).all()


def test_a_second_time_nothing_is_made(out: Path):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("pictures/**/*.png")}
    order = Order("composition", str(out / "world.toml"), (), (), None, 1, out / "composition", False, False, False)
    jobs.edit(order)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("pictures/**/*.png")}
