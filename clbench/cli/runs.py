"""Cases to report: eval, edit, score, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clbench.cli.options import Effects, Images, Limit, Out, Overwrite, Retry, SkipBad, Strict, SuiteName, Systems, WorldName
from clbench.console import end_with, show, told


@told
def eval_(
    suite: SuiteName, world: WorldName = "tiny", system: Systems = None, effect: Effects = None,
    images: Images = None, limit: Limit = None, out: Out = None, strict: Strict = False,
    overwrite: Overwrite = False, retry_failed: Retry = False, skip_bad: SkipBad = False,
) -> None:  # fmt: skip
    """Edit, score and report in turn: the main job. Stop it with Ctrl-C; the same command finishes it.

    `--suite all` runs every shipped suite that the world can answer, each into a folder of its own, with one report.

    Example:  clbench eval --suite bleeding --world tiny
    """
    from clbench import jobs
    from clbench.order import Order

    order = Order(
        suite, world, system or (), effect or (), images, limit, out, strict, overwrite, retry_failed, skip_bad
    )
    end_with(jobs.evaluate(order))


@told
def edit(
    suite: SuiteName, world: WorldName = "tiny", system: Systems = None, effect: Effects = None,
    images: Images = None, limit: Limit = None, out: Out = None, strict: Strict = False,
    overwrite: Overwrite = False, retry_failed: Retry = False, skip_bad: SkipBad = False,
) -> None:  # fmt: skip
    """Make the pictures of a suite: one run folder per system, resumed if it is there.

    Example:  clbench edit --suite fidelity --system teacher --limit 4
    """
    from clbench import jobs
    from clbench.order import Order

    order = Order(
        suite, world, system or (), effect or (), images, limit, out, strict, overwrite, retry_failed, skip_bad
    )
    out, lost = jobs.edit(order)
    show(str(out))
    end_with(lost)


@told
def score(
    out: Annotated[Path, typer.Argument(help="Folder of results made by `clbench edit`.")],
    suite: SuiteName,
    world: Annotated[str | None, typer.Option("--world", "-w", help="Default: the runs' own, by name.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also where pictures and code are those of the scores.")] = False,
) -> None:
    """Compute the suite's metrics for every run in a folder and write scores.parquet beside the pictures.

    Example:  clbench score runs/bleeding-tiny --suite bleeding
    """
    from clbench import jobs

    jobs.score(out, world, suite, again)
    show(str(out))


@told
def report(
    out: Annotated[Path, typer.Argument(help="Folder of results with scores.")],
    world: Annotated[
        str | None, typer.Option("--world", "-w", help="Default: the runs' own, by name.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="Default: the runs' own, by name.")
    ] = None,
    pictures: Annotated[
        float | None, typer.Option("--pictures-mb", min=0, help="Room for pictures of cases in the page, in MB. Default: 7.")
    ] = None,
    side: Annotated[
        int | None,
        typer.Option("--pictures-px", min=16, help="Largest side of pictures in the page. Default: 192; more px want more MB."),
    ] = None,
) -> None:
    """Render report.html and report.md from the scores in a folder.

    Example:  clbench report runs/bleeding-tiny
    """
    from clbench import jobs

    jobs.report(out, world, suite, None if pictures is None else pictures * 1e6, side)
