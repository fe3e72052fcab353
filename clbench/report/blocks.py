"""What a report is made of: sections, each a title, a sentence and blocks; both templates draw the same blocks.

A block is any value with a `kind`; the templates have one macro for each kind. Tables (`cells.TableView`) and pictures
(`pictures.Gallery`, `pictures.Strips`) are blocks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from clbench.report.cells import TableView


class Block(Protocol):
    """Anything that a section shows; `kind` names the macro that draws it."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Section:
    """A part of a report: id (unique within its suite), title, one leading sentence, blocks in order."""

    id: str
    title: str
    lead: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Plot:
    """A drawing with its caption; `svg` is trusted markup made by `figures.inline`."""

    kind: ClassVar[str] = "plot"
    id: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Side:
    """Blocks side by side where the page is wide enough."""

    kind: ClassVar[str] = "side"
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader may unfold; `note` stands beside the title."""

    kind: ClassVar[str] = "fold"
    id: str
    title: str
    blocks: Sequence[Block]
    note: str = ""
    open: bool = False


def there(blocks: Sequence[Block | None]) -> list[Block]:
    """The blocks that have something to show."""
    return [block for block in blocks if block is not None]


def folded(view: TableView) -> Fold:
    """A table that a reader may unfold by its caption."""
    return Fold(f"f-{view.id}", view.caption, [view])


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Command:
    """A command line to copy; `words` before it say what it was for."""

    kind: ClassVar[str] = "command"
    line: str
    words: str = ""


@dataclass(frozen=True)
class Filter:
    """The field that keeps rows and pictures of some effects only; `only` adds a box for cases that failed."""

    kind: ClassVar[str] = "filter"
    only: str = ""
