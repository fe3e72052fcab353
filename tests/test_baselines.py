"""What a user would try instead of a collection: merged teachers, fewer steps, a joint LoRA."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from test_systems import EFFECTS, Recorder, cases_of
from typer.testing import CliRunner

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.backbones import Sampler
from clbench.cli import app
from clbench.edit import certificate
from clbench.holds import named_in, named_in_part
from clbench.merging import METHODS
from clbench.registry import ClbenchError
from clbench.report.worldly import adapter_bytes
from clbench.suite import load_suite
from clbench.systems import Bench, open_system
from clbench.world import World, load_world

SUITE = """
name = "small"
question = "Does it work?"
sources = 2
systems = ["teacher", "merged-cat", "merged-svd", "joint", "joint+accelerator"]
metrics = ["psnr"]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def world(mini_world_file, lora_files):
    """The mini world with a joint LoRA."""
    shutil.copy(lora_files["collection"], mini_world_file.parent / "joint.safetensors")
    with mini_world_file.open("a") as file:
        file.write('\n[joint]\nfile = "joint.safetensors"\nweight = 0.5\n')
    return load_world(mini_world_file)


@pytest.fixture
def bench(world):
    bench = Bench(world, EFFECTS)
    bench._opened.append(Recorder())
    return bench


def pictures(system, cases):
    return {edit.case.id: edit.picture.astype(int) for edit in system.edit(cases)}


def same(one, other):
    return all(np.abs(one[name] - other[name]).max() <= 1 for name in one)


def test_merged_is_one_file_for_all_effects(bench):
    system = open_system("merged-ties", bench)
    assert not (bench.world.root / "cache").exists(), "nothing is merged before the first picture"
    edits = list(system.edit(cases_of(bench.world)))
    ((file, weight),) = bench.backbone.loaded[0]
    assert file == f"{system.card.adapters['merged']}.safetensors" and weight == 1.0
    assert len(bench.backbone.loaded) == 1 and len(edits) == 8 and edits[0].nfe == 6
    assert bench.backbone.calls[0][1] == Sampler(3, 2.0, False, None)
    assert {job.prompt for job in bench.backbone.calls[0][0]} == {"make it sepia", "turn it upside down"}
    assert system.card.kind == "merged" and set(system.card.settings["merged_from"]) == set(EFFECTS)


def test_merging_is_told_before_the_first_picture_and_once(bench):
    """At real size it takes hours, in which no picture is made."""
    from clbench.types import Telling

    told = []
    for _ in range(2):
        system = open_system("merged-svd", bench)
        assert isinstance(system, Telling) and not isinstance(open_system("teacher", bench), Telling)
        system.tell(lambda *how_far: told.append(how_far))
        list(system.edit(cases_of(bench.world)[:2]))
    modules = len(describe_adapter(bench.world.teacher_path(EFFECTS[0])).modules)
    assert told == [("merge of merged-svd", done, modules) for done in range(modules + 1)]


def test_edit_shows_how_far_a_merge_is(world, tmp_path):
    (tmp_path / "small.toml").write_text(SUITE)
    asked = ["--suite", tmp_path / "small.toml", "--world", world.file, "--system", "merged-cat", "--limit", "1"]
    done = CliRunner().invoke(app, [str(part) for part in ["edit", *asked, "--out", tmp_path / "made"]], catch_exceptions=False)
    assert done.exit_code == 0 and "merge of merged-cat" in done.stderr


def test_merged_with_the_accelerator_is_few_step_without_guidance(bench):
    system = open_system("merged-ties+accelerator", bench)
    list(system.edit(cases_of(bench.world)))
    assert len(bench.backbone.loaded[0]) == 1 and bench.backbone.calls[0][1] == Sampler(2, 1.0, True, 3.0)
    assert system.card.adapters != open_system("merged-ties", bench).card.adapters


def test_settings_of_the_world_reach_the_merge_but_not_its_hash(mini_world_file):
    before = load_world(mini_world_file)
    with mini_world_file.open("a") as file:
        file.write('\n[merged]\nweight = 0.7\ndensity = 0.3\nseed = 5\n\n[joint]\nfile = "gone.safetensors"\n')
    after = load_world(mini_world_file)
    assert after.hash == before.hash
    settings = open_system("merged-dare_ties", Bench(after, EFFECTS)).card.settings["merge"]
    assert settings == {"method": "dare_ties", "weights": [0.7, 0.7], "density": 0.3, "seed": 5}
    assert open_system("merged-cat", Bench(before, EFFECTS)).card.settings["merge"]["weights"] == [0.5, 0.5]


