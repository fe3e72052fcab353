"""A suite of kind `memory`, read from one strict TOML file; every key is documented in ``suites/memory.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.suite import find_suite, suite_kind
from clbench.tables import Table, read_table

Measured = Literal["cascade", "teacher", "merged", "merged-cat", "collection"]
Policy = Literal["all", "disk", "ram"]


class MemorySuite(Table):
    """The whole file."""

    kind: Literal["memory"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str
    effects: tuple[int, ...] = Field(min_length=1)
    systems: tuple[Measured, ...] = Field(min_length=1)
    policies: tuple[Policy, ...] = ("all",)
    slots: int = Field(4, ge=1)
    queries: int = Field(100, ge=1)
    repeats: int = Field(3, ge=1)

    @property
    def hash(self) -> str:
        """sha256 of what is measured; more repeats are another question, since they move the median."""
        return hash_value(self.model_dump(exclude={"name", "question"}, mode="json"))


def load_memory_suite(name: str | Path) -> MemorySuite:
    """A shipped suite or a TOML file of kind `memory`; ClbenchError otherwise."""
    file = find_suite(name)
    if suite_kind(file) != "memory":
        raise ClbenchError(f"{file} is no suite of kind 'memory'")
    suite = read_table(file, MemorySuite)
    if min(suite.effects) < 1:
        raise ClbenchError(f"{file}: a pool holds at least one effect, not {min(suite.effects)}")
    return suite
