"""The mean of all teachers that a student starts from: as peft's SVD has it, without layers of full size, and shown."""

from __future__ import annotations

import pytest
import torch
from mini_training import changed

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.merging import Merge, Part, merge_adapters
from clbench.registry import ClbenchError
from reference_trainer.merged_start import best, mean_of
from reference_trainer.train import run


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def merge(lora_files):
    """Three LoRAs of rank 4, at weights that are not the same."""
    names = ("sepia", "upside_down", "accelerator")
    return Merge("svd", tuple(Part(describe_adapter(lora_files[name]), 0.2 * n) for n, name in enumerate(names, 1)), rank=6)


def made(generator):
    """What a generator yields, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as stop:
            return seen, stop.value


def test_the_mean_is_that_of_pefts_svd(merge):
    seen, mine = made(mean_of(merge, 6))
    theirs = merge_adapters(merge)
    assert mine.keys() == theirs.keys() and {t.shape for t in mine.values()} == {t.shape for t in theirs.values()}
    modules = sorted({key.rpartition(".lora_")[0] for key in mine})
    for module in modules:
        one, other = (t[f"{module}.lora_B.weight"] @ t[f"{module}.lora_A.weight"] for t in (mine, theirs))
        torch.testing.assert_close(one, other, atol=1e-5 * float(other.abs().max()), rtol=1e-4)
    assert [(p.what, p.done, p.total) for p in seen] == [("mean of teachers", n + 1, len(modules)) for n in range(len(modules))]


@pytest.mark.parametrize(("out", "width"), [(40, 30), (30, 40), (30, 30)])
@pytest.mark.parametrize("given", [2, 8, 30, 64])
@pytest.mark.parametrize("rank", [1, 6, 30])
def test_it_is_the_best_of_its_rank_and_can_be_trained(out, width, given, rank):
    """Whether the factors are narrower than the student's, than the layer, or than neither."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(given, width, generator=generator), torch.randn(out, given, generator=generator)
    down, up = best(a, b, rank)
    u, s, vh = torch.linalg.svd((b.double() @ a.double()), full_matrices=False)
    torch.testing.assert_close((up @ down).double(), (u[:, :rank] * s[:rank]) @ vh[:rank], atol=1e-4 * float(s[0]), rtol=1e-4)
    assert down.shape == (rank, width) and up.shape == (out, rank)
    torch.testing.assert_close(down @ down.T, torch.eye(rank), atol=1e-4, rtol=0)  # rows of zeros would learn nothing


def test_no_layer_of_full_size_is_factored(merge, monkeypatch):
    """What makes it cheap: three teachers of rank 4 come to 12, whatever the layer's size."""
    real, sides = torch.linalg.svd, []
    monkeypatch.setattr(torch.linalg, "svd", lambda m, **how: (sides.append(max(m.shape)), real(m, **how))[1])
    made(mean_of(merge, 6))
    assert min(min(shape) for shape in merge.parts[0].info.shapes.values()) > 12 and set(sides) == {12}


def test_progress_is_shown_and_a_mean_is_made_once(shop_floor):
    world, recipe, out = shop_floor
    run("teachers", recipe, world, None, out)
    merged = changed(recipe, "collection", warm_start_from="merged", updates=1, warm_start=0)
    seen = []
    for resume in (True, False):
        run("collection", merged, world, None, out, resume, report=seen.append)
    shown = [(p.done, p.total) for p in seen if p.what == "mean of teachers"]
    assert shown == [(n, len(shown)) for n in range(1, len(shown) + 1)] and len(shown) > 10


def test_a_student_of_more_rank_can_start_from_one_teacher(shop_floor):
    """peft merges a single adapter by another method than the one asked for, at the rank that it has."""
    world, recipe, out = shop_floor
    (teacher,) = run("teachers", changed(recipe, "teachers", lr=0.05), world, ["sepia"], out)
    still = changed(recipe, "collection", warm_start_from="merged", lr=1e-9, ema=0.0, updates=1, warm_start=0)
    (path,) = run("collection", still, world, ["sepia"], out)
    student, taught = ((describe_adapter(file), load_tensors(describe_adapter(file))) for file in (path, teacher))
    assert (student[0].rank, taught[0].rank) == (4, 2)
    for module in student[0].modules:
        one, other = (i.scale(module) * t[f"{module}.lora_B.weight"] @ t[f"{module}.lora_A.weight"] for i, t in (student, taught))
        assert torch.allclose(one, other, atol=1e-6 + 1e-3 * float(other.abs().max()))


def test_a_teacher_that_is_not_finite_is_named(merge, tmp_path):
    info = merge.parts[1].info
    tensors = load_tensors(info)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_adapter(tmp_path / "bad.safetensors", tensors, info.metadata)
    parts = (merge.parts[0], Part(describe_adapter(tmp_path / "bad.safetensors"), 0.5))
    with pytest.raises(ClbenchError, match=r"bad\.safetensors holds a value of '.*' that is not finite"):
        made(mean_of(Merge("svd", parts, rank=6), 6))
