"""`clbench export`: exact round trips, and the same weights and pictures in diffusers, which did not write the names."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
import torch
from mini_parts import build_flux_pipeline, converter_of_width, full_lora, random_lora
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from clbench import dialects
from clbench.adapter_metadata import METADATA_KEY
from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.export import export_adapter
from clbench.registry import ClbenchError

ORIGINAL = ("comfyui", "kohya")
WIDTH = 32
"""Of the mini transformer."""


@pytest.fixture(scope="module")
def pipe():
    return build_flux_pipeline()


def saved(path, factors, metadata, **strings):
    save_adapter(path, factors, metadata, extra=strings)
    return describe_adapter(path)


def exported(info, path, format, base=None):
    export_adapter(info, path, format, base)
    return describe_adapter(path)


def assert_same(one, other):
    """Same factors bit for bit, same ranks, alphas, scales, metadata and header strings."""
    mine, theirs = load_tensors(one), load_tensors(other)
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        assert value.dtype == theirs[key].dtype and torch.equal(value, theirs[key]), key
    assert (one.ranks, one.alphas, one.shapes, one.rslora) == (other.ranks, other.alphas, other.shapes, other.rslora)
    assert one.metadata == other.metadata
    own = {METADATA_KEY, dialects.RECORD_KEY, dialects.KEPT_METADATA_KEY, "format"}
    kept = [{key: value for key, value in info.header.items() if key not in own} for info in (one, other)]
    assert kept[0] == kept[1]


def variants(pipe):
    """name -> (factors, metadata): what a LoRA of FLUX can look like."""
    factors, metadata = full_lora(pipe, 0)
    halves = {key: value.half() for key, value in factors.items()}
    embedders, _ = random_lora(pipe, 1, targets=("x_embedder", "context_embedder", "linear", "linear_1", "linear_2"))
    mixed = full_lora(pipe, 2, rank=2, skip=("to_k",))[0] | random_lora(pipe, 3, rank=3, targets=("to_k",))[0]
    ranks = {"rank_pattern": {"to_k": 3}, "alpha_pattern": {"to_k": 6}, "r": 2, "lora_alpha": 4}
    return {
        "every layer of the blocks": (factors, metadata),
        "half precision": (halves, metadata),
        "bfloat16": ({key: value.bfloat16() for key, value in factors.items()}, metadata),
        "float8": ({key: value.to(torch.float8_e4m3fn) for key, value in factors.items()}, metadata),
        "wide float8": ({key: value.to(torch.float8_e5m2) for key, value in factors.items()}, metadata),
        "attention alone": random_lora(pipe, 4),
        "without to_k": full_lora(pipe, 5, skip=("to_k", "add_v_proj")),
        "value alone": random_lora(pipe, 6, targets=("to_v",)),
        "no feed-forward part in linear1": full_lora(pipe, 7, skip=("proj_mlp",)),
        "ranks that differ in one matrix": (mixed, metadata | ranks),
        "scale by the root of the rank": (factors, metadata | {"use_rslora": True, "lora_alpha": 3}),
        "embedders and output layer": (factors | embedders, metadata),
        "odd alpha": (factors, metadata | {"lora_alpha": 0.3}),
    }


VARIANTS = list(variants(build_flux_pipeline()))


@pytest.mark.parametrize("format", [*ORIGINAL, "diffusers"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_round_trip_is_exact(pipe, tmp_path, variant, format):
    info = saved(tmp_path / "a.safetensors", *variants(pipe)[variant], **{"clbench.effects": "sepia rain", "note": "é"})
    there = exported(info, tmp_path / "b.safetensors", format, "flux")
    assert_same(info, there)
    back = exported(there, tmp_path / "c.safetensors", "diffusers")
    assert_same(info, back)
    assert json.loads(back.header[METADATA_KEY]) == json.loads(info.header[METADATA_KEY])
    assert load_file(back.path).keys() == load_file(info.path).keys()


@pytest.mark.parametrize("first", ORIGINAL)
@pytest.mark.parametrize("second", ORIGINAL)
def test_the_way_does_not_matter(pipe, tmp_path, first, second):
    info = saved(tmp_path / "a.safetensors", *full_lora(pipe, 0))
    straight = exported(info, tmp_path / "b.safetensors", second)
    around = exported(exported(info, tmp_path / "c.safetensors", first), tmp_path / "d.safetensors", second)
    one, other = load_file(straight.path), load_file(around.path)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert_same(straight, around)


def test_names_are_those_of_the_original_code(pipe, tmp_path):
    info = saved(tmp_path / "a.safetensors", *full_lora(pipe, 0))
    kohya = load_file(exported(info, tmp_path / "k.safetensors", "kohya").path)
    comfy = load_file(exported(info, tmp_path / "c.safetensors", "comfyui").path)
    double = [f"double_blocks.0.{s}_{t}" for s in ("img", "txt") for t in ("attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin")]
    targets = [*double, *(f"single_blocks.0.{t}" for t in ("linear1", "linear2", "modulation.lin"))]
    ends = ("lora_down.weight", "lora_up.weight", "alpha")
    assert set(comfy) == {f"diffusion_model.{target}.{end}" for target in targets for end in ends}
    assert set(kohya) == {f"lora_unet_{target.replace('.', '_')}.{end}" for target in targets for end in ends}
    fused = {side: kohya[f"lora_unet_single_blocks_0_linear1.lora_{side}.weight"] for side in ("down", "up")}
    assert fused["down"].shape == (16, WIDTH) and fused["up"].shape == (7 * WIDTH, 16)
    assert kohya["lora_unet_single_blocks_0_linear1.alpha"] == 32  # scale 2 at rank 16
    assert METADATA_KEY not in describe_adapter(tmp_path / "k.safetensors").header, "diffusers would scale twice"


def answers(factors, scale):
    """Module -> what the LoRA adds to three random inputs, float64: B A x without forming B A."""
    found = {}
    for key, value in factors.items():
        if "lora_A" in key:
            x = torch.randn(value.shape[1], 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            up = factors[key.replace("lora_A", "lora_B")].double()
            found[key.removesuffix(".lora_A.weight")] = scale * (up @ (value.double() @ x))
    return found


def flux_sized(generator, skip=(), rank=2, blocks=(0, 18, 37)):
    """Factors of FLUX.1's own widths for some of its blocks; diffusers' reader knows no other width."""
    width, shapes = 3072, {}
    for block in blocks:
        single, double = f"single_transformer_blocks.{block}", f"transformer_blocks.{block}"
        shapes |= {f"{single}.attn.to_{x}": (width, width) for x in "qkv"}
        shapes |= {f"{single}.proj_mlp": (4 * width, width), f"{single}.norm.linear": (3 * width, width)}
        shapes[f"{single}.proj_out"] = (width, 5 * width)
        if block < 19:
            shapes |= {f"{double}.attn.to_{x}": (width, width) for x in ("q", "k", "v", "out.0", "add_out")}
            shapes |= {f"{double}.attn.add_{x}_proj": (width, width) for x in "qkv"}
            for ff, norm in (("ff", "norm1"), ("ff_context", "norm1_context")):
                shapes |= {f"{double}.{ff}.net.0.proj": (4 * width, width), f"{double}.{ff}.net.2": (width, 4 * width)}
                shapes[f"{double}.{norm}.linear"] = (6 * width, width)
    factors = {}
    for module, (out, width) in shapes.items():
        if not module.endswith(skip or "nothing"):
            factors[f"{module}.lora_A.weight"] = torch.randn(rank, width, generator=generator)
            factors[f"{module}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    return factors, {"r": rank, "lora_alpha": 2 * rank}


@pytest.mark.parametrize("format", ORIGINAL)
def test_diffusers_reads_the_same_factors_at_the_width_of_flux(tmp_path, format):
    """Its `lora_state_dict`, unpatched: A comes back times the scale (2, so exactly), B as it was."""
    from diffusers import FluxKontextPipeline

    factors, metadata = flux_sized(torch.Generator().manual_seed(0))
    info = saved(tmp_path / "a.safetensors", factors, metadata)
    assert export_adapter(info, tmp_path / "b.safetensors", format) == []
    theirs = FluxKontextPipeline.lora_state_dict(str(tmp_path / "b.safetensors"))
    assert set(theirs) == {f"transformer.{key}" for key in factors}
    for key, value in factors.items():
        assert torch.equal(theirs[f"transformer.{key}"], 2 * value if "lora_A" in key else value), key


@pytest.mark.parametrize("skip", [("to_k",), ("proj_mlp", "add_q_proj"), ("to_q", "to_k", "proj_mlp")])
def test_diffusers_reads_the_same_products_where_modules_are_missing(tmp_path, skip):
    """It then gives every module of a matrix the joint A; the products are the same, and zero where there was no LoRA."""
    from diffusers import FluxKontextPipeline

    factors, metadata = flux_sized(torch.Generator().manual_seed(1), skip, blocks=(3,))
    info = saved(tmp_path / "a.safetensors", factors, metadata)
    export_adapter(info, tmp_path / "b.safetensors", "kohya", "flux")
    theirs = FluxKontextPipeline.lora_state_dict(str(tmp_path / "b.safetensors"))
    read = answers({key.removeprefix("transformer."): value for key, value in theirs.items()}, 1.0)
    for module, answer in answers(factors, 2.0).items():
        torch.testing.assert_close(read.pop(module), answer)
    assert all(float(extra.abs().max()) == 0 for extra in read.values())


@pytest.mark.parametrize("format", ORIGINAL)
def test_a_foreign_file_is_read_as_diffusers_reads_it(tmp_path, format):
    """One dense LoRA on whole matrices, no record of ours, alpha in half precision: every tensor as in diffusers."""
    from diffusers import FluxKontextPipeline

    g, width = torch.Generator().manual_seed(2), 3072
    heights = {"double_blocks.1.img_attn.qkv": 3, "double_blocks.1.txt_mlp.0": 4, "single_blocks.5.linear1": 7}
    tensors = {}
    for target, height in heights.items():
        name = f"diffusion_model.{target}" if format == "comfyui" else f"lora_unet_{target.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(3, width, generator=g).bfloat16()
        tensors[f"{name}.lora_up.weight"] = torch.randn(height * width, 3, generator=g).bfloat16()
        tensors[f"{name}.alpha"] = torch.tensor(1.5, dtype=torch.bfloat16)
    save_file(tensors, tmp_path / "f.safetensors")
    info = describe_adapter(tmp_path / "f.safetensors")
    assert set(info.alphas.values()) == {1.5} and set(info.ranks.values()) == {3}
    theirs = FluxKontextPipeline.lora_state_dict(str(tmp_path / "f.safetensors"))
    mine = load_tensors(info)
    assert {f"transformer.{key}" for key in mine} == set(theirs)
    for key, value in mine.items():
        factor = 0.5 if "lora_A" in key else 1.0
        assert torch.equal(theirs[f"transformer.{key}"], value * factor), key
    again = exported(info, tmp_path / "g.safetensors", format)
    assert_same(info, again)
    assert again.path.stat().st_size < 1.1 * info.bytes, "modules that share one A are written as one"


def stock(width=None, monkeypatch=None):
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.loaders import lora_pipeline

    if width is not None:
        monkeypatch.setattr(lora_pipeline, "_convert_kohya_flux_lora_to_diffusers", converter_of_width(width))
    pipe = build_flux_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe):
    g = torch.Generator().manual_seed(5)
    call = {"height": 32, "width": 32, "max_area": 1024, "_auto_resize": False, "max_sequence_length": 12}
    torch.manual_seed(5)  # the stock scheduler draws from the global state
    return pipe(
        image=torch.rand(1, 3, 32, 32, generator=g), prompt="<qx1> make it sepia", num_inference_steps=2, output_type="pt", **call
    ).images


def loaded(pipe, path, caplog, count):
    """The picture with a LoRA of `count` factors; diffusers must not speak of keys that are missing or unexpected."""
    with caplog.at_level(logging.WARNING, logger="diffusers"):
        logging.getLogger("diffusers").propagate = True
        pipe.load_lora_weights(str(path))
    assert not [r.getMessage() for r in caplog.records if re.search("(unexpected|missing) keys", r.getMessage())]
    assert sum(".lora_A." in name or ".lora_B." in name for name, _ in pipe.transformer.named_parameters()) == count
    return picture(pipe)


@pytest.mark.parametrize("format", ORIGINAL)
@pytest.mark.parametrize("whole", [True, False], ids=["every layer", "without linear1"])
def test_the_stock_pipeline_makes_the_same_pictures(pipe, tmp_path, caplog, monkeypatch, format, whole):
    """Without linear1 diffusers is as it comes; with it, the width that its reader takes for granted is the mini one."""
    factors, metadata = full_lora(pipe, 0)
    if not whole:
        in_linear1 = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        factors = {
            key: value for key, value in factors.items()
            if not (key.startswith("single") and key.rsplit(".lora_", 1)[0].endswith(in_linear1))
        }  # fmt: skip
        metadata["target_modules"] = sorted({key.rsplit(".lora_", 1)[0] for key in factors})
    info = saved(tmp_path / "a.safetensors", factors, metadata)
    notes = export_adapter(info, tmp_path / "b.safetensors", format)
    assert bool(notes) == whole, "the mini width is not FLUX's, and that is said"
    plain = picture(stock())
    wanted = loaded(stock(), info.path, caplog, len(factors))
    made = loaded(stock(WIDTH if whole else None, monkeypatch), tmp_path / "b.safetensors", caplog, len(factors))
    assert float((wanted - plain).abs().max()) > 0.05
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)


def test_what_diffusers_leaves_out_is_said(pipe, tmp_path):
    from diffusers import FluxKontextPipeline

    factors, metadata = random_lora(pipe, 0, targets=("x_embedder", "to_out.0", "0"))
    info = saved(tmp_path / "a.safetensors", factors, metadata)
    (note,) = export_adapter(info, tmp_path / "b.safetensors", "kohya", "flux")
    assert "leaves out layers outside the blocks" in note and "x_embedder" in note
    theirs = FluxKontextPipeline.lora_state_dict(str(tmp_path / "b.safetensors"))
    assert not any(key.startswith("transformer.x_embedder") for key in theirs)


def test_shift_and_scale_change_places_in_the_output_layer(pipe, tmp_path):
    """The one layer whose rows stand in another order; diffusers' reader swaps them too."""
    from diffusers import FluxKontextPipeline

    factors, metadata = random_lora(pipe, 0, targets=("linear",))
    factors = {key: value for key, value in factors.items() if key.startswith("norm_out")}
    factors |= random_lora(pipe, 0, targets=("proj_mlp",))[0]
    info = saved(tmp_path / "a.safetensors", factors, metadata | {"lora_alpha": 4})
    export_adapter(info, tmp_path / "b.safetensors", "kohya")
    up = load_file(tmp_path / "b.safetensors")["lora_unet_final_layer_adaLN_modulation_1.lora_up.weight"]
    mine = factors["norm_out.linear.lora_B.weight"]
    assert torch.equal(up, torch.cat([mine[WIDTH:], mine[:WIDTH]]))
    only_final = {k: v for k, v in load_file(tmp_path / "b.safetensors").items() if "final_layer" in k}
    save_file(only_final, tmp_path / "final.safetensors")
    theirs = FluxKontextPipeline.lora_state_dict(str(tmp_path / "final.safetensors"))
    assert torch.equal(theirs["norm_out.linear.lora_B.weight"], mine)


