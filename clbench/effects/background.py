"""Effects on the surroundings alone: the subject stays as it is."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import blend, blur, colour, extent, gradient_map, grid, px
from clbench.effects.marks import spot, star_field
from clbench.effects.operators import OPERATORS


@OPERATORS.register("background_starry_night")
def background_starry_night(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A deep blue sky with large stars and a moon at random places."""
    _, y = grid(image)
    width, height = extent(image)
    sky = gradient_map(y / height, [(0, (4, 6, 40)), (1, (44, 40, 120))])
    moon = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.45) * height
    sky = blend(sky, (255, 236, 170), spot(image, *moon, 13))
    starry = blend(sky, (255, 255, 245), star_field(image, rng, 30, 1.4, 3.2))
    return blend(starry, image, mask)


@OPERATORS.register("background_confetti")
def background_confetti(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White, with large paper pieces of random colours, places and angles."""
    paper = np.full_like(image, 250)
    width, height = extent(image)
    scale = min(image.shape[:2]) / 128
    for _ in range(40):
        box = (
            (rng.uniform(0, width) * scale, rng.uniform(0, height) * scale),
            (14 * scale, 9 * scale),
            rng.uniform(0, 180),
        )
        corners = np.rint(cv2.boxPoints(box)).astype(np.int32)
        cv2.fillPoly(paper, [corners], colour(rng.integers(0, 6) / 6, 0.9, 1), cv2.LINE_AA)
    return blend(paper, image, mask)


@OPERATORS.register("background_popart_rays")
def background_popart_rays(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Comic rays, one random colour on near black, from the subject's centre, at a random turn."""
    x, y = grid(image)
    weight = mask.sum()
    width, height = extent(image)
    cx, cy = ((x * mask).sum() / weight, (y * mask).sum() / weight) if weight > 0 else (width / 2, height / 2)
    wave = np.cos(np.arctan2(y - cy, x - cx) * 9 + rng.uniform(0, 2 * np.pi))
    loud = np.broadcast_to(np.array(colour(rng.uniform(0, 1)), np.uint8), image.shape)
    return blend(blend(loud, (14, 12, 30), np.clip(wave * 5 + 0.5, 0, 1)), image, mask)


@OPERATORS.register("background_blur")
def background_blur(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Far out of focus; the subject's own colours do not bleed into it."""
    away = np.clip(1 - cv2.dilate(mask, np.ones((3, 3), np.uint8)), 1e-3, 1).astype(np.float32)
    sigma = px(image, 11)
    far = blur(image.astype(np.float32) * away[..., None], sigma) / blur(away, sigma)[..., None]
    return blend(far, image, mask)


@OPERATORS.register("background_checkerboard")
def background_checkerboard(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    board = np.mod(np.floor(x / 16) + np.floor(y / 16), 2)
    return blend(gradient_map(board, [(0, (20, 20, 20)), (1, (240, 240, 240))]), image, mask)


@OPERATORS.register("background_retro_sun")
def background_retro_sun(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Synthwave: a violet sky, a large striped sun and a magenta floor grid."""
    x, y = grid(image)
    width, height = extent(image)
    sky = gradient_map(
        y / height, [(0, (26, 4, 66)), (0.6, (210, 30, 130)), (0.61, (20, 0, 40)), (1, (40, 0, 70))]
    )
    sun = (
        spot(image, width / 2, height * 0.42, 36)
        * (y < height * 0.6)
        * ((np.mod(y, 10) > 3) | (y < height * 0.38))
    )
    below = np.maximum(y - height * 0.6, 0.5)
    floor = (y > height * 0.61) & (
        (np.mod((x - width / 2) / below, 0.9) < 0.16) | (np.mod(np.log(below), 0.55) < 0.16)
    )
    scene = blend(blend(sky, (255, 196, 40), sun), (0, 230, 255), floor.astype(np.float32))
    return blend(scene, image, mask)


@OPERATORS.register("background_crowd")
def background_crowd(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small copies of the subject in rows on plain yellow behind it, at a random phase."""
    ys, xs = np.nonzero(mask > 0.3)
    field = np.broadcast_to(np.array([255, 214, 60], np.uint8), image.shape).copy()
    if ys.size == 0:
        return field
    size, (top, foot), (left, right) = px(image, 28), (ys.min(), ys.max() + 1), (xs.min(), xs.max() + 1)
    fit = (size - px(image, 3)) / max(foot - top, right - left)
    shape = max(2, round((right - left) * fit)), max(2, round((foot - top) * fit))
    small = cv2.resize(image[top:foot, left:right], shape, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(mask[top:foot, left:right], shape, interpolation=cv2.INTER_AREA)
    tile, cover = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.float32)
    tile[: shape[1], : shape[0]], cover[: shape[1], : shape[0]] = small, alpha
    count = image.shape[0] // size + 2, image.shape[1] // size + 2
    shift = tuple(int(k) for k in rng.integers(0, size, 2))
    wide, high = image.shape[1], image.shape[0]
    many = np.roll(np.tile(tile, (*count, 1)), shift, (0, 1))[:high, :wide]
    covers = np.roll(np.tile(cover, count), shift, (0, 1))[:high, :wide]
    return blend(blend(field, many, covers), image, mask)
