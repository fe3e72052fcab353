"""Whether a pipeline's folder is whole and the one that its world names, from headers and configurations alone: seconds before
any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clbench.registry import ClbenchError
from clbench.tensor_file import read_header

WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "ProcessorFast", "Extractor")
WEIGHTS = ("*.safetensors", "*.bin")
INDEX, TRANSFORMER_CONFIG, VAE_CONFIG = "model_index.json", "transformer/config.json", "vae/config.json"
PIPELINES = {"flux-kontext": "FluxKontextPipeline", "qwen-image-edit": "QwenImageEditPipeline"}
"""The one pipeline of each kind. diffusers opens the parts of a related one (FLUX.1 dev, Qwen-Image-Edit-2509) without a word,
and what it then makes is no edit that the model was trained for."""
HALVINGS = {"flux-kontext": ("block_out_channels", 1), "qwen-image-edit": ("temperal_downsample", 0)}
"""Key of the VAE's config whose length, less the number, says how often the VAE halves a side, as the pipelines count it."""
PATCH = 2
"""Both pipelines pack 2 x 2 latents into a token."""


def check_parts(folder: Path, kind: str, resolution: int) -> None:
    """Read every JSON file and every safetensors header of a folder made by ``save_pretrained``.

    ClbenchError for another pipeline than that of `kind`, for a file that is truncated, malformed or missing, and for a
    `resolution` that the model cannot edit at.
    """
    index = _read_json(folder / INDEX)
    _check_pipeline(folder, index.get("_class_name"), kind)
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
            continue
        part = folder / name
        if not part.is_dir():
            raise ClbenchError(f"{folder} lacks the folder {name}/ ({value[1]}) that its {INDEX} names")
        if not value[1].endswith(WITHOUT_WEIGHTS) and not any(file for kind in WEIGHTS for file in part.glob(kind)):
            raise ClbenchError(f"{part} holds no weights of the {value[1]} (a safetensors file)")
    for file in sorted(folder.glob("*/*.json")):
        _read_json(file)
    for file in sorted(folder.glob("*/*.safetensors")):
        read_header(file)
    for file in sorted(folder.glob("*/*.safetensors.index.json")):
        _check_shards(file)
    check_resolution(folder, kind, resolution)


def _check_shards(index: Path) -> None:
    """ClbenchError for a shard that is not there, unless the weights stand beside the `index` in one file."""
    if index.with_name(index.name.removesuffix(".index.json")).is_file():
        return
    named = _read_json(index).get("weight_map")
    if not isinstance(named, dict):
        raise ClbenchError(f"{index} should hold a table 'weight_map', which names the file of every weight")
    for shard in sorted(set(named.values())):
        if not (index.parent / shard).is_file():
            raise ClbenchError(f"{index.parent} lacks {shard}, which {index.name} names")


def check_resolution(folder: Path, kind: str, resolution: int) -> None:
    """ClbenchError unless `resolution` is a multiple of what one token of the model covers, as the VAE's config says."""
    path = folder / VAE_CONFIG
    key, less = HALVINGS[kind]
    listed = _read_json(path).get(key)
    if not isinstance(listed, list):
        raise ClbenchError(f"{path} should hold a list '{key}', which says how often the VAE of {PIPELINES[kind]} halves a side")
    step = PATCH * 2 ** (len(listed) - less)
    if resolution % step:
        near = [str(side) for side in (resolution // step * step, (resolution // step + 1) * step) if side]
        raise ClbenchError(
            f"resolution = {resolution} is not possible with {folder}: it edits pictures whose side is a multiple of {step} px "
            f"(its VAE by {step // PATCH}, tokens by {PATCH}), such as {' or '.join(near)}"
        )


def _check_pipeline(folder: Path, found: object, kind: str) -> None:
    wanted = PIPELINES[kind]
    if found == wanted:
        return
    other = next((name for name, pipeline in PIPELINES.items() if pipeline == found), None)
    hint = f"; did you mean kind = '{other}'?" if other else ""
    raise ClbenchError(
        f"{folder / INDEX} names a {found or 'pipeline without a _class_name'}, but kind = '{kind}' in [backbone] is {wanted} "
        f"alone{hint}"
    )


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
