"""The contact sheet is written, has the right size, and refuses what it cannot show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clbench.preview import COLUMNS, TILE, effects_sheet
from clbench.registry import ClbenchError
from clbench.scenes import Scene
from clbench.types import Effect


def test_sheet(effects: dict[str, Effect], scenes: list[Scene], tmp_path: Path) -> None:
    chosen = [effects[name] for name in ("sepia", "rain", "subject_gold", "background_confetti")]
    out = effects_sheet(chosen, scenes, 2, tmp_path / "sheet.png")
    with Image.open(out) as sheet:
        assert sheet.width > COLUMNS * 7 * TILE
        assert sheet.height > 2 * TILE
    again = effects_sheet(chosen, scenes, 2, tmp_path / "again.png")
    assert out.read_bytes() == again.read_bytes()


def test_refusals(effects: dict[str, Effect], scenes: list[Scene], tmp_path: Path) -> None:
    sepia = effects["sepia"]
    with pytest.raises(ClbenchError, match="no effects"):
        effects_sheet([], scenes, 1, tmp_path / "x.png")
    with pytest.raises(ClbenchError, match="got 1 scenes"):
        effects_sheet([sepia], scenes[:1], 1, tmp_path / "x.png")
    with pytest.raises(ClbenchError, match="draws = 0"):
        effects_sheet([sepia], scenes, 0, tmp_path / "x.png")
    with pytest.raises(ClbenchError, match="no known operator"):
        effects_sheet([replace(sepia, operator=None)], scenes, 1, tmp_path / "x.png")
