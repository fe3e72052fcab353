"""Systems: plans, cards, controls, folders of pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.backbones import Job, Sampler
from clbench.holds import named_in
from clbench.holds import trained_on as what_it_holds
from clbench.images import read_rgb, write_png
from clbench.registry import ClbenchError
from clbench.systems import ABOUT, NEEDS, SYSTEMS, Bench, open_system
from clbench.types import Case, System
from clbench.world import World, load_world
from clbench.world_file import TeachersTable


class Recorder:
    """A backbone that records what it was asked for and returns the source."""

    def __init__(self) -> None:
        self.loaded: list[tuple] = []
        self.calls: list[tuple[list[Job], Sampler]] = []

    def use_adapters(self, adapters):
        self.loaded.append(tuple((path.name, weight) for path, weight in adapters))

    def sample(self, jobs, sampler):
        self.calls.append((list(jobs), sampler))
        return [job.picture for job in jobs]

    def peak_memory(self):
        return 7


EFFECTS = ("sepia", "upside_down")


@pytest.fixture
def bench(mini_world):
    bench = Bench(mini_world, EFFECTS)
    bench._opened.append(Recorder())
    bench.round_trip = list
    return bench


def cases_of(world, effects=EFFECTS, steps=None):
    return [Case(e, s.id, 0, steps) for s in world.sources for e in effects]


def test_every_name_has_a_sentence():
    assert set(ABOUT) == set(SYSTEMS) >= set(NEEDS)


def test_a_world_without_loras_runs_what_needs_none(bench):
    bare = World(bench.world.file, bench.world.table.model_copy(
        update={"teachers": TeachersTable(), "accelerator": None, "candidates": (), "joint": None}
    ))  # fmt: skip
    opened = []
    for name in SYSTEMS.names():
        try:
            opened.append(open_system(name, Bench(bare, EFFECTS, bench.world.root / "pictures")).card.name)
        except ClbenchError as error:
            assert f"system '{name}' cannot be run: world mini has no [" in str(error)
    assert set(opened) == set(SYSTEMS) - set(NEEDS)


def test_teacher_loads_each_lora_once_and_batches(bench):
    system = open_system("teacher", bench)
    assert isinstance(system, System)
    edits = list(system.edit(cases_of(bench.world)))
    assert bench.backbone.loaded == [(("sepia.safetensors", 1.0),), (("upside_down.safetensors", 1.0),)]
    assert [len(jobs) for jobs, _ in bench.backbone.calls] == [4, 4]
    assert {e.case.id for e in edits} == {c.id for c in cases_of(bench.world)}
    assert edits[0].nfe == 6 and edits[0].memory == 7 and edits[0].seconds >= 0
    assert bench.backbone.calls[0][0][0].prompt == "make it sepia"


def test_cascade_and_collection_are_few_step_without_guidance(bench):
    list(open_system("cascade", bench).edit(cases_of(bench.world, EFFECTS[:1])))
    assert bench.backbone.loaded == [(("sepia.safetensors", 1.0), ("accelerator.safetensors", 1.0))]
    list(open_system("collection", bench).edit(cases_of(bench.world)))
    assert bench.backbone.loaded[-1] == (("collection.safetensors", 1.0),)
    for _, sampler in bench.backbone.calls:
        assert sampler == Sampler(2, 1.0, True, 3.0)
    prompts = {job.prompt for job in bench.backbone.calls[-1][0]}
    assert prompts == {"<qx1> make it sepia", "<qx2> turn it upside down"}


def test_a_few_step_sampler_can_be_euler(bench):
    """On the schedule of the full steps, as published accelerators are made for; and that is another world."""
    table = bench.world.table
    euler = table.backbone.model_copy(update={"few_sampler": "euler", "full_shift": 1.15})
    world = World(bench.world.file, table.model_copy(update={"backbone": euler}))
    other = Bench(world, EFFECTS, _opened=[bench.backbone])
    for name in ("cascade", "collection"):
        list(open_system(name, other).edit(cases_of(world, EFFECTS[:1])))
    assert [sampler for _, sampler in bench.backbone.calls] == [Sampler(2, 1.0, False, 1.15)] * 2
    assert world.hash != bench.world.hash


def changed(world, **tables):
    """The world with other values in some of its tables (of the first candidate)."""
    table = world.table
    held = {"candidates": table.candidates[0], "accelerator": table.accelerator, "teachers": table.teachers}
    new = {name: held[name].model_copy(update=values) for name, values in tables.items()}
    if "candidates" in new:
        new["candidates"] = (new["candidates"],)
    return World(world.file, table.model_copy(update=new))


def test_accelerator_and_collection_have_a_sampler_each(bench):
    """A published accelerator (Euler, a shift of its own) beside a stochastic collection, in one world."""
    own = {"sampler": "euler", "shift": 2.0, "embedded_guidance": 1.5}
    world = changed(bench.world, accelerator=own)
    other = Bench(world, EFFECTS, _opened=[bench.backbone])
    expected = {
        "cascade": Sampler(2, 1.0, False, 2.0, 1.5), "merged-cat+accelerator": Sampler(2, 1.0, False, 2.0, 1.5),
        "collection": Sampler(2, 1.0, True, 3.0), "teacher": Sampler(3, 2.0),
    }  # fmt: skip
    for name, sampler in expected.items():
        system, plain = open_system(name, other), open_system(name, bench)
        list(system.edit(cases_of(world, EFFECTS[:1])))
        assert bench.backbone.calls[-1][1] == sampler, name
        differing = {key for key, value in system.card.settings.items() if plain.card.settings[key] != value}
        assert differing == ({"stochastic", "shift", "embedded_guidance"} if sampler.shift == 2.0 else set()), name
        assert system.card.settings["embedded_guidance"] == sampler.embedded_guidance or sampler.shift != 2.0
    reverse = changed(bench.world, candidates={"sampler": "euler"})
    assert open_system("collection", Bench(reverse, EFFECTS)).sampler == Sampler(2, 1.0, False, None)
    assert open_system("cascade", Bench(reverse, EFFECTS)).sampler == Sampler(2, 1.0, True, 3.0)


def test_weights_of_teachers_reach_every_system_that_has_them(bench):
    world = changed(bench.world, teachers={"weights": {"sepia": 0.5, "upside_down": 1.0}}, accelerator={"teacher_weight": 0.8})
    other = Bench(world, EFFECTS, _opened=[bench.backbone])
    loaded = {}
    for name in ("teacher", "teacher-few", "cascade"):
        bench.backbone.loaded.clear()
        system = open_system(name, other)
        list(system.edit(cases_of(world)[:2]))
        loaded[name] = [weights[0] for weights in bench.backbone.loaded]
        assert system.card.settings["effect_weights"] == {"sepia": 0.5}
        assert "effect_weights" not in open_system(name, bench).card.settings
    alone = [("sepia.safetensors", 0.5), ("upside_down.safetensors", 1.0)]
    assert loaded == {
        "teacher": alone, "teacher-few": alone, "cascade": [("sepia.safetensors", 0.4), ("upside_down.safetensors", 0.8)],
    }  # fmt: skip
    merged = {name: open_system(name, other).card.settings["merge"] for name in ("merged-svd", "merged-ties")}
    assert [merge["weights"] for merge in merged.values()] == [[0.25, 0.5], [0.5, 1.0]]


def test_steps_of_the_case_win_and_are_grouped(bench):
    cases = cases_of(bench.world, steps=4) + cases_of(bench.world, steps=1)
    edits = list(open_system("collection", bench).edit(cases))
    assert sorted({e.nfe for e in edits}) == [1, 4]
    assert [s.steps for _, s in bench.backbone.calls] == [4, 4, 1, 1]


def test_noise_is_the_same_for_every_system(bench):
    seeds = []
    for name in ("base", "teacher-few", "collection"):
        bench.backbone.calls.clear()
        list(open_system(name, bench).edit(cases_of(bench.world)[:1]))
        seeds.append(bench.backbone.calls[0][0][0].seed)
    assert len(set(seeds)) == 1


def test_a_truth_of_the_teacher_has_noise_of_its_own(bench, monkeypatch):
    """Else a system that samples as the teacher does would begin at the noise whose very end it is judged by."""
    (case,) = cases_of(bench.world)[:1]
    asked = [case, *(replace(case, steps=steps) for steps in (3, 2)), replace(case, probe="caption-only")]

    def apart() -> list[bool]:
        plan = open_system("teacher", bench).plan
        return [plan.noise(one) != one.noise_seed() for one in asked]

    assert apart() == [True, True, False, False], "three steps are the world's full ones"
    assert open_system("teacher", bench).card.settings["noise of the truth"] == ["sepia", "upside_down"]
    monkeypatch.setattr(type(bench.world), "truth_kind", lambda world, effect: "operator")
    assert apart() == [False] * 4 and "noise of the truth" not in open_system("teacher", bench).card.settings


def test_card_names_every_adapter_and_setting(bench, lora_files):
    from clbench.provenance import hash_file

    card = open_system("cascade", bench).card
    assert set(card.adapters) == {"sepia", "upside_down", "accelerator"}
    assert card.adapters["sepia"] == hash_file(lora_files["sepia"])
    assert {"steps", "guidance", "stochastic", "shift", "prompt", "teacher_weight"} <= set(card.settings)
    assert open_system("teacher", bench).card != card


def trained_on(world, effects: str) -> None:
    """Write into the first candidate's header what it was trained on."""
    info = describe_adapter(world.candidate().path)
    metadata = {"r": info.rank, "lora_alpha": info.rank, "target_modules": sorted(info.modules)}
    save_adapter(info.path, load_tensors(info), metadata, {"clbench.effects": effects})


