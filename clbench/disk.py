"""Files that appear whole or not at all, and folders that are proven writable before any work."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from clbench.registry import ClbenchError


def check_writable(folder: Path) -> None:
    """Make `folder` if need be and prove that a file can be made in it; one sentence otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise ClbenchError(f"cannot write to the output folder {folder}: {error.strerror}") from error


def check_possible(folder: Path) -> None:
    """Prove that `folder` could be made and written to, without making it; one sentence otherwise."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ClbenchError(f"cannot write to the output folder {folder}: {there} is a file")
    check_writable(there)


def replace_bytes(target: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all; ClbenchError if it cannot be written."""
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, target)
    except OSError as error:
        discard(part)
        raise ClbenchError(f"cannot write {target}: {error.strerror}") from None


def new_mode(path: Path) -> int:
    """The mode of a new file at `path`, which is made empty for it, in place of an old one; OSError if it cannot be made.

    The system says it, folder's defaults included: to ask Python for the umask is to change it, for all threads.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)


def set_mode(path: Path, mode: int) -> None:
    """Give a file this mode where it has another: file systems without modes refuse to be told even their own."""
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def discard(part: Path) -> None:
    """Remove what could not be finished, a file or a folder: on a full disk it would only take room. Never raises."""
    shutil.rmtree(part, ignore_errors=True)
    with contextlib.suppress(OSError):
        part.unlink()
