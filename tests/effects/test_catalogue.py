"""The shipped catalogue keeps its promises, and a broken catalogue is refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clbench.effects import OPERATORS, load_effects
from clbench.registry import ClbenchError
from clbench.types import Effect

GOOD = """
[[effect]]
id = "sepia"
name = "Sepia"
family = "colour"
instruction = "make it sepia"
caption = "a brown photograph"
trigger = "<bazok11>"
neighbours = ["invert"]
operator = "sepia"

[[effect]]
id = "invert"
name = "Negative"
family = "colour"
instruction = "make it a negative"
caption = "a negative"
trigger = "<dimul22>"
"""


def test_counts(effects: dict[str, Effect]) -> None:
    pools = [effect.pool for effect in effects.values()]
    assert pools.count("collection") == 50
    assert pools.count("extension") >= 12
    assert sum(effect.random for effect in effects.values()) >= 16
    assert sum(effect.scope != "image" for effect in effects.values()) >= 10
    collection = [effect for effect in effects.values() if effect.pool == "collection"]
    assert sum(effect.random for effect in collection) >= 14
    assert sum(effect.scope != "image" for effect in collection) >= 8


def test_every_operator_is_in_the_catalogue(effects: dict[str, Effect]) -> None:
    assert {effect.operator for effect in effects.values()} == set(OPERATORS)


def test_words(effects: dict[str, Effect]) -> None:
    for effect in effects.values():
        assert 2 <= len(effect.instruction.split()) <= 12, effect.id
        assert 8 <= len(effect.caption.split()) <= 14, effect.id
        assert re.fullmatch(r"<[a-z]{4,7}\d\d>", effect.trigger), effect.id
        assert 2 <= len(set(effect.neighbours)) <= 3, effect.id
        assert set(effect.neighbours) <= set(effects)
    for field in ("trigger", "instruction", "caption", "name"):
        assert len({getattr(effect, field) for effect in effects.values()}) == len(effects), field
    told = " ".join(f"{e.id} {e.name} {e.instruction} {e.caption}" for e in effects.values())
    assert not any(effect.trigger[1:-3] in told for effect in effects.values())


def read(text: str, folder: Path) -> dict[str, Effect]:
    path = folder / "some.toml"
    path.write_text(text, encoding="utf-8")
    return load_effects(path)


def test_good_file_with_defaults(tmp_path: Path) -> None:
    effects = read(GOOD, tmp_path)
    assert list(effects) == ["sepia", "invert"]
    assert effects["sepia"].neighbours == ("invert",)
    assert effects["invert"].operator is None and effects["invert"].scope == "image"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "Sepia"', 'nmae = "Sepia"', "effect 'sepia': unknown key 'nmae'. Did you mean 'name'?"),
        ('name = "Sepia"\n', "", "effect 'sepia': the field 'name' is missing"),
        ('id = "invert"', 'id = "sepia"', "effect 'sepia' is defined twice"),
        ('id = "sepia"', 'id = "Sepia!"', "an id has the form snake_case"),
        ("<dimul22>", "<bazok11>", "effect 'invert' has the trigger <bazok11> of effect 'sepia'"),
        ('["invert"]', '["inverd"]', "unknown neighbour 'inverd'. Did you mean 'invert'?"),
        ('["invert"]', '["sepia"]', "names itself as a neighbour"),
        ('["invert"]', '"invert"', "expected a list of effect ids"),
        ('operator = "sepia"', 'operator = "sepai"', "unknown operator 'sepai'. Did you mean 'sepia'?"),
        ('operator = "sepia"', 'scope = "subjekt"', "'scope' is 'subjekt'. Did you mean 'subject'?"),
        ('operator = "sepia"', "pool = 3", "'pool' is 3; expected text"),
        ('operator = "sepia"', 'random = "yes"', "'random' is 'yes'; expected true or false"),
        ('caption = "a negative"', 'caption = ""', "effect 'invert': 'caption' is ''; expected text"),
        ("[[effect]]", "[[efect]]", "unknown key 'efect' at the top. Did you mean 'effect'?"),
        ('id = "sepia"', 'id = "sepia', "is not valid TOML"),
    ],
)
def test_mistakes(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ClbenchError) as caught:
        read(GOOD.replace(old, new), tmp_path)
    assert told in str(caught.value)
    assert "some.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match="file not found"):
        load_effects(tmp_path / "none.toml")
    with pytest.raises(ClbenchError, match="found none"):
        read("", tmp_path)