def test_a_collection_is_not_asked_effects_that_its_file_does_not_name(bench):
    """What it never learnt would count against it; where it holds all that the suite asks, nothing is said and cards hold."""
    trained_on(bench.world, "sepia fog")
    system = open_system("collection", bench)
    edits = {edit.case.effect: edit for edit in system.edit(cases_of(bench.world))}
    assert edits["sepia"].status == "ok" and edits["upside_down"].status == "unscored"
    assert edits["upside_down"].reason == "collection was not trained on 'upside_down', as its file says"
    assert (system.card.settings["effects"], system.card.settings["new effects"]) == (["sepia", "fog"], [])
    for suite in (Bench(bench.world, ["sepia"]), Bench(changed(bench.world, candidates={"effects": EFFECTS}), EFFECTS)):
        system = open_system("collection", suite)
        assert not any(map(system.plan.refuses, cases_of(bench.world, suite.effects)))
        assert ("effects" in system.card.settings) == (len(suite.effects) == 2)
    trained_on(bench.world, "upside_down sepia fog")
    assert "effects" not in open_system("collection", bench).card.settings


def test_new_effects_of_an_extension_are_known_by_its_file(bench):
    trained_on(bench.world, "sepia fog")
    first = bench.world.table.candidates[0]
    more = first.model_copy(update={"name": "more", "extends": first.name})
    old = first.model_copy(update={"effects": ("sepia",)})
    world = World(bench.world.file, bench.world.table.model_copy(update={"candidates": (old, more)}))
    assert open_system("collection-more", Bench(world, EFFECTS)).card.settings["new effects"] == ["fog"]


