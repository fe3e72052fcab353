"""Where a world's source pictures come from: composed scenes, or a folder of pictures."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from clbench.hashing import code_digest, file_digest, tree_digest
from clbench.images import centre_square, hash_pixels, pictures_in, read_rgb, reduce_to
from clbench.provenance import hash_value
from clbench.registry import ClbenchError, suggestion
from clbench.types import Source, seed_from

if TYPE_CHECKING:
    from clbench.scenes import Scene


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

    def digest(self) -> str:
        """Hash of everything that can change a pixel of a source."""
        ...


class SceneSources:
    """Scenes of a named subject on a photographed background, drawn from a seed (see `clbench.scenes`)."""

    def __init__(self, folder: Path, split: str, count: int, size: int) -> None:
        if not folder.is_dir():
            raise ClbenchError(f"folder of scene sources not found: {folder}")
        self.folder, self.split, self.count, self.size = folder, split, count, size
        self._index = {f"{split}-{i:03d}": i for i in range(count)}
        self._scene = lru_cache(maxsize=512)(self._compose)

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
        return self._scene(source_id).mask

    def digest(self) -> str:
        code = code_digest(*(Path(__file__).with_name(name) for name in ("images.py", "scenes.py")))
        return hash_value([tree_digest(self.folder), self.split, self.count, self.size, code])

    @cached_property
    def _pool(self):
        from clbench.scenes import load_pool

        return load_pool(self.folder, self.split)

    def _compose(self, source_id: str) -> Scene:
        from clbench.scenes import compose, draw_spec

        if source_id not in self._index:
            raise ClbenchError(f"unknown source '{source_id}'.{suggestion(source_id, self._index)}")
        rng = np.random.default_rng(seed_from("scene", self.split, self._index[source_id]))
        return compose(draw_spec(self._pool, rng), self._pool, self.size)

    def _describe(self, source_id: str) -> Source:
        scene = self._scene(source_id)
        subject = self._pool.subjects[scene.spec.placements[0].subject].name if scene.spec.placements else ""
        background = self._pool.backgrounds[scene.spec.background].name
        return Source(
            source_id, hash_pixels(scene.image), f"see {self.folder.name}/sources.csv", scene.caption,
            subject, background, self.split,
        )  # fmt: skip


class FolderSources:
    """Pictures of any shape in one folder; the id is the file stem, the largest centred square is used."""

    def __init__(self, folder: Path, count: int | None, size: int, licence: str) -> None:
        files = pictures_in(folder)
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

    def digest(self) -> str:
        return hash_value([[s.id, s.sha256] for s in self.sources] + [["size", self.size]])

    def _square(self, source_id: str) -> np.ndarray:
        return reduce_to(centre_square(read_rgb(self.files[source_id])), self.size)
