"""LoRA files: dialects, ranks, checks against a base, damage, export."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
from dataclasses import replace
from typing import Any

import pytest
import torch
from mini_parts import build_flux_pipeline, random_lora
from safetensors.torch import load_file, save_file

from clbench import adapters, dialects
from clbench.adapter_metadata import METADATA_KEY
from clbench.adapter_writing import save_adapter
from clbench.attaching import base_shapes, check_adapter, lora_config
from clbench.provenance import hash_file
from clbench.registry import ClbenchError
from clbench.tensor_file import put_tensors, read_header


@pytest.fixture(scope="module")
def pipe():
    return build_flux_pipeline()


@pytest.fixture
def lora(pipe):
    return random_lora(pipe, 0)


@pytest.fixture
def file(tmp_path, lora):
    save_adapter(tmp_path / "a.safetensors", *lora, extra={"effect": "sepia"})
    return tmp_path / "a.safetensors"


def test_description_of_a_saved_adapter(file, lora):
    factors, metadata = lora
    info = adapters.describe_adapter(file)
    assert info.rank == 4 and set(info.alphas.values()) == {8.0}
    assert len(info.modules) == len(factors) // 2
    assert info.bytes == file.stat().st_size
    assert info.metadata["target_modules"] == metadata["target_modules"]
    loaded = adapters.load_tensors(info)
    assert loaded.keys() == factors.keys()
    assert all(torch.equal(loaded[name], factors[name]) for name in factors)


def test_equal_adapters_are_equal_files(tmp_path, lora):
    """Trainings know teachers and starts by their sha256, so a file made again from equal weights must be the same one."""
    strings = {f"clbench.{name}": f"ä \"{name}\"\n" for name in "qwertyuiop"}
    files = [tmp_path / f"{n}.safetensors" for n in range(4)]
    for file in files:
        save_adapter(file, *lora, extra=strings)
    assert len({file.read_bytes() for file in files}) == 1
    assert strings.items() <= read_header(files[0])["__metadata__"].items()
    assert load_file(files[0]).keys() == {f"transformer.{name}" for name in lora[0]}


def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(file, lora, full_disk):
    before = file.read_bytes()
    with full_disk(), pytest.raises(ClbenchError, match=r"cannot write the adapter .*a\.safetensors: File too large$"):
        save_adapter(file, {name: tensor + 1 for name, tensor in lora[0].items()}, lora[1])
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_the_umask_allows(tmp_path, lora, umask):
    """Not safetensors' own 0600, also where a stopped write left a part of that mode."""
    (tmp_path / ".a.safetensors.part").touch(mode=0o600)
    before = os.umask(umask)
    try:
        save_adapter(tmp_path / "a.safetensors", *lora)
        put_tensors("examples", tmp_path / "b.safetensors", {"x": torch.zeros(1)})
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.safetensors", "b.safetensors"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666 & ~umask}


def test_what_cannot_be_read_again_leaves_no_part(tmp_path, lora):
    with pytest.raises(ClbenchError, match="is not a LoRA of a dialect"):
        save_adapter(tmp_path / "a.safetensors", {**lora[0], "bias": torch.zeros(1)}, lora[1])
    assert not list(tmp_path.iterdir())


def write(path, tensors, metadata=None):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    return adapters.describe_adapter(path)


def renamed(factors, rename):
    return {rename(name): tensor for name, tensor in factors.items()}


def flat_and_end(name):
    """``a.b.lora_A.weight`` -> ``a_b``, ``lora_down.weight``."""
    module, side = name.removesuffix(".weight").rsplit(".lora_", 1)
    return module.replace(".", "_"), f"lora_{'down' if side == 'A' else 'up'}.weight"


