"""Merged LoRAs: laws of the deltas, parity with peft over a real model, one adapter gives itself back, the cache."""

from __future__ import annotations

import shutil
import weakref

import pytest
import torch
from mini_parts import build_flux_pipeline, full_lora, random_lora
from whole_merge import write_whole

from clbench import merging
from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.attaching import lora_config
from clbench.merging import FACTORWISE, METHODS, Merge, Part, merge_adapters, usual_weight, write_merged
from clbench.registry import ClbenchError, Stopped
from clbench.world import load_world


@pytest.fixture(scope="module")
def pipe():
    return build_flux_pipeline()


@pytest.fixture
def infos(lora_files):
    """Two teachers and an accelerator: rank 4, alpha 8."""
    return [describe_adapter(lora_files[name]) for name in ("sepia", "upside_down", "accelerator")]


def deltas(tensors, scale=1.0):
    """Module -> scale B A, in float64."""
    modules = {name.rsplit(".lora_", 1)[0] for name in tensors}
    pair = lambda m: (tensors[f"{m}.lora_{side}.weight"].double() for side in "BA")  # noqa: E731
    return {m: scale * torch.matmul(*pair(m)) for m in modules}


def of(info):
    return deltas(load_tensors(info), 2.0)  # alpha 8 at rank 4


def close(one, other, atol=1e-5):
    assert one.keys() == other.keys()
    return all(torch.allclose(one[m], other[m], atol=atol, rtol=1e-5) for m in one)


def pair(infos, weights=(0.5, 0.25)):
    return tuple(Part(info, weight) for info, weight in zip(infos, weights, strict=False))


@pytest.mark.parametrize("method", METHODS)
def test_one_adapter_at_weight_1_is_itself(infos, method):
    assert close(deltas(merge_adapters(Merge(method, (Part(infos[0], 1.0),)))), of(infos[0]))


@pytest.mark.parametrize("method", METHODS)
def test_two_copies_of_an_adapter(infos, method):
    """Unlike one adapter, which peft merges by "linear" whatever was asked for, this goes through the method itself.

    The usual weights give the adapter back, except where factors are summed apart: n copies at 1/n are n times as strong.
    """
    weight = usual_weight(method, 2)
    merged = merge_adapters(Merge(method, (Part(infos[0], weight),) * 2, density=1.0))
    strength = 2.0 if method in ("linear", "magnitude_prune") else 1.0
    assert close(deltas(merged), {m: strength * delta for m, delta in of(infos[0]).items()})


@pytest.mark.parametrize(("method", "rank"), [("cat", None), ("svd", 8)])
def test_exact_methods_are_the_weighted_sum(infos, method, rank):
    one, other = of(infos[0]), of(infos[1])
    merged = merge_adapters(Merge(method, pair(infos), rank=rank))
    assert close(deltas(merged), {m: 0.5 * one[m] + 0.25 * other[m] for m in one})
    assert {len(t) for name, t in merged.items() if "lora_A" in name} == {8}


def test_linear_adds_the_factors_apart(infos):
    """B and A each summed with the root of weight x scale: the weighted sum of products, plus every cross term."""
    one, other = (load_tensors(info) for info in infos[:2])
    merged = merge_adapters(Merge("linear", pair(infos)))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, 1.0**0.5 * one[name] + 0.5**0.5 * other[name])


@pytest.mark.parametrize("method", ["svd", "ties_svd", "magnitude_prune_svd"])
def test_products_are_truncated_to_the_largest_rank_or_the_one_asked_for(infos, method):
    for rank, expected in ((None, 4), (6, 6)):
        merged = merge_adapters(Merge(method, pair(infos), rank=rank))
        assert {len(t) for name, t in merged.items() if "lora_A" in name} == {expected}


