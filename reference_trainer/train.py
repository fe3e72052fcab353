"""The stages of training as `clbench train` calls them: base, encoders, teachers, accelerator, collection, joint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from clbench.registry import ClbenchError
from clbench.types import Effect
from clbench.world import World
from reference_trainer.accelerator import train_accelerator
from reference_trainer.collection import train_collection
from reference_trainer.config import Recipe
from reference_trainer.examples import check_pairs
from reference_trainer.joint import train_joint
from reference_trainer.loop import Progress
from reference_trainer.teacher import add_teacher, train_teacher
from reference_trainer.workshop import Workshop

Stage = Literal["base", "encoders", "teachers", "accelerator", "collection", "joint"]
STAGES: tuple[Stage, ...] = ("base", "encoders", "teachers", "accelerator", "collection", "joint")


def run(
    stage: Stage,
    recipe: Recipe,
    world: World,
    effects: Sequence[str] | None,
    out: Path,
    resume: bool = True,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Path]:
    """Train one stage into `out` and return what it made.

    base:        ``out/backbone``, a pipeline folder (and ``out/vae`` before it)
    encoders:    ``out/encoders/clip``, an open_clip folder
    teachers:    ``out/teachers/<effect id>.safetensors`` for each effect
    accelerator: ``out/accelerator.safetensors``
    collection:  ``out/collection.safetensors``, from the teachers in ``out/teachers``, else the world's
    joint:       ``out/joint.safetensors``, from the pairs of all effects; no teacher is needed

    `effects` None means every effect of the world's collection pool (for the collection: of those, the ones that
    have a teacher). `report` is called after every update. The same call finishes an interrupted one; with
    `resume` false it starts anew. Mistakes raise ClbenchError before long work.
    """
    chosen = choose_effects(world, effects)
    _check_writable(out)
    if stage in ("base", "encoders"):
        return _from_scenes(stage, recipe, world, out, resume, report)
    if stage == "teachers":
        return _teachers(recipe, world, chosen, out / "teachers", resume, report)
    if stage == "accelerator":
        for progress in train_accelerator(Workshop(world), recipe.accelerator, recipe.seed, out, resume):
            report(progress)
        return [out / "accelerator.safetensors"]
    if stage == "joint":
        return _joint(recipe, world, chosen, out, resume, report)
    if stage != "collection":
        raise ClbenchError(f"unknown stage '{stage}'; expected one of {', '.join(STAGES)}")
    teachers = teacher_files(world, chosen, out / "teachers")
    if effects is None:
        chosen = [effect for effect in chosen if effect.id in teachers]
    if not chosen:
        raise ClbenchError("there is no teacher to distil: run `clbench train --stage teachers` first")
    shop = Workshop(world)
    for progress in train_collection(shop, chosen, teachers, recipe.collection, recipe.seed, out, resume):
        report(progress)
    return [out / "collection.safetensors"]


def _from_scenes(
    stage: str, recipe: Recipe, world: World, out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    """What is trained from scenes alone, without a backbone: the base itself, and the metrics' CLIP."""
    from reference_trainer.encoders import train_clip
    from reference_trainer.pretrain import train_base

    table = world.table.sources
    if table.kind != "scenes":
        raise ClbenchError(f"stage '{stage}' needs composed scenes, but {world.file} has [sources] kind = '{table.kind}'")
    folder = world.path(table.folder)
    if stage == "base":
        if recipe.base.resolution != world.resolution:
            raise ClbenchError(
                f"the recipe's [base] resolution is {recipe.base.resolution}, but world {world.name} has {world.resolution}"
            )
        return [train_base(recipe.base, folder, list(world.effects.values()), out, resume, report)]
    known = [effect for effect in world.effects.values() if effect.operator is not None]
    return [train_clip(recipe.encoders, known, folder, world.resolution, out, resume, report)]


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
    """Effect id -> teacher adapter: a finished one in `folder`, else the world's."""
    found: dict[str, Path] = {}
    for effect in effects:
        fresh = folder / f"{effect.id}.safetensors"
        path = fresh if fresh.is_file() else world.teacher_path(effect.id)
        if path is not None:
            found[effect.id] = path
    return found


def _teachers(
    recipe: Recipe, world: World, effects: Sequence[Effect], out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    for effect in effects:
        check_pairs(world, effect, recipe.teachers.folder)
    shop = Workshop(world)
    backbone = shop.backbone(recipe.teachers.lora_forward, recipe.teachers.precision)
    add_teacher(backbone, recipe.teachers)
    for effect in effects:
        for progress in train_teacher(shop, backbone, effect, recipe.teachers, recipe.seed, out, resume):
            report(progress)
    return [out / f"{effect.id}.safetensors" for effect in effects]


def _joint(
    recipe: Recipe, world: World, effects: Sequence[Effect], out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    for effect in effects:
        check_pairs(world, effect, recipe.joint.folder)
    for progress in train_joint(Workshop(world), effects, recipe.joint, recipe.seed, out, resume):
        report(progress)
    return [out / "joint.safetensors"]


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClbenchError(f"cannot create the output folder {out}: {error.strerror}") from None
    if not os.access(out, os.W_OK):
        raise ClbenchError(f"the output folder {out} is read-only")
