"""The stages of training as `clbench train` calls them: base, encoders, teachers, accelerator, collection, joint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clbench.adapter_prompts import as_trained, prompt_kind
from clbench.lock import hold
from clbench.registry import ClbenchError
from clbench.types import Effect
from clbench.world import World
from reference_trainer import processes
from reference_trainer.accelerator import train_accelerator
from reference_trainer.ahead import check_size
from reference_trainer.checkpoint import forget
from reference_trainer.choice import (
    choose_effects,
    gauged_teachers,
    new_effects,
    taught_or_all,
    teacher_files,
    tell_preferred,
)
from reference_trainer.collection import read_start, train_collection
from reference_trainer.examples import check_pairs, check_sources, teacher_pairs
from reference_trainer.extension import Origin, budget, read_origin, train_extension
from reference_trainer.joint import train_joint
from reference_trainer.loop import Progress, telling
from reference_trainer.pairs_config import JointConfig, TeachersConfig
from reference_trainer.pretrain_config import with_seed
from reference_trainer.prompting import with_triggers
from reference_trainer.recipe import Recipe
from reference_trainer.stale import require_finished
from reference_trainer.starts import check_precision, check_sampling, require_words, tell_short_average
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
    extend: Extend | None = None,
    then: Sequence[Stage] = (),
) -> list[Path]:
    """Train one stage into `out` and return what it made.

    base:        ``out/backbone``, a pipeline folder (and ``out/vae`` before it)
    encoders:    ``out/encoders/clip``, an open_clip folder
    teachers:    ``out/teachers/<effect id>.safetensors`` for each effect
    accelerator: ``out/accelerator.safetensors``
    collection:  ``out/collection.safetensors``, from the teachers in ``out/teachers``, else the world's
    extension:   ``out/extension.safetensors``, stage collection with `extend`: on from an adapter, with further effects
    joint:       ``out/joint.safetensors``, from the pairs of all effects; no teacher is needed

    `effects` None means every effect of the world's collection pool (for the collection: of those, the ones that
    have a teacher; for the joint LoRA the same, or all of them where none has one; for an extension: the ones of the
    extension pool that have a teacher). `report` is called after every update. The same call finishes an interrupted one;
    with `resume` false it starts anew. `then` are stages that the caller makes anew behind the teachers: they are begun together,
    so that none of them passes for finished where the teachers are as far as it came. Mistakes raise ClbenchError before long
    work; so does another process that trains the same thing into `out`.
    """
    if extend is not None:
        if stage != "collection":
            raise ClbenchError(f"an adapter is extended by stage 'collection', not by '{stage}'")
        _check_writable(out)
        return _extension(recipe, world, effects, extend, out, resume, report)
    if then and stage != "teachers":
        raise ClbenchError(f"further stages are begun anew with stage 'teachers', not with '{stage}'")
    chosen = choose_effects(world, effects)
    _check_writable(out)
    if stage in ("base", "encoders"):
        return _from_scenes(stage, recipe, world, out, resume, report)
    if stage in STAGES:
        check_precision(world, getattr(recipe, stage), stage)
    if stage == "teachers":
        return _teachers(recipe, world, chosen, out, resume, report, then)
    if stage == "accelerator":
        return _accelerator(recipe, world, out, resume, report)
    if stage == "joint":
        return _joint(recipe, world, chosen if effects is not None else taught_or_all(world, chosen, out), out, resume, report)
    if stage == "collection":
        return _collection(recipe, world, chosen, effects is not None, out, resume, report)
    raise ClbenchError(f"unknown stage '{stage}'; expected one of {', '.join(STAGES)}")


def _accelerator(
    recipe: Recipe, world: World, out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    check_sampling(world, recipe.accelerator, "accelerator")
    tell_short_average(recipe.accelerator, "accelerator")
    with _alone(out / "accelerator"), telling(out / "accelerator", resume):
        check_sources(world, recipe.accelerator.pictures, "accelerator")
        shop = Workshop(world, _forgetting(out / "accelerator", resume))
        for progress in train_accelerator(shop, recipe.accelerator, recipe.seed, out, resume):
            report(progress)
    return [out / "accelerator.safetensors"]


def _collection(
    recipe: Recipe, world: World, chosen: Sequence[Effect], named: bool, out: Path, resume: bool,
    report: Callable[[Progress], None],
) -> list[Path]:  # fmt: skip
    """Of effects that nobody `named`, those that have a teacher."""
    check_sampling(world, recipe.collection, "collection")
    tell_short_average(recipe.collection, "collection")
    teachers = teacher_files(world, chosen, out / "teachers")
    effects = [effect for effect in chosen if named or effect.id in teachers]
    if not effects:
        raise ClbenchError("there is no teacher to distil: run `clbench train --stage teachers` first")
    tell_preferred(world, teachers, out / "teachers")
    effects = with_triggers(world, effects, recipe.collection.triggers)
    with _alone(out / "collection"), telling(out / "collection", resume):
        check_sources(world, recipe.collection.pictures, "collection")
        if (start := read_start(recipe.collection, effects, out / "collection.safetensors")) is not None:
            check_size(world, start, recipe.collection.lora, "collection")
        shop = Workshop(world, _forgetting(out / "collection", resume))
        for progress in train_collection(shop, effects, teachers, recipe.collection, recipe.seed, out, resume):
            report(progress)
    return [out / "collection.safetensors"]


def _check_pairs(world: World, effects: Sequence[Effect], config: TeachersConfig | JointConfig) -> None:
    """ClbenchError for the first effect without sound pairs; those of a folder are all opened."""
    for effect in effects:
        check_pairs(world, effect, config.folder)
        if config.folder is not None:
            teacher_pairs(world, effect, config.pairs, config.folder)


@contextmanager
def _alone(*work: Path) -> Iterator[None]:
    """Inside, no other training writes to the folders `work`; of several processes the first holds them for all."""
    if not processes.first():
        yield
        return
    with hold(*work):
        yield


def _forgetting(work: Path, resume: bool) -> Callable[[], None]:
    """What a stage does before outputs are made for it: with `resume` false the training in `work` is begun anew.

    Killed while they are made, it would otherwise be found finished, with the old adapter. A mistake said earlier loses nothing.
    """

    def begin() -> None:
        if not resume and processes.first():
            forget(work)

    return begin


@dataclass(frozen=True)
class Extend:
    """The collection adapter to go on from; `old` are its effects where its file does not name them."""

    adapter: Path
    old: Sequence[str] | None = None


def _extension(
    recipe: Recipe, world: World, effects: Sequence[str] | None, extend: Extend, out: Path, resume: bool,
    report: Callable[[Progress], None],
) -> list[Path]:  # fmt: skip
    made = out / "extension.safetensors"
    if extend.adapter.resolve() == made.resolve():
        raise ClbenchError(f"{made} would be overwritten by its own extension: use another --out")
    check_sampling(world, recipe.extension, "extension")
    check_precision(world, recipe.extension, "extension")
    origin = read_origin(extend.adapter, extend.old, recipe.extension)
    require_finished(extend.adapter, made)
    old, home = _old_effects(world, origin), out / "teachers"
    added = new_effects(world, effects, origin.effects, origin.info.path, home)
    new = with_triggers(world, added, recipe.extension.triggers, old)
    find = teacher_files if recipe.extension.replay > 0 else gauged_teachers
    teachers = find(world, old, home) | teacher_files(world, new, home)
    tell_preferred(world, teachers, home)
    config = budget(recipe.extension, len(new))
    tell_short_average(config, "extension")
    with _alone(made.with_suffix("")), telling(made.with_suffix(""), resume):
        check_sources(world, recipe.extension.pictures, "extension")
        check_size(world, origin.info, recipe.extension.lora, "extension")
        shop = Workshop(world, _forgetting(made.with_suffix(""), resume))
        for progress in train_extension(shop, origin, old, new, teachers, config, recipe.seed, out, resume):
            report(progress)
    return [made]


def _old_effects(world: World, origin: Origin) -> list[Effect]:
    """The effects of the adapter in its own words; ClbenchError for one that the world lacks."""
    for name in origin.info.header.get("clbench.effects", "").split():
        if name not in world.effects:
            raise ClbenchError(f"{origin.info.path} knows '{name}', which {world.file} does not define: add it to [effects]")
    known = {name: world.effect(name) for name in origin.effects}
    if prompt_kind(origin.info) == "instruction":  # which the teachers are asked in too, and those know the world's alone
        require_words(origin.info, list(known.values()), "instruction")
        return list(known.values())
    return list(as_trained(origin.info, known).values())


def _from_scenes(
    stage: str, recipe: Recipe, world: World, out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    """What is trained from scenes alone, without a backbone: the base itself, and the metrics' CLIP."""
    from reference_trainer.encoders import train_clip
    from reference_trainer.pretrain import train_base

    if processes.count() > 1:
        raise ClbenchError(f"stage '{stage}' trains in one process: start it without a launcher")
    table = world.table.sources
    if table.kind != "scenes":
        raise ClbenchError(f"stage '{stage}' needs composed scenes, but {world.file} has [sources] kind = '{table.kind}'")
    folder = world.path(table.folder)
    if stage == "base":
        if recipe.base.resolution != world.resolution:
            raise ClbenchError(
                f"the recipe's [base] resolution is {recipe.base.resolution}, but world {world.name} has {world.resolution}"
            )
        with _alone(out / "vae-training", out / "edits-training"):
            base = recipe.base.seeded(recipe.seed)
            return [train_base(base, folder, list(world.effects.values()), out, resume, report)]
    known = [effect for effect in world.effects.values() if effect.operator is not None]
    with _alone(out / "encoders" / "training"), telling(out / "encoders" / "training", resume):
        return [train_clip(with_seed(recipe.encoders, recipe.seed), known, folder, world.resolution, out, resume, report)]


