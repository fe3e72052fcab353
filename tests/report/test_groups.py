"""Groups of sources: compared on the effects that all of them know, and what systems saw of their scenes."""

from __future__ import annotations

from dataclasses import replace

import asked
import pytest
import synthetic
from test_questions import EFFECTS, frame, row

from clbench.probe_words import prompt_words, reworded
from clbench.prompt_lengths import Asked, Lengths, write_lengths
from clbench.report.groups import against_seen, group_table, whole_table
from clbench.report.lengths import fact, lengths_table
from clbench.report.load import load_results
from clbench.report.material import Material
from clbench.report.numbers import compute
from clbench.report.pictures import Album
from clbench.report.questions import groups
from clbench.report.scenes import parts_of, scenes_table, seen_table
from clbench.report.sections import make_sections
from clbench.scene_parts import Parts, scene_parts
from clbench.sources import GROUPS, LEARNED_FROM
from clbench.suite import load_suite
from clbench.types import Case, Score
from clbench.world import load_world

NOWHERE = "effect 'effect_3' acts on the subject and source 'photographs-000' has no mask"


def texts(view) -> list[list[str]]:
    return [[cell.text for cell in line.cells] for line in view.rows]


def hard_on_scenes() -> list[dict]:
    """The last effect always fails and is not known on photographs; the others always succeed, wherever they are."""
    rows = []
    for group in ("seen", "photographs"):
        for effect in EFFECTS:
            for index in range(3):
                at = ("x", effect, f"{group}-{index:03d}")
                status = "unscored" if (effect, group) == (EFFECTS[-1], "photographs") else "ok"
                rows.append(row(*at, "success", float("nan") if status != "ok" else float(effect != EFFECTS[-1]), status=status))
                seen = EFFECTS[-1] if at[1:] == (EFFECTS[0], "seen-000") else effect
                rows.append(row(*at, "attributed", 1.0, "" if status != "ok" else seen, status=status))
    return rows


def test_groups_are_compared_on_the_effects_that_all_of_them_know():
    """Else photographs, where effects on subject and background drop out, look easier than the same pictures with a subject."""
    table = group_table(frame(hard_on_scenes()), "success")
    assert texts(table) == [["x", "100 %", "100 %"]] and "5 effects known in every group" in table.caption
    assert texts(whole_table(frame(hard_on_scenes()), "success")) == [["x", "83 %", "100 %"]]
    gap = against_seen(frame(hard_on_scenes()), "success", ["x"])
    assert [head.label for head in gap.heads] == ["System", "photographs − seen", "Read as an effect of scenes only"]
    assert texts(gap)[0][1:] == ["0 pt open", "6.7 %"] and gap.rows[0].cells[1].title == "15 pairs, 0 dropped, 5 effects"
    assert "sources of a group are fixed" in table.note
    everywhere = [one for one in hard_on_scenes() if one["effect"] != EFFECTS[-1]]
    assert whole_table(frame(everywhere), "success") is None
    assert len(against_seen(frame(everywhere), "success", ["x"]).heads) == 2
    lost = [{**one, "status": "unscored"} if one["source"].startswith("photographs") else one for one in hard_on_scenes()]
    assert [head.label for head in group_table(frame(lost), "success").heads] == ["System", "seen"]
    assert against_seen(frame(lost), "success", ["x"]) is None
    assert against_seen(frame([one for one in everywhere if one["source"].startswith("seen")]), "success", ["x"]) is None


def test_a_group_is_held_against_seen_effect_by_effect():
    rows = [
        row("x", effect, f"{group}-{index:03d}", "success", float(group == "seen"))
        for effect in EFFECTS for group in ("seen", "photographs") for index in range(3)
    ]  # fmt: skip
    cell = against_seen(frame(rows), "success", ["x"]).rows[0].cells[1]
    assert cell.text == "−100 pt worse" and "diff worse" in cell.css
    assert against_seen(frame(rows), "success", ["y"]) is None


