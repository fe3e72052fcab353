"""What --overwrite throws away, and what Ctrl-C says from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clbench.lock import hold
from clbench.registry import Stopped
from clbench.results import clear


@contextmanager
def replacing(overwrite: bool) -> Iterator[Callable[[], None]]:
    """Inside, Ctrl-C advises the command without --overwrite, which would throw away what is new.

    It does so from when the function that this gives was called: old results are gone then. Before, the same command is right.
    """
    gone: list[bool] = []
    try:
        yield lambda: gone.append(True)
    except Stopped:  # somebody inside knows better
        raise
    except KeyboardInterrupt:
        if not (overwrite and gone):
            raise
        raise Stopped("what is done is kept") from None


def clear_all(folders: Iterable[Path]) -> None:
    """Remove the results of these run folders, as far as they are there; ClbenchError where another process writes to one."""
    there = [folder for folder in folders if (folder / "run.json").is_file()]
    with hold(*there):
        for folder in there:
            clear(folder)
