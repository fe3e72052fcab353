"""Rows about probes, compositions, steps and candidates, from frames whose answers were planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clbench.report.capacity import (
    break_even_words,
    capacity_break_even,
    capacity_table,
    common_gaps,
    rank_table,
    trained_effects,
)
from clbench.report.composition import against_twice, composition_table, twice_table
from clbench.report.groups import against_seen, group_table
from clbench.report.incremental import incremental_table
from clbench.report.probes import floor_ratio, gram_table, neutral_table, probe_table

EFFECTS, SOURCES = [f"e{i}" for i in range(6)], [f"s{i}" for i in range(4)]
HELD = {"c2": EFFECTS[:2], "c4": EFFECTS[:4], "c6": EFFECTS}
NEXT = {effect: EFFECTS[(place + 1) % 6] for place, effect in enumerate(EFFECTS)}


def row(system, effect, source, metric, value, other="", probe="", second="", steps=None, status="ok"):
    return {
        "system": system, "effect": effect, "source": source, "seed": 0, "steps": steps, "probe": probe, "second": second,
        "metric": metric, "other": other, "value": value, "status": status, "reason": "" if status == "ok" else "why",
    }  # fmt: skip


def frame(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    return table.assign(steps=table["steps"].astype("Int64"))


def cells(table, *, starts: str, col: int) -> list[str]:
    return [line.cells[col].text for line in table.rows if line.cells[0].text == starts]


def seen(system: str, answer) -> list[dict]:
    probes = ("", "caption-only", "trigger-only", "other-trigger")
    return [
        row(system, effect, source, "attributed", 1.0, answer(effect, probe), probe)
        for effect in EFFECTS for source in SOURCES for probe in probes
    ]  # fmt: skip


def test_who_decides_trigger_or_caption():
    deaf = seen("deaf", lambda effect, probe: "source" if probe == "trigger-only" else effect)
    orthogonal = seen(
        "orthogonal", lambda effect, probe: {"other-trigger": NEXT[effect], "caption-only": "source"}.get(probe, effect)
    )
    table = probe_table(frame(deaf + orthogonal), NEXT)
    assert table is not None
    assert cells(table, starts="deaf", col=1) == ["plain", "caption-only", "trigger-only", "other-trigger"]
    assert cells(table, starts="deaf", col=2) == ["100 %", "100 %", "0 %", "100 %"]
    assert cells(table, starts="deaf", col=3)[-1] == "0 %" and cells(table, starts="orthogonal", col=3)[-1] == "100 %"
    assert cells(table, starts="orthogonal", col=5) == ["0 %", "100 %", "0 %", "0 %"]
    assert probe_table(frame(seen("x", lambda e, p: e)).query("probe == ''"), NEXT) is None


def test_a_plain_question_is_compared_on_the_sources_of_the_probes():
    rows = [row("x", e, s, "attributed", 1.0, e if s == "s0" else "none") for e in EFFECTS for s in SOURCES]
    rows += [row("x", e, "s0", "attributed", 1.0, e, "caption-only") for e in EFFECTS]
    assert cells(probe_table(frame(rows), NEXT), starts="x", col=2) == ["100 %", "100 %"]


def neutral(system: str, distance: float, leak: float, seed: int = 1) -> list[dict]:
    rng, rows = np.random.default_rng(seed), []
    for effect in EFFECTS:
        for source in SOURCES:
            scale = rng.uniform(0.5, 1.5)
            at = (system, effect, source)
            rows.append(row(*at, "neutral_distance", distance * scale, probe="neutral"))
            rows.append(row(*at, "neutral_leak_total", leak, probe="neutral"))
            rows += [row(*at, "neutral_leak", leak if other == "e2" else 0.0, other, "neutral") for other in EFFECTS]
            rows.append(row(*at, "attributed", 1.0, "e2" if leak > 0.5 else "base", "neutral"))
    return rows


def test_neutral_distance_is_in_units_of_the_reseed_floor():
    drawn = neutral("other", 0.5, 0.8, seed=2)
    rows = frame(neutral("base", 0, 0) + neutral("good", 0.1, 0) + neutral("bad", 0.5, 0.8) + neutral("reseed", 0.1, 0) + drawn)
    table = neutral_table(rows[rows["system"] != "other"])
    assert [line.cells[0].text for line in table.rows] == ["good", "bad", "reseed"]
    subs = {line.cells[0].text: line.cells[1].sub for line in table.rows}
    assert subs["reseed"] == "[1.00, 1.00]" and subs["good"] == "equal in every effect, so nothing is known of other ones"
    assert cells(table, starts="good", col=1) == ["1.00"] and cells(table, starts="bad", col=1) == ["5.00"]
    assert cells(table, starts="bad", col=3) == ["e2"] and cells(table, starts="good", col=3) == ["none"]
    assert cells(table, starts="bad", col=4) == ["100 %"] and cells(table, starts="good", col=4) == ["0 %"]
    distance = rows[rows["metric"] == "neutral_distance"]
    found, alike = (floor_ratio(*(distance[distance["system"] == s] for s in (one, "reseed"))) for one in ("other", "bad"))
    assert found.low < found.value < found.high and found.n_pairs == 24
    assert alike.value == pytest.approx(5) and np.isnan(alike.low) and "same ratio in every effect" in alike.reason
    alone = neutral_table(rows[rows["system"] == "good"])
    assert alone.rows[0].cells[1].text == "–" and "no run of control reseed" in alone.rows[0].cells[1].sub
    assert neutral_table(rows[rows["probe"] == ""]) is None


def test_neutral_questions_that_failed_or_have_no_reading_are_counted():
    """Of 24 questions 6 were scored, 12 failed and 6 have no reading; the one leak that was read is still the largest."""
    rows = neutral("x", 0.2, 0.8) + neutral("reseed", 0.1, 0)
    rows += [row("truth", e, s, "neutral_distance", np.nan, probe="neutral", status="unscored") for e in EFFECTS for s in SOURCES]
    rows += [row("broken", e, s, "neutral_distance", np.nan, probe="neutral", status="failed") for e in EFFECTS for s in SOURCES]
    state = dict(zip(SOURCES, ("ok", "failed", "failed", "unscored"), strict=True))
    for one in rows:
        if one["system"] == "x" and state[one["source"]] != "ok":
            one |= {"value": np.nan, "status": state[one["source"]], "other": ""}
    table = neutral_table(frame(rows))
    assert [line.cells[0].text for line in table.rows] == ["x", "reseed", "broken"], "the truth was not asked"
    _, distance, leak, largest, shows = table.rows[0].cells
    assert leak.title == shows.title == "6 of 24 scored, 12 failed" and (leak.text, shows.text) == ("0.800", "100 %")
    assert largest.text == "e2" and distance.title == "6 questions answered by both"
    failed = frame(rows).assign(value=np.nan, status="failed")
    assert neutral_table(failed) is None


def test_a_floor_that_may_be_zero_bounds_no_ratio_above():
    rows = neutral("x", 0.2, 0) + [
        row("reseed", e, s, "neutral_distance", 0.1 if e == "e0" else 0.0, probe="neutral") for e in EFFECTS for s in SOURCES
    ]
    cell = neutral_table(frame(rows)).rows[0].cells[1]
    assert cell.sub.endswith(", no upper bound]") and np.isnan(cell.bounds[1])
    rows = [dict(one, value=0.0) if one["system"] == "reseed" else one for one in rows]
    assert neutral_table(frame(rows)).rows[0].cells[1].sub == "no ratio: the second is 0 in every case"


def composed(system: str, way: str, both: float) -> list[dict]:
    rows = []
    for effect in EFFECTS:
        for source in SOURCES:
            rest = {"probe": way, "second": NEXT[effect]}
            rows.append(row(system, effect, source, "both", both, **rest))
            rows.append(row(system, effect, source, "in_order", float("nan"), status="unscored", **rest))
            rows.append(row(system, effect, source, "order_change", 0.25, **rest))
    return rows


def test_compositions_by_one_and_two_edits():
    rows = frame(composed("collection", "", 0) + composed("collection", "twice", 1) + composed("cascade", "twice", 1))
    table = composition_table(rows)
    assert [(line.cells[0].text, line.cells[1].text, line.cells[2].text) for line in table.rows] == [
        ("collection", "one edit", "0 %"), ("collection", "two edits", "100 %"), ("cascade", "two edits", "100 %"),
    ]  # fmt: skip
    assert table.rows[0].cells[5].text == "–" and table.rows[0].cells[7].text == "0.250" and "6 ordered pairs" in table.caption
    gap = against_twice(rows, "collection")
    assert gap.value == -1 and gap.n_pairs == 24
    assert against_twice(rows, "collection", way="twice").value == 0
    assert composition_table(rows[rows["second"] == ""]) is None


def candidates() -> tuple[pd.DataFrame, dict[str, int]]:
    rows = [row("cascade", e, s, "success", 0.5) for e in EFFECTS for s in SOURCES]
    for name, value, kept in (("c2", 0.7, 2), ("c4", 0.6, 4), ("c6", 0.4, 6)):
        for place, e in enumerate(EFFECTS):
            score, status = (value, "ok") if place < kept else (float("nan"), "unscored")
            rows += [row(name, e, s, "success", score, status=status) for s in SOURCES]
    return frame(rows), {"c2": 2, "c4": 4, "c6": 6}


def test_capacity_compares_common_effects_and_finds_the_break_even():
    rows, counts = candidates()
    rows = rows.assign(metric="vsa")
    names, gaps, shared = common_gaps(rows, counts, "vsa")
    assert names == ["c2", "c4", "c6"] and shared == ["e0", "e1"]
    np.testing.assert_allclose(gaps.mean(axis=1), [0.2, 0.1, -0.1])
    found = capacity_break_even(rows, counts, "vsa")
    assert found.value == pytest.approx(np.sqrt(24)) and np.isnan([found.low, found.high]).all()
    assert "no interval from 2 effects" in found.reason  # a bootstrap over two would end at the smaller and the larger
    table = capacity_table(rows, HELD, "vsa")
    gaps = ["+0.20 open", "+0.10 open", "−0.10 open"]
    assert [line.cells[5].text for line in table.rows] == [line.cells[3].text for line in table.rows] == gaps
    assert [line.cells[5].title for line in table.rows] == ["8 pairs, 0 dropped, 2 effects"] * 3
    assert [line.cells[3].title for line in table.rows] == [f"{4 * n} pairs, 0 dropped, {n} effects" for n in (2, 4, 6)]
    assert "at about 4.9 effects (no interval from 2 effects, fewer than 6)" in table.note
    assert "No break-even" in break_even_words(capacity_break_even(rows[rows.system != "cascade"], counts, "vsa"), "cascade")
    assert capacity_table(rows, {}, "vsa") is None


def test_less_leak_than_the_reference_is_a_minus_in_tables_and_better_in_the_break_even():
    """Markdown has no tooltips: a turned sign would say that an adapter of less leak leaks more."""
    rows, counts = candidates()
    leak = rows.assign(metric="leak_total", value=1 - rows["value"])
    capacity, ranks = capacity_table(leak, HELD, "leak_total"), rank_table(leak, counts, HELD, "leak_total")
    assert [line.cells[5].text for line in capacity.rows] == ["−0.200 open", "−0.100 open", "+0.100 open"]
    assert [line.cells[3].text for line in ranks.rows] == ["−0.200 open", "−0.100 open", "+0.100 open"]
    assert [line.cells[5].sort for line in capacity.rows] == pytest.approx([-0.2, -0.1, 0.1])
    assert capacity.heads[2].label == ranks.heads[2].label == "Leak ↓"
    np.testing.assert_allclose(common_gaps(leak, counts, "leak_total")[1].mean(axis=1), [-0.2, -0.1, 0.1])
    good = capacity_break_even(rows.assign(metric="vsa"), counts, "vsa")
    assert capacity_break_even(leak, counts, "leak_total").value == pytest.approx(good.value) == pytest.approx(np.sqrt(24))


def test_cases_of_its_own_effects_that_have_no_score_are_counted():
    """c2 was asked of its two effects: of 8 cases 2 are scored, 4 have no reading, 2 failed; other effects are not its own."""
    rows, _ = candidates()
    state = dict(zip(SOURCES, ("unscored", "unscored", "failed", "ok"), strict=True))
    mine = (rows["system"] == "c2") & rows["effect"].isin(HELD["c2"])
    rows.loc[mine, "status"] = rows.loc[mine, "source"].map(state)
    rows.loc[mine & (rows["status"] != "ok"), "value"] = np.nan
    (own, *_), (rank,) = capacity_table(rows, HELD, "success").rows, rank_table(rows, {"c2": 8}, HELD, "success").rows
    assert own.cells[2].title == own.cells[4].title == rank.cells[2].title == "2 of 8 scored, 2 failed"
    unsaid = rank_table(rows, {"c2": 8}, {}, "success").rows[0].cells[2]
    assert unsaid.title == "2 of 24 scored, 2 failed", "a card that does not name its effects leaves all that it was asked for"


def test_without_a_reference_adapters_still_stand_on_the_effects_of_all():
    """Their common effects do not depend on it, and no column is full of differences to nothing."""
    rows = candidates()[0]
    rows = rows[rows["system"] != "cascade"]
    table = capacity_table(rows, HELD, "success")
    assert [[cell.text for cell in line.cells] for line in table.rows] == [
        ["c2", "2", "70 %", "70 %"], ["c4", "4", "60 %", "60 %"], ["c6", "6", "40 %", "40 %"],
    ]  # fmt: skip
    assert [head.sub for head in table.heads[2:]] == ["its own effects", "2 common effects"]
    assert table.note == (
        "Without a run of cascade nothing is said about differences to it, nor from which number of effects on it is better."
    )
    ranks = rank_table(rows, {"c4": 4, "c6": 6}, HELD, "success")
    assert [len(line.cells) for line in ranks.rows] == [3, 3] and len(ranks.heads) == 3
    assert ranks.note == "Without a run of cascade nothing is said about differences to it."
    extended = {"c6": (EFFECTS, EFFECTS[4:])}
    assert "Without a run of cascade there is no difference to it." in incremental_table(rows, extended, "success").note
    rows = candidates()[0].assign(system=lambda all_: all_["system"].replace("cascade", "teacher"))
    told = incremental_table(rows, extended, "success", "teacher")
    assert [line.cells[0].text for line in told.rows] == ["c6", "teacher"], "the reference once, though it is the teacher"
    assert told.heads[6].label == "minus teacher, new" and told.rows[0].cells[6].text == "−10 pt open"


def test_a_reference_of_more_scenes_is_compared_on_those_of_both():
    """The cascade fails on the scenes that the adapter was not asked of; on the others both are equal."""
    rows = [row("cascade", e, s, "success", float(s in SOURCES[:2])) for e in EFFECTS for s in SOURCES]
    rows += [row("c6", e, s, "success", 1.0) for e in EFFECTS for s in SOURCES[:2]]
    _, gaps, shared = common_gaps(frame(rows), {"c6": 6}, "success")
    assert shared == list(EFFECTS) and (gaps == 0).all()


def test_an_adapter_stands_on_its_own_effects_and_on_those_of_all():
    """c6 is as good as c2 on the two effects of c2 and fails on the others: no fall of the adapter's."""
    easy, hard = EFFECTS[:2], EFFECTS[2:]
    rows = [row("cascade", e, s, "success", 1.0) for e in EFFECTS for s in SOURCES]
    rows += [row("c2", e, s, "success", 1.0) for e in easy for s in SOURCES]
    rows += [row("c6", e, s, "success", float(e in easy)) for e in (*easy, *hard) for s in SOURCES]
    table = capacity_table(frame(rows), {"c2": easy, "c6": EFFECTS}, "success")
    assert [[cell.text for cell in line.cells] for line in table.rows] == [
        ["c2", "2", "100 %", "0 pt open", "100 %", "0 pt open"], ["c6", "6", "33 %", "−67 pt open", "100 %", "0 pt open"],
    ]  # fmt: skip


