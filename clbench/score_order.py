"""Independent pieces of work on several cores, with results in the order of the pieces."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_thread_each() -> Iterator[int]:
    """Torch computes on one thread inside; gives the number of threads that it had, for as many workers.

    Small pictures keep several threads waiting for each other more than working. A single worker has one thread, too: sums over
    large pictures end in other digits with several, and scores must not depend on the memory that happens to be free.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_order(work: Callable[[T], R], items: Sequence[T], workers: int) -> Generator[R]:
    """What `work` makes of each of `items`, in their order, by `workers` threads beside each other.

    Close it when it is left early: what was not begun is then dropped.
    """
    if min(workers, len(items)) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(work, items)
