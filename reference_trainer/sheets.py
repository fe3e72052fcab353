"""Sample sheets: the same sources and noise at every stage of a training, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clbench.images import reduce_to, write_png

MARGIN, HEAD = 4, 14
ZOOM, WIDEST = 2, 256
"""Small pictures are enlarged so many times, but no column becomes wider than this: at full size, a sheet of 1024 px pictures has
100 megapixels."""


def sheet(columns: Sequence[tuple[str, np.ndarray]], rows: Sequence[str]) -> np.ndarray:
    """A labelled grid, uint8: each column is (heading, pictures ``(R, S, S, 3)``), each row has a label above it."""
    side = _shown(columns[0][1].shape[1])
    width, height = len(columns) * (side + MARGIN) + MARGIN, len(rows) * (side + HEAD) + HEAD + MARGIN
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    for c, (heading, pictures) in enumerate(columns):
        x = MARGIN + c * (side + MARGIN)
        draw.text((x, 1), heading, fill="black")
        for r, picture in enumerate(pictures):
            canvas.paste(_sized(picture, side), (x, HEAD + r * (side + HEAD) + HEAD))
    for r, label in enumerate(rows):
        draw.text((MARGIN, HEAD + r * (side + HEAD)), label, fill="gray")
    return np.asarray(canvas)


def _shown(size: int) -> int:
    """The side at which pictures of `size` pixels are shown."""
    return min(WIDEST, size * max(1, min(ZOOM, WIDEST // size)))


def _sized(picture: np.ndarray, side: int) -> Image.Image:
    """Enlarged pixel by pixel, reduced as sources are."""
    if side < len(picture):
        return Image.fromarray(reduce_to(picture, side))
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)


def write_sheet(folder: Path, update: int, columns: Sequence[tuple[str, np.ndarray]], rows: Sequence[str]) -> Path:
    """Write ``<folder>/<update>.png``."""
    path = folder / f"{update:06d}.png"
    write_png(path, sheet(columns, rows))
    return path
