"""One visible strict list per kind of thing: a duplicate raises, a miss suggests (floor 0)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ClbenchError(Exception):
    """A mistake in the input that one sentence explains; the command line prints it and exits with 2."""


class UnknownAnswer(ClbenchError):
    """Nobody knows the right answer of a case, or it has many: nothing is broken, but no control can repeat it."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C where less than all that was done is kept; the message says what, without a full stop."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or what is known when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f" Known: {shown}." if names else ""


class Registry(Generic[T]):
    """A named mapping that refuses duplicates and explains misses."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        if name in self._items:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda item: self.add(name, item)

    def get(self, name: str) -> T:
        """The item called `name`; ClbenchError with the nearest name otherwise."""
        if name not in self._items:
            raise ClbenchError(f"unknown {self.kind} '{name}'.{suggestion(name, self._items)}")
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def names(self) -> list[str]:
        return list(self._items)
