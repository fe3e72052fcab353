"""Putting an adapter over a base: whether it fits, from names and shapes, and can be used, from its values; peft's LoraConfig."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from clbench.adapters import AdapterInfo
from clbench.hashing import remembered
from clbench.registry import ClbenchError
from clbench.tensor_file import not_finite, read_header


def check_adapter(info: AdapterInfo, base: Mapping[str, tuple[int, ...]], base_name: str) -> None:
    """Every factor must apply to the base: `base` maps module -> weight shape (out, in).

    Raises ClbenchError ("LoRA of another base") for the first module that is missing or has another shape, and for values that
    make every picture one of NaN.
    """
    check_modules(info, base, base_name)
    for module, shape in sorted(info.shapes.items()):
        if tuple(base[module]) != shape:
            raise ClbenchError(
                f"{info.path} is a LoRA of another base: '{module}' is {shape[0]}x{shape[1]} in the adapter, "
                f"{'x'.join(map(str, base[module]))} in {base_name}"
            )
    require_finite(info)


def require_finite(info: AdapterInfo) -> None:
    """ClbenchError that names the first tensor of a LoRA with a NaN or infinite value, or the first such alpha.

    Values are read where a file's sha256 is, once per change of a large one.
    """
    if spoilt := next((module for module, alpha in info.alphas.items() if not math.isfinite(alpha)), None):
        raise ClbenchError(f"{info.path} is spoilt: alpha of '{spoilt}' is {info.alphas[spoilt]}")
    if name := remembered(info.path, "not finite in ", lambda: not_finite(info.path, info.names)):
        raise ClbenchError(f"{info.path} is spoilt: tensor '{name}' holds values that are NaN or infinite")


def check_modules(info: AdapterInfo, base: Collection[str], base_name: str) -> None:
    """Every module must be one of the base's; ClbenchError for the first that is not.

    Where the base has none of them, they may stand under names of a kind that is not read here, which is said too.
    """
    missing = [module for module in info.modules if module not in base]
    if missing and len(missing) == len(info.modules):
        raise ClbenchError(
            f"{info.path} is a LoRA of another base, or its names are not read here: {base_name} has none of its {len(missing)} "
            f"modules, such as '{missing[0]}'"
        )
    if missing:
        raise ClbenchError(f"{info.path} is a LoRA of another base: {base_name} has no module '{missing[0]}'")


def base_shapes(folder: Path | str) -> dict[str, tuple[int, ...]]:
    """Module -> weight shape of a model saved by ``save_pretrained``, from the headers alone.

    Empty if the folder holds no safetensors file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        for name, entry in read_header(path).items():
            if name.endswith(".weight"):
                shapes[name.removesuffix(".weight")] = tuple(entry["shape"])
    return shapes


def lora_config(info: AdapterInfo) -> dict[str, Any]:
    """The adapter as plain arguments of peft's LoraConfig: ranks and alphas exact for every module."""
    return lora_values(info.ranks, info.alphas) | {"use_rslora": info.rslora}


def lora_values(ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, Any]:
    """LoraConfig arguments for modules of the given ranks and alphas: the commonest value, patterns for the rest."""
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {f"^{m}": r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{m}": a for m, a in alphas.items() if a != alpha},
    }
