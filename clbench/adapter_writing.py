"""Writing LoRA files that stock diffusers opens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench.adapter_metadata import METADATA_KEY, packed_metadata
from clbench.adapters import describe_adapter
from clbench.disk import discard
from clbench.hashing import file_digest
from clbench.registry import ClbenchError
from clbench.tensor_file import save_tensors, sort_strings

if TYPE_CHECKING:
    import torch

StoredDtype = Literal["float32", "float16", "bfloat16"]


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
