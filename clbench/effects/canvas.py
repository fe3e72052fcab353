"""What the operators share: units, coordinates, blending and palettes. Nothing here is an effect."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

Stops = Sequence[tuple[float, tuple[int, int, int]]]


def px(image: np.ndarray, length: float, least: int = 1) -> int:
    """`length` pixels of a picture with side 128, in pixels of this picture, at least `least`."""
    return max(least, round(length * min(image.shape[:2]) / 128))


def grid(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres as float32 (H, W) pairs x, y, in units of a 128 px side."""
    height, width = image.shape[:2]
    step = 128 / min(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return (x + 0.5) * step, (y + 0.5) * step


def extent(image: np.ndarray) -> tuple[float, float]:
    """Width and height in units of a 128 px side (so the shorter one is 128)."""
    height, width = image.shape[:2]
    step = 128 / min(height, width)
    return width * step, height * step


def luma(image: np.ndarray) -> np.ndarray:
    """Rec. 601 luma, float32 (H, W) in [0, 1]."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255


def stretched(values: np.ndarray) -> np.ndarray:
    """`values` scaled so that the 2nd and 98th percentile become 0 and 1, clipped."""
    low, high = np.percentile(values, (2, 98))
    return np.clip((values - low) / max(float(high - low), 1e-3), 0, 1).astype(np.float32)


def picture(values: np.ndarray) -> np.ndarray:
    """Float (H, W, 3) in 0..255 to uint8, rounded and clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def blend(under: np.ndarray, over: np.ndarray | Sequence[int], alpha: np.ndarray | float) -> np.ndarray:
    """`over` laid on `under` with opacity `alpha` (scalar or (H, W)); uint8 (H, W, 3)."""
    opacity = np.asarray(alpha, dtype=np.float32)
    if opacity.ndim == 2:
        opacity = opacity[..., None]
    return picture(under.astype(np.float32) * (1 - opacity) + np.asarray(over, dtype=np.float32) * opacity)


def gradient_map(values: np.ndarray, stops: Stops) -> np.ndarray:
    """Colours looked up along `stops` (position in [0, 1], rgb); (H, W) in, uint8 (H, W, 3) out."""
    places = [place for place, _ in stops]
    return picture(
        np.stack([np.interp(values, places, [rgb[c] for _, rgb in stops]) for c in range(3)], axis=-1)
    )


def colour(hue: float, saturation: float = 1.0, value: float = 1.0) -> tuple[int, int, int]:
    """RGB 0..255 of a hue in turns (any real number), saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def hues(values: np.ndarray, saturation: float = 1.0, value: float = 1.0) -> np.ndarray:
    """Hue circle: float (H, W) in turns to uint8 (H, W, 3)."""
    return gradient_map(values % 1.0, [(k / 12, colour(k / 12, saturation, value)) for k in range(13)])


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, `sigma` in pixels; keeps the type."""
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def edges(image: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    """Strength of colour edges, float32 (H, W) in [0, 1]: largest Sobel magnitude over the channels."""
    smooth = blur(image, px(image, 1) * sigma).astype(np.float32) / 255
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.clip(np.sqrt(across**2 + down**2).max(axis=-1) / 1.2, 0, 1)


def lines(image: np.ndarray, threshold: float = 0.22, width: float = 3) -> np.ndarray:
    """Bold lines along the strong edges, soft mask float32 (H, W) in [0, 1]; `width` at side 128.

    Canny (1986) on the channel that changes most; `threshold` in [0, 1] is the gradient where a line starts.
    """
    smooth = blur(image, 1.8 * px(image, 1))
    across, down = cv2.Sobel(smooth, cv2.CV_16S, 1, 0), cv2.Sobel(smooth, cv2.CV_16S, 0, 1)
    most = (np.abs(across.astype(int)) + np.abs(down)).argmax(axis=-1)[..., None]
    across, down = (np.ascontiguousarray(np.take_along_axis(d, most, -1)[..., 0]) for d in (across, down))
    thin = cv2.Canny(across, down, 255 * threshold, 765 * threshold) // 255
    return blur(cv2.dilate(thin, disc(px(image, width / 3))).astype(np.float32), 0.6 * px(image, 1))


def disc(radius: int) -> np.ndarray:
    """A round structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def cells(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The picture averaged over square cells of `size` px and shown at full size again, uint8 (H, W, 3),
    with each pixel's place in its cell: u, v float32 (H, W) in (-1, 1). Edge cells are cut off."""
    height, width = image.shape[:2]
    rows, columns = -(-height // size), -(-width // size)
    padded = np.pad(image, ((0, rows * size - height), (0, columns * size - width), (0, 0)), mode="edge")
    small = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (columns * size, rows * size), interpolation=cv2.INTER_NEAREST)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    place = ((x % size + 0.5) / size * 2 - 1, (y % size + 0.5) / size * 2 - 1)
    return large[:height, :width], place[0], place[1]


def smooth_noise(image: np.ndarray, rng: np.random.Generator, coarse: int) -> np.ndarray:
    """Random field with `coarse` knots along a side, float32 (H, W), about uniform in [0, 1]."""
    height, width = image.shape[:2]
    knots = rng.uniform(0, 1, (coarse + 1, coarse + 1)).astype(np.float32)
    return np.clip(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def sample(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, border: int = cv2.BORDER_REFLECT_101
) -> np.ndarray:
    """The picture read at `x`, `y` (units of a 128 px side, as from `grid`), bilinear; uint8 (H, W, 3)."""
    step = min(image.shape[:2]) / 128
    map_x, map_y = (x * step - 0.5).astype(np.float32), (y * step - 0.5).astype(np.float32)
    return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)


def saturate(image: np.ndarray, factor: float) -> np.ndarray:
    """Distance from grey multiplied by `factor`; uint8 (H, W, 3)."""
    grey = luma(image)[..., None] * 255
    return picture(grey + (image.astype(np.float32) - grey) * factor)
