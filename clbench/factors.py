"""Where each factor of a LoRA stands in its file, from the names and shapes in the file's header.

Dialects differ in prefixes, in the words for the two factors and in which matrix holds which module; here they all
become `Factor`s, one for A and one for B of each module of diffusers.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clbench import dialects
from clbench.registry import ClbenchError
from clbench.tensor_file import is_zero

PREFIXES = ("base_model.model.transformer.", "base_model.model.", "transformer.", "diffusion_model.", "model.diffusion_model.")
_PART = re.compile(r"^(?P<module>.+)\.(?P<side>lora_A|lora_B|lora_down|lora_up)(\.[^.]+)?\.weight$")
Record = Mapping[str, tuple[int, int, float]]
"""Module -> first row of its A among the target's, rank, alpha."""
TEXT_ENCODERS = ("lora_te", "text_encoder", "base_model.model.text_encoder")
"""Starts of the names of a text encoder's factors: kohya's lora_te1_, lora_te2_ and lora_te3_, and those of diffusers."""
_SIDE: dict[str, Literal["A", "B"]] = {"lora_A": "A", "lora_down": "A", "lora_B": "B", "lora_up": "B"}


@dataclass(frozen=True, slots=True)
class Pair:
    """The two tensors of a target: their names, its shape (`rows` x `width`) and their rank."""

    a_name: str
    b_name: str
    rows: int
    width: int
    rank: int


@dataclass(frozen=True, slots=True)
class Factor:
    """Where one factor of a module stands in the file: rows and columns start..stop of tensor `name`.

    `cut`: the tensor holds other modules too. `swapped`: its two halves of rows stand the other way round.
    """

    module: str
    side: Literal["A", "B"]
    name: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    cut: bool
    swapped: bool = False

    @property
    def key(self) -> str:
        return f"{self.module}.lora_{self.side}.weight"


def read_pairs(path: Path, header: Mapping[str, Any], drop_text: bool = False) -> tuple[dict[str, Pair], dict[str, str]]:
    """Target -> its two factors; target -> name of its alpha tensor. Targets are dotted and without a prefix.

    Factors of text encoders are left aside where they add nothing or are to be dropped; ClbenchError where they do.
    """
    header = _of_the_transformer(path, header, drop_text)
    dialects.refuse_other_kinds(path, header)
    found: dict[str, dict[str, tuple[str, list[int]]]] = {}
    alphas: dict[str, str] = {}
    for name, bare in _bare_names(path, header).items():
        match = _PART.match(bare)
        if match is None and not bare.endswith(".alpha"):
            raise ClbenchError(f"{path} is not a LoRA of a dialect that is read here: key '{name}'")
        if match is None:
            alphas[bare.removesuffix(".alpha")] = name
            continue
        sides, side = found.setdefault(match["module"], {}), _SIDE[match["side"]]
        if side in sides:
            raise ClbenchError(f"{path} holds lora_{side} of '{match['module']}' twice")
        sides[side] = (name, header[name]["shape"])
    if not found:
        raise ClbenchError(f"{path} holds no LoRA factors")
    return {target: _pair(path, target, sides) for target, sides in found.items()}, alphas


def of_text_encoders(names: Iterable[str]) -> list[str]:
    """Those of the names that belong to a text encoder, sorted."""
    return sorted(name for name in names if name.startswith(TEXT_ENCODERS))


def _of_the_transformer(path: Path, header: Mapping[str, Any], drop_text: bool) -> dict[str, Any]:
    """The header without text encoders; ClbenchError if one is trained: if a layer of it has no factor of zeros alone."""
    other = set(of_text_encoders(header))
    layers: dict[str, list[str]] = {}
    for name in () if drop_text else other:
        match = _PART.match(name)
        if match is None and not name.endswith(".alpha"):
            raise ClbenchError(_trains_text(path, name))
        if match is not None:
            layers.setdefault(match["module"], []).append(name)
    for names in layers.values():
        if not any(is_zero(path, header[name]) for name in names):
            raise ClbenchError(_trains_text(path, min(names)))
    return {name: entry for name, entry in header.items() if name not in other}


