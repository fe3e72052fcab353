"""A comparison as rows for the terminal, Markdown for a pull request, and plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from clbench.compare.gate import Verdict
from clbench.compare.sides import Side
from clbench.compare.table import Comparison, Line
from clbench.markdown import markdown_code, markdown_text
from clbench.stats import NO_VARIATION, Difference

SCHEMA = 1
MANY = 12
"""Lines up to which Markdown shows all of them; of more, the undecided ones are folded away."""
ARROWS = {"higher": "↑", "lower": "↓", "neutral": ""}
HEADS = ("metric", "A", "B", "B - A", "95 % interval", "p", "detectable", "pairs", "A: total, scored, failed", "B", "B is")
NOTE = (
    "Means over the cases that both scored: seeds within a source, sources within an effect, effects with equal weight. "
    "Intervals are over effects; the sources are fixed. p: sign flips over effects, corrected (Holm) over {family}. "
    "Better or worse is said where the interval leaves 0 out and p < .05. Detectable: the true difference that "
    "would be found 4 times in 5 after the correction: none where no p can pass it."
)


def number(value: float, share: bool, signed: bool = False) -> str:
    """A value of a metric: shares in per cent, differences of shares in points, others in 3 decimals; "-" for NaN."""
    if math.isnan(value):
        return "-"
    text = f"{100 * value if share else value:{'+' if signed else ''}.{1 if share else 3}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text + (" pt" if signed else " %") if share else text


def probability(p: float) -> str:
    """p in 3 decimals; "-" for NaN."""
    return "-" if math.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}"


def interval(gap: Difference, share: bool) -> str:
    """``[low, high]``; "-" where there is none."""
    if math.isnan(gap.low):
        return "-"
    return f"[{', '.join(number(end, share, signed=True).removesuffix(' pt') for end in (gap.low, gap.high))}]"


def cells(line: Line) -> list[str]:
    """The cells of a line under `HEADS`."""
    gap = line.difference
    reach = number(gap.detectable if gap.detectable > NO_VARIATION else math.nan, line.share, signed=True)
    counts = (f"{n.n_total}, {n.n_scored}, {n.n_failed}" for n in (line.first_counts, line.second_counts))
    return [
        f"{line.metric} {ARROWS[line.direction]}".strip(), number(line.first, line.share), number(line.second, line.share),
        number(gap.value, line.share, signed=True), interval(gap, line.share), probability(line.adjusted),
        "none" if math.isinf(gap.detectable) else reach.lstrip("+"), str(gap.n_pairs), *counts,
        f"{line.reading}{f' ({line.reason})' if line.reason else ''}",
    ]  # fmt: skip


def groups(comparison: Comparison) -> list[tuple[str, list[Line]]]:
    """Lines by system and condition, in order, each with its title."""
    found: dict[str, list[Line]] = {}
    for line in comparison.lines:
        found.setdefault(", ".join(part for part in (line.system, line.condition) if part), []).append(line)
    return list(found.items())


def to_markdown(comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """Markdown that fits a pull request: verdict first, then a table for each system, then how to read it."""
    info = comparison.pairs[0].first.folder.info
    title = markdown_text(f"clbench compare: {info.suite.name} in world {info.world.name}")
    parts = [f"### {title}", _outcome(verdicts), _summary(comparison)]
    parts += ["\n".join(f"- {markdown_text(verdict.sentence)}" for verdict in verdicts)] if verdicts else []
    for pair in comparison.pairs:
        parts.append(f"{markdown_text(pair.name)}: A is {side_words(pair.first)}, B is {side_words(pair.second)}.")
    for title, lines in groups(comparison):
        parts += [f"#### {markdown_text(title)}", *_tables(lines)]
    parts += [markdown_text(note) for note in comparison.notes]
    parts.append(f"<sub>{NOTE.format(family=comparison.family)}</sub>")
    return "\n\n".join(part for part in parts if part) + "\n"


def side_words(side: Side) -> str:
    """A run in Markdown: its id and where it lies."""
    return f"{markdown_code(side.folder.info.run)} in {markdown_code(side.folder.path)}"


def _tables(lines: Sequence[Line]) -> list[str]:
    if len(lines) <= MANY:
        return [_table(lines)]
    decided = [line for line in lines if line.reading != "open"]
    rest = [line for line in lines if line.reading == "open"]
    folded = f"<details><summary>{len(rest)} undecided</summary>\n\n{_table(rest)}\n\n</details>" if rest else ""
    return [*([_table(decided)] if decided else []), folded]


def _table(lines: Sequence[Line]) -> str:
    rule = ["---", *["---:"] * (len(HEADS) - 2), "---"]
    rows = [HEADS, rule, *([markdown_text(cell) for cell in cells(line)] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _outcome(verdicts: Sequence[Verdict]) -> str:
    met = sum(verdict.met for verdict in verdicts)
    if not verdicts:
        return ""
    return f"**Failed**: {met} of {len(verdicts)} conditions met." if met else "**Passed**: no condition to fail is met."


def _summary(comparison: Comparison) -> str:
    """``Better: 2, worse: 1, open: 9.``"""
    readings = [line.reading for line in comparison.lines]
    words = [f"{word} {readings.count(word)}" for word in ("better", "worse", "higher", "lower", "open") if word in readings]
    return f"B against A: {', '.join(words)}."


def to_plain(comparison: Comparison, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Plain data for JSON; missing numbers are null, and what is detectable where no p can pass the correction."""
    info = comparison.pairs[0].first.folder.info
    sides = [
        {"name": pair.name, "a": _side(pair.first.folder), "b": _side(pair.second.folder)} for pair in comparison.pairs
    ]  # fmt: skip
    return {
        "schema": SCHEMA, "world": info.world.model_dump(), "suite": info.suite.model_dump(), "pairs": sides,
        "holm_over": comparison.family, "lines": [_plain(line) for line in comparison.lines],
        "fail_on": [
            {"condition": v.condition.text, "system": v.system, "at": v.at, "met": v.met, "says": v.sentence}
            for v in verdicts
        ],
        "failed": any(verdict.met for verdict in verdicts), "notes": comparison.notes,
    }  # fmt: skip


def _side(folder: Any) -> dict[str, str]:
    return {"path": str(folder.path), "run": folder.info.run, "system": folder.info.system_name}


def _plain(line: Line) -> dict[str, Any]:
    plain = {**asdict(line), "reading": line.reading}
    return _finite(plain)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
