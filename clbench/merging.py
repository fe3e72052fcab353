"""Several LoRA files merged into one by peft's own `add_weighted_adapter`: the one room that knows peft.

A merge depends on the adapters alone, so no base model is loaded: peft works on a stand-in of linear layers without
memory, one for each module. What comes out is an ordinary LoRA file in the cache folder, named by everything that
decides it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.adapters import AdapterInfo, describe_adapter, load_tensors, lora_values, save_adapter
from clbench.hashing import cache_folder
from clbench.provenance import hash_value, package_versions
from clbench.registry import ClbenchError, suggestion

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

VERSION = 1
METHODS = (
    "linear", "cat", "svd", "ties", "ties_svd", "dare_ties", "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""peft's combination types. Those ending in ``svd`` merge the products B A and factor the result again; ``cat`` stacks
the factors, which is the exact sum; the others merge all A and all B apart, which is not the sum of the products."""
ELECTING = frozenset(m for m in METHODS if "ties" in m)
PRUNING = frozenset(m for m in METHODS if "ties" in m or "prune" in m)
FACTORWISE = frozenset(METHODS) - {"cat"} - {m for m in METHODS if m.endswith("svd")}
MERGED = "zx_merged"


@dataclass(frozen=True, slots=True)
class Part:
    """An adapter of a merge and its weight."""

    info: AdapterInfo
    weight: float


@dataclass(frozen=True, slots=True)
class Merge:
    """Everything that decides a merged LoRA; ClbenchError when peft could not merge these adapters in this way.

    `density` is the share of values that pruning methods keep, `rank` that of the result of ``svd`` methods (None: the
    largest of the parts'), `seed` that of DARE's random pruning. An `accelerator` is no effect: it is neither averaged
    nor pruned, but joined to the merged parts exactly, by ``cat``; those then get `merged_weight`.
    """

    method: str
    parts: tuple[Part, ...]
    density: float = 0.5
    rank: int | None = None
    seed: int = 0
    accelerator: Part | None = None
    merged_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ClbenchError(f"unknown merging method '{self.method}'.{suggestion(self.method, METHODS)}")
        if not self.parts:
            raise ClbenchError("there is no adapter to merge")
        everything = [part.info for part in (*self.parts, *([self.accelerator] if self.accelerator else []))]
        _check_same("shape", {info.path: info.shapes for info in everything}, "they are LoRAs of different bases")
        if self.method in FACTORWISE:
            hint = f"'{self.method}' needs equal ranks, 'cat' and the svd methods do not"
            _check_same("rank", {part.info.path: part.info.ranks for part in self.parts}, hint)

    def settings(self) -> dict[str, Any]:
        """Plain values of what decides the result: only what the method looks at."""
        values: dict[str, Any] = {"method": self.method, "weights": [part.weight for part in self.parts]}
        if self.method in PRUNING:
            values["density"] = self.density
        if self.method.endswith("svd"):
            values["rank"] = self.rank
        if self.method.startswith("dare"):
            values["seed"] = self.seed
        if self.accelerator is not None:
            values |= {"accelerator_weight": self.accelerator.weight, "merged_weight": self.merged_weight}
        return values

    @property
    def key(self) -> str:
        """sha256 over settings, adapters and library versions: the name of the merged file."""
        adapters = [part.info.sha256 for part in self.parts]
        joined = self.accelerator.info.sha256 if self.accelerator is not None else ""
        return hash_value([VERSION, self.settings(), adapters, joined, package_versions(("torch", "peft"))])


def usual_weight(method: str, count: int) -> float:
    """The weight of each of `count` adapters where nobody says otherwise.

    1 for methods that elect a sign, since they average what agrees (peft's guide starts there too); else 1 / count, the
    mean: a plain sum grows with the number of effects.
    """
    return 1.0 if method in ELECTING else 1.0 / count


def merged_path(merge: Merge) -> Path:
    """Where the merged file is or will be: in the cache folder, under its key."""
    return cache_folder() / "merged" / f"{merge.key}.safetensors"


def merged_file(merge: Merge) -> Path:
    """The merged LoRA file, made on first use; later calls with the same content find it."""
    path = merged_path(merge)
    if not path.is_file():
        write_merged(merge, path)
    return path


def write_merged(merge: Merge, path: Path) -> str:
    """Merge, write an ordinary LoRA file, and read it back; returns its sha256.

    ClbenchError if a merged value is not finite, if the file cannot be written, or if what it holds is not what was
    written.
    """
    factors = merge_adapters(merge)
    ranks = {name.removesuffix(".lora_A.weight"): len(t) for name, t in factors.items() if name.endswith(".lora_A.weight")}
    facts = {"clbench.merged": merge.method, "clbench.merged.key": merge.key, "clbench.adapters": str(len(merge.parts))}
    sha256 = save_adapter(path, factors, lora_values(ranks, {module: float(rank) for module, rank in ranks.items()}), facts)
    _check_written(path, factors)
    return sha256


def merge_adapters(merge: Merge) -> dict[str, Tensor]:
    """The merged factors ``<module>.lora_A.weight`` (r, in) and ``.lora_B.weight`` (out, r) with scale 1.

    Computed in float32; the result has the parts' dtype where they share one. ClbenchError if a value is not finite.
    """
    import torch

    loaded = [Factors.load(part) for part in merge.parts]
    dtypes = {tensor.dtype for part in loaded for tensor in part.tensors.values()}
    factors = combine(loaded, merge.method, merge.density, merge.rank, merge.seed)
    if merge.accelerator is not None:
        merged = Factors(factors, {}, merge.merged_weight)
        factors = combine([merged, Factors.load(merge.accelerator)], "cat")
    for name, tensor in factors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ClbenchError(f"merging by '{merge.method}' gave a value of '{name}' that is not finite")
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return {name: tensor.to(dtype) for name, tensor in factors.items()}


