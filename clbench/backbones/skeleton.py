"""A diffusers model without weights: its linear layers and its number of parameters, on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.registry import ClbenchError


def skeleton(config: Mapping[str, Any], path: Path) -> tuple[dict[str, tuple[int, int]], int]:
    """Module -> (out, in) of every linear layer, and all parameters, of the model that `config` describes.

    `path` is named in the error: ClbenchError for a class that diffusers lacks or that refuses the config.
    """
    import diffusers
    import torch

    found = getattr(diffusers, config["_class_name"], None)
    if not (isinstance(found, type) and issubclass(found, diffusers.ModelMixin)):
        raise ClbenchError(f"{path}: diffusers {diffusers.__version__} has no model '{config['_class_name']}'")
    kind: Any = found
    try:
        with torch.device("meta"):
            model = kind.from_config(dict(config))
    except (TypeError, ValueError, KeyError) as error:
        raise ClbenchError(f"{path} does not build a {config['_class_name']}: {error}") from None
    linears = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return linears, sum(parameter.numel() for parameter in model.parameters())
