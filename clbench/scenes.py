"""How a scene is composed: one or two named subjects on a photographed background, all drawn from a seed.

A scene knows its caption, its subject mask and the recipe (`SceneSpec`) that made it, so true targets exist for
edits of the scene itself: take the recipe, change one thing, compose again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from clbench.images import read_rgb, read_rgba
from clbench.registry import ClbenchError
from clbench.types import seed_from

SPLITS = ("base", "teacher", "distill", "evaluation")

# Tints for "recolour the subject": plain colours at constant hue, in sRGB.
TINTS = {
    "red": (225, 45, 45),
    "orange": (240, 140, 30),
    "yellow": (235, 210, 40),
    "green": (50, 165, 65),
    "blue": (50, 95, 220),
    "purple": (140, 65, 190),
    "pink": (240, 120, 175),
    "white": (245, 245, 245),
    "black": (40, 40, 45),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A cut-out: `rgba` uint8 (h, w, 4), trimmed to its alpha box."""

    id: str
    name: str
    category: str
    rgba: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Background:
    """A photograph: `rgb` uint8 (h, w, 3)."""

    id: str
    name: str
    category: str
    rgb: np.ndarray = field(repr=False)


@dataclass(slots=True)
class Pool:
    """The pictures that scenes of one split are made of."""

    subjects: dict[str, Subject]
    backgrounds: dict[str, Background]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a subject stands: centre (`x`, `y`) and `scale` (its longer side) as shares of the picture's side.

    `tint` is empty or a key of TINTS.
    """

    subject: str
    x: float
    y: float
    scale: float
    flip: bool = False
    tint: str = ""


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """The recipe of a scene. `crop` is the background's square: (x, y) of its corner as shares of the free
    play, and its side as a share of the photo's shorter side."""

    background: str
    crop: tuple[float, float, float]
    placements: tuple[Placement, ...]
    mirror: bool = False


@dataclass(slots=True)
class Scene:
    """`image` uint8 (size, size, 3), `mask` float32 (size, size) in [0, 1] with 1 = subject."""

    image: np.ndarray
    mask: np.ndarray
    caption: str
    spec: SceneSpec


def load_pool(folder: Path | str, split: str | Iterable[str] | None = None) -> Pool:
    """Read the pictures of `folder` that belong to `split` (one name, several, or None for all).

    `folder` holds ``sources.csv`` with a row per picture (file, kind, name, category, split, ...).
    """
    folder = Path(folder)
    table = folder / "sources.csv"
    if not table.is_file():
        raise ClbenchError(f"{table} not found; a folder of scene sources needs this table of its pictures")
    wanted = set(SPLITS) if split is None else {split} if isinstance(split, str) else set(split)
    if not wanted <= set(SPLITS):
        raise ClbenchError(f"unknown split {sorted(wanted - set(SPLITS))}; expected some of {', '.join(SPLITS)}")
    pool = Pool({}, {})
    with table.open(newline="") as handle:
        for row in csv.DictReader(handle):
            if row["split"] not in wanted:
                continue
            stem = Path(row["file"]).stem
            if row["kind"] == "subject":
                pool.subjects[stem] = Subject(stem, row["name"], row["category"], read_rgba(folder / row["file"]))
            else:
                pool.backgrounds[stem] = Background(stem, row["name"], row["category"], read_rgb(folder / row["file"]))
    return pool


def draw_placement(subject: str, rng: np.random.Generator, crowd: int = 1) -> Placement:
    """A random place for one of `crowd` subjects, wholly inside the picture."""
    scale = float(rng.uniform(0.45, 0.72) if crowd == 1 else rng.uniform(0.32, 0.45))
    margin = scale / 2
    return Placement(
        subject, float(rng.uniform(margin, 1 - margin)), float(rng.uniform(margin, 1 - margin)), scale, bool(rng.random() < 0.5)
    )


