"""A labelled contact sheet of the effects, to be looked at by people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clbench.effects import apply_operator
from clbench.images import reduce_to, write_png
from clbench.registry import ClbenchError
from clbench.scenes import Scene
from clbench.types import Effect, seed_from

TILE, GAP, COLUMN_GAP, LABEL_HEIGHT, MARGIN, HEAD = 64, 2, 22, 30, 14, 34
INK, FAINT, PAPER = (20, 22, 28), (110, 114, 124), (255, 255, 255)
COLUMNS, SCENES = 3, 3


def effects_sheet(effects: Iterable[Effect], scenes: Sequence[Scene], draws: int, out: Path | str) -> Path:
    """Write a PNG with one row per effect, three effects side by side, and return its path.

    A row shows source and result at 64 px for the first three scenes; a random effect shows `draws` results
    per scene for the first scene and one for the others. The label holds id, name, family and flags. Raises
    ClbenchError when there is nothing to show, `draws` < 1, fewer than three scenes are given, or an effect
    has no operator.
    """
    listed = list(effects)
    _check(listed, scenes, draws)
    rows = [_row(effect, scenes[:SCENES], draws) for effect in listed]
    width, height = max(row.shape[1] for row in rows), LABEL_HEIGHT + TILE + 8
    per_column = -(-len(rows) // COLUMNS)
    sheet = Image.new(
        "RGB",
        (2 * MARGIN + COLUMNS * width + (COLUMNS - 1) * COLUMN_GAP, HEAD + per_column * height + MARGIN),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 8), _headline(listed), fill=INK, font=ImageFont.load_default(15))
    for number, (effect, row) in enumerate(zip(listed, rows, strict=True)):
        column, line = divmod(number, per_column)
        left, top = MARGIN + column * (width + COLUMN_GAP), HEAD + line * height
        _label(pen, effect, left, top)
        sheet.paste(Image.fromarray(row), (left, top + LABEL_HEIGHT))
    write_png(out, np.asarray(sheet))
    return Path(out)


def _check(effects: list[Effect], scenes: Sequence[Scene], draws: int) -> None:
    if not effects:
        raise ClbenchError("the contact sheet got no effects; expected one or more.")
    if len(scenes) < SCENES:
        raise ClbenchError(f"the contact sheet got {len(scenes)} scenes; expected {SCENES} or more.")
    if draws < 1:
        raise ClbenchError(f"the contact sheet got draws = {draws}; expected 1 or more.")
    for effect in effects:
        if effect.operator is None:
            raise ClbenchError(f"effect '{effect.id}' has no known operator, so it has no preview.")


def _row(effect: Effect, scenes: Sequence[Scene], draws: int) -> np.ndarray:
    """Source and results of one effect side by side, uint8 (TILE, width, 3); blank where nothing is due."""
    assert effect.operator is not None
    space = np.full((TILE, GAP, 3), 255, np.uint8)
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    tiles: list[np.ndarray] = []
    for number, scene in enumerate(scenes):
        due = draws if effect.random and number == 0 else 1
        seeds = [seed_from("preview", effect.id, number, draw) for draw in range(due)]
        results = [apply_operator(effect.operator, scene.image, scene.mask, seed) for seed in seeds]
        shown = [reduce_to(picture, TILE) for picture in (scene.image, *results)]
        tiles += shown + [blank] * ((draws - due) if number == 0 else 0)
        tiles.append(np.full((TILE, 3 * GAP, 3), 255, np.uint8))
    if not effect.random:  # close the hole that further draws would fill
        tiles = [tile for tile in tiles if tile is not blank] + [blank] * (draws - 1)
    return np.hstack([part for tile in tiles for part in (tile, space)])


def _headline(effects: list[Effect]) -> str:
    random = sum(effect.random for effect in effects)
    scoped = sum(effect.scope != "image" for effect in effects)
    counts = f"{len(effects)} effects, {random} random, {scoped} on subject or background alone"
    return f"{counts}; source, then result"


def _label(pen: ImageDraw.ImageDraw, effect: Effect, left: int, top: int) -> None:
    flags = [effect.family, *(["random"] if effect.random else [])]
    flags += [f"{effect.scope} only"] if effect.scope != "image" else []
    flags += ["extension"] if effect.pool == "extension" else []
    pen.text((left, top), effect.id, fill=INK, font=ImageFont.load_default(14))
    pen.text((left, top + 16), " · ".join(flags), fill=FAINT, font=ImageFont.load_default(11))
