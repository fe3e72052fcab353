"""What an edit costs, and what is missing: tables made from the records of edits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from clbench.report.cells import MISSING, Cell, Head, Row, TableView, megabytes, number, plural
from clbench.report.data import Entry, Results
from clbench.report.numbers import Numbers
from clbench.report.tables import LAST, short, system_cell

ONE_SOURCE, ANY_SOURCE = re.compile(r"source '([^']*)'"), "source '…'"
NO_PEAK = (
    "No peak memory is shown of systems on a CPU: what is known there is the peak of the whole process, which also made the "
    "pictures of other systems. `clbench eval --suite memory` measures each way of deploying in processes of its own."
)


def cost(numbers: Numbers) -> TableView:
    """Steps, transformer passes, seconds and stored adapters of every system that samples; peak memory where a GPU's is known."""
    about, rows = numbers.results.about, []
    on_gpu = [entry for entry in numbers.results.systems if _on_gpu(entry)]
    for entry in numbers.results.systems:
        done = [record for record in entry.records.values() if record.status == "ok"]
        seconds = [record.seconds for record in done if np.isfinite(record.seconds)]
        steps = entry.steps if entry.steps is not None else entry.info.system.card["settings"].get("steps")
        memory, stored = (
            max((record.memory for record in done), default=0),
            about.adapter_bytes.get(entry.system, 0),
        )
        adapters = len(set(entry.info.system.card["adapters"].values()))
        rows.append(
            Row(
                [
                    system_cell(entry, numbers.results),
                    Cell(MISSING if steps is None else str(steps), sort=-1 if steps is None else steps),
                    _measured([record.nfe for record in done if record.nfe], 0),
                    _measured(seconds, 3, " s"),
                    *([_peak(memory, entry)] if on_gpu else []),
                    Cell(str(adapters), sort=adapters),
                    Cell(megabytes(stored), sort=stored),
                ]
            )
        )
    heads = [
        Head("System", numeric=False),
        Head("Steps"),
        Head("Passes", "forward passes of the transformer for one picture; guidance counts twice"),
        Head("Time a picture", "median wall time: time of the batch / size of the batch", sub="10 % to 90 %"),
        *([Head("Peak memory", "highest that torch allocated on the GPU")] if on_gpu else []),
        Head("Adapters", "different LoRA files"),
        Head("Adapter bytes"),
    ]
    note = NO_PEAK if len(on_gpu) < len(numbers.results.systems) else ""
    return TableView("t-cost", "What an edit costs", heads, rows, note, "cost")


def _on_gpu(entry: Entry) -> bool:
    return entry.info.device.startswith("cuda")


def _peak(memory: int, entry: Entry) -> Cell:
    if not _on_gpu(entry):
        return Cell(MISSING, sort=LAST, title="the peak of a whole process is not that of a system", css="missing")
    return Cell(megabytes(memory), sort=memory)


def _measured(values: list[float] | list[int], decimals: int, unit: str = "") -> Cell:
    if not values:
        return Cell(MISSING, sort=LAST, title="not recorded", css="missing")
    low, middle, high = np.quantile(np.asarray(values, dtype=np.float64), [0.1, 0.5, 0.9]).tolist()
    sub = f"{number(low, decimals)} to {number(high, decimals)}" if high > low else ""
    return Cell(number(middle, decimals) + unit, sub, middle)


def missing(results: Results) -> TableView | None:
    """Every reason for a missing edit or score, which metrics and systems it hit and how many cases of each.

    None when nothing is missing. Systems that miss the same metrics for the same reason share a row.
    """
    found: defaultdict[tuple[str, str, int, tuple[str, ...]], list[str]] = defaultdict(list)
    for entry in results.entries:
        for (status, reason, count), whats in _misses(entry).items():
            found[status, reason, count, tuple(whats)].append(entry.label)
    for entry in results.variants:  # a probe that was not asked is unscored by design, one that failed is not
        for (status, reason, count), whats in _misses(entry).items():
            if status == "failed":
                found[status, reason, count, tuple(whats)].append(f"{entry.label}, asked otherwise")
    if not found:
        return None
    rows = [
        Row(
            [
                Cell(reason, css="name"),
                Cell(status, css="text"),
                Cell(", ".join(whats), css="text"),
                Cell(", ".join(labels), css="text"),
                Cell(str(count), sort=count),
            ]
        )
        for (status, reason, count, whats), labels in sorted(found.items())
    ]
    heads = [
        Head("Reason", numeric=False),
        Head("Status", numeric=False),
        Head("What is missing", numeric=False),
        Head("Systems", numeric=False),
        Head("Cases in each"),
    ]
    note = "Missing values enter no mean; they are never counted as 0."
    return TableView("t-missing", "What is missing, and why", heads, rows, note, "reasons")


def _misses(entry: Entry) -> dict[tuple[str, str, int], list[str]]:
    """(status, reason, cases) -> the metrics, or "edit", that are missing that often for that reason."""
    told = [(record.status, record.reason, "edit") for record in entry.records.values()]
    for metric, column in entry.columns.items():
        told += [(status, reason, short(metric)) for status, reason in zip(column.status, column.reasons, strict=True)]
    counted: Counter[tuple[str, str, str]] = Counter()
    named: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for status, reason, what in told:
        if status != "ok":
            key = status, ONE_SOURCE.sub(ANY_SOURCE, reason), what
            counted[key] += 1
            named[key] |= {*ONE_SOURCE.findall(reason)}
    grouped: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    for key, count in counted.items():
        status, reason, what = key
        grouped[status, _of_sources(reason, sorted(named[key])), count].append(what)
    return grouped


def _of_sources(reason: str, names: Sequence[str]) -> str:
    """A reason that names a source, which many may share: once, with their number."""
    if len(names) == 1:
        return reason.replace(ANY_SOURCE, f"source '{names[0]}'")
    return f"{reason} ({plural(len(names), 'source')})" if names else reason
