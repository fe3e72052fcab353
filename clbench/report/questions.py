"""Sections about what is asked beyond the plain question: probes, neutral questions, pairs of effects, groups of sources,
numbers of effects in one adapter, and whole sets of pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from clbench.gram import read_gram
from clbench.probe_words import PARAPHRASE
from clbench.probe_words import reworded as how_reworded
from clbench.prompt_lengths import COMPOSED
from clbench.report import figures
from clbench.report.blocks import Section, folded, there
from clbench.report.capacity import capacity_table, rank_table, trained_effects
from clbench.report.cells import Row, TableView
from clbench.report.composition import composition_table, twice_table
from clbench.report.data import Entry
from clbench.report.groups import against_seen, group_table, whole_table
from clbench.report.incremental import incremental_table
from clbench.report.lengths import cut_words, lengths_table
from clbench.report.material import Material
from clbench.report.probes import gram_table, neighbours_of, neutral_table, probe_table
from clbench.report.scenes import scenes_table, seen_table
from clbench.report.sets import overall, per_effect
from clbench.types import NEUTRAL

GROUPED = ("success", "vsa", "subject", "perceptual", "leak_total")
COUNTED = ("success", "vsa", "perceptual", "leak_total")
"""Metrics shown by group of sources, and by number of effects; the first that was scored is unfolded."""


def probes(material: Material) -> Section | None:
    """What decides which effect appears: trigger, caption or instruction; how alike prompts are, and which are too long."""
    results = material.results
    neighbours = neighbours_of(results.about.effects, results.about.asked or [effect.id for effect in results.effects])
    gram = read_gram(material.folder)
    asked = _controlled(material, probe_table(material.frame, neighbours, results.effects))
    alike = gram_table(gram, results.name) if gram is not None else None
    lead = "The same questions put in other ways. Orthogonal prompting wants the trigger alone to decide which effect appears."
    return _section("probes", "Prompts", lead if asked is not None else "", [asked, alike, lengths_table(results)])


def neutral(material: Material) -> Section | None:
    """Does a general instruction without trigger get the base's answer?"""
    table = _controlled(material, neutral_table(material.frame, material.results.name))
    lead = f"An adapter should change nothing where none of its effects is asked for. {cut_words(material.results, [NEUTRAL])}"
    return _section("neutral", "Neutral questions", lead.strip(), [table])


def composition(material: Material) -> Section | None:
    """Two effects in turn, in one edit and in two."""
    systems = [entry.system for entry in material.results.systems]
    views = [_controlled(material, composition_table(material.frame)), twice_table(material.frame, systems)]
    lead = f"«Apply one effect, then another» was trained nowhere. {cut_words(material.results, [COMPOSED])}".strip()
    return _section("composition", "Two effects", lead, views)


def groups(material: Material) -> Section | None:
    """Does quality hold away from the training pictures and words?"""
    results, frame, metrics = material.results, material.frame, _scored(material, GROUPED)
    systems = [entry.system for entry in results.finals]
    plain = _views(_controlled(material, group_table(frame, metric, "", results)) for metric in metrics)
    if not plain:
        return None
    gaps = _views(against_seen(frame, metric, systems, results) for metric in metrics)
    reworded = _views(_controlled(material, group_table(frame, metric, PARAPHRASE, results)) for metric in metrics)
    whole = _views(_controlled(material, whole_table(frame, metric)) for metric in metrics)
    shown = [*plain[:1], *gaps[:1], *_views([seen_table(results)]), *reworded[:1]]
    others = [*plain[1:], *gaps[1:], *reworded[1:], *whole, *_views([scenes_table(results)])]
    lead = "Scenes from pictures that adapters saw in training, and from pictures that they did not"
    lead += f"; and each effect asked for {how_reworded(results.effects)}. " if reworded else "."
    lead = f"{lead}{cut_words(results, [PARAPHRASE])}".strip()
    return _section("groups", "Away from training", lead, [*shown, *map(folded, others)])


