"""Settings of tiny trainings on the mini world, and what their tests do with recipes."""

from __future__ import annotations

import pytest

from reference_trainer.recipe import Recipe
from reference_trainer.train import run

HABITS = {"checkpoint_every": 2, "sheet_every": 4, "sheet_rows": 2, "tensorboard": False}
STUDENT = {
    "lora": {"rank": 4, "alpha": 8}, "updates": 4, "batch": 4, "steps": 2, "fake_updates": 2, "general_sources": 4,
    "lr": 2e-3, "fake_lr": 2e-3, "warmup": 0, "habits": HABITS,
}  # fmt: skip


def mini_recipe(pairs, pictures) -> Recipe:
    """All stages in a few updates, on pairs and pictures of two folders."""
    teachers = {"lora": {"rank": 2, "alpha": 4}, "updates": 4, "batch": 2, "folder": str(pairs), "habits": HABITS}
    collection = STUDENT | {"pictures": str(pictures), "effect_sources": 2, "ema": 0.5, "warm_start": 1}
    return Recipe.model_validate(
        {
            "teachers": teachers,
            "joint": teachers,
            "accelerator": STUDENT | {"pictures": str(pictures)},
            "collection": collection,
            "extension": collection,
        }
    )


def changed(recipe: Recipe, stage: str, **settings) -> Recipe:
    """The recipe with these settings of a stage, checked as a file's are: a copy would hold a list where recipes hold a tuple."""
    table = getattr(recipe, stage)
    given = {name: getattr(table, name) for name in table.model_fields_set}
    return recipe.model_copy(update={stage: type(table).model_validate(given | settings)})


class Stop(Exception):
    pass


def interrupted(stage, recipe, world, out, after, effects=None, extend=None):
    """Run until `after` updates were reported, then be killed."""
    what = "extension" if extend else stage[:7]

    def report(progress):
        if progress.what.startswith(what) and progress.done >= after:
            raise Stop

    with pytest.raises(Stop):
        run(stage, recipe, world, effects, out, report=report, extend=extend)
