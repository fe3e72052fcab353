"""`clbench compare`: planted differences, refusals, conditions, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from score_toys import CASES, EFFECTS, SUITE, WORLD, attributed, write_run
from typer.testing import CliRunner

from clbench import stats
from clbench.certificate import Named
from clbench.cli import app
from clbench.compare import compare, match_runs, parse_fail_on, words
from clbench.compare.gate import judge
from clbench.metrics.derived import DERIVED, Rows
from clbench.registry import ClbenchError
from clbench.score_table import Learnt
from clbench.types import Case, Score

runner = CliRunner()


def clbench(*arguments, code=0):
    result = runner.invoke(app, ["compare", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def scored(shift=0.0, bleeding=(), cases=CASES):
    """SSIM falls by `shift`, a tenth more or less by turns of effects; the outputs of `bleeding` look like the next effect."""
    for number, case in enumerate(cases):
        falls = shift * (0.9 + 0.2 * (EFFECTS.index(case.effect) % 2))  # the same in all effects would say nothing of others
        yield Score(case, "ssim", 1, 0.5 + 0.01 * (number % 7) - falls)
        yield Score(case, "success", 1, float(case.effect not in bleeding))
        seen = EFFECTS[(EFFECTS.index(case.effect) + 1) % 8] if case.effect in bleeding else case.effect
        yield attributed(case, seen)
        for other in EFFECTS:
            if other != case.effect:
                yield Score(case, "leak", 1, 0.9 if other == seen else 0.1, other=other)


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "a", scored())
    write_run(tmp_path / "b", scored(0.1, ("e0", "e1")))
    return tmp_path / "a", tmp_path / "b"


def lines(first, second, **options):
    return {line.metric: line for line in compare(match_runs(first, second), **options).lines}


def test_planted_differences_come_back(runs):
    found = lines(*runs)
    assert found["ssim"].difference.value == pytest.approx(-0.1) and found["ssim"].direction == "higher"
    assert found["bleed_rate"].difference.value == pytest.approx(0.25) and found["bleed_rate"].share
    assert found["leak_worst"].first == pytest.approx(0.1) and found["leak_worst"].second == pytest.approx(0.3)
    assert found["success"].first == 1.0 and found["success"].second == 0.75
    assert {line.difference.n_pairs for line in found.values()} == {32}
    for line in found.values():
        assert line.difference.low <= line.difference.value <= line.difference.high


def test_one_difference_in_every_effect_says_nothing_of_others(tmp_path):
    """No interval, and nothing called worse; passes alone are set, not sampled."""
    for side, shift in (("a", 0.0), ("b", 0.125)):
        write_run(tmp_path / side, [Score(case, "ssim", 1, 0.5 - shift) for case in CASES])
    pair = match_runs(tmp_path / "a", tmp_path / "b")
    found = {line.metric: line for line in compare(pair, ["ssim", "nfe"]).lines}
    assert np.isnan([found["ssim"].difference.low, found["ssim"].difference.high]).all() and found["ssim"].reading == "open"
    assert words.cells(found["ssim"])[4] == "-" and "the same difference in every effect" in words.cells(found["ssim"])[-1]
    assert (found["nfe"].difference.low, found["nfe"].difference.high, found["nfe"].reason) == (0, 0, "")
    same = lines(tmp_path / "a", tmp_path / "a")["ssim"]
    assert (same.difference.low, same.difference.high, same.reason) == (0, 0, ""), "equal pictures are equal everywhere"


@pytest.mark.parametrize(
    ("metric", "up", "down"),
    [("ssim", "better", "worse"), ("leak_total", "worse", "better"), ("dose", "higher", "lower")],
)
def test_a_difference_is_read_in_the_direction_of_its_metric(tmp_path, metric, up, down):
    for side, shift in (("a", 0.0), ("b", 0.1)):
        rows = [Score(case, metric, 1, 0.5 + shift * (1 + EFFECTS.index(case.effect) % 2)) for case in CASES]
        write_run(tmp_path / side, rows)
    assert lines(tmp_path / "a", tmp_path / "b", metrics=[metric])[metric].reading == up
    assert lines(tmp_path / "b", tmp_path / "a", metrics=[metric])[metric].reading == down
    assert lines(tmp_path / "a", tmp_path / "a", metrics=[metric])[metric].reading == "open"


def test_pairs_of_one_source_are_places_of_their_own(tmp_path):
    """An effect then another in three seeds, then a third in one: half and half, not three to one."""
    cases = [Case(e, "x", seed, second=EFFECTS[at - 1]) for at, e in enumerate(EFFECTS) for seed in range(3)]
    cases += [Case(e, "x", 0, second=EFFECTS[at - 2]) for at, e in enumerate(EFFECTS)]
    write_run(tmp_path / "a", [Score(case, "both", 1, 0.0) for case in cases])
    write_run(tmp_path / "b", [Score(case, "both", 1, float(at >= 24)) for at, case in enumerate(cases)])
    found = lines(tmp_path / "a", tmp_path / "b")["both"]
    assert found.second == found.difference.value == 0.5


def test_the_worst_leak_of_two_effects_is_of_a_third():
    asked, effect, second = np.array(["composed"] * 2 + ["effect"]), np.array(["e0"] * 3), np.array(["e1", "e1", ""])
    rows = Rows(2, np.array([0, 0, 1]), asked, effect, second, np.array(["e1", "e2", "e1"]), np.array([0.9, 0.2, 0.7]))
    assert DERIVED.get("leak_worst").read(rows).tolist() == [0.2, 0.7]


def test_holm_is_over_the_lines_of_one_system_and_over_the_systems_of_one_metric(tmp_path, runs):
    found = lines(*runs)
    assert found["ssim"].adjusted == pytest.approx(len(found) * 2 / 2**8)
    assert lines(*runs, metrics=["ssim", "success"])["ssim"].reading == "worse"
    for side, shift in (("old", 0.0), ("new", 0.1)):
        for system in ("teacher", "cascade"):
            write_run(tmp_path / side / system, scored(shift), system=system)
    both = compare(match_runs(tmp_path / "old", tmp_path / "new"))
    assert [line.adjusted for line in both.lines if line.metric == "ssim"] == [pytest.approx(2 * 2 / 2**8)] * 2


def test_too_few_effects_are_said(tmp_path):
    few = [case for case in CASES if case.effect in EFFECTS[:3]]
    pair = match_runs(write_run(tmp_path / "a", scored(cases=few)).path, write_run(tmp_path / "b", scored(0.1, cases=few)).path)
    found = compare(pair)
    assert "With 3 effects p cannot be below 0.25" in found.notes[0]
    assert {words.cells(line)[6] for line in found.lines} == {"none"}  # what could have been found: nothing
    assert all(line["difference"]["detectable"] is None for line in words.to_plain(found, [])["lines"])


def test_what_has_too_few_effects_is_named_where_the_rest_has_enough(tmp_path):
    """Two systems on 8 effects: of five and four of them alone are `ssim` and `psnr` there; success, of all, is decided."""
    few = set(EFFECTS[:5])
    for side, shift in (("old", 0.0), ("new", 0.1)):
        for system in ("teacher", "cascade"):
            rows = [row for row in scored(shift, EFFECTS if shift else ()) if row.metric != "ssim" or row.case.effect in few]
            rows += [Score(case, "psnr", 1, 20.0 - shift) for case in CASES if case.effect in EFFECTS[:4]]
            write_run(tmp_path / side / system, rows, system=system)
    found = compare(match_runs(tmp_path / "old", tmp_path / "new"), ["success", "ssim", "psnr"])
    said = [note for note in found.notes if note.startswith("With ")]
    words = "With {} effects p cannot be below {}, and corrected over 2 systems nothing can be called better or worse on {}."
    assert said == [words.format(4, 0.12, "psnr"), words.format(5, 0.062, "ssim")]
    assert {line.metric: line.reading for line in found.lines} == {"success": "worse", "ssim": "open", "psnr": "open"}


def test_what_could_have_been_found_is_so_after_the_correction(runs):
    """The difference that a test at 1 - .05 / M would find, for M lines."""
    alone = lines(*runs, metrics=["success"])["success"].difference
    found = lines(*runs, metrics=["success", "ssim", "leak_worst"])["success"].difference
    assert found.detectable == stats.corrected_detectable(alone, [alone.n_effects] * 3) > alone.detectable > 0
    shown = words.cells(lines(*runs, metrics=["success"])["success"])[6]
    assert shown == f"{100 * alone.detectable:.1f} pt"


def test_missing_cases_are_dropped_counted_and_explained(tmp_path, runs):
    lost = dict.fromkeys(CASES[:4], "out of memory")
    rows = [row for row in scored() if row.case not in lost]
    rows += [Score(case, "ssim", 1, float("nan"), status="failed", reason=why) for case, why in lost.items()]
    rows += [Score(case, "psnr", 1, float("nan"), status="unscored", reason="many right answers") for case in CASES]
    write_run(tmp_path / "c", rows, lost)
    write_run(tmp_path / "d", [*scored(), *(row for row in rows if row.metric == "psnr")])
    found = lines(tmp_path / "d", tmp_path / "c")
    ssim = found["ssim"]
    assert (ssim.second_counts.n_total, ssim.second_counts.n_scored, ssim.second_counts.n_failed) == (32, 28, 4)
    assert ssim.difference.n_pairs == 28 and ssim.difference.n_dropped == 4 and ssim.difference.n_effects == 7
    assert found["edit_failed_rate"].second == pytest.approx(1 / 8)
    assert np.isnan(found["psnr"].difference.value) and found["psnr"].reason == "many right answers"


def test_an_edit_that_was_never_asked_for_neither_failed_nor_succeeded(tmp_path):
    """A collection is not asked for effects that it was not trained on: 8 of its 24 edits failed, not 8 of 32."""
    unasked, lost = dict.fromkeys(CASES[:8], "not trained on it"), dict.fromkeys(CASES[8:16], "out of memory")
    rows = [Score(case, "ssim", 1, float("nan"), status="unscored", reason=why) for case, why in unasked.items()]
    rows += [Score(case, "ssim", 1, float("nan"), status="failed", reason=why) for case, why in lost.items()]
    rows += [Score(case, "ssim", 1, 0.5) for case in CASES[16:]]
    write_run(tmp_path / "a", scored())
    write_run(tmp_path / "b", rows, lost, unasked=unasked)
    failed = lines(tmp_path / "a", tmp_path / "b")["edit_failed_rate"]
    assert failed.second == pytest.approx(1 / 3) and failed.difference.n_pairs == 24
    assert (failed.second_counts.n_total, failed.second_counts.n_scored, failed.second_counts.n_failed) == (32, 24, 0)
    assert failed.lost == 8
    column = match_runs(tmp_path / "a", tmp_path / "b")[0].second.columns["edit_failed_rate"]
    assert set(column.reasons[column.status == "unscored"]) == {"not trained on it"}


def test_steps_probes_and_two_effects_are_lines_of_their_own(tmp_path):
    cases = [Case(effect, source, 0, steps) for effect in EFFECTS for source in ("x", "y") for steps in (1, 8)]
    for side, shift in (("a", 0.0), ("b", 0.2)):
        write_run(tmp_path / side, [Score(case, "ssim", 1, 0.8 - shift * (case.steps == 1)) for case in cases])
    found = compare(match_runs(tmp_path / "a", tmp_path / "b"), ["ssim"]).lines
    assert [(line.condition, round(line.difference.value, 6)) for line in found] == [("1 steps", -0.2), ("8 steps", 0.0)]


def test_the_base_is_the_right_answer_of_a_neutral_question(tmp_path):
    """There any effect is a wrong one, also that of the case; where the base itself changes nothing, so is its source."""
    cases = [Case(effect, source, 0, probe="neutral") for effect in EFFECTS for source in ("x", "y")]
    write_run(tmp_path / "a", [attributed(case, "base") for case in cases])
    write_run(tmp_path / "b", [attributed(case, case.effect if case.source == "x" else "source") for case in cases])
    found = lines(tmp_path / "a", tmp_path / "b")
    assert (found["bleed_rate"].first, found["bleed_rate"].second) == (0.0, 0.5)
    assert "untouched_rate" not in found and found["unclear_rate"].second == 0.0


def test_of_two_effects_in_turn_no_other_one_competes_so_nothing_is_said_of_bleeding(tmp_path):
    cases = [Case(effect, "x", 0, second=EFFECTS[place - 1]) for place, effect in enumerate(EFFECTS)]
    for side, label in (("a", "source"), ("b", "both")):
        rows = [row for case in cases for row in (attributed(case, label), Score(case, "both", 1, float(label == "both")))]
        write_run(tmp_path / side, rows)
    found = lines(tmp_path / "a", tmp_path / "b")
    assert "bleed_rate" not in found
    assert (found["untouched_rate"].first, found["untouched_rate"].second) == (1.0, 0.0)
    said = "'bleed_rate' is read of single effects and neutral questions, and these runs were asked two effects in turn alone"
    for option in (("--metric", "bleed_rate"), ("--fail-on", "bleed_rate:+0.02")):
        result = clbench(tmp_path / "a", tmp_path / "b", *option, code=2)
        assert said in " ".join(result.output.split())


@pytest.mark.parametrize("what", ["suite", "world"])
def test_runs_of_another_suite_or_world_are_refused(tmp_path, runs, what):
    other = {what: Named(name="other", hash="c3" * 32)}
    write_run(tmp_path / "c", scored(), **other)
    held = {"suite": SUITE, "world": WORLD}[what].name
    with pytest.raises(ClbenchError, match=rf"a was made with {what} '{held}' .* only runs of the same {what}"):
        match_runs(runs[0], tmp_path / "c")


def test_of_two_worlds_it_is_said_what_differs(tmp_path):
    """Where both runs tell; an older clbench wrote no parts."""
    made = {side: write_run(tmp_path / side, scored(), world=Named(name="tiny", hash=2 * side * 32)) for side in "ab"}
    for side, parts in (("a", {"backbone": "1", "effects": "2"}), ("b", {"backbone": "3", "effects": "2"})):
        with pytest.raises(ClbenchError, match=r"/b with 'tiny' \(bbbbbbbb\); only runs of the same world"):
            match_runs(tmp_path / "a", tmp_path / "b")
        made[side].info = made[side].info.model_copy(update={"world_parts": parts})
        made[side]._write_info()
    with pytest.raises(ClbenchError, match=r"/b with 'tiny' \(bbbbbbbb\): backbone differs; only runs of the same world"):
        match_runs(tmp_path / "a", tmp_path / "b")


def test_runs_judged_among_other_effects_are_refused(tmp_path):
    """Worlds that have teachers for other ones of the same effects share their hash."""
    few = [row for row in scored() if row.other in ("", *EFFECTS[:3]) and row.case.effect in EFFECTS[:3]]
    rows = write_run(tmp_path / "a", scored()), write_run(tmp_path / "b", few)
    success = [row for row in scored() if row.metric == "success"]
    said = [write_run(tmp_path / side, success, competing=some).path for side, some in (("c", EFFECTS), ("d", EFFECTS[3:]))]
    with pytest.raises(ClbenchError, match=r"among 8 effects, .*/b among 3 \(only .*/a has e3, e4, e5, e6 and 1 more\)"):
        match_runs(rows[0].path, rows[1].path)
    with pytest.raises(ClbenchError, match=r"/b has e0, e1, e2; only .*/d has e3, e4, e5, e6 and 1 more"):
        match_runs(rows[1].path, said[1])
    assert compare(match_runs(rows[0].path, said[0])).notes[0].startswith("Only ")
    part = [row for row in scored() if row.case == CASES[0]]  # one case says enough: a stopped run is welcome
    match_runs(rows[0].path, write_run(tmp_path / "e", part).path)


def test_scores_that_do_not_say_which_effects_competed_are_named(tmp_path, runs):
    write_run(tmp_path / "c", [row for row in scored() if row.metric == "success"])
    assert f"{tmp_path / 'c'} does not say which effects competed" in " ".join(compare(match_runs(runs[0], tmp_path / "c")).notes)


def test_another_version_of_a_metric_is_refused(tmp_path, runs):
    write_run(tmp_path / "c", [Score(case, "ssim", 2, 0.5) for case in CASES])
    assert "version 1 in" in clbench(runs[0], tmp_path / "c", code=2).stderr


def test_scores_of_other_networks_are_refused(tmp_path):
    """A world's hash holds no encoders, and a distance by one network is none by another."""
    one, other = ("st-lpips-vgg", "ab" * 32), ("lpips", "cd" * 32)
    seen = [Score(case, metric, 1, 0.5) for case in CASES for metric in ("perceptual", "neutral_distance", "ssim")]
    told = {"a": {"perceptual": one}, "b": {"perceptual": other}, "c": {"perceptual": ("st-lpips-vgg", "ef" * 32)}, "d": {}}
    path = {side: write_run(tmp_path / side, seen, encoders=networks).path for side, networks in told.items()}
    said = r"^neutral_distance, perceptual: scored with st-lpips-vgg \(abababab\) in .*/a and with lpips \(cdcdcdcd\) in .*/b"
    with pytest.raises(ClbenchError, match=said):
        match_runs(path["a"], path["b"])
    with pytest.raises(ClbenchError, match=r"st-lpips-vgg \(abababab\) .* st-lpips-vgg \(efefefef\)"):
        match_runs(path["a"], path["c"])
    match_runs(path["a"], path["a"])
    match_runs(path["a"], path["d"])  # of an older clbench, which does not say
    plain = [write_run(tmp_path / f"{side}-plain", scored(), encoders=told[side]).path for side in ("a", "b")]
    match_runs(*plain)  # nothing in common that a network saw
    with pytest.raises(ClbenchError, match=r"^clip_text: scored with"):
        text = [Score(case, "clip_text", 1, 0.5) for case in CASES]
        match_runs(*(write_run(tmp_path / name, text, encoders={"clip": by}).path for name, by in (("e", one), ("f", other))))


