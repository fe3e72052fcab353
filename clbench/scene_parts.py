"""What scenes are made of, and of which split each part is: who can have seen it in training."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clbench.sources import group_of
from clbench.world import World


@dataclass(frozen=True, slots=True)
class Parts:
    """Subject and background of a scene by name, each with its split; no subject: ""."""

    subject: str
    subject_split: str
    background: str
    background_split: str

    def seen(self, split: str) -> tuple[bool, bool]:
        """Whether subject and background are of `split`; a photograph has no subject that could be strange."""
        return self.subject_split in ("", split), self.background_split == split


def scene_parts(world: World, sources: Iterable[str]) -> dict[str, Parts]:
    """The parts of those of `sources` that are scenes of a group, by id. ClbenchError if a picture of the pool is missing."""
    asked = sorted({source for source in sources if group_of(source)})
    if not asked or not world.has_scenes:
        return {}
    splits = _splits(world.path(world.table.sources.folder))
    return {source: _parts(world, source, splits) for source in asked}


def _parts(world: World, source: str, splits: dict[tuple[str, str], str]) -> Parts:
    spec, pool = world.scene(source).spec, world.scene_pool(source)
    background = pool.backgrounds[spec.background].name, splits["background", spec.background]
    if not spec.placements:
        return Parts("", "", *background)
    subject = spec.placements[0].subject
    return Parts(pool.subjects[subject].name, splits["subject", subject], *background)


def _splits(folder: Path) -> dict[tuple[str, str], str]:
    """(kind, file stem) -> split, of every picture that scenes are made of."""
    with (folder / "sources.csv").open(newline="", encoding="utf-8") as handle:
        return {(row["kind"], Path(row["file"]).stem): row["split"] for row in csv.DictReader(handle)}
