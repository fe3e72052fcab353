"""Effects on the subject alone: the picture outside the mask (and a narrow rim) stays as it is."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import (
    blend,
    blur,
    colour,
    disc,
    gradient_map,
    grid,
    hues,
    luma,
    picture,
    px,
    smooth_noise,
)
from clbench.effects.marks import star_field
from clbench.effects.operators import OPERATORS


def _tone(image: np.ndarray, mask: np.ndarray, sigma: float = 1.2) -> np.ndarray:
    """Luma stretched over the subject's own range, softened; float32 (H, W) in [0, 1]."""
    grey = blur(luma(image), sigma * px(image, 1))
    inside = grey[mask > 0.5]
    if inside.size == 0:
        return grey
    low, high = np.percentile(inside, (3, 97))
    return np.clip((grey - low) / max(float(high - low), 0.08), 0, 1)


def _rim(image: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """The mask grown by `width` (side 128), soft; float32 (H, W)."""
    return blur(cv2.dilate(mask, disc(px(image, width))), 0.6 * px(image, 1))


@OPERATORS.register("subject_gold")
def subject_gold(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shine = 0.5 - 0.5 * np.cos(_tone(image, mask, 2) * 3 * np.pi)
    gold = gradient_map(
        shine, [(0, (96, 54, 0)), (0.5, (226, 160, 16)), (0.85, (255, 216, 70)), (1, (255, 252, 214))]
    )
    return blend(image, gold, mask)


@OPERATORS.register("subject_ice")
def subject_ice(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pale blue ice with white facets across."""
    x, y = grid(image)
    ice = gradient_map(_tone(image, mask), [(0, (0, 70, 190)), (0.5, (60, 180, 250)), (1, (210, 245, 255))])
    facet = (np.mod(x + 0.6 * y, 22) < 4) | (np.mod(x - 0.9 * y, 34) < 3)
    return blend(image, blend(ice, (255, 255, 255), 0.75 * facet), mask)


@OPERATORS.register("subject_ghost")
def subject_ghost(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half transparent: the surroundings show through, with a pale glow at the edge."""
    hidden = cv2.dilate((mask > 0.05).astype(np.uint8), disc(px(image, 2)))
    behind = cv2.inpaint(image, hidden, px(image, 3), cv2.INPAINT_TELEA)
    pale = gradient_map(_tone(image, mask), [(0, (150, 160, 170)), (1, (255, 255, 255))])
    inner = np.clip(mask - cv2.erode(mask, disc(px(image, 4))), 0, 1)
    return blend(blend(image, blend(behind, pale, 0.3), mask), (245, 250, 255), 0.8 * inner)


@OPERATORS.register("subject_sticker")
def subject_sticker(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A broad white border around the cut-out subject, with a thin shadow."""
    border, shadow = _rim(image, mask, 6.5), _rim(image, mask, 8)
    outside = blend(blend(image, (30, 30, 40), 0.55 * shadow), (255, 255, 255), border)
    return blend(outside, image, mask)


@OPERATORS.register("subject_hologram")
def subject_hologram(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glowing cyan, cut by dark lines, with a magenta edge."""
    _, y = grid(image)
    light = gradient_map(_tone(image, mask), [(0, (0, 60, 110)), (0.6, (0, 215, 240)), (1, (190, 255, 255))])
    gaps = (np.mod(y, 9) < 4).astype(np.float32)
    inner = np.clip(mask - cv2.erode(mask, disc(px(image, 2))), 0, 1)
    return blend(image, blend(blend(light, (10, 20, 70), 0.85 * gaps), (255, 40, 220), inner), mask)


@OPERATORS.register("subject_polka_dots")
def subject_polka_dots(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cloth of a random colour with white dots at a random phase."""
    x, y = grid(image)
    hue, (dx, dy) = rng.uniform(0, 1), rng.uniform(0, 18, 2)
    u, v = np.mod(x + dx, 18) - 9, np.mod(y + dy, 18) - 9
    dots = np.clip(5.6 - np.hypot(u, v), 0, 1)
    cloth = np.broadcast_to(np.array(colour(hue, 0.95, 0.9), np.uint8), image.shape)
    shade = 0.65 + 0.45 * _tone(image, mask, 2)
    dyed = picture(blend(cloth, (255, 255, 255), dots) * shade[..., None])
    return blend(image, dyed, mask)


@OPERATORS.register("subject_neon_outline")
def subject_neon_outline(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tube of magenta light along the contour, the subject itself gone dark."""
    tube = np.clip(_rim(image, mask, 2.5) - cv2.erode(mask, disc(px(image, 2))), 0, 1)
    dark = blend(image, (24, 4, 40), 0.9 * mask)
    glow = np.clip(1.4 * blur(tube, px(image, 3)), 0, 1) * (_rim(image, mask, 7) > 0.5)
    return blend(blend(dark, (255, 0, 170), glow), (255, 190, 240), tube)


@OPERATORS.register("subject_rainbow_stripes")
def subject_rainbow_stripes(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Level stripes of six colours over the subject, shaded by its own light."""
    _, y = grid(image)
    rows = np.flatnonzero((mask > 0.5).any(axis=1))
    top, foot = (y[rows[0], 0], y[rows[-1], 0]) if rows.size else (0.0, 128.0)
    stripe = np.floor(np.clip((y - top) / max(float(foot - top), 8), 0, 0.999) * 6) / 7
    shade = 0.7 + 0.4 * _tone(image, mask, 2)
    return blend(image, picture(hues(stripe) * shade[..., None]), mask)


@OPERATORS.register("subject_sketch")
def subject_sketch(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The subject left as white paper with a dark pencil line around and hatching in its shadows."""
    x, y = grid(image)
    hatch = ((np.mod(x + y, 9) < 3.5) & (_tone(image, mask, 2) < 0.5)).astype(np.float32)
    inner = np.clip(mask - cv2.erode(mask, disc(px(image, 3))), 0, 1)
    paper = blend(np.full_like(image, 252), (40, 40, 48), np.maximum(0.8 * hatch, inner))
    return blend(image, paper, mask)


@OPERATORS.register("subject_cutout")
def subject_cutout(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The subject cut away: the grey and white board of a transparent layer shows in its shape."""
    x, y = grid(image)
    board = np.mod(np.floor(x / 8) + np.floor(y / 8), 2)
    return blend(image, gradient_map(board, [(0, (172, 172, 172)), (1, (255, 255, 255))]), mask)


@OPERATORS.register("subject_galaxy")
def subject_galaxy(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window into space: violet clouds and large stars at random places inside the subject."""
    cloud = smooth_noise(image, rng, 4)
    space = gradient_map(
        cloud, [(0, (8, 4, 40)), (0.5, (96, 20, 150)), (0.8, (240, 60, 180)), (1, (255, 170, 200))]
    )
    starry = blend(space, (255, 255, 240), star_field(image, rng, 48, 1.5, 3))
    return blend(image, starry, mask)