def test_effects_without_operator_judged_by_another_rule_are_refused(tmp_path):
    """Such a rule has no metric's version, and moves labels and leak."""
    told = {"a": Learnt(2, 40, "ab"), "b": Learnt(1, 40, "ab"), "c": None}
    path = {side: write_run(tmp_path / side, scored(), learnt=learnt).path for side, learnt in told.items()}
    for first, second, older in (("a", "b", "b"), ("b", "a", "b"), ("a", "c", "c"), ("c", "b", "c")):
        with pytest.raises(ClbenchError, match=f"an older rule in .*/{older}; score it again"):
            match_runs(path[first], path[second])
    for side in told:
        assert "judged by" not in " ".join(compare(match_runs(path[side], path[side])).notes)


def test_truths_that_teachers_made_anew_are_said(tmp_path):
    told = {"a": Learnt(2, 40, "ab"), "b": Learnt(2, 40, "cd"), "c": Learnt(2, 8, "ef")}
    path = {side: write_run(tmp_path / side, scored(), learnt=learnt).path for side, learnt in told.items()}
    for second, counts in (("b", "40 in each run"), ("c", "40 and 8 of them")):
        notes = " ".join(compare(match_runs(path["a"], path[second])).notes)
        assert f"judged by other pictures of their teachers ({counts})" in notes


