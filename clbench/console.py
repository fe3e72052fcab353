"""What the terminal shows: progress with ETA, one red sentence for a mistake, and nothing from libraries."""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import typer

from clbench.notices import say
from clbench.registry import ClbenchError, Stopped

P = ParamSpec("P")
R = TypeVar("R")

QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
ANEW = ("--fresh", "--overwrite")
"""Options with which a command, said again, would keep nothing of what it has done."""
NOISY = (
    r"(torch|torchvision|diffusers|transformers|peft|open_clip|timm|lpips|stlpips_pytorch|huggingface_hub)\b"
)


def quiet() -> None:
    """Silence known chatter of the libraries, unless the user's environment asks for it.

    Not the hub's progress bars: what is fetched takes gigabytes and minutes.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=NOISY)


EXIT_CODES = (
    "0: done; 1: a verdict (compare, selftest, doctor), or every edit of a system failed (edit, eval); 2: the input is wrong; "
    "3: clbench itself failed; 130: Ctrl-C."
)
UNEXPECTED = 3
"""The exit code of an error that nobody foresaw: Python's own 1 is the verdict "worse"."""


def told(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose mistakes end in one red sentence (exit 2), Ctrl-C in a hint (exit 130), and the rest in a traceback (3)."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        quiet()
        try:
            return command(*args, **kwargs)
        except ClbenchError as error:
            say(str(error), "red")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as interrupt:
            say(_how_to_go_on(interrupt), "yellow")
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except Exception:  # whatever it is, it is no verdict
            traceback.print_exc()
            raise typer.Exit(UNEXPECTED) from None

    return wrapped


def _how_to_go_on(interrupt: KeyboardInterrupt) -> str:
    """What Ctrl-C has left, and the command that goes on from there."""
    from clbench.provenance import command_line

    if not isinstance(interrupt, Stopped):
        return f"Stopped; what is done is kept. The same command goes on from here:  {command_line()}"
    anew = [word for word in sys.argv if word in ANEW]
    if not anew:
        return f"Stopped; {interrupt}. The same command goes on:  {command_line()}"
    again = command_line([word for word in sys.argv if word not in ANEW])
    return f"Stopped; {interrupt}. The same command without {anew[0]} goes on:  {again}"


def end_with(lost: Sequence[str]) -> None:
    """After all other work: exit code 1 and a sentence where every edit of some systems failed."""
    if lost:
        say(f"every edit that was asked of {', '.join(lost)} failed; the reasons stand above and in edits.jsonl", "red")
        raise typer.Exit(1)


def show(text: str) -> None:
    """One line on stdout: what a script would read."""
    typer.echo(text)


def progress(shown: bool = True):
    """A rich progress display on stderr: name, bar, n of total, time passed, time left; nothing unless `shown`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<24}"), BarColumn(bar_width=32), MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"), TimeRemainingColumn(), console=Console(stderr=True), disable=not shown,
    )  # fmt: skip


def follow(bar: Any) -> Callable[[str, int, int], None]:
    """A function that is told what is being made, how much of it is done and of how much; each gets a line of `progress`."""
    tasks: dict[str, Any] = {}

    def seen(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done)

    return seen


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; on a pipe it is as wide as it needs to be."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*[_plain(cell) for cell in row])
    console.print(table)


def _plain(cell: str):
    from rich.text import Text

    return Text(cell)