DIALECTS = {
    "diffusers": lambda n: f"transformer.{n}",
    "peft": lambda n: f"base_model.model.{n}",
    "peft with an adapter name": lambda n: f"base_model.model.{n.replace('.weight', '.default.weight')}",
    "bare": lambda n: n,
    "comfy": lambda n: f"diffusion_model.{n}",
    "comfy in a checkpoint": lambda n: f"model.diffusion_model.{n}",
    "onetrainer": lambda n: "lora_transformer_{}.{}".format(*flat_and_end(n)),
    "down and up": lambda n: n.replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_read_the_same(tmp_path, lora, dialect):
    factors, _ = lora
    info = write(tmp_path / "x.safetensors", renamed(factors, DIALECTS[dialect]))
    loaded = adapters.load_tensors(info)
    assert loaded.keys() == factors.keys()
    assert all(torch.equal(loaded[name], factors[name]) for name in factors)
    assert set(info.alphas.values()) == {4.0}, "without metadata the scale is 1"


def test_alpha_from_tensors_config_and_patterns(tmp_path, lora):
    factors, _ = lora
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in factors})
    with_alpha = factors | {f"{module}.alpha": torch.tensor(float(i + 1)) for i, module in enumerate(modules)}
    info = write(tmp_path / "alpha.safetensors", with_alpha)
    assert [info.alphas[m] for m in modules] == [float(i + 1) for i in range(len(modules))]
    config = lora_config(info)
    assert config["alpha_pattern"] and config["rank_pattern"] == {}

    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 32}))
    info = write(tmp_path / "adapter_model.safetensors", renamed(factors, DIALECTS["peft"]))
    assert set(info.alphas.values()) == {32.0}
    (tmp_path / "adapter_config.json").unlink()

    packed = {"transformer.r": 4, "transformer.lora_alpha": 4, "transformer.alpha_pattern": {"to_q": 2}}
    info = write(tmp_path / "p.safetensors", factors, {METADATA_KEY: json.dumps(packed)})
    assert {m.endswith("to_q"): a for m, a in info.alphas.items()} == {True: 2.0, False: 4.0}


def test_the_configuration_of_peft_is_part_of_an_adapter(tmp_path, lora):
    """Alpha stands there alone, so it belongs to the digest; and under another name the file must not lose it."""
    factors, _ = lora
    config = tmp_path / "glow" / "adapter_config.json"
    config.parent.mkdir()
    seen = set()
    for alpha in (8, 16):
        config.write_text(json.dumps({"r": 4, "lora_alpha": alpha}))
        info = write(config.with_name("glow.safetensors"), renamed(factors, DIALECTS["peft"]))
        assert set(info.alphas.values()) == {float(alpha)}
        seen |= {info.sha256, adapters.adapter_digest(info.path), info.handle}
    assert len(seen) == 4
    config.write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_dora": True}))
    with pytest.raises(ClbenchError, match="is a DoRA adapter"):
        adapters.describe_adapter(config.with_name("glow.safetensors"))
    config.write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    own = config.with_name("own.safetensors")
    save_adapter(own, factors, {"r": 4, "lora_alpha": 2})  # says its alpha itself
    assert set(adapters.describe_adapter(own).alphas.values()) == {2.0}
    with pytest.raises(ClbenchError, match=r"glow.safetensors has peft's names, and adapter_config.json beside it may be"):
        adapters.describe_adapter(config.with_name("glow.safetensors"))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lokr_w1", "LoKr"),
        ("lora_unet_unheard_of.lokr_w2_a", "LoKr"),
        ("transformer.transformer_blocks.0.attn.to_q.hada_w1_a", "LoHa"),
        ("transformer.transformer_blocks.0.attn.to_q.dora_scale", "DoRA"),
        ("base_model.model.transformer_blocks.0.attn.to_q.lora_magnitude_vector", "DoRA"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_magnitude_vector.default.weight", "DoRA"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_other_kinds_of_adapters_are_refused_by_name(tmp_path, lora, key, kind, alone):
    file = tmp_path / "x.safetensors"
    with pytest.raises(ClbenchError) as refused:
        write(file, ({} if alone else lora[0]) | {key: torch.zeros(2, 2)})
    told = f"{file} is a {kind} adapter (key '{key}'); {kind} is not supported, only plain LoRA factors are read"
    assert str(refused.value) == told


@pytest.mark.parametrize("dialect", ["diffusers", "bare", "down and up"])
def test_own_loading_equals_stock_loading(pipe, tmp_path, lora, dialect):
    """Scale included: alpha 8 at rank 4. The stock loader reads the exported file, ours any dialect."""
    from clbench.adapters import describe_adapter, load_tensors

    factors, metadata = lora
    exported = tmp_path / "exported.safetensors"
    save_adapter(exported, factors, metadata)
    packed = {METADATA_KEY: json.dumps({f"transformer.{k}": v for k, v in metadata.items()})}
    ours = write(tmp_path / "ours.safetensors", renamed(factors, DIALECTS[dialect]), packed)

    stock, own = build_flux_pipeline(), build_flux_pipeline()
    stock.load_lora_weights(str(exported), adapter_name="zz_stock")
    own.transformer.load_lora_adapter(
        {f"transformer.{k}": v for k, v in load_tensors(ours).items()}, adapter_name=ours.handle,
        metadata={f"transformer.{k}": v for k, v in lora_config(describe_adapter(ours.path)).items()},
    )  # fmt: skip
    stock.fuse_lora()
    own.fuse_lora()
    theirs = {
        k.replace(".base_layer", ""): v for k, v in stock.transformer.state_dict().items() if "lora_" not in k
    }
    mine = {
        k.replace(".base_layer", ""): v for k, v in own.transformer.state_dict().items() if "lora_" not in k
    }
    assert theirs.keys() == mine.keys()
    assert all(torch.allclose(theirs[k], mine[k], atol=1e-7) for k in theirs)
    plain = pipe.transformer.state_dict()
    assert any(not torch.equal(plain[k], mine[k]) for k in plain)


def test_ranks_that_differ_between_modules(pipe, tmp_path):
    q, _ = random_lora(pipe, 0, rank=2, targets=("to_q",))
    k, _ = random_lora(pipe, 1, rank=4, targets=("to_k", "to_v"))
    info = write(tmp_path / "mixed.safetensors", q | k)
    assert set(info.ranks.values()) == {2, 4} and info.rank == 4
    other = build_flux_pipeline()
    other.transformer.load_lora_adapter(
        {f"transformer.{n}": v for n, v in adapters.load_tensors(info).items()}, adapter_name=info.handle,
        metadata={f"transformer.{n}": v for n, v in lora_config(info).items()},
    )  # fmt: skip
    shapes = {n: p.shape for n, p in other.transformer.named_parameters() if "lora_A" in n}
    assert {s[0] for n, s in shapes.items() if "to_q" in n} == {2}
    assert {s[0] for n, s in shapes.items() if "to_k" in n} == {4}


def test_check_against_the_base(file, flux_folder):
    info = adapters.describe_adapter(file)
    shapes = base_shapes(flux_folder / "transformer")
    check_adapter(info, shapes, "mini")
    module = info.modules[0]
    with pytest.raises(
        ClbenchError, match=f"LoRA of another base: '{module}' is 32x32 in the adapter, 64x32 in mini"
    ):
        check_adapter(info, shapes | {module: (64, 32)}, "mini")
    del shapes[module]
    with pytest.raises(ClbenchError, match=f"LoRA of another base: mini has no module '{module}'"):
        check_adapter(info, shapes, "mini")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, lora, flux_folder, dtype, value):
    shapes, name = base_shapes(flux_folder / "transformer"), sorted(lora[0])[3]
    for stored in (torch.finfo(getattr(torch, dtype)).max, torch.finfo(getattr(torch, dtype)).min, value):
        tensors = {key: tensor.double().to(getattr(torch, dtype)) for key, tensor in lora[0].items()}
        tensors[name][1, 2] = stored
        info = write(tmp_path / "a.safetensors", tensors)
        if tensors[name].double().isfinite().all():  # float8_e4m3fn has nothing infinite
            check_adapter(info, shapes, "mini")
            continue
        with pytest.raises(ClbenchError, match=rf"a\.safetensors is spoilt: tensor '{re.escape(name)}' holds values that"):
            check_adapter(info, shapes, "mini")


