"""Adapters are asked in the words that their files name: prompt kind, triggers, and what happens where they do not fit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clbench.adapter_prompts import as_trained, other_words, own_triggers, prompt_kind, words_of
from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.registry import ClbenchError
from clbench.systems import Bench, open_system
from clbench.types import Case
from clbench.world import load_world
from reference_trainer.prompting import student_prompt
from tests.test_systems import EFFECTS, Recorder, cases_of


def rewritten(path, **strings):
    """The adapter at `path` again, with other strings in its header."""
    info = describe_adapter(path)
    save_adapter(path, load_tensors(info), info.metadata, {f"clbench.{key}": value for key, value in strings.items()})
    return describe_adapter(path)


@pytest.fixture
def own(mini_world, tmp_path, lora_files):
    """A copy of the mini world's collection that may be written to."""
    path = tmp_path / "own.safetensors"
    path.write_bytes(mini_world.candidate().path.read_bytes())
    return path


def asked(mini_world_file, own, cases=None, line="", system="collection-own"):
    """The prompts that a candidate with that file gets."""
    text = mini_world_file.read_text(encoding="utf-8")
    text += f'\n[[candidates]]\nname = "own"\nfile = "{own}"\n{line}\n'
    mini_world_file.write_text(text, encoding="utf-8")
    bench = Bench(load_world(mini_world_file), EFFECTS)
    bench._opened.append(Recorder())
    opened = open_system(system, bench)
    list(opened.edit(cases_of(bench.world) if cases is None else cases(bench.world)))
    return opened, {job.prompt for jobs, _ in bench.backbone.calls for job in jobs}


def test_a_silent_file_is_asked_in_the_worlds_words(mini_world_file, own):
    opened, prompts = asked(mini_world_file, own)
    assert prompts == {"<qx1> make it sepia", "<qx2> turn it upside down"}
    assert opened.card.settings["prompt"] == "trigger + caption" and "triggers" not in opened.card.settings


def test_triggers_of_the_file_stand_in_for_the_worlds(mini_world_file, own):
    rewritten(own, prompt="aop", triggers=json.dumps({"sepia": "<new01>"}))
    opened, prompts = asked(mini_world_file, own)
    assert prompts == {"<new01> make it sepia", "<qx2> turn it upside down"}
    assert opened.card.settings["triggers"] == "the adapter's own"


def test_captions_of_the_file_stand_in_for_the_worlds(mini_world_file, own):
    """A world file that says it in other words would ask the adapter in words that it never saw."""
    rewritten(own, prompt="aop", captions=json.dumps({"sepia": "a photo in brown tones"}))
    opened, prompts = asked(mini_world_file, own)
    assert prompts == {"<qx1> a photo in brown tones", "<qx2> turn it upside down"}
    assert opened.card.settings["captions"] == "the adapter's own" and "triggers" not in opened.card.settings


@pytest.mark.parametrize("kind", ["caption", "instruction"])
def test_words_of_the_file_without_a_trigger(mini_world_file, own, kind):
    rewritten(own, prompt=kind, captions=json.dumps({"sepia": "brown"}), triggers=json.dumps({"sepia": "<new01>"}))
    opened, prompts = asked(mini_world_file, own)
    assert prompts == {"brown", getattr(opened.bench.world.effect("upside_down"), kind)}
    assert opened.card.settings["captions"] == "the adapter's own" and "triggers" not in opened.card.settings, "it has no trigger"


@pytest.mark.parametrize("kind", ["aop", "caption", "instruction"])
def test_what_training_writes_is_what_is_read(mini_world, own, kind):
    effects = list(mini_world.effects.values())
    info = rewritten(own, prompt=kind, **words_of(effects, kind))
    assert not other_words(mini_world.effects, as_trained(info, mini_world.effects, kind), kind)
    renamed = {e.id: replace(e, trigger="<z>", caption="z", instruction="Z") for e in effects}
    back = as_trained(info, renamed, kind)
    assert [student_prompt(back[e.id], kind) for e in effects] == [student_prompt(e, kind) for e in effects]
    told = other_words(renamed, back, kind)
    assert list(told) == (["triggers", "captions"] if kind == "aop" else ["captions"]) and told["captions"] == list(renamed)


def test_probes_use_the_triggers_of_the_file(mini_world_file, own):
    rewritten(own, triggers=json.dumps({"sepia": "<new01>"}))
    probes = lambda world: [Case("sepia", world.sources[0].id, 0, probe="trigger-only")]  # noqa: E731
    assert asked(mini_world_file, own, probes)[1] == {"<new01>"}


@pytest.mark.parametrize("line", ["", 'prompt = "instruction"'])
def test_an_adapter_of_instructions_is_asked_by_instructions(mini_world_file, own, line):
    if not line:
        rewritten(own, prompt="instruction")
    opened, prompts = asked(mini_world_file, own, line=line)
    assert opened.card.settings["prompt"] == "instruction"
    assert prompts == {opened.bench.world.effect(name).instruction for name in EFFECTS}


def test_an_adapter_of_captions_is_asked_by_captions_and_not_about_triggers(mini_world_file, own):
    rewritten(own, prompt="caption")
    both = lambda world: [*cases_of(world), Case("sepia", world.sources[0].id, 0, probe="trigger-only")]  # noqa: E731
    opened, prompts = asked(mini_world_file, own, both)
    assert opened.card.settings["prompt"] == "caption"
    assert prompts == {opened.bench.world.effect(name).caption for name in EFFECTS}


def test_contradictions_and_broken_headers_are_refused(own):
    info = rewritten(own, prompt="caption", triggers="[1]")
    with pytest.raises(ClbenchError, match="trained with prompt = 'caption', but the world file says prompt = 'aop'"):
        prompt_kind(info, "aop")
    with pytest.raises(ClbenchError, match="not a JSON table of effect ids and texts"):
        own_triggers(info)
    with pytest.raises(ClbenchError, match=r"clbench\.prompt is .poem.; expected one of aop, caption, instruction"):
        prompt_kind(rewritten(own, prompt="poem"))


def test_other_effects_keep_their_words(mini_world, own):
    info = rewritten(own, triggers=json.dumps({"sepia": "<new01>"}))
    found = as_trained(info, mini_world.effects)
    assert list(found) == list(mini_world.effects)
    assert found["upside_down"] == mini_world.effects["upside_down"] and found["sepia"].trigger == "<new01>"


def test_a_teacher_of_another_instruction_is_refused(mini_world, tmp_path):
    """Edited in the world file after the training: the teacher would be asked in words that it never saw."""
    path = mini_world.teacher_path("sepia")
    info = describe_adapter(path)
    save_adapter(path, load_tensors(info), info.metadata, {"clbench.instruction": "make it an old photograph"})
    with pytest.raises(ClbenchError, match="the instruction 'make it an old photograph', but that of effect 'sepia'"):
        open_system("teacher", Bench(mini_world, ["sepia", "upside_down"]))
    save_adapter(path, load_tensors(info), info.metadata, {"clbench.instruction": "make it sepia"})
    open_system("teacher", Bench(mini_world, ["sepia", "upside_down"]))
