"""A world: backbone, effects, sources, teachers, an accelerator, candidates; read from one strict TOML file.

Every key is documented in ``suites/worlds/tiny/world.toml``. Nothing here loads weights.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clbench.hashing import code_digest, tree_digest
from clbench.images import reduce_to
from clbench.provenance import hash_value
from clbench.references import References
from clbench.registry import ClbenchError, suggestion
from clbench.sources import FolderSources, SceneSources, SourcePool
from clbench.tables import read_table
from clbench.types import Effect, Source, TruthKind
from clbench.world_adapters import NamedAdapters
from clbench.world_checks import check_names
from clbench.world_file import BackboneTable, EncodersTable, WorldTable

if TYPE_CHECKING:
    from clbench.scenes import Pool, Scene


class World(NamedAdapters):
    """Where questions are asked. Read-only; `hash` names its content.

    Without `pictures` neither sources nor reference pictures are looked for before they are asked for.
    """

    def __init__(self, file: Path, table: WorldTable, pictures: bool = True) -> None:
        self.file, self.root, self.table = file, file.parent, table
        self.name, self.resolution = table.name, table.resolution
        self.backbone: BackboneTable = table.backbone
        self.encoders: EncodersTable = table.encoders
        self.effects: dict[str, Effect] = self._load_effects()
        if pictures:
            self._pool  # noqa: B018  a folder that is not there is said now
        check_names(self.file, table, self.effects, pictures)

    @property
    def work_size(self) -> int:
        """Side in pixels at which sources are made and operators applied."""
        return self._pool.size

    @cached_property
    def pairs(self) -> References:
        """The user's reference pictures; none where the file names no folder of them."""
        table = self.table.references
        return References(self.path(table.folder) if table is not None else None, self.work_size, self.source_image)

    @property
    def sources(self) -> list[Source]:
        """All sources in a stable order; ids are unique."""
        return self._pool.sources

    @cached_property
    def _by_id(self) -> dict[str, Source]:
        return {source.id: source for source in self.sources}

    def source(self, source_id: str) -> Source:
        """The source of that id; ClbenchError with the nearest id otherwise."""
        if source_id in self._by_id:
            return self._by_id[source_id]
        grouped = self._pool.grouped(source_id)
        if grouped is None:
            raise ClbenchError(
                f"unknown source '{source_id}' in world {self.name}.{suggestion(source_id, self._by_id)}"
            )
        return grouped

    def source_group(self, name: str, count: int) -> list[str]:
        """Ids of the first `count` sources of a named group (`clbench.sources.GROUPS`), which are not among `sources`.

        ClbenchError for an unknown group, too large a count, or a world whose sources are plain pictures.
        """
        return self._pool.group(name, count)

    def source_image(self, source_id: str, size: int | None = None) -> np.ndarray:
        """uint8 ``(size, size, 3)``; `size` None means `work_size`, where operators are applied."""
        return reduce_to(self._pool.image(source_id), size or self.work_size)

    def mask(self, source_id: str) -> np.ndarray | None:
        """Subject mask, float32 ``(work_size, work_size)`` in [0, 1]; None where nobody knows."""
        return self._pool.mask(source_id)

    def scene(self, source_id: str) -> Scene:
        """The composed scene behind a source; ClbenchError in a world whose sources are plain pictures."""
        if not isinstance(self._pool, SceneSources):
            raise ClbenchError(
                f"world {self.name} has plain pictures as sources; composed scenes are needed here"
            )
        return self._pool.scene(source_id)

    @property
    def has_scenes(self) -> bool:
        """Whether sources are composed scenes, so that `scene` and `scene_pool` answer."""
        return isinstance(self._pool, SceneSources)

    def scene_pool(self, source_id: str) -> Pool:
        """The pictures that the scene behind a source was made of; the same error as `scene`."""
        self.scene(source_id)
        assert isinstance(self._pool, SceneSources)
        return self._pool.pool_of(source_id)

    def references(self, effect_id: str, source_id: str) -> np.ndarray | None:
        """The user's target picture for this source, uint8 ``(resolution, resolution, 3)``, or None (see `References`)."""
        return self.pairs.target(self.effect(effect_id).id, source_id, self.resolution)

    def truth_kind(self, effect_id: str) -> TruthKind | None:
        """How truth is known for this effect: operator, else reference pictures (of these alone), else the teacher."""
        if self.effect(effect_id).operator is not None:
            return "operator"
        if self.pairs.targets(effect_id):
            return "reference"
        return "teacher" if self.teacher_path(effect_id) is not None else None

    @property
    def known(self) -> list[str]:
        """Effects whose right answer is known without a teacher (operator, reference pairs), in the order of the catalogue."""
        return [effect_id for effect_id in self.effects if self.truth_kind(effect_id) in ("operator", "reference")]

    @property
    def backbone_path(self) -> Path | None:
        """The backbone's folder, or None when it is named on a hub."""
        return self.path(self.backbone.path) if self.backbone.path is not None else None

    @cached_property
    def hash_parts(self) -> dict[str, str]:
        """What `hash` is made of, for messages: part -> sha256 ("absent" for weights that are not there yet).

        Adapters are left out: they enter a run's cache key through the system card, so adding a candidate
        does not make other systems' pictures stale. Teachers count where they define truth.
        """
        elsewhere = {"path", "hub", "revision", "device", "dtype", "fast_products", "batch", "fold"}  # or no pixel's business
        settings = self.backbone.model_dump(exclude=elsewhere)
        if settings["few_sampler"] == "stochastic":  # worlds that do not name it keep the hash that they had before it came
            del settings["few_sampler"]
        by_teacher = [e for e in self.effects if self.truth_kind(e) == "teacher"]
        teachers = {e: self._teacher_digest(e, path) for e in by_teacher if (path := self.teacher_path(e)) is not None}
        return {
            "settings": hash_value([self.resolution, self.work_size, settings]),
            "backbone": self._backbone_digest(),
            "effects": hash_value([asdict(effect) for effect in self.effects.values()]),
            "operators": code_digest(Path(__file__).parent / "effects"),
            "sources": self._pool.digest(),
            "references": self.pairs.digest(),
            "teachers as truth": hash_value(teachers),
        }

    @cached_property
    def hash(self) -> str:
        """sha256 of everything in the world that can change a pixel of a source, a truth or an edit."""
        return hash_value(self.hash_parts)

    def _load_effects(self) -> dict[str, Effect]:
        effects: dict[str, Effect] = {}
        if self.table.effects.file is not None:
            from clbench.effects import load_effects

            effects.update(load_effects(self.path(self.table.effects.file)))
        for inline in self.table.effects.inline:
            if inline.id in effects:
                raise ClbenchError(f"{self.file}: effect '{inline.id}' is defined twice")
            effects[inline.id] = inline.effect()
            if inline.operator is not None:
                from clbench.effects import OPERATORS

                try:
                    OPERATORS.get(inline.operator)
                except ClbenchError as error:
                    raise ClbenchError(f"{self.file}: effect '{inline.id}': {error}") from None
        if not effects:
            raise ClbenchError(
                f"{self.file} defines no effect: give [effects] file = ... or [[effects.inline]]"
            )
        if self.table.effects.inline:  # the catalogue's own were checked among themselves
            # private only by name: the code of that room is part of every world's hash
            from clbench.effects.catalogue import _check_together

            _check_together(effects, self.file)
        return effects

    @cached_property
    def _pool(self) -> SourcePool:
        table = self.table.sources
        folder = self.path(table.folder)
        if table.kind == "scenes":
            return SceneSources(folder, table.split, table.count or 0, table.size or 2 * self.resolution)
        return FolderSources(folder, table.count, table.size or self.resolution, table.licence)

    def _teacher_digest(self, effect_id: str, path: Path) -> str:
        """The adapter's digest, and its weight only where it is not 1, so that older hashes hold."""
        from clbench.adapters import adapter_digest

        weight, digest = self.effect_weight(effect_id), adapter_digest(path)
        return digest if weight == 1.0 else f"{digest} at weight {weight}"

    def _backbone_digest(self) -> str:
        if self.backbone_path is not None:
            return tree_digest(self.backbone_path)
        from clbench.backbones import hub_commit

        return hub_commit(str(self.backbone.hub), self.backbone.revision)