def test_values_of_a_large_file_are_read_once(tmp_path, lora, flux_folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("clbench.hashing.REMEMBER_ABOVE", 0)
    info, shapes = write(tmp_path / "a.safetensors", lora[0]), base_shapes(flux_folder / "transformer")
    check_adapter(info, shapes, "mini")
    with monkeypatch.context() as patch:
        patch.setattr("clbench.attaching.not_finite", lambda *given: pytest.fail("read again"))
        check_adapter(info, shapes, "mini")
    tensors = dict(lora[0])
    tensors[sorted(tensors)[0]] = torch.full_like(tensors[sorted(tensors)[0]], math.nan)
    for _ in range(2):
        with pytest.raises(ClbenchError, match="is spoilt: tensor"):
            check_adapter(write(tmp_path / "a.safetensors", tensors), shapes, "mini")
    assert adapters.describe_adapter(tmp_path / "a.safetensors").sha256 == hash_file(tmp_path / "a.safetensors")


def test_an_alpha_that_is_no_number_is_refused(tmp_path, lora, flux_folder):
    info = write(tmp_path / "a.safetensors", lora[0])
    spoilt = replace(info, alphas={**info.alphas, info.modules[0]: math.nan})
    with pytest.raises(ClbenchError, match=f"is spoilt: alpha of '{info.modules[0]}' is nan"):
        check_adapter(spoilt, base_shapes(flux_folder / "transformer"), "mini")


def test_base_shapes_are_those_of_the_model(pipe, flux_folder):
    shapes = base_shapes(flux_folder / "transformer")
    for name, module in pipe.transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert shapes[name] == tuple(module.weight.shape)


def test_names_that_the_base_knows_none_of_may_be_of_a_kind_that_is_not_read(tmp_path, lora, flux_folder):
    """'Of another base' alone sends the user after another model."""
    shapes = base_shapes(flux_folder / "transformer")
    strange = write(tmp_path / "s.safetensors", renamed(lora[0], lambda n: f"lycoris_{n}"))
    with pytest.raises(ClbenchError, match=r"another base, or its names are not read here: mini has none of its 6 modules"):
        check_adapter(strange, shapes, "mini")


MODULES = [
    layer for layout in ("flux", "qwen") for layer in (
        *dialects.LAYOUTS.get(layout).outside.values(),
        *(f"{block}.{number}.{module}" for block, targets in dialects.LAYOUTS.get(layout).blocks.values()
          for modules in targets.values() for module in modules for number in (0, 17)),
    )
]  # fmt: skip


def test_flattened_module_names_are_told_apart():
    """Every module of every base has a spelling of its own, and it is read back."""
    flat = {module: dialects.flat(module) for module in MODULES}
    assert len(set(flat.values())) == len(flat) > 60
    assert all(dialects.unflattened_module(spelled) == module for module, spelled in flat.items())
    for unknown in ("transformer_blocks_0_attn_to_x", "transformer_blocks_attn_to_q", "mid_block", "single_blocks_0_linear1"):
        assert dialects.unflattened_module(unknown) is None


def test_onetrainers_names_are_read_as_diffusers_reads_them(tmp_path):
    """With alphas, every tensor; of the blocks its reader takes the attention alone."""
    from diffusers import FluxKontextPipeline

    g, tensors = torch.Generator().manual_seed(0), {}
    for module in (m for m in MODULES[: MODULES.index("img_in")] if "attn" in m or "embed" in m or m == "proj_out"):
        name = f"lora_transformer_{dialects.flat(module)}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, 16, generator=g)
        tensors[f"{name}.lora_up.weight"] = torch.randn(16, 4, generator=g)
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    info = write(tmp_path / "o.safetensors", tensors)
    theirs: Any = FluxKontextPipeline.lora_state_dict(str(tmp_path / "o.safetensors"))
    mine = adapters.load_tensors(info)
    assert set(theirs) == {f"transformer.{key}" for key in mine} and set(info.alphas.values()) == {2.0}
    products = {m: theirs[f"transformer.{m}.lora_B.weight"] @ theirs[f"transformer.{m}.lora_A.weight"] for m in info.modules}
    for module, product in products.items():  # diffusers divides the scale between both factors
        own = mine[f"{module}.lora_B.weight"] @ mine[f"{module}.lora_A.weight"]
        assert torch.equal(product, own * info.scale(module)), module


def test_flattened_names_of_no_base_are_refused(tmp_path):
    pair = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 2)}
    save_file({f"lora_transformer_layers_0_to_q.{end}": value for end, value in pair.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ClbenchError, match="not a LoRA of a dialect that is read here: key 'lora_transformer_layers_0"):
        adapters.describe_adapter(tmp_path / "x.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_files_are_named(file, keep):
    data = file.read_bytes()
    file.write_bytes(data[:keep])
    with pytest.raises(ClbenchError, match=r"a.safetensors is (truncated|no safetensors)"):
        adapters.describe_adapter(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {**f, "norm.weight": torch.zeros(3)}, "key 'norm.weight'"),
        (lambda f: dict(list(f.items())[1:]), "lacks lora_A of"),
        (
            lambda f: {k: (v[:2] if k.endswith("to_q.lora_A.weight") else v) for k, v in f.items()},
            "do not fit each other",
        ),
        (lambda f: {"x.alpha": torch.tensor(1.0)}, "holds no LoRA factors"),
        (lambda f: f | {f"transformer.{k}": v.clone() for k, v in f.items()}, "twice"),
    ],
)
def test_other_files_are_refused(tmp_path, lora, change, message):
    save_file({k: v.contiguous() for k, v in change(lora[0]).items()}, tmp_path / "x.safetensors")
    with pytest.raises(ClbenchError, match=message):
        adapters.describe_adapter(tmp_path / "x.safetensors")