@pytest.mark.parametrize("name", ["tiny", "tiny-8", "words"])
def test_cards_of_shipped_collections_do_not_change_by_their_headers(name):
    world = load_world(name)
    for table in world.table.candidates:
        header = describe_adapter(world.candidate(table.name).path).header
        assert named_in(header) and set(world.taught) <= set(named_in(header))
        assert what_it_holds(world, table.name, header, world.taught) == ((), ())


def test_a_picture_that_is_not_finite_is_a_failed_edit(bench):
    bench.backbone.sample = lambda jobs, sampler: [None] * len(jobs)
    edit = next(iter(open_system("base", bench).edit(cases_of(bench.world)[:1])))
    assert edit.status == "failed" and "not finite" in edit.reason and edit.picture is None


def test_missing_teacher_is_said_when_the_system_is_opened(bench, mini_world):
    (mini_world.root / "teachers" / "sepia.safetensors").unlink()
    with pytest.raises(ClbenchError, match="no teacher LoRA for: sepia"):
        open_system("teacher", bench)


def test_unknown_system_suggests(bench):
    with pytest.raises(ClbenchError, match="Did you mean 'teacher'"):
        open_system("teachr", bench)
    with pytest.raises(ClbenchError, match="unknown candidate 'mine'"):
        open_system("collection-mine", bench)


