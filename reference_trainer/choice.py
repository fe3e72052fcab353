"""Which effects a stage is trained on, and whose teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clbench.adapter_prompts import require_instruction
from clbench.adapters import describe_adapter
from clbench.hashing import file_digest
from clbench.notices import say
from clbench.registry import ClbenchError
from clbench.types import Effect
from clbench.world import World
from reference_trainer import processes
from reference_trainer.checkpoint import read_json


def choose_effects(world: World, effects: Sequence[str] | None) -> list[Effect]:
    """The named effects in the given order, or the collection pool; ClbenchError for an unknown or doubled name."""
    if effects is None:
        return [effect for effect in world.effects.values() if effect.pool == "collection"]
    doubled = {name for name in effects if list(effects).count(name) > 1}
    if doubled:
        raise ClbenchError(f"effect '{min(doubled)}' is named twice")
    if not effects:
        raise ClbenchError("no effect is named")
    return [world.effect(name) for name in effects]


def teacher_files(world: World, effects: Sequence[Effect], folder: Path) -> dict[str, Path]:
    """Effect id -> teacher adapter: a finished one in `folder`, else the world's, which is used at weight 1.

    ClbenchError for one of the world's to which [teachers.weights] gives another weight, and for a file in `folder` whose
    training has begun and not ended: of a killed --fresh it would be the old teacher among new ones. A file that somebody put
    there has no training, and is taken as it is.
    """
    found: dict[str, Path] = {}
    for effect in effects:
        fresh = folder / f"{effect.id}.safetensors"
        path = fresh if fresh.is_file() else world.teacher_path(effect.id)
        if path is not None and path != fresh and (weight := world.effect_weight(effect.id)) != 1.0:
            raise ClbenchError(
                f"{world.file} gives the teacher of '{effect.id}' the weight {weight}; teachers are distilled at weight 1 only"
            )
        if path is not None and path == fresh:
            _require_whole(path, folder / "work" / effect.id)
        if path is not None:
            found[effect.id] = path
    return found


def _require_whole(teacher: Path, work: Path) -> None:
    """ClbenchError unless `teacher` is what the training in `work` ended with, or there is no such training."""
    if not work.is_dir():
        return
    mark = work / "complete.json"
    if not mark.is_file():
        raise ClbenchError(
            f"{teacher} is no finished teacher: its training in {work} has begun and not ended; finish it by "
            f"`clbench train --stage teachers --effects {teacher.stem}`, or move {work} away to take the file as it is"
        )
    if read_json(mark).get("sha256") != file_digest(teacher):
        raise ClbenchError(
            f"{teacher} is not the file that its training in {work} ended with; move {work} away to take the file as it is, or "
            "train the teacher anew with --fresh"
        )


def gauged_teachers(world: World, effects: Sequence[Effect], folder: Path) -> dict[str, Path]:
    """`teacher_files` of effects that nothing but gauges looks at: one that cannot be used is said and is a gauge less."""
    found: dict[str, Path] = {}
    reasons: list[str] = []
    for effect in effects:
        try:
            teacher = teacher_files(world, [effect], folder)
            for path in teacher.values():
                require_instruction(describe_adapter(path), effect)
        except ClbenchError as error:
            reasons.append(str(error))
            continue
        found |= teacher
    if reasons and processes.first():
        say(f"{len(reasons)} of the old effects have no gauge, the first because {reasons[0]}", "yellow")
    return found


def tell_preferred(world: World, teachers: Mapping[str, Path], folder: Path) -> None:
    """Say which teachers of an earlier stage in `folder` are used although the world has others for their effects."""
    other = [name for name, path in teachers.items() if path.parent == folder and _has_another(world, name, path)]
    if other and processes.first():
        some = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
        say(f"of {len(other)} effects ({some}) the teachers are those in {folder}, not the world's", "yellow")


def _has_another(world: World, effect: str, path: Path) -> bool:
    """Whether the world has a file of other content for the effect that `path` teaches; a missing one is none."""
    try:
        named = world.teacher_path(effect)
    except ClbenchError:
        return False
    return named is not None and file_digest(named) != file_digest(path)


def taught_or_all(world: World, effects: Sequence[Effect], out: Path) -> list[Effect]:
    """The effects that have a teacher, which the collection that a joint LoRA is compared with knows; all where none has one.

    A teacher that the world file names counts, whether or not its file is there: nothing here reads it.
    """
    trained = {effect.id for effect in effects if (out / "teachers" / f"{effect.id}.safetensors").is_file()}
    known = trained | set(world.table.teachers.files)
    taught = {effect.id for effect in effects if effect.id in known or world.teacher_path(effect.id) is not None}
    return [effect for effect in effects if not taught or effect.id in taught]


def new_effects(world: World, effects: Sequence[str] | None, known: Sequence[str], adapter: Path, folder: Path) -> list[Effect]:
    """The named effects, or those of the extension pool that have a teacher; none may be `known`, those of `adapter`."""
    if effects is None:
        pool = [e for e in world.effects.values() if e.pool == "extension" and e.id not in known]
        taught = teacher_files(world, pool, folder)
        if not taught:
            raise ClbenchError("no effect of pool 'extension' has a teacher: name the new effects by --effects")
        return [effect for effect in pool if effect.id in taught]
    for name in effects:
        if name in known:
            raise ClbenchError(f"effect '{name}' is in {adapter} already: name new effects only")
    return choose_effects(world, effects)
