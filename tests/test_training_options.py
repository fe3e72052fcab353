"""Options of `clbench train`: one that would do nothing is refused in one sentence, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.registry import ClbenchError
from clbench.training import chosen_effects, train


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"stage": stage, "pairs": Path("pairs")}, f"--pairs does nothing with --stage {stage}")
          for stage in ("collection", "accelerator", "base", "encoders")],
        ({"stage": "collection", "old": ["sepia"]}, "give --extend, or leave --old out"),
        ({"extend": Path("adapter.safetensors")}, "--extend goes with --stage collection"),
        ({"effects": [""]}, "no effect is named"),
        ({"stage": "joint", "effects": [" , "]}, "no effect is named"),
        ({"stage": "collection", "extend": Path("adapter.safetensors"), "old": [""]}, "no effect is named"),
    ],
)  # fmt: skip
def test_an_option_that_does_nothing_is_refused(tmp_path, options, message):
    given = {"stage": None, "recipe": "smoke", "world_name": "tiny", "effects": (), "out": tmp_path / "out", "resume": True}
    with pytest.raises(ClbenchError, match=message):
        train(**given | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["accelerator", "base", "encoders"])
def test_effects_that_a_stage_does_not_read_are_said(tmp_path, stage, capsys):
    with pytest.raises(ClbenchError, match="nowhere"):  # the next thing that is looked at
        train(stage, "smoke", "nowhere", ["sepia"], tmp_path / "out", True)
    assert f"'{stage}' is trained for no effects of one's choice" in " ".join(capsys.readouterr().err.split())


def test_a_candidate_that_extends_another_brings_its_new_effects(mini_world_file):
    tables = (
        '\n[[candidates]]\nname = "first"\nfile = "first.safetensors"\neffects = ["sepia"]\n'
        '\n[[candidates]]\nname = "second"\nfile = "second.safetensors"\nextends = "first"\neffects = ["sepia", "upside_down"]\n'
        '\n[[candidates]]\nname = "third"\nfile = "third.safetensors"\nextends = "first"\neffects = ["sepia"]\n'
    )
    mini_world_file.write_text(mini_world_file.read_text() + tables)
    name = str(mini_world_file)
    assert chosen_effects(name, (), "second", extends=True) == ("upside_down",)
    assert chosen_effects(name, (), "second") == ("sepia", "upside_down")
    assert chosen_effects(name, (), "first", extends=True) == ("sepia",)
    with pytest.raises(ClbenchError, match="'third' names no effects beyond those of 'first'"):
        chosen_effects(name, (), "third", extends=True)
