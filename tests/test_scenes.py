"""Scenes are deterministic, their masks are true, and no picture stands in two splits."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clbench.registry import ClbenchError
from clbench.scenes import SPLITS, TINTS, compose, load_pool, scene_of, with_article

SOURCES = Path(__file__).parent.parent / "suites/worlds/tiny/sources"
OPEN = ("MIT", "public-domain", "CC0", "CC-BY")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (SOURCES / "sources.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def pool():
    return load_pool(SOURCES, "evaluation")


def test_enough_pictures_with_licences(rows):
    kinds = [row["kind"] for row in rows]
    assert kinds.count("subject") >= 250 and kinds.count("background") >= 120
    for row in rows:
        assert row["licence"].startswith(OPEN), row
        assert row["author"] and row["title"] and row["address"], row


def test_every_shipped_picture_has_its_row_and_its_hash(rows):
    named = {row["file"]: row["sha256"] for row in rows}
    shipped = {str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.webp")}
    assert shipped == set(named)
    for file, digest in named.items():
        assert hashlib.sha256((SOURCES / file).read_bytes()).hexdigest() == digest, file


def test_splits_are_disjoint_by_subject_and_by_background(rows):
    for kind in ("subject", "background"):
        for column in ("file", "sha256", "name", "title"):
            found = [(row[column], row["split"]) for row in rows if row["kind"] == kind]
            assert len({value for value, _ in found}) == len(found), (kind, column)
        assert {row["split"] for row in rows if row["kind"] == kind} == set(SPLITS)


def test_scenes_use_only_their_split(rows, pool):
    allowed = {Path(row["file"]).stem for row in rows if row["split"] == "evaluation"}
    for index in range(50):
        spec = scene_of(pool, "evaluation", index, 64).spec
        assert {spec.background, *(p.subject for p in spec.placements)} <= allowed


def test_a_scene_depends_on_its_index_alone(pool):
    first = scene_of(pool, "evaluation", 7)
    again = scene_of(load_pool(SOURCES, "evaluation"), "evaluation", 7)
    assert first.spec == again.spec and np.array_equal(first.image, again.image)
    assert first.image.shape == (128, 128, 3) and first.image.dtype == np.uint8
    assert first.mask.shape == (128, 128) and first.mask.min() >= 0 and first.mask.max() <= 1


def test_outside_the_mask_a_scene_is_its_background(pool):
    for index in range(10):
        scene = scene_of(pool, "evaluation", index)
        empty = compose(replace(scene.spec, placements=()), pool)
        outside = scene.mask == 0
        assert np.array_equal(scene.image[outside], empty.image[outside])
        assert scene.mask.mean() > 0.03
        assert np.abs(scene.image[~outside].astype(int) - empty.image[~outside]).mean() > 3


def test_subjects_stand_wholly_inside(pool):
    for index in range(100):
        spec = scene_of(pool, "evaluation", index, 16).spec
        for place in spec.placements:
            assert place.scale / 2 <= place.x <= 1 - place.scale / 2 and place.scale / 2 <= place.y <= 1 - place.scale / 2


def test_tints_change_the_colour_and_keep_the_shape(pool):
    spec = scene_of(pool, "evaluation", 3).spec
    shapes, colours = set(), set()
    for tint in TINTS:
        scene = compose(replace(spec, placements=(replace(spec.placements[0], tint=tint),)), pool)
        shapes.add(scene.mask.tobytes())
        colours.add(tuple(np.round(scene.image[scene.mask > 0.9].mean(axis=0)).tolist()))
    assert len(shapes) == 1 and len(colours) == len(TINTS)


def test_articles():
    assert with_article("owl") == "an owl" and with_article("unicorn") == "a unicorn"
    assert with_article("windmill on a hill") == "a windmill on a hill" and with_article("socks") == "socks"
    assert with_article("bus") == "a bus"


def test_unknown_split_and_missing_table_are_one_sentence(tmp_path):
    with pytest.raises(ClbenchError, match=r"unknown split \['test'\].*evaluation"):
        load_pool(SOURCES, "test")
    with pytest.raises(ClbenchError, match=r"sources\.csv not found"):
        load_pool(tmp_path)
