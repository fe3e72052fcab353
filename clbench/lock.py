"""One writer at a time: a folder is held by a lock that the kernel releases when its process ends, however it ends.

The lock is advisory (flock on the file `.lock`), so it keeps other clbench processes out and nobody else. Reading needs none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

from clbench.disk import check_writable
from clbench.provenance import command_line
from clbench.registry import ClbenchError

FILE = ".lock"


@contextmanager
def hold(*folders: Path) -> Iterator[None]:
    """Inside, no other clbench process writes to `folders`, which are made if need be.

    ClbenchError at once if one of them is held by another process, or by this one already.
    """
    with ExitStack() as held:
        for folder in dict.fromkeys(folders):
            held.enter_context(_held(folder))
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    check_writable(folder)
    # the file stays where it is: were it removed, two processes could each hold a file of this name
    with _opened(folder) as file:
        _take(folder, file)
        file.truncate(0)
        json.dump({"process": os.getpid(), "since": _now(), "command": command_line()}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def holder(folder: Path) -> str:
    """Which process holds `folder` at this moment, in words; "" where none does, or where its lock cannot be looked at."""
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            if not file.read():  # nobody; trying the lock would keep others out for a moment
                return ""
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)
    except OSError:
        pass
    return ""


def _opened(folder: Path) -> TextIO:
    try:
        return (folder / FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ClbenchError(f"cannot open {folder / FILE}, which keeps other processes out: {error.strerror}") from error


def _take(folder: Path, file: TextIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ClbenchError(f"{folder} is in use by {_holder(file)}: wait until it has ended, or choose another --out") from None
    except OSError as error:
        raise ClbenchError(f"the file system of {folder} cannot lock files ({error.strerror}): choose another --out") from error


def _holder(file: TextIO) -> str:
    """Who holds the lock, in words; its file is empty for a moment when it has just been taken."""
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"process {found['process']} ({found['command']}, since {found['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