def leaking(leaks: bool):
    """Each effect leaks 0.1 into each other; effect_3 is not known on photographs, where the total is so much smaller."""

    def scores(case: Case) -> list[Score]:
        photo = case.source.startswith("photographs")
        others = [effect for effect in asked.EFFECTS if effect != case.effect and not (photo and effect == "effect_3")]
        if photo and case.effect == "effect_3":
            return [Score(case, name, 1, float("nan"), status="unscored", reason=NOWHERE) for name in ("leak_total", "success")]
        rows = [Score(case, "leak_total", 1, 0.1 * len(others)), Score(case, "success", 1, 1.0)]
        return [*rows, *([Score(case, "leak", 1, 0.1, other) for other in others] if leaks else [])]

    return {case: scores(case) for case in asked.each("", asked.GROUPED) + asked.each("paraphrase", asked.GROUPED)}


@pytest.mark.parametrize("leaks", [True, False])
def test_leak_is_summed_over_the_same_effects_in_every_group(tmp_path, leaks):
    runs = [asked.run_of(tmp_path, "generalization", "collection", leaking(leaks))]
    results = load_results(runs, synthetic.about(asked.NAMES, asked.named("generalization")))
    for probe in ("", "paraphrase"):
        table = group_table(results.frame, "leak_total", probe, results)
        assert texts(table) == [["collection", "0.200" if leaks else "0.300", "0.200"]]
        assert ("`clbench score` gives the leak of each effect" in table.note) == (not leaks)
    gap = against_seen(results.frame, "leak_total", ["collection"], results)
    assert (gap is not None) == leaks and (gap is None or texts(gap)[0][1].startswith("0.000"))


PARTS = {
    "seen-000": Parts("shoe", "teacher", "castle", "teacher"), "seen-001": Parts("shoe", "teacher", "beach", "distill"),
    "photographs-000": Parts("", "", "street", "evaluation"), "photographs-001": Parts("", "", "street", "evaluation"),
}  # fmt: skip


def test_who_saw_what_of_a_scene_is_said(tmp_path):
    """«seen» is of the teachers' and the collections' training pictures; a cascade has parts of both kinds."""
    about = replace(synthetic.about(asked.NAMES, asked.named("generalization")), scenes=PARTS)
    results = load_results(asked.generalization(tmp_path), about)
    view = seen_table(results)
    assert [[*line[:4]] for line in texts(view)] == [
        ["cascade", "teachers", "teacher", "1 of 2"], ["collection", "collection", "distill", "0 of 2"],
    ]  # fmt: skip
    assert view.rows[1].cells[3].sub == "subject 0, background 1" and view.rows[1].cells[4].sub == "no subject"
    scenes = scenes_table(results)
    assert texts(scenes)[0] == ["seen-000", "shoe", "castle", "seen-001"] and "4 of 4 scenes share" in scenes.note
    blocks = groups(Material(compute(results), Album(limit=0))).blocks
    assert [block.id for block in blocks[:4]] == [
        "t-groups-success", "t-groups-success-against", "t-groups-training", "t-groups-success-paraphrase",
    ]  # fmt: skip
    plain = load_results(asked.generalization(tmp_path / "again"), replace(about, scenes={}))
    assert seen_table(plain) is None and scenes_table(plain) is None


def test_a_system_has_parts_that_learned_from_different_splits():
    card = {"kind": "cascade", "adapters": {"sepia": "1", "accelerator": "2"}, "settings": {}}
    assert parts_of(card) == ["teachers", "accelerator"]
    assert parts_of({**card, "kind": "merged", "adapters": {"merged": "1"}}) == ["teachers"]
    joined = {"kind": "merged", "adapters": {"merged": "1"}, "settings": {"merged_from": {"accelerator": "2"}}}
    assert parts_of(joined) == ["teachers", "accelerator"] and parts_of({**card, "kind": "folder", "adapters": {}}) == []


def test_parts_learn_from_the_splits_that_are_said_of_them(monkeypatch):
    """The trainer decides it, and reports may not ask the trainer."""
    from reference_trainer import examples

    world, asked_of = load_world("tiny"), []

    def noted(world, split, stream, index):
        asked_of.append(split)
        return made(world, split, stream, index)

    made = examples._scene
    monkeypatch.setattr(examples, "_scene", noted)
    for parts, learn in {
        ("teachers", "joint LoRA"): lambda: examples.teacher_pairs(world, world.effect("sepia"), 1, None),
        ("collection",): lambda: examples.distillation_sources(world, "sepia", 1, None),
        ("collection", "accelerator"): lambda: examples.general_examples(world, 1, None),
    }.items():
        asked_of.clear()
        learn()
        assert asked_of and {LEARNED_FROM[part] for part in parts} == set(asked_of)