def test_identity_returns_the_source(bench):
    for edit in open_system("identity", bench).edit(cases_of(bench.world)):
        np.testing.assert_array_equal(edit.picture, bench.world.source_image(edit.case.source, 32))


def test_controls_are_not_asked_what_nobody_knows(bench):
    edits = list(open_system("truth", bench).edit(cases_of(bench.world)[:1]))
    assert edits[0].status == "unscored" and "no operator, no reference" in edits[0].reason


def test_a_broken_reference_picture_is_a_failed_edit_of_the_control(bench, monkeypatch):
    def broken(effect, source):
        raise ClbenchError("p0.png is not a picture")

    monkeypatch.setattr(bench.world, "references", broken)
    (edit,) = open_system("truth", bench).edit(cases_of(bench.world)[:1])
    assert edit.status == "failed" and edit.reason == "p0.png is not a picture"


def test_wrong_effect_takes_the_neighbour_within_the_suite(bench):
    card = open_system("wrong-effect", bench).card
    assert card.settings["wrong"] == {"sepia": "upside_down", "upside_down": "sepia"}
    with pytest.raises(ClbenchError, match="at least two effects"):
        open_system("wrong-effect", Bench(bench.world, ["sepia"]))


@pytest.fixture
def operator_world(mini_world_file):
    text = mini_world_file.read_text()
    text = text.replace('id = "sepia"', 'id = "sepia"\noperator = "sepia"')
    text = text.replace('id = "upside_down"', 'id = "upside_down"\noperator = "rain"\nrandom = true')
    mini_world_file.write_text(text.replace('folder = "pictures"', 'folder = "pictures"\nsize = 64'))
    return load_world(mini_world_file)


def test_truth_of_a_random_effect_is_another_draw(operator_world):
    from clbench.systems.controls import truth_draw

    bench = Bench(operator_world, EFFECTS)
    bench._opened.append(Recorder())
    bench.round_trip = list
    source = operator_world.sources[0].id
    cases = [Case("upside_down", source, 0), Case("sepia", source, 0), Case("upside_down", source, 1)]
    rain, sepia, more_rain = [e.picture for e in open_system("truth", bench).edit(cases)]
    assert rain.shape == (32, 32, 3)
    np.testing.assert_array_equal(rain, truth_draw(operator_world, "upside_down", source, 100))
    np.testing.assert_array_equal(sepia, truth_draw(operator_world, "sepia", source, 0))
    assert (rain != more_rain).any()
    wrong = next(iter(open_system("wrong-effect", bench).edit(cases)))
    np.testing.assert_array_equal(wrong.picture, sepia)
    floor = next(iter(open_system("noise-floor", bench).edit(cases)))
    np.testing.assert_array_equal(floor.picture, truth_draw(operator_world, "upside_down", source, 200))


@pytest.mark.parametrize("layout", ["{e}/{s}.png", "{e}/{s}/s0.png", "pictures/{e}/{s}/s0.png"])
def test_folder_layouts(mini_world, tmp_path, layout):
    made = tmp_path / "made"
    cases = cases_of(mini_world)
    for case in cases[1:]:
        picture = np.full((64, 64, 3), 10 * len(case.source), np.uint8)
        write_png(made / layout.format(e=case.effect, s=case.source), picture)
    bench = Bench(mini_world, EFFECTS, made)
    edits = {e.case.id: e for e in open_system("folder", bench).edit(cases)}
    assert edits[cases[0].id].status == "failed" and cases[0].source in edits[cases[0].id].reason
    assert all(edits[c.id].picture.shape == (32, 32, 3) for c in cases[1:])
    system = open_system("folder", Bench(mini_world, EFFECTS, made, strict=True))
    with pytest.raises(ClbenchError, match=f"lacks 1 of {len(cases)} pictures: {cases[0].id}"):
        system.check(cases)
    system.check(cases[1:])


