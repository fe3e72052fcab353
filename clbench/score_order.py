"""Independent pieces of work on several cores, with results in the order of the pieces."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

import torch

from clbench.registry import ClbenchError

T = TypeVar("T")
R = TypeVar("R")

ENDED = (
    "a process that was scoring was ended from outside, as the system does where memory runs out; what is finished is kept, "
    "and the same command goes on from there"
)
AHEAD = 4
"""Items that each copy may be ahead of the one whose result is due."""
_adopted: tuple[Callable[[Any], Any], Sequence[Any]]
"""In a copy: what it works on, as it was when the copy was made."""


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


def in_order(work: Callable[[T], R], items: Sequence[T], workers: int, copies: bool = False) -> Generator[R]:
    """What `work` makes of each of `items`, in their order, by `workers` threads beside each other.

    With `copies` by as many processes, each a copy of this one: it has everything that is open here, in the same memory
    until one of them writes there, and never waits for another's Python. What `work` returns is pickled and has to be short (a
    copy that ends within a long answer would leave this process listening), what else it changes is lost. Leave the loop early
    by closing it: what was not begun is then dropped, and what copies have begun as well.
    ClbenchError if a copy is killed.
    """
    if min(workers, len(items)) < 2:
        yield from map(work, items)
        return
    if not copies:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, items)
        return
    try:
        with _copies(min(workers, len(items)), work, items) as pool:
            yield from _answers(pool, len(items), AHEAD * workers)
    except BrokenProcessPool:
        raise ClbenchError(ENDED) from None


def may_copy() -> bool:
    """Whether processes can begin as copies of this one: on Linux, unless a GPU is open, which no copy may use."""
    return sys.platform == "linux" and not torch.cuda.is_initialized()


@contextmanager
def _copies(workers: int, work: Callable[[T], R], items: Sequence[T]) -> Iterator[Executor]:
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # a copy has none of this process's threads, and would wait for OpenCV's
    listening, alive = os.pipe()
    ends = [listening, alive]
    try:
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(workers, fork, initializer=_adopt, initargs=(work, items, listening, alive)) as pool:
            try:
                yield pool
            except BaseException:  # also of a second Ctrl-C, the copies are gone
                os.close(ends.pop())
                raise
    finally:
        for end in ends:
            os.close(end)
        cv2.setNumThreads(threads)


def _answers(pool: Executor, count: int, ahead: int) -> Generator[Any]:
    """Results of the items in order; `ahead` of them are asked for at a time, so that none need be called off."""
    asked: deque[Future[Any]] = deque()
    for number in range(count):
        with _no_ctrl_c():  # which would strike a copy that has only just begun, or leave the pool half made
            asked.append(pool.submit(_ask, number))
        if len(asked) == ahead:
            yield asked.popleft().result()
    while asked:
        yield asked.popleft().result()


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """It has to wait: raised while a copy is made, it would be swallowed or leave the pool half made."""
    if current_thread() is not main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _adopt(work: Callable[[Any], Any], items: Sequence[Any], listening: int, alive: int) -> None:
    """The first thing that a copy does. It ends when nobody holds `alive` any more, the other end of the pipe `listening`."""
    global _adopted
    _adopted = work, items
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one says what becomes of the work
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a progress bar in their place may be locked by a thread left behind
    torch.set_num_threads(1)
    os.close(alive)
    Thread(target=_end_with_first, args=(listening,), daemon=True).start()


def _end_with_first(listening: int) -> None:
    """A copy whose first process leaves or was killed would wait for work for ever, or finish what nobody waits for."""
    os.read(listening, 1)
    os._exit(1)


def _ask(number: int) -> Any:
    work, items = _adopted
    return work(items[number])
