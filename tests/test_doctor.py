"""`clbench doctor` finds what a run would fail at."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from mini_parts import build_flux_pipeline, random_lora
from PIL import Image

from clbench import doctor
from clbench.adapter_writing import save_adapter
from clbench.doctor import examine, weight_bytes
from clbench.world import shipped_folder


def state(world_file, what):
    (found,) = [finding for finding in examine(str(world_file)) if finding.what == what]
    return found.state, found.detail


def foreign(path):
    """A LoRA of another base: its modules are there under another name."""
    factors, metadata = random_lora(build_flux_pipeline(), 9)
    save_adapter(path, {name.replace("attn", "attention"): value for name, value in factors.items()}, metadata)


def test_teachers_are_read_and_not_only_counted(mini_world_file):
    folder = mini_world_file.parent / "teachers"
    assert state(mini_world_file, "teachers") == ("ok", "2 of 2 effects of the collection pool")
    factors, metadata = random_lora(build_flux_pipeline(), 9)
    save_adapter(folder / "sepia.safetensors", factors, metadata, {"clbench.instruction": "paint it brown"})
    now, told = state(mini_world_file, "teachers")
    assert now == "missing" and "sepia.safetensors was trained with the instruction 'paint it brown'" in told
    save_adapter(folder / "sepia.safetensors", factors, metadata)
    foreign(folder / "upside_down.safetensors")
    now, told = state(mini_world_file, "teachers")
    assert now == "missing" and "upside_down.safetensors is a LoRA of another base" in told and "more" not in told
    (folder / "sepia.safetensors").write_bytes(b"no adapter")
    now, told = state(mini_world_file, "teachers")
    assert now == "missing" and "sepia.safetensors" in told and "(and 1 more of 2 teachers)" in told
    for file in folder.iterdir():
        file.unlink()
    assert state(mini_world_file, "teachers") == ("missing", "0 of 2 effects of the collection pool")


def test_adapters_are_held_against_a_hubs_snapshot_too(mini_world_file, flux_folder, monkeypatch):
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace(f'path = "{flux_folder}"', 'hub = "some/model"'))
    asked = []
    monkeypatch.setattr(
        "clbench.backbones.hub_folder", lambda name, revision, local_only: (asked.append((name, local_only)), flux_folder)[1]
    )
    assert state(mini_world_file, "accelerator")[0] == "ok"
    foreign(mini_world_file.parent / "accelerator.safetensors")
    now, told = state(mini_world_file, "accelerator")
    assert now == "missing" and "is a LoRA of another base" in told
    assert set(asked) == {("some/model", True)}, "nothing is fetched"


def test_a_candidates_own_words_are_told(mini_world_file):
    file = mini_world_file.parent / "collection.safetensors"
    factors, metadata = random_lora(build_flux_pipeline(), 9)
    captions = {"sepia": "a photo in brown tones", "upside_down": "turn it upside down"}
    save_adapter(file, factors, metadata, {"clbench.captions": json.dumps(captions)})
    now, told = state(mini_world_file, "candidate collection")
    assert now == "ok" and told.endswith("; asked with captions of its own (sepia)")


def test_effects_that_a_candidate_does_not_hold_are_named(mini_world_file):
    file = mini_world_file.parent / "collection.safetensors"
    factors, metadata = random_lora(build_flux_pipeline(), 9)
    save_adapter(file, factors, metadata, {"clbench.effects": "sepia upside_down fog"})
    assert "not trained on" not in state(mini_world_file, "candidate collection")[1]
    save_adapter(file, factors, metadata, {"clbench.effects": "sepia fog"})
    now, told = state(mini_world_file, "candidate collection")
    assert now == "ok" and told.endswith("; not trained on 1 of the world's 2 effects (upside_down)")
    named = 'file = "collection.safetensors"\n'
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace(named, named + 'effects = ["upside_down"]\n'))
    now, told = state(mini_world_file, "candidate collection")
    assert now == "warning" and "not trained on 1 of the world's 2 effects (sepia)" in told
    assert told.endswith("world.toml names effects that the file's own header does not: upside_down")


def test_a_missing_folder_of_pictures_is_one_finding_among_others(mini_world_file):
    """As in a template that was copied and not yet filled in."""
    shutil.rmtree(mini_world_file.parent / "pictures")
    (mini_world_file.parent / "accelerator.safetensors").unlink()
    found = {finding.what: finding for finding in examine(str(mini_world_file))}
    assert found["sources"].state == "missing" and "pictures" in found["sources"].detail and "pictures" not in found
    assert found["accelerator"].state == "missing" and found["backbone"].state == "ok"
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace("[accelerator]", '[references]\nfolder = "pairs"\n\n[accelerator]'))
    (mini_world_file.parent / "pictures").mkdir()
    photo(mini_world_file.parent / "pictures" / "one.png", 40, 40)
    found = {finding.what: finding for finding in examine(str(mini_world_file))}
    assert found["sources"].state == "ok" and found["pictures"].detail.startswith("folder of reference pictures not found")


@pytest.mark.parametrize("template", ["flux-kontext", "qwen-image-edit"])
def test_paths_of_a_template_that_are_not_changed_are_said_first(tmp_path, template):
    world = tmp_path / "mine.toml"
    text = (shipped_folder() / "templates" / f"{template}.toml").read_text()
    world.write_text(text.replace('"ViT-B-32/laion2b_s34b_b79k"', '""'))  # no network
    lines = world.read_text().splitlines()
    held = ("[sources] folder", "[accelerator] file", "[teachers.files] glow", "[teachers.files] sketch", "[[candidates]] file")
    first = examine(str(world))[0]
    assert (first.what, first.state) == ("world file", "warning")
    assert first.detail.startswith(f"{world} still holds paths of the template, to be changed first: [sources] folder (line ")
    for key in held:
        number = int(first.detail.partition(f"{key} (line ")[2].partition(")")[0])
        assert lines[number - 1].startswith(key.rpartition(" ")[2] + " = ")
    (tmp_path / "pictures").mkdir()
    assert "[sources]" not in examine(str(world))[0].detail, "it is there"
    world.write_text(world.read_text().replace("loras/", "own/"))
    assert examine(str(world))[0].what == "machine"


def test_another_pipeline_and_an_impossible_resolution_are_said(mini_world_file, flux_folder, tmp_path):
    shutil.copytree(flux_folder, tmp_path / "own")
    text = mini_world_file.read_text().replace(str(flux_folder), "own")
    mini_world_file.write_text(text.replace("resolution = 32", "resolution = 36"))
    now, told = state(mini_world_file, "backbone")
    assert now == "missing" and "resolution = 36 is not possible" in told
    index = tmp_path / "own/model_index.json"
    index.write_text(index.read_text().replace("FluxKontextPipeline", "FluxPipeline"))
    now, told = state(mini_world_file, "backbone")
    assert now == "missing" and "FluxPipeline" in told and "FluxKontextPipeline" in told


def test_adapters_are_checked_before_the_weights_are_there(mini_world_file, flux_folder, tmp_path):
    """The config says which layers the transformer will have."""
    (tmp_path / "own/transformer").mkdir(parents=True)
    shutil.copy(flux_folder / "transformer/config.json", tmp_path / "own/transformer")
    mini_world_file.write_text(mini_world_file.read_text().replace(str(flux_folder), "own"))
    assert state(mini_world_file, "backbone")[0] == "missing"
    assert state(mini_world_file, "accelerator")[0] == "ok"
    foreign(mini_world_file.parent / "accelerator.safetensors")
    now, told = state(mini_world_file, "accelerator")
    assert now == "missing" and "is a LoRA of another base" in told


def photo(path, width, height, **how):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path, **how)


def test_every_source_of_a_folder_is_opened(mini_world_file):
    folder = mini_world_file.parent / "pictures"
    for file in folder.iterdir():
        file.unlink()
    now, told = state(mini_world_file, "sources")
    assert now == "missing" and told == f"folder {folder} holds no picture"
    photo(folder / "wide.jpg", 96, 48)
    photo(folder / "tall.png", 40, 50)
    now, told = state(mini_world_file, "sources")
    assert (now, told) == ("ok", "2 pictures; the centre crop removes at most 50 % of one (wide.jpg)")
    whole = (folder / "wide.jpg").read_bytes()
    (folder / "wide.jpg").write_bytes(whole[: len(whole) // 2])
    now, told = state(mini_world_file, "sources")
    assert now == "missing" and "wide.jpg" in told and "truncated" in told
    (folder / "tall.png").write_bytes(b"no picture")
    now, told = state(mini_world_file, "sources")
    assert now == "missing" and "tall.png" in told and "(and 1 more of 2 pictures)" in told


def test_sources_that_would_be_enlarged_are_counted(mini_world_file):
    folder = mini_world_file.parent / "pictures"
    photo(folder / "small.png", 31, 64)
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side: 24 wide and 90 high once it stands
    photo(folder / "turned.jpg", 90, 24, exif=turned)
    now, told = state(mini_world_file, "sources")
    assert now == "warning" and "2 of 6 pictures are smaller than resolution = 32 and would be enlarged" in told
    assert "the smallest is turned.jpg with 24 px" in told and "at most 73 % of one (turned.jpg)" in told


def test_only_the_sources_that_the_world_takes_are_looked_at(mini_world_file):
    (mini_world_file.parent / "pictures" / "z.png").write_bytes(b"no picture")
    assert state(mini_world_file, "sources")[0] == "missing"
    mini_world_file.write_text(mini_world_file.read_text().replace('folder = "pictures"', 'folder = "pictures"\ncount = 4'))
    assert state(mini_world_file, "sources") == ("ok", "4 pictures; the centre crop removes at most 20 % of one (p0.png)")


def test_reference_pairs_are_held_against_the_sources(mini_world_file):
    root = mini_world_file.parent
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace("[accelerator]", '[references]\nfolder = "references"\n\n[accelerator]'))
    for side in ("source", "target"):
        shutil.copytree(root / "pictures", root / "references" / "sepia" / side)
    left = "; neither operator nor pairs, so judged by their teacher: upside_down"
    assert state(mini_world_file, "references") == ("ok", "pairs for all 4 sources, effects: 1" + left)
    (root / "references" / "sepia" / "target" / "p3.png").unlink()
    assert state(mini_world_file, "references") == (
        "warning", "effect 'sepia' has a reference pair for 3 of 4 sources; the others have no truth" + left
    )  # fmt: skip
    (root / "teachers" / "upside_down.safetensors").rename(root / "upside_down.safetensors")
    assert state(mini_world_file, "references")[1].endswith("; neither operator nor pairs, so not judged at all: upside_down")
    (root / "upside_down.safetensors").rename(root / "teachers" / "upside_down.safetensors")
    Image.new("RGB", (9, 4)).save(root / "references" / "sepia" / "target" / "p2.png")
    now, told = state(mini_world_file, "references")
    assert now == "missing" and "a pair must have one shape" in told
    shutil.rmtree(root / "references" / "sepia" / "target")
    (root / "references" / "sepia" / "target").mkdir()
    now, told = state(mini_world_file, "references")
    assert now == "missing" and "holds no picture, so 'sepia' has no pair" in told


def test_bytes_of_a_pipelines_weights(flux_folder):
    pipe = build_flux_pipeline()
    models = [model for model in pipe.components.values() if isinstance(model, torch.nn.Module)]
    numbers = sum(parameter.numel() for model in models for parameter in model.parameters())
    assert 0 <= weight_bytes(flux_folder, "float32") - 4 * numbers <= 0.01 * numbers  # T5 may store what it shares twice
    assert 2 * weight_bytes(flux_folder, "bfloat16") == weight_bytes(flux_folder, "float32")


@pytest.mark.parametrize(("free", "expected"), [(2**40, "ok"), (1000, "warning")])
def test_a_gpu_that_is_too_small_is_said(mini_world_file, monkeypatch, free, expected):
    mini_world_file.write_text(mini_world_file.read_text().replace('device = "cpu"', 'device = "cuda:0"'))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a card")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    now, told = state(mini_world_file, "GPU memory")
    assert now == expected and "GiB of weights as float32" in told and ("will not fit" in told) == (expected == "warning")


def test_a_gpu_that_is_not_there(mini_world_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "GPU memory" not in {finding.what for finding in doctor.examine(str(mini_world_file))}
    mini_world_file.write_text(mini_world_file.read_text().replace('device = "cpu"', 'device = "cuda"'))
    assert state(mini_world_file, "GPU memory")[0] == "missing"


def systems(world_file):
    """What can be run, and what cannot."""
    found = examine(str(world_file))
    (can,) = [finding for finding in found if finding.what == "systems"]
    return can.detail, [finding.detail for finding in found if finding.what == "cannot run"]


def test_systems_that_the_world_can_and_cannot_run(mini_world_file, without):
    file = mini_world_file
    can, cannot = systems(file)
    assert can == (
        "base, teacher, cascade, collection, teacher-few, merged-<method>, merged-<method>+accelerator, folder (with --images)"
    )
    assert cannot == [
        "joint and joint+accelerator: world mini has no [joint]; add [joint] with file = \"...\" to "
        f"{file} to run them"
    ]  # fmt: skip
    can, cannot = systems(without("accelerator", "candidates"))
    assert can == "base, teacher, teacher-few, merged-<method>, folder (with --images)"
    assert cannot[0] == (
        "cascade, joint+accelerator and merged-<method>+accelerator: world mini has no [accelerator]; add "
        f'[accelerator] with file = "..." to {file} to run them'
    )
    assert cannot[1].startswith("collection: world mini has no [[candidates]]; add [[candidates]] with name")
    assert "missing" not in {finding.state for finding in examine(str(file))}, "a world may lack them"
    _, cannot = systems(without("teachers"))
    assert cannot[0].startswith("teacher, cascade, teacher-few, merged-<method> and merged-<method>+accelerator: world mini has ")
    assert not any("see '" in one for one in cannot)


def test_teachers_are_not_missing_where_answers_are_known_without_them(paired_world_file):
    assert state(paired_world_file, "teachers") == (
        "note",
        "world mini has no [teachers]; suites of the taught effects ask those whose right answer is known: 2 of 2 effects, by "
        "operator or reference pairs",
    )  # fmt: skip
    assert "missing" not in {finding.state for finding in examine(str(paired_world_file))}
    can, cannot = systems(paired_world_file)
    assert can == "base, folder (with --images)" and cannot[0].startswith("teacher, cascade, teacher-few, merged-<method> and ")
    shutil.rmtree(paired_world_file.parent / "references")
    (paired_world_file.parent / "references").mkdir()
    assert state(paired_world_file, "teachers") == ("missing", "0 of 2 effects of the collection pool"), "then nothing is known"
    shutil.rmtree(paired_world_file.parent / "references")
    assert state(paired_world_file, "teachers")[0] == "missing"


def test_systems_whose_files_are_missing_or_broken_cannot_be_run(mini_world_file, flux_folder):
    """Suites do not leave them out: the finding of the file says what is wrong."""
    folder = mini_world_file.parent
    text = mini_world_file.read_text()
    mini_world_file.write_text(text + '\n[[candidates]]\nname = "other"\nfile = "accelerator.safetensors"\n')
    (folder / "collection.safetensors").write_bytes(b"no adapter")
    save_adapter(folder / "teachers" / "sepia.safetensors", *random_lora(build_flux_pipeline(), 5, rank=2))
    can, cannot = systems(mini_world_file)
    assert can == (
        "base, teacher, cascade, collection-other, teacher-few, merged-cat, merged-cat+accelerator, merged-svd, "
        "merged-svd+accelerator, merged-ties_svd, merged-ties_svd+accelerator, merged-dare_ties_svd, "
        "merged-dare_ties_svd+accelerator, merged-magnitude_prune_svd, merged-magnitude_prune_svd+accelerator, "
        "folder (with --images)"
    )
    assert "collection: see 'candidate collection'" in cannot
    assert sum("needs equal ranks" in one for one in cannot) == 4, "for each method"
    (folder / "accelerator.safetensors").unlink()
    can, cannot = systems(mini_world_file)
    assert "cascade" not in can and "collection-other: see 'candidate other'" in cannot
    assert "cascade, joint+accelerator and merged-<method>+accelerator: see 'accelerator'" in cannot
    shutil.rmtree(folder / "teachers")
    can, cannot = systems(mini_world_file)
    assert can == "base, folder (with --images)"
    assert "teacher, cascade, teacher-few, merged-<method> and merged-<method>+accelerator: see 'teachers'" in cannot
    mini_world_file.write_text(text.replace(str(flux_folder), "nowhere"))
    can, cannot = systems(mini_world_file)
    assert can == "none: see 'backbone'" and cannot == []