def test_an_adapter_and_the_reference_are_compared_on_the_cases_of_both():
    """The reference fails on a hard source that the adapter has no score on; another source has two seeds."""
    rows = [row("cascade", e, s, "vsa", 0.0 if s == "s3" else 5.0) for e in EFFECTS for s in SOURCES]
    rows += [{**row("cascade", e, "s0", "vsa", 1.0), "seed": 1} for e in EFFECTS]
    rows += [row("c6", e, s, "vsa", 5.0, status="failed" if s == "s3" else "ok") for e in EFFECTS for s in SOURCES]
    rows += [{**row("c6", e, "s0", "vsa", 2.0), "seed": 1} for e in EFFECTS]
    _, gaps, shared = common_gaps(frame(rows), {"c6": 6}, "vsa")
    assert shared == EFFECTS
    np.testing.assert_allclose(gaps, np.full((1, 6), 0.5 / 3), err_msg="seeds within a source, then sources")
    assert rank_table(frame(rows), {"c6": 8}, {"c6": EFFECTS}, "vsa").rows[0].cells[3].text == "+0.17 open"
    assert common_gaps(frame(rows).query("system == 'c6' or source == 's3'"), {"c6": 6}, "vsa")[2] == [], "no case of both"


def at_steps(rows: list[dict], made: int, *others: int) -> pd.DataFrame:
    """`rows` at the steps that systems are `made` for, and at `others`, where every value is 9 and nothing is recognised."""
    own = [{**one, "steps": made, "made": True} for one in rows]
    spoiled = [
        {**one, "steps": step, "made": False, "value": 9.0, "other": one["other"] and "none"} for step in others for one in rows
    ]
    return frame([*own, *spoiled])


