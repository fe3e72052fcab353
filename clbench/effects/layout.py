"""Lens and layout: the same pixels in other places."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import blend, extent, grid, px, sample
from clbench.effects.operators import OPERATORS


@OPERATORS.register("swirl")
def swirl(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    cx, cy = (side / 2 for side in extent(image))
    radius = np.hypot(x - cx, y - cy)
    angle = np.arctan2(y - cy, x - cx) + 4.5 * np.exp(-radius / 30)
    return sample(image, cx + radius * np.cos(angle), cy + radius * np.sin(angle))


@OPERATORS.register("fisheye_bulge")
def fisheye_bulge(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A glass ball over the picture; black outside."""
    x, y = grid(image)
    cx, cy = (side / 2 for side in extent(image))
    radius = np.hypot(x - cx, y - cy)
    factor = 0.45 + 0.55 * np.clip(radius / 63, 0, 1) ** 3
    ball = sample(image, cx + (x - cx) * factor, cy + (y - cy) * factor)
    return blend(np.zeros_like(image), ball, np.clip((63 - radius) / 1.5, 0, 1))


@OPERATORS.register("kaleidoscope")
def kaleidoscope(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Six wedges, every second one mirrored, cut around the upwards direction."""
    x, y = grid(image)
    cx, cy = (side / 2 for side in extent(image))
    wedge = np.pi / 3
    angle = np.abs(np.mod(np.arctan2(y - cy, x - cx), wedge) - wedge / 2) - np.pi / 2
    radius = np.hypot(x - cx, y - cy)
    return sample(image, cx + radius * np.cos(angle), cy + radius * np.sin(angle))


@OPERATORS.register("tiny_planet")
def tiny_planet(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The lower edge becomes the centre of a disc, the upper edge its rim; mirrored, so without a seam."""
    x, y = grid(image)
    width, height = extent(image)
    turn = np.abs(np.arctan2(x - width / 2, y - height / 2)) / np.pi
    depth = np.clip(np.hypot(x - width / 2, y - height / 2) / 72, 0, 1)
    return sample(image, turn * (width - 1), (1 - depth) * (height - 1))


@OPERATORS.register("upside_down")
def upside_down(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(image[::-1])


@OPERATORS.register("tile_grid")
def tile_grid(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    small = cv2.resize(image, (-(-width // 3), -(-height // 3)), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.tile(small, (3, 3, 1))[:height, :width])


@OPERATORS.register("scrambled_blocks")
def scrambled_blocks(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A 4 x 4 sliding puzzle: blocks in random order, with white joints."""
    height, width = image.shape[:2]
    block = cv2.resize(image, (width // 4 * 4, height // 4 * 4), interpolation=cv2.INTER_AREA)
    tiles = [tile for row in np.vsplit(block, 4) for tile in np.hsplit(row, 4)]
    order = rng.permutation(16)
    mixed = np.vstack([np.hstack([tiles[k] for k in order[row * 4 : row * 4 + 4]]) for row in range(4)])
    x, y = grid(image)
    wide, high = (side / 4 for side in extent(image))
    gap = np.minimum(np.mod(x + 1.5, wide), np.mod(y + 1.5, high)) < 3
    return blend(cv2.resize(mixed, (width, height), interpolation=cv2.INTER_LINEAR), (250, 250, 250), gap)


@OPERATORS.register("droste")
def droste(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture hangs framed in its own middle, twice."""
    out = image.copy()
    height, width = image.shape[:2]
    for share in (0.62, 0.62 * 0.62):
        w, h, rim = round(width * share), round(height * share), px(image, 6 * share)
        top, left = (height - h) // 2, (width - w) // 2
        out[top : top + h, left : left + w] = (255, 196, 40)
        inner = cv2.resize(image, (w - 2 * rim, h - 2 * rim), interpolation=cv2.INTER_AREA)
        out[top + rim : top + h - rim, left + rim : left + w - rim] = inner
    return out


@OPERATORS.register("broken_mirror")
def broken_mirror(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shards (Voronoi cells of random points), each turned and shifted by itself, dark cracks between."""
    x, y = grid(image)
    width, height = extent(image)
    points = rng.uniform(0, 1, (9, 2)) * (width, height)
    distance = np.stack([np.hypot(x - a, y - b) for a, b in points])
    nearest = distance.argmin(axis=0)
    turn, dx, dy = rng.uniform(-0.5, 0.5, 9)[nearest], *rng.uniform(-16, 16, (2, 9))[:, nearest]
    u, v = x - points[nearest, 0], y - points[nearest, 1]
    shards = sample(
        image,
        x + dx + u * (np.cos(turn) - 1) - v * np.sin(turn),
        y + dy + u * np.sin(turn) + v * (np.cos(turn) - 1),
    )
    two = np.partition(distance, 1, axis=0)[:2]
    return blend(shards, (8, 8, 14), np.clip(1.8 - (two[1] - two[0]) / 3, 0, 1))
