"""Where a result comes from: content hashes, git state, package versions, platform, command line.

Nothing here imports a heavy library: versions are read from the installed packages' metadata.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from clbench.registry import ClbenchError
from clbench.types import SystemCard

PACKAGES = (
    "clbench",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "safetensors",
    "tokenizers",
    "numpy",
    "scipy",
    "pillow",
    "opencv-python-headless",
    "open_clip_torch",
    "stlpips_pytorch",
    "torchmetrics",
)
"""Packages whose version can change a pixel or a score."""
ABSOLUTE = re.compile(r"""(?<![^\s'"(=])/[^\s'"():,;/]+/[^\s'"():,;]+""")
"""An absolute path of at least two parts in a sentence."""


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, no NaN; ClbenchError for what is not plain data."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ClbenchError(f"cannot hash a value that is not plain finite data: {error}") from error


def hash_value(value: object) -> str:
    """sha256 of the canonical JSON of plain data, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes; ClbenchError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise ClbenchError(f"cannot read {path} to hash it: {error.strerror}") from error
    return digest.hexdigest()


def card_dict(card: SystemCard) -> dict[str, Any]:
    """A system card as plain data with sorted adapters and settings."""
    adapters, settings = dict(sorted(card.adapters.items())), dict(sorted(card.settings.items()))
    return {"name": card.name, "kind": card.kind, "adapters": adapters, "settings": settings}


def cache_key(parts: Mapping[str, object]) -> str:
    """sha256 over everything that can change a pixel or a score; never a partial key."""
    return hash_value(dict(parts))


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed version of each package that is installed, by name; a package that is absent is left out."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path | None = None) -> dict[str, Any]:
    """``{"sha": str, "dirty": bool}`` of the checkout that holds clbench; sha is "" outside a checkout."""
    where = folder if folder is not None else Path(__file__).resolve().parent
    try:
        sha = _git(where, "rev-parse", "HEAD").strip()
        dirty = bool(_git(where, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.SubprocessError):
        return {"sha": "", "dirty": False}
    return {"sha": sha, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def platform_facts() -> dict[str, str]:
    """Python version, operating system and machine."""
    return {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as it was typed, without the path of the program."""
    typed = sys.argv if arguments is None else list(arguments)
    program = Path(typed[0]).name if typed and typed[0] else "clbench"
    return shlex.join([program if not program.endswith(".py") else "clbench", *typed[1:]])


def portable_path(path: str, folder: Path) -> str:
    """A path as others may read it: a relative one as it is; an absolute one from the current folder, else from `folder`,
    where it lies below one of them, and otherwise by its last two parts.
    """
    if not Path(path).is_absolute():
        return path
    for base in (Path.cwd(), folder.absolute()):
        if base in Path(path).parents:
            return Path(path).relative_to(base).as_posix()
    return Path(*Path(path).parts[1:][-2:]).as_posix()


def portable_command(command: str, folder: Path) -> str:
    """A command with `portable_path` of each of its words, also of what stands behind ``--option=``."""
    told = []
    for word in shlex.split(command):
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        told.append(f"{option}{equals}{portable_path(value, folder)}")
    return shlex.join(told)


def portable_sentence(sentence: str, folder: Path) -> str:
    """A sentence with `portable_path` of each absolute path in it; below the current folder also of one with spaces."""
    return ABSOLUTE.sub(lambda found: portable_path(found[0], folder), sentence.replace(f"{Path.cwd()}/", ""))
