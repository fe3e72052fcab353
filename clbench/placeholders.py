"""Paths of a template (``suites/templates``) that a world file still holds, as in a copy that is not filled in yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.left_out import listed
from clbench.tables import read_toml
from clbench.world import shipped_folder
from clbench.world_checks import located

FEW = 2
"""So many at least: one alone, such as ``pictures``, may be anybody's own name of a folder that is not there."""


def unchanged(file: Path) -> str:
    """Which paths of the world file `file` are still a template's, with their lines, in a sentence; "" where none is.

    A path under which something lies is nobody's placeholder.
    """
    data, text = read_toml(file)
    known = [_paths(read_toml(template)[0]) for template in sorted((shipped_folder() / "templates").glob("*.toml"))]
    held = {
        key: value for key, value in _paths(data).items()
        if any(paths.get(key) == value for paths in known) and not located(file, value).exists()
    }  # fmt: skip
    if len(held) < FEW:
        return ""
    return f"{file} still holds paths of the template, to be changed first: {listed([_told(*one, text) for one in held.items()])}"


def _paths(data: Mapping[str, Any]) -> dict[str, str]:
    """Table and key -> path, for every path that a template names; of candidates the first."""
    named = {"[sources] folder": data.get("sources", {}).get("folder")}
    named |= {f"[teachers.files] {effect}": path for effect, path in data.get("teachers", {}).get("files", {}).items()}
    named["[accelerator] file"] = data.get("accelerator", {}).get("file")
    if candidates := data.get("candidates"):
        named["[[candidates]] file"] = candidates[0].get("file")
    return {key: path for key, path in named.items() if path is not None}


def _told(key: str, path: str, text: str) -> str:
    """``[sources] folder (line 43)``; without a line where the file writes it in another form."""
    written = re.compile(rf"""\s*["']?{re.escape(key.rpartition(" ")[2])}["']?\s*=\s*["']{re.escape(path)}["']""")
    line = next((number for number, line in enumerate(text.splitlines(), 1) if written.match(line)), None)
    return key if line is None else f"{key} (line {line})"