@pytest.fixture
def real(world):
    """A bench that samples."""
    return Bench(world, ["sepia"])


def test_one_merged_teacher_gives_the_teachers_pictures(real):
    cases = cases_of(real.world, ["sepia"], steps=2)[:2]  # at full steps the teacher's is the truth, from noise of its own
    teacher, base = (pictures(open_system(name, real), cases) for name in ("teacher", "base"))
    assert not same(teacher, base)
    for method in METHODS:
        assert same(pictures(open_system(f"merged-{method}", real), cases), teacher), method


def test_one_merged_teacher_with_accelerator_gives_the_cascades_pictures(real):
    cases = cases_of(real.world, ["sepia"])[:2]
    cascade = pictures(open_system("cascade", real), cases)
    assert same(pictures(open_system("merged-svd+accelerator", real), cases), cascade)


def test_cat_of_two_gives_the_pictures_of_both_loaded_together(world):
    bench = Bench(world, EFFECTS)
    cases = cases_of(world, ["sepia"])[:2]
    merged = open_system("merged-cat", bench)
    seen = pictures(merged, cases)
    bench.backbone.use_adapters([(world.teacher_path(effect), 0.5) for effect in EFFECTS])
    made = merged._batch([merged._ask(case) for case in cases], merged.sampler)
    both = {edit.case.id: edit.picture.astype(int) for edit in made}
    assert same(seen, both)


def test_unmergeable_teachers_are_said_when_the_system_is_opened(bench, mini_world):
    from mini_parts import build_flux_pipeline, random_lora

    from clbench.adapter_writing import save_adapter

    save_adapter(mini_world.root / "teachers" / "sepia.safetensors", *random_lora(build_flux_pipeline(), 5, rank=2))
    with pytest.raises(ClbenchError, match="'ties' needs equal ranks"):
        open_system("merged-ties", bench)
    open_system("merged-ties_svd", bench)
    with pytest.raises(ClbenchError, match=r"unknown system 'merged-tise'\. Did you mean 'merged-ties'"):
        open_system("merged-tise", bench)


def test_teacher_few_turns_down_the_steps_and_nothing_else(bench):
    system = open_system("teacher-few", bench)
    edits = list(system.edit(cases_of(bench.world)))
    assert bench.backbone.loaded == [(("sepia.safetensors", 1.0),), (("upside_down.safetensors", 1.0),)]
    assert bench.backbone.calls[0][1] == Sampler(2, 2.0, False, None) and edits[0].nfe == 4
    assert bench.backbone.calls[0][0][0].prompt == "make it sepia"
    teacher = open_system("teacher", bench).card
    changed = {key for key, value in system.card.settings.items() if teacher.settings[key] != value}
    assert changed == {"steps"} and system.card.adapters == teacher.adapters
    assert set(teacher.settings) - set(system.card.settings) == {"noise of the truth"}


def test_joint_alone_and_with_the_accelerator(bench):
    list(open_system("joint", bench).edit(cases_of(bench.world)))
    assert bench.backbone.loaded == [(("joint.safetensors", 0.5),)]
    assert bench.backbone.calls[0][1] == Sampler(3, 2.0, False, None)
    assert {job.prompt for job in bench.backbone.calls[0][0]} == {"<qx1> make it sepia", "<qx2> turn it upside down"}
    system = open_system("joint+accelerator", bench)
    list(system.edit(cases_of(bench.world)))
    assert bench.backbone.loaded[-1] == (("joint.safetensors", 0.5), ("accelerator.safetensors", 1.0))
    assert bench.backbone.calls[-1][1] == Sampler(2, 1.0, True, 3.0)
    assert set(system.card.adapters) == {"joint", "accelerator"}


@pytest.mark.parametrize("kind", ["instruction", "caption"])
def test_a_joint_lora_is_asked_in_the_words_of_its_training(bench, kind):
    path = bench.world.joint().path
    info = describe_adapter(path)
    save_adapter(path, load_tensors(info), info.metadata, {"clbench.prompt": kind})
    plain = open_system("joint", bench)
    assert plain.card.settings["prompt"] == kind
    list(plain.edit(cases_of(bench.world)))
    assert {job.prompt for job in bench.backbone.calls[-1][0]} == {"make it sepia", "turn it upside down"}


