"""Adapters summed into the weights: the same pictures, a base that comes back bit for bit, and who is not folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mini_parts import build_flux_pipeline, full_lora
from test_backbones import FEW, FULL, TOLERANCE, jobs_of, largest_difference

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter
from clbench.backbones import open_backbone
from clbench.backbones.common import linear_layers
from clbench.backbones.folding import FoldedAdapters, Weighted
from clbench.backbones.noise import CaseNoiseScheduler
from clbench.registry import ClbenchError


@pytest.fixture(scope="module")
def full_files(tmp_path_factory):
    """Three adapters over every linear layer of the blocks; one leaves modules out, one is stored in bfloat16."""
    pipe, folder = build_flux_pipeline(), tmp_path_factory.mktemp("full")
    files = [folder / f"{name}.safetensors" for name in "abc"]
    save_adapter(files[0], *full_lora(pipe, 0, scale=0.1))
    save_adapter(files[1], *full_lora(pipe, 1, rank=2, skip=("to_q", "net.2"), scale=0.1))
    save_adapter(files[2], *full_lora(pipe, 2, scale=0.1), dtype="bfloat16")
    return files


def opened(world, **changes):
    world.backbone = world.backbone.model_copy(update=changes)
    return open_backbone(world)


def weights_of(backbone) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in backbone.pipe.transformer.state_dict().items()}


def same_bits(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("sampler", [FULL, FEW])
@pytest.mark.parametrize("weights", [(1.0,), (0.7, 1.0), (1.0, -0.5, 0.3)])
def test_folded_gives_the_pictures_of_adapters_kept_apart(mini_world, full_files, sampler, weights):
    adapters, jobs = list(zip(full_files, weights, strict=False)), jobs_of(mini_world)[:3]
    made = []
    for fold in (True, False):
        backbone = opened(mini_world, fold=fold)
        plain = backbone.sample(jobs, sampler)
        backbone.use_adapters(adapters)
        made.append(backbone.sample(jobs, sampler))
        assert hasattr(backbone.pipe.transformer, "peft_config") != fold
        assert largest_difference(plain, made[-1]) > 5
    assert largest_difference(*made) <= TOLERANCE


def test_the_base_comes_back_bit_for_bit(mini_world, full_files):
    backbone = opened(mini_world)
    before = weights_of(backbone)
    for chosen in ([0], [1], [0, 1], [2, 0], [1]):
        backbone.use_adapters([(full_files[i], 0.9) for i in chosen])
        assert not same_bits(before, weights_of(backbone))
    once = weights_of(backbone)
    backbone.use_adapters([])
    assert same_bits(before, weights_of(backbone))
    backbone.use_adapters([(full_files[1], 0.9)])
    assert same_bits(once, weights_of(backbone)), "what was folded before leaves no trace"


def test_a_file_that_does_not_load_changes_nothing(mini_world, full_files, monkeypatch):
    backbone = opened(mini_world)
    backbone.use_adapters([(full_files[0], 1.0)])
    before = weights_of(backbone)

    def broken(info):
        raise OSError("gone")

    monkeypatch.setattr("clbench.backbones.folding.load_tensors", broken)
    with pytest.raises(OSError, match="gone"):
        backbone.use_adapters([(full_files[1], 1.0)])
    assert same_bits(before, weights_of(backbone))


def test_the_kept_copy_is_as_large_as_the_adapted_weights(mini_world, full_files):
    backbone = opened(mini_world)
    assert backbone.folded.kept_bytes == 0
    for file in full_files:
        backbone.use_adapters([(file, 1.0)])
    info = describe_adapter(full_files[0])
    assert backbone.folded.kept_bytes == sum(4 * np.prod(shape) for shape in info.shapes.values())


def test_adapters_too_large_to_fold_are_kept_apart_and_change_back(mini_world, full_files, monkeypatch):
    jobs = jobs_of(mini_world)[:2]
    backbone = opened(mini_world)
    plain = backbone.sample(jobs, FEW)
    backbone.use_adapters([(full_files[0], 1.0)])
    folded = backbone.sample(jobs, FEW)
    monkeypatch.setattr("clbench.backbones.folding.KEPT_LIMIT", 1000)
    for _ in range(2):
        backbone.use_adapters([(full_files[1], 1.0)])
        backbone.use_adapters([(full_files[0], 1.0)])
        assert len(backbone.pipe.transformer.peft_config) == 2
        assert largest_difference(folded, backbone.sample(jobs, FEW)) <= TOLERANCE
        backbone.use_adapters([])
        assert largest_difference(plain, backbone.sample(jobs, FEW)) == 0
    monkeypatch.undo()
    backbone.use_adapters([(full_files[0], 1.0)])
    assert largest_difference(folded, backbone.sample(jobs, FEW)) == 0


class Replaced(torch.nn.Linear):
    """Stands for a quantised layer: a subclass with a forward pass of its own."""


def test_half_precision_and_replaced_layers_are_not_folded(full_files):
    wanted = [Weighted(describe_adapter(full_files[0]), 1.0)]
    transformer = build_flux_pipeline().transformer
    assert FoldedAdapters(linear_layers(transformer)).accepts(wanted)
    assert not FoldedAdapters(linear_layers(transformer.to(torch.bfloat16))).accepts(wanted)
    layers = linear_layers(build_flux_pipeline().transformer)
    layers[next(iter(wanted[0].info.shapes))].__class__ = Replaced
    assert not FoldedAdapters(layers).accepts(wanted)


@pytest.mark.parametrize("sampler", [FULL, FEW])
def test_fast_products_change_pictures_a_little_and_no_latent_is_rounded(mini_world, full_files, sampler, monkeypatch):
    jobs = jobs_of(mini_world)[:3]
    pictures = []
    for fast in (False, True):
        backbone = opened(mini_world, fast_products=fast)
        backbone.use_adapters([(full_files[0], 0.5)])
        pictures.append(backbone.sample(jobs, sampler))
    seen, step = [], CaseNoiseScheduler.step

    def watched(self, output, timestep, sample, **rest):
        seen.extend((output.dtype, sample.dtype))
        return step(self, output, timestep, sample, **rest)

    monkeypatch.setattr(CaseNoiseScheduler, "step", watched)
    assert largest_difference(backbone.sample(jobs, sampler), pictures[1]) == 0 and set(seen) == {torch.float32}
    apart = np.abs(np.stack(pictures[0]).astype(int) - np.stack(pictures[1]).astype(int))
    assert apart.max() > 0 and apart.mean() < 2


def test_fast_products_are_another_run_of_the_same_world(mini_world_file):
    from clbench.world import load_world

    before, text = load_world(mini_world_file), mini_world_file.read_text()
    mini_world_file.write_text(text.replace("batch = 4", "batch = 4\nfast_products = true"))
    after = load_world(mini_world_file)
    assert after.hash == before.hash
    assert (before.backbone.precision, after.backbone.precision) == ("float32", "float32, products in bfloat16")
    mini_world_file.write_text(text.replace("batch = 4", 'batch = 4\nfast_products = true\ndtype = "float16"'))
    with pytest.raises(ClbenchError, match="fast_products is for dtype"):
        load_world(mini_world_file)
