"""Merging as it was before it went module by module: every adapter in memory, in one stand-in of all modules.

Kept for the tests, which hold that the results are the same to the byte.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from clbench.adapter_writing import save_adapter
from clbench.adapters import load_tensors
from clbench.attaching import lora_values
from clbench.merging import Merge

MERGED = "zx_merged"


def write_whole(merge: Merge, path) -> None:
    """What `write_merged` writes."""
    factors = merge_whole(merge)
    ranks = {name.removesuffix(".lora_A.weight"): len(t) for name, t in factors.items() if name.endswith(".lora_A.weight")}
    facts = {"clbench.merged": merge.method, "clbench.merged.key": merge.key, "clbench.adapters": str(len(merge.parts))}
    save_adapter(path, factors, lora_values(ranks, {module: float(rank) for module, rank in ranks.items()}), facts)


def merge_whole(merge: Merge) -> dict[str, torch.Tensor]:
    """What `merge_adapters` returns."""
    loaded = [_loaded(part) for part in merge.parts]
    dtypes = {tensor.dtype for tensors, _, _ in loaded for tensor in tensors.values()}
    factors = _combine(loaded, merge.method, merge.density, merge.rank, merge.seed)
    if merge.accelerator is not None:
        factors = _combine([(factors, {}, merge.merged_weight), _loaded(merge.accelerator)], "cat")
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return {name: tensor.to(dtype) for name, tensor in factors.items()}


def _loaded(part):
    info = part.info
    scales = {m: info.alphas[m] / (r**0.5 if info.rslora else r) for m, r in info.ranks.items()}
    return load_tensors(info), scales, part.weight


def _combine(parts, method, density=0.5, rank=None, seed=0):
    names = [f"zx{index:06d}" for index in range(len(parts))]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\b")
        carrier, places = _stand_in(parts, names)
        torch.default_generator.manual_seed(seed)
        carrier.base_model.add_weighted_adapter(
            adapters=names, weights=[weight for _, _, weight in parts], adapter_name=MERGED,
            combination_type=method, svd_rank=rank, svd_full_matrices=False, density=density,
        )  # fmt: skip
    merged = {}
    for module, place in places.items():
        layer: Any = carrier.get_submodule(f"base_model.model.{place}")
        a, b = layer.lora_A[MERGED].weight.data, layer.lora_B[MERGED].weight.data
        if method == "cat":
            used = sum(_rank(tensors, module) for tensors, _, _ in parts)
            a, b = a[:used], b[:, :used]
        merged[f"{module}.lora_A.weight"], merged[f"{module}.lora_B.weight"] = a.clone(), b.clone()
    return merged


def _stand_in(parts, names):
    shapes = {m: (len(t[f"{m}.lora_B.weight"]), t[f"{m}.lora_A.weight"].shape[1]) for t, _, _ in parts for m in _modules(t)}
    places = {module: f"m{index:06d}" for index, module in enumerate(sorted(shapes))}
    layers = nn.ModuleDict({places[module]: _empty_linear(*shape) for module, shape in shapes.items()})
    rank = max(_rank(tensors, module) for tensors, _, _ in parts for module in _modules(tensors))
    carrier: Any = None
    for name, (tensors, scales, _) in zip(names, parts, strict=True):
        ranks = {places[module]: _rank(tensors, module) for module in _modules(tensors)}
        alphas = {places[module]: scales.get(module, 1.0) * _rank(tensors, module) for module in _modules(tensors)}
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=sorted(ranks), rank_pattern=ranks, alpha_pattern=alphas, lora_dropout=0.0
        )
        if carrier is None:
            carrier = get_peft_model(layers, config, adapter_name=name)
        else:
            carrier.add_adapter(name, config)
        for module in _modules(tensors):
            layer: Any = layers[places[module]]
            layer.lora_A[name].weight.data.copy_(tensors[f"{module}.lora_A.weight"])
            layer.lora_B[name].weight.data.copy_(tensors[f"{module}.lora_B.weight"])
    return carrier, places


def _modules(tensors):
    return sorted({name.rsplit(".lora_", 1)[0] for name in tensors})


def _rank(tensors, module) -> int:
    name = f"{module}.lora_A.weight"
    return len(tensors[name]) if name in tensors else 0


def _empty_linear(rows, columns):
    layer = nn.Linear(columns, rows, bias=False, device="meta")
    layer.weight = nn.Parameter(torch.zeros(()).expand(rows, columns), requires_grad=False)
    return layer