@pytest.mark.parametrize("name", ["joint", "joint+accelerator"])
def test_a_joint_lora_is_not_asked_effects_that_its_file_does_not_name(bench, name):
    """As a candidate; where it names all that the suite asks, or none, everything is asked and the card is as it was."""
    plain = open_system(name, bench)
    says(bench.world.joint().path, "sepia fog")
    system = open_system(name, bench)
    edits = {edit.case.effect: edit for edit in system.edit(cases_of(bench.world))}
    assert edits["sepia"].status == "ok" and edits["upside_down"].status == "unscored"
    assert edits["upside_down"].reason == f"{name} was not trained on 'upside_down', as its file says"
    assert {**plain.card.settings, "effects": ["sepia", "fog"], "new effects": []} == system.card.settings
    for effects, asked in (("sepia fog", ["sepia"]), ("upside_down sepia", EFFECTS), ("", EFFECTS)):
        says(bench.world.joint().path, effects)
        system = open_system(name, Bench(bench.world, asked))
        assert not any(map(system.plan.refuses, cases_of(bench.world, asked))) and system.card.settings == plain.card.settings


def says(path, effects: str) -> None:
    """Write into an adapter's header what it was trained on."""
    info = describe_adapter(path)
    save_adapter(path, load_tensors(info), info.metadata, {"clbench.effects": effects} if effects else {})


@pytest.mark.parametrize("name", ["tiny", "tiny-8"])
def test_shipped_joint_loras_are_asked_everything_that_their_world_teaches(name):
    shipped = load_world(name)
    header = describe_adapter(shipped.joint().path).header
    assert named_in(header) and named_in_part(header, shipped.taught) == ()


GUIDANCES = [(None, 1.5, 1.5, 1.5), (2.5, 1.5, 1.5, 2.5), (2.5, None, None, 2.5)]


@pytest.mark.parametrize(("fast", "joint", "alone", "beside"), GUIDANCES)
def test_embedded_guidance_of_the_joint_lora(world, fast, joint, alone, beside):
    tables = {"joint": {"embedded_guidance": joint}, "accelerator": {"embedded_guidance": fast}}
    new = {name: getattr(world.table, name).model_copy(update=values) for name, values in tables.items()}
    bench = Bench(World(world.file, world.table.model_copy(update=new)), EFFECTS)
    found = [open_system(name, bench).sampler.embedded_guidance for name in ("joint", "joint+accelerator")]
    assert found == [alone, beside]


def test_a_world_without_a_joint_lora(mini_world, world):
    with pytest.raises(ClbenchError, match=r"'joint' cannot be run: world mini has no \[joint\]; add \[joint\] with file"):
        open_system("joint", Bench(mini_world, EFFECTS))
    (world.root / "joint.safetensors").unlink()
    with pytest.raises(ClbenchError, match="joint LoRA not found"):
        open_system("joint", Bench(world, EFFECTS))


def test_certificates_name_the_device(bench, tmp_path):
    (tmp_path / "small.toml").write_text(SUITE)
    suite = load_suite(tmp_path / "small.toml")
    for name in ("merged-cat", "teacher-few", "joint"):
        assert certificate(bench.world, suite, open_system(name, bench), 4).dtype == "float32"


def test_bytes_of_baselines(bench, tmp_path):
    (tmp_path / "small.toml").write_text(SUITE)
    list(open_system("merged-cat", bench).edit(cases_of(bench.world)[:1]))
    stored = adapter_bytes(bench.world, load_suite(tmp_path / "small.toml"), EFFECTS)
    (made,) = (tmp_path / "cache" / "clbench" / "merged").iterdir()
    assert stored["merged-cat"] == made.stat().st_size and "merged-svd" not in stored
    assert stored["teacher-few"] == stored["teacher"]
    assert stored["joint+accelerator"] == stored["joint"] + bench.world.accelerator().path.stat().st_size


def test_the_command_writes_what_the_system_measures(world, bench, tmp_path):
    list(open_system("merged-ties+accelerator", bench).edit(cases_of(world)[:1]))
    (cached,) = (tmp_path / "cache" / "clbench" / "merged").iterdir()
    out = tmp_path / "mine.safetensors"
    command = ["merge", "--method", "ties", "--world", world.file, "--accelerator", "--out", out]
    done = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
    assert done.exit_code == 0 and done.stdout.strip() == str(out) and "merge by ties" in done.stderr
    mine, measured = (load_tensors(describe_adapter(path)) for path in (out, cached))
    assert describe_adapter(out).rank == 8 and all(torch.equal(mine[name], measured[name]) for name in measured)
    mistakes = {"unknown merging method 'tise'": ["--method", "tise"], "Did you mean 'sepia'": ["--effect", "sepai"]}
    for sentence, wrong in mistakes.items():
        result = CliRunner().invoke(app, [str(part) for part in [*command[:-1], tmp_path / "other.safetensors", *wrong]])
        assert result.exit_code == 2 and sentence in result.stderr
