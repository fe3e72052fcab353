"""Weather and light: something falls, drifts or shines over the whole picture."""

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
    luma,
    picture,
    px,
    sample,
    smooth_noise,
)
from clbench.effects.operators import OPERATORS


@OPERATORS.register("rain")
def rain(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A grey-blue gloom with long slanting streaks at random places."""
    gloom = blend(gradient_map(luma(image), [(0, (10, 16, 30)), (1, (150, 165, 190))]), image, 0.3)
    width, height = extent(image)
    streaks = np.zeros(image.shape[:2], np.uint8)
    for _ in range(26):
        x, y, length = rng.uniform(-10, width + 30), rng.uniform(-20, height), rng.uniform(26, 48)
        start, end = (
            (px(image, x, -999), px(image, y, -999)),
            (px(image, x - length * 0.35, -999), px(image, y + length, -999)),
        )
        cv2.line(streaks, start, end, 255, px(image, 2.2), cv2.LINE_AA)
    return blend(gloom, (225, 238, 255), streaks.astype(np.float32) / 255 * 0.85)


@OPERATORS.register("snow_storm")
def snow_storm(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Large soft flakes at random places over a cold, pale picture."""
    cold = blend(image, (205, 222, 245), 0.3)
    width, height = extent(image)
    flakes = np.zeros(image.shape[:2], np.uint8)
    for _ in range(48):
        place = px(image, rng.uniform(0, width), 0), px(image, rng.uniform(0, height), 0)
        cv2.circle(flakes, place, px(image, rng.uniform(2.5, 6)), 255, -1, cv2.LINE_AA)
    return blend(cold, (255, 255, 255), blur(flakes, 0.8 * px(image, 1)).astype(np.float32) / 255)


@OPERATORS.register("fog_banks")
def fog_banks(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thick grey banks at random places hide parts of the picture."""
    bank = np.clip((smooth_noise(image, rng, 3) - 0.35) * 3.2, 0, 1)
    return blend(blend(image, (168, 178, 190), 0.45), (188, 197, 208), 0.97 * blur(bank, px(image, 4)))


@OPERATORS.register("god_rays")
def god_rays(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Warm beams fan out from a random point of the upper edge over a darkened picture."""
    x, y = grid(image)
    width, _ = extent(image)
    angle = np.arctan2(x - rng.uniform(0, 1) * width, y + 12)
    beams = np.clip(np.cos(angle * rng.uniform(11, 15) + rng.uniform(0, 2 * np.pi)) * 2.5, 0, 1)
    strength = beams * np.clip(1.15 - y / 170, 0, 1)
    return blend(picture(image * 0.5), (255, 226, 130), 0.75 * strength)


@OPERATORS.register("venetian_blinds")
def venetian_blinds(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    light = np.clip(np.cos(2 * np.pi * (y + 0.35 * x) / 26) * 3 + 0.5, 0, 1)
    return blend(picture(image * 0.14), blend(image, (255, 190, 90), 0.25), light)


@OPERATORS.register("spotlight")
def spotlight(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darkness, but for one lit circle at a random place."""
    x, y = grid(image)
    width, height = extent(image)
    cx, cy = rng.uniform(0.22, 0.78, 2) * (width, height)
    light = 1 / (1 + np.exp((np.hypot(x - cx, y - cy) - 33) / 1.5))
    return blend(picture(image * 0.1), picture(image * 1.15 + 14), light)


@OPERATORS.register("bokeh_lights")
def bokeh_lights(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Large soft discs of light in warm colours over a dimmed, blurred picture."""
    out = blur(picture(image * 0.55), px(image, 2.5))
    width, height = extent(image)
    for _ in range(13):
        disc = np.zeros(image.shape[:2], np.uint8)
        place = px(image, rng.uniform(0, width), 0), px(image, rng.uniform(0, height), 0)
        cv2.circle(disc, place, px(image, rng.uniform(9, 17)), 255, -1, cv2.LINE_AA)
        out = blend(out, colour(rng.uniform(-0.08, 0.16), 0.75, 1), disc.astype(np.float32) / 255 * 0.62)
    return out


@OPERATORS.register("underwater")
def underwater(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wavy, teal, darker with depth, with a net of light at the top."""
    x, y = grid(image)
    _, height = extent(image)
    wavy = sample(image, x + 4 * np.sin(y / 8), y + 3 * np.sin(x / 9))
    depth = y / height
    teal = blend(wavy, gradient_map(depth, [(0, (60, 215, 215)), (1, (0, 40, 100))]), 0.68)
    net = np.abs(np.sin(x / 11 + 1.5 * np.sin(y / 9)) + np.sin(y / 7 + 1.5 * np.sin(x / 12)))
    return blend(teal, (215, 255, 245), np.clip(1 - net * 2.2, 0, 1) * np.clip(1 - depth * 1.2, 0, 1) * 0.8)


@OPERATORS.register("lightning")
def lightning(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Night, and one jagged bolt from a random point of the sky to the ground."""
    night = blend(gradient_map(luma(image), [(0, (6, 4, 26)), (1, (86, 80, 150))]), image, 0.15)
    width, height = extent(image)
    steps = np.linspace(0, height, 9)
    path = rng.uniform(0.2, 0.8) * width + np.cumsum(rng.uniform(-15, 15, 9))
    scale = min(image.shape[:2]) / 128
    points = np.rint(np.stack([path, steps], axis=-1) * scale).astype(np.int32)
    bolt = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(bolt, [points], False, 255, px(image, 5), cv2.LINE_AA)
    fork = points[4] + np.rint(np.array([rng.choice([-1, 1]) * rng.uniform(20, 34), 34]) * scale).astype(
        np.int32
    )
    cv2.line(bolt, points[4].tolist(), fork.tolist(), 255, px(image, 3), cv2.LINE_AA)
    glow = blur(bolt, px(image, 9)).astype(np.float32) / 255
    lit = blend(night, (150, 130, 255), np.clip(glow * 1.6, 0, 0.85))
    return blend(lit, (255, 255, 235), bolt.astype(np.float32) / 255)


@OPERATORS.register("stage_lights")
def stage_lights(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Three cones of random strong colours from above onto a dark picture."""
    x, y = grid(image)
    width, height = extent(image)
    lit = image.astype(np.float32) * 0.22
    first = rng.uniform(0, 1)
    for k in range(3):
        lamp, foot = (k + 0.5) / 3 * width, rng.uniform(0.05, 0.95) * width
        centre = lamp + (foot - lamp) * y / height
        cone = np.clip((7 + y * 0.15 - np.abs(x - centre)) / 3, 0, 1)[..., None]
        tint = np.array(colour(first + k / 3 + rng.uniform(-0.06, 0.06)), np.float32)
        lit += cone * tint * (0.3 + 0.6 * luma(image)[..., None])
    return picture(lit)
