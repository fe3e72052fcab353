"""A batch in pieces, one for each thread, for processors with several cores.

The layers of a small model are too small to be shared out among cores one by one: much of the second core is lost in waiting.
Rows of a batch do not depend on each other, so each thread takes some of them through the whole model, with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch

Model = Callable[..., Any]


class InPieces:
    """A model's call, whose batches go through it in up to `threads` pieces at once; for sampling only.

    `rows` names the arguments that are cut along their first dimension, the first of them always a tensor; all arguments come
    by name. The answer is a tuple of one tensor, whatever `return_dict` asks for. A batch of one row goes through as it did.
    """

    def __init__(self, call: Model, rows: tuple[str, ...], threads: int) -> None:
        self.call, self.rows, self.threads = call, rows, threads
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def __call__(self, **inputs: Any) -> tuple[torch.Tensor]:
        pieces = min(self.threads, len(inputs[self.rows[0]]))
        if pieces < 2:
            return (self.call(**inputs)[0],)
        before = torch.get_num_threads()
        work = [self._pool(pieces).submit(self._quietly, part) for part in self._cut(inputs, pieces)]
        try:
            wait(work)
            return (torch.cat([each.result() for each in work]),)
        finally:
            torch.set_num_threads(before)  # torch gives later threads the number that was set last, by whichever thread

    def _pool(self, pieces: int) -> ThreadPoolExecutor:
        """As many threads, each with its share of the cores for what it computes."""
        if pieces not in self._pools:
            self._pools[pieces] = ThreadPoolExecutor(pieces, "clbench-piece", _take_share, (max(1, self.threads // pieces),))
        return self._pools[pieces]

    def _quietly(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        with torch.inference_mode():  # a thread's own
            return self.call(**inputs)[0]

    def _cut(self, inputs: Mapping[str, Any], pieces: int) -> list[dict[str, Any]]:
        """The arguments of each piece; None stays None."""
        given = [name for name in self.rows if inputs.get(name) is not None]
        cut = {name: inputs[name].tensor_split(pieces) for name in given}
        return [{**inputs, **{name: parts[i] for name, parts in cut.items()}} for i in range(pieces)]


def _take_share(threads: int) -> None:
    """Let this thread compute with so many; torch would give it the common number at its first operation otherwise."""
    torch.set_num_threads(threads)
    torch.get_num_threads()  # from now on it counts as having a number of its own
    torch.set_num_threads(threads)
