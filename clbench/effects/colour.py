"""Colour and tone: every pixel answers for itself (and a little for where it is)."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import (
    blend,
    blur,
    colour,
    extent,
    gradient_map,
    grid,
    hues,
    luma,
    px,
    saturate,
    stretched,
)
from clbench.effects.operators import OPERATORS


@OPERATORS.register("sepia")
def sepia(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gradient_map(
        stretched(luma(image)), [(0, (45, 22, 8)), (0.5, (158, 110, 66)), (1, (255, 234, 190))]
    )


@OPERATORS.register("invert")
def invert(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 255 - image


@OPERATORS.register("cyanotype")
def cyanotype(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gradient_map(
        stretched(luma(image)), [(0, (2, 16, 72)), (0.5, (28, 98, 178)), (1, (226, 242, 250))]
    )


@OPERATORS.register("duotone_purple_yellow")
def duotone_purple_yellow(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gradient_map(
        stretched(luma(image)), [(0, (70, 0, 130)), (0.5, (190, 70, 130)), (1, (255, 235, 40))]
    )


@OPERATORS.register("thermal_camera")
def thermal_camera(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    heat = (stretched(blur(luma(image), 1.5 * px(image, 1))) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)


@OPERATORS.register("night_vision")
def night_vision(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    width, height = extent(image)
    goggles = 1 / (1 + np.exp((np.hypot(x - width / 2, y - height / 2) - 57) / 2))
    return blend(
        np.zeros_like(image),
        gradient_map(stretched(luma(image)), [(0, (0, 30, 5)), (0.6, (20, 200, 40)), (1, (200, 255, 190))]),
        goggles,
    )


@OPERATORS.register("channel_swap")
def channel_swap(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(saturate(image, 1.5)[..., [2, 0, 1]])


@OPERATORS.register("red_darkroom")
def red_darkroom(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gradient_map(stretched(luma(image)), [(0, (12, 0, 0)), (0.6, (200, 8, 8)), (1, (255, 120, 90))])


@OPERATORS.register("rainbow_overlay")
def rainbow_overlay(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    return blend(
        gradient_map(luma(image), [(0, (0, 0, 0)), (1, (255, 255, 255))]), hues((x + y) / 256 * 0.9), 0.6
    )


@OPERATORS.register("gold_metal")
def gold_metal(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shine = 0.5 - 0.5 * np.cos(stretched(blur(luma(image), 1.5 * px(image, 1))) * 3 * np.pi)
    return gradient_map(
        shine, [(0, (60, 34, 0)), (0.5, (214, 150, 20)), (0.85, (255, 215, 80)), (1, (255, 250, 205))]
    )


@OPERATORS.register("random_colour_bands")
def random_colour_bands(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four vertical bands, each printed in its own ink; neighbouring inks differ by at least .2 turns."""
    inks = np.cumsum(rng.uniform(0.2, 0.8, 4))
    band = np.minimum(np.arange(image.shape[1]) * 4 // image.shape[1], 3)
    paper = np.array([colour(ink, 0.25, 1) for ink in inks], dtype=np.float32)[band][None]
    ink = np.array([colour(ink, 1, 0.55) for ink in inks], dtype=np.float32)[band][None]
    return blend(
        np.broadcast_to(ink, image.shape), np.broadcast_to(paper, image.shape), stretched(luma(image))
    )


@OPERATORS.register("posterize")
def posterize(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    smooth = saturate(blur(image, 1.5 * px(image, 1)), 1.6)
    return np.where(smooth > 118, 255, 0).astype(np.uint8)


@OPERATORS.register("threshold_stencil")
def threshold_stencil(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = (blur(luma(image), 2.0 * px(image, 1)) * 255).astype(np.uint8)
    _, stencil = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return cv2.cvtColor(stencil, cv2.COLOR_GRAY2RGB)


@OPERATORS.register("hdr_detail")
def hdr_detail(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Local contrast far beyond the natural: each pixel against the mean of its surroundings."""
    local = image.astype(np.float32) - blur(image, px(image, 9)).astype(np.float32)
    return saturate(np.clip(128 + 2.8 * local, 0, 255).astype(np.uint8), 1.6)


@OPERATORS.register("psychedelic_curves")
def psychedelic_curves(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    turns = blur(image, 1.2 * px(image, 1)).astype(np.float32) / 255 * 2 * np.pi * 1.5
    return np.rint(127.5 - 127.5 * np.cos(turns + np.array([0, 2.1, 4.2], dtype=np.float32))).astype(np.uint8)
