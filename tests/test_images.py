"""Pictures: reading, writing, hashing, resizing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from clbench import images
from clbench.registry import ClbenchError

pictures = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@settings(max_examples=20, deadline=None)
@given(picture=pictures)
def test_what_is_written_is_read_back(tmp_path_factory, picture):
    path = tmp_path_factory.mktemp("p") / "deep" / "a.png"
    assert images.write_png(path, picture) == images.hash_pixels(picture)
    np.testing.assert_array_equal(images.read_rgb(path), picture)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@settings(max_examples=20, deadline=None)
@given(picture=pictures)
def test_hash_sees_every_pixel_and_the_shape(picture):
    other = picture.copy()
    other[-1, -1, -1] ^= 1
    assert images.hash_pixels(other) != images.hash_pixels(picture)
    height, width, _ = picture.shape
    if height != width:
        assert images.hash_pixels(picture.reshape(width, height, 3)) != images.hash_pixels(picture)


def test_hash_does_not_depend_on_the_file_format(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.webp", lossless=True)
    assert images.hash_pixels(images.read_rgb(tmp_path / "a.webp")) == images.hash_pixels(picture)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = images.read_rgb(tmp_path / "a.png")
    assert picture[0, 0].tolist() == [10, 20, 30] and (picture[1] == 255).all()
    assert images.read_rgba(tmp_path / "a.png").shape == (2, 2, 4)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: b"not a picture", lambda data: data[: len(data) // 2]]
)
def test_unreadable_pictures_are_named(tmp_path, damage):
    path = tmp_path / "broken.png"
    images.write_png(path, np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ClbenchError, match=r"cannot read the picture .*broken.png") as error:
        images.read_rgb(path)
    assert "\n" not in str(error.value)


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(ClbenchError, match=r"picture not found: .*gone.png"):
        images.read_rgb(tmp_path / "gone.png")


def test_only_uint8_rgb_is_a_picture(tmp_path):
    for wrong in (np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ClbenchError, match="must be uint8"):
            images.write_png(tmp_path / "a.png", wrong)


def test_reduce_is_pillows_lanczos():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(images.reduce_to(picture, 8), expected)
    np.testing.assert_array_equal(images.reduce_to(picture, 16), picture)


def test_reduced_mask_keeps_its_area():
    mask = np.zeros((16, 16), np.float32)
    mask[:8, :6] = 1
    small = images.reduce_mask(mask, 8)
    assert small.dtype == np.float32 and small.shape == (8, 8)
    assert small.mean() == pytest.approx(mask.mean(), abs=1e-6)


def test_centre_square_and_stems(tmp_path):
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:, 2:6] = 9
    assert (images.centre_square(picture) == 9).all()
    images.write_png(tmp_path / "b.png", picture)
    images.write_png(tmp_path / "a.png", picture)
    (tmp_path / "notes.txt").write_text("no picture")
    assert list(images.pictures_in(tmp_path)) == ["a", "b"]
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    with pytest.raises(ClbenchError, match="two pictures share the stem 'a'"):
        images.pictures_in(tmp_path)
