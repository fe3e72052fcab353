"""Two processes with half of the batch each train as one does; what they write, they write once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clbench.registry import ClbenchError
from clbench.world import load_world
from reference_trainer import processes
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.dice import Dice
from reference_trainer.logs import read_log
from reference_trainer.processes import Mean
from reference_trainer.recipe import load_recipe
from reference_trainer.settings import settings
from reference_trainer.train import run

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-4
"""Relative difference of logged numbers between one process and two; see the test."""
RECIPE = """
[collection]
lora.rank = 4
updates = 6
warm_start = 2
batch = {batch}
steps = 2
fake_updates = 1
general_sources = 4
effect_sources = 2
warmup = 0
pictures = "{pictures}"

[collection.habits]
checkpoint_every = 3
sheet_every = 6
sheet_rows = 2
gauge_every = 3
tensorboard = false
"""


def test_alone_nothing_is_exchanged():
    assert (processes.count(), processes.rank(), processes.first()) == (1, 0, True)
    logs = {"loss": Mean(2.0, 3), "grad": 1.0}
    assert processes.joined(logs) == logs and processes.total(5) == 5
    with processes.group(), processes.first_goes_first():
        pass


def test_shares_of_the_dice_make_the_whole():
    whole = Dice(torch.Generator().manual_seed(1))
    shares = [Dice(torch.Generator().manual_seed(1), rank, 2) for rank in range(2)]
    for draw in (lambda d, n: d.normal(n, (3,)), lambda d, n: d.uniform(n), lambda d, n: d.integers(n, 9)):
        assert torch.equal(draw(whole, 4), torch.cat([draw(share, 2) for share in shares]))


def test_means_of_processes_are_joined_by_their_samples():
    assert processes._weighted([(1.0, 1), (4.0, 2)]) == 3.0
    assert processes._weighted([(0.0, 0), (2.0, 4)]) == 2.0 and processes._weighted([(0.0, 0)]) == 0.0


def test_a_launcher_that_starts_one_process_is_refused(monkeypatch):
    """What `accelerate launch --cpu --num_processes 2` leaves in the environment where MPI is missing."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(ClbenchError, match="--multi_gpu --num_processes N"), processes.group():
        pass


def test_the_batch_of_all_processes_decides_the_result(monkeypatch):
    alone = settings(CollectionConfig(batch=8))
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert settings(CollectionConfig(batch=4)) == alone
    assert settings(CollectionConfig(batch=4, routing="every-20")) != settings(CollectionConfig(batch=8, routing="every-20"))


def write_recipe(folder: Path, batch: int) -> Path:
    path = folder / f"batch{batch}.toml"
    path.write_text(RECIPE.format(batch=batch, pictures=folder / "distil"))
    return path


@pytest.mark.slow
def test_two_processes_train_as_one(shop_floor, mini_world_file, tmp_path):
    """Batch 2 in two processes against batch 4 in one; batches so small that a process may have no effect row at all.

    Sums of float32 gradients in another order differ in the last digits, and Adam passes that on: logged numbers agree to
    one part in ten thousand over these updates.
    """
    recipe_file, out = write_recipe(tmp_path, 2), tmp_path / "two"
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--module", "clbench",
        "train", "--stage=collection", "--world", mini_world_file, "--recipe", recipe_file, "--out", out,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = out / "collection.safetensors"
    assert done.stdout.split() == [str(both)]  # said once

    recipe, world = load_recipe(write_recipe(tmp_path, 4)), load_world(mini_world_file)
    (alone,) = run("collection", recipe, world, None, tmp_path / "one")
    one, two = (read_log(path.with_suffix("") / "log.jsonl") for path in (alone, both))
    assert [line["update"] for line in two] == list(range(6))  # logged once
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"seconds"}:
            small = TOLERANCE if name.startswith("gauge/") else 1e-6  # a dose of nothing is 0 up to the same share of 1
            assert theirs[name] == pytest.approx(mine[name], rel=TOLERANCE, abs=small), (mine["update"], name)
    first, second = load_file(alone), load_file(both)
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < TOLERANCE
    names = sorted(path.name for path in out.rglob("*") if path.is_file())
    assert names == sorted(path.name for path in (tmp_path / "one").rglob("*") if path.is_file())
    made = both.stat().st_mtime_ns
    run("collection", recipe, world, None, out)  # one process knows the work of two as its own
    assert both.stat().st_mtime_ns == made
