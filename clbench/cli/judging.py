"""Commands whose exit code is a verdict: compare, selftest."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from clbench.console import told


class By(str, Enum):
    """What of a difference must pass a bound of --fail-on."""

    estimate = "estimate"
    certain = "certain"
    possible = "possible"


@told
def compare(
    run_a: Annotated[Path, typer.Argument(help="The run before: a run folder, or a folder of results with several.")],
    run_b: Annotated[Path, typer.Argument(help="The run after. Differences are RUN_B - RUN_A on the same cases.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", help="Exit 1 if B is worse than A by more than this: METRIC:+0.02 where lower is better, "
                     "METRIC:-0.02 where higher is. Shares count from 0 to 1. Can be repeated."),
    ] = None,
    fail_by: Annotated[
        By, typer.Option(help="What must pass the bound: the difference itself; its whole 95 % interval (certain); or any "
                         "part of the interval (possible)."),
    ] = By.estimate,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only this metric; repeated or with commas. Default: all with a direction."),
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Only this system; repeated or with commas. Default: all in both.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of the table.")] = False,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Also write Markdown for a pull request here.")] = None,
) -> None:  # fmt: skip
    """Compare two runs case by case.

    Exits with 1 when a --fail-on is met, also since RUN_B is unfinished or lacks scores that RUN_A has; with 2 when the two
    cannot be compared; with 3 when clbench itself failed.

    Example:  clbench compare runs/old/collection runs/new/collection --fail-on bleed_rate:+0.02
    """
    from clbench import judging

    if judging.compare(run_a, run_b, fail_on or (), fail_by.value, metric or (), system or (), json_, markdown):
        raise typer.Exit(1)


@told
def selftest(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this group of checks; repeated or with commas. Default: all.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of the table.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Bounds that are known to be missed count as well.")] = False,
) -> None:
    """Prove the meters on cases with a known answer. Exits with 1 when a bound is missed, with 3 when clbench itself failed.

    Example:  clbench selftest --only statistics
    """
    from clbench import judging

    if judging.selftest(only or (), json_, strict):
        raise typer.Exit(1)
