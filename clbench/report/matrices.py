"""Bleeding: who was asked and what was seen, as matrices whose cells lead to the pictures behind them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from clbench.report.cells import MISSING, Cell, Head, Row, TableView, anchor, number
from clbench.report.data import LABELS, NONE, SOURCE, Entry, Results, question
from clbench.types import Case

STEPS = 10
"""Number of colour steps of a heat table."""
HARD_PAIRS_SHOWN = 24


@dataclass(frozen=True)
class Behind:
    """The cases behind one cell of an attribution matrix."""

    id: str
    entry: Entry
    asked: str
    seen: str
    cases: list[Case]


def cell_id(entry: Entry, asked: str, seen: str) -> str:
    """Anchor of the pictures behind a cell."""
    return anchor("b", entry.label, asked, seen)


def behind(entry: Entry) -> list[Behind]:
    """Every off-diagonal cell that holds a case, in matrix order."""
    groups: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case, seen in zip(entry.cases, entry.attributed, strict=True):
        if seen and seen != case.effect:
            groups[case.effect, seen].append(case)
    return [Behind(cell_id(entry, *key), entry, *key, cases) for key, cases in groups.items()]


def heat(share: float, ramp: str) -> str:
    """CSS class of a heat step 0..10: ``good-*`` on the diagonal, ``bad-*`` off it, ``calm-*`` aside."""
    return f"heat {ramp}-{min(STEPS, max(0, round(STEPS * share)))}"


def attribution(entry: Entry, results: Results, linked: set[str]) -> TableView | None:
    """N x (N + 2): share of a row's cases that were read as the column; None without attribution."""
    if not entry.read:
        return None
    columns = [*(effect.id for effect in results.effects), SOURCE, NONE]
    counts, totals = Counter(entry.read), Counter(asked for asked, _ in entry.read)
    rows = []
    for effect in results.effects:
        cells = [Cell(effect.name, href=f"#g-{anchor(effect.id)}", css="name")]
        for seen in columns:
            link = f"#g-{anchor(effect.id)}" if seen == effect.id else f"#{cell_id(entry, effect.id, seen)}"
            known = seen == effect.id or link[1:] in linked
            cells.append(_share_cell(effect.id, seen, counts, totals, link if known else "", results))
        rows.append(Row(cells))
    heads = [Head("asked for ↓ read as →", numeric=False), *(Head(results.name(seen)) for seen in columns)]
    note = "Per cent of a row's pictures. On the diagonal: read as what was asked for. Elsewhere: bleeding. "
    whole = all(cell_id(entry, *pair) in linked for pair in counts if pair[0] != pair[1])
    note += "A coloured cell leads to its pictures." if whole else "An underlined cell leads to its pictures."
    caption = f"{entry.label}: what its pictures were read as"
    return TableView(anchor("t-attribution", entry.label), caption, heads, rows, note, "matrix", sortable=False)


def _share_cell(
    asked: str,
    seen: str,
    counts: Counter[tuple[str, str]],
    totals: Counter[str],
    link: str,
    results: Results,
) -> Cell:
    total = totals[asked]
    if not total:
        return Cell(MISSING, title="no picture of this effect was scored", css="missing")
    count = counts[asked, seen]
    ramp = "good" if seen == asked else "calm" if seen in LABELS else "bad"
    title = f"asked for {results.name(asked)}, read as {results.name(seen)}: {count} of {total}"
    if not count:
        return Cell("") if seen != asked else Cell("0", title=title, css=heat(0, ramp) + " zero")
    return Cell(f"{100 * count / total:.0f}", href=link, title=title, css=heat(max(count / total, 1 / STEPS), ramp))