def load_world(name: str | Path, pictures: bool = True) -> World:
    """A shipped world by name (``tiny``), or a TOML file, or a folder that holds a world.toml.

    `pictures` False is for questions about adapters alone, which nobody should need pictures for (see `World`).
    """
    file = find_world(name)
    return World(file, read_table(file, WorldTable), pictures)


def find_world(name: str | Path) -> Path:
    """The TOML file meant by `name`; ClbenchError with the nearest shipped name otherwise."""
    path = Path(name)
    shipped = shipped_worlds()
    if str(name) in shipped:
        return shipped[str(name)]
    if path.is_dir() and (path / "world.toml").is_file():
        return (path / "world.toml").resolve()
    if path.is_file():
        return path.resolve()
    raise ClbenchError(
        f"no world '{name}': neither a shipped world nor a TOML file.{suggestion(str(name), shipped)}"
    )


def shipped_folder() -> Path:
    """Shipped suites and worlds: ``suites/`` of a checkout, ``clbench/_suites`` of an installed package."""
    here = Path(__file__).resolve().parent
    packaged = here / "_suites"
    return packaged if packaged.is_dir() else here.parent / "suites"


def shipped_worlds() -> dict[str, Path]:
    """Name -> world.toml of every shipped world."""
    return {path.parent.name: path for path in sorted(shipped_folder().glob("worlds/*/world.toml"))}
