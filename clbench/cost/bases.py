"""Base by name or file: a shipped preset, or the config of any diffusers transformer. Weights are never read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from clbench.cost.shapes import (
    FLUX_KONTEXT,
    QWEN_IMAGE_EDIT,
    TINY,
    Base,
    FluxDimensions,
    Linear,
    QwenDimensions,
    flux_base,
    qwen_base,
)
from clbench.registry import ClbenchError, suggestion

PRESETS: dict[str, Callable[[], Base]] = {
    "qwen-image-edit": lambda: qwen_base("qwen-image-edit", QWEN_IMAGE_EDIT),
    "flux-kontext": lambda: flux_base("flux-kontext", FLUX_KONTEXT),
    "tiny": lambda: flux_base("tiny", TINY),
}


def find_base(name: str) -> Base:
    """A preset, a ``config.json``, or a folder that holds one (also a pipeline's folder, in ``transformer/``).

    ClbenchError for a name that is none of these, with the nearest preset.
    """
    if name in PRESETS:
        return PRESETS[name]()
    path = Path(name)
    found = [p for p in (path, path / "config.json", path / "transformer" / "config.json") if p.is_file()]
    if not found:
        raise ClbenchError(
            f"no base '{name}': neither a preset nor a config.json of a diffusers transformer nor a folder with one."
            f"{suggestion(name, PRESETS)}"
        )
    return base_from_config(found[0])


def base_from_config(path: Path) -> Base:
    """The base that a diffusers ``config.json`` describes.

    FLUX and Qwen-Image by arithmetic; every other class is built by diffusers on the meta device, which takes
    seconds. ClbenchError for a file that is no such config or names a class that diffusers lacks.
    """
    config = _read(path)
    kind = config["_class_name"]
    if kind == "FluxTransformer2DModel":
        return flux_base(str(path), FluxDimensions(**_dimensions(FluxDimensions, config, path)))
    if kind == "QwenImageTransformer2DModel":
        return qwen_base(str(path), QwenDimensions(**_dimensions(QwenDimensions, config, path)))
    from clbench.backbones.skeleton import skeleton

    shapes, parameters = skeleton(config, path)
    return Base(str(path), tuple(Linear(name, *shape) for name, shape in shapes.items()), parameters)


def _read(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClbenchError(f"cannot read {path} as JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
        raise ClbenchError(f"{path} is no diffusers model config: it names no '_class_name'")
    return config


def _dimensions(kind: type, config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The keys that `kind` needs; those with a default may be absent."""
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    missing = [name for name in needed if name not in config]
    if missing:
        raise ClbenchError(f"{path} lacks the key '{missing[0]}' of a {config['_class_name']}")
    return {field.name: config[field.name] for field in fields(kind) if field.name in config}
