"""Arithmetic over published dimensions, against the modules that diffusers builds on the meta device."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from clbench.backbones.skeleton import skeleton
from clbench.cost.bases import find_base
from clbench.cost.shapes import FLUX_KONTEXT, QWEN_IMAGE_EDIT, TINY
from clbench.cost.targets import PAPER_MODULES, adapter_bytes, role, select
from clbench.registry import ClbenchError

GIB = 2**30
CONFIGS = {
    "qwen-image-edit": {"_class_name": "QwenImageTransformer2DModel", **asdict(QWEN_IMAGE_EDIT)},
    "flux-kontext": {"_class_name": "FluxTransformer2DModel", **asdict(FLUX_KONTEXT)},
    "tiny": {"_class_name": "FluxTransformer2DModel", **asdict(TINY), "axes_dims_rope": [8, 12, 12]},
}


@pytest.fixture(scope="module")
def qwen():
    return find_base("qwen-image-edit")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_layer_and_parameter_is_that_of_diffusers(name, tmp_path):
    shapes, parameters = skeleton(CONFIGS[name], tmp_path)
    base = find_base(name)
    assert {one.name: (one.out, one.into) for one in base.linears} == shapes
    assert base.parameters == parameters


def test_published_sizes_of_the_bases(qwen):
    assert qwen.parameters == 20_430_401_088
    assert 38.05 <= qwen.parameters * 2 / GIB < 38.06
    assert find_base("flux-kontext").parameters == 11_901_408_320


def test_tiny_is_the_recipe_tiny():
    from reference_trainer.pipeline import build_transformer
    from reference_trainer.recipe import load_recipe

    transformer = build_transformer(load_recipe("tiny").base)
    assert sum(p.numel() for p in transformer.parameters()) == find_base("tiny").parameters


@pytest.mark.parametrize("rank", [1, 8, 64, 128])
def test_a_rank_costs_18_432_000_bytes_on_the_papers_modules(qwen, rank):
    layers = select(qwen, "paper")
    assert len(layers) == 14 * 60 and layers == select(qwen, PAPER_MODULES)
    assert adapter_bytes(layers, rank, "bfloat16") == 18_432_000 * rank


def test_the_layers_add_up_by_hand(qwen):
    """Per block: 8 attention layers of 2 d, 4 feed-forward ones of 5 d, 2 modulations of 7 d, with d = 3072."""
    d = 24 * 128
    by_hand = {"attention": 8 * 2 * d, "no-modulation": 8 * 2 * d + 4 * 5 * d, "paper": (16 + 20 + 14) * d}
    for preset, block in by_hand.items():
        assert adapter_bytes(select(qwen, preset), 1, "bfloat16") == 60 * 2 * block


def test_a_pool_of_50_and_an_accelerator_against_one_collection(qwen):
    """The often quoted 110.64 GiB adds sizes that were rounded to 2.197 and .791 first; the bytes say 110.65."""
    teacher = adapter_bytes(select(qwen, "paper"), 128, "bfloat16")
    accelerator = adapter_bytes(select(qwen, "no-modulation"), 64, "bfloat16")
    assert (teacher, accelerator) == (2_359_296_000, 849_346_560)
    assert 50 * teacher + accelerator == 118_814_146_560
    assert round((50 * teacher + accelerator) / GIB, 2) == 110.65
    assert round(50 * round(teacher / GIB, 3) + round(accelerator / GIB, 3), 2) == 110.64
    assert round(teacher / GIB, 3) == 2.197


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("transformer_blocks.3.img_mod.1", "modulation"), ("transformer_blocks.3.norm1_context.linear", "modulation"),
        ("single_transformer_blocks.0.norm.linear", "modulation"), ("single_transformer_blocks.0.proj_out", "mlp"),
        ("transformer_blocks.0.img_mlp.net.0.proj", "mlp"), ("transformer_blocks.0.attn.to_out.0", "attention"),
        ("proj_out", "outside"), ("time_text_embed.timestep_embedder.linear_1", "outside"), ("norm_out.linear", "outside"),
    ],
)  # fmt: skip
def test_roles(module, expected):
    assert role(module) == expected


def test_a_list_of_names_is_matched_as_peft_does():
    from peft import LoraConfig, get_peft_model
    from torch import nn

    from clbench.cost.shapes import Base, Linear

    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.ModuleDict({"to_q": nn.Linear(3, 5), "not_to_q": nn.Linear(3, 3)}) for _ in range(2))
            self.to_q = nn.Linear(3, 7)

    toy = Toy()
    base = Base("toy", tuple(Linear(n, *m.weight.shape) for n, m in toy.named_modules() if isinstance(m, nn.Linear)), 0)
    factors = get_peft_model(toy, LoraConfig(r=2, target_modules=["to_q"])).state_dict()
    trained = sum(value.numel() for name, value in factors.items() if ".lora_" in name)
    assert adapter_bytes(select(base, ["to_q"]), 2, "float32") == 4 * trained


def test_any_transformer_config_by_the_meta_device(tmp_path):
    config = {
        "_class_name": "SD3Transformer2DModel", "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
        "joint_attention_dim": 16, "caption_projection_dim": 32, "pooled_projection_dim": 16, "in_channels": 4,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    base = find_base(str(tmp_path))
    assert base.parameters > 10_000 and 0 < len(select(base, "attention")) < len(select(base, "paper"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "names no '_class_name'"),
        ("[", "as JSON"),
        ('{"_class_name": "FluxTransformer2DModel"}', "lacks the key 'num_layers'"),
        ('{"_class_name": "NoSuchModel"}', "has no model 'NoSuchModel'"),
    ],
)
def test_bad_configs_are_one_sentence(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ClbenchError, match=message):
        find_base(str(tmp_path / "config.json"))


def test_unknown_words_are_one_sentence(qwen):
    with pytest.raises(ClbenchError, match=r"neither a preset .* Did you mean 'qwen-image-edit'"):
        find_base("qwen-image-edti")
    with pytest.raises(ClbenchError, match=r"no linear layer 'img_mod\.2'; did you mean 'img_mod\.1'"):
        select(qwen, ["to_q", "img_mod.2"])
    with pytest.raises(ClbenchError, match="unknown target preset 'all'"):
        select(qwen, "all")
    with pytest.raises(ClbenchError, match="unknown dtype 'int8'"):
        adapter_bytes(select(qwen, "paper"), 1, "int8")