def capacity(material: Material) -> Section | None:
    """Quality against the number of effects in one adapter; needs two sizes of adapters that say what they were trained on.

    Extended adapters are left out: they differ from the others in more than their size.
    """
    held = {system: effects for system, (effects, new) in _trained(material).items() if not new}
    counts = {system: len(effects) for system, effects in held.items()}
    if len(set(counts.values())) < 2:
        return None
    reference = material.results.about.reference
    tables = [capacity_table(material.frame, held, metric, reference) for metric in _scored(material, COUNTED)]
    views = there([_controlled(material, table) for table in tables])
    plot = figures.by_count(material.numbers, counts)
    more = [folded(view) for view in views[1:] if isinstance(view, TableView)]
    return _section("capacity", "Number of effects", "How many effects one adapter can hold.", [plot, *views[:1], *more])


def ranks(material: Material) -> Section | None:
    """Quality against the rank of the adapter; needs collections of two ranks that carry the same effects."""
    results = material.results
    mine = [entry for entry in results.finals if entry.collection and entry in results.whole and not entry.extended]
    found = {entry.system: results.about.ranks[entry.system] for entry in mine if entry.system in results.about.ranks}
    if len(set(found.values())) < 2:
        return None
    reference, held = results.about.reference, {system: effects for system, (effects, _) in _trained(material).items()}
    tables = [rank_table(material.frame, found, held, metric, reference) for metric in _scored(material, COUNTED)]
    views = there([_controlled(material, table) for table in tables])
    plot = figures.by_count(material.numbers, found, "Rank of the adapter")
    more = [folded(view) for view in views[1:] if isinstance(view, TableView)]
    lead = "How much rank one adapter of all these effects needs. Its bytes grow in proportion to its rank."
    return _section("ranks", "Rank of the adapter", lead, [plot, *views[:1], *more])


def incremental(material: Material) -> Section | None:
    """Old and new effects of adapters that extend another one."""
    trained = _trained(material)
    reference = material.results.about.reference
    views = [incremental_table(material.frame, trained, metric, reference) for metric in _scored(material, COUNTED)]
    first, *more = [_controlled(material, view) for view in views if view is not None] or [None]
    lead = "What became of the effects that an adapter had before new ones were added."
    return _section("incremental", "Old and new effects", lead, [first, *(folded(view) for view in more if view is not None)])


def sets(material: Material) -> Section | None:
    """Distances between whole sets of pictures."""
    results = material.results
    views = [folded(view) for view in per_effect(results)]
    lead = "Do outputs look like truths as a whole? Which picture belongs to which case plays no part."
    return _section("sets", "Sets of pictures", lead, [_controlled(material, overall(results)), *views])


def _section(name: str, title: str, lead: str, blocks: Sequence) -> Section | None:
    """A section of the blocks that are there; None without any."""
    kept = there(blocks)
    return Section(name, title, lead, kept) if kept else None


def _views(views: Iterable[TableView | None]) -> list[TableView]:
    """The tables that are there."""
    return [view for view in views if view is not None]


def _controlled(material: Material, view: TableView | None) -> TableView | None:
    """The table with the rows of controls marked as such, and with systems named as readers know them."""
    if view is None:
        return None
    runs = material.results.runs()
    return replace(view, rows=[_row(row, runs.get(row.cells[0].text)) for row in view.rows])


def _row(row: Row, entry: Entry | None) -> Row:
    """A row that begins with the name of `entry`'s run folder; any other row as it is."""
    if entry is None:
        return row
    cells = [replace(row.cells[0], text=entry.name), *row.cells[1:]]
    return replace(row, cells=cells, css="control" if entry.control else row.css)


def _scored(material: Material, names: Sequence[str]) -> list[str]:
    scored = {card.name for card in material.results.metrics}
    return [name for name in names if name in scored]


def _trained(material: Material) -> dict[str, tuple[list[str], list[str]]]:
    """Collection -> (its effects, the new ones among them), of those whose card says what they were trained on.

    A joint LoRA of few effects says so too, and is made in another way: it stands in no curve of collections.
    """
    runs = {system: entry for system, entry in material.results.runs().items() if entry.collection}
    found = {system: trained_effects(entry.info.system.card) for system, entry in runs.items()}
    return {system: trained for system, trained in found.items() if trained is not None}