def test_pairing(tmp_path):
    for side, systems in (("old", ("teacher", "cascade", "truth")), ("new", ("cascade", "collection", "truth"))):
        for system in systems:
            write_run(tmp_path / side / system, scored(), system=system, kind="control" if system == "truth" else "")
    old, new = tmp_path / "old", tmp_path / "new"
    assert [pair.name for pair in match_runs(old, new)] == ["cascade"]
    assert [pair.name for pair in match_runs(old / "truth", new)] == ["truth"]
    assert [pair.name for pair in match_runs(old / "teacher", new / "collection")] == ["teacher -> collection"]
    with pytest.raises(ClbenchError, match="Did you mean 'cascade'"):
        match_runs(old, new, ["cascad"])
    with pytest.raises(ClbenchError, match=r"no system to compare is in both: .* holds cascade, teacher, truth; "):
        match_runs(old, new / "collection")
    with pytest.raises(ClbenchError, match="no results at"):
        match_runs(old, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bleed_rat:+0.02", "unknown metric 'bleed_rat'. Did you mean 'bleed_rate'?"),
        ("leak:+0.1", "unknown metric 'leak'."),
        ("bleed_rate", "is not METRIC:\\+NUMBER"),
        ("bleed_rate:0.02", "is not METRIC:\\+NUMBER"),
        ("success:+0.02", "would fail on an improvement \\(higher is better\\); write success:-0.02"),
        ("bleed_rate:+2", "can never be met: bleed_rate changes by 1 at most; it is a share, 0.02 are 2 points"),
        ("success:-1", "can never be met: success changes by 1 at most; it is a share"),
        ("subject:-4", "can never be met: subject changes by 4 at most$"),
    ],
)
def test_conditions_that_make_no_sense_are_one_sentence(text, message):
    with pytest.raises(ClbenchError, match=message):
        parse_fail_on(text)


