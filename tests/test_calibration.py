from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.calibration import fit_meter, meter_side, right_answers, round_trip_of, to_tensor
from clbench.images import write_png
from clbench.world import load_world

WORLD = """
name = "calibration"
resolution = {resolution}

[backbone]
kind = "flux-kontext"
path = "backbone"

[effects]
file = "{shipped}/effects.toml"

[sources]
{sources}
"""
SHIPPED = Path(__file__).parents[1] / "suites" / "worlds" / "tiny"
SCENES = f'kind = "scenes"\nfolder = "{SHIPPED}/sources"\nsplit = "evaluation"\ncount = 3\nsize = 128'
FOLDER = 'kind = "folder"\nfolder = "pictures"\nsize = 128'


def make_world(folder: Path, sources: str, resolution: int = 64):
    (folder / "world.toml").write_text(WORLD.format(resolution=resolution, shipped=SHIPPED, sources=sources))
    return load_world(folder / "world.toml")


@pytest.fixture
def folder_world(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        picture = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        write_png(tmp_path / "pictures" / f"p{number}.png", picture)
    return make_world(tmp_path, FOLDER)


def test_scenes_are_calibrated_on_another_split(tmp_path):
    world = make_world(tmp_path, SCENES)
    pictures = right_answers(world, [source.id for source in world.sources])
    assert len(pictures) > 50 and {p.shape for p in pictures} == {(64, 64, 3)}
    scored = {world.source_image(source.id, 64).tobytes() for source in world.sources}
    assert not scored & {picture.tobytes() for picture in pictures}


def test_a_folder_leaves_out_what_is_scored_if_it_can(folder_world):
    plain = {folder_world.source_image(f"p{number}", 64).tobytes(): number for number in range(8)}
    found = {plain[p.tobytes()] for p in right_answers(folder_world, ["p0", "p1"]) if p.tobytes() in plain}
    assert found == {2, 3, 4, 5, 6, 7}
    everything = right_answers(folder_world, [f"p{number}" for number in range(8)])
    assert {plain[p.tobytes()] for p in everything if p.tobytes() in plain} == set(range(8))


def test_the_round_trip_of_a_backbone_counts_as_nuisance(folder_world):
    def coarse(pictures):
        return [None if n == 0 else (p // 24 * 24 + 12).astype(np.uint8) for n, p in enumerate(pictures)]

    plain, wide = fit_meter(folder_world, []), fit_meter(folder_world, [], coarse)
    assert wide.noise.scale.mean() > plain.noise.scale.mean()
    assert torch.equal(fit_meter(folder_world, []).noise.scale, plain.noise.scale)
    assert round_trip_of(folder_world) is None


def test_small_pictures_have_a_small_meter(tmp_path):
    assert meter_side(make_world(tmp_path, SCENES, 64)) == 64
    assert meter_side(make_world(tmp_path, SCENES, 128)) == 64
    assert meter_side(make_world(tmp_path, SCENES, 32)) == 32


def test_pictures_become_tensors():
    tensor = to_tensor([np.full((4, 4, 3), 255, np.uint8)])
    assert tensor.shape == (1, 3, 4, 4) and tensor.min() == 1
