"""How other programs name a model's linear layers: names and shapes in, names and shapes out, no files.

A *module* is a layer of diffusers (``transformer_blocks.3.attn.to_q``); a *target* is a layer of the model's original code
(``double_blocks.3.img_attn.qkv``), which may hold several modules one below the other. ComfyUI writes targets with
dots after ``diffusion_model.``, kohya's sd-scripts with underscores after ``lora_unet_``; OneTrainer writes modules with
underscores after ``lora_transformer_``. Sources: the original FLUX code's layer names; diffusers'
``_convert_kohya_flux_lora_to_diffusers`` and ``_convert_non_diffusers_qwen_lora_to_diffusers``, which the tests compare with;
ComfyUI's ``comfy/lora.py``; sd-scripts' ``networks/convert_flux_lora.py``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clbench.registry import ClbenchError, Registry

FLAT_PREFIX, FLAT_MODULE_PREFIX = "lora_unet_", "lora_transformer_"
"""Before targets, and before modules of diffusers, whose dots are underscores."""
DOTTED_PREFIX = "diffusion_model."
RECORD_KEY = "clbench.modules"
"""Header string of an exported file: JSON, module -> [first row of its A in the target's, rank, alpha]."""
KEPT_METADATA_KEY = "clbench.lora_adapter_metadata"
"""Header string that keeps diffusers' metadata where diffusers does not look: it would apply alpha a second time."""
SWAPPED = frozenset({"final_layer.adaLN_modulation.1"})
"""Targets whose rows are (shift, scale) where diffusers has (scale, shift)."""
FLUX_WIDTH = 3072
"""Width of FLUX.1, the only one for which diffusers splits `linear1` of a file with the original names."""

OTHER_KINDS = {"lokr_": "LoKr", "hada_": "LoHa", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA"}
"""Starts of the names that parts of other kinds of adapters have, in LyCORIS and peft -> the kind."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which target of a model's original code holds which modules.

    `blocks`: name of a repeated block -> (its name in diffusers, target inside it -> modules inside it, in the order
    of their rows). `outside`: target -> module, for layers that stand outside the blocks.
    """

    name: str
    blocks: Mapping[str, tuple[str, Mapping[str, tuple[str, ...]]]]
    outside: Mapping[str, str]


LAYOUTS: Registry[Layout] = Registry("base model")

_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
_QWEN = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
    "attn.to_add_out", "img_mlp.net.0.proj", "img_mlp.net.2", "img_mod.1", "txt_mlp.net.0.proj", "txt_mlp.net.2", "txt_mod.1",
)  # fmt: skip
_QWEN_OUTSIDE = (
    "img_in", "txt_in", "proj_out", "norm_out.linear", "time_text_embed.timestep_embedder.linear_1",
    "time_text_embed.timestep_embedder.linear_2",
)  # fmt: skip

FLUX = LAYOUTS.add(
    "flux",
    Layout(
        "flux",
        {"double_blocks": ("transformer_blocks", _DOUBLE), "single_blocks": ("single_transformer_blocks", _SINGLE)},
        {
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
            "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
            "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
            "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
            "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
            "final_layer.adaLN_modulation.1": "norm_out.linear",
            "final_layer.linear": "proj_out",
        },
    ),
)
QWEN = LAYOUTS.add(  # the original code is the one in diffusers, so targets are modules
    "qwen",
    Layout(
        "qwen",
        {"transformer_blocks": ("transformer_blocks", {name: (name,) for name in _QWEN})},
        {name: name for name in _QWEN_OUTSIDE},
    ),
)


def refuse_other_kinds(path: object, names: Iterable[str]) -> None:
    """ClbenchError, with the kind by its name, if a file's names are those of an adapter that is not B A alone."""
    for name in names:
        for part in name.split("."):
            if kind := next((kind for start, kind in OTHER_KINDS.items() if part.startswith(start)), None):
                told = f"{path} is a {kind} adapter (key '{name}')"
                raise ClbenchError(f"{told}; {kind} is not supported, only plain LoRA factors are read")


def modules_of(layout: Layout, target: str) -> tuple[str, ...]:
    """The modules that a target holds, in the order of their rows; empty for a name that is no target."""
    if target in layout.outside:
        return (layout.outside[target],)
    block, number, inner = _in_block(target)
    theirs, targets = layout.blocks.get(block, ("", {}))
    return tuple(f"{theirs}.{number}.{module}" for module in targets.get(inner, ()))


def target_of(layout: Layout, module: str) -> str | None:
    """The target that holds a module of diffusers, None for one that the layout does not know."""
    for target, outside in layout.outside.items():
        if outside == module:
            return target
    block, number, inner = _in_block(module)
    for ours, (theirs, targets) in layout.blocks.items():
        for target, modules in targets.items():
            if theirs == block and inner in modules:
                return f"{ours}.{number}.{target}"
    return None


def is_in_block(target: str) -> bool:
    """Whether a target or module stands inside a numbered block."""
    return bool(_in_block(target)[1])


def _in_block(name: str) -> tuple[str, str, str]:
    """``("double_blocks", "3", "img_attn.qkv")``, or three empty strings for a name outside the blocks."""
    match = re.fullmatch(r"(\w+)\.(\d+)\.(.+)", name)
    return (match[1], match[2], match[3]) if match else ("", "", "")


def flat(target: str) -> str:
    """kohya's spelling of a target."""
    return target.replace(".", "_")


def unflattened(layout: Layout, name: str) -> str | None:
    """The target that kohya spells `name`, None if there is none."""
    found = {flat(target): target for target in layout.outside}.get(name)
    for block, (_, targets) in layout.blocks.items():
        if match := re.fullmatch(rf"{block}_(\d+)_(.+)", name):
            found = {flat(t): f"{block}.{match[1]}.{t}" for t in targets}.get(match[2])
    return found


def unflattened_module(name: str) -> str | None:
    """The module of diffusers, of any base that is known, behind a name with underscores for dots; None if there is none.

    No two modules share a spelling (a test), though ``to_q`` and ``to.q`` would: only known names are put together.
    """
    for key in LAYOUTS:
        layout = LAYOUTS.get(key)
        found = {flat(module): module for module in layout.outside.values()}.get(name)
        if found is not None:
            return found
        for block, targets in layout.blocks.values():
            match = re.fullmatch(rf"{block}_(\d+)_(.+)", name)
            inner = {flat(module): module for modules in targets.values() for module in modules}.get(match[2]) if match else None
            if match and inner is not None:
                return f"{block}.{match[1]}.{inner}"
    return None


def layout_of_flat(names: Iterable[str]) -> Layout:
    """The layout of kohya's names: FLUX's where a block of it is among them, else Qwen-Image's."""
    return FLUX if any(name.startswith(tuple(f"{block}_" for block in FLUX.blocks)) for name in names) else QWEN


def original_layout(targets: Iterable[str]) -> Layout | None:
    """FLUX's layout where a block of it is among dotted names; None: the names are those of diffusers."""
    return FLUX if any(_in_block(target)[0] in FLUX.blocks for target in targets) else None


def layout_of_modules(modules: Iterable[str], base: str | None, path: object) -> Layout:
    """The layout that a LoRA's modules belong to, `base` if the names do not tell; ClbenchError otherwise."""
    modules = sorted(modules)
    fitting = [name for name in LAYOUTS if all(target_of(LAYOUTS.get(name), module) for module in modules)]
    if base is not None:
        layout = LAYOUTS.get(base)
        odd = [module for module in modules if target_of(layout, module) is None]
        if odd:
            raise ClbenchError(f"{path} is no LoRA of {base}: it has no module '{odd[0]}'")
        return layout
    if len(fitting) > 1:
        raise ClbenchError(f"{path} may be a LoRA of {' or of '.join(fitting)}; say which with --base")
    if not fitting:
        raise ClbenchError(
            f"{path} has modules that are not known outside diffusers ('{_strangest(modules)}'); "
            f"other names are known for {', '.join(LAYOUTS)}"
        )
    return LAYOUTS.get(fitting[0])


def _strangest(modules: list[str]) -> str:
    """The first module that no layout knows, or the first of all where each is known to some."""
    return next((m for m in modules if not any(target_of(LAYOUTS.get(n), m) for n in LAYOUTS)), modules[0])


def part_rows(modules: tuple[str, ...], rows: int, width: int) -> list[tuple[int, int]]:
    """Rows start..stop of each module in a target of `rows` x `width`; empty if they cannot be so divided.

    Query, key and value are square (`width` rows); what is left belongs to the feed-forward part, if there is one.
    """
    if len(modules) < 2:
        return [(0, rows)] * len(modules)
    edges = [0, width, 2 * width, 3 * width, *([rows] if len(modules) == 4 else [])]
    fits = edges[-1] == rows and edges[-1] > edges[-2]
    return list(itertools.pairwise(edges)) if fits else []


def absent_rows(module: str, width: int) -> int:
    """Rows that a module without LoRA takes in its target: FLUX's feed-forward part is four times as wide."""
    return 4 * width if module.endswith("proj_mlp") else width