@pytest.mark.parametrize(
    ("text", "by", "met"),
    [
        ("bleed_rate:+0.25", "estimate", False),  # a difference of exactly the bound is not past it
        ("bleed_rate:+0.24", "estimate", True),
        ("bleed_rate:+0.24", "certain", False),
        ("bleed_rate:+0.30", "possible", True),
        ("ssim:-0.05", "certain", True),
        ("ssim:-0.1", "estimate", False),
        ("dose:+0.1", "estimate", False),
    ],
)
def test_what_must_pass_the_bound(tmp_path, text, by, met):
    write_run(tmp_path / "a", [*scored(), *(Score(case, "dose", 1, 1.0) for case in CASES)])
    write_run(tmp_path / "b", [*scored(0.1, ("e0", "e1")), *(Score(case, "dose", 1, 1.05) for case in CASES)])
    condition = parse_fail_on(text)
    table = compare(match_runs(tmp_path / "a", tmp_path / "b"), also=[condition.metric])
    assert [verdict.met for verdict in judge([condition], table, by)] == [met]


@pytest.mark.parametrize("by", ["certain", "estimate", "possible"])
@pytest.mark.parametrize("metric", ["ssim", "leak_total"])
def test_the_ends_of_an_interval_are_taken_for_the_direction(tmp_path, metric, by):
    """Worse by .1 in the mean, by .05 or .15 in single effects: bounds before, within and beyond the interval."""
    sign = -1 if metric == "ssim" else 1
    gaps = {effect: 0.05 if at % 2 else 0.15 for at, effect in enumerate(EFFECTS)}
    for side, scale in (("a", 0), ("b", sign)):
        write_run(tmp_path / side, [Score(case, metric, 1, 0.5 + scale * gaps[case.effect]) for case in CASES])
    found = lines(tmp_path / "a", tmp_path / "b")[metric].difference
    low, high = sorted(abs(end) for end in (found.low, found.high))
    assert 0.04 < low < 0.09 and 0.11 < high < 0.16
    bounds = (0.02, (low + 0.1) / 2, (high + 0.1) / 2, 0.2)
    wanted = {"certain": [True, False, False, False], "estimate": [True, True, False, False], "possible": [True] * 3 + [False]}
    mark = "-" if sign < 0 else "+"
    assert [judged(tmp_path / "a", tmp_path / "b", f"{metric}:{mark}{bound:.4f}", by)[0].met for bound in bounds] == wanted[by]


