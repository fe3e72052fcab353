"""Hashes of files and folders, remembered between runs for large files (weights)."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from pathlib import Path

from clbench.provenance import hash_file, hash_value

REMEMBER_ABOVE = 8 << 20
"""Files above this many bytes are hashed once and then recognised by size, time of change and inode."""


def cache_folder() -> Path:
    """Where clbench keeps what it can recompute: ``$XDG_CACHE_HOME/clbench`` or ``~/.cache/clbench``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "clbench"


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; large files are read once per change. ClbenchError if it cannot be read."""
    return remembered(path, "", lambda: hash_file(path))


def remembered(path: Path, what: str, find: Callable[[], str]) -> str:
    """What `find` says of a file, `what` for short; of a large one it is asked once per change of the file."""
    try:
        stat = path.stat()
    except OSError:
        return find()  # raises the sentence
    if stat.st_size < REMEMBER_ABOVE:
        return find()
    key = f"{what}{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}"
    known = _read_memory()
    if key not in known:
        found = find()
        known = _read_memory() | {key: found}  # others may have learnt something meanwhile
        _write_memory(known)
    return known[key]


def tree_digest(path: Path) -> str:
    """One sha256 over names and bytes of all files under `path` (or of the file); "absent" if missing.

    Hidden files and byte code are left out: they change no pixel.
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return "absent"
    files = sorted(p for p in path.rglob("*") if p.is_file() and not _ignored(p.relative_to(path)))
    return hash_value({p.relative_to(path).as_posix(): file_digest(p) for p in files})


def code_digest(*paths: Path) -> str:
    """One hash over what Python files do: comments, docstrings and layout do not count.

    A folder stands for all Python files in it.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    return hash_value([[file.name, _meaning(file.read_text(encoding="utf-8"))] for file in files])


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def _ignored(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in relative.parts)


def _memory_file() -> Path:
    return cache_folder() / "hashes.json"


def _read_memory() -> dict[str, str]:
    try:
        return json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_memory(known: dict[str, str]) -> None:
    """Best effort: without a writable cache folder the hash is only computed again."""
    target = _memory_file()
    part = target.with_name(f".hashes.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=0), encoding="utf-8")
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
