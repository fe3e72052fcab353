"""How a report can be made again: by the one command that made its runs, or by those that did, each for its systems."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.provenance import portable_command
from clbench.report.blocks import Command

ONE = "To make this report again:"
SEVERAL = "The runs of this report were made by {} commands, none of which is known to make them all:"


@dataclass(frozen=True)
class Again:
    """Commands and the words before them."""

    words: str
    commands: Sequence[Command]


def again(typed: Mapping[str, str], suite: str, world: str, out: Path, usual: Sequence[str] = ()) -> Again:
    """What to say of the commands that were `typed` for each system in `out`: none is said to make what it does not.

    `usual` are the systems that a command without --system makes.
    """
    told: dict[str, list[str]] = {}
    for system, line in typed.items():
        told.setdefault(portable_command(line, out), []).append(system)
    if one := _joined(list(typed.values()), suite, world, out, usual):
        return Again(ONE, [Command(one)])
    return Again(SEVERAL.format(len(told)), [Command(line, ", ".join(systems)) for line, systems in told.items()])


def _joined(typed: Sequence[str], suite: str, world: str, out: Path, usual: Sequence[str]) -> str:
    """The one command that does what all of `typed` do: they are one, or differ in their --system alone; else ""."""
    parts = [_without_systems(command(line, suite, world, out)) for line in typed]
    if any(rest != parts[0][0] for rest, _ in parts):
        return ""
    systems = list(dict.fromkeys(system for _, named in parts for system in named))
    if len({tuple(named) for _, named in parts}) == 1:
        return command(typed[0], suite, world, out)
    if not all(named for _, named in parts):  # one of them asked for the usual ones
        if not usual:
            return ""
        systems = [] if {*systems} <= {*usual} else list(dict.fromkeys([*usual, *systems]))
    return shlex.join([*parts[0][0], *(["--system", ",".join(systems)] if systems else [])])


def _without_systems(line: str) -> tuple[list[str], list[str]]:
    """The words of a command without --system, and the systems that it names."""
    rest, named, words = [], [], iter(shlex.split(line))
    for word in words:
        if word == "--system":
            named += next(words, "").split(",")
        elif word.startswith("--system="):
            named += word.removeprefix("--system=").split(",")
        else:
            rest.append(word)
    return rest, named


def command(typed: str, suite: str, world: str, out: Path) -> str:
    """The `clbench eval` that does what was `typed`: itself, `clbench edit` with all its options, else the whole `suite`.

    A line that was not typed so names its world: eval's default may be another one. Paths are told as `portable_path` does:
    where they stood on another machine helps nobody.
    """
    words = shlex.split(typed)
    if words[:2] != ["clbench", "eval"]:
        options = words[2:] if words[:2] == ["clbench", "edit"] else ["--suite", suite]
        for long, short, value in (("--world", "-w", world), ("--out", "-o", str(out))):
            given = any(word.startswith((f"{long}=", short)) or word == long for word in options)
            options += [] if given else [long, value]
        words = ["clbench", "eval", *options]
    return portable_command(shlex.join(words), out)
