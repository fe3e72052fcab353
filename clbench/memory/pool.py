"""The adapter files of a point, on disk for real: where the world has fewer teachers than effects, copies."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.memory.points import BESIDE, Point
from clbench.registry import ClbenchError
from clbench.world import World


@dataclass(frozen=True, slots=True)
class Files:
    """What a point loads: `parts` are exchanged for each other, `fixed` always stays; with the weights of both.

    `steps` are few ones (None: the world's); `full`: the world's full steps and guidance instead, as teachers are sampled.
    `spent` was made for this point alone.
    """

    parts: tuple[Path, ...]
    fixed: tuple[Path, ...]
    part_weight: float = 1.0
    fixed_weight: float = 1.0
    steps: int | None = None
    spent: tuple[Path, ...] = ()
    full: bool = False

    @property
    def all(self) -> tuple[Path, ...]:
        return (*self.parts, *self.fixed)

    def drop_spent(self) -> None:
        """Give the disk back what no other point uses."""
        for path in self.spent:
            path.unlink(missing_ok=True)


def files_of(point: Point, world: World, folder: Path) -> Files:
    """The files of `point`; copies and merges are made in `folder`, and copies kept for the next point.

    The accelerator stays beside teachers where the world names one, except beside those of system `teacher`. ClbenchError if the
    world lacks a teacher or the candidate that the point needs, or a file is missing that it names.
    """
    if point.system == "base":
        return Files((), ())
    if point.system == "collection":
        one = world.candidate()
        return Files((one.path,), (), one.weight, 1.0, one.steps)
    fast = world.accelerator() if point.system in BESIDE and world.table.accelerator is not None else None
    teachers = teacher_files(world, point.effects, folder)
    parts, spent = tuple(teachers), ()
    if point.system == "merged":  # merges that keep a teacher's rank weigh what a teacher weighs
        parts = (teachers[0],)
    if point.system == "merged-cat":
        parts = spent = (concatenated(teachers, folder / f"merged-cat-{point.effects}.safetensors"),)
    if fast is None:
        return Files(parts, (), spent=spent, full=True)
    return Files(parts, (fast.path,), world.teacher_weight, fast.weight, fast.steps, spent)


def teacher_files(world: World, count: int, folder: Path) -> list[Path]:
    """`count` different teacher files: the world's own, then copies of them in turn."""
    own = own_teachers(world)
    return [own[i] if i < len(own) else _copy(own[i % len(own)], folder / f"copy-{i}.safetensors") for i in range(count)]


def own_teachers(world: World) -> list[Path]:
    """The world's teacher files; ClbenchError where it has none."""
    own = [path for effect in world.taught if (path := world.teacher_path(effect)) is not None]
    if not own:
        raise ClbenchError(f"world {world.name} has no teacher adapter, so a pool cannot be measured")
    return own


def _copy(file: Path, target: Path) -> Path:
    if target.is_file():
        return target
    free = shutil.disk_usage(target.parent).free
    if file.stat().st_size > free:
        raise ClbenchError(f"no room for a copy of {file.name} in {target.parent}: {free:,} bytes are free")
    return Path(shutil.copyfile(file, target))


def concatenated(files: Sequence[Path], target: Path) -> Path:
    """One LoRA whose factors are those of `files` side by side, so that it adds up to their sum; written once.

    Ranks add up; each file's scale goes into its B. All factors have one dtype, which holds what each file's does.
    """
    import torch

    if target.is_file():
        return target
    sides: dict[str, list[torch.Tensor]] = {}
    for file in files:
        info = describe_adapter(file)
        for name, tensor in load_tensors(info).items():
            module, side, _ = name.rsplit(".", 2)
            sides.setdefault(name, []).append(tensor * info.scale(module) if side == "lora_B" else tensor)
    widest = functools.reduce(torch.promote_types, (part.dtype for parts in sides.values() for part in parts))
    joined = {
        name: torch.cat([part.to(widest) for part in parts], dim=0 if ".lora_A." in name else 1) for name, parts in sides.items()
    }
    ranks = {name.removesuffix(".lora_A.weight"): len(t) for name, t in joined.items() if ".lora_A." in name}
    rank = max(ranks.values())
    pattern = {module: own for module, own in ranks.items() if own != rank}
    metadata = {"r": rank, "lora_alpha": rank, "target_modules": sorted(ranks), "rank_pattern": pattern, "alpha_pattern": pattern}
    save_adapter(target, joined, metadata)
    return target
