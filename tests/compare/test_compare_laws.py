"""Laws on random score tables: order, repeats, counts, the bound of VSA, and the same bytes again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_toys import attributed, write_run

from clbench import stats
from clbench.compare import compare, match_runs, words
from clbench.metrics.derived import NONE, SOURCE
from clbench.registry import ClbenchError
from clbench.types import Case, Score

EFFECTS = ("e0", "e1", "e2")


@st.composite
def tables(draw: st.DrawFn) -> list[Score]:
    """Scores of up to 3 effects x 4 sources x 2 seeds: success, bcr, subject, vsa, attribution; some missing."""
    cases = [Case(e, f"s{s}", seed) for e in EFFECTS for s in range(4) for seed in range(2)]
    chosen = draw(st.lists(st.sampled_from(cases), min_size=6, unique=True))
    rows: list[Score] = []
    for case in chosen:
        state = draw(st.sampled_from(("ok", "ok", "ok", "failed", "unscored")))
        success, subject = float(draw(st.booleans())), draw(st.floats(1, 5))
        values = {"success": success, "bcr": 1 - success, "subject": subject, "vsa": success * subject}
        unseen = {"subject", "vsa"} if draw(st.booleans()) and success else set()  # it worked, but on what?
        for name, value in values.items():
            status = "unscored" if state == "ok" and name in unseen else state
            fine = status == "ok"
            rows.append(Score(case, name, 1, value if fine else float("nan"), "", status, "" if fine else "lost"))
        if state == "ok":
            rows.append(attributed(case, draw(st.sampled_from((*EFFECTS, SOURCE, NONE)))))
    return rows


def compared(first: list[Score], second: list[Score]) -> tuple[bytes, dict]:
    """Bytes of scores.parquet of the first run, and the comparison as plain data without paths."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = (write_run(Path(folder) / side, rows) for side, rows in (("a", first), ("b", second)))
        table = compare(match_runs(one.path, two.path), also=["bcr"])
        plain = json.loads(json.dumps(words.to_plain(table, [])))
        return one.scores_file.read_bytes(), {"lines": plain["lines"], "pairs": len(plain["pairs"])}


def common(first: list[Score], second: list[Score]) -> bool:
    return bool({row.case for row in first} & {row.case for row in second})


@given(tables(), tables(), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_order_of_rows_changes_no_byte(first, second, dice):
    if not common(first, second):
        return
    shuffled = [dice.sample(rows, len(rows)) for rows in (first, second)]
    assert compared(*shuffled) == compared(first, second)


@given(tables())
@settings(max_examples=15, deadline=None)
def test_a_run_against_itself_differs_in_nothing(rows):
    for line in compared(rows, rows)[1]["lines"]:
        gap = line["difference"]
        assert gap["value"] in (0, None) and line["reading"] == "open" and gap["p"] in (1, None)
        assert line["first"] == line["second"] and (gap["value"] is not None or line["reason"])


@given(tables(), tables())
@settings(max_examples=15, deadline=None)
def test_counts_add_up_and_nothing_is_missing_without_a_reason(first, second):
    if not common(first, second):
        return
    for line in compared(first, second)[1]["lines"]:
        for side, rows in (("first_counts", first), ("second_counts", second)):
            counts, cases = line[side], {row.case for row in rows}
            assert counts["n_total"] == len(cases)
            assert counts["n_scored"] + counts["n_failed"] <= counts["n_total"]
        gap = line["difference"]
        assert gap["n_pairs"] <= min(line["first_counts"]["n_scored"], line["second_counts"]["n_scored"])
        assert gap["n_pairs"] + gap["n_dropped"] == len({row.case for row in (*first, *second)})
        assert gap["low"] is not None or line["reason"]


@given(tables())
@settings(max_examples=30, deadline=None)
def test_vsa_is_at_most_five_times_success(rows):
    def mean(metric: str) -> float:
        found = [row for row in rows if row.metric == metric]
        values = [row.value for row in found]
        nested = stats.effect_means(values, [r.case.effect for r in found], [r.case.source for r in found])
        return float(nested.means.mean()) if nested.labels else float("nan")

    vsa, bcr = mean("vsa"), mean("bcr")
    assert np.isnan(vsa) or vsa <= 5 * (1 - bcr) + 1e-9
    assert np.isnan(bcr) or mean("success") == pytest.approx(1 - bcr)


@given(tables())
@settings(max_examples=15, deadline=None)
def test_more_seeds_that_say_the_same_change_nothing(rows):
    again = [Score(Case(r.case.effect, r.case.source, r.case.seed + 2), *_rest(r)) for r in rows]
    once, twice = (
        stats.estimate(
            [r.value for r in part if r.metric == "vsa"], [r.status == "failed" for r in part if r.metric == "vsa"],
            [r.case.effect for r in part if r.metric == "vsa"], [r.case.source for r in part if r.metric == "vsa"],
            np.random.default_rng(0),
        )
        for part in (rows, rows + again)
    )  # fmt: skip
    assert twice.n_total == 2 * once.n_total and twice.n_scored == 2 * once.n_scored and twice.n_failed == 2 * once.n_failed
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high), nan_ok=True)


def _rest(row: Score) -> tuple:
    return row.metric, row.metric_version, row.value, row.other, row.status, row.reason


@given(tables())
@settings(max_examples=10, deadline=None)
def test_a_score_given_twice_is_refused(rows):
    with pytest.raises(ClbenchError, match="was given twice"), tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), [*rows, rows[0]])
