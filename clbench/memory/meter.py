"""Memory of this process, or of the GPU it uses: held now, and the highest since a moment.

The kernel's high-water mark belongs to the address space and can be put back to the present level; `ru_maxrss` cannot,
and a child inherits its parent's. So the mark is used where /proc has it, and what was used is named.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Bytes of the process (`cpu`), or those that torch has allocated on the GPU that `device` names (`cuda`, `cuda:1`)."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self.on_gpu = self.device.type == "cuda"
        self.how = "torch.cuda.max_memory_allocated" if self.on_gpu else "ru_maxrss, since the start of the process"
        self.start()

    def held(self) -> int:
        """Bytes held now: allocated on the GPU, or resident in memory."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize(self.device)
            return int(torch.cuda.memory_allocated(self.device))
        return int(psutil.Process().memory_info().rss)

    def start(self) -> None:
        """From now on `peak` counts, where the system can forget what was before."""
        if self.on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        elif _reset_mark():
            self.how = "the kernel's high-water mark, put back before each edit"

    def peak(self) -> int:
        """Highest bytes since `start`."""
        if self.on_gpu:
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        mark = _mark()
        if mark is not None:
            return mark
        from clbench.backbones.common import process_peak_bytes

        return process_peak_bytes()


def _reset_mark() -> bool:
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _mark() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def drop_cached(path: Path) -> None:
    """Ask the system to forget what it keeps of a file in memory, so that reading it is reading the disk.

    What was just written stays in memory until it is on the disk, so it is put there first.
    """
    import os

    if not hasattr(os, "posix_fadvise"):
        return
    with path.open("rb") as stream:
        with suppress(OSError):  # of a file system that nothing can be written to
            os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
