"""Names written in a world file, held against each other: effects, candidates, teachers. ClbenchError for a wrong one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from clbench.registry import ClbenchError, suggestion
from clbench.world_file import WorldTable


def check_names(file: Path, table: WorldTable, effects: Collection[str], pictures: bool = True) -> None:
    """Every effect id written anywhere in the world must be one of `effects`; every candidate's name must be its own.

    A weight is a teacher's, so its effect must have one. Relative paths start at the folder of `file`. Without `pictures` the
    folder of reference pictures is left alone.
    """
    for effect_id, where in _written(file, table, pictures).items():
        if effect_id not in effects:
            raise ClbenchError(f"{where}: unknown effect '{effect_id}'.{suggestion(effect_id, effects)}")
    taught = {*table.teachers.files, *(path.stem for path in _teachers_in_folder(file, table))}
    for effect_id, weight in table.teachers.weights.items():
        if effect_id not in taught:
            raise ClbenchError(f"{file}: [teachers.weights] gives '{effect_id}' the weight {weight}, but it has no teacher LoRA")
    _check_candidates(file, table, effects)


def _written(file: Path, table: WorldTable, pictures: bool) -> dict[str, str]:
    """Effect id -> where it is written."""
    written = dict.fromkeys(table.teachers.files, f"[teachers.files] in {file}")
    written |= dict.fromkeys(table.teachers.weights, f"[teachers.weights] in {file}")
    written |= {path.stem: str(path) for path in _teachers_in_folder(file, table)}
    if table.references is not None and pictures:
        folder = located(file, table.references.folder)
        if not folder.is_dir():
            raise ClbenchError(f"folder of reference pictures not found: {folder}")
        written |= {path.name: str(path) for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."}
    return written


def _teachers_in_folder(file: Path, table: WorldTable) -> list[Path]:
    if table.teachers.folder is None:
        return []
    return sorted(located(file, table.teachers.folder).glob("*.safetensors"))


def _check_candidates(file: Path, table: WorldTable, effects: Collection[str]) -> None:
    names = [candidate.name for candidate in table.candidates]
    for candidate in table.candidates:
        for effect_id in candidate.effects:
            if effect_id not in effects:
                raise ClbenchError(f"unknown effect '{effect_id}' in world {table.name}.{suggestion(effect_id, effects)}")
        if candidate.extends is not None and candidate.extends not in names:
            raise ClbenchError(f"{file}: candidate '{candidate.name}' extends '{candidate.extends}', which is no candidate")
    if len(set(names)) < len(names):
        raise ClbenchError(f"{file}: two candidates have the same name ({', '.join(names)})")


def located(file: Path, written: str) -> Path:
    """A path written in the world file `file`: absolute, or relative to its folder."""
    return (file.parent / Path(written).expanduser()).resolve()
