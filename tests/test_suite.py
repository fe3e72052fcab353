"""Suite files and their cases."""

from __future__ import annotations

import shutil

import pytest

from clbench.registry import ClbenchError
from clbench.suite import load_suite, ordered_pairs, shipped_suites
from clbench.types import Case
from clbench.world import load_world

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


def test_taught_without_teachers_are_the_effects_with_a_known_answer(suite_file, paired_world_file, tmp_path):
    suite_file.write_text(SUITE.replace('["upside_down", "sepia"]', '"taught"').replace('["teacher"]', '["base", "teacher"]'))
    suite, world = load_suite(suite_file), load_world(paired_world_file)
    assert suite.effects(world) == world.known == ["sepia", "upside_down"] and suite.systems_in(world) == ["base"]
    assert suite.asked_instead(world) == (
        "world mini has no [teachers], so instead of taught effects those with an operator or reference pairs are asked: sepia "
        "and upside_down"
    )
    shutil.rmtree(tmp_path / "references" / "sepia")
    world = load_world(paired_world_file)
    assert suite.effects(world) == ["upside_down"]
    assert suite.asked_instead(world).endswith(": upside_down; not asked, since nothing tells their right answer: sepia")
    with pytest.raises(ClbenchError, match="'sepia' is not part of suite mine, which asks the effects that have an operator or"):
        suite.effects(world, ["sepia"])
    paired_world_file.write_text(paired_world_file.read_text() + '\n[teachers]\nfolder = "teachers"\n')
    taught = load_world(paired_world_file)
    assert suite.effects(taught) == ["sepia", "upside_down"] and suite.asked_instead(taught) == ""
    paired_world_file.write_text(paired_world_file.read_text().replace('"teachers"', '"nowhere"'))
    with pytest.raises(ClbenchError, match="folder of teacher LoRAs not found"):
        suite.effects(load_world(paired_world_file))


def test_taught_without_teachers_and_answers_is_an_error(suite_file, without):
    suite_file.write_text(SUITE.replace('["upside_down", "sepia"]', '"taught"'))
    world = load_world(without("teachers"))
    with pytest.raises(ClbenchError, match=r"no effect has an operator or reference pairs; add \[teachers\] .*, give pairs in "):
        load_suite(suite_file).effects(world)
    with pytest.raises(ClbenchError, match="no effect has an operator"):
        load_suite(suite_file).asked_instead(world)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("systems", "sytems", "line 7: unknown key 'sytems' in the top level. Did you mean 'systems'"),
        ('"perceptual"', '"perceptul"', "unknown metric 'perceptul'. Did you mean 'perceptual'"),
        ('"teacher"', '"teechr"', "unknown system 'teechr'. Did you mean 'teacher'"),
        ('metrics = ["perceptual"]', "metrics = []", "at least one seed and one metric"),
        ("sources = 3", 'sources = "3"', r"mine\.toml line 5: key 'sources' in the top level: .*valid integer, not '3'\.$"),
        ("sources = 3", "sources = 3\nprobe_sources = [2]", r"key 'probe_sources' .*valid integer, not \[2\]\.$"),
        ("seeds = 2", "seeds = []", "at least one seed and one metric"),
        ("sources = 3", "sources = 0", r"mine\.toml line 5: key 'sources'"),
        ("sources = 3", "sources = []", r"mine\.toml line 5: key 'sources'"),
        ("sources = 3", "sources = 3\nsteps = [0]", r"\[steps\]: Input should be greater than or equal to 1, not 0"),
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
    assert {case.source for case in load_suite(suite_file).cases(mini_world, limit=2)} == {s.id for s in mini_world.sources[:2]}
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


def test_full_is_the_worlds_number_and_no_number_comes_twice(suite_file, mini_world):
    suite_file.write_text(SUITE + 'steps = [1, 3, "full"]\n')
    assert load_suite(suite_file).steps(mini_world) == [1, 3]


