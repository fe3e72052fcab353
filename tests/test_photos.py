"""Pictures made elsewhere: as a viewer shows them, or refused by name."""

from __future__ import annotations

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