TEXT = ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te_x", "text_encoder.text_model.q_proj", "text_encoder_2.wo")


@pytest.mark.parametrize("layer", TEXT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_text_encoders_that_are_not_trained_are_left_aside(tmp_path, lora, layer, dtype):
    """A factor of zeros, of either sign, makes the product zero whatever the other one holds."""
    factors, _ = lora
    down, up = (f"{layer}.lora_{side}.weight" for side in ("down", "up"))
    beside = {down: torch.ones(2, 8, dtype=dtype), up: -torch.zeros(8, 2, dtype=dtype), f"{layer}.alpha": torch.tensor(2.0)}
    plain = write(tmp_path / "plain.safetensors", factors)
    info = write(tmp_path / "zero.safetensors", factors | beside)
    assert (info.ranks, info.alphas, info.shapes) == (plain.ranks, plain.alphas, plain.shapes)
    loaded = adapters.load_tensors(info)
    assert loaded.keys() == factors.keys() and all(torch.equal(loaded[name], factors[name]) for name in factors)
    beside[up][7, 1] = torch.finfo(dtype).tiny
    with pytest.raises(ClbenchError, match=rf"trains the text encoder too \('{re.escape(layer)}"):
        write(tmp_path / "trained.safetensors", factors | beside)
    with pytest.raises(ClbenchError, match="trains the text encoder too"):
        write(tmp_path / "other.safetensors", factors | {f"{layer}.dora_scale": torch.zeros(1)})


def test_files_that_are_no_adapters(tmp_path):
    with pytest.raises(ClbenchError, match=r"adapter not found: .*gone"):
        adapters.describe_adapter(tmp_path / "gone.safetensors")
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 5) + b"hello")
    with pytest.raises(ClbenchError, match="header is not JSON"):
        adapters.describe_adapter(tmp_path / "x.safetensors")


