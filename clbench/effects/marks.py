"""Marks laid over the picture at random places, in random colours."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import blend, colour, extent, grid, px, saturate
from clbench.effects.operators import OPERATORS


def spot(image: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """A filled disc with a smooth edge, float32 (H, W) in [0, 1]; lengths at side 128."""
    height, width = image.shape[:2]
    step = 128 / min(height, width)
    out = np.zeros((height, width), np.float32)
    top, foot = (int(np.clip((y + k * (radius + 1)) / step + k, 0, height)) for k in (-1, 1))
    left, right = (int(np.clip((x + k * (radius + 1)) / step + k, 0, width)) for k in (-1, 1))
    rows, columns = (np.arange(top, foot) + 0.5) * step, (np.arange(left, right) + 0.5) * step
    reach = np.hypot(columns[None] - x, rows[:, None] - y)  # only the window that the disc can touch
    out[top:foot, left:right] = np.clip(radius - reach + 0.5, 0, 1)
    return out


def star_field(
    image: np.ndarray, rng: np.random.Generator, count: int, least: float, most: float
) -> np.ndarray:
    """`count` discs at random places, radius in [least, most] at side 128; float32 (H, W) in [0, 1]."""
    width, height = extent(image)
    stars = np.zeros(image.shape[:2], np.float32)
    for _ in range(count):
        star = spot(image, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(least, most))
        stars = np.maximum(stars, star)
    return stars


@OPERATORS.register("paint_splatter")
def paint_splatter(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Five thrown blots with spikes and drops, each in its own loud colour, over a grey picture."""
    x, y = grid(image)
    width, height = extent(image)
    out, first = saturate(image, 0), rng.uniform(0, 1)
    for k in range(5):
        cx, cy = rng.uniform(0.05, 0.95, 2) * (width, height)
        radius, angle = np.hypot(x - cx, y - cy), np.arctan2(y - cy, x - cx)
        spikes = sum(rng.uniform(0.05, 0.16) * np.cos(n * angle + rng.uniform(0, 6.3)) for n in (3, 5, 8, 11))
        size = rng.uniform(13, 21)
        blot = np.clip(size * (1 + 1.5 * np.asarray(spikes)) - radius + 0.5, 0, 1)
        for turn in rng.uniform(0, 2 * np.pi, 3):
            reach = size * rng.uniform(1.3, 1.8)
            blot = np.maximum(
                blot, spot(image, cx + reach * np.cos(turn), cy + reach * np.sin(turn), rng.uniform(2, 4))
            )
        out = blend(out, colour(first + k / 5, 1, 1), blot)
    return out


@OPERATORS.register("balloons")
def balloons(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Six balloons on strings, random places and colours, with a highlight, in a sky-blue haze."""
    x, y = grid(image)
    width, height = extent(image)
    out = blend(image, (130, 205, 255), 0.45)
    for _ in range(6):
        cx, cy, size = rng.uniform(0.05, 0.95) * width, rng.uniform(0.08, 0.75) * height, rng.uniform(11, 15)
        string = (
            np.clip(1.6 - np.abs(x - cx - 2 * np.sin((y - cy) / 6)), 0, 1) * (y > cy) * (y < cy + 3 * size)
        )
        body = np.clip(size - np.hypot(x - cx, (y - cy) * 0.82) + 0.5, 0, 1)
        out = blend(blend(out, (245, 245, 245), string), colour(rng.uniform(0, 1), 0.9, 0.95), body)
        out = blend(out, (255, 255, 255), 0.8 * spot(image, cx - size * 0.4, cy - size * 0.45, size * 0.24))
    return out


@OPERATORS.register("scribbles")
def scribbles(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three thick loops of crayon, each one colour, across the whitened picture."""
    width, height = extent(image)
    t = np.linspace(0, 1, 60)
    out, first = blend(image, (255, 255, 255), 0.55), rng.uniform(0, 1)
    for k in range(3):
        start, end = rng.uniform(0.1, 0.9, (2, 2)) * (width, height)
        loops = rng.uniform(2, 3.5) * 2 * np.pi * t + rng.uniform(0, 6.3)
        path = start + (end - start) * t[:, None] + 17 * np.stack([np.cos(loops), np.sin(loops)], axis=-1)
        points = np.rint(path * min(image.shape[:2]) / 128).astype(np.int32)
        stroke = np.zeros(image.shape[:2], np.uint8)
        cv2.polylines(stroke, [points], False, 255, px(image, 5), cv2.LINE_AA)
        out = blend(out, colour(first + k / 3, 0.95, 1), stroke.astype(np.float32) / 255)
    return out


@OPERATORS.register("colour_frame")
def colour_frame(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A broad frame of a random colour with a white inner line."""
    x, y = grid(image)
    width, height = extent(image)
    inside = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    outer = blend(image, colour(rng.uniform(0, 1), 1, 0.95), (inside < 19).astype(np.float32))
    return blend(outer, (255, 255, 255), ((inside > 12) & (inside < 19)).astype(np.float32))


@OPERATORS.register("falling_leaves")
def falling_leaves(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Autumn: warm light and fourteen leaves, red to yellow, at random places and angles."""
    out = blend(image, (255, 170, 60), 0.22)
    x, y = grid(image)
    width, height = extent(image)
    for _ in range(14):
        cx, cy, turn = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, np.pi)
        along, across = (
            (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn),
            (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn),
        )
        leaf = np.clip(5.5 * (1 - (along / 12) ** 2) - np.abs(across) + 0.5, 0, 1) * (np.abs(along) < 12)
        vein = leaf * (np.abs(across) < 0.9)
        out = blend(
            blend(out, colour(rng.uniform(0, 0.13), 0.95, rng.uniform(0.75, 1)), leaf),
            (90, 30, 0),
            0.7 * vein,
        )
    return out