@dataclass(frozen=True, slots=True)
class Factors:
    """An adapter in memory: its factors, the scale of each module (left out: 1) and its weight in the merge."""

    tensors: Mapping[str, Tensor]
    scales: Mapping[str, float]
    weight: float

    @classmethod
    def load(cls, part: Part) -> Factors:
        info = part.info
        # rank-stabilised scales are written as plain ones: peft would apply the first adapter's kind to the result
        scales = {m: info.alphas[m] / (r**0.5 if info.rslora else r) for m, r in info.ranks.items()}
        return cls(load_tensors(info), scales, part.weight)

    @property
    def modules(self) -> list[str]:
        return sorted({name.rsplit(".lora_", 1)[0] for name in self.tensors})

    def factor(self, module: str, side: str) -> Tensor:
        return self.tensors[f"{module}.lora_{side}.weight"]

    def rank(self, module: str) -> int:
        """0 where the adapter lacks the module."""
        name = f"{module}.lora_A.weight"
        return len(self.tensors[name]) if name in self.tensors else 0


def combine(
    parts: Sequence[Factors], method: str, density: float = 0.5, rank: int | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """`add_weighted_adapter` of `parts` in a stand-in; float32 factors with scale 1.

    peft draws DARE's masks from the global generator: it is seeded here and then put back as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\b")
        carrier, places = _stand_in(parts)
        torch.default_generator.manual_seed(seed)
        lora: Any = carrier.base_model
        lora.add_weighted_adapter(
            adapters=_names(parts), weights=[part.weight for part in parts], adapter_name=MERGED,
            combination_type=method, svd_rank=rank, svd_full_matrices=False, density=density,
        )  # fmt: skip
    merged: dict[str, Tensor] = {}
    for module, place in places.items():
        layer: Any = carrier.get_submodule(f"base_model.model.{place}")
        a, b = layer.lora_A[MERGED].weight.data, layer.lora_B[MERGED].weight.data
        if method == "cat":  # peft leaves rows of zeros below the stacked ones
            used = sum(part.rank(module) for part in parts)
            a, b = a[:used], b[:, :used]
        merged[f"{module}.lora_A.weight"], merged[f"{module}.lora_B.weight"] = a.clone(), b.clone()
    return merged


def _names(parts: Sequence[Factors]) -> list[str]:
    """Names of one width, so that none is part of another or of a parameter's name."""
    return [f"zx{index:06d}" for index in range(len(parts))]


def _stand_in(parts: Sequence[Factors]) -> tuple[PeftModel, dict[str, str]]:
    """A model that carries all `parts` as adapters, and module -> its place there.

    Places have no dots and one width: peft matches target modules by their last names.
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    shapes = {m: (len(p.factor(m, "B")), p.factor(m, "A").shape[1]) for p in parts for m in p.modules}
    places = {module: f"m{index:06d}" for index, module in enumerate(sorted(shapes))}
    layers = nn.ModuleDict({places[module]: _empty_linear(*shape) for module, shape in shapes.items()})
    rank = max(part.rank(module) for part in parts for module in part.modules)
    carrier: PeftModel | None = None
    for name, part in zip(_names(parts), parts, strict=True):
        values = _peft_values(part, places, rank)
        if carrier is None:
            carrier = get_peft_model(layers, LoraConfig(**values), adapter_name=name)  # type: ignore[arg-type]
        else:
            carrier.add_adapter(name, LoraConfig(**values))
        for module in part.modules:
            layer: Any = layers[places[module]]
            layer.lora_A[name].weight.data.copy_(part.factor(module, "A"))
            layer.lora_B[name].weight.data.copy_(part.factor(module, "B"))
    assert carrier is not None
    return carrier, places


def _peft_values(part: Factors, places: Mapping[str, str], rank: int) -> dict[str, Any]:
    """LoraConfig arguments of a part: `rank`, the largest of all parts, is what peft compares; patterns hold its own."""
    ranks = {places[module]: part.rank(module) for module in part.modules}
    alphas = {places[module]: part.scales.get(module, 1.0) * part.rank(module) for module in part.modules}
    return {
        "r": rank, "lora_alpha": rank, "target_modules": sorted(ranks), "rank_pattern": ranks, "alpha_pattern": alphas,
        "lora_dropout": 0.0,
    }  # fmt: skip


def _empty_linear(rows: int, columns: int) -> Any:
    """A linear layer of that shape whose weight is one number, so that a large base costs nothing."""
    import torch

    layer = torch.nn.Linear(columns, rows, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(torch.zeros(()).expand(rows, columns), requires_grad=False)
    return layer


def _check_same(what: str, files: Mapping[Path, Mapping[str, Any]], hint: str) -> None:
    """ClbenchError naming two files and the first module for which they hold different values."""
    seen: dict[str, tuple[Path, Any]] = {}
    for path, values in files.items():
        for module, value in sorted(values.items()):
            other, held = seen.setdefault(module, (path, value))
            if held != value:
                raise ClbenchError(
                    f"{other} and {path} cannot be merged: '{module}' has {what} {held} in one and {value} in the other; {hint}"
                )


def _check_written(path: Path, factors: Mapping[str, Tensor]) -> None:
    import torch

    info = describe_adapter(path)
    kept = load_tensors(info)
    if kept.keys() != factors.keys() or not all(torch.equal(kept[name], tensor) for name, tensor in factors.items()):
        raise ClbenchError(f"{path} does not hold what was merged; the disk or the file system lost it")
    if any(info.alphas[module] != rank for module, rank in info.ranks.items()):
        raise ClbenchError(f"{path}: the merged factors were written with a scale that is not 1")
