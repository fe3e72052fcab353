"""Sections about probes, neutral questions, pairs, groups, capacity, sets and deployment, on runs with planted answers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import asked
import pytest
import synthetic
from test_report import parse, visible

from clbench.cost.answer import answer
from clbench.cost.options import Options
from clbench.memory.points import BASE, Point
from clbench.memory.record import MemoryFile, measurement, write_memory
from clbench.registry import ClbenchError
from clbench.report import build_all, ledger, pareto, write_report
from clbench.report.cells import TableView
from clbench.report.data import place
from clbench.report.deployment import Deployment, checks, facts
from clbench.report.deployment import verdict as deployment_verdict
from clbench.report.load import load_results
from clbench.report.material import Material
from clbench.report.numbers import compute
from clbench.report.pictures import Album
from clbench.report.sections import make_sections
from clbench.report.sets import overall
from clbench.report.verdict import verdict
from clbench.results import RunFolder
from clbench.set_table import read_sets
from clbench.world import load_world

MIB = 2**20
SUITES = ("bleeding", "composition", "generalization", "capacity")


def about(suite: str):
    return synthetic.about(asked.NAMES, asked.named(suite))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, list[RunFolder]]:
    out = tmp_path_factory.mktemp("asked")
    return {suite: getattr(asked, suite)(out / suite) for suite in SUITES}


@pytest.fixture(scope="module")
def tables(runs) -> dict[str, dict[str, TableView]]:
    """Suite -> id -> table, folded ones too."""
    found: dict[str, dict[str, TableView]] = {}

    def collect(blocks, into: dict[str, TableView]) -> None:
        for block in blocks:
            if isinstance(block, TableView):
                into[block.id] = block
            collect(getattr(block, "blocks", ()), into)

    for suite, mine in runs.items():
        material = Material(compute(load_results(mine, about(suite))), Album(limit=10_000))
        for section in make_sections(material):
            collect(section.blocks, found.setdefault(suite, {}))
    return found


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> tuple[str, str]:
    return rendered(runs, tmp_path_factory.mktemp("page"))


def rendered(runs, out: Path) -> tuple[str, str]:
    parts = [(mine, about(suite)) for suite, mine in runs.items()]
    said = answer(Options())
    ledger = Deployment(asked.memory(), "clbench eval --suite all", [("50 effects on qwen-image-edit", said)])
    html, markdown = build_all(parts, out, [ledger])
    return html.read_text(encoding="utf-8"), markdown.read_text(encoding="utf-8")


def words(table: TableView, *columns: int) -> list[tuple[str, ...]]:
    return [tuple(row.cells[column].text for column in columns) for row in table.rows]


def test_probes_stand_apart_from_plain_questions(tables):
    mine = tables["bleeding"]
    summary = {row.cells[0].text: [cell.text for cell in row.cells] for row in mine["t-summary"].rows}
    assert summary["collection"][1] == "100 %" and summary["collection"][-1] == "12 / 12", "probes would make it 33 % of 36"
    assert summary["cascade"][1] == "75 %" and "reseed" not in summary
    assert words(mine["t-probes"], 0, 1, 2, 3, 5) == [
        ("collection", "plain", "100 %", "", "0 %"), ("collection", "caption-only", "0 %", "", "100 %"),
        ("collection", "other-trigger", "0 %", "100 %", "0 %"),
    ]  # fmt: skip


def test_neutral_questions_are_read_against_the_reseeded_base(tables):
    table = tables["bleeding"]["t-neutral"]
    assert words(table, 0, 1, 3) == [("cascade", "3.00", "Sepia"), ("collection", "1.00", "none"), ("reseed", "1.00", "none")]
    assert [row.css for row in table.rows] == ["", "", "control"]
    assert {"t-probes", "t-neutral"} & set(tables["composition"]) == set()


def test_the_gram_matrix_names_effects(tables):
    assert words(tables["bleeding"]["t-gram"], 1, 3, 4) == [
        ("captions", "0.900", "Fog and Night"), ("triggers", "0.100", "Fog and Night"),
    ]  # fmt: skip
    assert "t-gram" not in tables["capacity"]


def test_sets_are_shown_over_all_and_by_effect(tables, runs):
    mine = tables["bleeding"]
    assert words(mine["t-sets"], 0, 1, 2) == [
        ("cascade", "0.2500", "0.25"), ("collection", "0.1250", "0.12"), ("truth", "0.0000", "0.00"),
    ]  # fmt: skip
    assert words(mine["t-sets-kid"], 0, 1)[:3] == [("Fog", "0.2500"), ("Night", "0.2500"), ("Sepia", "–")]
    assert "needs 16" in mine["t-sets-kid"].rows[2].cells[1].title
    assert overall(load_results(runs["capacity"], about("capacity"))) is None


def test_sets_of_another_run_are_refused(runs, tmp_path):
    folder = asked.run_of(tmp_path, "capacity", "cascade", {case: asked.shown(case, case.effect) for case in asked.each()})
    assert read_sets(folder) == []
    (folder.path / "sets.json").write_bytes((runs["bleeding"][1].path / "sets.json").read_bytes())
    with pytest.raises(ClbenchError, match="run `clbench score` again"):
        read_sets(folder)
    (folder.path / "sets.json").write_text("[]")
    with pytest.raises(ClbenchError, match="not a table of set-level values"):
        read_sets(folder)


def test_two_edits_stand_apart_from_one(tables):
    mine = tables["composition"]
    summary = {row.cells[0].text: [cell.text for cell in row.cells] for row in mine["t-summary"].rows}
    assert summary["collection"][1] == "100 %" and summary["cascade"][1] == "0 %" and summary["collection"][-1] == "9 / 12"
    assert words(mine["t-composition"], 0, 1, 2) == [
        ("cascade", "one edit", "0 %"), ("cascade", "two edits", "100 %"), ("collection", "one edit", "100 %"),
        ("collection", "two edits", "0 %"), ("truth", "one edit", "100 %"), ("identity", "one edit", "0 %"),
    ]  # fmt: skip
    assert [row.css for row in mine["t-composition"].rows[-2:]] == ["control", "control"]
    assert words(mine["t-twice"], 0, 1, 2) == [
        ("cascade", "one edit", "−100 pt open"), ("collection", "one edit", "0 pt open"),
        ("collection", "two edits", "−100 pt open"),
    ]  # fmt: skip
    assert not [name for name in mine if name.startswith("t-attribution")], "labels of pairs are no effects"


def test_groups_of_sources_and_other_words(tables):
    mine = tables["generalization"]
    assert [head.label for head in mine["t-groups-success"].heads] == ["System", "seen", "photographs"]
    assert words(mine["t-groups-success"], 0, 1, 2) == [
        ("cascade", "100 %", "100 %"), ("collection", "100 %", "0 %"), ("truth", "100 %", "100 %"),
    ]  # fmt: skip
    assert words(mine["t-groups-success-paraphrase"], 0, 1) == [("cascade", "100 %"), ("collection", "0 %")]
    assert words(mine["t-groups-perceptual"], 0, 2)[1] == ("collection", "0.300")
    assert not [name for name in tables["bleeding"] if name.startswith("t-groups")]


def test_capacity_and_extension(tables):
    mine = tables["capacity"]
    assert words(mine["t-capacity-success"], 0, 1, 2, 4) == [
        ("collection", "2", "100 %", "100 %"), ("collection-four", "4", "0 %", "0 %"),
    ], "an extended adapter differs from the others in more than its size"  # fmt: skip
    assert words(mine["t-capacity-success"], 3, 5) == [("+50 pt open", "+50 pt open"), ("−50 pt open", "−50 pt open")]
    assert "No break-even: of the 2 effects that all adapters hold" in mine["t-capacity-success"].note
    assert words(mine["t-incremental-success"], 0, 1, 2, 3, 4, 5, 6) == [
        ("collection-more", "2", "0 %", "−100 pt open", "2", "100 %", "+50 pt open"),
        ("collection", "2", "100 %", "", "0", "", ""), ("cascade", "2", "50 %", "", "2", "50 %", ""),
    ]  # fmt: skip
    assert "With 2 effects and 1 adapter no difference can pass" in mine["t-incremental-success"].note
    assert not [name for name in tables["bleeding"] if name.startswith(("t-capacity", "t-incremental"))]


def test_a_report_on_an_extension_is_about_what_was_extended(runs, tmp_path):
    mine = runs["capacity"]
    results = load_results(mine, about("capacity"))
    assert results.candidate.system == "collection-more"
    assert any("collection-more and cascade" in sentence.text for sentence in verdict(compute(results)))
    answers = {case: asked.shown(case, case.effect) for case in asked.each()}
    settings = {"effects": asked.EFFECTS, "new effects": asked.EFFECTS[2:]}
    other = asked.run_of(tmp_path, "capacity", "collection-other", answers, settings)
    keys = [sentence.text for sentence in verdict(compute(load_results([*mine, other], about("capacity")))) if sentence.key]
    assert keys == [f"{name} and cascade cannot be told apart on success." for name in ("collection-more", "collection-other")]
    plain = [run for run in mine if run.info.system_name != "collection-more"]
    assert load_results(plain, about("capacity")).candidate.system == "collection-four", "the one that carries the most"


def test_no_curve_from_one_size_and_an_extension(runs):
    few = [run for run in runs["capacity"] if run.info.system_name != "collection-four"]
    sections = {one.id for one in make_sections(Material(compute(load_results(few, about("capacity"))), Album(limit=0)))}
    assert "incremental" in sections and "capacity" not in sections


def test_a_joint_lora_of_few_effects_stands_in_no_curve_of_collections(runs, tmp_path):
    """Of exactly the old effects it is not what the extended adapter was before, and it is no smaller collection."""
    old = asked.EFFECTS[:2]
    answers = {case: asked.shown(case, case.effect) if case.effect in old else "was not trained on it" for case in asked.each()}
    joint = asked.run_of(tmp_path, "capacity", "joint", answers, {"effects": old, "new effects": []})
    sections = made([*runs["capacity"], joint])
    assert sections == made(runs["capacity"]) and {"capacity", "incremental"} <= set(sections)
    few = [run for run in runs["capacity"] if run.info.system_name not in ("collection", "collection-more")]
    assert "capacity" not in made([*few, joint])


def made(mine) -> dict[str, list[str]]:
    """Section -> the systems that its tables name, of what collections hold."""
    found = make_sections(Material(compute(load_results(mine, about("capacity"))), Album(limit=0)))
    return {
        one.id: [row.cells[0].text for block in one.blocks if isinstance(block, TableView) for row in block.rows]
        for one in found if one.id in ("capacity", "incremental")
    }  # fmt: skip


def test_an_adapter_of_fewer_effects_ranks_with_nothing(tmp_path):
    """Right on its two easy effects, where the others are right on three of four: its mean is of other questions."""
    easy, third = asked.EFFECTS[:2], asked.EFFECTS[2]
    runs = []
    for name, held in (("cascade", asked.EFFECTS), ("collection", easy), ("collection-all", asked.EFFECTS)):
        answers = {
            case: asked.shown(case, case.effect if case.effect in (*easy, third) else "source")
            if case.effect in held else "was not trained on it" for case in asked.each()
        }  # fmt: skip
        settings = None if name == "cascade" else {"effects": list(held), "new effects": []}
        runs.append(asked.run_of(tmp_path, "capacity", name, answers, settings))
    about_it = replace(about("capacity"), names={"collection": "collection (two)"}, ranks={"collection-all": 8, "collection": 4})
    results = load_results(runs, about_it)
    assert [entry.system for entry in results.partial] == ["collection"] and results.candidate.system == "collection-all"
    numbers = compute(results)
    said = " ".join(sentence.text for sentence in verdict(numbers))
    assert "cascade and collection-all share the highest measured success, 75 %" in said
    assert "collection (two) was asked of fewer effects" in said
    assert {offer.entry.system for offer in pareto.offers(numbers, "passes")} == {"cascade", "collection-all"}
    sections = {one.id: one for one in make_sections(Material(numbers, Album(limit=0)))}
    rows = [row for block in sections["capacity"].blocks if isinstance(block, TableView) for row in block.rows]
    assert [cell.text for cell in rows[0].cells[:5]] == ["collection (two)", "2", "100 %", "0 pt open", "100 %"]
    assert [cell.text for cell in rows[1].cells[:5]] == ["collection-all", "4", "75 %", "0 pt open", "100 %"]
    assert "ranks" not in sections, "of the two ranks one carries fewer effects"


def test_pairs_are_grouped_as_their_tables_group_them(runs):
    """Two seconds of one effect on one source are two places, not two seeds of one."""
    results = load_results(runs["composition"], about("composition"))
    assert results.systems[0].sources[0] == f"{results.systems[0].cases[0].second}/source_00"
    case = results.systems[0].cases[0]
    assert len({place(replace(case, second=second)) for second in ("", "effect_1", "effect_2")}) == 3


def test_variants_are_compared_with_the_full_method(tmp_path, monkeypatch):
    for name, skill in (("cascade", 0.5), ("collection", 1.2), ("collection-no-a", 0.1), ("collection-no-b", 1.19)):
        monkeypatch.setitem(synthetic.SKILL, name, skill)
    made = synthetic.make_runs(tmp_path, ("cascade", "collection", "collection-no-a", "collection-no-b", "truth"), sources=3)
    numbers = compute(load_results(made, replace(synthetic.about(), reference="collection")))
    assert numbers.results.candidate.system == "collection", "the worst effects of the full method come first"
    said = [sentence.text for sentence in verdict(numbers)]
    assert said[0] == (
        "On success, collection-no-a is worse than collection; collection-no-b is not told apart from collection."
    )
    assert said[1] == "Each on the same cases, corrected for all 3 systems compared."
    sections = {one.id: one for one in make_sections(Material(numbers, Album(limit=0)))}
    assert "published" not in sections and sections["differences"].blocks[0].caption == "Paired differences to collection"
    row = {row.cells[0].text: row for row in sections["summary"].blocks[0].rows}
    assert row["collection"].cells[2].text == "reference" and row["cascade"].cells[2].text.endswith("worse")


def test_variants_on_one_effect_are_told_by_their_differences(tmp_path, monkeypatch):
    """One effect gives no interval; the differences are known, and stand in the tables."""
    for name, skill in (("collection", 1.2), ("collection-no-a", 0.0), ("collection-no-b", 1.2)):
        monkeypatch.setitem(synthetic.SKILL, name, skill)
    names = synthetic.NAMES[:2]
    made = synthetic.make_runs(tmp_path / "one", ("collection", "collection-no-a", "collection-no-b"), names[:1], sources=3)
    numbers = compute(load_results(made, replace(synthetic.about(names[:1]), reference="collection")))
    assert [sentence.text for sentence in verdict(numbers) if sentence.key] == [
        "On the same cases the success of collection-no-a differs by −67 pt and that of collection-no-b by 0 pt from that of "
        "collection; no interval from a single effect.",
    ]
    more = synthetic.make_runs(tmp_path / "two", ("collection", "collection-no-b"), names, sources=3)
    both = [run for run in made if run.info.system_name == "collection-no-a"] + more
    numbers = compute(load_results(both, replace(synthetic.about(names), reference="collection")))
    said = [sentence.text for sentence in verdict(numbers) if sentence.key]
    assert said[0] == "On success, collection-no-b is not told apart from collection."
    assert said[1].endswith("collection-no-a differs by −67 pt from that of collection; no interval from a single effect.")


def test_controls_of_pairs_are_checked(page):
    text = visible(page[0])
    assert "Control truth: 9 of 9 show both effects." in text and "Control identity: 9 of 9 do not show both effects." in text


def test_deployment_says_who_costs_what(page):
    found = asked.memory()
    assert deployment_verdict(found)[0].text == (
        "The cascade of 9 effects has 9.0000 MiB of adapters on disk, 9.0000 MiB loaded; "
        "the collection, one adapter of 3 effects (as its file says), has 1.0000 MiB of adapters on disk, 1.0000 MiB loaded "
        "(for 9 effects 3 such adapters, 3.0000 MiB)."
    )
    assert deployment_verdict(found)[1].text == "Another effect takes the cascade 500.0 ms from disk."
    assert dict(facts(found))["Pools"] == "2"
    text = visible(page[0])
    assert "110.65 GiB" in text and "not made up" in text and "Bytes of adapters by effects served" in page[0]
    assert deployment_verdict(found.model_copy(update={"rows": []}))[0].key


def only(found: MemoryFile, *systems: str) -> MemoryFile:
    return found.model_copy(update={"rows": [row for row in found.rows if row.system in ("base", *systems)]})


def test_deployment_of_teachers_alone_is_told_as_such():
    found = asked.memory(pool="teacher")
    assert deployment_verdict(found)[0].text.startswith("The pool of teachers of 9 effects has 9.0000 MiB of adapters on disk")
    assert deployment_verdict(found)[1].text == "Another effect takes the pool of teachers 500.0 ms from disk."
    assert ledger.growth(found) is None
    assert ledger.growth(found, "teacher").caption == "Switching in the pool of teachers, by size of the pool"
    assert "The edit of teacher takes the world's full steps" in ledger.measured(found).note
    assert "full steps" not in ledger.measured(asked.memory()).note and "Left out" not in dict(facts(asked.memory()))
    both = found.model_copy(update={"rows": [*found.rows, *asked.memory().rows]})
    assert deployment_verdict(both)[0].text == deployment_verdict(asked.memory())[0].text
    lean = found.model_copy(update={"left_out": "x (why)", "alone": "teacher (why)"})
    assert facts(lean)[-2:] == [("Without accelerator", "teacher (why)"), ("Left out", "x (why)")]
    assert facts(found)[-1][0] == "Measured"


def test_deployment_without_a_pool_or_without_a_collection_has_a_verdict():
    found = asked.memory()
    assert deployment_verdict(only(found, "cascade"))[0].text == (
        "The cascade of 9 effects has 9.0000 MiB of adapters on disk, 9.0000 MiB loaded."
    )
    alone = deployment_verdict(only(found, "collection"))
    assert [one.text for one in alone] == [
        "The collection, one adapter of 3 effects (as its file says), has 1.0000 MiB of adapters on disk, 1.0000 MiB loaded."
    ]
    merged = [row.model_copy(update={"system": "merged"}) for row in found.rows if row.system == "cascade" and not row.slots]
    assert deployment_verdict(found.model_copy(update={"rows": merged}))[0].text.startswith("The merged LoRA of 9 effects has 9.")


def test_a_ledger_of_an_older_clbench_is_not_believed_about_its_collection():
    """It put the collection at the largest pool, whatever it was trained on."""
    rows = [row.model_copy(update={"effects": 9}) if row.system == "collection" else row for row in asked.memory().rows]
    found = asked.memory().model_copy(update={"rows": rows, "holds": "", "schema_": 1})
    assert "the collection, one adapter, of how many effects this file does not say, has 1.0000 MiB" in (
        deployment_verdict(found)[0].text
    )
    assert "it stands at the largest pool" in ledger.measured(found).note


def test_a_peak_is_judged_by_what_was_foretold_of_it_too():
    """Most of a peak is the base's own: 20 MiB more than foretold are 5 % of nothing, and four times the adapters."""
    found = asked.memory()
    assert [check.ok for check in checks(found)] == [True, False, False]
    assert "3 of 4 points within 5 % of what was foretold; 100.00 MiB of each are the base's own" in checks(found)[1].text
    point = Point("cascade", 9)
    rows = [row for row in found.rows if row.point in (BASE, point)]
    for base, more, right in ((1000, 3, True), (1000, 20, False)):
        made = {BASE: base, point: base + 9 + more}
        told = [
            measurement(row.point, "peak_bytes", [made[row.point] * MIB], None if row.point == BASE else (base + 9) * MIB)
            if row.quantity == "peak_bytes" else row
            for row in rows
        ]  # fmt: skip
        said = checks(found.model_copy(update={"rows": told}))
        assert [check.ok for check in said] == [True, True, right]
        assert f"{int(right)} of 1 points within 5 % plus 4 MiB of what was foretold" in said[2].text
    failed = [measurement(point, "peak_bytes", [], reason="no memory", failed=True)]
    said = checks(found.model_copy(update={"rows": failed, "status": "running"}))
    assert [check.text for check in said] == ["Could not be measured: cascade-9. The same command tries again."]