def test_probes_are_asked_beside_the_plain_question(suite_file, mini_world):
    suite_file.write_text(SUITE.replace("seeds = 2", "seeds = 1") + 'probes = ["caption-only", "neutral"]\nprobe_sources = 2\n')
    cases = load_suite(suite_file).cases(mini_world, ["sepia"])
    assert [(case.source, case.probe) for case in cases] == [
        ("p0", ""), ("p0", "caption-only"), ("p0", "neutral"), ("p1", ""), ("p1", "caption-only"), ("p1", "neutral"), ("p2", ""),
    ]  # fmt: skip


def test_pairs_come_in_both_orders(suite_file, mini_world):
    suite_file.write_text(SUITE.replace("seeds = 2", "seeds = 1") + 'pairs = 40\nprobes = ["twice"]\n')
    cases = load_suite(suite_file).cases(mini_world, limit=1)
    assert {(c.effect, c.second, c.probe) for c in cases} == {
        (a, b, probe) for a, b in (("sepia", "upside_down"), ("upside_down", "sepia")) for probe in ("", "twice")
    }


COUNTS = [(8, 56, 56), (8, 100, 56), (8, 40, 40), (50, 56, 56), (3, 5, 6), (1, 9, 0)]


@pytest.mark.parametrize(("effects", "count", "expected"), COUNTS)
def test_ordered_pairs(effects, count, expected):
    names = [f"e{i}" for i in range(effects)]
    pairs = ordered_pairs(names, count)
    assert len(pairs) == len(set(pairs)) == expected
    assert {(b, a) for a, b in pairs} == set(pairs) and all(a != b for a, b in pairs)
    assert pairs == ordered_pairs(names[::-1], count)
    if effects == 50:
        assert len({a for a, _ in pairs}) == 50


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('probes = ["neutrl"]\n', "unknown probe 'neutrl'. Did you mean 'neutral'"),
        ('probes = ["twice"]\n', "probe 'twice' is one of pairs of effects"),
        ('pairs = 4\nprobes = ["neutral"]\n', "probe 'neutral' is one of single effects"),
        ('groups = ["photograph"]\n', "unknown group of sources 'photograph'. Did you mean 'photographs'"),
        ('sets = ["fid"]\n', "unknown set-level metric 'fid'"),
    ],
)
def test_bad_questions_are_one_sentence(suite_file, more, message):
    suite_file.write_text(SUITE + more)
    with pytest.raises(ClbenchError, match=message):
        load_suite(suite_file)


def test_candidates_are_those_that_are_there(suite_file, mini_world, mini_world_file):
    suite_file.write_text(SUITE.replace('["teacher"]', '["teacher", "candidates", "collection"]'))
    assert load_suite(suite_file).systems_in(mini_world) == ["teacher", "collection"]
    text = mini_world_file.read_text()
    more = '\n[[candidates]]\nname = "{}"\nfile = "{}.safetensors"\n'
    mini_world_file.write_text(text + more.format("second", "accelerator") + more.format("third", "nowhere"))
    suite, world = load_suite(suite_file), load_world(mini_world_file)
    assert suite.systems_in(world) == ["teacher", "collection", "collection-second"]
    assert suite.left_out(world) == [
        "suite mine: system collection-third is left out: the file that world mini names is not there"
    ]
    (mini_world.root / "collection.safetensors").unlink()
    assert len(suite.left_out(world)) == 1, "collection is named beside the word: opening it will say that its file is gone"
    with pytest.raises(ClbenchError, match="none of their files is there"):
        load_suite(suite_file).systems_in(mini_world)


def test_joints_are_those_of_a_world_that_names_one(suite_file, mini_world, mini_world_file):
    suite_file.write_text(SUITE.replace('["teacher"]', '["teacher", "joints"]'))
    assert load_suite(suite_file).systems_in(mini_world) == ["teacher"]
    (sentence,) = load_suite(suite_file).left_out(mini_world)
    assert sentence == (
        "suite mine: world mini has no [joint], so joint and joint+accelerator are left out; add [joint] with file = \"...\" to "
        f"{mini_world_file} to run them, or name the systems to run with --system"
    )
    mini_world_file.write_text(mini_world_file.read_text() + '\n[joint]\nfile = "joint.safetensors"\n')
    assert load_suite(suite_file).systems_in(load_world(mini_world_file)) == ["teacher", "joint", "joint+accelerator"]