def test_what_could_not_be_computed_does_not_pass(tmp_path):
    nothing = [Score(case, "psnr", 1, float("nan"), status="unscored", reason="many right answers") for case in CASES]
    for side in ("a", "b"):
        write_run(tmp_path / side, [*scored(), *nothing])
    said = clbench(tmp_path / "a", tmp_path / "b", "--fail-on", "psnr:-1", code=1).stderr
    assert "psnr:-1: collection: no difference (many right answers)" in said


def judged(first, second, text, by="estimate"):
    condition = parse_fail_on(text)
    return judge([condition], compare(match_runs(first, second), also=[condition.metric]), by)


def test_what_the_second_run_lost_counts_as_worse(tmp_path, runs):
    """Else a run whose failures are missing would be a good one."""
    rows = [row for row in scored(bleeding=("e0", "e1")) if row.value != 0 or row.metric != "success"]
    lost = [Score(c, "success", 1, float("nan"), status="unscored", reason="lost") for c in CASES if c.effect in ("e0", "e1")]
    for name, left in (("c", rows), ("d", [*rows, *lost])):
        (verdict,) = judged(runs[0], write_run(tmp_path / name, left).path, "success:-0.03")
        assert verdict.met and "+0 is within the bound; but B lacks 8 of the 32 scores that A has" in verdict.sentence
    assert not judged(tmp_path / "c", runs[0], "success:-0.03")[0].met  # more than the first has is no harm
    assert clbench(runs[0], tmp_path / "c", "--fail-on", "success:-0.03", code=1)