def test_all_sections_share_one_page(page):
    html, markdown = page
    outline = parse(html)
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    wanted = {
        "bleeding-probes", "bleeding-neutral", "bleeding-sets", "composition-composition", "generalization-groups",
        "capacity-capacity", "capacity-incremental", "memory-ledger", "memory-foretold", "memory-scale", "memory-provenance",
    }  # fmt: skip
    assert wanted <= set(outline.ids)
    assert not {"capacity-probes", "bleeding-capacity", "composition-bleeding", "composition-groups"} & set(outline.ids)
    for title in ("Prompts", "Neutral questions", "Two effects", "Away from training", "Number of effects", "Ledger"):
        assert f"\n## {title}\n" in markdown
    for text in (visible(html), markdown):
        assert not re.search(r"\b(nan|null|inf|None)\b", text)


def test_the_same_runs_give_the_same_page(runs, page, tmp_path):
    assert rendered(runs, tmp_path) == page


def test_a_folder_with_nothing_but_memory_has_a_report(mini_world, mini_world_file, without, tmp_path):
    whole = mini_world_file.read_text()
    world = synthetic.Named(name=mini_world.name, hash=mini_world.hash)
    out = tmp_path / "all" / "memory"
    out.mkdir(parents=True)
    write_memory(asked.memory(world), out)
    for folder in (out, out.parent):
        html, markdown = (path.read_text(encoding="utf-8") for path in write_report(folder, str(mini_world_file)))
        assert "What deployment costs, measured" in visible(html) and "# What does deploying cost?" in markdown
        assert "The pool of world mini" in markdown and "50 effects on qwen-image-edit" in markdown
    with pytest.raises(ClbenchError, match="name its file with --world"):
        write_report(out)
    for pool, kept in (("cascade", ("collection",)), ("teacher", ("teacher",))):
        lean = load_world(without("teachers" if pool == "cascade" else "accelerator"))
        write_memory(only(asked.memory(synthetic.Named(name=lean.name, hash=lean.hash), pool), *kept), out)
        html, markdown = (path.read_text(encoding="utf-8") for path in write_report(out, str(mini_world_file)))
        assert ("The pool of world mini" in markdown) == (pool == "teacher") and "50 effects on qwen-image-edit" in markdown
        mini_world_file.write_text(whole)
    assert "| Effects | teacher | collection |" in markdown and "| Effects | cascade | collection |" in markdown
    assert "bytes-effects-0" in html
    write_memory(asked.memory(), out)
    with pytest.raises(ClbenchError, match="was measured in world 'tiny'"):
        write_report(out, str(mini_world_file))
