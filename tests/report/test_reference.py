"""What differences are taken to where there is no cascade, and that reports say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import synthetic

from clbench.report.load import load_results
from clbench.report.material import Material
from clbench.report.numbers import compute
from clbench.report.pictures import Album
from clbench.report.reference import Reference, reference_of
from clbench.report.sections import make_sections
from clbench.report.verdict import verdict

NO_RUN = "cascade was not run"
REFERENCES = [
    (("base", "cascade", "collection", "teacher"), False, Reference("cascade")),
    (("cascade",), True, Reference("cascade")),
    (("base", "collection", "teacher"), False, Reference("teacher", f"Differences are to teacher: {NO_RUN}.")),
    (("collection", "teacher"), False, Reference("teacher", f"Differences are to teacher: {NO_RUN}.")),
    (
        ("base", "collection", "teacher"), True,
        Reference("base", f"Differences are to base: {NO_RUN}, and teacher made the truth here."),
    ),
    (("base", "teacher"), False, Reference("base", f"Differences are to base: {NO_RUN}.")),
    (("base", "teacher"), True, Reference("base", f"Differences are to base: {NO_RUN}, and teacher made the truth here.")),
    (("base", "collection"), True, Reference("base", f"Differences are to base: {NO_RUN}.")),
    (("collection", "teacher"), True, Reference("cascade")),
    (("collection",), False, Reference("cascade")),
    (("base",), False, Reference("cascade")),
    ((), False, Reference("cascade")),
]  # fmt: skip


@pytest.mark.parametrize(("ran", "judged", "expected"), REFERENCES)
def test_the_cascade_is_the_reference_and_what_stands_in_its_place(ran, judged, expected):
    assert reference_of("bleeding", ran, judged) == expected
    assert reference_of("ablation", ran, judged) == Reference("collection"), "variants are held against the full method"


def test_why_there_is_no_cascade_is_told():
    found = reference_of("steps", ["base", "teacher"], False, "world mine has no [accelerator]")
    assert found.words == "Differences are to base: cascade was not run (world mine has no [accelerator])."


@pytest.mark.parametrize(
    ("ran", "steps", "reference", "first"),
    [
        (("base", "teacher"), (None,), "base", "teacher is better than base on success."),
        (("base", "collection", "teacher"), (None,), "teacher", "collection and teacher cannot be told apart on success."),
        (("base", "collection", "teacher"), (None,), "base", "collection is better than base on success."),
        (("base", "teacher"), (1, 28), "base", "Within 5.0 points of teacher @28 on success: base at none of its steps."),
        (("base", "joint", "teacher"), (None,), "teacher", "joint is worse than teacher on success."),
    ],
)  # fmt: skip
def test_reports_without_a_cascade(tmp_path, monkeypatch, ran, steps, reference, first):
    """The candidate is what is asked about, and never the base beside another system."""
    for system, skill in (("base", 0.1), ("joint", 0.3)):
        monkeypatch.setitem(synthetic.SKILL, system, skill)
        monkeypatch.setitem(synthetic.STEPS, system, 28)
        monkeypatch.setitem(synthetic.PATIENCE, system, 6.0)
    suite = synthetic.SUITE if steps == (None,) else synthetic.STEP_SUITE
    made = synthetic.make_runs(tmp_path, (*ran, "truth", "identity"), sources=3, steps=steps, suite=suite)
    words = f"Differences are to {reference}: {NO_RUN}."
    numbers = compute(load_results(made, replace(synthetic.about(suite=suite), reference=reference, reference_words=words)))
    said = verdict(numbers)
    assert said[0].key and said[0].text == first
    assert [one.why for one in said if one.text == words] == [True]
    sections = {one.id: one for one in make_sections(Material(numbers, Album(limit=0)))}
    table = sections["summary"].blocks[0]
    assert table.note.endswith(words) and table.heads[2].label == f"to {reference}"
    assert sections["differences"].blocks[0].caption == f"Paired differences to {reference}"


def test_nothing_is_said_of_a_reference_where_there_is_none(tmp_path):
    made = synthetic.make_runs(tmp_path, ("collection", "truth"), sources=2)
    said = [one.text for one in verdict(compute(load_results(made, synthetic.about())))]
    assert said[0] == "Without a run of cascade nothing is said about differences to it."
