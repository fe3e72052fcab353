"""What `clbench compare` and `clbench selftest` do: show numbers, and say whether a bound is missed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.console import print_table, show
from clbench.notices import say
from clbench.order import names

if TYPE_CHECKING:
    from clbench.compare import FailBy


def compare(
    run_a: Path, run_b: Path, fail_on: Sequence[str], fail_by: FailBy, metrics: Sequence[str], systems: Sequence[str],
    as_json: bool, markdown: Path | None,
) -> bool:  # fmt: skip
    """Show the comparison of two runs; whether a condition of `fail_on` is met."""
    import json

    from clbench import compare as room
    from clbench.compare import words
    from clbench.compare.gate import judge
    from clbench.disk import check_possible, replace_bytes

    if markdown is not None:
        check_possible(markdown.parent)
    conditions = [room.parse_fail_on(text) for text in fail_on]
    pairs = room.match_runs(run_a, run_b, names(systems))
    found = room.compare(pairs, names(metrics), [condition.metric for condition in conditions])
    verdicts = judge(conditions, found, fail_by)
    if markdown is not None:
        replace_bytes(markdown, words.to_markdown(found, verdicts).encode())
    if as_json:
        show(json.dumps(words.to_plain(found, verdicts), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        for title, lines in words.groups(found):
            print_table(f"{title}: A {run_a}, B {run_b}", list(words.HEADS), [words.cells(line) for line in lines])
        say(words.NOTE.format(family=found.family), "dim")
    for note in found.notes:
        say(note, "yellow")
    for verdict in verdicts:
        say(verdict.sentence, "red" if verdict.met else "green")
    return any(verdict.met for verdict in verdicts)


def selftest(only: Sequence[str], as_json: bool, strict: bool) -> bool:
    """Run the checks and show each bound with its value; whether one is missed (with `strict`, also known ones)."""
    import json

    from clbench import selftest as room

    found = room.run(names(only), lambda group, check: say(f"{check.verdict:<15}{group}: {check.name}"))
    if as_json:
        plain = [check.plain(group) for group, check in found]
        show(json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=1))
    else:
        rows = [[f"{group}: {check.name}", f"{check.value:.4g}", check.bound or "-", check.verdict] for group, check in found]
        print_table(f"clbench selftest: {len(found)} values", ["check", "value", "bound", "verdict"], rows)
    missed = [check for _, check in found if not check.passed]
    for check in missed:
        say(check.sentence, "red")
    return any(strict or not check.known for check in missed)
