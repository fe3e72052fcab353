"""What a suite asks for and a world cannot run, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.world_adapters import Lack

Kind = Literal["system", "control"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Systems, or controls, that are left out for one reason (`Lack`, with a remedy where a table of the world file is one)."""

    kind: Kind
    names: tuple[str, ...]
    lack: Lack

    @property
    def sentence(self) -> str:
        """As it is said while work goes on."""
        return f"{self.advised}, or name the systems to run with --system" if self.lack.remedy else self.advised

    @property
    def advised(self) -> str:
        """`sentence` where no systems can be named."""
        many = len(self.names) > 1
        verb = "are" if many else "is"
        if self.lack.remedy:
            told = f"{self.lack.why}, so {listed(self.names)} {verb} left out"
            return f"{told}; {self.lack.remedy} to run {'them' if many else 'it'}"
        return f"{self.kind}{'s' * many} {listed(self.names)} {verb} left out: {self.lack.why}"

    @property
    def short(self) -> str:
        """As a report says it: without advice, and without paths of this machine where the reason has none."""
        return f"{listed(self.names)} ({self.lack.why})"


def grouped(kind: Kind, found: Iterable[tuple[str, Lack]]) -> list[LeftOut]:
    """One for each reason, in the order in which they come; a name that lacks two things is in both."""
    by_reason: dict[Lack, list[str]] = {}
    for name, lack in found:
        by_reason.setdefault(lack, []).append(name)
    return [LeftOut(kind, tuple(dict.fromkeys(names)), lack) for lack, names in by_reason.items()]


def of_all(found: Iterable[LeftOut]) -> list[LeftOut]:
    """Those of several suites, again one for each reason."""
    kinds: dict[Kind, list[tuple[str, Lack]]] = {"system": [], "control": []}
    for one in found:
        kinds[one.kind] += [(name, one.lack) for name in one.names]
    return [one for kind, pairs in kinds.items() for one in grouped(kind, pairs)]


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def some(names: Sequence[str], count: int = 5) -> str:
    """`listed` where they are few, else the first `count` and the number of the others."""
    return listed([*names[:count], f"{len(names) - count} more"] if len(names) > count + 1 else names)
