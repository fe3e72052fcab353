"""Screens and signals: the picture as an old or broken device would show it."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import (
    blend,
    cells,
    colour,
    extent,
    gradient_map,
    grid,
    luma,
    picture,
    px,
    sample,
    stretched,
)
from clbench.effects.operators import OPERATORS

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 + 1 / 32


def _ordered(image: np.ndarray, tone: np.ndarray, cell: int) -> np.ndarray:
    """Ordered-dither thresholds laid over `tone`: bool (H, W), cells of `cell` px (Bayer 1973)."""
    height, width = tone.shape
    rows, columns = np.arange(height) // cell % 4, np.arange(width) // cell % 4
    return tone > BAYER[rows][:, columns]


@OPERATORS.register("rgb_split")
def rgb_split(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    left, right = sample(image, x + 14, y), sample(image, x - 14, y)
    return np.stack([left[..., 0], image[..., 1], right[..., 2]], axis=-1)


@OPERATORS.register("dither_1bit")
def dither_1bit(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    cell = px(image, 4)
    dots = _ordered(image, stretched(luma(cells(image, cell)[0])), cell)
    return gradient_map(dots.astype(np.float32), [(0, (0, 0, 0)), (1, (255, 255, 255))])


@OPERATORS.register("gameboy_palette")
def gameboy_palette(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    palette = np.array([(15, 56, 15), (48, 98, 48), (139, 172, 15), (185, 210, 30)], np.uint8)
    tone = stretched(luma(cells(image, px(image, 6))[0]))
    return palette[np.minimum((tone * 4).astype(int), 3)]


@OPERATORS.register("crt_scanlines")
def crt_scanlines(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bulging tube: rounded black corners and dark lines."""
    x, y = grid(image)
    width, height = extent(image)
    u, v = (x - width / 2) / (width / 2), (y - height / 2) / (height / 2)
    bend = 1 + 0.14 * (u * u + v * v)
    tube = sample(image, width / 2 * (1 + u * bend), height / 2 * (1 + v * bend), cv2.BORDER_CONSTANT)
    lines = 0.62 + 0.55 * np.cos(2 * np.pi * y / 8)
    corner = np.clip((1 - np.maximum(np.abs(u), np.abs(v)) * bend) * 30, 0, 1)
    return picture(
        tube * (np.clip(lines, 0.1, 1.2) * corner)[..., None] * np.array([0.95, 1.1, 1.1], np.float32)
    )


@OPERATORS.register("vhs_tape")
def vhs_tape(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Worn tape, faded to violet: some bands slip sideways, colours tear apart, one bar is white."""
    x, y = grid(image)
    height = extent(image)[1]
    slip = np.zeros_like(y)
    for _ in range(4):
        top, size = rng.uniform(0, height - 20), rng.uniform(10, 24)
        slip[(y >= top) & (y < top + size)] = rng.choice([-1, 1]) * rng.uniform(16, 36)
    shifted = [
        sample(image, x + slip * k, y, cv2.BORDER_WRAP)[..., c] for c, k in enumerate((1.35, 1.0, 0.65))
    ]
    torn = blend(np.stack(shifted, axis=-1), (96, 60, 200), 0.4)
    bar = rng.uniform(10, height - 16)
    lost = ((y > bar) & (y < bar + 7)).astype(np.float32)
    return blend(torn, (250, 250, 255), 0.9 * lost)


@OPERATORS.register("matrix_ascii")
def matrix_ascii(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Green code rain: random glyphs as bright as the picture, brighter along random falling trails."""
    size = px(image, 12)
    tone = stretched(luma(cells(image, size)[0]))
    height, width = tone.shape
    rows, columns = -(-height // size), -(-width // size)
    glyphs = rng.random((rows * 4, columns * 3)) < 0.6
    glyphs[3::4] = False
    glyphs[:, 2::3] = False
    head = rng.integers(0, rows, columns)[None]
    fall = np.mod(np.arange(rows)[:, None] - head, rows) / rows
    fit = (columns * size, rows * size)
    marks = cv2.resize(glyphs.astype(np.float32), fit, interpolation=cv2.INTER_NEAREST)[:height, :width]
    trail = cv2.resize(fall.astype(np.float32), fit, interpolation=cv2.INTER_NEAREST)[:height, :width]
    light = (0.12 + 0.88 * tone) * (0.5 + 0.5 * trail)
    stops = [(0, (0, 8, 0)), (0.55, (0, 190, 50)), (1, (190, 255, 200))]
    return gradient_map(light * (0.4 + 0.6 * marks), stops)


@OPERATORS.register("colour_blocks_glitch")
def colour_blocks_glitch(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A broken stream: random squares show one flat loud colour."""
    size = px(image, 16)
    height, width = image.shape[:2]
    rows, columns = -(-height // size), -(-width // size)
    loud = np.array([colour(k / 6) for k in range(6)], np.uint8)[rng.integers(0, 6, (rows, columns))]
    lost = (rng.random((rows, columns)) < 0.28).astype(np.float32)
    fit = (columns * size, rows * size)
    paint = cv2.resize(loud, fit, interpolation=cv2.INTER_NEAREST)[:height, :width]
    return blend(image, paint, cv2.resize(lost, fit, interpolation=cv2.INTER_NEAREST)[:height, :width])
