"""Several LoRA files merged into one by peft's own `add_weighted_adapter` (`clbench.merging_peft`).

A merge depends on the adapters alone, so no base model is loaded; and each module on its own, so that no more than one module
of all adapters is held. What comes out is an ordinary LoRA file in the cache folder, named by everything that decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.adapter_writing import save_adapter
from clbench.adapters import AdapterInfo, describe_adapter, load_factors, load_tensors
from clbench.attaching import lora_values
from clbench.factors import Factor
from clbench.hashing import cache_folder
from clbench.merging_peft import Draws, Factors, combine
from clbench.provenance import hash_value, package_versions
from clbench.registry import ClbenchError, Stopped, suggestion
from clbench.tensor_file import read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

VERSION = 1
METHODS = (
    "linear", "cat", "svd", "ties", "ties_svd", "dare_ties", "dare_ties_svd", "magnitude_prune", "magnitude_prune_svd",
)  # fmt: skip
"""peft's combination types. Those ending in ``svd`` merge the products B A and factor the result again; ``cat`` stacks
the factors, which is the exact sum; the others merge all A and all B apart, which is not the sum of the products."""
ELECTING = frozenset(m for m in METHODS if "ties" in m)
PRUNING = frozenset(m for m in METHODS if "ties" in m or "prune" in m)
Seen = Callable[[int, int], object]
"""Is told how many modules are merged, and of how many: an ``svd`` method takes hours at real size."""
FACTORWISE = frozenset(METHODS) - {"cat"} - {m for m in METHODS if m.endswith("svd")}


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


def merged_file(merge: Merge, seen: Seen | None = None) -> Path:
    """The merged LoRA file, made on first use; later calls with the same content find it, and nothing is `seen`."""
    path = merged_path(merge)
    if not path.is_file():
        write_merged(merge, path, seen)
    return path


def write_merged(merge: Merge, path: Path, seen: Seen | None = None) -> str:
    """Merge, write an ordinary LoRA file, and read it back; returns its sha256.

    ClbenchError if a merged value is not finite, if the file cannot be written, or if what it holds is not what was
    written. Ctrl-C says that nothing is kept.
    """
    try:
        return save_merged(merge, merge_adapters(merge, seen), path)
    except KeyboardInterrupt:
        raise Stopped("of this merge nothing is kept, since its file is written when all modules are merged") from None


def save_merged(merge: Merge, factors: Mapping[str, Tensor], path: Path) -> str:
    """What `write_merged` does when merged: `factors` are what `merge` came to, by whatever way."""
    ranks = {name.removesuffix(".lora_A.weight"): len(t) for name, t in factors.items() if name.endswith(".lora_A.weight")}
    facts = {"clbench.merged": merge.method, "clbench.merged.key": merge.key, "clbench.adapters": str(len(merge.parts))}
    sha256 = save_adapter(path, factors, lora_values(ranks, {module: float(rank) for module, rank in ranks.items()}), facts)
    _check_written(path, factors)
    return sha256


def merge_adapters(merge: Merge, seen: Seen | None = None) -> dict[str, Tensor]:
    """The merged factors ``<module>.lora_A.weight`` (r, in) and ``.lora_B.weight`` (out, r) with scale 1.

    Computed in float32; the result has the parts' dtype where they share one. Beside the result, one module of all adapters is in
    memory at a time. `seen` is called before the first module and after each. ClbenchError if a value is not finite.
    """
    parts = [Opened(part) for part in merge.parts]
    fast = None if merge.accelerator is None else Opened(merge.accelerator)
    dtype, seen = common_dtype(parts), seen or (lambda done, total: None)
    merged: dict[tuple[str, str], Tensor] = {}
    total = len({module for part in (parts if fast is None else [*parts, fast]) for module in part.info.modules})
    seen(0, total)
    for module, factors in _merged_modules(merge, parts, fast):
        for side, tensor in (("A", factors.a), ("B", factors.b)):
            if not bool(tensor.isfinite().all()):
                raise ClbenchError(f"merging by '{merge.method}' gave a value of '{module}' that is not finite")
            merged[module, side] = tensor.to(dtype)
        seen(len(merged) // 2, total)
    return {f"{module}.lora_{side}.weight": merged[module, side] for module, side in sorted(merged)}


def _merged_modules(merge: Merge, parts: Sequence[Opened], fast: Opened | None) -> Iterator[tuple[str, Factors]]:
    """The modules of the parts in the order in which peft has them in a whole model, then those of the accelerator alone."""
    modules = {module: part.info.shapes[module] for part in parts for module in part.info.modules}
    largest = max(part.largest for part in parts)
    rank = merge.rank if merge.method.endswith("svd") and merge.rank is not None else largest
    draws = Draws(merge.seed, modules if merge.method.startswith("dare") else {}, rank)
    for module in dict.fromkeys([*modules, *(fast.info.modules if fast is not None else ())]):
        factors = None
        if module in modules:
            read = [part.read(module) for part in parts]
            factors = combine(read, merge.method, largest, merge.density, merge.rank, draws)
        if fast is not None:
            taught = factors if factors is None else replace(factors, weight=merge.merged_weight)
            factors = combine([taught, fast.read(module)], "cat", max(largest, fast.largest))
        assert factors is not None
        yield module, factors


class Opened:
    """An adapter of a merge, read module by module."""

    def __init__(self, part: Part) -> None:
        self.info, self.weight = part.info, part.weight
        self.largest = max(part.info.ranks.values())
        self._factors: dict[str, list[Factor]] = {}
        for factor in part.info.factors:
            self._factors.setdefault(factor.module, []).append(factor)

    @property
    def dtypes(self) -> set[str]:
        """Those of the stored factors, in the words of safetensors."""
        header = read_header(self.info.path)
        return {header[name]["dtype"] for name in self.info.names}

    def read(self, module: str) -> Factors | None:
        """None where the adapter lacks the module."""
        if module not in self._factors:
            return None
        a, b = load_factors(self.info, sorted(self._factors[module], key=lambda factor: factor.side)).values()
        # rank-stabilised scales are written as plain ones: peft would apply the first adapter's kind to the result
        return Factors(a, b, self.info.scale(module), self.weight)


def common_dtype(parts: Sequence[Opened]) -> torch.dtype:
    """The dtype of the parts' values where they share one, else float32."""
    import torch

    if len({dtype for part in parts for dtype in part.dtypes}) > 1:
        return torch.float32
    first = parts[0].read(parts[0].info.modules[0])
    assert first is not None
    return first.a.dtype


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