def grouped_rows() -> list[dict]:
    rows = [row("x", e, f"{g}-000", "vsa", float(g == "seen")) for e in EFFECTS for g in ("seen", "photographs")]
    return [*rows, *({**one, "metric": "attributed", "other": one["effect"]} for one in rows)]


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        (candidates, lambda rows: capacity_table(rows, HELD, "success")),
        (candidates, lambda rows: rank_table(rows, {"c4": 4, "c6": 6}, HELD, "success")),
        (candidates, lambda rows: incremental_table(rows, {"c6": (EFFECTS, EFFECTS[4:])}, "success")),
        (lambda: seen("x", lambda effect, probe: effect), lambda rows: probe_table(rows, NEXT)),
        (lambda: neutral("good", 0.1, 0) + neutral("reseed", 0.1, 0), neutral_table),
        (lambda: composed("collection", "", 0) + composed("cascade", "twice", 1), composition_table),
        (lambda: composed("collection", "", 0) + composed("cascade", "twice", 1), lambda r: twice_table(r, ["collection"])),
        (grouped_rows, lambda rows: group_table(rows, "vsa")),
        (grouped_rows, lambda rows: against_seen(rows, "vsa", ["x"])),
    ],
    ids=["capacity", "ranks", "incremental", "probes", "neutral", "composition", "twice", "groups", "against seen"],
)  # fmt: skip
def test_tables_are_of_the_steps_that_a_system_is_made_for(rows, table):
    """A mean over 1, 8 and 28 steps is of no system that anyone would use."""
    found = rows()
    found = found[0].to_dict("records") if isinstance(found, tuple) else found
    told = table(at_steps(found, 8, 1, 28))
    assert told is not None and told == table(at_steps(found, 8))


