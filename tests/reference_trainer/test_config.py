"""The recipe is strict, and the shipped recipes load."""

from __future__ import annotations

import pytest

from clbench.registry import ClbenchError
from reference_trainer.config import Recipe, load_recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[collection]\np_swich = 0.5", "unknown key 'p_swich' in .*Did you mean 'p_switch'"),
        ("[collection]\nrouting = 'batches'", "Did you mean 'batch'"),
        ("[collection.times]\nanchor = 'papre'", "Did you mean 'paper'"),
        ("[teachers]\nrank = 4", "unknown key 'rank'"),
        ("[accelerator]\nupdates = 5\nwarm_start = 6", "warm_start 6 is more than updates 5"),
        ("[joint]\nprompt = 'trigger'", "prompt"),
        ("[joint]\nsteps = 4", "unknown key 'steps'"),
        ("[acelerator]\n", "Did you mean 'accelerator'"),
    ],
)
def test_mistakes_name_the_key(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ClbenchError, match=message):
        load_recipe(path)


def test_defaults_are_a_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("")
    assert load_recipe(path) == Recipe()


@pytest.mark.parametrize("name", ["smoke", "tiny"])
def test_shipped_recipes(name):
    assert load_recipe(name).collection.p_switch == 0.5


def test_missing_recipe():
    with pytest.raises(ClbenchError, match=r"file not found: nowhere\.toml"):
        load_recipe("nowhere.toml")
