"""Shared fixtures: a random-weight FluxKontextPipeline of minimal parts, and a world of a few pictures."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import shape_check
from jaxtyping import config
from mini_parts import build_flux_pipeline, random_lora

shape_check.switch_on()  # nothing of clbench is imported above this line


@pytest.fixture
def unchecked():
    """What a caller meets outside of tests, where the functions themselves refuse."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def full_disk():
    """A context in which no file can grow beyond so many bytes: the write that would fails, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def full(size: int = 2048):
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)

    return full


WORLD_TOML = """
name = "mini"
resolution = 32

[backbone]
path = "{backbone}"
device = "cpu"
full_steps = 3
few_steps = 2
guidance = 2.0
max_sequence_length = 12
batch = 4

[sources]
kind = "folder"
folder = "pictures"

[teachers]
folder = "teachers"

[accelerator]
file = "accelerator.safetensors"

[[candidates]]
name = "collection"
file = "collection.safetensors"

[[effects.inline]]
id = "sepia"
instruction = "make it sepia"
trigger = "<qx1>"

[[effects.inline]]
id = "upside_down"
instruction = "turn it upside down"
trigger = "<qx2>"
neighbours = ["sepia"]
"""


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory) -> Path:
    """A saved pipeline (`build_flux_pipeline`), for the whole session; do not change it."""
    folder = tmp_path_factory.mktemp("flux") / "backbone"
    build_flux_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lora_files(tmp_path_factory, flux_folder) -> dict[str, Path]:
    """sepia, upside_down, accelerator, collection: random adapters that fit `flux_folder`."""
    from clbench.adapter_writing import save_adapter

    folder = tmp_path_factory.mktemp("loras")
    pipe = build_flux_pipeline()
    files = {}
    for seed, name in enumerate(("sepia", "upside_down", "accelerator", "collection")):
        files[name] = folder / f"{name}.safetensors"
        save_adapter(files[name], *random_lora(pipe, seed))
    return files


@pytest.fixture
def mini_world_file(tmp_path, flux_folder, lora_files) -> Path:
    """world.toml of a user's own world: four pictures, two inline effects, adapters; no operators."""
    import shutil

    from clbench.images import write_png

    rng = np.random.default_rng(0)
    for i in range(4):
        smooth = np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((12, 12, 1)))
        write_png(tmp_path / "pictures" / f"p{i}.png", smooth.astype(np.uint8))
    (tmp_path / "teachers").mkdir()
    for name in ("sepia", "upside_down"):
        shutil.copy(lora_files[name], tmp_path / "teachers")
    for name in ("accelerator", "collection"):
        shutil.copy(lora_files[name], tmp_path)
    file = tmp_path / "world.toml"
    file.write_text(WORLD_TOML.format(backbone=flux_folder))
    return file


@pytest.fixture
def without(mini_world_file):
    """A function that takes tables out of `mini_world_file`, by name: accelerator, candidates, teachers."""

    def cut(*tables: str) -> Path:
        parts = mini_world_file.read_text().split("\n\n")
        kept = [part for part in parts if part.strip().partition("]")[0].lstrip("[") not in tables]
        mini_world_file.write_text("\n\n".join(kept))
        return mini_world_file

    return cut


@pytest.fixture
def paired_world_file(without) -> Path:
    """`mini_world_file` without any LoRA, with reference pairs for both effects, and folder ``made`` of pictures for system
    `folder`: the right ones.
    """
    from clbench.images import read_rgb, write_png

    file = without("teachers", "accelerator", "candidates")
    more = '\n[references]\nfolder = "references"\n\n[encoders]\nclip = ""\nperceptual = ""\n'
    file.write_text(file.read_text() + more)
    for picture in sorted((file.parent / "pictures").iterdir()):
        pixels = read_rgb(picture)
        for effect, right in (("sepia", 255 - pixels), ("upside_down", pixels[::-1].copy())):
            write_png(file.parent / "references" / effect / "source" / picture.name, pixels)
            write_png(file.parent / "references" / effect / "target" / picture.name, right)
            write_png(file.parent / "made" / effect / picture.name, right[:48, :48].copy())
    return file


@pytest.fixture
def mini_world(mini_world_file):
    from clbench.world import load_world

    return load_world(mini_world_file)


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """`planted.Planted`: systems with known answers in the shipped tiny world's scenes, and a scorer of every metric."""
    from planted import plant

    return plant(tmp_path_factory.mktemp("planted"))