def test_an_unfinished_second_run_does_not_pass(tmp_path):
    first, second = (write_run(tmp_path / side, scored()) for side in ("a", "b"))
    assert not judged(first.path, second.path, "success:-0.03")[0].met
    second.info = second.info.model_copy(update={"status": "running"})
    second._write_info()
    (verdict,) = judged(first.path, second.path, "success:-0.03")
    assert verdict.met and verdict.sentence.endswith("b is not finished, which counts as worse")
    assert not judged(second.path, first.path, "success:-0.03")[0].met


def test_every_pair_has_a_verdict(tmp_path):
    psnr = [Score(case, "psnr", 1, 20.0) for case in CASES]
    for side, of_cascade in (("old", psnr), ("new", [])):
        write_run(tmp_path / side / "teacher", [*scored(), *psnr], system="teacher")
        write_run(tmp_path / side / "cascade", [*scored(), *of_cascade], system="cascade")
    cascade, teacher = judged(tmp_path / "old", tmp_path / "new", "psnr:-1")
    assert cascade.met and cascade.sentence.endswith(f"cascade: no difference ({tmp_path / 'new/cascade'} lacks this metric)")
    assert not teacher.met and (cascade.system, teacher.system) == ("cascade", "teacher")


def test_a_metric_is_judged_only_where_it_is_asked(tmp_path):
    """A neutral question has no success, which is no reason to fail."""
    neutral = [Score(Case(effect, "s0", 0, None, "neutral"), "neutral_leak_total", 2, 0.5) for effect in EFFECTS]
    for side in ("a", "b"):
        write_run(tmp_path / side, [*scored(), *neutral])
    for text, at in (("success:-0.03", "plain"), ("neutral_leak_total:+0.1", "neutral")):
        assert [(verdict.at, verdict.met) for verdict in judged(tmp_path / "a", tmp_path / "b", text)] == [(at, False)]


