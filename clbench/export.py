"""`clbench export`: one LoRA under the names that ComfyUI, kohya's sd-scripts or diffusers use.

Nothing is lost (but a text encoder's part, where that is asked for): reading an exported file gives the same factors bit for
bit, and the same ranks, alphas and header.
Where the original FLUX code has one matrix for several modules (query, key, value; and in the single blocks the
feed-forward part), their factors become one pair: the A's one below the other, the B's as blocks on the diagonal, as
sd-scripts and diffusers do it. Each matrix carries one alpha, so its modules must have one scale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from clbench import dialects
from clbench.adapter_metadata import METADATA_KEY, packed_metadata
from clbench.adapter_writing import save_adapter, write_tensors
from clbench.adapters import AdapterInfo, describe_adapter, load_tensors, swap_halves
from clbench.attaching import lora_config
from clbench.dialects import Layout
from clbench.factors import of_text_encoders
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header

Format = Literal["comfyui", "kohya", "diffusers"]
LEFT_OUT_KEY = "clbench.left_out"
"""Header string of a file that holds less than the one it was made of: what is missing."""


@dataclass(frozen=True)
class Joined:
    """One matrix of the original model: A ``(R, in)``, B ``(out, R)``, the scale of B A, each module's first row in A."""

    a: Tensor
    b: Tensor
    scale: float
    first: Mapping[str, int]


def export_adapter(info: AdapterInfo, path: Path, format: Format, base: str | None = None) -> list[str]:
    """Write `info` to `path` in another program's names; returns what a user should know about the file.

    `base` (flux or qwen) is needed only where the module names belong to both. ClbenchError for modules that have no
    name there, and for a matrix whose modules differ in scale or in dtype.
    """
    factors = load_tensors(info)
    if format == "diffusers":
        _write_diffusers(info, factors, path)
        notes: list[str] = []
    else:
        layout = dialects.layout_of_modules(info.modules, base, info.path)
        _write_original(info, factors, path, format, layout)
        notes = _notes(info, layout)
    _check_same(info, factors, path)
    return notes


def without_text_encoder(path: Path) -> tuple[AdapterInfo, list[str]]:
    """A LoRA that trains a text encoder too, as one of the transformer alone; and what a user should know about it.

    Its header says what was left out. ClbenchError as in `describe_adapter`.
    """
    info = describe_adapter(path, drop_text=True)
    dropped = of_text_encoders(read_header(path))
    if not dropped:
        return info, [f"{path} holds nothing of a text encoder, so there was nothing to drop."]
    header = {**info.header, LEFT_OUT_KEY: f"text encoder, {len(dropped)} tensors"}
    for key in (METADATA_KEY, dialects.KEPT_METADATA_KEY):
        if key in header:  # packed as diffusers does it: text_encoder.r, transformer.r
            header[key] = json.dumps(_of_transformer(json.loads(header[key])), indent=2, sort_keys=True)
    note = f"{len(dropped)} tensors of the text encoder are left out ('{dropped[0]}', ...): what is left makes other pictures."
    return replace(info, header=header, metadata=_of_transformer(info.metadata)), [note]


def _of_transformer(values: Mapping[str, Any]) -> dict[str, Any]:
    """LoraConfig values without those of text encoders."""
    return {key: value for key, value in values.items() if not of_text_encoders([key])}


def _write_diffusers(info: AdapterInfo, factors: Mapping[str, Tensor], path: Path) -> None:
    own = {dialects.RECORD_KEY, dialects.KEPT_METADATA_KEY, METADATA_KEY, "format"}
    strings = {key: value for key, value in info.header.items() if key not in own}
    metadata = info.metadata if {"r", "lora_alpha"} <= set(info.metadata) else lora_config(info)
    save_adapter(path, factors, metadata, strings)


def _write_original(info: AdapterInfo, factors: Mapping[str, Tensor], path: Path, format: Format, layout: Layout) -> None:
    tensors: dict[str, Tensor] = {}
    record: dict[str, tuple[int, int, float]] = {}
    for target in dict.fromkeys(str(dialects.target_of(layout, module)) for module in info.modules):
        joined = join(info, factors, layout, target)
        name = dialects.FLAT_PREFIX + dialects.flat(target) if format == "kohya" else dialects.DOTTED_PREFIX + target
        tensors |= {f"{name}.lora_down.weight": joined.a, f"{name}.lora_up.weight": joined.b}
        tensors[f"{name}.alpha"] = torch.tensor(joined.scale * len(joined.a), dtype=torch.float32)
        record |= {module: (first, info.ranks[module], info.alphas[module]) for module, first in joined.first.items()}
    strings = {key: value for key, value in info.header.items() if key not in (METADATA_KEY, "format")}
    if info.metadata:
        kept = info.header.get(METADATA_KEY, info.header.get(dialects.KEPT_METADATA_KEY))
        strings[dialects.KEPT_METADATA_KEY] = packed_metadata(info.metadata) if kept is None else kept
    write_tensors(path, tensors, strings | {dialects.RECORD_KEY: json.dumps(record)})


