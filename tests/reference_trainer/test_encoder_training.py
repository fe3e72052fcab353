"""The metrics' CLIP: which optimizer trains which weights, a resume that is exact, and recipes that do not fit the world."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mini_training import Stop
from safetensors.torch import load_file

from clbench.registry import ClbenchError
from clbench.world import load_world
from reference_trainer.encoders import ADAM_ONLY, build_clip, model_config, require_fit, train_clip
from reference_trainer.optim import PretrainLearner
from reference_trainer.pretrain_config import EncodersConfig

SOURCES = Path(__file__).parent.parent.parent / "suites/worlds/tiny/sources"
SMALL = EncodersConfig(
    splits=("teacher", "distill"), embed_dim=32, image_width=32, image_layers=1, text_width=32, text_layers=1,
    scenes=6, updates=4, batch=4, checkpoint_every=2,
)  # fmt: skip


def test_which_weights_muon_trains():
    """Queries, keys and values as one matrix, and the MLP's first: the rest is AdamW's, as the shipped encoder was trained."""
    learner = PretrainLearner({"clip": build_clip(model_config(SMALL, 200, 32))}, 1e-3, 1e-2, adam_only=ADAM_ONLY)
    matrices = {re.sub(r"\.\d+\.", ".N.", name) for name, p in learner.named.items() if p.ndim >= 2}
    muon = {re.sub(r"\.\d+\.", ".N.", name) for name in learner.muon.parameters}
    towers = ("clip.visual.transformer.resblocks.N", "clip.transformer.resblocks.N")
    assert muon == {f"{tower}.{name}" for tower in towers for name in ("attn.in_proj_weight", "mlp.c_fc.weight")}
    assert matrices - muon == {
        *(f"{tower}.{name}" for tower in towers for name in ("attn.out_proj.weight", "mlp.c_proj.weight")),
        "clip.visual.conv1.weight", "clip.visual.positional_embedding", "clip.visual.proj",
        "clip.token_embedding.weight", "clip.positional_embedding", "clip.text_projection",
    }  # fmt: skip


def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    effects = [e for e in load_world("tiny").effects.values() if e.operator in ("sepia", "invert", "rain")]

    def kill(progress) -> None:
        if progress.what == "clip" and progress.done == 3:
            raise Stop

    whole = train_clip(SMALL, effects, SOURCES, 32, tmp_path / "whole", True, lambda progress: None)
    with pytest.raises(Stop):
        train_clip(SMALL, effects, SOURCES, 32, tmp_path / "killed", True, kill)
    seen = []
    again = train_clip(SMALL, effects, SOURCES, 32, tmp_path / "killed", True, seen.append)
    assert [progress.done for progress in seen if progress.what == "clip"] == [3, 4]  # on from the checkpoint of update 2
    first, second = (load_file(folder / "open_clip_model.safetensors") for folder in (whole, again))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_recipe_that_does_not_fit_the_world_is_refused():
    require_fit(SMALL, 3, 32)
    with pytest.raises(ClbenchError, match="effects_per_scene is 3, but the world has 2 with a known operator"):
        require_fit(SMALL, 2, 32)
    with pytest.raises(ClbenchError, match="patch 8 does not divide the world's resolution 36"):
        require_fit(SMALL, 3, 36)
