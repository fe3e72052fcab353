"""Files that appear whole or not at all, and folders that are proven writable before any work."""

from __future__ import annotations

import os
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


def replace_bytes(target: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, target)
