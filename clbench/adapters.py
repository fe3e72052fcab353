"""The one room that reads and writes LoRA files: safetensors only.

`describe_adapter` reads the header alone (no torch), so a world's adapters are checked against the base in
milliseconds, before any weights are loaded. Tensor names are normalised to ``<module>.lora_A.weight``.

Dialects: diffusers (``transformer.`` prefix, ``lora_adapter_metadata`` in the header), peft
(``base_model.model.`` prefix, adapter_config.json beside the file), bare module names, ComfyUI's
``diffusion_model.`` prefix, and ``lora_down``/``lora_up`` with ``alpha`` tensors in diffusers' module names.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench.hashing import file_digest
from clbench.registry import ClbenchError

if TYPE_CHECKING:
    import torch

StoredDtype = Literal["float32", "float16", "bfloat16"]
METADATA_KEY = "lora_adapter_metadata"
PREFIXES = ("base_model.model.transformer.", "base_model.model.", "transformer.", "diffusion_model.")
_PART = re.compile(r"^(?P<module>.+)\.(?P<side>lora_A|lora_B|lora_down|lora_up)(\.[^.]+)?\.weight$")
_SIDE = {"lora_A": "A", "lora_down": "A", "lora_B": "B", "lora_up": "B"}


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What a LoRA file holds, from its header.

    `shapes` maps each module to (out, in) as the two factors imply; `ranks` and `alphas` are per module
    (the factor's scale is alpha / rank, or alpha / sqrt(rank) with `rslora`). `names` maps the file's tensor
    names to (module, "A" | "B"). `bytes` is the size of the file.
    """

    path: Path
    sha256: str
    bytes: int
    shapes: Mapping[str, tuple[int, int]]
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    names: Mapping[str, tuple[str, str]]
    rslora: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

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


def describe_adapter(path: Path | str) -> AdapterInfo:
    """Read the header of a LoRA file; ClbenchError if it is missing, truncated or no LoRA."""
    path = Path(path)
    header = read_header(path)
    extra = header.pop("__metadata__", {})
    names, sizes, alpha_names = _normalise(path, header)
    shapes, ranks = _factor_shapes(path, sizes)
    metadata = _lora_metadata(path, extra)
    if metadata.get("use_dora"):
        raise ClbenchError(f"{path} is a DoRA adapter; only plain LoRA factors are read")
    alphas = _alphas(path, ranks, metadata, alpha_names)
    return AdapterInfo(
        path, file_digest(path), path.stat().st_size, shapes, ranks, alphas, names,
        bool(metadata.get("use_rslora", False)), metadata,
    )  # fmt: skip


def load_tensors(info: AdapterInfo) -> dict[str, torch.Tensor]:
    """The factors of an adapter, keyed ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``."""
    from safetensors.torch import load_file

    tensors = load_file(info.path)
    return {f"{module}.lora_{side}.weight": tensors[name] for name, (module, side) in info.names.items()}


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
    for module, shape in sorted(info.shapes.items()):
        if module not in base:
            raise ClbenchError(f"{info.path} is a LoRA of another base: {base_name} has no module '{module}'")
        if tuple(base[module]) != shape:
            raise ClbenchError(
                f"{info.path} is a LoRA of another base: '{module}' is {shape[0]}x{shape[1]} in the adapter, "
                f"{'x'.join(map(str, base[module]))} in {base_name}"
            )


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
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ClbenchError(f"an adapter is saved as .safetensors, not {path.name}")
    if not {"r", "lora_alpha"} <= set(metadata):
        raise ClbenchError(f"metadata for {path} must hold r and lora_alpha, got {sorted(metadata)}")
    tensors = {
        f"transformer.{k.removeprefix('transformer.')}": _stored(path, k, v, dtype)
        for k, v in state_dict.items()
    }
    packed = {f"transformer.{key}": _plain(value) for key, value in metadata.items()}
    header = {"format": "pt", METADATA_KEY: json.dumps(packed, indent=2, sort_keys=True), **(extra or {})}
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata=header)
        describe_adapter(part)  # what is written must be readable
        os.replace(part, path)
    except OSError as error:
        raise ClbenchError(f"cannot write the adapter {path}: {error}") from None
    return file_digest(path)