def test_a_misspelt_folder_of_an_effect_is_named(mini_world, tmp_path):
    """Its pictures would count as failed edits, each for a picture that is there."""
    made, cases = tmp_path / "made", cases_of(mini_world)
    for case in cases:
        folder = {"sepia": "seppia"}.get(case.effect, case.effect)
        write_png(made / folder / f"{case.source}.png", np.zeros((32, 32, 3), np.uint8))
    write_png(made / "notes" / "p0.png", np.zeros((32, 32, 3), np.uint8))  # of no effect, and like none
    system = open_system("folder", Bench(mini_world, EFFECTS, made))
    with pytest.raises(ClbenchError, match=r"made.seppia is of no effect of world mini, and 'sepia' has no picture"):
        system.check(cases)
    system.check([case for case in cases if case.effect != "sepia"])
    write_png(made / "sepia" / "another.png", np.zeros((32, 32, 3), np.uint8))
    open_system("folder", Bench(mini_world, EFFECTS, made)).check(cases)  # it has pictures, though not those


@pytest.mark.parametrize("name", ["Sepia", "SEPIA", "pictures/Sepia"])
def test_capitals_make_another_folder(mini_world, tmp_path, name):
    made, cases = tmp_path / "made", cases_of(mini_world)
    for case in cases:
        folder = {"sepia": name}.get(case.effect, case.effect)
        write_png(made / folder / f"{case.source}.png", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ClbenchError, match=r"(?i)made.*sepia is of no effect of world mini, and 'sepia' has no picture"):
        open_system("folder", Bench(mini_world, EFFECTS, made)).check(cases)


def test_pictures_named_after_no_source_are_told(mini_world, tmp_path):
    made, cases = tmp_path / "made", cases_of(mini_world)
    black = np.zeros((32, 32, 3), np.uint8)
    for stem in ("sepia/p0", "sepia/p1/s0", "sepia/p1/s3-n8-neutral", "pictures/upside_down/p0/s0", "notes/x", "top"):
        write_png(made / f"{stem}.png", black)
    assert open_system("folder", Bench(mini_world, EFFECTS, made)).remarks(cases) == []
    for stem in ("sepia/ComfyUI_00001_", "sepia/ComfyUI_00002_", "pictures/upside_down/p0/ComfyUI_00003_"):
        write_png(made / f"{stem}.png", black)
    system = open_system("folder", Bench(mini_world, EFFECTS, made))
    first, rest = "pictures/upside_down/p0/ComfyUI_00003_.png", [case for case in cases if case.effect == "sepia"]
    assert system.remarks(cases) == [
        f"{made} holds 3 pictures of the effects asked for that are named after no source of world mini, the first {first}: "
        f"expected {cases[0].effect}/{cases[0].source}.png"
    ]
    assert "holds 2 pictures" in system.remarks(rest)[0] and "the first sepia/ComfyUI_00001_.png" in system.remarks(rest)[0]
    system.check(cases)
    for file in made.rglob("[ps]*.png"):
        file.unlink()
    with pytest.raises(ClbenchError, match=r"none of the 4 pictures asked for, such as sepia/p0\.png; .*ComfyUI_00001_\.png: "):
        open_system("folder", Bench(mini_world, EFFECTS, made)).check(rest)


