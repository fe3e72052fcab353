"""Materials and prints: the picture made of squares, dots, bricks, threads or paper."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import (
    blend,
    cells,
    extent,
    gradient_map,
    grid,
    luma,
    picture,
    px,
    sample,
    saturate,
    stretched,
)
from clbench.effects.operators import OPERATORS


def _screen(image: np.ndarray, ink: np.ndarray, pitch: float, degrees: float) -> np.ndarray:
    """Halftone dots whose area follows `ink` (H, W) in [0, 1], `pitch` at side 128; (H, W) in [0, 1]."""
    x, y = grid(image)
    turn = np.deg2rad(degrees)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    wave = 0.5 + 0.25 * (np.cos(2 * np.pi * u / pitch) + np.cos(2 * np.pi * v / pitch))
    return np.clip((wave - (1 - ink)) * 5 + 0.5, 0, 1)


@OPERATORS.register("pixelate")
def pixelate(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cells(image, px(image, 16))[0]


@OPERATORS.register("halftone_cmyk")
def halftone_cmyk(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    inks = 1 - cv2.blur(saturate(image, 1.4), (px(image, 5),) * 2).astype(np.float32) / 255
    dots = [_screen(image, inks[..., c], 11, angle) for c, angle in enumerate((15, 75, 0))]
    return picture(255 * (1 - 0.95 * np.stack(dots, axis=-1)))


@OPERATORS.register("newspaper_halftone")
def newspaper_halftone(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dark = 1 - stretched(cv2.blur(luma(image), (px(image, 5),) * 2))
    return gradient_map(_screen(image, 0.08 + 0.84 * dark, 9, 45), [(0, (236, 226, 198)), (1, (28, 26, 26))])


@OPERATORS.register("polaroid_frame")
def polaroid_frame(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    side, top, foot = px(image, 12), px(image, 10), px(image, 34)
    small = cv2.resize(image, (width - 2 * side, height - top - foot), interpolation=cv2.INTER_AREA)
    out = np.full_like(image, 246)
    out[top : height - foot, side : width - side] = blend(small, (255, 214, 150), 0.18)
    return out


@OPERATORS.register("brick_wall_mural")
def brick_wall_mural(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    row = np.floor(y / 16)
    u, v = np.mod(x + 16 * np.mod(row, 2), 32), np.mod(y, 16)
    painted = blend(np.broadcast_to(np.array([172, 74, 48], np.uint8), image.shape), image, 0.55)
    mortar = np.maximum(u < 3.5, v < 3.5).astype(np.float32)
    return blend(painted, (214, 206, 196), mortar)


@OPERATORS.register("cross_stitch")
def cross_stitch(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, u, v = cells(image, px(image, 16))
    thread = np.clip((0.42 - np.abs(np.abs(u) - np.abs(v))) * 5, 0, 1) * (np.maximum(abs(u), abs(v)) < 0.9)
    return blend(
        np.broadcast_to(np.array([244, 238, 222], np.uint8), image.shape), saturate(mean, 1.5), thread
    )


@OPERATORS.register("toy_bricks")
def toy_bricks(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Plastic bricks seen from above: flat colour, dark joints, a stud lit from the upper left."""
    mean, u, v = cells(image, px(image, 16))
    flat = np.clip(np.rint(saturate(mean, 1.6).astype(np.float32) / 51) * 51, 0, 255)
    radius = np.hypot(u, v)
    rim = np.exp(-(((radius - 0.62) / 0.16) ** 2)) * -(u + v) / np.maximum(radius, 0.1)
    joint = (np.maximum(np.abs(u), np.abs(v)) > 0.85).astype(np.float32)
    return picture((flat + 75 * rim[..., None]) * (1 - 0.55 * joint[..., None]))


@OPERATORS.register("crumpled_paper")
def crumpled_paper(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random facets (Voronoi cells) with their own tilt: shading and a little displacement, pale creases."""
    x, y = grid(image)
    points = rng.uniform(0, 1, (16, 2)) * extent(image)
    distance = np.stack([np.hypot(x - a, y - b) for a, b in points])
    nearest = distance.argmin(axis=0)
    tilt = rng.uniform(-1, 1, (16, 2))[nearest]
    slope = ((x - points[nearest, 0]) * tilt[..., 0] + (y - points[nearest, 1]) * tilt[..., 1]) / 16
    facets = sample(
        blend(saturate(image, 0.6), (240, 234, 222), 0.45), x + 5 * tilt[..., 0], y + 5 * tilt[..., 1]
    )
    two = np.partition(distance, 1, axis=0)[:2]
    crease = np.clip(1 - (two[1] - two[0]) / 3, 0, 1)
    shade = 0.84 + 0.22 * tilt[..., 0] + 0.3 * np.clip(slope, -1, 1)
    return blend(picture(facets * shade[..., None]), (255, 253, 250), 0.6 * crease)
