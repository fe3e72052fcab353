"""What LoRA files keep of peft's LoraConfig: in the header as diffusers writes it, or in a file beside them as peft does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from clbench import dialects
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header

METADATA_KEY = "lora_adapter_metadata"
PEFT_CONFIG = "adapter_config.json"


def read_metadata(path: Path, extra: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
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
    config = peft_config(path)
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


def peft_config(path: Path) -> Path | None:
    """The configuration that belongs to a file without one in its header: peft's beside it, where no other adapter lies."""
    beside = path.with_name(PEFT_CONFIG)
    if not beside.is_file() or ("__metadata__" in (header := read_header(path)) and _configured(header["__metadata__"])):
        return None
    alone = path.name == "adapter_model.safetensors" or list(path.parent.glob("*.safetensors")) == [path]
    return beside if alone else None


def _configured(strings: Mapping[str, str]) -> bool:
    return METADATA_KEY in strings or dialects.KEPT_METADATA_KEY in strings


def packed_metadata(metadata: Mapping[str, Any]) -> str:
    """LoraConfig values as the header string that diffusers reads."""
    packed = {f"transformer.{key}": _plain(value) for key, value in metadata.items()}
    return json.dumps(packed, indent=2, sort_keys=True)


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
