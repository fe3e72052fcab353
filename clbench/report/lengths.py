"""Which prompts of a run the text encoder cut, from the prompts.json that `clbench edit` left beside its edits."""

from __future__ import annotations

from collections.abc import Iterable

from clbench.prompt_lengths import Asked, Lengths, longer_than, read_lengths, sentence, way
from clbench.report.cells import Cell, Head, Row, TableView, metric_value
from clbench.report.data import Results

NOTE = (
    "Different prompts that are {}, counted with the backbone's tokenizer before anything was sampled. What an effect loses by "
    "it is part of every score here. Prompts by «neutral» are general instructions; an older clbench did not count them."
)


def lengths(results: Results) -> dict[str, Lengths]:
    """What was counted of each run, by system; runs of an older clbench and systems that sample nothing have nothing."""
    found = {system: read_lengths(entry.folder.path) for system, entry in results.runs().items()}
    return {system: held for system, held in found.items() if held is not None}


def lengths_table(results: Results) -> TableView | None:
    """One row per system and way to ask, where any prompt is too long; None where none is, or nothing was counted."""
    found = lengths(results)
    long = list(dict.fromkeys(one.question for held in found.values() for one in held.longer()))
    body = [_row(system, one) for system, held in found.items() for one in held.asked if one.question in long]
    if not body:
        return None
    heads = [Head("System", numeric=False), Head("Asked by", numeric=False), Head("Prompts"), Head("Cut"), Head("Share cut")]
    limits = " or ".join(dict.fromkeys(longer_than(held.limit) for held in found.values()))
    return TableView("t-prompt-lengths", "Prompts that the text encoder cuts", heads, body, NOTE.format(limits))


def _row(system: str, one: Asked) -> Row:
    share = one.longer / one.prompts
    counts = (Cell(f"{count:,}", sort=count) for count in (one.prompts, one.longer))
    return Row([Cell(system), Cell(way(one.question)), *counts, Cell(metric_value("success", share), sort=share)])


def cut_words(results: Results, questions: Iterable[str]) -> str:
    """Sentences about the prompts of these ways to ask that lose their end; "" where none does."""
    said = [sentence(system, held, list(questions)) for system, held in lengths(results).items()]
    return " ".join(f"{words}." for words in said if words)


def fact(results: Results) -> str:
    """Whether all prompts are taken whole, in words; "" where nobody counted."""
    found = lengths(results).values()
    if not found:
        return ""
    within = " or ".join(dict.fromkeys(f"{held.limit} tokens" for held in found))
    return f"some are longer than {within}" if any(held.longer() for held in found) else f"all within {within}"
