"""Bad input: one clear sentence before long work, and an exit code that is not zero."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from mini_parts import random_lora
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from clbench.adapter_writing import save_adapter
from clbench.backbones.parts import check_resolution
from clbench.cli import app
from clbench.images import write_png
from clbench.registry import ClbenchError, suggestion

SUITE = """
name = "small"
question = "Does it work?"
effects = "all"
sources = 2
systems = ["teacher", "cascade", "collection"]
metrics = ["psnr"]
"""


@pytest.fixture
def refused(tmp_path, mini_world_file, monkeypatch):
    """Runs `clbench edit` on the mini world and returns its one sentence; the backbone must not be opened."""
    monkeypatch.setattr("clbench.systems.open_backbone", lambda world: pytest.fail("long work has begun"))
    suite = tmp_path / "small.toml"
    suite.write_text(SUITE)

    def run(*arguments, suite_file=suite, out=tmp_path / "out"):
        command = ["edit", "--suite", suite_file, "--world", mini_world_file, "--out", out, *arguments]
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == 2, result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        return lines[0]

    return run


def test_missing_files(refused, tmp_path):
    assert "no suite 'gone.toml'" in refused(suite_file="gone.toml")
    assert "folder of pictures not found: " in refused("--images", tmp_path / "gone")
    (tmp_path / "collection.safetensors").unlink()
    assert "candidate LoRA 'collection' not found" in refused()
    (tmp_path / "accelerator.safetensors").unlink()
    assert "accelerator LoRA not found" in refused()


def test_unknown_effect_system_and_key(refused, tmp_path, mini_world_file):
    assert "unknown effect 'sepai' in world mini. Did you mean 'sepia'?" in refused("--effect", "sepai")
    assert "unknown system 'cascde'" in refused("--system", "cascde")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SUITE.replace("sources", "surces"))
    assert "line 5: unknown key 'surces'" in refused(suite_file=wrong)
    mini_world_file.write_text(mini_world_file.read_text().replace("guidance", "guidence"))
    assert "unknown key 'guidence' in [backbone]. Did you mean 'guidance'?" in refused()


def test_what_resembles_nothing_is_told_what_is_known():
    assert suggestion("nonsense", ["seconds", "psnr"]) == " Known: psnr, seconds."
    assert suggestion("secnds", ["seconds", "psnr"]) == " Did you mean 'seconds'?"


def test_a_lora_of_another_base(refused, tmp_path):
    from diffusers import FluxTransformer2DModel

    class Other:
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=4, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip

    save_adapter(tmp_path / "collection.safetensors", *random_lora(Other, 0))
    sentence = refused()
    assert (
        "collection.safetensors is a LoRA of another base" in sentence
        and "64x64 in the adapter, 32x32" in sentence
    )


def test_a_truncated_adapter(refused, tmp_path):
    file = tmp_path / "teachers" / "sepia.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "sepia.safetensors is truncated" in refused()


def test_an_adapter_of_nan(refused, tmp_path):
    """Else every edit of its effect fails one by one."""
    file = tmp_path / "teachers" / "sepia.safetensors"
    tensors = load_file(file)
    tensors[min(tensors)].fill_(float("nan"))
    save_file(tensors, file)
    assert f"sepia.safetensors is spoilt: tensor '{min(tensors)}' holds values that are NaN or infinite" in refused()


def test_an_unreadable_source(refused, tmp_path):
    (tmp_path / "pictures" / "p1.png").write_bytes((tmp_path / "pictures" / "p1.png").read_bytes()[:60])
    assert "cannot read the picture" in refused() and "p1.png" in refused()


def test_a_folder_with_an_unreadable_picture(refused, tmp_path):
    for effect in ("sepia", "upside_down"):
        for source in ("p0", "p1"):
            write_png(tmp_path / "made" / effect / f"{source}.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "made" / "sepia" / "p1.png").write_bytes(b"broken")
    sentence = refused("--system", "folder", "--images", tmp_path / "made")
    assert "cannot read the picture" in sentence and "sepia/p1.png" in sentence and "--skip-bad" in sentence


def test_a_folder_with_none_of_the_pictures(refused, tmp_path):
    write_png(tmp_path / "made" / "sepai" / "p0.png", np.zeros((32, 32, 3), np.uint8))
    sentence = refused("--system", "folder", "--images", tmp_path / "made")
    assert "holds none of the" in sentence and "sepia/p0.png" in sentence


@pytest.mark.parametrize("header", [b"[1, 2, 3]", b'{"a": {"dtype": "F32"}}', b'{"a": 1}', b'{"a": {"data_offsets": [0]}}'])
def test_a_header_of_another_shape(refused, tmp_path, header):
    file = tmp_path / "teachers" / "sepia.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "sepia.safetensors is no safetensors file" in refused()


def test_an_output_folder_that_cannot_be_written(refused, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file stands where the folder should be")
    assert "cannot write to the output folder" in refused(out=tmp_path / "occupied")

    def read_only(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("clbench.disk.tempfile.NamedTemporaryFile", read_only)
    sentence = refused(out=tmp_path / "locked")
    assert "cannot write to the output folder" in sentence and "Permission denied" in sentence


def test_a_missing_backbone(refused, tmp_path, mini_world_file, flux_folder):
    mini_world_file.write_text(mini_world_file.read_text().replace(str(flux_folder), "nowhere"))
    assert "nowhere holds no model_index.json" in refused()


def test_a_world_without_teachers(refused, tmp_path):
    shutil.rmtree(tmp_path / "teachers")
    assert f"folder of teacher LoRAs not found: {tmp_path / 'teachers'} (named in " in refused()


def test_missing_metric_weights_are_said_before_any_picture(tmp_path, mini_world_file):
    text = mini_world_file.read_text()
    mini_world_file.write_text(text + '\n[encoders]\nclip = "encoders/gone"\n')
    (tmp_path / "small.toml").write_text(SUITE.replace('"psnr"', '"clip_image"'))
    command = [
        "eval",
        "--suite",
        tmp_path / "small.toml",
        "--world",
        mini_world_file,
        "--out",
        tmp_path / "out",
    ]
    result = CliRunner().invoke(app, [str(part) for part in command])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1 and "gone" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("vae/diffusion_pytorch_model.safetensors", "cut", "diffusion_pytorch_model.safetensors is truncated"),
        ("text_encoder/config.json", "{", "config.json is truncated or no JSON file"),
        ("model_index.json", "{", "model_index.json is truncated or no JSON file"),
        ("transformer/diffusion_pytorch_model.safetensors", "", "holds no weights of the FluxTransformer2DModel"),
    ],
)
def test_a_backbone_with_a_broken_part(refused, tmp_path, mini_world_file, part, content, words):
    from clbench.world import load_world

    shutil.copytree(load_world(mini_world_file).backbone_path, tmp_path / "broken")
    file = tmp_path / "broken" / part
    if content == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif content:
        file.write_text(content)
    else:
        file.unlink()
    text = mini_world_file.read_text()
    old = next(line for line in text.splitlines() if line.startswith("path = "))
    mini_world_file.write_text(text.replace(old, 'path = "broken"'))
    assert words in refused()


@pytest.fixture
def own_backbone(tmp_path, mini_world_file, flux_folder):
    """The mini world's backbone as a folder that a test may change."""
    folder = tmp_path / "own"
    shutil.copytree(flux_folder, folder)
    mini_world_file.write_text(mini_world_file.read_text().replace(str(flux_folder), "own"))
    return folder


