"""Whether a pipeline's folder is whole, from its headers and configurations alone: seconds before any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clbench.registry import ClbenchError
from clbench.tensor_file import read_header

WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "ProcessorFast", "Extractor")
WEIGHTS = ("*.safetensors", "*.bin")


def check_parts(folder: Path) -> None:
    """Read every JSON file and every safetensors header of a folder made by ``save_pretrained``.

    ClbenchError naming the file that is truncated, malformed, or missing.
    """
    index = _read_json(folder / "model_index.json")
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
            continue
        part = folder / name
        if not part.is_dir():
            raise ClbenchError(f"{folder} lacks the folder {name}/ ({value[1]}) that its model_index.json names")
        if not value[1].endswith(WITHOUT_WEIGHTS) and not any(file for kind in WEIGHTS for file in part.glob(kind)):
            raise ClbenchError(f"{part} holds no weights of the {value[1]} (a safetensors file)")
    for file in sorted(folder.glob("*/*.json")):
        _read_json(file)
    for file in sorted(folder.glob("*/*.safetensors")):
        read_header(file)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ClbenchError(f"cannot read {path}: {error}") from None
    except ValueError as error:
        raise ClbenchError(f"{path} is truncated or no JSON file: {error}") from None
    if not isinstance(found, dict):
        raise ClbenchError(f"{path} should hold a JSON object, not {type(found).__name__}")
    return found
