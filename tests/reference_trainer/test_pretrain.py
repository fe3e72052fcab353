"""The base's parts: optimizer, tokenizers, pipeline, and a resume that is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxKontextPipeline
from mini_training import Stop

from clbench.registry import Stopped
from clbench.world import load_world
from reference_trainer.config import HabitsTable
from reference_trainer.optim import PretrainLearner, orthogonalize, trapezoid
from reference_trainer.pipeline import build_pipeline
from reference_trainer.pretrain import train_base, train_edits, train_vae
from reference_trainer.pretrain_config import BaseConfig, EditConfig, TextConfig, TransformerConfig, VaeConfig
from reference_trainer.recipe import load_recipe
from reference_trainer.text import bpe_tokenizer, unigram_tokenizer
from reference_trainer.train import run
from reference_trainer.vae import build_vae, draw_patterns, psnr_per_picture

SOURCES = Path(__file__).parent.parent.parent / "suites/worlds/tiny/sources"
CORPUS = ["remove the flamingo", "make it brighter"]
SMALL = BaseConfig(
    resolution=32,
    split="teacher",
    vae=VaeConfig(channels=(8, 8, 16), updates=4, batch=4, scenes=8),
    text=TextConfig(t5_width=32, clip_width=32, t5_layers=1, clip_layers=1),
    transformer=TransformerConfig(heads=2, head_dim=16, rope_axes=(4, 6, 6), double_blocks=1, single_blocks=1),
    edits=EditConfig(updates=4, batch=4, scenes=500, edits_per_scene=1, checkpoint_every=2),
)


def test_orthogonalize_brings_singular_values_near_one():
    matrix = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.5 and values.max() < 1.35
    assert torch.allclose(orthogonalize(matrix.mT), orthogonalize(matrix).mT, atol=1e-5)


def test_trapezoid_rises_stays_and_falls_to_zero():
    shares = [trapezoid(update, 100, 10, 0.2) for update in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[50] == 1 and shares[99] == pytest.approx(0.05)
    assert all(0 < share <= 1 for share in shares)


def test_learner_resumes_exactly():
    def learner() -> tuple[torch.nn.Module, PretrainLearner]:
        torch.manual_seed(1)
        net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3))
        return net, PretrainLearner({"net": net}, 1e-2, 1e-2, ema=0.9)

    def advance(net: torch.nn.Module, learner: PretrainLearner, steps: range) -> None:
        for i in steps:
            x = torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(i))
            learner.step(net(x).square().mean(), 1.0)

    whole, first = learner()
    advance(whole, first, range(6))
    broken, second = learner()
    advance(broken, second, range(3))
    state = {name: value.clone() for name, value in second.tensors().items()}
    fresh, third = learner()
    third.restore(state)
    advance(fresh, third, range(3, 6))
    for name, value in first.tensors().items():
        assert torch.equal(value, third.tensors()[name]), name


@pytest.mark.parametrize("text", ["remove the flamingo", "<zovik17> something wholly unseen, 100%!"])
def test_tokenizers_know_every_ascii_text(text):
    t5, clip = unigram_tokenizer(CORPUS, 4000, 24), bpe_tokenizer(CORPUS, TextConfig())
    assert t5.unk_token_id not in t5(text).input_ids
    assert clip(text).input_ids[-1] == clip.eos_token_id and clip.eos_token_id not in clip(text).input_ids[1:-1]


def test_corpus_words_are_single_tokens(tmp_path):
    t5, clip = unigram_tokenizer(CORPUS, 4000, 24), bpe_tokenizer(CORPUS, TextConfig())
    assert len(t5("remove the flamingo").input_ids) == 4 and len(clip("remove the flamingo").input_ids) == 5
    t5.save_pretrained(tmp_path / "t5")
    assert type(t5).from_pretrained(tmp_path / "t5")("<zovik17> flamingo").input_ids == t5("<zovik17> flamingo").input_ids


def test_transformer_starts_as_nothing_and_pipeline_round_trips(tmp_path):
    pipe = build_pipeline(SMALL, CORPUS)
    assert not pipe.transformer.proj_out.weight.any()
    pipe.save_pretrained(tmp_path)
    opened = FluxKontextPipeline.from_pretrained(tmp_path)
    for name, value in pipe.transformer.state_dict().items():
        assert torch.equal(value, opened.transformer.state_dict()[name]), name


def test_files_of_weights_are_no_more_private_than_others(vae_of):
    out, _ = vae_of
    modes = {path.stat().st_mode for path in (out / "vae").iterdir()}
    assert len(modes) == 1 and len(list((out / "vae").glob("*.safetensors"))) == 1


def test_psnr_of_a_perfect_round_trip_is_the_cap(monkeypatch):
    vae = build_vae(SMALL.vae, 32)
    pictures = (draw_patterns(3, 32, torch.Generator().manual_seed(0)) * 255).round().to(torch.uint8)
    values = psnr_per_picture(vae, pictures)
    assert values.shape == (3,) and bool((values < 40).all())


@pytest.fixture(scope="module")
def vae_of(tmp_path_factory):
    out = tmp_path_factory.mktemp("base")
    return out, train_vae(SMALL, SOURCES, out, lambda progress: None)


def test_a_killed_autoencoder_ends_with_the_same_weights(vae_of, tmp_path, monkeypatch):
    out, _ = vae_of
    often = {"checkpoint_every": 2, "sheet_every": 500}
    monkeypatch.setattr("reference_trainer.pretrain.HabitsTable", lambda **habits: HabitsTable(**habits | often))

    def kill(progress) -> None:
        if progress.done == 3:
            raise Stop

    with pytest.raises(Stop):
        train_vae(SMALL, SOURCES, tmp_path, kill)
    seen = []
    train_vae(SMALL, SOURCES, tmp_path, seen.append)
    assert [progress.done for progress in seen] == [3, 4]  # on from the checkpoint of update 2
    name = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert (tmp_path / "vae" / "config.json").read_text() == (out / "vae" / "config.json").read_text()


def test_base_and_encoders_take_the_recipe_s_seed(tmp_path, monkeypatch):
    """Where their tables name none; the world's own training is that of seed 0."""
    asked = []
    monkeypatch.setattr("reference_trainer.pretrain.train_base", lambda config, *_: asked.append(config))
    monkeypatch.setattr("reference_trainer.encoders.train_clip", lambda config, *_: asked.append(config))
    for stage in ("base", "encoders"):
        run(stage, load_recipe("tiny-seed-1"), load_world("tiny"), None, tmp_path)
    base, encoders = asked
    assert (base.vae.seed, base.edits.seed, encoders.seed) == (1, 1, 1)