def leak_means(entry: Entry) -> dict[tuple[str, str], tuple[float, Case]]:
    """Mean leak per (asked, other) over cases, and the case in which it was largest."""
    if not len(entry.leak):
        return {}
    asked, asked_names = _coded(np.array(entry.effects, dtype=object)[entry.leak.places])
    other, other_names = _coded(entry.leak.others)
    pair = asked * len(other_names) + other
    totals, counts = np.bincount(pair, entry.leak.values), np.bincount(pair)
    order = np.lexsort((entry.leak.places, entry.leak.values, pair))
    worst = dict(zip(pair[order].tolist(), entry.leak.places[order].tolist(), strict=True))  # the last one wins
    return {
        (asked_names[one // len(other_names)], other_names[one % len(other_names)]): (
            float(totals[one] / counts[one]), entry.cases[place],
        )
        for one, place in worst.items()
    }  # fmt: skip


def _coded(names: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Names as numbers into a list of the distinct ones."""
    distinct = {name: code for code, name in enumerate(dict.fromkeys(names.tolist()))}
    return np.array([distinct[name] for name in names.tolist()], dtype=np.int64), list(distinct)


def leak(entry: Entry, results: Results, shown_cases: set[str], linked: set[str]) -> TableView | None:
    """N x N: mean leak of the column's effect into pictures asked for the row's; None without leak scores.

    `shown_cases` are the rows of the gallery, `linked` the strips behind cells of `attribution`.
    """
    means = leak_means(entry)
    if not means:
        return None
    ids = [effect.id for effect in results.effects]
    rows = []
    for effect in results.effects:
        cells = [Cell(effect.name, href=f"#g-{anchor(effect.id)}", css="name")]
        for other in ids:
            cells.append(_leak_cell(entry, (effect.id, other), means, results, shown_cases | linked))
        rows.append(Row(cells))
    heads = [Head("asked for ↓ leaking in →", numeric=False), *(Head(results.name(other)) for other in ids)]
    note = (
        "1 = as much of the column's effect as in its own truth. A cell leads to its worst case or to pictures read as the "
        "column's effect, where those are shown, else to all shown pictures of the row's."
    )
    caption = f"{entry.label}: how much of another effect leaks in (mean)"
    return TableView(anchor("t-leak", entry.label), caption, heads, rows, note, "matrix", sortable=False)


def _leak_cell(
    entry: Entry,
    pair: tuple[str, str],
    means: dict[tuple[str, str], tuple[float, Case]],
    results: Results,
    shown: set[str],
) -> Cell:
    asked, other = pair
    if asked == other:
        return Cell("·", css="self")
    if pair not in means:
        return Cell(MISSING, title="no leak was scored here", css="missing")
    value, case = means[pair]
    near = [name for name in (case_anchor(case), cell_id(entry, asked, other)) if name in shown]
    link = f"#{near[0]}" if near else f"#g-{anchor(asked)}"
    title = f"asked for {results.name(asked)}, leak of {results.name(other)}: {value:.3f}"
    text = number(value, 2).removeprefix("0") if value < 0.995 else number(value, 1)
    if value < 0.005:
        return Cell("")  # there are thousands of these: an empty cell has no class
    return Cell(text, href=link, title=title, css=heat(min(value, 1.0), "bad"))


def case_anchor(case: Case) -> str:
    """Anchor of a case's row in the gallery; all its numbers of steps share one."""
    return anchor("c", *question(case).id.split("/"))


def hard_pairs(results: Results) -> TableView | None:
    """Neighbouring effects: per system the share read as the neighbour, and its mean leak."""
    known = {effect.id for effect in results.effects}
    pairs = [(e.id, other) for e in results.effects for other in e.neighbours if other in known and other != e.id]
    entries = [entry for entry in results.finals if entry.read or len(entry.leak)]
    if not pairs or not entries:
        return None
    means = {entry.label: leak_means(entry) for entry in entries}
    shares = {entry.label: _shares(entry) for entry in entries}

    def weight(pair: tuple[str, str]) -> tuple[float, float, tuple[str, str]]:
        read = max(shares[entry.label].get(pair, 0.0) for entry in entries)
        leaked = max(means[entry.label][pair][0] if pair in means[entry.label] else 0.0 for entry in entries)
        return -read, -leaked, pair

    ranked = sorted(dict.fromkeys(pairs), key=weight)
    rows = [_pair_row(pair, entries, shares, means, results) for pair in ranked[:HARD_PAIRS_SHOWN]]
    heads = [Head("Asked for", numeric=False), Head("Neighbour", numeric=False)]
    heads += [Head(entry.label, "read as the neighbour; below: mean leak", sub="read as, leak") for entry in entries]
    left = len(ranked) - len(rows)
    note = f"Worst first; {left} further pairs are not shown." if left > 0 else "Worst first."
    return TableView("t-pairs", "Hard pairs: effects that are each other's neighbours", heads, rows, note, "pairs")


def _shares(entry: Entry) -> dict[tuple[str, str], float]:
    counts, totals = Counter(entry.read), Counter(asked for asked, _ in entry.read)
    return {key: count / totals[key[0]] for key, count in counts.items()}


def _pair_row(
    pair: tuple[str, str],
    entries: list[Entry],
    shares: dict[str, dict[tuple[str, str], float]],
    means: dict[str, dict[tuple[str, str], tuple[float, Case]]],
    results: Results,
) -> Row:
    cells = [Cell(results.name(name), href=f"#g-{anchor(name)}", css="name") for name in pair]
    for entry in entries:
        share = shares[entry.label].get(pair, 0.0) if shares[entry.label] else float("nan")
        leaked = means[entry.label].get(pair)
        text = MISSING if share != share else f"{100 * share:.0f} %"
        sub = f"leak {number(leaked[0], 2)}" if leaked is not None else ""
        cells.append(Cell(text, sub, share, css="bad" if share >= 0.1 else ""))
    return Row(cells)
