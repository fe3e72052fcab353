"""Paint and pen: the picture redrawn with a brush, a pencil, glass, dots or light."""

from __future__ import annotations

import cv2
import numpy as np

from clbench.effects.canvas import (
    blend,
    blur,
    cells,
    colour,
    edges,
    extent,
    gradient_map,
    grid,
    hues,
    lines,
    luma,
    picture,
    px,
    saturate,
    stretched,
)
from clbench.effects.operators import OPERATORS


@OPERATORS.register("oil_painting")
def oil_painting(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each pixel takes the mean colour of the commonest of 8 grey levels around it."""
    level = np.minimum((luma(image) * 8).astype(int), 7)
    window = (2 * px(image, 5) + 1, 2 * px(image, 5) + 1)
    counts = np.stack([cv2.blur((level == k).astype(np.float32), window) for k in range(8)])
    sums = np.stack([cv2.blur(image * (level == k)[..., None].astype(np.float32), window) for k in range(8)])
    best = counts.argmax(axis=0)[None]
    mean = np.take_along_axis(sums, best[..., None], 0)[0] / np.take_along_axis(counts, best, 0)[0][..., None]
    return saturate(picture(mean), 1.5)


@OPERATORS.register("watercolor")
def watercolor(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat pale washes that run out into white paper before the margin."""
    x, y = grid(image)
    width, height = extent(image)
    wash = cv2.pyrMeanShiftFiltering(image, px(image, 6), 40)
    pale = blend(saturate(wash, 1.3), (255, 252, 244), 0.42)
    ragged = 3 * np.sin(x / 6) * np.sin(y / 7 + 1) + 2 * np.sin((x + y) / 4)
    inside = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y)) + ragged
    return blend(np.full_like(image, 250), pale, 1 / (1 + np.exp((11 - inside) / 1.5)))


@OPERATORS.register("pencil_sketch")
def pencil_sketch(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = luma(image)
    paper = np.clip(grey / np.maximum(blur(grey, px(image, 6)), 0.02), 0, 1) ** 3
    return gradient_map(
        np.minimum(paper, 1 - 0.7 * lines(image, 0.3, 2)), [(0, (30, 30, 34)), (1, (250, 249, 245))]
    )


@OPERATORS.register("cartoon")
def cartoon(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flat, light, loud colours inside fat black lines."""
    flat = cv2.pyrMeanShiftFiltering(image, px(image, 8), 40)
    light = 255 * (flat.astype(np.float32) / 255) ** 0.65
    steps = picture(np.rint(saturate(picture(light), 1.8).astype(np.float32) / 51) * 51)
    return blend(steps, (10, 10, 14), lines(image, 0.3, 4))


@OPERATORS.register("stained_glass")
def stained_glass(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaded superpixels (SLIC, Achanta et al. 2012) in strong colours."""
    from skimage.segmentation import (
        find_boundaries,
        slic,
    )  # slow to import, and `clbench list` needs this room

    labels = slic(image, n_segments=60, compactness=14, sigma=1, start_label=0)
    size = np.maximum(np.bincount(labels.ravel()), 1)
    mean = np.stack([np.bincount(labels.ravel(), image[..., c].ravel()) / size for c in range(3)], axis=-1)
    lead = cv2.dilate(find_boundaries(labels).astype(np.uint8), np.ones((px(image, 2),) * 2, np.uint8))
    return blend(saturate(picture(mean[labels] * 1.1), 2.0), (12, 12, 16), lead.astype(np.float32))


@OPERATORS.register("dot_painting")
def dot_painting(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, u, v = cells(image, px(image, 12))
    dots = np.clip((0.86 - np.hypot(u, v)) * 5, 0, 1)
    return blend(np.full_like(image, 16), saturate(mean, 1.7), dots)


@OPERATORS.register("neon_edges")
def neon_edges(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    tubes = lines(image, 0.2, 4)
    x, y = grid(image)
    light = hues((x - y) / 160 + 0.9).astype(np.float32)
    glow = np.clip(0.7 * blur(tubes, px(image, 4)) + tubes, 0, 1)
    return picture(light * glow[..., None] + 8)


@OPERATORS.register("blueprint")
def blueprint(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    x, y = grid(image)
    rule = np.maximum(np.mod(x, 16) < 2, np.mod(y, 16) < 2).astype(np.float32)
    paper = blend(
        np.broadcast_to(np.array([18, 60, 160], np.uint8), image.shape), (120, 160, 235), 0.55 * rule
    )
    return blend(paper, (240, 247, 255), lines(image, 0.2, 4))


@OPERATORS.register("chalkboard")
def chalkboard(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    board = np.broadcast_to(np.array([34, 66, 52], np.uint8), image.shape)
    drawn = blend(board, (236, 238, 220), np.clip(lines(image, 0.2, 4) * 0.9 + 0.12 * edges(image), 0, 1))
    rim = px(image, 8)
    frame = np.pad(np.zeros((height - 2 * rim, width - 2 * rim), np.float32), rim, constant_values=1)
    return blend(drawn, (150, 96, 48), frame)


@OPERATORS.register("warhol_popart")
def warhol_popart(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four small copies, three flat inks each."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    tone = stretched(blur(luma(small), px(image, 1)))
    step = (tone > 0.35).astype(int) + (tone > 0.65)
    inks = [(0.95, 0.15), (0.6, 0.1), (0.33, 0.83), (0.75, 0.5)]
    palettes = [
        np.array([colour(dark, 1, 0.5), colour(dark, 0.9, 1), colour(light, 0.6, 1)], np.uint8)
        for dark, light in inks
    ]
    panels = [palette[step] for palette in palettes]
    return np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])[:height, :width]


@OPERATORS.register("white_contour")
def white_contour(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return blend(picture(image * 0.6), (255, 255, 255), lines(image, 0.2, 4))


@OPERATORS.register("emboss")
def emboss(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    smooth = blur(luma(image), 1.5 * px(image, 1))
    shift = px(image, 3)
    relief = np.roll(smooth, (shift, shift), (0, 1)) - smooth
    relief[:shift], relief[:, :shift] = 0, 0
    return gradient_map(0.5 + 1.6 * relief, [(0, (0, 0, 0)), (1, (255, 255, 255))])