def _teachers(
    recipe: Recipe, world: World, effects: Sequence[Effect], out: Path, resume: bool, report: Callable[[Progress], None],
    then: Sequence[Stage],
) -> list[Path]:  # fmt: skip
    home = out / "teachers"
    _check_pairs(world, effects, recipe.teachers)
    work = [home / "work" / effect.id for effect in effects]
    with _alone(*work):
        if not resume and processes.first():  # all at once, so that a killed run is finished without --fresh
            _begin_anew(work, [out / stage for stage in then])
        processes.wait()
        shop = Workshop(world)
        config = recipe.teachers
        backbone = shop.backbone(config.lora_forward, config.precision, config.rows, config.checkpoint_blocks)
        add_teacher(backbone, config)
        for effect, folder in zip(effects, work, strict=True):
            with telling(folder):
                for progress in train_teacher(shop, backbone, effect, config, recipe.seed, home):
                    report(progress)
    return [home / f"{effect.id}.safetensors" for effect in effects]


def _begin_anew(work: Sequence[Path], later: Sequence[Path]) -> None:
    """Begin the trainings in `work`, which this process holds, and in `later` anew.

    ClbenchError where another process trains in one of `later`; then none is begun.
    """
    with hold(*later):
        for folder in (*work, *later):
            forget(folder)


def _joint(
    recipe: Recipe, world: World, effects: Sequence[Effect], out: Path, resume: bool, report: Callable[[Progress], None]
) -> list[Path]:
    _check_pairs(world, effects, recipe.joint)
    with _alone(out / "joint"), telling(out / "joint", resume):
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