QWEN_MODULES = [f"transformer_blocks.{i}.{name}" for i in (0, 59) for name in dialects._QWEN] + ["img_in", "norm_out.linear"]


@pytest.mark.parametrize("format", ORIGINAL)
def test_qwen_keeps_its_names_and_diffusers_reads_them(tmp_path, format):
    from diffusers import QwenImageEditPipeline

    g = torch.Generator().manual_seed(0)
    factors = {}
    for module in QWEN_MODULES:
        factors[f"{module}.lora_A.weight"] = torch.randn(4, 32, generator=g)
        factors[f"{module}.lora_B.weight"] = torch.randn(64, 4, generator=g)
    info = saved(tmp_path / "a.safetensors", factors, {"r": 4, "lora_alpha": 8})
    assert export_adapter(info, tmp_path / "b.safetensors", format) == []
    assert_same(info, describe_adapter(tmp_path / "b.safetensors"))
    theirs = QwenImageEditPipeline.lora_state_dict(str(tmp_path / "b.safetensors"))
    assert set(theirs) == {f"transformer.{key}" for key in factors}
    for key, value in factors.items():
        assert torch.equal(theirs[f"transformer.{key}"], 2 * value if "lora_A" in key else value), key


def test_mistakes_are_one_sentence(pipe, tmp_path):
    info = saved(tmp_path / "a.safetensors", *random_lora(pipe, 0))
    out = tmp_path / "out.safetensors"
    double = {k: v for k, v in load_tensors(info).items() if k.startswith("transformer_blocks")}
    both = saved(tmp_path / "both.safetensors", double, {"r": 4, "lora_alpha": 4})
    with pytest.raises(ClbenchError, match=r"both\.safetensors may be a LoRA of flux or of qwen; say which with --base"):
        export_adapter(both, out, "kohya")
    with pytest.raises(ClbenchError, match=r"unknown base model 'fluxx'\. Did you mean 'flux'"):
        export_adapter(both, out, "kohya", "fluxx")
    with pytest.raises(ClbenchError, match=r"is no LoRA of qwen: it has no module 'single_transformer_blocks"):
        export_adapter(info, out, "kohya", "qwen")
    uneven = saved(tmp_path / "uneven.safetensors", load_tensors(info), {"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_q": 8}})
    with pytest.raises(ClbenchError, match=r"'single_transformer_blocks.0.attn.to_q' has scale 2 and .*to_k' 1, .* one alpha"):
        export_adapter(uneven, out, "comfyui")
    half = {key: value.half() if "to_q" in key else value for key, value in load_tensors(info).items()}
    with pytest.raises(ClbenchError, match="differ in dtype"):
        export_adapter(saved(tmp_path / "half.safetensors", half, {"r": 4, "lora_alpha": 4}), out, "comfyui")
    unknown = {f"mid.{i}.lora_{s}.weight": torch.ones(4, 4) for i in range(2) for s in "AB"}
    with pytest.raises(ClbenchError, match=r"not known outside diffusers \('mid.0'\)"):
        export_adapter(saved(tmp_path / "mid.safetensors", unknown, {"r": 4, "lora_alpha": 4}), out, "comfyui")
    assert not out.exists()


