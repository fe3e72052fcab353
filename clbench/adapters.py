"""Reading LoRA files: safetensors only. `clbench.adapter_writing` makes them.

`describe_adapter` reads the header alone (no torch), so a world's adapters are checked against the base in
milliseconds, before any weights are loaded. Tensor names are normalised to ``<module>.lora_A.weight``.

Dialects: diffusers (``transformer.`` prefix, ``lora_adapter_metadata`` in the header), peft
(``base_model.model.`` prefix, adapter_config.json beside the file), bare module names, ComfyUI's
``diffusion_model.`` prefix (also after ``model.``), kohya's ``lora_unet_`` and OneTrainer's ``lora_transformer_`` with
flattened names; ``lora_down``/``lora_up`` with ``alpha`` tensors as well as ``lora_A``/``lora_B``; module names of diffusers, or
of the original FLUX code, where one matrix holds several modules (`clbench.dialects`). What `clbench export` writes comes back as
it was. Text encoders are not adapted: a file that trains one too is refused, until `clbench export` has dropped that part.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench import dialects
from clbench.adapter_metadata import peft_config, read_metadata
from clbench.factors import Factor, Pair, Record, module_shapes, of_modules, read_factors, read_pairs, read_record
from clbench.hashing import file_digest
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header, read_scalar

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What a LoRA file holds, from its header.

    `shapes` maps each module to (out, in) as the two factors imply; `ranks` and `alphas` are per module
    (the factor's scale is alpha / rank, or alpha / sqrt(rank) with `rslora`). `factors` says where they stand in the
    file, `header` holds its strings, `metadata` the LoraConfig among them. `sha256` is `adapter_digest`, `bytes` the size of
    the file.
    """

    path: Path
    sha256: str
    bytes: int
    shapes: Mapping[str, tuple[int, int]]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    factors: tuple[Factor, ...]
    rslora: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The file's tensors that hold factors."""
        return list(dict.fromkeys(factor.name for factor in self.factors))

    def scale(self, module: str) -> float:
        """What multiplies B A."""
        return self.alphas[module] / (self.ranks[module] ** 0.5 if self.rslora else self.ranks[module])

    @property
    def modules(self) -> list[str]:
        return sorted(self.shapes)

    @property
    def rank(self) -> int:
        """The most frequent rank."""
        return Counter(self.ranks.values()).most_common(1)[0][0]

    @property
    def handle(self) -> str:
        """A name for diffusers and peft: fixed width, from the content, never part of a parameter's name."""
        return f"zx{self.sha256[:16]}"


def describe_adapter(path: Path | str, drop_text: bool = False) -> AdapterInfo:
    """Read the header of a LoRA file; ClbenchError if it is missing, truncated or no LoRA.

    `drop_text`: leave out what it trains of a text encoder, instead of refusing it.
    """
    path = Path(path)
    header = read_header(path)
    strings = header.pop("__metadata__", {})
    metadata = read_metadata(path, strings, header)
    if metadata.get("use_dora"):
        raise ClbenchError(f"{path} is a DoRA adapter; only plain LoRA factors are read")
    pairs, alpha_names = read_pairs(path, header, drop_text)
    given = {target: read_scalar(path, name, header[name]) for target, name in alpha_names.items()}
    record = read_record(path, strings)
    factors = read_factors(path, pairs, record)
    ranks = {f.module: f.rows[1] - f.rows[0] for f in factors if f.side == "A"}
    if record is not None:
        alphas = {module: record[module][2] for module in ranks}
    else:
        alphas = _alphas(ranks, metadata, of_modules(pairs, given), bool(alpha_names))
    info = AdapterInfo(
        path, adapter_digest(path), path.stat().st_size, module_shapes(factors), ranks, alphas, factors,
        bool(metadata.get("use_rslora", False)), metadata, strings,
    )  # fmt: skip
    _check_record(info, pairs, record, given)
    return info


def adapter_digest(path: Path) -> str:
    """sha256 of all that decides what an adapter does: the file, and peft's configuration beside it where that is read."""
    config = peft_config(path)
    return file_digest(path) if config is None else hash_value([file_digest(path), file_digest(config)])


def load_tensors(info: AdapterInfo) -> dict[str, torch.Tensor]:
    """The factors of an adapter, keyed ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``."""
    from safetensors.torch import load_file

    tensors = load_file(info.path)
    return {factor.key: _piece(tensors[factor.name], factor) for factor in info.factors}


def load_factors(info: AdapterInfo, factors: Iterable[Factor]) -> dict[str, torch.Tensor]:
    """These factors of an adapter, as `load_tensors` gives them all; nothing else of the file is held."""
    from safetensors import safe_open

    with safe_open(info.path, framework="pt") as file:
        return {factor.key: _piece(file.get_tensor(factor.name), factor) for factor in factors}


def _piece(tensor: torch.Tensor, factor: Factor) -> torch.Tensor:
    if not factor.cut and not factor.swapped:
        return tensor
    piece = tensor[slice(*factor.rows), slice(*factor.columns)]
    return swap_halves(piece) if factor.swapped else piece.clone()


def swap_halves(tensor: torch.Tensor) -> torch.Tensor:
    """The second half of the rows before the first, in memory of its own."""
    return tensor.roll(len(tensor) // 2, 0)


def _check_record(info: AdapterInfo, pairs: Mapping[str, Pair], record: Record | None, alphas: Mapping[str, float]) -> None:
    """ClbenchError if the tensors are no longer those that the record in the header describes."""
    if record is None:
        return
    rank = {pair.a_name: pair.rank for pair in pairs.values()}
    target = {pair.a_name: target for target, pair in pairs.items()}
    firsts = [factor for factor in info.factors if factor.side == "A"]
    fits = {f.module for f in firsts} == set(record) and all(
        0 <= f.rows[0] < f.rows[1] <= rank[f.name]
        and math.isclose(alphas.get(target[f.name], math.nan), info.scale(f.module) * rank[f.name], rel_tol=1e-6)
        for f in firsts
    )
    if not fits:
        raise ClbenchError(
            f"{info.path}: its tensors are not those that {dialects.RECORD_KEY} in the header describes; "
            "another program has changed the file since `clbench export` wrote it"
        )


def _alphas(
    ranks: Mapping[str, int], metadata: Mapping[str, Any], given: Mapping[str, float], has_tensors: bool
) -> dict[str, float]:
    """Alpha of each module: its tensor, else the metadata's pattern or value, else the rank (scale 1)."""
    if has_tensors:
        return {module: given.get(module, float(rank)) for module, rank in ranks.items()}
    patterns: Mapping[str, float] = metadata.get("alpha_pattern") or {}

    def alpha(module: str, rank: int) -> float:
        for pattern, value in patterns.items():  # peft matches a pattern at the end of the module's name
            if re.match(rf"(.*\.)?({pattern})$", module):
                return float(value)
        return float(metadata.get("lora_alpha") or rank)

    return {module: alpha(module, rank) for module, rank in ranks.items()}