def test_merged_is_the_linear_merge_where_teachers_can_be_merged_so(suite_file, mini_world):
    from mini_parts import build_flux_pipeline, random_lora

    from clbench.adapter_writing import save_adapter

    suite_file.write_text(SUITE.replace('["teacher"]', '["merged", "teacher"]'))
    suite = load_suite(suite_file)
    assert suite.systems_in(mini_world) == ["merged-linear", "teacher"] and suite.left_out(mini_world) == []
    assert suite.merged_in(mini_world) == ["merged-linear"]
    file = mini_world.root / "teachers" / "sepia.safetensors"
    save_adapter(file, *random_lora(build_flux_pipeline(), 5, rank=2))
    assert suite.systems_in(mini_world) == ["teacher"] and suite.merged_in(mini_world) == []
    (sentence,) = suite.left_out(mini_world)
    assert sentence.startswith("suite mine: system merged-linear is left out: ") and "'linear' needs equal ranks" in sentence
    file.write_bytes(b"no adapter")
    with pytest.raises(ClbenchError, match="no safetensors file"):
        suite.systems_in(mini_world)
    file.unlink()
    assert "has no teacher LoRA for: sepia" in suite.left_out(mini_world)[0] and suite.systems_in(mini_world) == ["teacher"]


def test_merges_for_which_the_teachers_do_not_fit_are_left_out(suite_file, mini_world):
    """One that needs equal ranks is no reason to leave the others out."""
    from mini_parts import build_flux_pipeline, random_lora

    from clbench.adapter_writing import save_adapter

    named = '["merged-ties", "merged-cat", "merged-linear+accelerator", "merged-ties+accelerator", "teacher"]'
    suite_file.write_text(SUITE.replace('["teacher"]', named))
    suite = load_suite(suite_file)
    assert len(suite.systems_in(mini_world)) == 5 and suite.left_out(mini_world) == []
    save_adapter(mini_world.root / "teachers" / "sepia.safetensors", *random_lora(build_flux_pipeline(), 5, rank=2))
    assert suite.systems_in(mini_world) == ["merged-cat", "teacher"] and suite.merged_in(mini_world) == ["merged-cat"]
    told = suite.left_out(mini_world)
    assert len(told) == 2, "a reason for each method"
    assert told[0].startswith("suite mine: systems merged-ties and merged-ties+accelerator are left out: ")
    assert told[1].startswith("suite mine: system merged-linear+accelerator is left out: ") and "equal ranks" in told[1]


def test_systems_are_left_out_that_the_world_names_no_files_for(suite_file, without):
    """One sentence for each table that is missing, with all who need it; what needs none of them stays."""
    everything = ["base", "teacher", "teacher-few", "cascade", "merged-cat", "merged-cat+accelerator", "candidates", "joints"]
    suite_file.write_text(SUITE.replace('["teacher"]', str(everything).replace("'", '"')))
    suite, file = load_suite(suite_file), without("accelerator")
    world = load_world(file)
    assert suite.systems_in(world) == ["base", "teacher", "teacher-few", "merged-cat", "collection"]
    assert suite.merged_in(world) == ["merged-cat"] and suite.nothing_left(world) == ""
    first, second = suite.left_out(world)
    assert first == (
        "suite mine: world mini has no [accelerator], so cascade, merged-cat+accelerator and joint+accelerator are left out; "
        f'add [accelerator] with file = "..." to {file} to run them, or name the systems to run with --system'
    )
    assert second.startswith("suite mine: world mini has no [joint], so joint and joint+accelerator are left out; ")
    told = suite.left_out(load_world(without("candidates")))
    assert len(told) == 3 and "world mini has no [[candidates]], so collection is left out; add [[candidates]] with " in told[1]
    world = load_world(without("teachers"))
    assert suite.systems_in(world) == ["base"]
    assert suite.left_out(world)[0].startswith(
        "suite mine: world mini has no [teachers], so teacher, teacher-few, cascade, merged-cat and merged-cat+accelerator are "
        f'left out; add [teachers] with folder = "..." to {file} to run them, or '
    )