@pytest.mark.parametrize("damage", ["alpha", "rank", "module"])
def test_a_file_that_was_changed_after_export_is_refused(pipe, tmp_path, damage):
    there = exported(saved(tmp_path / "a.safetensors", *full_lora(pipe, 0)), tmp_path / "b.safetensors", "kohya")
    tensors, strings = load_file(there.path), dict(there.header)
    if damage == "alpha":
        tensors["lora_unet_single_blocks_0_linear1.alpha"] *= 2
    elif damage == "rank":
        name = "lora_unet_single_blocks_0_linear1"
        tensors[f"{name}.lora_down.weight"] = tensors[f"{name}.lora_down.weight"][:12].clone()
        tensors[f"{name}.lora_up.weight"] = tensors[f"{name}.lora_up.weight"][:, :12].clone()
    else:
        tensors = {key: value for key, value in tensors.items() if "linear1" not in key}
    save_file(tensors, tmp_path / "c.safetensors", metadata=strings)
    with pytest.raises(ClbenchError, match="another program has changed the file"):
        describe_adapter(tmp_path / "c.safetensors")


def test_names_that_nobody_knows_are_refused(tmp_path):
    pair = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 2)}
    for name in ("lora_unet_double_blocks_0_img_attn_norm", "lora_unet_double_blocks_0_img_attn_qkv", "double_blocks.0.norm"):
        save_file({f"{name}.{end}": value.clone() for end, value in pair.items()}, tmp_path / "x.safetensors")
        with pytest.raises(ClbenchError, match="not a LoRA of a dialect that is read here"):
            describe_adapter(tmp_path / "x.safetensors")


