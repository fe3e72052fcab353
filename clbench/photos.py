"""Pictures made elsewhere: photographs, pairs and outputs that a user brings, as a camera or an editor left them.

`clbench.images` reads what this project wrote itself, and its code belongs to the hash of every composed scene; what only
the files of others need stands here.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from clbench.images import PICTURE_SUFFIXES, pictures_in
from clbench.registry import ClbenchError

UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jfif", ".gif", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw")
"""Pictures by their name that are not read here: a folder that holds one is refused, so that none is left out unsaid."""
SPACES = {
    "RGB": ("RGB", ("RGB", "RGBA", "P", "PA", "L", "LA", "1")), "GRAY": ("L", ("L", "LA", "1")), "CMYK": ("CMYK", ("CMYK",)),
}  # fmt: skip
"""Colour space of an embedded profile -> the mode that it describes, and the modes of pixels that are read as that."""


def read_photo(path: Path | str) -> np.ndarray:
    """The picture at `path` as uint8 ``(H, W, 3)`` in sRGB, upright as its EXIF orientation says; transparency is laid on white.

    Grey of 16 bits is scaled to 8. Raises ClbenchError naming the file if it is missing, truncated, no picture, too large,
    holds numbers without a range (floats), or a colour profile that is broken or not of its pixels.
    """
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            upright = _in_srgb(_eight_bit(ImageOps.exif_transpose(opened)), opened.info.get("icc_profile"))
            return np.array(_on_white(upright) if upright.has_transparency_data else upright.convert("RGB"))
    except FileNotFoundError:
        raise ClbenchError(f"picture not found: {path}") from None
    except UnidentifiedImageError:
        raise ClbenchError(f"cannot read the picture {path}: no picture format that is known") from None
    except Image.DecompressionBombError as error:  # its words hold the picture's pixels and the limit, then talk of attacks
        raise ClbenchError(f"cannot read the picture {path}: {str(error).partition(',')[0]}; save it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ClbenchError(f"cannot read the picture {path}: {' '.join(str(error).split())}") from None


def photos_in(folder: Path | str) -> dict[str, Path]:
    """`pictures_in`; ClbenchError also for a picture of a format that is not read."""
    found = pictures_in(folder)
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in UNREAD_SUFFIXES and not path.name.startswith("."):
            raise ClbenchError(f"{path} is not read: save it as one of {', '.join(PICTURE_SUFFIXES)}, or take it away")
    return found


def _eight_bit(opened: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8, where Pillow would cut it off at 255; ValueError for other wide numbers."""
    if opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PNG"):
        return Image.fromarray(np.round(np.asarray(opened, dtype=np.float64) / 257).astype(np.uint8))
    if opened.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {opened.mode} have no known range; save it with 8 bits for each channel")
    return opened


def _in_srgb(picture: Image.Image, raw: bytes | None) -> Image.Image:
    """In the colours that its embedded profile means; ValueError for a profile that is broken or not of its pixels.

    Without a profile pixels are taken as sRGB, and those under an sRGB profile stay as they are.
    """
    if not raw:
        return picture
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        space = str(profile.profile.xcolor_space).strip()  # pyright: ignore[reportAttributeAccessIssue]
        colours = _described(picture, space)
        if colours.mode == "RGB" and _is_srgb(profile):
            return picture
        seen = _transformed(colours, profile)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ValueError(f"its embedded colour profile is broken ({error}); save it as sRGB") from None
    if picture.has_transparency_data:
        seen.putalpha(picture.convert("RGBA").getchannel("A"))
    return seen


def _described(picture: Image.Image, space: str) -> Image.Image:
    """The colours of `picture`, without transparency, in the mode that a profile of `space` speaks of."""
    mode, modes = SPACES.get(space, ("", ()))
    if picture.mode not in modes:
        raise ValueError(f"its pixels are {picture.mode}, and its embedded colour profile is of {space} colours; save it as sRGB")
    whole = picture.convert("RGBA") if picture.mode == "P" else picture  # Pillow warns where a palette loses its transparency
    return whole.convert(mode)


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether colours from all over the cube stay where they are, but for the rounding of the profile's own tables."""
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(len(steps), -1, 3)
    seen = np.asarray(_transformed(Image.fromarray(cube), profile), dtype=np.int16)
    return bool(np.abs(seen - cube).max() <= 1)


def _transformed(colours: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    seen = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert seen is not None  # None is for a change in place
    return seen


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
