"""Pictures made elsewhere: as a viewer shows them, or refused by name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from clbench import images
from clbench.photos import photos_in, read_photo
from clbench.registry import ClbenchError


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_camera_says(tmp_path, name, orientation):
    """EXIF orientation: what a viewer shows is what is read, and a copy saved upright is the same picture."""
    seen = np.zeros((48, 32, 3), np.uint8)
    seen[:24, :16], seen[:24, 16:], seen[24:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = _stored(Image.fromarray(seen), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, quality=95)
    read = read_photo(tmp_path / name)
    assert read.shape == seen.shape and np.abs(read.astype(int) - seen).mean() < 4


def _stored(seen: Image.Image, orientation: int) -> Image.Image:
    """How a camera with this orientation (EXIF 2.3, tag 274) would have stored what is `seen`."""
    turn = Image.Transpose
    undo = {
        1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE,
        6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }[orientation]  # fmt: skip
    return seen if undo is None else seen.transpose(undo)


def test_grey_of_sixteen_bits_is_scaled_and_floats_are_refused(tmp_path):
    grey = np.array([[0, 30000], [65535, 257]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.tiff")
    for name in ("grey.png", "grey.tiff"):
        assert read_photo(tmp_path / name)[..., 0].tolist() == [[0, 117], [255, 1]]
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ClbenchError, match=r"float.tiff: pixels of mode F have no known range"):
        read_photo(tmp_path / "float.tiff")


def test_a_format_that_is_not_read_is_not_left_out_unsaid(tmp_path):
    images.write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert list(photos_in(tmp_path)) == ["a"]
    (tmp_path / "IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(ClbenchError, match=r"IMG_1.HEIC is not read: save it as one of"):
        photos_in(tmp_path)


@settings(max_examples=30, deadline=None)
@given(pixels=arrays(np.uint8, (3, 5, 4)), mode=st.sampled_from(["RGBA", "LA", "P", "L", "1", "CMYK", "RGB"]))
def test_where_no_camera_and_no_sixteen_bits_are_in_play_it_reads_as_the_rest_does(tmp_path_factory, pixels, mode):
    path = tmp_path_factory.mktemp("p") / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels).convert("RGB" if mode == "CMYK" else "RGBA").convert(mode).save(path)
    np.testing.assert_array_equal(read_photo(path), images.read_rgb(path))


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ClbenchError, match=r"cannot read the picture .*a.png: no picture format that is known"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(ClbenchError, match=r"picture not found: .*b.png"):
        read_photo(tmp_path / "b.png")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
D50 = (0.9642, 1.0, 0.8249)
P3 = {"rXYZ": (0.51512, 0.2412, -0.00105), "gXYZ": (0.29198, 0.69225, 0.04189), "bXYZ": (0.1571, 0.06657, 0.78407)}
"""Display P3's colorants under D50 (SMPTE EG 432-1)."""


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _profile(space: bytes, tags: dict[str, bytes], connection: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile of version 2: header, table of tags, tags."""
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI4s4s4s12s4s", start + len(body), b"none", 0x02400000, kind, space, connection, bytes(12), b"acsp")
    return head.ljust(68, b"\0") + _xyz(*D50)[8:] + bytes(48) + table + body


def _rgb_profile(colorants: dict[str, tuple[float, ...]]) -> bytes:
    tags = {name: _xyz(*value) for name, value in colorants.items()}
    return _profile(b"RGB ", {**tags, **dict.fromkeys(("rTRC", "gTRC", "bTRC"), _gamma(2.2)), "wtpt": _xyz(*D50)})


def _cmyk_profile() -> bytes:
    """Black at K = 100 %, white paper, and all other inks without colour: what no reader would guess."""
    ramp = bytes((0, 255))
    lab = b"".join(bytes((0 if corner % 2 else 255, 128, 128)) for corner in range(16))  # K is the fastest
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    tables = bytes(range(256))
    lut = b"mft1\0\0\0\0" + struct.pack("BBBB", 4, 3, len(ramp), 0) + unit + tables * 4 + lab + tables * 3
    return _profile(b"CMYK", {"A2B0": lut, "wtpt": _xyz(*D50)}, b"Lab ", b"prtr")


def test_display_p3_is_read_as_the_colours_that_it_means(tmp_path):
    """Inside sRGB the numbers move apart; P3's red lies outside and is cut off there; grey stays grey, alpha alpha."""
    pixels = np.array([[[200, 100, 100, 255], [255, 0, 0, 255], [128, 128, 128, 255], [0, 0, 0, 0]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=_rgb_profile(P3))
    read = read_photo(tmp_path / "a.png")[0].astype(int)
    assert np.abs(read[0] - (214, 94, 97)).max() <= 3
    assert read[1].tolist() == [255, 0, 0] and np.ptp(read[2]) <= 1 and read[3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
@settings(max_examples=5, deadline=None)
@given(pixels=arrays(np.uint8, (9, 9, 4)))
def test_under_an_srgb_profile_nothing_changes(tmp_path_factory, mode, pixels):
    path = tmp_path_factory.mktemp("p") / "a.png"
    Image.fromarray(pixels).convert(mode).save(path, icc_profile=SRGB)
    np.testing.assert_array_equal(read_photo(path), images.read_rgb(path))


def test_grey_and_cmyk_are_read_by_their_profiles(tmp_path):
    linear = _profile(b"GRAY", {"kTRC": _gamma(1.0), "wtpt": _xyz(*D50)})
    Image.new("L", (2, 2), 55).save(tmp_path / "grey.png", icc_profile=linear)
    Image.fromarray(np.full((2, 2), 55 * 257, np.uint16)).save(tmp_path / "wide.tiff", icc_profile=linear)
    for name in ("grey.png", "wide.tiff"):
        assert np.abs(read_photo(tmp_path / name).astype(int) - 128).max() <= 2  # a linear 0.216 is sRGB's 128
    for name, ink, seen in (("k.tiff", (0, 0, 0, 255), 0), ("c.tiff", (255, 0, 0, 0), 255)):
        Image.new("CMYK", (2, 2), ink).save(tmp_path / name, icc_profile=_cmyk_profile())
        assert np.abs(read_photo(tmp_path / name).astype(int) - seen).max() <= 2


@pytest.mark.parametrize("profile", [b"junk", SRGB[:100] + bytes(400)])
def test_a_broken_profile_is_named(tmp_path, profile):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.raises(ClbenchError, match=r"a.png: its embedded colour profile is broken \(.*\); save it as sRGB"):
        read_photo(tmp_path / "a.png")


def test_a_profile_of_other_pixels_is_refused(tmp_path):
    Image.new("CMYK", (2, 2)).save(tmp_path / "a.tiff", icc_profile=SRGB)
    with pytest.raises(ClbenchError, match=r"a.tiff: its pixels are CMYK, and its embedded colour profile is of RGB colours"):
        read_photo(tmp_path / "a.tiff")


def test_a_picture_above_the_limit_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ClbenchError, match=r"a.png: Image size \(81 pixels\) exceeds limit of 80 pixels; save it smaller"):
        read_photo(tmp_path / "a.png")
