"""Stored teacher outputs: on disk they are whole or absent, and a killed run loses one batch at most."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from clbench.registry import ClbenchError
from reference_trainer import targets
from reference_trainer.dice import Dice
from reference_trainer.targets import TargetStore

SIGMAS = torch.tensor([1.0, 0.5])


@pytest.fixture
def make(make_backbone, space, cache, tmp_path):
    """A function: the outputs of the plain base for `count` sources in batches of two, stored in `folder`."""
    backbone = make_backbone()
    source = torch.randn(5, *space.shape, generator=torch.Generator().manual_seed(3))
    prompts = cache.many([f"turn it {word}" for word in ("blue", "red", "round", "upside down", "grey")])

    def made(folder, stop=None):
        """Killed after `stop` outputs were reported, if that is given."""
        store = TargetStore(tmp_path / folder, backbone, SIGMAS, 2.0, cache.many([""]))
        counts, done = store.get(["base"], None, source, prompts, 7, batch=2), []
        while stop is None or sum(done) < stop:
            try:
                done.append(next(counts))
            except StopIteration as end:
                return done, end.value
        return done, None

    return made


@pytest.fixture
def sampled(monkeypatch):
    """How many outputs each call of the sampler made."""
    counts, real = [], targets.sample_teachers
    monkeypatch.setattr(targets, "sample_teachers", lambda *given: (counts.append(len(given[1])), real(*given))[1])
    return counts


def test_outputs_are_those_of_batches_with_noise_drawn_at_once(make, make_backbone, tmp_path, monkeypatch):
    """In memory, as they were made before batches were stored: the same bits, and one file with one tensor."""
    given, real = [], targets.sample_teachers
    monkeypatch.setattr(targets, "sample_teachers", lambda *inputs: (given.append(inputs), real(*inputs))[1])
    done, whole = make("whole")
    noise = Dice(torch.Generator().manual_seed(7)).normal(5, tuple(whole.shape[1:]))
    assert done == [2, 2, 1] and torch.equal(torch.cat([inputs[5] for inputs in given]), noise)
    assert torch.equal(whole, torch.cat([real(*inputs) for inputs in given]))
    (file,) = (tmp_path / "whole").iterdir()
    stored = load_file(file)
    assert file.suffix == ".safetensors" and stored.keys() == {"target"} and torch.equal(stored["target"], whole)


@pytest.mark.parametrize("stop", [2, 4, 5])
def test_a_killed_run_goes_on_from_its_batches(make, tmp_path, sampled, stop):
    done, whole = make("whole")
    (file,) = (tmp_path / "whole").iterdir()
    make("killed", stop)
    sampled.clear()
    assert make("killed")[0] == done and sum(sampled) == 5 - stop
    (again,) = (tmp_path / "killed").iterdir()
    assert again.name == file.name and again.read_bytes() == file.read_bytes()
    assert torch.equal(make("killed")[1], whole)


def test_a_torn_batch_is_made_again_and_left_parts_go(make, tmp_path, sampled):
    whole = make("whole")[1]
    make("torn", 4)
    (parts,) = (tmp_path / "torn").iterdir()
    first = sorted(parts.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-9])
    sampled.clear()
    assert torch.equal(make("torn")[1], whole) and sampled == [2, 1]
    parts.mkdir()  # killed between the last two steps
    make("torn")
    assert not parts.exists()


def test_what_fits_on_a_full_disk_is_kept(make, tmp_path, full_disk, sampled):
    make("whole")
    size = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    with full_disk(size - 1), pytest.raises(ClbenchError, match=r"cannot write stored targets .*: File too large$"):
        make("full")  # every batch fits, all together do not
    assert [path.suffix for path in (tmp_path / "full").iterdir()] == [".parts"]
    sampled.clear()
    make("full")
    assert not sampled and [path.suffix for path in (tmp_path / "full").iterdir()] == [".safetensors"]


def test_a_full_disk_is_one_sentence(make, tmp_path, full_disk):
    with full_disk(), pytest.raises(ClbenchError, match=r"cannot write stored targets .*\.safetensors: File too large$"):
        make("full")
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]
    assert make("full")[1].shape[0] == 5
