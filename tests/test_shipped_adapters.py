"""The shipped collections are plain LoRAs: the stock pipeline of diffusers loads them and makes the pictures that are scored."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
from safetensors.torch import load_file

from clbench.adapters import describe_adapter
from clbench.backbones import Job, Sampler, backbone_folder, open_backbone
from clbench.export import export_adapter
from clbench.world import load_world

SHIPPED = ["collection", "finished", "finished-seed-1"]
SIDE, SEED = 64, 7


@pytest.fixture(scope="module")
def world():
    return load_world("tiny")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_stock_pipeline_takes_every_key_and_makes_the_same_picture(world, name, caplog):
    candidate, table = world.candidate(name), world.backbone
    effect, picture = world.effects["sepia"], world.source_image(world.sources[0].id, SIDE)
    stock = FluxKontextPipeline.from_pretrained(backbone_folder(world), local_files_only=True)
    with caplog.at_level(logging.WARNING):
        stock.load_lora_weights(str(candidate.path))
    assert not [told for told in caplog.messages if re.search("(unexpected|missing) key", told)]
    applied = [key for key, _ in stock.transformer.named_parameters() if ".lora_" in key]
    assert len(applied) == len(load_file(candidate.path)) > 0
    stock.scheduler = FlowMatchEulerDiscreteScheduler(shift=table.shift, stochastic_sampling=True)
    stock.set_progress_bar_config(disable=True)
    torch.manual_seed(SEED)  # the scheduler draws from the global generator, whatever the pipeline is given
    (made,) = stock(
        image=torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255, prompt=effect.student_prompt, height=SIDE,
        width=SIDE, max_area=SIDE**2, num_inference_steps=table.few_steps, max_sequence_length=table.max_sequence_length,
        output_type="np", _auto_resize=False,
    ).images  # fmt: skip
    backbone = open_backbone(world)
    backbone.use_adapters([(candidate.path, 1.0)])
    sampler = Sampler(table.few_steps, 1.0, True, table.shift)
    (scored,) = backbone.sample([Job(picture, effect.student_prompt, SEED)], sampler)
    assert scored is not None and np.abs((made * 255).round() - scored).max() <= 2


@pytest.mark.parametrize("dialect", ["comfyui", "kohya"])
@pytest.mark.parametrize("name", SHIPPED[:2])
def test_other_programs_names_and_back_are_the_same_bits(world, name, dialect, tmp_path):
    path = world.candidate(name).path
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    export_adapter(describe_adapter(path), there, dialect)
    export_adapter(describe_adapter(there), back, "diffusers")
    before, after = load_file(path), load_file(back)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