def join(info: AdapterInfo, factors: Mapping[str, Tensor], layout: Layout, target: str) -> Joined:
    """The factors of all modules in one matrix of the original model, as one pair."""
    modules = dialects.modules_of(layout, target)
    present = [module for module in modules if module in info.ranks]
    a = {module: factors[f"{module}.lora_A.weight"] for module in present}
    b = {module: factors[f"{module}.lora_B.weight"] for module in present}
    scale = _one_scale(info, target, present)
    _check_one_matrix(info, target, modules, present, [*a.values(), *b.values()])
    width = info.shapes[present[0]][1]
    heights = {m: info.shapes[m][0] if m in a else dialects.absent_rows(m, width) for m in modules}
    up, first = _stack(a, b, heights)
    if target in dialects.SWAPPED:
        up = swap_halves(up)
    down = a[present[0]] if _is_shared(a) else torch.cat([a[module] for module in present])
    return Joined(down.contiguous(), up.contiguous(), scale, first)


def _stack(a: Mapping[str, Tensor], b: Mapping[str, Tensor], heights: Mapping[str, int]) -> tuple[Tensor, dict[str, int]]:
    """B's in their rows, each in the columns of its own A (all in the same where A is shared); those columns' starts."""
    shared = _is_shared(a)
    rank = len(next(iter(a.values()))) if shared else sum(len(one) for one in a.values())
    up = next(iter(b.values())).new_zeros(sum(heights.values()), rank)
    first: dict[str, int] = {}
    row = column = 0
    for module, height in heights.items():
        if module in b:
            first[module] = 0 if shared else column
            up[row : row + height, first[module] : first[module] + b[module].shape[1]] = b[module]
            column += b[module].shape[1]
        row += height
    return up, first


def _is_shared(a: Mapping[str, Tensor]) -> bool:
    """Whether all modules have one A, as in a file where one LoRA was trained on the whole matrix."""
    head, *others = a.values()
    return all(torch.equal(head, other) for other in others)


def _one_scale(info: AdapterInfo, target: str, modules: Sequence[str]) -> float:
    scales = {module: info.scale(module) for module in modules}
    other = next((m for m in modules if scales[m] != scales[modules[0]]), None)
    if other is not None:
        raise ClbenchError(
            f"{info.path}: '{modules[0]}' has scale {scales[modules[0]]:g} and '{other}' {scales[other]:g}, but both are "
            f"'{target}' in the original names, which has one alpha; export it as diffusers"
        )
    return scales[modules[0]]


def _check_one_matrix(
    info: AdapterInfo, target: str, modules: tuple[str, ...], present: Sequence[str], tensors: Sequence[Tensor]
) -> None:  # fmt: skip
    if len({tensor.dtype for tensor in tensors}) > 1:
        raise ClbenchError(f"{info.path}: the factors of '{target}' ({', '.join(present)}) differ in dtype")
    rows, width = info.shapes[present[0]]
    for module in present if len(modules) > 1 else ():
        if info.shapes[module][1] != width or (not module.endswith("proj_mlp") and info.shapes[module][0] != width):
            raise ClbenchError(
                f"{info.path}: '{module}' is {info.shapes[module][0]}x{info.shapes[module][1]}; as a part of '{target}' in "
                f"FLUX it must be square and as wide as '{present[0]}' ({rows}x{width})"
            )


def _notes(info: AdapterInfo, layout: Layout) -> list[str]:
    """What diffusers makes of a file with the original FLUX names (it reads Qwen-Image's whole)."""
    if layout is not dialects.FLUX:
        return []
    notes = []
    outside = [module for module in info.modules if not dialects.is_in_block(module)]
    if outside:
        notes.append(f"diffusers leaves out layers outside the blocks when it reads these names: {', '.join(outside)}.")
    fused = [m for m in info.modules if str(dialects.target_of(layout, m)).endswith(".linear1")]
    if fused and info.shapes[fused[0]][1] != dialects.FLUX_WIDTH:
        notes.append(
            f"diffusers divides linear1 at FLUX.1's width ({dialects.FLUX_WIDTH}) only, this model has "
            f"{info.shapes[fused[0]][1]}: load the file in diffusers' own names there."
        )
    return notes


def _check_same(info: AdapterInfo, factors: Mapping[str, Tensor], path: Path) -> None:
    """The round trip, on the file that was just written."""
    written = describe_adapter(path)
    kept = load_tensors(written)
    same = kept.keys() == factors.keys() and all(_same_bits(kept[key], value) for key, value in factors.items())
    if not same or written.ranks != info.ranks or written.alphas != info.alphas or written.rslora != info.rslora:
        raise ClbenchError(f"{path} does not hold what {info.path} holds; it was written wrongly and must not be used")


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