def rewrite(file, **changes):
    found = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in (found | changes).items() if value is not None}))


def test_a_backbone_that_lacks_a_shard(refused, own_backbone):
    """Not a LoRA of another base: half of the modules would be missing."""
    whole = own_backbone / "transformer/diffusion_pytorch_model.safetensors"
    first, second = (f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2))
    index = whole.with_name(f"{whole.name}.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a.weight": first, "b.weight": second}}))
    whole.rename(whole.with_name(first))
    assert f"transformer lacks {second}, which {index.name} names" in refused()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("FluxPipeline", "names a FluxPipeline, but kind = 'flux-kontext' in [backbone] is FluxKontextPipeline alone"),
        ("QwenImageEditPipeline", "did you mean kind = 'qwen-image-edit'?"),
        (None, "pipeline without a _class_name"),
    ],
)
def test_a_related_pipeline_does_not_open_as_another(refused, own_backbone, found, words):
    """FLUX.1 dev has the same parts as Kontext; only the index tells."""
    rewrite(own_backbone / "model_index.json", _class_name=found)
    assert words in refused()


def test_edit_plus_is_no_qwen_image_edit(refused, own_backbone, mini_world_file):
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace("[backbone]", '[backbone]\nkind = "qwen-image-edit"'))
    rewrite(own_backbone / "model_index.json", _class_name="QwenImageEditPlusPipeline")
    sentence = refused()
    assert "QwenImageEditPlusPipeline" in sentence and "is QwenImageEditPipeline alone" in sentence


def test_a_resolution_that_the_model_cannot_edit_at(refused, own_backbone, mini_world_file):
    mini_world_file.write_text(mini_world_file.read_text().replace("resolution = 32", "resolution = 36"))
    sentence = refused()
    assert "resolution = 36 is not possible" in sentence and "a multiple of 8 px" in sentence and "32 or 40" in sentence
    assert refused("--system", "identity") == sentence, "pictures that a later run of a model could not stand beside"
    rewrite(own_backbone / "vae/config.json", block_out_channels=None)
    assert "vae/config.json should hold a list 'block_out_channels'" in refused()


@pytest.mark.parametrize(("sides", "fits"), [([False, True, True], 1024), ([False, True], 1032)])
def test_the_step_of_a_qwen_vae_is_that_of_its_pipeline(tmp_path, sides, fits):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps({"temperal_downsample": sides}))
    check_resolution(tmp_path, "qwen-image-edit", fits)
    with pytest.raises(ClbenchError, match=f"a multiple of {2 ** (len(sides) + 1)} px"):
        check_resolution(tmp_path, "qwen-image-edit", fits + 4)