def test_base_trains_and_a_killed_run_ends_with_the_same_weights(vae_of, tmp_path):
    out, vae = vae_of

    def kill(progress) -> None:
        if progress.what == "base" and progress.done == 3:
            raise Stop

    whole = train_edits(SMALL, SOURCES, CORPUS, vae, out, lambda progress: None)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "vae").symlink_to(out / "vae")
    with pytest.raises(Stop):
        train_edits(SMALL, SOURCES, CORPUS, vae, broken, kill)
    resumed = train_edits(SMALL, SOURCES, CORPUS, vae, broken, lambda progress: None)
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        files = [next((folder / part).glob("*.safetensors")).read_bytes() for folder in (whole, resumed)]
        assert files[0] == files[1], part
    assert str(out) not in (whole / "vae" / "config.json").read_text()  # no path of the machine that trained it
    assert len(list((out / "edits-training" / "sheets").glob("*.png"))) == 2  # at update 0 and at the end


def test_begun_anew_the_base_is_finished_without_being_fresh_again(tmp_path, monkeypatch):
    """The base of before is forgotten with its autoencoder: it would be of another recipe, or pass for finished."""

    def make(resume=True, stop=None):
        def report(progress):
            if progress.done == stop:
                raise KeyboardInterrupt

        return train_base(SMALL, SOURCES, [], tmp_path, resume, report)

    made = []
    with monkeypatch.context() as patched:
        patched.setattr("reference_trainer.pretrain.train_edits", lambda *given: made.append(given) or tmp_path)
        make()
    for name in ("vae.complete.json", "backbone.complete.json", "edits-training/checkpoints/000004/complete.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(Stopped, match=r"of the training in .*vae-training no update is kept"):
        make(resume=False, stop=3)
    assert list(tmp_path.rglob("*complete.json")) == [] and (tmp_path / "vae").is_dir()
    with monkeypatch.context() as patched:
        patched.setattr("reference_trainer.pretrain.instruction_corpus", interrupted)
        with pytest.raises(Stopped, match=r"the training in .*vae-training is kept up to update 4"):
            make()
    with monkeypatch.context() as patched:
        patched.setattr("reference_trainer.pretrain.tree_digest", lambda path: "as it was")
        patched.setattr("reference_trainer.pretrain.finished", lambda mark, *_: mark.name == "vae.complete.json")
        patched.setattr("reference_trainer.pretrain.build_pipeline", interrupted)
        with pytest.raises(Stopped, match=r"of the training in .*edits-training no update is kept"):
            make()
    assert len(made) == 1


def interrupted(*_):
    raise KeyboardInterrupt
