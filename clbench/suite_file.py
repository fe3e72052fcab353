"""The TOML file of a suite of pictures; every key is documented in ``suites/bleeding.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clbench.hashing import code_digest
from clbench.sources import GROUPS
from clbench.tables import Table

WORDS = ("probes.py", "neutral.py", "general.py")
"""Where the prompts of probes and compositions are made: what they do belongs to the hash of a suite that uses them."""


class SuiteTable(Table):
    """The whole file. Suites of another `kind` have tables of their own (see `suite_kind`)."""

    kind: Literal["pictures"] = "pictures"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str
    effects: Literal["taught", "all"] | Annotated[tuple[str, ...], Field(min_length=1)] = "taught"
    sources: Annotated[int, Field(ge=1)] | Annotated[tuple[str, ...], Field(min_length=1)]
    groups: tuple[str, ...] = ()
    seeds: int | tuple[int, ...] = (0,)
    steps: tuple[Annotated[int, Field(ge=1)] | Literal["full"], ...] = ()
    probes: tuple[str, ...] = ()
    probe_sources: int | None = Field(None, ge=1)
    pairs: int | None = Field(None, ge=1)
    systems: tuple[str, ...]
    controls: tuple[str, ...] = ()
    metrics: tuple[str, ...]
    sets: tuple[str, ...] = ()
    gram: bool = False

    def asked(self) -> dict[str, object]:
        """What decides the cases; keys of later versions count only where they are used, so that older hashes hold."""
        plain = self.model_dump(include={"effects", "sources", "seeds", "steps"})
        later = self.model_dump(include={"groups", "probes", "probe_sources", "pairs"})
        plain |= {key: value for key, value in later.items() if value}
        if self.groups:
            plain["scenes of groups"] = {name: repr(GROUPS[name]) for name in self.groups}
        if self.probes or self.pairs:
            plain["words"] = code_digest(*(Path(__file__).with_name(name) for name in WORDS))
        return plain