def with_text_encoder(pipe, path, format):
    """A LoRA that trains CLIP-L too, in kohya's names or diffusers' own."""
    factors, metadata = full_lora(pipe, 0)
    plain = saved(path.with_name("plain.safetensors"), factors, metadata, note="kept")
    if format == "kohya":
        plain = exported(plain, path.with_name("kohya.safetensors"), "kohya")
    layer = "lora_te1_text_model_encoder_layers_0_mlp_fc1" if format == "kohya" else "text_encoder.layers.0.fc1"
    sides = ("down", "up") if format == "kohya" else ("A", "B")
    text = {f"{layer}.lora_{sides[0]}.weight": torch.ones(2, 8), f"{layer}.lora_{sides[1]}.weight": torch.ones(8, 2)}
    strings = dict(plain.header)
    if format == "diffusers":
        packed = json.loads(strings[METADATA_KEY])
        strings[METADATA_KEY] = json.dumps(packed | {"text_encoder.r": 2, "text_encoder.lora_alpha": 2})
    save_file(load_file(plain.path) | text, path, metadata=strings)
    return plain, next(iter(text))


@pytest.mark.parametrize("format", ["kohya", "diffusers"])
@pytest.mark.parametrize("wanted", [*ORIGINAL, "diffusers"])
def test_a_text_encoder_can_be_dropped(pipe, tmp_path, format, wanted):
    """The refusal names the command; what it writes is the transformer's part to the bit, and says that it is one."""
    from clbench.cli import app

    both, out = tmp_path / "both of them.safetensors", tmp_path / "out.safetensors"
    plain, name = with_text_encoder(pipe, both, format)
    with pytest.raises(ClbenchError, match=re.escape(f"clbench export '{both}' --drop-text-encoder --format diffusers")):
        describe_adapter(both)
    command = ["export", str(both), "--format", wanted, "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 2 and not out.exists()
    done = CliRunner().invoke(app, [*command, "--drop-text-encoder"])
    assert done.exit_code == 0 and "2 tensors of the text encoder are left out" in done.stderr and name in done.stderr
    made = describe_adapter(out)
    assert made.header["clbench.left_out"] == "text encoder, 2 tensors" and made.header["note"] == "kept"
    assert_same(plain, replace(made, header={key: value for key, value in made.header.items() if key != "clbench.left_out"}))
    assert not any("text_encoder" in key for key in made.metadata)
    third = tmp_path / "c.safetensors"
    again = CliRunner().invoke(app, ["export", str(out), "--drop-text-encoder", "-f", "kohya", "-o", str(third)])
    assert again.exit_code == 0 and "nothing to drop" in again.stderr
    assert describe_adapter(third).header["clbench.left_out"], "the mark stays"


def test_the_command(pipe, tmp_path):
    from clbench.cli import app

    info = saved(tmp_path / "a.safetensors", *full_lora(pipe, 0))
    out = tmp_path / "b.safetensors"
    done = CliRunner().invoke(app, ["export", str(info.path), "--format", "comfyui", "--out", str(out)])
    assert done.exit_code == 0 and str(out) in done.output.replace("\n", "")
    assert_same(info, describe_adapter(out))
    again = CliRunner().invoke(app, ["export", str(tmp_path / "no.safetensors"), "-f", "kohya", "-o", str(out)])
    assert again.exit_code == 2
