"""Where a world's source pictures come from: composed scenes, or a folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clbench.hashing import code_digest, file_digest, tree_digest
from clbench.images import centre_square, hash_pixels, reduce_to
from clbench.photos import photos_in, read_photo
from clbench.provenance import hash_value
from clbench.registry import ClbenchError, suggestion
from clbench.types import Source, seed_from

if TYPE_CHECKING:
    from clbench.scenes import Pool, Scene


class SourcePool(Protocol):
    """The source pictures of a world. `size` is the side at which they are made (and operators applied)."""

    size: int

    @property
    def sources(self) -> list[Source]:
        """All sources, in a stable order."""
        ...

    def image(self, source_id: str) -> np.ndarray:
        """uint8 ``(size, size, 3)``; do not write into it."""
        ...

    def mask(self, source_id: str) -> np.ndarray | None:
        """float32 ``(size, size)`` in [0, 1], 1 = subject; None where nobody knows."""
        ...

    def group(self, name: str, count: int) -> list[str]:
        """Ids of the first `count` sources of a named group; ClbenchError if there is no such group."""
        ...

    def grouped(self, source_id: str) -> Source | None:
        """The source of a group by its id, or None."""
        ...

    def digest(self) -> str:
        """Hash of everything that can change a pixel of a source."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """Where subjects and backgrounds of a group of scenes come from: names of splits; no `subjects` = photographs.

    `told` is what readers are told. `about` is part of the hash of a suite that asks for the group (by the group's repr), so
    it stays as it was first written.
    """

    about: str
    subjects: tuple[str, ...]
    backgrounds: tuple[str, ...]
    told: str = field(default="", repr=False)


TRAINED, HELD_OUT = ("teacher", "distill"), ("evaluation",)
GROUPS = {
    "seen": Group(
        "subjects and backgrounds of the adapters' training pictures, in new scenes", TRAINED, TRAINED,
        "new scenes of subjects and backgrounds of training pictures: of the teachers' or of the collections', each of which saw "
        "a part of them",
    ),
    "other-subjects": Group(
        "subjects that no adapter saw, on backgrounds of the training pictures", HELD_OUT, TRAINED,
        "subjects that no adapter saw, on backgrounds of the teachers' or of the collections' training pictures",
    ),
    "other-backgrounds": Group(
        "subjects of the training pictures on backgrounds that no adapter saw", TRAINED, HELD_OUT,
        "subjects of the teachers' or of the collections' training pictures, on backgrounds that no adapter saw",
    ),
    "photographs": Group(
        "plain photographs without a subject, that no adapter saw", (), HELD_OUT,
        "plain photographs without a subject, that no adapter saw",
    ),
}  # fmt: skip
LEARNED_FROM = {
    "base": "base", "teachers": "teacher", "joint LoRA": "teacher", "collection": "distill", "accelerator": "distill",
}  # fmt: skip
"""The split whose subjects and backgrounds the reference trainer shows to each part of a system. No two splits share one."""
GROUP_SIZE = 100
"""Scenes in a group."""


def group_of(source_id: str) -> str:
    """The group in a source's id (``photographs-003`` -> ``photographs``), or "" for a source of no group."""
    name, _, number = source_id.rpartition("-")
    return name if name in GROUPS and number.isdigit() and int(number) < GROUP_SIZE else ""


class SceneSources:
    """Scenes of a named subject on a photographed background, drawn from a seed (see `clbench.scenes`)."""

    def __init__(self, folder: Path, split: str, count: int, size: int) -> None:
        if not folder.is_dir():
            raise ClbenchError(f"folder of scene sources not found: {folder}")
        self.folder, self.split, self.count, self.size = folder, split, count, size
        self._index = {f"{split}-{i:03d}": i for i in range(count)}
        self._scene = lru_cache(maxsize=512)(self._compose)
        self._pools: dict[Group, Pool] = {}

    @property
    def sources(self) -> list[Source]:
        return self._described

    @cached_property
    def _described(self) -> list[Source]:
        return [self._describe(source_id) for source_id in self._index]

    def scene(self, source_id: str) -> Scene:
        """The composed scene: image, mask, caption, recipe."""
        return self._scene(source_id)

    def image(self, source_id: str) -> np.ndarray:
        return self._scene(source_id).image

    def mask(self, source_id: str) -> np.ndarray | None:
        scene = self._scene(source_id)
        return scene.mask if scene.spec.placements else None

    def group(self, name: str, count: int) -> list[str]:
        if name not in GROUPS:
            raise ClbenchError(f"unknown group of sources '{name}'.{suggestion(name, GROUPS)}")
        if count > GROUP_SIZE:
            raise ClbenchError(f"group '{name}' has {GROUP_SIZE} sources, asked for {count}")
        return [f"{name}-{index:03d}" for index in range(count)]

    def grouped(self, source_id: str) -> Source | None:
        return self._describe(source_id) if group_of(source_id) else None

    def pool_of(self, source_id: str) -> Pool:
        """The pictures that a scene of this id is drawn from."""
        group = GROUPS.get(group_of(source_id))
        return self._pool if group is None else self._mixed(group)

    def digest(self) -> str:
        code = code_digest(*(Path(__file__).with_name(name) for name in ("images.py", "scenes.py")))
        return hash_value([tree_digest(self.folder), self.split, self.count, self.size, code])

    @cached_property
    def _pool(self) -> Pool:
        from clbench.scenes import load_pool

        return load_pool(self.folder, self.split)

    def _mixed(self, group: Group) -> Pool:
        from clbench.scenes import Pool, load_pool

        if group not in self._pools:
            subjects = load_pool(self.folder, group.subjects).subjects if group.subjects else {}
            self._pools[group] = Pool(subjects, load_pool(self.folder, group.backgrounds).backgrounds)
        return self._pools[group]

    def _compose(self, source_id: str) -> Scene:
        from clbench.scenes import compose, draw_spec

        group = group_of(source_id)
        if source_id not in self._index and not group:
            raise ClbenchError(f"unknown source '{source_id}'.{suggestion(source_id, self._index)}")
        index = int(source_id.rpartition("-")[2]) if group else self._index[source_id]
        rng, pool = np.random.default_rng(seed_from("scene", group or self.split, index)), self.pool_of(source_id)
        return compose(draw_spec(pool, rng, 1 if pool.subjects else 0), pool, self.size)

    def _describe(self, source_id: str) -> Source:
        scene, pool = self._scene(source_id), self.pool_of(source_id)
        subject = pool.subjects[scene.spec.placements[0].subject].name if scene.spec.placements else ""
        background = pool.backgrounds[scene.spec.background].name
        return Source(
            source_id, hash_pixels(scene.image), f"see {self.folder.name}/sources.csv", scene.caption,
            subject, background, group_of(source_id) or self.split,
        )  # fmt: skip


class FolderSources:
    """Pictures of any shape in one folder; the id is the file stem, the largest centred square is used."""

    def __init__(self, folder: Path, count: int | None, size: int, licence: str) -> None:
        files = photos_in(folder)
        if not files:
            raise ClbenchError(f"folder {folder} holds no picture")
        self.files = dict(list(files.items())[:count])
        self.size, self.licence = size, licence
        self._read = lru_cache(maxsize=256)(self._square)

    @property
    def sources(self) -> list[Source]:
        return self._described

    @cached_property
    def _described(self) -> list[Source]:
        return [Source(stem, file_digest(path), self.licence) for stem, path in self.files.items()]

    def image(self, source_id: str) -> np.ndarray:
        if source_id not in self.files:
            raise ClbenchError(f"unknown source '{source_id}'.{suggestion(source_id, self.files)}")
        return self._read(source_id)

    def mask(self, source_id: str) -> np.ndarray | None:
        self.image(source_id)
        return None

    def group(self, name: str, count: int) -> list[str]:
        raise ClbenchError(f"group '{name}' is one of composed scenes; the sources of this world are plain pictures")

    def grouped(self, source_id: str) -> Source | None:
        return None

    def digest(self) -> str:
        code = code_digest(*(Path(__file__).with_name(name) for name in ("images.py", "photos.py")))
        return hash_value([[s.id, s.sha256] for s in self.sources] + [["size", self.size], ["code", code]])

    def _square(self, source_id: str) -> np.ndarray:
        return reduce_to(centre_square(read_photo(self.files[source_id])), self.size)