@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("dare")])
def test_parity_with_peft_over_the_whole_model(infos, method):
    """What a user would do: the base, its adapters, `add_weighted_adapter`. Only our stand-in is ours."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    transformer = build_flux_pipeline().transformer
    model = None
    for name, info in zip(("one_a", "one_b"), infos, strict=False):
        config = LoraConfig(**lora_config(info))
        if model is None:
            model = get_peft_model(transformer, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        state = {f"base_model.model.{key}": value for key, value in load_tensors(info).items()}
        set_peft_model_state_dict(model, state, adapter_name=name)
    model.add_weighted_adapter(["one_a", "one_b"], [0.5, 0.25], "both", combination_type=method, density=0.5)
    theirs = {
        name.removeprefix("base_model.model.").replace(".both.", "."): p.detach()
        for name, p in model.named_parameters()
        if ".both." in name
    }
    assert close(deltas(theirs), deltas(merge_adapters(Merge(method, pair(infos)))))


@pytest.mark.parametrize("method", ["dare_ties", "dare_ties_svd"])
def test_dare_depends_on_its_seed_alone(infos, method):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = merge_adapters(Merge(method, pair(infos), seed=3))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    again, other = (merge_adapters(Merge(method, pair(infos), seed=seed)) for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
def test_density_1_prunes_nothing(infos, method):
    factors = [load_tensors(info) for info in infos[:2]]
    merged = merge_adapters(Merge(method, pair(infos, (1.0, 1.0)), density=1.0))
    for name, tensor in merged.items():
        both = torch.stack([2.0**0.5 * f[name] for f in factors])
        agrees = both.sign() == torch.where(torch.stack([f[name] for f in factors]).sum(0) >= 0, 1, -1)
        elected = (both * agrees).sum(0) / agrees.sum(0).clamp(min=1)
        torch.testing.assert_close(tensor, elected if method == "ties" else both.sum(0))


def test_the_accelerator_is_joined_exactly(infos):
    teachers, fast = pair(infos), Part(infos[2], 0.75)
    alone = deltas(merge_adapters(Merge("ties", teachers)))
    joined = deltas(merge_adapters(Merge("ties", teachers, accelerator=fast, merged_weight=0.5)))
    accelerator = of(infos[2])
    assert close(joined, {m: 0.5 * alone[m] + 0.75 * accelerator[m] for m in alone})


def save(tmp_path, name, factors, metadata):
    save_adapter(tmp_path / f"{name}.safetensors", factors, metadata)
    return describe_adapter(tmp_path / f"{name}.safetensors")


def test_adapters_of_other_modules_and_ranks(pipe, tmp_path):
    q = save(tmp_path, "q", *random_lora(pipe, 0, rank=2, targets=("to_q",)))
    qk = save(tmp_path, "qk", *random_lora(pipe, 1, rank=3, targets=("to_q", "to_k")))
    merged = merge_adapters(Merge("cat", (Part(q, 1.0), Part(qk, 1.0))))
    ranks = {name.rsplit(".", 3)[1]: len(t) for name, t in merged.items() if "lora_A" in name}
    assert ranks == {"to_q": 5, "to_k": 3}, "no rows of zeros where an adapter lacks a module"
    one, other = of(q), of(qk)
    assert close(deltas(merged), {m: other[m] + one[m] if m in one else other[m] for m in other})
    path = tmp_path / "cat.safetensors"
    write_merged(Merge("cat", (Part(q, 1.0), Part(qk, 1.0))), path)
    info = describe_adapter(path)
    assert info.ranks == {module: int(alpha) for module, alpha in info.alphas.items()}
    for method in FACTORWISE:
        with pytest.raises(ClbenchError, match=f"has rank 2 in one and 3 in the other; '{method}' needs equal ranks"):
            Merge(method, (Part(q, 1.0), Part(qk, 1.0)))
    merge_adapters(Merge("ties_svd", (Part(q, 1.0), Part(qk, 1.0))))


def test_rank_stabilised_scales_are_kept(pipe, tmp_path):
    factors, metadata = random_lora(pipe, 0)
    info = save(tmp_path, "rs", factors, metadata | {"use_rslora": True})
    for method in ("cat", "linear", "svd"):
        assert close(deltas(merge_adapters(Merge(method, (Part(info, 1.0),)))), deltas(factors, 8 / 4**0.5))


def test_dtype_is_that_of_the_parts(pipe, tmp_path):
    factors, metadata = random_lora(pipe, 0)
    half = save(tmp_path, "half", {k: v.bfloat16() for k, v in factors.items()}, metadata)
    whole = save(tmp_path, "whole", factors, metadata)
    assert {t.dtype for t in merge_adapters(Merge("cat", (Part(half, 1.0), Part(half, 1.0)))).values()} == {torch.bfloat16}
    assert {t.dtype for t in merge_adapters(Merge("cat", (Part(half, 1.0), Part(whole, 1.0)))).values()} == {torch.float32}


def test_the_file_is_made_once_and_named_by_everything_that_decides_it(infos, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    merge = Merge("ties", pair(infos))
    path = merging.merged_file(merge)
    assert path.is_relative_to(tmp_path / "cache") and path.stem == merge.key
    monkeypatch.setattr(merging, "combine", None)  # a second merge would fail
    assert merging.merged_file(Merge("ties", pair(infos))) == path
    others = [
        Merge("magnitude_prune", pair(infos)), Merge("ties", pair(infos, (0.5, 0.5))), Merge("ties", pair(infos[1:])),
        Merge("ties", pair(infos), density=0.2), Merge("ties", pair(infos), accelerator=Part(infos[2], 1.0)),
        Merge("dare_ties", pair(infos)), Merge("dare_ties", pair(infos), seed=1), Merge("svd", pair(infos)),
        Merge("svd", pair(infos), rank=2), Merge("ties", pair(infos), accelerator=Part(infos[2], 0.5)),
    ]  # fmt: skip
    assert len({merge.key, *(other.key for other in others)}) == len(others) + 1
    assert Merge("cat", pair(infos), density=0.2, seed=3).key == Merge("cat", pair(infos)).key, "cat looks at neither"
    monkeypatch.setattr(merging, "package_versions", lambda names: {"torch": "0"})
    assert merge.key != path.stem


def test_stock_diffusers_opens_a_merged_file(infos, tmp_path):
    write_merged(Merge("cat", pair(infos)), tmp_path / "merged.safetensors")
    stock, plain = build_flux_pipeline(), build_flux_pipeline()
    stock.load_lora_weights(str(tmp_path / "merged.safetensors"), adapter_name="zx_stock")
    stock.fuse_lora()
    wanted = merge_adapters(Merge("cat", pair(infos)))
    state, base = stock.transformer.state_dict(), plain.transformer.state_dict()
    for module, delta in deltas(wanted).items():
        seen = state[f"{module}.base_layer.weight"] - base[f"{module}.weight"]
        torch.testing.assert_close(seen.double(), delta, atol=1e-5, rtol=1e-4)


def test_mistakes_are_one_sentence(infos, pipe, tmp_path, monkeypatch):
    with pytest.raises(ClbenchError, match=r"unknown merging method 'tise'\. Did you mean 'ties'"):
        Merge("tise", pair(infos))
    with pytest.raises(ClbenchError, match="no adapter to merge"):
        Merge("ties", ())
    factors, metadata = random_lora(pipe, 0)
    module = infos[0].modules[0]
    factors[f"{module}.lora_B.weight"] = torch.zeros(7, 4)
    with pytest.raises(ClbenchError, match="LoRAs of different bases"):
        Merge("svd", (Part(infos[0], 1.0), Part(save(tmp_path, "foreign", factors, metadata), 1.0)))
    factors[f"{module}.lora_B.weight"] = torch.full((32, 4), float("inf"))
    with pytest.raises(ClbenchError, match="not finite"):
        merge_adapters(Merge("cat", (Part(save(tmp_path, "inf", factors, metadata), 1.0), Part(infos[0], 1.0))))
    monkeypatch.setattr(merging, "save_adapter", lambda path, *rest: shutil.copy(infos[0].path, path))
    with pytest.raises(ClbenchError, match="does not hold what was merged"):
        write_merged(Merge("ties", pair(infos)), tmp_path / "lost.safetensors")


def test_usual_weights():
    assert usual_weight("ties", 8) == usual_weight("dare_ties_svd", 8) == 1.0
    assert usual_weight("cat", 8) == usual_weight("magnitude_prune", 8) == 0.125


@pytest.mark.parametrize("method", ["svd", "cat"])
def test_how_far_a_merge_is_is_told_module_by_module(pipe, infos, tmp_path, method):
    """Those that the accelerator alone has count; Ctrl-C says that nothing is kept."""
    parts, fast = pair(infos), save(tmp_path, "fast", *full_lora(pipe, 2, rank=5, skip=("to_q",)))
    modules = {module for info in (infos[0], infos[1], fast) for module in info.modules}
    assert len(modules) > len(infos[0].modules)
    told = []
    merge = Merge(method, parts, accelerator=Part(fast, 1.0))
    write_merged(merge, tmp_path / "told.safetensors", lambda *how_far: told.append(how_far))
    assert told == [(done, len(modules)) for done in range(len(modules) + 1)]
    assert_same_bytes(merge, tmp_path)
    assert (tmp_path / "told.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(Stopped, match="of this merge nothing is kept"):
        write_merged(merge, tmp_path / "stopped.safetensors", stop)
    assert not (tmp_path / "stopped.safetensors").exists()


def assert_same_bytes(merge, tmp_path):
    write_whole(merge, tmp_path / "whole.safetensors")
    write_merged(merge, tmp_path / "modules.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "modules.safetensors").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_module_by_module_gives_the_bytes_of_a_whole_merge_on_shipped_adapters(tmp_path, method):
    """DARE too, which draws from one generator across all modules."""
    world = load_world("tiny")
    teachers = [describe_adapter(world.teacher_path(effect)) for effect in world.taught[:3]]
    parts = tuple(Part(info, weight) for info, weight in zip(teachers, (0.7, 1.0, 0.4), strict=True))
    fast = Part(describe_adapter(world.accelerator().path), 0.75)
    assert_same_bytes(Merge(method, parts, seed=3), tmp_path)
    assert_same_bytes(Merge(method, parts[:1], seed=3, accelerator=fast, merged_weight=0.5), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_and_where_modules_ranks_and_dtypes_differ(pipe, tmp_path, method):
    """A module that one adapter alone has still goes through the method; the accelerator has modules of its own."""
    q = save(tmp_path, "q", *random_lora(pipe, 0, rank=3, targets=("to_v", "to_q")))
    half, metadata = random_lora(pipe, 1, rank=3, targets=("to_q", "to_k"))
    qk = save(tmp_path, "qk", {name: value.bfloat16() for name, value in half.items()}, metadata | {"use_rslora": True})
    fast = save(tmp_path, "fast", *full_lora(pipe, 2, rank=5, skip=("to_q",)))
    parts = [Part(q, 1.0), Part(qk, -0.5)]
    if method not in FACTORWISE:
        parts.append(Part(save(tmp_path, "other", *random_lora(pipe, 3, rank=2, targets=("to_q", "to_out.0"))), 0.3))
    for order in (parts, parts[::-1]):
        assert_same_bytes(Merge(method, tuple(order), density=0.3, rank=4, seed=1), tmp_path)
        assert_same_bytes(Merge(method, tuple(order), accelerator=Part(fast, 0.75), merged_weight=0.5), tmp_path)


@pytest.mark.parametrize("method", ["linear", "dare_ties", "svd"])
def test_one_module_of_all_adapters_is_held_at_a_time(infos, monkeypatch, method):
    """Fifty teachers of rank 128 on Qwen-Image are 110 GiB, twice that in float32."""
    from clbench import merging_peft

    factors, layers, most = [], [], [0, 0]
    read, carry = merging.load_factors, merging_peft._stand_in

    def alive(seen):
        return sum(one() is not None for one in seen)

    def seen_read(info, wanted):
        found = read(info, wanted)
        factors.extend(weakref.ref(tensor) for tensor in found.values())
        most[0] = max(most[0], alive(factors))
        return found

    def seen_carry(*arguments):
        carrier = carry(*arguments)
        layers.append(weakref.ref(carrier.get_submodule("base_model.model.m")))
        most[1] = max(most[1], alive(layers))
        return carrier

    monkeypatch.setattr(merging, "load_factors", seen_read)
    monkeypatch.setattr(merging_peft, "_stand_in", seen_carry)
    merge_adapters(Merge(method, pair(infos), accelerator=Part(infos[2], 1.0)))
    assert len(layers) == 2 * len(infos[0].modules) > 6
    assert most[0] <= 2 * 2 * 3, "A and B of three adapters, of this module and of the one that is read after it"
    assert most[1] <= 3, "and no more than their layers"
