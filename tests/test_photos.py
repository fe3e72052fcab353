"""Pictures made elsewhere: as a viewer shows them, or refused by name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

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


def _profile(primaries: dict[str, tuple[float, float, float]], space: bytes = b"RGB ") -> bytes:
    """A small ICC profile (version 2): colorants relative to D50 and gamma 2.2 for each of them, or one grey curve."""
    fixed = lambda *numbers: b"".join(struct.pack(">i", round(n * 65536)) for n in numbers)  # noqa: E731
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    white = (0.9642, 1.0, 0.8249)
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(*white)}
    for name, colour in primaries.items():
        tags[f"{name}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(*colour)
        tags[f"{name}TRC".encode()] = curve
    if space == b"GRAY":
        tags[b"kTRC"] = b"curv" + bytes(4) + struct.pack(">IH", 1, 256) + bytes(2)  # linear
    table, data, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, body in tags.items():
        table += tag + struct.pack(">II", at + len(data), len(body))
        data += body
    size = struct.pack(">I", 128 + len(table) + len(data))
    head = size + bytes(4) + struct.pack(">I", 0x02100000) + b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += fixed(*white)
    return head.ljust(128, b"\0") + table + data


P3 = {"r": (0.51512, 0.2412, -0.00105), "g": (0.29198, 0.69225, 0.04189), "b": (0.1571, 0.06657, 0.78407)}
SRGB = {"r": (0.43607, 0.22249, 0.01392), "g": (0.38515, 0.71687, 0.09708), "b": (0.14307, 0.06061, 0.7141)}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_colours_of_another_profile_become_srgb(tmp_path, name):
    """Display P3's green is greener than sRGB has: in sRGB numbers its red goes to 0. Colours of an sRGB profile stay."""
    plain = Image.new("RGB", (32, 32), (40, 200, 90))
    for primaries, expected, near in ((P3, (0, 204, 72), 12), (SRGB, (40, 200, 90), 6)):
        plain.save(tmp_path / name, icc_profile=_profile(primaries), quality=98)
        assert np.abs(read_photo(tmp_path / name).reshape(-1, 3).mean(0) - expected).max() <= near
    plain.save(tmp_path / name, quality=98)
    assert np.abs(read_photo(tmp_path / name).reshape(-1, 3).mean(0) - (40, 200, 90)).max() <= 3


def test_transparency_and_palettes_outlive_a_profile(tmp_path):
    half = Image.new("RGBA", (8, 8), (40, 200, 90, 0))
    half.save(tmp_path / "a.png", icc_profile=_profile(P3))
    assert (read_photo(tmp_path / "a.png") == 255).all()
    Image.new("RGB", (8, 8), (40, 200, 90)).quantize(4).save(tmp_path / "p.png", icc_profile=_profile(P3))
    assert read_photo(tmp_path / "p.png")[0, 0, 0] < 20


def test_grey_of_a_linear_profile(tmp_path):
    Image.new("L", (8, 8), 128).save(tmp_path / "g.png", icc_profile=_profile({}, b"GRAY"))
    assert abs(int(read_photo(tmp_path / "g.png")[0, 0, 0]) - 188) <= 2


def test_a_broken_profile_names_its_file(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    with pytest.raises(ClbenchError, match=r"a\.png: its colour profile is broken .* save it as sRGB"):
        read_photo(tmp_path / "a.png")


def test_a_picture_that_is_too_large_names_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(ClbenchError, match=r"a\.png: Image size \(1024 pixels\) exceeds limit .* make it smaller"):
        read_photo(tmp_path / "a.png")
