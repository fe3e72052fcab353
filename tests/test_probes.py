"""Probes: words, prompts, who is asked what, and the same noise for all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_systems import EFFECTS, Recorder

from clbench.probes import PROBES, TWICE, UNKNOWN_TRIGGERS, left_out, neighbour_in, unknown_trigger
from clbench.registry import ClbenchError
from clbench.systems import Bench, open_system
from clbench.types import Case, Effect

SINGLE = [name for name in PROBES if not PROBES.get(name).composed]


@pytest.fixture
def bench(mini_world):
    bench = Bench(mini_world, EFFECTS)
    bench._opened.append(Recorder())
    return bench


def asked(bench, system: str, cases: list[Case]) -> tuple[dict[Case, str], dict[str, str]]:
    """Prompt per picture that was made, in the order of the edits, and reasons of those left out, by probe."""
    edits = list(open_system(system, bench).edit(cases))
    jobs = [job for jobs, _ in bench.backbone.calls for job in jobs]
    made = [edit.case for edit in edits if edit.status == "ok"]
    return dict(zip(made, (job.prompt for job in jobs), strict=True)), {
        edit.case.probe: edit.reason for edit in edits if edit.status == "unscored"
    }


def test_ids_are_stable_unique_and_safe_paths():
    cases = [
        Case(effect, source, seed, steps, probe, second)
        for effect in ("a", "a-n8")
        for second in ("", "b")
        for source in ("s", "s-1")
        for seed in (0, 1)
        for steps in (None, 8)
        for probe in ("", *PROBES)
    ]
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids) == len(cases)
    assert all(len(each.split("/")) == 3 and not set(each) & set('\\:*?"<>| ') for each in ids)
    assert Case("sepia", "p0", 0).id == "sepia/p0/s0" and Case("sepia", "p0", 0, 8).id == "sepia/p0/s0-n8"
    assert Case("sepia", "p0", 0, 8, "caption-only").id == "sepia/p0/s0-n8-caption-only"
    assert Case("sepia", "p0", 1, None, TWICE, "rain").id == "sepia+rain/p0/s1-twice"


def test_noise_is_that_of_the_plain_question():
    plain = Case("a", "s", 0)
    seeds = {dataclasses.replace(plain, probe=probe, steps=steps).noise_seed() for probe in SINGLE for steps in (None, 1)}
    assert seeds == {plain.noise_seed()}
    one, other = Case("a", "s", 0, second="b"), Case("b", "s", 0, second="a")
    assert one.noise_seed() == other.noise_seed() != plain.noise_seed()


def test_a_collection_gets_every_prompt(bench):
    prompts, reasons = asked(bench, "collection", [Case("sepia", "p0", 0, None, probe) for probe in ("", *SINGLE)])
    words = {case.probe: prompt for case, prompt in prompts.items()}
    assert reasons == {} and set(words) == {"", *SINGLE}
    assert words[""] == "<qx1> make it sepia"
    assert words["caption-only"] == "make it sepia" and words["trigger-only"] == "<qx1>"
    assert words["other-trigger"] == "<qx2> make it sepia"
    assert words["unknown-trigger"] == f"{UNKNOWN_TRIGGERS[0]} make it sepia"
    assert words["instruction"] == "make it sepia"
    assert words["paraphrase"].startswith("<qx1> ") and words["paraphrase"] != words[""]
    assert "<" not in words["neutral"] and "sepia" not in words["neutral"]


def test_systems_of_instructions_leave_out_what_makes_no_sense(bench):
    for name in ("base", "teacher", "cascade"):
        bench.backbone.calls.clear()
        prompts, reasons = asked(bench, name, [Case("sepia", "p0", 0, None, probe) for probe in ("", *SINGLE)])
        assert {case.probe for case in prompts} == {"", "paraphrase", "neutral"}
        assert set(reasons) == set(SINGLE) - {"paraphrase", "neutral"} and all(reasons.values())


def test_neutral_questions_are_the_same_for_all_and_reseed_changes_the_noise_alone(bench):
    case = Case("sepia", "p0", 0, None, "neutral")
    jobs = {}
    for name in ("base", "collection", "reseed"):
        bench.backbone.calls.clear()
        list(open_system(name, bench).edit([case]))
        jobs[name] = bench.backbone.calls[0][0][0]
    assert jobs["base"].prompt == jobs["collection"].prompt == jobs["reseed"].prompt
    assert jobs["base"].seed == jobs["collection"].seed != jobs["reseed"].seed
    edit = next(iter(open_system("reseed", bench).edit([Case("sepia", "p0", 0)])))
    assert edit.status == "unscored" and "neutral" in edit.reason


def test_a_paraphrase_of_the_catalogue_wins(mini_world_file):
    from clbench.world import load_world

    text = mini_world_file.read_text().replace('trigger = "<qx1>"', 'trigger = "<qx1>"\nparaphrases = ["old and brown"]')
    mini_world_file.write_text(text)
    bench = Bench(load_world(mini_world_file), EFFECTS)
    bench._opened.append(Recorder())
    for name, expected in (("collection", "<qx1> old and brown"), ("cascade", "old and brown")):
        bench.backbone.calls.clear()
        prompts, _ = asked(bench, name, [Case("sepia", "p0", 0, None, "paraphrase")])
        assert list(prompts.values()) == [expected]


def test_two_effects_in_one_edit_keep_order_and_load_each_adapter_once(bench):
    prompts, _ = asked(bench, "collection", [Case("sepia", "p0", 0, second="upside_down")])
    assert list(prompts.values()) == ["<qx1> <qx2> make it sepia, then turn it upside down"]
    assert bench.backbone.loaded == [(("collection.safetensors", 1.0),)]
    bench.backbone.loaded.clear()
    list(open_system("cascade", bench).edit([Case("sepia", "p0", 0, second="upside_down")]))
    files = ["sepia.safetensors", "accelerator.safetensors", "upside_down.safetensors"]
    assert [name for name, _ in bench.backbone.loaded[0]] == files
    assert bench.backbone.calls[-1][0][0].prompt == "make it sepia, then turn it upside down"


def test_twice_is_the_second_effect_on_the_first_picture(bench):
    def add(jobs, sampler):
        bench.backbone.calls.append((list(jobs), sampler))
        return [np.clip(job.picture.astype(int) + 10, 0, 255).astype(np.uint8) for job in jobs]

    bench.backbone.sample = add
    sources = [source.id for source in bench.world.sources]
    cases = [Case(*pair[:1], source, 0, None, TWICE, pair[1]) for pair in (EFFECTS, EFFECTS[::-1]) for source in sources]
    edits = list(open_system("cascade", bench).edit(cases))
    assert sorted(edit.case.id for edit in edits) == sorted(case.id for case in cases)
    for edit in edits:
        before = bench.world.source_image(edit.case.source, 32).astype(int)
        np.testing.assert_array_equal(edit.picture, np.clip(np.clip(before + 10, 0, 255) + 10, 0, 255))
        assert edit.nfe == 4
    assert [len(jobs) for jobs, _ in bench.backbone.calls] == [4, 4, 4, 4]
    last = bench.backbone.calls[1][0][0]
    assert last.prompt == "turn it upside down" and last.seed == Case("upside_down", sources[0], 0).noise_seed()


def test_a_first_edit_that_failed_fails_the_case(bench):
    bench.backbone.sample = lambda jobs, sampler: [None] * len(jobs)
    edit = next(iter(open_system("cascade", bench).edit([Case("sepia", "p0", 0, None, TWICE, "upside_down")])))
    assert edit.status == "failed" and "first of two edits" in edit.reason


def test_a_candidate_is_asked_for_what_it_was_trained_on(mini_world_file, mini_world):
    from clbench.world import load_world

    file = 'file = "collection.safetensors"\n'
    text = mini_world_file.read_text().replace(file, file + 'effects = ["sepia"]\n')
    more = f'\n[[candidates]]\nname = "more"\n{file}effects = ["sepia", "upside_down"]\nextends = "collection"\n'
    mini_world_file.write_text(text + more)
    world = load_world(mini_world_file)
    bench = Bench(world, EFFECTS)
    bench._opened.append(Recorder())
    system = open_system("collection", bench)
    edits = {edit.case.effect: edit for edit in system.edit([Case(effect, "p0", 0) for effect in EFFECTS])}
    assert edits["sepia"].status == "ok" and "not trained on 'upside_down'" in edits["upside_down"].reason
    assert open_system("collection-more", bench).card.settings["new effects"] == ["upside_down"]
    mini_world_file.write_text(text + more.replace('extends = "collection"', 'extends = "colection"'))
    with pytest.raises(ClbenchError, match="extends 'colection', which is no candidate"):
        load_world(mini_world_file)


def test_controls_answer_what_they_can(bench):
    cases = [Case("sepia", "p0", 0, None, probe) for probe in ("", "caption-only", "neutral")]
    cases.append(Case("sepia", "p0", 0, second="upside_down"))
    for name, answered in (("identity", {0, 2, 3}), ("wrong-effect", {0}), ("truth", {0, 2, 3})):
        edits = list(open_system(name, bench).edit(cases))
        asked = {place for place, edit in enumerate(edits) if not edit.reason.startswith(f"control '{name}'")}
        assert asked == answered, name
        assert all(edit.reason for edit in edits if edit.status != "ok"), "this world knows no truth of its effects"


def test_neighbours_and_made_up_triggers():
    one, two = (Effect(name, name, "f", "do", "done", f"<{name}>", near) for name, near in (("a", ("z", "b")), ("b", ())))
    assert neighbour_in(one, ["a", "b"]) == "b" and neighbour_in(two, ["a", "b"]) == "a"
    with pytest.raises(ClbenchError, match="at least two effects"):
        neighbour_in(one, ["a"])
    taken = {t: dataclasses.replace(one, trigger=t) for t in UNKNOWN_TRIGGERS}
    with pytest.raises(ClbenchError, match="every made-up trigger"):
        unknown_trigger(taken)


def test_every_probe_says_what_success_means():
    assert {"caption-only", "trigger-only", "other-trigger", "unknown-trigger", "instruction", "neutral"} <= set(PROBES)
    for name in PROBES:
        probe = PROBES.get(name)
        assert len(probe.prompt) > 20 and len(probe.success) > 20
        assert left_out(Case("a", "s", 0, None, name), "trigger + caption") == ""


def test_a_folder_need_not_answer_probes(mini_world, tmp_path):
    from clbench.images import write_png

    cases = [Case("sepia", "p0", 0, None, probe) for probe in ("", "neutral", "paraphrase")]
    for case in cases[:2]:
        write_png(tmp_path / "made" / f"{case.id}.png", np.zeros((32, 32, 3), np.uint8))
    system = open_system("folder", Bench(mini_world, EFFECTS, tmp_path / "made", strict=True))
    system.check(cases)
    assert [edit.status for edit in system.edit(cases)] == ["ok", "ok", "unscored"]
    pair = next(iter(system.edit([Case("sepia", "p0", 0, second="upside_down")])))
    assert pair.status == "failed" and "sepia+upside_down/p0/s0.png" in pair.reason
