"""The one room that reads, checks, writes and hashes pictures.

A picture is a uint8 array ``(H, W, 3)`` in sRGB; a mask is a float32 array ``(H, W)`` in [0, 1].
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clbench.registry import ClbenchError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def check_picture(image: np.ndarray) -> np.ndarray:
    """`image` itself if it is uint8 ``(H, W, 3)``, else a ClbenchError that says what it is."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ClbenchError(f"a picture must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    return image


def read_rgb(path: Path | str) -> np.ndarray:
    """The picture at `path` as uint8 ``(H, W, 3)``; transparency is laid on white.

    Raises ClbenchError naming the file if it is missing, truncated or no picture.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            picture = _flatten(opened)
    except FileNotFoundError:
        raise ClbenchError(f"picture not found: {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ClbenchError(f"cannot read the picture {path}: {_one_line(error)}") from None
    return np.asarray(picture, dtype=np.uint8).copy()


def read_rgba(path: Path | str) -> np.ndarray:
    """The picture at `path` as uint8 ``(H, W, 4)``; the same errors as `read_rgb`."""
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            return np.asarray(opened.convert("RGBA"), dtype=np.uint8).copy()
    except FileNotFoundError:
        raise ClbenchError(f"picture not found: {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ClbenchError(f"cannot read the picture {path}: {_one_line(error)}") from None


def write_png(path: Path | str, image: np.ndarray) -> str:
    """Write `image` (uint8 ``(H, W, 3)``) as PNG and return its `hash_pixels`.

    The file appears whole or not at all, so an interrupted run never leaves half a picture.
    """
    check_picture(image)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(part, format="PNG", compress_level=4)
        os.replace(part, path)
    except OSError as error:
        raise ClbenchError(f"cannot write the picture {path}: {_one_line(error)}") from None
    return hash_pixels(image)


def hash_pixels(image: np.ndarray) -> str:
    """sha256 over shape and pixels: the same picture has the same hash whatever encoder wrote the file."""
    check_picture(image)
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def reduce_to(image: np.ndarray, size: int) -> np.ndarray:
    """`image` (uint8 ``(H, W, 3)``) resized to ``(size, size, 3)`` by Pillow's LANCZOS filter."""
    check_picture(image)
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def reduce_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (float ``(H, W)`` in [0, 1]) averaged down to float32 ``(size, size)``."""
    if mask.shape == (size, size):
        return mask.astype(np.float32)
    small = Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BOX)
    return np.clip(np.asarray(small, dtype=np.float32), 0.0, 1.0)


def centre_square(image: np.ndarray) -> np.ndarray:
    """The largest centred square of `image`: how a picture of any shape becomes a source."""
    check_picture(image)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]


def pictures_in(folder: Path | str) -> dict[str, Path]:
    """File stem -> path of every picture directly in `folder`, sorted by stem.

    Raises ClbenchError if the folder is missing or two pictures share a stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ClbenchError(f"folder of pictures not found: {folder}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ClbenchError(f"two pictures share the stem '{path.stem}' in {folder}; keep one")
        found[path.stem] = path
    return found


def _flatten(opened: Image.Image) -> Image.Image:
    if opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        rgba = opened.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return opened.convert("RGB")


def _one_line(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no picture format that is known"  # Pillow's own sentence repeats the path
    return " ".join(str(error).split()) or type(error).__name__
