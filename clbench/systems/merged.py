"""System ``merged-<method>``: all teachers of the suite in one LoRA; ``merged-<method>+accelerator``: the accelerator too.

One of the things a user would try instead of a distilled collection. The merge itself is `clbench.merging`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from clbench.adapters import AdapterInfo, describe_adapter
from clbench.backbones import Sampler, backbone_folder
from clbench.merging import Merge, Part, Seen, merged_file, merged_path, usual_weight
from clbench.registry import ClbenchError
from clbench.systems import ACCELERATED, MERGED, Bench
from clbench.systems.sampled import (
    Adapters,
    Plan,
    SampledSystem,
    card_settings,
    checked_adapter,
    few_sampler,
    full_sampler,
    hashes_of,
    suite_teachers,
)
from clbench.types import SystemCard
from clbench.world import World


def open_merged(bench: Bench, name: str) -> MergedSystem:
    """``merged-<method>`` as the teacher is sampled, ``merged-<method>+accelerator`` as the cascade is.

    Files are checked now; the merge is made when its first picture is. The card's one adapter is named by the merge's
    key, the hash of everything that decides the file.
    """
    backbone_folder(bench.world)  # a missing backbone is said now
    method, accelerated = split_name(name)
    teachers, accelerator = suite_teachers(bench), None
    sampler = full_sampler(bench)
    if accelerated:
        accelerator = checked_adapter(bench, bench.world.accelerator().path)
        sampler = few_sampler(bench, bench.world.accelerator())
    merge = merge_of(bench.world, method, teachers, accelerator)
    inputs = hashes_of(teachers) | ({"accelerator": accelerator.sha256} if accelerator else {})
    settings = card_settings(bench, sampler, "instruction") | {"merge": merge.settings(), "merged_from": inputs}
    return MergedSystem(bench, SystemCard(name, "merged", {"merged": merge.key}, settings), merge, sampler)


class MergedSystem(SampledSystem):
    """A system whose one adapter is merged when its first picture is made; see `clbench.types.Telling`."""

    def __init__(self, bench: Bench, card: SystemCard, merge: Merge, sampler: Sampler) -> None:
        super().__init__(bench, card, Plan(lambda effect: self._merged, lambda effect: effect.instruction), sampler)
        self.merge = merge
        self._seen: Seen | None = None

    def tell(self, seen: Callable[[str, int, int], object]) -> None:
        """From now on `seen` is told how many modules are merged, and of how many."""
        self._seen = lambda done, total: seen(f"merge of {self.card.name}", done, total)

    @cached_property
    def _merged(self) -> Adapters:
        return ((merged_file(self.merge, self._seen), 1.0),)


def split_name(name: str) -> tuple[str, bool]:
    """``merged-ties+accelerator`` -> ("ties", True)."""
    method = name.removeprefix(MERGED)
    return method.removesuffix(ACCELERATED), method.endswith(ACCELERATED)


def merge_of(
    world: World, method: str, teachers: Mapping[str, AdapterInfo], accelerator: AdapterInfo | None = None
) -> Merge:
    """The merge of these teachers (in their order) with the world's [merged] settings, and its cascade's weights.

    A teacher's own weight multiplies the one that it gets in the merge.
    """
    table = world.table.merged
    weight = usual_weight(method, len(teachers)) if table.weight is None else table.weight
    parts = tuple(Part(info, weight * world.effect_weight(effect)) for effect, info in teachers.items())
    joined = None if accelerator is None else Part(accelerator, world.accelerator().weight)
    return Merge(method, parts, table.density, table.rank, table.seed, joined, world.teacher_weight if joined else 1.0)


def why_not_merged(world: World, names: Sequence[str], effects: Sequence[str]) -> dict[str, str]:
    """For each of these systems why the teachers of `effects` cannot be merged so, in a sentence; "" where they can.

    ClbenchError for a teacher file that cannot be read: that is no property of the method.
    """
    absent = [effect for effect in effects if world.teacher_path(effect) is None]
    if absent:
        return dict.fromkeys(names, f"world {world.name} has no teacher LoRA for: {', '.join(absent)}")
    teachers = described_teachers(world, effects)
    return {name: _mistake(lambda name=name: merge_of(world, split_name(name)[0], teachers)) for name in names}


def _mistake(make: Callable[[], object]) -> str:
    try:
        make()
    except ClbenchError as error:
        return str(error)
    return ""


def described_teachers(world: World, effects: Sequence[str]) -> dict[str, AdapterInfo]:
    """The teacher of every effect from its file's header, without a look at the base; ClbenchError if one is missing."""
    paths = {effect: world.teacher_path(effect) for effect in effects}
    missing = [effect for effect, path in paths.items() if path is None]
    if missing or not paths:
        raise ClbenchError(f"world {world.name} has no teacher LoRA for: {', '.join(missing) or 'any effect'}")
    return {effect: describe_adapter(path) for effect, path in paths.items() if path is not None}


def stored_bytes(world: World, effects: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Bytes of the merged files of those of `names` that were made on this machine already."""
    if not names:
        return {}
    teachers = described_teachers(world, effects)
    files: dict[str, Path] = {}
    for name in names:
        method, accelerated = split_name(name)
        accelerator = describe_adapter(world.accelerator().path) if accelerated else None
        files[name] = merged_path(merge_of(world, method, teachers, accelerator))
    return {name: path.stat().st_size for name, path in files.items() if path.is_file()}
