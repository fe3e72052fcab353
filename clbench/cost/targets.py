"""Which linear layers carry a LoRA, and the bytes of its factors. Pure.

A preset goes by what a layer does inside a block, so that one word means the same on every base. A list of names
is matched as peft matches `target_modules`: the module's whole name, or its end after a dot.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal

from clbench.cost.shapes import Base, Linear
from clbench.registry import ClbenchError

Role = Literal["attention", "mlp", "modulation", "outside"]
PRESETS: dict[str, tuple[Role, ...]] = {
    "paper": ("attention", "mlp", "modulation"),
    "no-modulation": ("attention", "mlp"),
    "attention": ("attention",),
}
"""`paper`: its 14 module names on Qwen-Image-Edit; `no-modulation`: what published few-step accelerators target."""
PAPER_MODULES = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "img_mlp.net.0.proj",
    "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2", "img_mod.1", "txt_mod.1",
)  # fmt: skip
"""The same as names, for Qwen-Image-Edit; tests hold the two together."""
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
_BLOCK = re.compile(r"(^|\.)\d+\.")
_MODULATION = re.compile(r"(_mod\.\d+|(^|\.)(norm\d?(_context)?|adaln\w*|modulation\w*)\.(linear|lin|\d+))$", re.IGNORECASE)


def role(module: str) -> Role:
    """What a linear layer does, by its name; layers outside the numbered blocks (embedders, output) are `outside`."""
    if not _BLOCK.search(module):
        return "outside"
    if re.search(r"\.attn\w*\.", module):
        return "attention"
    return "modulation" if _MODULATION.search(module) else "mlp"


def select(base: Base, asked: str | Sequence[str]) -> tuple[Linear, ...]:
    """The layers meant by a preset, or by a list of names; ClbenchError for a name or preset that fits no layer."""
    if isinstance(asked, str):
        if asked not in PRESETS:
            raise ClbenchError(f"unknown target preset '{asked}'; known: {', '.join(PRESETS)}, or a list of module names")
        chosen = tuple(one for one in base.linears if role(one.name) in PRESETS[asked])
        if not chosen:
            raise ClbenchError(f"preset '{asked}' fits no linear layer of {base.name}; give module names instead")
        return chosen
    for name in asked:
        if not any(matches(one.name, name) for one in base.linears):
            raise ClbenchError(f"{base.name} has no linear layer '{name}'{_nearest(base, name)}")
    return tuple(one for one in base.linears if any(matches(one.name, name) for name in asked))


def matches(module: str, name: str) -> bool:
    """peft's rule for a list of target modules."""
    return module == name or module.endswith(f".{name}")


def adapter_bytes(linears: Sequence[Linear], rank: int, dtype: str) -> int:
    """Bytes of the factors A (rank x in) and B (out x rank) of every layer; the file's header comes on top."""
    return rank * sum(one.out + one.into for one in linears) * dtype_bytes(dtype)


def dtype_bytes(dtype: str) -> int:
    """Bytes of one number; ClbenchError for an unknown dtype."""
    if dtype not in DTYPE_BYTES:
        raise ClbenchError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]


def _nearest(base: Base, name: str) -> str:
    ends = {re.sub(r"^.*?\.\d+\.(attn\w*\.)?", "", one.name) for one in base.linears}
    near = difflib.get_close_matches(name, sorted(ends), n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(ends)[:20])}"