@pytest.mark.parametrize("by", ["estimate", "certain", "possible"])
def test_a_run_is_not_worse_than_itself(runs, by):
    for text in ("success:-0.01", "success:-0", "bleed_rate:+0.01", "ssim:-0.01"):
        clbench(runs[1], runs[1], "--fail-by", by, "--fail-on", text)


def test_equal_scores_of_two_systems_are_not_certainty(tmp_path):
    """Neither fails here; in other effects one of them may."""
    perfect = [Score(case, "success", 1, 1.0) for case in CASES]
    for side in ("a", "b"):
        write_run(tmp_path / side, perfect)
    (line,) = compare(match_runs(tmp_path / "a", tmp_path / "b"), ["success"]).lines
    assert line.difference.value == 0 and line.difference.low < -0.02 and line.difference.high > 0.02
    (line,) = compare(match_runs(tmp_path / "a", tmp_path / "a"), ["success"]).lines
    assert (line.difference.low, line.difference.high) == (0, 0)


def test_exit_codes_json_and_markdown(runs, tmp_path):
    first, second = runs
    clbench(first, second, "--fail-on", "bleed_rate:+0.3", "--fail-on", "ssim:-0.2")
    file = tmp_path / "said.md"
    arguments = (first, second, "--fail-on", "bleed_rate:+0.02", "--fail-on", "ssim:-0.2", "--markdown", file, "--json")
    done = clbench(*arguments, code=1)
    plain = json.loads(done.stdout)
    assert plain["failed"] and [one["met"] for one in plain["fail_on"]] == [True, False]
    assert {"n_total", "n_scored", "n_failed"} == set(plain["lines"][0]["first_counts"])
    text = file.read_text()
    assert text.startswith("### clbench compare: bleeding in world tiny\n\n**Failed**: 1 of 2 conditions met.")
    assert "| bleed\\_rate ↓ | 0.0 % | 25.0 % | +25.0 pt | \\[" in text and "sources are fixed" in text and len(text) < 10_000
    clbench(*arguments, code=1)
    assert file.read_text() == text
    assert "was not scored in both runs" in clbench(first, second, "--metric", "clip_text", code=2).stderr