def test_export_needs_alpha_and_is_whole(tmp_path, lora, monkeypatch):
    factors, metadata = lora
    with pytest.raises(ClbenchError, match="must hold r and lora_alpha"):
        save_adapter(tmp_path / "x.safetensors", factors, {"r": 4})
    with pytest.raises(ClbenchError, match=r"saved as .safetensors"):
        save_adapter(tmp_path / "x.bin", factors, metadata)
    path = tmp_path / "x.safetensors"
    sha = save_adapter(path, factors, metadata | {"target_modules": {"to_v", "to_q"}})
    info = adapters.describe_adapter(path)
    assert info.sha256 == sha and info.metadata["target_modules"] == ["to_q", "to_v"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.safetensors"]
    assert all(name.startswith("transformer.") for name in load_file(path))


def test_handles_have_one_width_and_hide_in_no_parameter(pipe, tmp_path):
    parameters = [name for name, _ in pipe.transformer.named_parameters()]
    handles = set()
    for seed in range(5):
        path = tmp_path / f"{seed}.safetensors"
        save_adapter(path, *random_lora(pipe, seed))
        handles.add(adapters.describe_adapter(path).handle)
    assert len(handles) == 5 and len({len(h) for h in handles}) == 1
    assert not any(handle in name for handle in handles for name in parameters)


def test_description_needs_no_torch(file):
    import subprocess
    import sys

    code = (
        "import sys; from clbench.adapters import describe_adapter; "
        f"describe_adapter({str(file)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_precision_halves_the_file_and_refuses_what_it_cannot_hold(tmp_path):
    module = "transformer_blocks.0.attn.to_q"
    state = {f"{module}.lora_A.weight": torch.randn(4, 64), f"{module}.lora_B.weight": torch.randn(64, 4)}
    plain = {"r": 4, "lora_alpha": 4}
    save_adapter(tmp_path / "half.safetensors", state, plain, dtype="float16")
    save_adapter(tmp_path / "full.safetensors", state, plain)
    half = adapters.load_tensors(adapters.describe_adapter(tmp_path / "half.safetensors"))
    full = adapters.load_tensors(adapters.describe_adapter(tmp_path / "full.safetensors"))
    assert {value.dtype for value in half.values()} == {torch.float16}
    for key, value in full.items():
        torch.testing.assert_close(half[key].float(), value, rtol=1e-3, atol=1e-6)
    state[f"{module}.lora_B.weight"][0, 0] = 1e6
    with pytest.raises(ClbenchError, match="beyond the range of float16"):
        save_adapter(tmp_path / "huge.safetensors", state, plain, dtype="float16")
    assert not (tmp_path / "huge.safetensors").exists()