def test_a_file_that_is_named_and_not_there_leaves_nothing_out(suite_file, mini_world, mini_world_file):
    """It may be a slip of the pen: that is said when the system is opened."""
    suite_file.write_text(SUITE.replace('["teacher"]', '["base", "teacher", "cascade", "collection", "joint", "merged"]'))
    mini_world_file.write_text(mini_world_file.read_text() + '\n[joint]\nfile = "nowhere.safetensors"\n')
    for name in ("accelerator", "collection"):
        (mini_world.root / f"{name}.safetensors").unlink()
    suite, world = load_suite(suite_file), load_world(mini_world_file)
    assert suite.left_out(world) == [] and len(suite.systems_in(world)) == 6
    for file in (mini_world.root / "teachers").iterdir():
        file.unlink()
    (sentence,) = suite.left_out(world)
    assert "the [teachers] folder of world mini holds no LoRA, so teacher, cascade and merged-linear are left out" in sentence
    assert f"put <effect id>.safetensors into {mini_world.root / 'teachers'} to run them" in sentence
    (mini_world.root / "teachers").rmdir()
    with pytest.raises(ClbenchError, match=r"folder of teacher LoRAs not found: .*teachers \(named in .*world\.toml\)"):
        suite.systems_in(world)


def test_a_suite_of_which_only_controls_would_be_left_says_what_is_missing(suite_file, without):
    suite_file.write_text(SUITE.replace('["teacher"]', '["cascade", "candidates", "identity"]'))
    suite, file = load_suite(suite_file), without("candidates")
    assert suite.nothing_left(load_world(file)) == ""
    assert suite.nothing_left(load_world(without("accelerator"))) == (
        "nothing but controls would be left of suite mine: world mini has no [accelerator] (for cascade) and world mini has no "
        f'[[candidates]] (for collection); add [accelerator] with file = "..." to {file} and add [[candidates]] with name = '
        f'"..." and file = "..." to {file}, or name other systems with --system'
    )
    suite_file.write_text(SUITE.replace('["teacher"]', '["identity"]'))
    assert load_suite(suite_file).nothing_left(load_world(file)) == "", "controls are what it asks for"


def test_controls_repeat_no_truth_that_only_teachers_know(suite_file, mini_world, mini_world_file):
    suite_file.write_text(SUITE.replace('["identity"]', '["truth", "identity", "noise-floor", "wrong-effect"]'))
    suite = load_suite(suite_file)
    kinds = {effect: mini_world.truth_kind(effect) for effect in mini_world.effects}
    assert set(kinds.values()) == {"teacher"}
    assert suite.controls_in(mini_world) == ["identity"]
    assert suite.left_out(mini_world) == [
        "suite mine: controls truth, wrong-effect and noise-floor are left out: no effect has a known operator or pairs of "
        "pictures, so no control can repeat the truth"
    ]
    suite_file.write_text(suite_file.read_text() + 'probes = ["neutral"]\n')
    assert load_suite(suite_file).controls_in(mini_world) == ["truth", "identity"], "neutral questions have answers of their own"
    text = mini_world_file.read_text()
    mini_world_file.write_text(text.replace('trigger = "<qx1>"', 'trigger = "<qx1>"\noperator = "sepia"'))
    world = load_world(mini_world_file)
    assert suite.controls_in(world) == suite.controls and suite.left_out(world) == [], "one known truth is enough"


def test_hash_of_older_suites_holds(suite_file):
    """The hash names run folders that exist; keys that came later count only where they are used."""
    from clbench.provenance import hash_value

    suite = load_suite(suite_file)
    old = {"effects": ("upside_down", "sepia"), "sources": 3, "seeds": 2, "steps": ()}
    assert suite.hash == hash_value(old)
    suite_file.write_text(SUITE + 'probes = ["neutral"]\n')
    assert load_suite(suite_file).hash != suite.hash