def test_no_reason_can_break_the_table(tmp_path, runs):
    """Bars, lines, links and HTML in what a library said of a failed edit."""
    why = "out of memory\n\n| a | `b` [c](http://d) <e> & *f* \r\n# g"
    lost = [Score(case, "psnr", 1, float("nan"), status="failed", reason=why) for case in CASES]
    for side in ("a", "b"):
        write_run(tmp_path / f"{side} `{side}`", [*scored(), *lost])
    table = compare(match_runs(tmp_path / "a `a`", tmp_path / "b `b`"))
    text = words.to_markdown(table, judge([parse_fail_on("psnr:-1")], table))
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    said = r"out of memory \| a \| \`b\` \[c\](http://d) &lt;e&gt; &amp; \*f\* # g"
    assert any(f"open ({said})" in row for row in rows) and f"\n- psnr:-1: collection: no difference ({said})\n" in text
    assert f"in `` {tmp_path}/a `a` ``, B is" in text


def test_no_torch_and_a_quick_start(runs):
    code = (
        "import sys, time; from clbench.cli import app\n"
        f"try: app(['compare', {str(runs[0])!r}, {str(runs[1])!r}])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'scipy.stats', 'matplotlib', 'diffusers') if m in sys.modules], file=sys.stderr)\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    tries = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    heavy, _ = tries[0].stderr.splitlines()[-2:]
    assert heavy == "[]"
    assert min(float(done.stderr.splitlines()[-1]) for done in tries) < 2.0  # with pandas and a small table