def test_probes_without_a_picture_are_told_once(mini_world, tmp_path):
    made, plain = tmp_path / "made", cases_of(mini_world)
    cases = [replace(case, probe=probe) for case in plain for probe in ("", "caption-only", "neutral")]
    for case in plain:
        write_png(made / f"{case.effect}/{case.source}.png", np.zeros((32, 32, 3), np.uint8))
    system = open_system("folder", Bench(mini_world, EFFECTS, made))
    assert system.remarks(plain) == []
    assert system.remarks(cases) == [
        f"{made} holds no picture of probes caption-only and neutral, which stay unscored: expected names such as "
        f"{plain[0].id}-caption-only.png"
    ]
    write_png(made / f"{plain[0].id}-caption-only.png", np.zeros((32, 32, 3), np.uint8))
    (sentence,) = open_system("folder", Bench(mini_world, EFFECTS, made)).remarks(cases)
    assert "of probe neutral, which stays unscored" in sentence, "one picture of a probe is an answer"


def test_folders_of_pairs_are_no_misspelt_effects(mini_world, tmp_path):
    first = cases_of(mini_world)[0]
    pairs = [replace(first, effect=one, second=two) for one, two in (("sepia", "upside_down"), ("upside_down", "sepia"))]
    write_png(tmp_path / "made" / f"{pairs[0].id}.png", np.zeros((32, 32, 3), np.uint8))
    open_system("folder", Bench(mini_world, EFFECTS, tmp_path / "made")).check(pairs)


def test_folder_card_knows_its_pixels(mini_world, tmp_path):
    made = tmp_path / "made"
    case = cases_of(mini_world)[0]
    file = made / case.effect / f"{case.source}.png"
    write_png(file, np.zeros((32, 32, 3), np.uint8))
    before = open_system("folder", Bench(mini_world, EFFECTS, made)).card
    write_png(file, np.ones((32, 32, 3), np.uint8))
    assert open_system("folder", Bench(mini_world, EFFECTS, made)).card != before
    assert (read_rgb(file) == 1).all()


def test_folder_card_knows_how_pictures_are_read(mini_world, tmp_path, monkeypatch):
    """A run that was begun with other readings of the same files is not taken up again."""
    from clbench import photos

    write_png(tmp_path / "made/sepia/a.png", np.zeros((32, 32, 3), np.uint8))
    before = open_system("folder", Bench(mini_world, EFFECTS, tmp_path / "made")).card
    other = tmp_path / "photos.py"
    other.write_text(Path(photos.__file__).read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    monkeypatch.setattr(photos, "__file__", str(other))
    assert open_system("folder", Bench(mini_world, EFFECTS, tmp_path / "made")).card != before


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_folder_that_does_not_say_which_picture_is_meant_is_refused(mini_world, tmp_path, skip_bad):
    made = tmp_path / "made"
    bench = Bench(mini_world, EFFECTS, made, skip_bad=skip_bad)
    for effect in EFFECTS:  # the same stem in another folder is another picture
        write_png(made / effect / "p0.png", np.zeros((32, 32, 3), np.uint8))
    (made / "sepia" / "p0.txt").write_text("no picture")
    (made / "sepia" / "._p0.jpg").write_bytes(b"of a file system")
    open_system("folder", bench)
    (made / "sepia" / "p0.JPG").write_bytes(b"")
    with pytest.raises(ClbenchError, match=r"two pictures share the stem 'p0' in .*made.sepia; keep one"):
        open_system("folder", bench)
    (made / "sepia" / "p0.JPG").rename(made / "sepia" / "p1.HEIC")
    with pytest.raises(ClbenchError, match=r"sepia.p1\.HEIC is not read: save it as one of \.png, "):
        open_system("folder", bench)


def test_unreadable_and_oblong_pictures_fail_with_a_reason(mini_world, tmp_path):
    made = tmp_path / "made"
    first, second = cases_of(mini_world)[:2]
    write_png(made / first.effect / f"{first.source}.png", np.zeros((32, 40, 3), np.uint8))
    (made / second.effect).mkdir()
    (made / second.effect / f"{second.source}.png").write_bytes(b"no picture")
    reasons = [
        e.reason for e in open_system("folder", Bench(mini_world, EFFECTS, made)).edit([first, second])
    ]
    assert "40x32" in reasons[0] and "cannot read the picture" in reasons[1]
