"""What stages accelerator and collection refuse, said before the teachers are trained and before a backbone is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clbench.adapters import AdapterInfo
from clbench.attaching import base_shapes
from clbench.backbones import backbone_folder
from clbench.registry import ClbenchError
from clbench.types import Effect
from clbench.world import World
from reference_trainer.choice import choose_effects
from reference_trainer.collection import read_start
from reference_trainer.config import LoraTable
from reference_trainer.examples import check_sources
from reference_trainer.lora_modules import Modules, adapted
from reference_trainer.prompting import with_triggers
from reference_trainer.recipe import Recipe
from reference_trainer.starts import check_precision, check_sampling, require_rank_room, require_size
from reference_trainer.student_config import StudentConfig


def check_ahead(recipe: Recipe, world: World, effects: Sequence[str] | None, out: Path) -> None:
    """ClbenchError where accelerator or collection, trained after the teachers, would stop at what is wrong already."""
    chosen = choose_effects(world, effects)
    for stage, config in (("accelerator", recipe.accelerator), ("collection", recipe.collection)):
        check_sampling(world, config, stage, tell=False)
        check_precision(world, config, stage)
        check_sources(world, config.pictures, stage)
    if recipe.collection.warm_start_from == "merged":
        _check_merge(recipe, world)
    elif recipe.collection.start_file is not None:
        _check_start(recipe, world, chosen, recipe.collection.start_file, out)


def _check_merge(recipe: Recipe, world: World) -> None:
    """ClbenchError unless the teachers that the recipe makes can be merged into its collection."""
    teachers, collection = recipe.teachers.lora.modules, recipe.collection.lora
    if teachers != collection.modules:
        raise ClbenchError(
            f"[collection] lora.modules = '{collection.modules}', but it starts from merged teachers, and [teachers] has "
            f"lora.modules = '{teachers}': make them equal"
        )
    if shapes := _adapted_shapes(world, collection.modules):
        require_rank_room(collection, shapes, "collection")


def _check_start(recipe: Recipe, world: World, effects: Sequence[Effect], start: Path, out: Path) -> None:
    """ClbenchError for an adapter to start from that does not fit; the accelerator still to be made is judged by its recipe."""
    config = recipe.collection
    if start.resolve() == (out / "accelerator.safetensors").resolve():
        _check_equal(_form(recipe.accelerator), _form(config))
        return
    found = read_start(config, with_triggers(world, effects, config.triggers), out / "collection.safetensors")
    if found is not None:
        check_size(world, found, config.lora, "collection")


def check_size(world: World, start: AdapterInfo, lora: LoraTable, stage: str) -> None:
    """ClbenchError unless the adapter that a stage starts from has rank, alpha and modules of `lora`.

    A base whose files are no safetensors is not looked into: there it is said when the backbone is open.
    """
    if shapes := _adapted_shapes(world, lora.modules):
        require_size(start, lora, list(shapes), stage)


def _form(config: StudentConfig) -> dict[str, float | str]:
    """What an adapter and the student that starts from it must have in common, by the keys of the recipe."""
    lora = config.lora
    size = {"lora.rank": lora.rank, "lora.alpha": lora.alpha_value, "lora.modules": f"'{lora.modules}'"}
    return {"steps": config.steps, "shift": config.shift, **size}


def _check_equal(made: Mapping[str, float | str], wanted: Mapping[str, float | str]) -> None:
    """ClbenchError for the first key in which the accelerator that the recipe makes is no start for its collection."""
    for key, value in wanted.items():
        if made[key] != value:
            raise ClbenchError(
                f"[collection] {key} = {value}, but it starts from the accelerator, and [accelerator] has {key} = {made[key]}: "
                "make them equal"
            )


def _adapted_shapes(world: World, modules: Modules) -> dict[str, tuple[int, ...]]:
    """The base's modules that carry an adapter, from its files' headers; empty where those are no safetensors files."""
    shapes = base_shapes(backbone_folder(world) / "transformer")
    linear = (name for name, shape in shapes.items() if len(shape) == 2)
    return {name: shapes[name] for name in adapted(linear, modules)}
