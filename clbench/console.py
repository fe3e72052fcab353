"""What the terminal shows: progress with ETA, one red sentence for a mistake, and nothing from libraries."""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
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
    """A rich progress display on stderr: name, bar, n of total, time passed, time left; nothing unless `shown`.

    A task's field `there` says how much of what is completed was there before it began, and took no time.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """By all that was made since the task began: rich looks at the last advances alone, and those of a batch come at once."""

        max_refresh = None

        def __init__(self) -> None:
            super().__init__()
            self._last: dict[int, tuple[float, float]] = {}  # task -> what was done, and when that was seen first

        def render(self, task: Any) -> Text:
            passed = task.elapsed or 0.0
            done, when = self._last.get(task.id, (-1.0, 0.0))
            if task.completed != done:
                self._last[task.id] = done, when = task.completed, passed
            left = seconds_left(when, passed - when, done - task.fields.get("there", 0), task.remaining)
            words = "-:--:--" if left is None else str(timedelta(seconds=round(left)))
            return Text(words, style="progress.remaining")

    return Progress(
        TextColumn("{task.description:<24}"), BarColumn(bar_width=32), MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"), TimeLeft(), console=Console(stderr=True), disable=not shown,
    )  # fmt: skip


def seconds_left(took: float, since: float, made: float, left: float | None) -> float | None:
    """An estimate by what `took` seconds had made `since` seconds ago; None where nothing was made or `left` is unknown."""
    if left is None or made <= 0:
        return 0.0 if left == 0 else None
    return max(took / made * left - since, 0.0)


class EditLine:
    """A system's line of `progress`: `there` pictures that are there, and so many `pending` cases, before the line is started."""

    def __init__(self, bar: Any, name: str, there: int, pending: int) -> None:
        self._bar, self._total = bar, there + pending
        self._task = bar.add_task(name, total=self._total, completed=there, there=there, start=False)

    def start(self) -> None:
        self._bar.start_task(self._task)

    def advance(self, asked: bool) -> None:
        """An edit is finished; a case that the system is never `asked` is one less of all."""
        if asked:
            self._bar.advance(self._task)
        else:
            self._total -= 1
            self._bar.update(self._task, total=self._total)


def follow(bar: Any) -> Callable[[str, int, int], None]:
    """A function that is told what is being made, how much of it is done and of how much; each gets a line of `progress`."""
    tasks: dict[str, Any] = {}

    def seen(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total, there=done)
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