def draw_spec(pool: Pool, rng: np.random.Generator, subjects: int = 1) -> SceneSpec:
    """Draw a scene of `subjects` different subjects from `pool`."""
    names = list(pool.subjects)
    chosen = [names[i] for i in rng.choice(len(names), size=subjects, replace=False)]
    backgrounds = list(pool.backgrounds)
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    crop = (float(rng.random()), float(rng.random()), float(rng.uniform(0.7, 1.0)))
    placements = tuple(draw_placement(name, rng, subjects) for name in chosen)
    if subjects == 2:  # left and right, so that neither hides the other
        placements = (replace(placements[0], x=0.27), replace(placements[1], x=0.73))
    return SceneSpec(background, crop, placements, bool(rng.random() < 0.5))


def scene_of(pool: Pool, split: str, index: int, size: int = 128) -> Scene:
    """The `index`-th scene of a split: depends on nothing but the pool, the split's name and the index."""
    rng = np.random.default_rng(seed_from("scene", split, index))
    return compose(draw_spec(pool, rng), pool, size)


def compose(spec: SceneSpec, pool: Pool, size: int = 128) -> Scene:
    """Render `spec` at `size` x `size` pixels."""
    image = _crop(pool.backgrounds[spec.background].rgb, spec, size).astype(np.float32)
    mask = np.zeros((size, size), np.float32)
    for placement in spec.placements:
        rgb, alpha = _place(pool.subjects[placement.subject].rgba, placement, size)
        image += alpha[..., None] * (rgb - image)
        mask = np.maximum(mask, alpha)
    return Scene(np.clip(image + 0.5, 0, 255).astype(np.uint8), mask, caption_of(spec, pool), spec)


def caption_of(spec: SceneSpec, pool: Pool) -> str:
    """``a flamingo in front of a garden path``."""
    place = pool.backgrounds[spec.background].name
    names = [with_article(pool.subjects[p.subject].name) for p in spec.placements]
    return f"{' and '.join(names)} in front of {with_article(place)}" if names else with_article(place)


def with_article(name: str) -> str:
    """`name` with its indefinite article; plurals and mass names stay bare."""
    head = name.split(" in ")[0].split(" by ")[0].split(" with ")[0].split(" on ")[0].split(" of ")[0].split()[-1]
    singular = {"bus", "cactus", "octopus", "hibiscus", "lotus"}
    if head.endswith("s") and not head.endswith("ss") and head not in singular:
        return name
    return f"{'an' if name[0] in 'aeiou' and not name.startswith(('un', 'eu')) else 'a'} {name}"


def _crop(rgb: np.ndarray, spec: SceneSpec, size: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    side = max(8, round(spec.crop[2] * min(height, width)))
    left, top = round(spec.crop[0] * (width - side)), round(spec.crop[1] * (height - side))
    square = rgb[top : top + side, left : left + side]
    if spec.mirror:
        square = square[:, ::-1]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


def _place(rgba: np.ndarray, placement: Placement, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The subject's colour (size, size, 3) and alpha (size, size), float32, on an empty canvas."""
    height, width = rgba.shape[:2]
    scale = placement.scale * size / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    premultiplied = rgba.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    small = cv2.resize(premultiplied, (w, h), interpolation=cv2.INTER_AREA)
    if placement.flip:
        small = small[:, ::-1]
    canvas = np.zeros((size, size, 4), np.float32)
    left, top = round(placement.x * size - w / 2), round(placement.y * size - h / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, size), min(top + h, size)
    if x1 > x0 and y1 > y0:
        canvas[y0:y1, x0:x1] = small[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = canvas[..., 3] / 255
    rgb = canvas[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    return (tinted(rgb, placement.tint) if placement.tint else rgb), alpha


def tinted(rgb: np.ndarray, tint: str) -> np.ndarray:
    """`rgb` (float, 0..255) recoloured to TINTS[tint] with its light and shade kept."""
    light = (rgb @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] / 255
    colour = np.array(TINTS[tint], np.float32)
    return np.where(light < 0.5, colour * (0.25 + 1.5 * light), colour + (255 - colour) * (light - 0.5) * 1.2)
