"""The sections of a report, in the order in which they are read.

A section is a function from what is known about one suite (`Material`) to a `Section`, or to None where it has nothing to
say. Adding one is a function and its line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

from clbench.report import accounts, against, curves, figures, lengths, matrices, origin, pareto, questions, tables
from clbench.report.blocks import Facts, Filter, Fold, Section, Side, folded, there
from clbench.report.cells import anchor, plural
from clbench.report.data import Entry
from clbench.report.differences import differences
from clbench.report.gallery import Strip, Strips
from clbench.report.material import Material
from clbench.report.summary import scales, summaries

EFFECT_METRICS = ("success", "vsa", "perceptual", "leak_total", "subject", "dose")


def summary(material: Material) -> Section:
    """Who wins and by how much."""
    first, *more = summaries(material.numbers)
    plots = there([figures.by_effect(material.numbers), figures.trade(material.numbers)])
    further = [*more, *there([scales(material.numbers)])]
    return Section("summary", "Summary", "", [first, *([Side(plots)] if plots else []), *map(folded, further)])


def paired(material: Material) -> Section | None:
    """Differences to the reference on the same cases."""
    table = differences(material.numbers)
    return Section("differences", "Differences", "", [table]) if table is not None else None


def effects(material: Material) -> Section | None:
    """Where it goes wrong: effects, the candidate's worst first."""
    scored = {card.name: card for card in material.results.metrics}
    headline = material.results.headline
    names = [headline.name] if headline is not None else []
    names += [name for name in EFFECT_METRICS if name in scored and name not in names]
    views = [tables.per_effect(material.numbers, scored[name]) for name in names if tables.is_known(material.numbers, name)]
    if not views:
        return None
    return Section("effects", "Effects", "", [Filter(), views[0], *map(folded, views[1:])])


def bleeding(material: Material) -> Section | None:
    """Which effects show up in pictures asked for others, with the pictures."""
    results, behind = material.results, material.strips
    folds = sorted((fold for e in results.entries if (fold := _matrices(e, material, behind))), key=lambda one: not one.open)
    pairs = matrices.hard_pairs(results)
    if not folds and pairs is None:
        return None
    lead = (
        "A picture bleeds when it was asked for one effect and shows another. Rows are what was asked for, columns are what "
        "the picture shows. Pick a cell to see the pictures behind it."
    )
    return Section("bleeding", "Bleeding", f"{lead} {material.reduced}".strip(), [*folds, *there([pairs])])


def _matrices(entry: Entry, material: Material, behind: dict[str, Strip]) -> Fold | None:
    """Both matrices of one entry and the pictures behind their cells; the candidate's are unfolded."""
    results = material.results
    linked, shown = set(behind), material.gallery.shown
    views = [matrices.attribution(entry, results, linked), matrices.leak(entry, results, shown, linked)]
    kept, name = there(views), anchor("m", entry.label, "matrix")
    if not kept:
        return None
    mine = [behind[cell.id] for cell in matrices.behind(entry) if cell.id in behind]
    wrong = sum(asked != seen for asked, seen in entry.read)
    words = f"{'control, ' if entry.control else ''}{wrong} of {plural(len(entry.read), 'picture')} not read as asked"
    return Fold(name, entry.label, [Strips(mine, name), Side(kept)], words, entry is results.candidate)


def steps(material: Material) -> Section | None:
    """What each number of steps buys."""
    plot, curve, values = figures.step_curves(material.numbers), curves.table(material.numbers), curves.values(material.numbers)
    kept = there([plot, curve, values])
    return Section("steps", "Steps", "What quality each further pass buys.", kept) if kept else None


def cost(material: Material) -> Section:
    """Quality against what it costs in passes and bytes."""
    plots = there([figures.pareto(material.numbers, "passes"), figures.pareto(material.numbers, "bytes")])
    views = there([pareto.table(material.numbers), accounts.cost(material.numbers)])
    lead = "The grey line joins the systems that nothing else here beats at their price." if plots else ""
    return Section("cost", "Cost", lead, [*([Side(plots)] if plots else []), *views])


def pictures(material: Material) -> Section:
    """What it looks like."""
    candidate = material.results.candidate
    who = candidate.label if candidate is not None else ""
    order = f"the worst of {who} first" if who else "in the order of the suite"
    lead = f"Source, truth, and what every system made of it; {order}. {material.reduced}".strip()
    return Section("gallery", "Gallery", lead, [Filter(who), material.gallery])


def missing(material: Material) -> Section | None:
    """What is missing, and why."""
    table = accounts.missing(material.results)
    return Section("missing", "Missing", "", [table]) if table is not None else None


def provenance(material: Material) -> Section:
    """Where the numbers come from and how to make them again."""
    results = material.results
    made = results.about.again
    lead = f"The same worlds, adapters and versions give the same numbers. {made.words}"
    prompts = lengths.fact(results)
    facts = [*origin.shared_facts(results), *([("Prompts", prompts)] if prompts else [])]
    blocks = [*made.commands, Facts(facts), origin.runs(results)]
    return Section("provenance", "Provenance", lead, blocks)


def glossary(material: Material) -> Section:
    """What each metric says."""
    return Section("glossary", "Glossary", "", [origin.glossary(material.results)])


def extra(material: Material) -> list[Section]:
    """Sections that came with the input, such as a deployment ledger."""
    return list(material.results.about.extra)


SECTIONS: tuple[Callable[[Material], Section | list[Section] | None], ...] = (
    summary,
    paired,
    against.published,
    effects,
    bleeding,
    questions.probes,
    questions.neutral,
    questions.composition,
    questions.groups,
    steps,
    questions.capacity,
    questions.ranks,
    questions.incremental,
    questions.sets,
    cost,
    extra,
    pictures,
    missing,
    provenance,
    glossary,
)


def make_sections(material: Material) -> list[Section]:
    """All sections that have something to say."""
    found: list[Section] = []
    for make in SECTIONS:
        made = make(material)
        found += made if isinstance(made, list) else [made] if made is not None else []
    return found