def test_the_parts_of_shipped_scenes_are_of_the_splits_of_their_group():
    world, suite = load_world("tiny"), load_suite("generalization")
    parts = scene_parts(world, [*suite.sources(world, 3), world.sources[0].id])
    assert len(parts) == 12
    for source, held in parts.items():
        group = GROUPS[world.source(source).split]
        assert held.background_split in group.backgrounds and held.subject_split in (group.subjects or ("",))
        assert (held.subject, held.background) == (world.source(source).subject, world.source(source).background)


def test_the_words_of_groups_and_of_the_added_phrase_move_no_hash():
    assert load_suite("generalization").hash.startswith("336ba372460b") and "told" not in repr(GROUPS["seen"])


def test_a_phrase_added_is_not_called_other_words():
    plain = list(synthetic.effects().values())
    assert reworded(plain).startswith("with a phrase before or after its own words")
    own = [replace(effect, paraphrases=("quite another thing",)) for effect in plain]
    assert reworded(own) == "in other words"
    assert reworded([*plain[:1], *own[1:]]).startswith("in other words (7 of 8 effects) or with a phrase")
    assert "own `paraphrases`" in prompt_words("paraphrase")
    assert prompt_words("trigger-only") == "the effect's trigger without its caption"


def test_prompts_that_lost_their_end_are_said_where_they_were_asked(tmp_path):
    about = synthetic.about(asked.NAMES, asked.named("generalization"))
    runs = {run.info.system_name: run for run in asked.generalization(tmp_path)}
    write_lengths(Lengths(24, (Asked("plain", 4, 0), Asked("paraphrase", 16, 3))), runs["collection"].path)
    write_lengths(Lengths(24, (Asked("plain", 4, 0), Asked("paraphrase", 16, 0))), runs["cascade"].path)
    results = load_results(list(runs.values()), about)
    sections = {one.id: one for one in make_sections(Material(compute(results), Album(limit=0)))}
    lost = "longer than max_sequence_length (24 tokens) and lose their end."
    assert sections["groups"].lead.endswith(f"3 of 16 prompts by «paraphrase» of collection are {lost}")
    table = next(block for block in sections["probes"].blocks if block.id == "t-prompt-lengths")
    assert texts(table) == [
        ["cascade", "prompts by «paraphrase»", "16", "0", "0 %"], ["collection", "prompts by «paraphrase»", "16", "3", "19 %"],
    ]  # fmt: skip
    assert ("Prompts", "some are longer than 24 tokens") in sections["provenance"].blocks[1].pairs
    (runs["collection"].path / "prompts.json").unlink()
    assert lengths_table(results) is None and fact(results) == "all within 24 tokens"
    (runs["cascade"].path / "prompts.json").unlink()
    assert fact(results) == ""


def test_general_instructions_that_lost_their_end_are_said_with_the_neutral_questions(tmp_path):
    runs = {run.info.system_name: run for run in asked.bleeding(tmp_path)}
    write_lengths(Lengths(24, (Asked("plain", 12, 1), Asked("neutral", 12, 2))), runs["collection"].path)
    results = load_results(list(runs.values()), synthetic.about(asked.NAMES, asked.named("bleeding")))
    sections = {one.id: one for one in make_sections(Material(compute(results), Album(limit=0)))}
    said = "2 of 12 prompts by «neutral» of collection are longer than max_sequence_length (24 tokens) and lose their end."
    assert sections["neutral"].lead == f"An adapter should change nothing where none of its effects is asked for. {said}"
    (runs["collection"].path / "prompts.json").unlink()
    sections = {one.id: one for one in make_sections(Material(compute(results), Album(limit=0)))}
    assert sections["neutral"].lead == "An adapter should change nothing where none of its effects is asked for."
