"""The whole report as one value: everything the two templates show, in the order in which they show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.report import deployment, pictures
from clbench.report.blocks import Section
from clbench.report.data import Results
from clbench.report.deployment import Deployment
from clbench.report.material import Material
from clbench.report.numbers import compute
from clbench.report.pictures import Album, Thumb
from clbench.report.sections import make_sections
from clbench.report.verdict import Check, Sentence, checks, settled, verdict


@dataclass(frozen=True)
class Group:
    """The part of the page about one suite. `prefix` stands before all its ids, so that suites can share a page;
    `settled` says what it means that all checks hold.
    """

    prefix: str
    suite: str
    world: str
    heading: str
    verdict: list[Sentence]
    facts: list[tuple[str, str]]
    checks: list[Check]
    settled: str
    sections: list[Section]

    @property
    def broken(self) -> int:
        return sum(not check.ok for check in self.checks)


@dataclass(frozen=True)
class Page:
    """Everything a template needs: one group for each suite, and all pictures, each once."""

    title: str
    groups: list[Group]
    thumbs: list[Thumb]


def make_page(
    parts: Sequence[Results], ledgers: Sequence[Deployment] = (), budget: float | None = None, side: int | None = None
) -> Page:
    """Compute every number, lay out every table and pick the pictures, as many as `budget` has room for, each at most `side` px
    large; the same runs give the same page.
    """
    budget = pictures.BYTES_FOR_PICTURES if budget is None else budget
    album, groups, several = Album(0, side or pictures.LARGEST_SIDE), [], len(parts) + len(ledgers) > 1
    for index, results in enumerate(parts, 1):
        album.limit, album.original = budget * index / len(parts), 0
        groups.append(_group(results, album, f"{results.about.suite_name}-" if several else ""))
    groups += [_measured(one, f"{one.found.suite.name}-" if several else "") for one in ledgers]
    suites = ", ".join(group.suite for group in groups)
    worlds = ", ".join(dict.fromkeys(group.world for group in groups))
    return Page(f"clbench: {suites} in {worlds}", groups, list(album.thumbs.values()))


def _group(results: Results, album: Album, prefix: str) -> Group:
    numbers, about = compute(results), results.about
    checked = checks(numbers)
    return Group(
        prefix=prefix,
        suite=about.suite_name,
        world=about.world_name,
        heading=about.question,
        verdict=verdict(numbers),
        facts=_facts(results),
        checks=checked,
        settled=settled(checked),
        sections=make_sections(Material(numbers, album)),
    )


def _measured(one: Deployment, prefix: str) -> Group:
    """The group about a suite that measures deployment; it has no cases, so it has tables of its own."""
    found, suite = one.found, one.found.suite.name
    return Group(
        prefix=prefix,
        suite=suite,
        world=found.world.name,
        heading=one.question,
        verdict=deployment.verdict(found),
        facts=deployment.facts(found),
        checks=deployment.checks(found),
        settled="predictions and measurements agree",
        sections=deployment.sections(one, suite),
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    sources = {case.source for entry in results.entries for case in entry.cases}
    newest = max((entry.info.created for entry in results.entries), default="")
    return [
        ("Effects", str(len(results.effects))),
        ("Sources", str(len(sources))),
        ("Systems", str(len({entry.system for entry in results.systems}))),
        ("Controls", str(len({entry.system for entry in results.controls}))),
        ("Truth", results.about.truth_kind),
        ("Newest run", newest[:10]),
    ]
