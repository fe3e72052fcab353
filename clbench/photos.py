"""Pictures made elsewhere: photographs, pairs and outputs that a user brings, as a camera or an editor left them.

`clbench.images` reads what this project wrote itself, and its code belongs to the hash of every composed scene; what only
the files of others need stands here.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from clbench.images import PICTURE_SUFFIXES, pictures_in
from clbench.registry import ClbenchError

UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jfif", ".gif", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw")
"""Pictures by their name that are not read here: a folder that holds one is refused, so that none is left out unsaid."""


def read_photo(path: Path | str) -> np.ndarray:
    """The picture at `path` as uint8 ``(H, W, 3)`` in sRGB, upright as its EXIF orientation says; transparency is laid on white.

    Colours are converted from the profile that a file brings (Display P3, CMYK), grey of 16 bits is scaled to 8. Raises
    ClbenchError naming the file if it is missing, truncated, no picture, too large, or holds numbers without a range (floats).
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            upright = _eight_bit(_in_srgb(ImageOps.exif_transpose(opened)))
            return np.array(_on_white(upright) if upright.has_transparency_data else upright.convert("RGB"))
    except FileNotFoundError:
        raise ClbenchError(f"picture not found: {path}") from None
    except Image.DecompressionBombError as error:
        raise ClbenchError(f"cannot read the picture {path}: {error}; make it smaller") from None
    except UnidentifiedImageError:
        raise ClbenchError(f"cannot read the picture {path}: no picture format that is known") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ClbenchError(f"cannot read the picture {path}: {' '.join(str(error).split())}") from None


def photos_in(folder: Path | str) -> dict[str, Path]:
    """`pictures_in`; ClbenchError also for a picture of a format that is not read."""
    found = pictures_in(folder)
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in UNREAD_SUFFIXES and not path.name.startswith("."):
            raise ClbenchError(f"{path} is not read: save it as one of {', '.join(PICTURE_SUFFIXES)}, or take it away")
    return found


def _in_srgb(opened: Image.Image) -> Image.Image:
    """Colours as sRGB by the picture's own profile; unchanged without one, or with one of another kind of colours than it has."""
    raw = opened.info.get("icc_profile")
    if not raw or opened.mode.startswith(("I", "F")):
        return opened
    try:
        return _converted(opened, ImageCms.ImageCmsProfile(io.BytesIO(raw)))
    except (OSError, ImageCms.PyCMSError) as error:
        raise ValueError(f"its colour profile is broken ({error}); save it as sRGB") from None


def _converted(opened: Image.Image, profile: Any) -> Image.Image:
    space = profile.profile.xcolor_space.strip()
    if space == "RGB" and opened.mode not in ("RGB", "RGBA"):
        opened = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    if opened.mode not in {"RGB": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",)}.get(space, ()):
        return opened
    mode = "RGBA" if opened.mode == "RGBA" else "RGB"
    converted = ImageCms.profileToProfile(opened, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    assert converted is not None  # it is None only where the picture itself is changed
    return converted


def _eight_bit(opened: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8, where Pillow would cut it off at 255; ValueError for other wide numbers."""
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PNG"):
        return Image.fromarray(np.round(np.asarray(opened, dtype=np.float64) / 257).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {opened.mode} have no known range; save it with 8 bits for each channel")
    return opened


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
