"""Triggers: made up without repeats, chosen by planted cosines, compared in each text encoder."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from clbench.cli import app
from clbench.metrics.gram import Separation, joined, least_coherent, separation
from clbench.registry import ClbenchError
from clbench.triggers import DRAWS, choose_triggers, chosen_for, compare_triggers, made_up
from clbench.types import Effect

EFFECTS = [Effect(name, name, "colour", name, f"caption {name}", f"<{name}00>") for name in ("a", "b", "c")]


def planted(directions):
    """An embedding in which a prompt is the direction of its trigger."""
    return lambda prompts: {"pooled": np.array([directions[prompt.split()[0]] for prompt in prompts], dtype=float)}


def hashed(prompts):
    """A random direction for each prompt in two spaces, always the same one."""
    rng = [np.random.default_rng(list(prompt.encode())) for prompt in prompts]
    return {"pooled": np.stack([r.normal(size=24) for r in rng]), "tokens": np.stack([r.normal(size=40) for r in rng])}


def test_made_up_triggers_are_new_and_repeat_for_one_seed():
    one, other = (made_up(40, np.random.default_rng(3), ["<bacac00>"]) for _ in range(2))
    assert one == other and len(set(one)) == 40 and "<bacac00>" not in one
    assert all(len(trigger) == 9 and trigger[0] == "<" and trigger[-1] == ">" for trigger in one)


def test_the_orthogonal_one_is_chosen():
    embed = planted({"<x>": [1, 0, 0], "<x2>": [1, 0.1, 0], "<y>": [0, 2, 0], "<xy>": [1, 1, 0], "<z>": [0, 0, -1]})
    assert choose_triggers(embed, ["one", "two", "three"], [["<x>", "<y>"], ["<x2>", "<xy>", "<y>"], ["<xy>", "<z>"]]) == [
        "<x>", "<y>", "<z>",
    ]  # fmt: skip
    with pytest.raises(ClbenchError, match="no trigger to choose for the caption 'one'"):
        choose_triggers(embed, ["one"], [[]])


def test_joined_cosines_are_means_of_both_spaces():
    spaces = {"pooled": np.array([[3.0, 0.0], [1.0, 1.0]]), "tokens": np.array([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])}
    units = joined(spaces)
    assert units @ units.T == pytest.approx(np.array([[1, (0.5**0.5 + 1) / 2], [(0.5**0.5 + 1) / 2, 1]]))
    assert least_coherent(units, units[:1]) == 1 and least_coherent(units, np.zeros((0, 5))) == 0


def test_separation_of_known_vectors():
    found = separation(np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]))
    assert (found.mean, found.largest) == pytest.approx((2 * 0.5**0.5 / 3, 0.5**0.5))
    mean = Separation.mean_of([Separation(0.0, 0.2, 1.0), Separation(1.0, 0.4, 0.0)])
    assert (mean.mean, mean.largest, mean.largest_centred) == pytest.approx((0.5, 0.3, 0.5))


def test_chosen_prompts_are_more_orthogonal_than_random_ones():
    effects = [Effect(str(i), str(i), "colour", str(i), f"caption {i}", f"<own{i}>") for i in range(12)]
    chosen = chosen_for(effects, hashed)
    assert len(set(chosen)) == 12 and chosen == chosen_for(effects, hashed)
    prompts = lambda triggers: [f"{t} {e.caption}" for t, e in zip(triggers, effects, strict=True)]  # noqa: E731
    rng = np.random.default_rng(0)
    random = [separation(joined(hashed(prompts(made_up(12, rng))))).largest for _ in range(5)]
    assert separation(joined(hashed(prompts(chosen)))).largest < np.mean(random)


def test_every_kind_stands_in_every_encoder():
    found = compare_triggers(EFFECTS, hashed, ["<p>", "<q>", "<r>"])
    kinds = ["captions", *(f"{kind} triggers" for kind in ("own", "random", "chosen")),
             *(f"{kind} trigger + caption" for kind in ("own", "random", "chosen"))]  # fmt: skip
    assert [(each.encoder, each.prompts) for each in found] == [(e, k) for e in ("pooled", "tokens") for k in kinds]
    assert {each.draws for each in found if "random" in each.prompts} == {DRAWS}
    own = next(each for each in found if each.prompts == "own trigger + caption" and each.encoder == "tokens")
    assert own.found == separation(hashed([effect.student_prompt for effect in EFFECTS])["tokens"])


def test_the_command_shows_numbers_and_words(mini_world_file):
    result = CliRunner().invoke(app, ["list", "triggers", "--world", str(mini_world_file)])
    assert result.exit_code == 0, result.output
    assert "random trigger + caption" in result.output and "own trigger" in result.output and "<qx1>" in result.output


def test_triggers_are_chosen_beside_effects_that_keep_theirs():
    kept = [Effect("k", "k", "colour", "k", "caption k", "<own00>")]
    alone, beside = chosen_for(EFFECTS, hashed), chosen_for(EFFECTS, hashed, kept)
    assert len(beside) == len(alone) == 3 and "<own00>" not in beside