def test_a_reference_is_taken_at_the_steps_of_what_it_is_compared_with():
    """As in the table of differences: an adapter made for 4 steps meets the cascade at 4, which is made for 8."""
    rows, _ = candidates()
    mine, other = (rows[rows["system"] == system].to_dict("records") for system in ("c6", "cascade"))
    both = pd.concat([at_steps(mine, 4, 8), at_steps([{**one, "value": 0.1} for one in other], 4), at_steps(other, 8)])
    both["made"] = both["steps"] == both["system"].map({"c6": 4, "cascade": 8})
    np.testing.assert_allclose(common_gaps(both, {"c6": 6}, "success")[1], np.full((1, 6), 0.3))
    assert incremental_table(both, {"c6": (EFFECTS, EFFECTS[4:])}, "success").rows[0].cells[6].text.startswith("+30 pt")


def test_a_break_even_of_shares_needs_effects_that_differ():
    """A bootstrap over effects of which hardly one differs gives an interval of one point."""
    rows, counts = candidates()
    found = capacity_break_even(rows, counts, "success")
    assert np.isnan(found.value) and "the 2 effects that all adapters hold" in found.reason
    assert "too few to tell" in capacity_table(rows, HELD, "success").note


def test_ranks_stand_in_their_order_beside_the_reference():
    rows, _ = candidates()
    table = rank_table(rows[rows.system != "c2"], {"c6": 8, "c4": 32}, HELD, "success")
    assert [[cell.text for cell in line.cells] for line in table.rows] == [
        ["c6", "8", "40 %", "−10 pt open"], ["c4", "32", "60 %", "+10 pt open"],
    ]  # fmt: skip
    assert rank_table(rows, {"c6": 8, "c4": 32}, HELD, "leak_total") is None


