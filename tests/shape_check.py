"""Shapes and types of pure tensor functions, checked at every call: in tests alone, before their modules are imported."""

from __future__ import annotations

from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""A whole number passes for a float, as it does for pyright."""


def checked_modules() -> list[str]:
    """Every module that says shapes in its signatures."""
    files = [file for package in ("clbench", "reference_trainer") for file in sorted((ROOT / package).rglob("*.py"))]
    written = [file for file in files if "from jaxtyping import" in file.read_text(encoding="utf-8")]
    return [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in written]


def switch_on() -> None:
    install_import_hook(checked_modules(), f"{__name__}.check")
