"""The recipe: one strict TOML file for all stages of `clbench train`, which may be based on another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from clbench.registry import ClbenchError, suggestion
from clbench.tables import Table, read_toml, validated
from reference_trainer.collection_config import CollectionConfig, ExtensionConfig
from reference_trainer.idle import idle, written
from reference_trainer.pairs_config import JointConfig, TeachersConfig
from reference_trainer.pretrain_config import BaseConfig, EncodersConfig
from reference_trainer.student_config import AcceleratorConfig

RECIPES = Path(__file__).parent / "recipes"


class Recipe(Table):
    """The whole file; it may be `based_on` another recipe, of which it changes what it names."""

    based_on: str | None = Field(default=None, description="a shipped recipe, or a file relative to this one")
    seed: int = Field(default=0, description="of every stage; in [base.vae], [base.edits] and [encoders] unless they name one")
    base: BaseConfig = BaseConfig()
    encoders: EncodersConfig = EncodersConfig()
    teachers: TeachersConfig = TeachersConfig()
    accelerator: AcceleratorConfig = AcceleratorConfig()
    collection: CollectionConfig = CollectionConfig()
    extension: ExtensionConfig = ExtensionConfig()
    joint: JointConfig = JointConfig()


def with_pairs(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with teachers and joint LoRA trained on the pairs of a folder."""
    tables = {"teachers": recipe.teachers, "joint": recipe.joint}
    return recipe.model_copy(update={k: t.model_copy(update={"folder": str(folder)}) for k, t in tables.items()})


def load_recipe(name: str | Path) -> Recipe:
    """A shipped recipe by name (``tiny``, ``smoke``) or a TOML file; ClbenchError naming file, line and key."""
    file = _find(name, Path())
    if not file.is_file():
        shipped = [path.stem for path in RECIPES.glob("*.toml")]
        raise ClbenchError(f"no recipe '{name}': neither a shipped recipe nor a TOML file.{suggestion(str(name), shipped)}")
    return _read(file, ())[1]


def _find(name: str | Path, folder: Path) -> Path:
    """The shipped recipe of that name, else the file `name` below `folder`."""
    shipped = RECIPES / f"{name}.toml"
    return shipped if shipped.is_file() else folder / name


def _read(file: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], Recipe]:
    """The recipe of `file`: its keys over those of the recipe that it is based on; `above` are the files that led here.

    ClbenchError for a base that is missing, not valid, or leads back here, and for what would do nothing.
    """
    own, _ = read_toml(file)
    base, above, keys = own.get("based_on"), (*above, file.resolve()), own
    if isinstance(base, str):
        found = _find(base, file.parent)
        if not found.is_file():
            raise ClbenchError(f"{file}: based_on names '{base}', which is neither a shipped recipe nor a file beside it")
        if found.resolve() in above:
            raise ClbenchError(f"{file}: based_on '{base}' leads back to a recipe that is based on this one")
        keys = _laid_over(_read(found, above)[0], own)
    recipe = validated(file, keys, Recipe)
    _require_effect(file, own, recipe)
    return keys, recipe


def _require_effect(file: Path, own: Mapping[str, Any], recipe: Recipe) -> None:
    """ClbenchError for an option that `file` names itself and that does nothing in its `recipe`.

    One that comes from the recipe below may be idle: nothing in TOML takes it away again.
    """
    for stage in ("accelerator", "collection", "extension"):
        for name, why in idle(getattr(recipe, stage)):
            if written(own.get(stage, {}), name):
                raise ClbenchError(f"{file}: key '{name}' in [{stage}] does nothing {why}: leave it out")


def _laid_over(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested tables as one: tables that both have are joined, other values are those of `second`."""
    both = {k: _laid_over(first[k], v) for k, v in second.items() if isinstance(v, dict) and isinstance(first.get(k), dict)}
    return {**first, **second, **both}
