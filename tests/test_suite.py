"""Suite files and their cases."""

from __future__ import annotations

import pytest

from clbench.registry import ClbenchError
from clbench.suite import load_suite, shipped_suites
from clbench.types import Case

SUITE = """
name = "mine"
question = "Does it work?"
effects = ["upside_down", "sepia"]
sources = 3
seeds = 2
systems = ["teacher"]
controls = ["identity"]
metrics = ["perceptual"]
"""


@pytest.fixture
def suite_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(SUITE)
    return file


def test_cases_are_effects_x_sources_x_seeds(suite_file, mini_world):
    suite = load_suite(suite_file)
    cases = suite.cases(mini_world)
    assert len(cases) == len(set(cases)) == 2 * 3 * 2
    assert cases[0] == Case("upside_down", "p0", 0)
    assert [c.id for c in suite.cases(mini_world, ["sepia"], limit=1)] == ["sepia/p0/s0", "sepia/p0/s1"]


def test_steps_become_part_of_the_case(suite_file, mini_world):
    suite_file.write_text(SUITE + "steps = [1, 4]\n")
    ids = [c.id for c in load_suite(suite_file).cases(mini_world, ["sepia"], limit=1)]
    assert ids == ["sepia/p0/s0-n1", "sepia/p0/s0-n4", "sepia/p0/s1-n1", "sepia/p0/s1-n4"]


def test_taught_and_all(suite_file, mini_world, tmp_path):
    (tmp_path / "teachers" / "upside_down.safetensors").unlink()
    for asked, expected in (("taught", ["sepia"]), ("all", ["sepia", "upside_down"])):
        suite_file.write_text(SUITE.replace('["upside_down", "sepia"]', f'"{asked}"'))
        assert load_suite(suite_file).effects(mini_world) == expected
    (tmp_path / "teachers" / "sepia.safetensors").unlink()
    suite_file.write_text(SUITE.replace('["upside_down", "sepia"]', '"taught"'))
    with pytest.raises(ClbenchError, match="has no teacher adapter"):
        load_suite(suite_file).effects(mini_world)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("systems", "sytems", "line 7: unknown key 'sytems' in the top level. Did you mean 'systems'"),
        ('"perceptual"', '"perceptul"', "unknown metric 'perceptul'. Did you mean 'perceptual'"),
        ('"teacher"', '"teechr"', "unknown system 'teechr'. Did you mean 'teacher'"),
        ('metrics = ["perceptual"]', "metrics = []", "at least one seed and one metric"),
        ("seeds = 2", "seeds = []", "at least one seed and one metric"),
    ],
)
def test_bad_suites_are_one_sentence(suite_file, old, new, message):
    suite_file.write_text(SUITE.replace(old, new))
    with pytest.raises(ClbenchError, match=message):
        load_suite(suite_file)


def test_names_that_the_world_does_not_have(suite_file, mini_world):
    suite = load_suite(suite_file)
    with pytest.raises(ClbenchError, match="unknown effect 'sepai'"):
        suite.cases(mini_world, ["sepai"])
    suite_file.write_text(SUITE.replace("sources = 3", "sources = 5"))
    with pytest.raises(ClbenchError, match="asks for 5 sources, but world mini has 4"):
        load_suite(suite_file).cases(mini_world)
    suite_file.write_text(SUITE.replace('["upside_down", "sepia"]', '["sepia"]'))
    with pytest.raises(ClbenchError, match="'upside_down' is not part of suite mine"):
        load_suite(suite_file).cases(mini_world, ["upside_down"])
    with pytest.raises(ClbenchError, match=r"no suite 'bleding'.*Did you mean 'bleeding'"):
        load_suite("bleding")


def test_hash_is_that_of_the_cases(suite_file):
    before = load_suite(suite_file).hash
    suite_file.write_text(SUITE.replace('"perceptual"', '"perceptual", "psnr"'))
    assert load_suite(suite_file).hash == before
    suite_file.write_text(SUITE.replace("seeds = 2", "seeds = 3"))
    assert load_suite(suite_file).hash != before


def test_shipped_suites_load():
    assert {"bleeding", "fidelity", "demo"} <= set(shipped_suites())
    for name in shipped_suites():
        suite = load_suite(name)
        assert suite.name == name and suite.question.endswith((".", "?"))
