"""Scenes for the tests of effects: two of the shipped evaluation split, read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.effects import load_effects
from clbench.scenes import Scene, load_pool, scene_of
from clbench.types import Effect

TINY = Path(__file__).parents[2] / "suites" / "worlds" / "tiny"


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    pool = load_pool(TINY / "sources", "evaluation")
    return [scene_of(pool, "evaluation", index) for index in (1, 4, 6)]


@pytest.fixture(scope="session")
def effects() -> dict[str, Effect]:
    return load_effects(TINY / "effects.toml")
