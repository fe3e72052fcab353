"""Groups of checks in processes beside each other: simulations and small pictures hardly use a second core alone."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any

from clbench.cores import usable_cores

if TYPE_CHECKING:
    from clbench.selftest import Check, Group

Seen = Callable[[str, "Check"], None]
_told: Any = None


def run_beside(groups: Mapping[str, Group], workers: int, seen: Seen) -> dict[str, list[Check]]:
    """The checks of each of `groups`, begun in this order by `workers` processes.

    `seen` is called in this process after each check, in the order in which they are made. An error of a group is raised here.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    listener = Thread(target=_listen, args=(queue, seen), daemon=True)
    listener.start()
    try:
        threads = max(1, usable_cores() // workers)
        with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(queue, threads)) as pool:
            futures = {name: pool.submit(_checks, name, group) for name, group in groups.items()}
            try:
                return {name: future.result() for name, future in futures.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        queue.put(None)
        listener.join()


def _listen(queue: Any, seen: Seen) -> None:
    for name, check in iter(queue.get, None):
        seen(name, check)


def _begin(queue: Any, threads: int) -> None:
    """The first thing that a process does: before it imports torch or numpy, so that their pools have this size."""
    global _told
    _told = queue
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)


def _checks(name: str, group: Group) -> list[Check]:
    found = []
    for check in group.checks():
        found.append(check)
        _told.put((name, check))
    return found