def test_old_and_new_effects_stand_apart():
    rows, _ = candidates()
    table = incremental_table(rows, {"c6": (EFFECTS, EFFECTS[4:]), "c2": (EFFECTS[:2], [])}, "success")
    assert [[cell.text for cell in line.cells] for line in table.rows] == [
        ["c6", "4", "40 %", "", "2", "40 %", "−10 pt open"], ["cascade", "4", "50 %", "", "2", "50 %", ""],
    ]  # fmt: skip
    assert table.rows[0].cells[6].title == "8 pairs, 0 dropped, 2 effects"
    two = incremental_table(rows, {"c6": (EFFECTS, EFFECTS[4:]), "c4": (EFFECTS[:4], EFFECTS[:2])}, "success")
    assert [(line.cells[0].text, line.cells[0].sub, line.cells[1].text) for line in two.rows] == [
        ("c6", "", "4"), ("c4", "", "2"), ("cascade", "on those of c6", "4"), ("cascade", "on those of c4", "2"),
    ]  # fmt: skip
    alone = incremental_table(rows[rows.system == "c6"], {"c6": (EFFECTS, EFFECTS[4:])}, "success")
    assert [[cell.text for cell in line.cells] for line in alone.rows] == [["c6", "4", "40 %", "", "2", "40 %", ""]]
    kept = incremental_table(rows, {"c6": (EFFECTS, EFFECTS[4:]), "c4": (EFFECTS[:4], [])}, "success").rows
    assert [[cell.text for cell in line.cells[:5]] for line in kept[:2]] == [
        ["c6", "4", "40 %", "−20 pt open", "2"], ["c4", "4", "60 %", "", "0"],
    ]  # fmt: skip
    assert kept[0].cells[3].title == "16 pairs, 0 dropped, 4 effects"
    assert incremental_table(rows, {}, "success") is None
    assert trained_effects({"settings": {"effects": ["a", "b"], "new effects": ["b"]}}) == (["a", "b"], ["b"])
    assert trained_effects({"settings": {}}) is None


def test_gram_numbers_are_shown():
    told = {"mean": 0.2, "largest": 0.9, "between": ["a", "b"], "effective_rank": 1.5, "centred": {"largest": 0.5}}
    table = gram_table({"effects": ["a", "b"], "spaces": {"pooled": {"triggers": told}}})
    assert [cell.text for cell in table.rows[0].cells] == ["pooled", "triggers", "0.200", "0.900", "a and b", "0.500", "1.500"]


def test_groups_of_sources_stand_side_by_side():
    rows = [
        row("x", effect, f"{group}-{index:03d}", "success", value)
        for effect in EFFECTS for group, value in (("photographs", 0.0), ("seen", 1.0)) for index in range(3)
    ]  # fmt: skip
    table = group_table(frame(rows), "success")
    assert [head.label for head in table.heads] == ["System", "seen", "photographs"]
    assert [cell.text for cell in table.rows[0].cells] == ["x", "100 %", "0 %"]
    assert group_table(frame(rows), "success", "paraphrase") is None
    assert group_table(frame([row("x", "e0", "s0", "success", 1.0)]), "success") is None