def _trains_text(path: Path, name: str) -> str:
    command = f"clbench export {shlex.quote(str(path))} --drop-text-encoder --format diffusers --out FILE"
    return (
        f"{path} trains the text encoder too ('{name}'), which clbench does not apply; `{command}` writes the transformer's "
        "part, which alone makes other pictures"
    )


def _pair(path: Path, target: str, sides: Mapping[str, tuple[str, list[int]]]) -> Pair:
    if len(sides) < 2:
        raise ClbenchError(f"{path} lacks lora_{'B' if 'A' in sides else 'A'} of '{target}'")
    (a_name, a), (b_name, b) = sides["A"], sides["B"]
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise ClbenchError(f"{path}: factors of '{target}' do not fit each other: {a} and {b}")
    return Pair(a_name, b_name, b[0], a[1], a[0])


def _bare_names(path: Path, names: Iterable[str]) -> dict[str, str]:
    """The file's names -> the same without prefix, the underscores of kohya and OneTrainer as dots again."""
    names = list(names)
    prefix, of_modules = dialects.FLAT_PREFIX, dialects.FLAT_MODULE_PREFIX
    layout = dialects.layout_of_flat(name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix))
    bare: dict[str, str] = {}
    for name in names:
        if not name.startswith((prefix, of_modules)):
            bare[name] = _strip(name)
            continue
        flat, dot, tail = name.partition(".")
        known = (
            dialects.unflattened(layout, flat.removeprefix(prefix)) if flat.startswith(prefix)
            else dialects.unflattened_module(flat.removeprefix(of_modules))
        )  # fmt: skip
        if known is None:
            raise ClbenchError(f"{path} is not a LoRA of a dialect that is read here: key '{name}'")
        bare[name] = known + dot + tail
    return bare


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def read_factors(path: Path, pairs: Mapping[str, Pair], record: Record | None) -> tuple[Factor, ...]:
    """The factors of every module, in the order of the file."""
    layout = dialects.original_layout(pairs)
    found: list[Factor] = []
    for target, pair in pairs.items():
        modules = (target,) if layout is None else dialects.modules_of(layout, target)
        rows = dialects.part_rows(modules, pair.rows, pair.width)
        if not rows:
            raise ClbenchError(
                f"{path} is not a LoRA of a dialect that is read here: '{target}' ({pair.rows}x{pair.width}) is no layer of FLUX"
            )
        for module, span in zip(modules, rows, strict=True):
            if record is None or module in record:
                first, rank, _ = (0, pair.rank, 0.0) if record is None else record[module]
                found += _two_factors(module, pair, span, (first, first + rank), len(modules) > 1, target in dialects.SWAPPED)
    return tuple(found)


def _two_factors(
    module: str, pair: Pair, rows: tuple[int, int], ranks: tuple[int, int], cut: bool, swapped: bool
) -> list[Factor]:
    return [
        Factor(module, "A", pair.a_name, ranks, (0, pair.width), cut),
        Factor(module, "B", pair.b_name, rows, ranks, cut, swapped),
    ]


def module_shapes(factors: Iterable[Factor]) -> dict[str, tuple[int, int]]:
    """Module -> (out, in)."""
    factors = list(factors)
    width = {f.module: f.columns[1] for f in factors if f.side == "A"}
    return {f.module: (f.rows[1] - f.rows[0], width[f.module]) for f in factors if f.side == "B"}


def of_modules(pairs: Mapping[str, Pair], values: Mapping[str, float]) -> dict[str, float]:
    """Values of targets as values of the modules in them."""
    layout = dialects.original_layout(pairs)
    return {
        module: value
        for target, value in values.items()
        for module in ((target,) if layout is None else dialects.modules_of(layout, target))
    }


def read_record(path: Path, strings: Mapping[str, str]) -> Record | None:
    """What `clbench export` wrote down, None in other files."""
    if dialects.RECORD_KEY not in strings:
        return None
    try:
        return {module: (int(first), int(rank), float(alpha)) for module, (first, rank, alpha) in
                json.loads(strings[dialects.RECORD_KEY]).items()}  # fmt: skip
    except (ValueError, TypeError, AttributeError):
        raise ClbenchError(f"{path}: {dialects.RECORD_KEY} in the header is not what `clbench export` writes") from None
