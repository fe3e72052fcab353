"""The whole report as one value: everything the two templates show, in the order in which they show it."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.report import accounts, figures, matrices, origin, tables
from clbench.report.cells import TableView, anchor, plural
from clbench.report.data import Entry, Results
from clbench.report.numbers import Numbers, compute
from clbench.report.pictures import Album, EffectGallery, Strip, Thumb, galleries, gallery_cases, strips
from clbench.report.verdict import Check, Sentence, checks, verdict

EFFECT_METRICS = ("success", "vsa", "perceptual", "leak_total", "subject", "dose")


@dataclass(frozen=True)
class Bleeding:
    """Matrices of one entry and the pictures behind their cells; `open` entries are unfolded at first."""

    id: str
    label: str
    words: str
    open: bool
    tables: list[TableView]
    strips: list[Strip]


@dataclass(frozen=True)
class Page:
    """Everything a template needs. `plots` holds (caption, SVG)."""

    title: str
    heading: str
    suite: str
    world: str
    verdict: list[Sentence]
    facts: list[tuple[str, str]]
    checks: list[Check]
    summary: list[TableView]
    plots: list[tuple[str, str]]
    differences: TableView | None
    effects: list[TableView]
    bleeding: list[Bleeding]
    pairs: TableView | None
    galleries: list[EffectGallery]
    gallery_order: str
    candidate: str
    cost: TableView
    missing: TableView | None
    origin: list[tuple[str, str]]
    runs: TableView
    glossary: TableView
    command: str
    thumbs: list[Thumb]

    @property
    def broken(self) -> int:
        return sum(not check.ok for check in self.checks)

    @property
    def sections(self) -> list[tuple[str, str]]:
        """(anchor, name) of the sections that are there."""
        have = {
            "differences": self.differences,
            "effects": self.effects,
            "bleeding": self.bleeding or self.pairs,
            "missing": self.missing,
        }
        names = (
            "summary",
            "differences",
            "effects",
            "bleeding",
            "gallery",
            "cost",
            "missing",
            "provenance",
            "glossary",
        )
        return [(name, name.capitalize()) for name in names if have.get(name, True)]


def make_page(results: Results) -> Page:
    """Compute every number, lay out every table and pick the pictures; the same runs give the same page."""
    numbers, album, about = compute(results), Album(), results.about
    shown = galleries(results, album)
    behind = strips(results, album)
    sentences = verdict(numbers)
    who = results.candidate.label if results.candidate is not None else "no system"
    return Page(
        title=f"clbench: {about.suite_name} in {about.world_name}",
        heading=about.question,
        suite=about.suite_name,
        world=about.world_name,
        verdict=sentences,
        facts=_facts(results),
        checks=checks(numbers),
        summary=tables.summaries(numbers),
        plots=_plots(numbers),
        differences=tables.differences(numbers),
        effects=_effects(numbers),
        bleeding=_bleeding(results, behind, gallery_cases(shown)),
        pairs=matrices.hard_pairs(results),
        galleries=shown,
        gallery_order=f"the worst of {who} first" if results.candidate is not None else "in the order of the suite",
        candidate=who,
        cost=accounts.cost(numbers),
        missing=accounts.missing(results),
        origin=origin.shared_facts(results),
        runs=origin.runs(results),
        glossary=origin.glossary(results),
        command=about.command,
        thumbs=list(album.thumbs.values()),
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    sources = {case.source for entry in results.entries for case in entry.cases}
    newest = max((entry.info.created for entry in results.entries), default="")
    return [
        ("Effects", str(len(results.effects))),
        ("Sources", str(len(sources))),
        ("Systems", str(len(results.systems))),
        ("Controls", str(len(results.controls))),
        ("Truth", results.about.truth_kind),
        ("Newest run", newest[:10]),
    ]


def _plots(numbers: Numbers) -> list[tuple[str, str]]:
    card = numbers.results.headline
    if card is None:
        return []
    name = tables.short(card.name)
    found = [
        (f"{name} of every effect", figures.by_effect(numbers)),
        (f"{name} against leak, with 95 % intervals", figures.trade(numbers)),
    ]
    return [(caption, svg) for caption, svg in found if svg]


def _effects(numbers: Numbers) -> list[TableView]:
    scored = {card.name: card for card in numbers.results.metrics}
    headline = numbers.results.headline
    names = [headline.name] if headline is not None else []
    names += [name for name in EFFECT_METRICS if name in scored and name not in names]
    return [tables.per_effect(numbers, scored[name]) for name in names]


def _bleeding(results: Results, behind: list[Strip], shown_cases: set[str]) -> list[Bleeding]:
    by_id = {strip.id: strip for strip in behind}
    found = []
    for entry in results.entries:
        views = [
            matrices.attribution(entry, results, set(by_id)),
            matrices.leak(entry, results, shown_cases),
        ]
        kept = [view for view in views if view is not None]
        if kept:
            mine = [by_id[cell.id] for cell in matrices.behind(entry) if cell.id in by_id]
            name, wide = anchor("m", entry.label, "matrix"), entry is results.candidate
            found.append(Bleeding(name, entry.label, _words(entry), wide, kept, mine))
    return sorted(found, key=lambda one: not one.open)


def _words(entry: Entry) -> str:
    read = [(case.effect, seen) for case, seen in zip(entry.cases, entry.attributed, strict=True) if seen]
    wrong = sum(asked != seen for asked, seen in read)
    kind = "control, " if entry.control else ""
    return f"{kind}{wrong} of {plural(len(read), 'picture')} not read as asked"