def _stored(path: Path, key: str, value: torch.Tensor, dtype: StoredDtype | None) -> torch.Tensor:
    """One tensor as it is written."""
    import torch

    stored = value.detach().cpu().to(value.dtype if dtype is None else getattr(torch, dtype)).contiguous()
    if bool(torch.isfinite(value).all()) and not bool(torch.isfinite(stored).all()):
        raise ClbenchError(f"{path}: {key} holds values beyond the range of {dtype}; store it as float32 or bfloat16")
    return stored


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file; ClbenchError if it is missing, truncated or something else."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > size - 8:
                raise ClbenchError(f"{path} is truncated or no safetensors file ({size} bytes)")
            header = json.loads(stream.read(length))
    except FileNotFoundError:
        raise ClbenchError(f"adapter not found: {path}") from None
    except OSError as error:
        raise ClbenchError(f"cannot read {path}: {error}") from None
    except ValueError:
        raise ClbenchError(f"{path} is no safetensors file: its header is not JSON") from None
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise ClbenchError(
            f"{path} is truncated: {size} bytes, its header promises {8 + length + max(ends, default=0)}"
        )
    return header


def _normalise(
    path: Path, header: Mapping[str, Any]
) -> tuple[dict[str, tuple[str, str]], dict[tuple[str, str], list[int]], dict[str, str]]:
    """File names -> (module, side); (module, side) -> shape; module -> name of its alpha tensor."""
    names: dict[str, tuple[str, str]] = {}
    sizes: dict[tuple[str, str], list[int]] = {}
    alphas: dict[str, str] = {}
    for name, entry in header.items():
        bare = _strip(name)
        match = _PART.match(bare)
        if match is None and not bare.endswith(".alpha"):
            raise ClbenchError(f"{path} is not a LoRA of a dialect that is read here: key '{name}'")
        if match is None:
            alphas[bare.removesuffix(".alpha")] = name
            continue
        key = (match["module"], _SIDE[match["side"]])
        if key in sizes:
            raise ClbenchError(f"{path} holds lora_{key[1]} of '{key[0]}' twice")
        names[name], sizes[key] = key, entry["shape"]
    if not names:
        raise ClbenchError(f"{path} holds no LoRA factors")
    return names, sizes, alphas


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _factor_shapes(
    path: Path, sizes: Mapping[tuple[str, str], list[int]]
) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    shapes: dict[str, tuple[int, int]] = {}
    ranks: dict[str, int] = {}
    for module in {module for module, _ in sizes}:
        a, b = sizes.get((module, "A")), sizes.get((module, "B"))
        if a is None or b is None:
            raise ClbenchError(f"{path} lacks lora_{'A' if a is None else 'B'} of '{module}'")
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise ClbenchError(f"{path}: factors of '{module}' do not fit each other: {a} and {b}")
        shapes[module], ranks[module] = (b[0], a[1]), a[0]
    return shapes, ranks


def _lora_metadata(path: Path, extra: Mapping[str, str]) -> dict[str, Any]:
    """LoraConfig values from the header, else from peft's adapter_config.json beside the file, else {}."""
    if METADATA_KEY in extra:
        try:
            packed = json.loads(extra[METADATA_KEY])
        except ValueError:
            raise ClbenchError(f"{path}: {METADATA_KEY} in the header is not JSON") from None
        return {key.removeprefix("transformer."): value for key, value in packed.items()}
    beside = path.with_name("adapter_config.json")
    if path.name == "adapter_model.safetensors" and beside.is_file():
        try:
            return json.loads(beside.read_text(encoding="utf-8"))
        except ValueError:
            raise ClbenchError(f"{beside} is not valid JSON") from None
    return {}


def _alphas(
    path: Path, ranks: Mapping[str, int], metadata: Mapping[str, Any], tensors: Mapping[str, str]
) -> dict[str, float]:
    """Alpha of each module: its tensor, else the metadata's pattern or value, else the rank (scale 1)."""
    if tensors:
        from safetensors import safe_open

        with safe_open(path, framework="np") as stream:
            given = {module: float(stream.get_tensor(name)) for module, name in tensors.items()}
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
