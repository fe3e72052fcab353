"""A world's own deployment, and its adapter files held against the prediction; headers only, no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clbench import dialects
from clbench.adapters import AdapterInfo, describe_adapter
from clbench.attaching import check_modules
from clbench.cost.bases import base_from_config, find_base
from clbench.cost.shapes import Base, Linear
from clbench.cost.targets import dtype_bytes
from clbench.factors import Factor
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header
from clbench.world import World

HUB_PRESETS = {"black-forest-labs/FLUX.1-Kontext-dev": "flux-kontext", "Qwen/Qwen-Image-Edit": "qwen-image-edit"}
"""Hub names whose sizes are shipped, so that nothing has to be fetched for them."""
_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F8_E4M3": "float8"}


@dataclass(frozen=True, slots=True)
class AdapterPrediction:
    """An adapter file: predicted and stored bytes of its factors, and the bytes of the whole file.

    `resident` are the predicted bytes once it is loaded: each module has factors of its own, though a file in the original
    names holds one A for several, and they take the backbone's dtype. `waiting` is the same in the file's dtype.
    """

    name: str
    path: Path
    rank: int
    modules: int
    dtype: str
    predicted: int
    stored: int
    file: int
    resident: int
    waiting: int

    @property
    def exact(self) -> bool:
        return self.predicted == self.stored


@dataclass(frozen=True)
class WorldSizes:
    """A world as a deployment sees it: its base, and the predictions of its teachers and other adapters."""

    base: Base
    dtype: str
    teachers: Mapping[str, AdapterPrediction]
    accelerator: AdapterPrediction | None
    collection: AdapterPrediction | None

    def all(self) -> list[AdapterPrediction]:
        others = [one for one in (self.accelerator, self.collection) if one is not None]
        return [*self.teachers.values(), *others]


def world_base(world: World, local_only: bool = False) -> Base:
    """The world's transformer: a shipped preset of its hub name, else by its config.

    The config of another hub name is fetched, without the weights, unless `local_only`; ClbenchError if it is not there.
    """
    if world.backbone.hub in HUB_PRESETS:  # under the world's name: what the paper measured on the preset is not the user's
        return replace(find_base(HUB_PRESETS[world.backbone.hub]), name=world.backbone.hub)
    from clbench.backbones import transformer_config

    return base_from_config(transformer_config(world, local_only))


def world_sizes(world: World) -> WorldSizes:
    """Every adapter file of the world that is there, predicted; ClbenchError if it has no teacher."""
    base, dtype = world_base(world), world.backbone.dtype
    paths = {effect: path for effect in world.taught if (path := world.teacher_path(effect)) is not None}
    if not paths:
        raise ClbenchError(f"world {world.name} has no teacher adapter, so a pool cannot be sized")
    return WorldSizes(
        base, dtype,
        {effect: predict(effect, path, base, dtype) for effect, path in paths.items()},
        predict("accelerator", world.accelerator().path, base, dtype) if world.table.accelerator else None,
        predict("collection", world.candidate().path, base, dtype) if world.table.candidates else None,
    )  # fmt: skip


def predict(name: str, path: Path, base: Base, resident_dtype: str) -> AdapterPrediction:
    """Bytes of an adapter from the base's shapes and the file's ranks; ClbenchError for a LoRA of another base."""
    info = describe_adapter(path)
    header = read_header(path)
    held, loaded = _elements(info, base)
    dtype = _dtype(path, {header[tensor]["dtype"] for tensor in info.names})
    stored = sum(end - start for start, end in (header[tensor]["data_offsets"] for tensor in info.names))
    return AdapterPrediction(
        name, path, info.rank, len(info.modules), dtype, held * dtype_bytes(dtype), stored, info.bytes,
        loaded * dtype_bytes(resident_dtype), loaded * dtype_bytes(dtype),
    )  # fmt: skip


def _elements(info: AdapterInfo, base: Base) -> tuple[int, int]:
    """Numbers in the file's tensors, and in the factors of all modules, from the base's shapes and the ranks alone."""
    layers = {one.name: one for one in base.linears}
    check_modules(info, layers, base.name)
    loaded = sum(rank * (layers[module].out + layers[module].into) for module, rank in info.ranks.items())
    tensors: dict[str, list[Factor]] = {}
    for factor in info.factors:
        tensors.setdefault(factor.name, []).append(factor)
    return sum(_numbers(factors, layers) for factors in tensors.values()), loaded


def _numbers(factors: Sequence[Factor], layers: Mapping[str, Linear]) -> int:
    """Numbers in the tensor that holds these factors, all A or all B.

    A is as wide as its modules, which share an input. B has the rows of every module of its target, also of one that the
    adapter lacks.
    """
    first = factors[0]
    if first.side == "A":
        return max(factor.rows[1] for factor in factors) * layers[first.module].into
    target = dialects.target_of(dialects.FLUX, first.module) if first.cut else None
    modules = [first.module] if target is None else dialects.modules_of(dialects.FLUX, target)
    return max(factor.columns[1] for factor in factors) * sum(layers[module].out for module in modules)


def _dtype(path: Path, found: set[str]) -> str:
    if len(found) != 1 or not found <= set(_DTYPES):
        raise ClbenchError(f"{path} holds factors of dtype {', '.join(sorted(found))}; one of {', '.join(_DTYPES)} is read")
    return _DTYPES[found.pop()]
