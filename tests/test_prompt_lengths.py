"""Prompts that are longer than the text encoder takes are counted by the backbone's own tokenizer, and said before work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from clbench.cli import app
from clbench.doctor import examine as doctor
from clbench.edit import bench_for
from clbench.neutral import NeutralEdit
from clbench.prompt_lengths import Asked, Lengths, count_prompts, read_lengths, sentence, token_counter, world_prompts
from clbench.registry import ClbenchError
from clbench.suite import load_suite
from clbench.systems import open_system
from clbench.types import Edit
from clbench.world import load_world

LONG = "turn the whole scene upside down, so that the sky lies below and the ground hangs above it"


@pytest.fixture
def wordy(mini_world_file) -> Path:
    """The mini world, in which one of two effects has an instruction (and a caption) that is too long."""
    text = mini_world_file.read_text().replace('"turn it upside down"', f'"{LONG}"')
    mini_world_file.write_text(text.replace("max_sequence_length = 12", "max_sequence_length = 64"))
    return mini_world_file


def asking(tmp_path: Path, more: str = "") -> Path:
    file = tmp_path / "asking.toml"
    file.write_text(
        'name = "asking"\nquestion = "q?"\nsources = 1\nsystems = ["base"]\nmetrics = ["psnr"]\neffects = "all"\n' + more
    )
    return file


def test_tokens_are_those_of_the_pipelines_tokenizer(wordy, flux_folder):
    world = load_world(wordy)
    theirs, ours = AutoTokenizer.from_pretrained(flux_folder / "tokenizer_2"), token_counter(world, flux_folder)
    for prompt in (LONG, "make it sepia", "<qx1> " + LONG, "", "<>"):
        assert ours(prompt) == len(theirs(prompt, truncation=False).input_ids)
    assert ours(LONG) > world.backbone.max_sequence_length > ours("make it sepia")


def test_a_backbone_that_cuts_nothing_is_not_counted(mini_world, flux_folder, tmp_path):
    """Qwen-Image-Edit's prompts are encoded whole; and without a tokenizer's file nobody can say."""
    table = mini_world.table.model_copy(update={"backbone": mini_world.backbone.model_copy(update={"kind": "qwen-image-edit"})})
    assert token_counter(type(mini_world)(mini_world.file, table), flux_folder) is None
    assert token_counter(mini_world, tmp_path) is None


def test_prompts_are_counted_by_the_way_to_ask(wordy, flux_folder, tmp_path):
    world = load_world(wordy)
    suite = load_suite(asking(tmp_path, 'probes = ["paraphrase", "trigger-only", "neutral"]\n'))
    bench, tokens = bench_for(world, suite), token_counter(world, flux_folder)
    base, one = (count_prompts(open_system(name, bench), suite.cases(world), world, tokens) for name in ("base", "collection"))
    assert [(asked.question, asked.prompts) for asked in base.asked] == [("plain", 2), ("paraphrase", 2), ("neutral", 2)]
    assert {asked.question: asked.longer for asked in one.asked} == {"plain": 1, "paraphrase": 1, "trigger-only": 0, "neutral": 0}
    assert sentence("collection", one) == (
        "1 of 2 plain prompts and 1 of 2 prompts by «paraphrase» of collection are longer than max_sequence_length (64 tokens) "
        "and lose their end"
    )
    assert sentence("collection", one, ["trigger-only"]) == ""
    assert count_prompts(open_system("identity", bench), suite.cases(world), world, tokens) is None
    pairs = load_suite(asking(tmp_path, 'pairs = 2\nprobes = ["twice"]\n'))
    two = count_prompts(open_system("base", bench_for(world, pairs)), pairs.cases(world), world, tokens)
    assert two.asked == (Asked("two effects", 2, 2), Asked("twice", 2, 1))


def test_general_instructions_are_drawn_once_for_all_systems_and_steps(wordy, flux_folder, tmp_path, monkeypatch):
    """They are asked too, and may be too long; drawing one paints its right answer, which takes time."""
    drawn = []

    def long_for_sepia(world, case):
        drawn.append((case.effect, case.source, case.seed))
        return NeutralEdit("identity", f"{LONG} {case.source}" if case.effect == "sepia" else "do nothing", None)

    monkeypatch.setattr("clbench.neutral.neutral_edit", long_for_sepia)
    world = load_world(wordy)
    suite = load_suite(asking(tmp_path, 'probes = ["neutral"]\nsteps = [1, 2]\n'))
    bench, tokens, cases = bench_for(world, suite), token_counter(world, flux_folder), suite.cases(world)
    for name in ("base", "reseed", "teacher", "collection"):
        found = {asked.question: asked for asked in count_prompts(open_system(name, bench), cases, world, tokens).asked}
        assert found["neutral"] == Asked("neutral", 2, 1)
        assert set(found) == ({"neutral"} if name == "reseed" else {"plain", "neutral"})
    assert len(drawn) == len(set(drawn)) == 2


def test_edit_says_it_before_any_picture_and_keeps_it(wordy, tmp_path, monkeypatch):
    from clbench import edit as program

    monkeypatch.setattr(program, "run", lambda folder, *rest: folder)  # nothing is sampled
    command = ["edit", "--suite", str(asking(tmp_path)), "--world", str(wordy), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--system", "base,identity"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "1 of 2 plain prompts of base are longer than max_sequence_length (64 tokens) and lose their end" in said
    assert read_lengths(tmp_path / "out" / "base") == Lengths(64, (Asked("plain", 2, 1),))
    assert read_lengths(tmp_path / "out" / "identity") is None


def test_cases_of_earlier_commands_stay_counted(wordy, tmp_path, monkeypatch):
    """The report is about all that the folder holds, whatever part of it the last command asked for."""
    from clbench import edit as program

    def failing(folder, system, pending, seen):
        for case in pending:
            folder.append_edit(Edit(case, None, status="failed", reason="made up"))
        return folder

    monkeypatch.setattr(program, "run", failing)
    suite = asking(tmp_path, 'probes = ["neutral"]\n')
    command = ["edit", "--suite", str(suite), "--world", str(wordy), "--out", str(tmp_path / "out"), "--system", "base"]

    def counted(*options: str) -> Lengths | None:
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 1, done.output  # as every edit fails
        return read_lengths(tmp_path / "out" / "base")

    whole = counted()
    assert whole == Lengths(64, (Asked("plain", 2, 1), Asked("neutral", 2, 0)))
    assert counted("--effect", "sepia") == whole
    assert counted("--effect", "sepia", "--overwrite") == Lengths(64, (Asked("plain", 1, 0), Asked("neutral", 1, 0)))


def test_doctor_says_it(wordy, mini_world):
    found = {one.what: one for one in doctor(str(wordy))}["prompts"]
    assert found.state == "warning" and found.detail.startswith("2 of 4 prompts of single effects are longer than")
    assert world_prompts(load_world(wordy)) == {"make it sepia", LONG, "<qx1> make it sepia", f"<qx2> {LONG}"}
    short = [replace(effect, instruction=effect.id, caption=effect.id) for effect in mini_world.effects.values()]
    mini_world.effects.update({effect.id: effect for effect in short})
    assert world_prompts(mini_world) == {"sepia", "upside_down", "<qx1> sepia", "<qx2> upside_down"}


def test_a_broken_file_is_one_sentence(tmp_path):
    (tmp_path / "prompts.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(ClbenchError, match="reads up to 1"):
        read_lengths(tmp_path)
    (tmp_path / "prompts.json").write_text("{}")
    with pytest.raises(ClbenchError, match="is not a count of prompts"):
        read_lengths(tmp_path)
