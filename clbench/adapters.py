"""The one room that reads and writes LoRA files: safetensors only.

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

import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench import dialects
from clbench.disk import discard
from clbench.factors import Factor, Pair, Record, module_shapes, of_modules, read_factors, read_pairs, read_record
from clbench.hashing import file_digest
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header, read_scalar, save_tensors, sort_strings

if TYPE_CHECKING:
    import torch

StoredDtype = Literal["float32", "float16", "bfloat16"]
METADATA_KEY = "lora_adapter_metadata"
PEFT_CONFIG = "adapter_config.json"


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
    metadata = _lora_metadata(path, strings, header)
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
    config = _peft_config(path)
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


def check_adapter(info: AdapterInfo, base: Mapping[str, tuple[int, ...]], base_name: str) -> None:
    """Every factor must apply to the base: `base` maps module -> weight shape (out, in).

    Raises ClbenchError ("LoRA of another base") for the first module that is missing or has another shape.
    """
    check_modules(info, base, base_name)
    for module, shape in sorted(info.shapes.items()):
        if tuple(base[module]) != shape:
            raise ClbenchError(
                f"{info.path} is a LoRA of another base: '{module}' is {shape[0]}x{shape[1]} in the adapter, "
                f"{'x'.join(map(str, base[module]))} in {base_name}"
            )


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


def save_adapter(
    path: Path | str,
    state_dict: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any],
    extra: Mapping[str, str] | None = None,
    dtype: StoredDtype | None = None,
) -> str:
    """Write a LoRA that stock diffusers opens with ``load_lora_weights``; returns the file's sha256.

    `state_dict` is keyed ``<module>.lora_A.weight`` (a ``transformer.`` prefix is allowed); `metadata` is the
    LoraConfig as plain values, at least r and lora_alpha (alpha is not in the tensors); `extra` are further
    header strings (effect, trigger, base). `dtype` of the stored values: None keeps theirs. The file appears whole or
    not at all. A value that half precision cannot hold raises ClbenchError.
    """
    path = Path(path)
    if not {"r", "lora_alpha"} <= set(metadata):
        raise ClbenchError(f"metadata for {path} must hold r and lora_alpha, got {sorted(metadata)}")
    tensors = {
        f"transformer.{k.removeprefix('transformer.')}": _stored(path, k, v, dtype)
        for k, v in state_dict.items()
    }
    return write_tensors(path, tensors, {METADATA_KEY: packed_metadata(metadata), **(extra or {})})


def packed_metadata(metadata: Mapping[str, Any]) -> str:
    """LoraConfig values as the header string that diffusers reads."""
    packed = {f"transformer.{key}": _plain(value) for key, value in metadata.items()}
    return json.dumps(packed, indent=2, sort_keys=True)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], strings: Mapping[str, str]) -> str:
    """Write tensors and header strings as they are, whole or not at all; returns the file's sha256."""
    if path.suffix != ".safetensors":
        raise ClbenchError(f"an adapter is saved as .safetensors, not {path.name}")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(part, tensors, {"format": "pt", **strings})
        sort_strings(part)
        describe_adapter(part)  # what is written must be readable
        os.replace(part, path)
    except OSError as error:
        discard(part)
        raise ClbenchError(f"cannot write the adapter {path}: {error.strerror or error}") from None
    except ClbenchError:
        discard(part)
        raise
    return file_digest(path)


def _stored(path: Path, key: str, value: torch.Tensor, dtype: StoredDtype | None) -> torch.Tensor:
    """One tensor as it is written."""
    import torch

    stored = value.detach().cpu().to(value.dtype if dtype is None else getattr(torch, dtype)).contiguous()
    if _is_finite(value) and not _is_finite(stored):
        raise ClbenchError(f"{path}: {key} holds values beyond the range of {dtype}; store it as float32 or bfloat16")
    return stored


def _is_finite(value: torch.Tensor) -> bool:
    """Whether all values are; torch cannot ask that of float8, which float32 holds exactly."""
    return bool((value.float() if value.element_size() == 1 else value).isfinite().all())


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


def _lora_metadata(path: Path, extra: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    """LoraConfig values from the header, else from peft's adapter_config.json beside the file, else {}.

    ClbenchError for a file of peft's among others beside one configuration: nothing says whose it is. Without any, alpha is
    the rank, as stock diffusers takes it.
    """
    kept = extra.get(METADATA_KEY, extra.get(dialects.KEPT_METADATA_KEY))
    if kept is not None:
        try:
            packed = json.loads(kept)
        except ValueError:
            raise ClbenchError(f"{path}: {METADATA_KEY} in the header is not JSON") from None
        return {key.removeprefix("transformer."): value for key, value in packed.items()}
    config = _peft_config(path)
    if config is not None:
        try:
            return json.loads(config.read_text(encoding="utf-8"))
        except ValueError:
            raise ClbenchError(f"{config} is not valid JSON") from None
    if path.with_name(PEFT_CONFIG).is_file() and any(name.startswith("base_model.model.") for name in names):
        raise ClbenchError(
            f"{path} has peft's names, and {PEFT_CONFIG} beside it may be that of another adapter in its folder: put the two of "
            "them into a folder of their own"
        )
    return {}


def _peft_config(path: Path) -> Path | None:
    """The configuration that belongs to a file without one in its header: peft's beside it, where no other adapter lies."""
    beside = path.with_name(PEFT_CONFIG)
    if not beside.is_file() or ("__metadata__" in (header := read_header(path)) and _configured(header["__metadata__"])):
        return None
    alone = path.name == "adapter_model.safetensors" or list(path.parent.glob("*.safetensors")) == [path]
    return beside if alone else None


def _configured(strings: Mapping[str, str]) -> bool:
    return METADATA_KEY in strings or dialects.KEPT_METADATA_KEY in strings


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


def _plain(value: Any) -> Any:
    """A LoraConfig value as JSON can hold it."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
