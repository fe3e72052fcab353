from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from clbench.encoders import check_encoders, in_passes, is_offline, open_clip_encoder, open_encoders, open_perceptual
from clbench.hashing import file_digest
from clbench.registry import ClbenchError

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP of random weights in open_clip's format."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "toy-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "toy-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("toy-clip")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "toy-clip.safetensors")
    return folder


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network by request, and none by fact: a connection is a failure of the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_local_clip_embeds_pictures_and_texts(clip_folder, offline):
    clip = open_clip_encoder(str(clip_folder))
    images = torch.rand((5, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    found, words = clip.embed_image(images), clip.embed_text(["a cat", "a dog on a beach"])
    assert found.shape == (5, 16) and words.shape == (2, 16)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(words.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(clip.embed_image(images[3:4]), found[3:4], rtol=1e-5, atol=1e-6)
    assert torch.equal(clip.embed_image(images), found)
    assert clip.card.name == "toy-clip" and clip.card.sha256 == file_digest(clip_folder / "toy-clip.safetensors")
    assert not clip.model.training and not any(p.requires_grad for p in clip.model.parameters())


def test_a_local_clip_agrees_with_open_clip_by_hand(clip_folder, offline):
    import open_clip

    clip = open_clip_encoder("toy-clip.json", clip_folder)
    model = open_clip.create_model("toy-clip", pretrained=str(clip_folder / "toy-clip.safetensors")).eval()
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(model.encode_image((images - mean) / std), dim=1)
        tokens = open_clip.get_tokenizer("toy-clip")(["a cat"])
        wanted_text = torch.nn.functional.normalize(model.encode_text(tokens), dim=1)
    assert (clip.embed_image(images) - wanted).abs().max() <= 1e-5
    assert (clip.embed_text(["a cat"]) - wanted_text).abs().max() <= 1e-5


def test_a_folder_of_open_clips_own_is_opened(tmp_path, clip_folder, offline):
    plain = open_clip_encoder(str(clip_folder))
    settings = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ClbenchError, match=r"open_clip_model\.safetensors"):
        open_clip_encoder(str(tmp_path))
    weights = (clip_folder / "toy-clip.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights)
    clip = open_clip_encoder(str(tmp_path))
    torch.testing.assert_close(clip.embed_text(["a cat"]), plain.embed_text(["a cat"]))
    images = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (plain.mean, plain.std))
    torch.testing.assert_close(clip.embed_image((images - mean) / std / 2 + 0.5), plain.embed_image(images), atol=1e-5, rtol=0)


def test_missing_weights_are_one_sentence_and_need_no_network(tmp_path, offline):
    assert is_offline()
    with pytest.raises(ClbenchError, match=r"NAME\.safetensors"):
        open_clip_encoder("encoders/clip", tmp_path)
    with pytest.raises(ClbenchError, match="ViT-B-32/laion2b_s34b_b79k"):
        open_clip_encoder("ViT-B-32/laion2b_s34b_b79k", tmp_path)
    with pytest.raises(ClbenchError, match="Did you mean"):
        open_clip_encoder("ViT-B-32/laion2b_s34b_b79", tmp_path)
    with pytest.raises(ClbenchError, match="alexnet-owt"):
        open_perceptual("lpips-alex")
    with pytest.raises(ClbenchError, match=r"weights of lpips-vgg not found: .*nowhere\.pth"):
        open_perceptual("lpips-vgg@nowhere.pth", tmp_path)
    with pytest.raises(ClbenchError, match="Did you mean 'st-lpips'"):
        open_perceptual("st-lpip")


def test_a_file_that_holds_no_weights_is_one_sentence(tmp_path, clip_folder):
    (tmp_path / "toy-clip.json").write_text(json.dumps(CONFIG))
    (tmp_path / "toy-clip.safetensors").write_bytes((clip_folder / "toy-clip.safetensors").read_bytes()[:1000])
    with pytest.raises(ClbenchError, match="cannot load"):
        open_clip_encoder(str(tmp_path))
    (tmp_path / "trunk.pth").write_bytes(b"nothing")
    with pytest.raises(ClbenchError, match=r"trunk\.pth"):
        open_perceptual("lpips-alex@trunk.pth", tmp_path)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "trunk.pth")
    with pytest.raises(ClbenchError, match=r"features|missing|trunk"):
        open_perceptual("lpips-alex@trunk.pth", tmp_path)


def test_st_lpips_comes_with_its_package(offline):
    network = open_perceptual("st-lpips")
    layers = network.features(torch.rand(3, 3, 64, 64))
    assert [len(layer) for layer in layers] == [3] * 5
    assert network.card.name == "st-lpips-alex" and len(network.card.sha256) == 64


def test_a_row_does_not_depend_on_its_batch(clip_folder, offline):
    network, clip = open_perceptual("st-lpips"), open_clip_encoder(str(clip_folder))
    images = torch.rand((19, 3, 64, 64), generator=torch.Generator().manual_seed(3))
    mixed = torch.randperm(19, generator=torch.Generator().manual_seed(4))
    for embed in (network.features, lambda pictures: [clip.embed_image(pictures)]):
        for whole, turned, alone in zip(embed(images), embed(images[mixed]), embed(images[7:8]), strict=True):
            assert (whole[mixed] - turned).abs().max() <= 1e-6
            assert (whole[7:8] - alone).abs().max() <= 1e-6


@pytest.mark.parametrize(("count", "side", "rows"), [(1, 64, 8), (8, 64, 8), (19, 64, 8), (3, 256, 4), (2, 1024, 1)])
def test_every_pass_has_the_same_size(count, side, rows):
    images, sizes = torch.arange(count).view(-1, 1, 1, 1).expand(count, 3, side, side), []

    def run(part):
        sizes.append(len(part))
        return [part[:, 0, 0, 0], part[:, :, 0]]

    found = in_passes(run, images)
    assert set(sizes) == {rows} and len(sizes) == -(-count // rows)
    assert torch.equal(found[0], torch.arange(count)) and found[1].shape == (count, 3, side)


class ToyWorld:
    """The part of a world that encoders look at."""

    class encoders:
        clip, perceptual = "", "st-lpips"

    root = Path(".")


def test_only_what_the_metrics_need_is_loaded(clip_folder, offline):
    world = ToyWorld()
    assert open_encoders(world, ["psnr", "leak"]).cards() == {}  # type: ignore[arg-type]
    assert set(open_encoders(world, ["perceptual", "clip_text"]).cards()) == {"perceptual"}  # type: ignore[arg-type]
    assert "st-lpips-alex" in check_encoders(world)  # type: ignore[arg-type]
