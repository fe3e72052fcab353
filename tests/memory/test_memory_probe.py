"""The probe, the pool and the whole suite on the mini world."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.cli import app
from clbench.cost.answer import answer
from clbench.cost.options import Options
from clbench.cost.traffic import count
from clbench.cost.worlds import predict, world_base
from clbench.memory.disk import disk_bytes, merged_bytes, require_room
from clbench.memory.measure import describe, foresee
from clbench.memory.meter import Meter, drop_cached
from clbench.memory.points import Point
from clbench.memory.pool import Files, concatenated, files_of, teacher_files
from clbench.memory.predict import last_loaded
from clbench.memory.probe import Request, measure
from clbench.memory.record import read_memory
from clbench.memory.suite import load_memory_suite
from clbench.registry import ClbenchError
from clbench.world import load_world

SEQUENCE = [0, 2, 2, 1, 0, 1, 1, 2]


def request(world, files: Files, slots: int = 0, from_ram: bool = False) -> Request:
    return Request(
        str(world.file), [str(p) for p in files.parts], [str(p) for p in files.fixed], files.part_weight,
        files.fixed_weight, slots, from_ram, SEQUENCE if len(files.parts) > 1 else [0] * 8, 2,
    )  # fmt: skip


@pytest.mark.parametrize(("slots", "from_ram"), [(0, False), (1, False), (2, True)])
def test_loads_and_factors_are_exact(mini_world, tmp_path, slots, from_ram):
    files = files_of(Point("cascade", 3), mini_world, tmp_path)
    found = measure(request(mini_world, files, slots, from_ram))
    kept = slots or 3
    expected = count([*range(kept), *SEQUENCE], kept, warm=kept)
    assert len(found.swaps) == expected.loads and found.queries == 8
    base = world_base(mini_world)
    loaded = last_loaded(SEQUENCE, slots) if slots else range(3)
    sizes = [predict("x", path, base, "float32").resident for path in (*(files.parts[i] for i in loaded), *files.fixed)]
    assert found.factor_bytes == sum(sizes)
    assert found.peak_bytes >= found.factor_bytes > 0 and found.edit_seconds > 0 and found.device == "cpu"


def test_the_base_has_no_adapter(mini_world, tmp_path):
    found = measure(replace(request(mini_world, files_of(Point("base", 0), mini_world, tmp_path)), sequence=[]))
    assert found.factor_bytes == 0 and not found.swaps and not found.switches


def test_a_pool_is_real_bytes(mini_world, tmp_path):
    files = teacher_files(mini_world, 5, tmp_path)
    assert len(set(files)) == 5 and len({path.stat().st_ino for path in files}) == 5
    assert files[4].read_bytes() == mini_world.teacher_path("sepia").read_bytes()
    assert teacher_files(mini_world, 5, tmp_path) == files


def test_a_concatenated_lora_is_the_sum(mini_world, tmp_path):
    """One adapter of summed rank gives the picture of its parts active together."""
    import numpy as np

    from clbench.adapters import describe_adapter
    from clbench.backbones import Job, Sampler, open_backbone

    own = [mini_world.teacher_path("sepia"), mini_world.teacher_path("upside_down")]
    joined = concatenated(own, tmp_path / "cat.safetensors")
    assert describe_adapter(joined).rank == sum(describe_adapter(path).rank for path in own)
    backbone = open_backbone(mini_world)
    job = [Job(mini_world.source_image("p0", 32), "x", 1)]
    pictures = []
    for adapters in ([(path, 1.0) for path in own], [(joined, 1.0)], []):
        backbone.use_adapters(adapters)
        pictures.append(backbone.sample(job, Sampler(2))[0].astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1 < np.abs(pictures[0] - pictures[2]).max()


DTYPES = [(("half", "bfloat16"), "F32"), (("half", "half"), "F16"), (("float", "half"), "F32")]


@pytest.mark.parametrize(("dtypes", "widest"), DTYPES)
def test_a_concatenation_of_files_of_different_dtypes_has_one(mini_world, tmp_path, dtypes, widest):
    """Where modules are in one file alone too, so that no product would promote them."""
    import torch
    from mini_parts import build_flux_pipeline, random_lora

    from clbench.adapter_writing import save_adapter
    from clbench.adapters import describe_adapter, load_tensors
    from clbench.tensor_file import read_header

    pipe, files = build_flux_pipeline(), []
    for seed, (dtype, targets) in enumerate(zip(dtypes, (("to_q",), ("to_q", "to_k")), strict=True)):
        factors, metadata = random_lora(pipe, seed, targets=targets)
        files.append(tmp_path / f"{seed}.safetensors")
        save_adapter(files[-1], {name: getattr(tensor, dtype)() for name, tensor in factors.items()}, metadata)
    joined = concatenated(files, tmp_path / "cat.safetensors")
    assert {entry["dtype"] for name, entry in read_header(joined).items() if name != "__metadata__"} == {widest}
    assert predict("cat", joined, world_base(mini_world), "float32").exact
    assert 0 <= merged_bytes(files, mini_world) - joined.stat().st_size < 8000
    parts = [load_tensors(describe_adapter(file)) for file in files]
    for name, tensor in load_tensors(describe_adapter(joined)).items():
        if ".lora_A." in name:
            assert torch.equal(tensor, torch.cat([part[name].to(tensor.dtype) for part in parts if name in part]))


def test_the_disk_that_a_pool_takes_is_foretold(mini_world, tmp_path):
    """The most that lies there at once, were every point measured in turn: copies add up, merged files do not."""
    points = [Point("base", 0), Point("cascade", 4), Point("cascade", 4, "disk", 1)]
    points += [Point(system, count) for system, count in (("merged", 6), ("merged-cat", 3), ("merged-cat", 6), ("collection", 2))]
    most = 0
    for point in points:
        files = files_of(point, mini_world, tmp_path)
        most = max(most, sum(path.stat().st_size for path in tmp_path.glob("*cat-*")) + copies(tmp_path))
        assert [path.name for path in files.spent] == [f"merged-cat-{point.effects}.safetensors"] * (point.system == "merged-cat")
        files.drop_spent()
        assert all(path.exists() for path in files.all if path not in files.spent) and not list(tmp_path.glob("*cat-*"))
    assert 0 <= disk_bytes(points, mini_world) - most < 8000 and copies(tmp_path) > 0
    assert disk_bytes([Point("cascade", 4), Point("cascade", 1)], mini_world) == sum(
        mini_world.teacher_path(effect).stat().st_size for effect in ("sepia", "upside_down")
    )
    assert disk_bytes([Point("base", 0), Point("collection", 2), Point("cascade", 2)], mini_world) == 0


def copies(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("copy-*"))


def test_a_pool_that_does_not_fit_is_refused_before_anything_is_made(small, mini_world, tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    out, free = tmp_path / "out", [1000]
    monkeypatch.setattr("clbench.memory.disk.shutil.disk_usage", lambda path: SimpleNamespace(free=free[0]))
    needed = disk_bytes([Point("cascade", 3)], mini_world)
    with pytest.raises(ClbenchError, match=r"take up to .* in .*out while points are measured, and 1,?000 B are free there"):
        small()
    assert list(out.iterdir()) == []
    with pytest.raises(ClbenchError, match="choose an --out on another disk"):
        foresee(mini_world, load_memory_suite("memory"), tmp_path / "not" / "there")
    free[0] = needed
    assert require_room([Point("cascade", 3)], mini_world, out) == needed
    assert small()[0].status == "complete"
    assert "take up to" in capsys.readouterr().err and small()[1] == [] and capsys.readouterr().err == ""


def test_the_meter_sees_what_is_allocated():
    import numpy as np

    meter = Meter("cpu")
    before = meter.held()
    block = np.ones(64 << 20, dtype=np.uint8)
    assert meter.peak() - before >= 60 << 20
    del block
    meter.start()
    if meter.how.startswith("the kernel"):
        assert meter.peak() < before + (60 << 20)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_the_meter_looks_at_the_gpu_that_is_used(monkeypatch, device):
    """Not at the first one, where another process may be at work."""
    import torch

    asked = []
    for name in ("synchronize", "memory_allocated", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None, name=name: asked.append((name, device)) or 7)
    meter = Meter(device)
    assert (meter.held(), meter.peak()) == (7, 7)
    assert [name for name, _ in asked] == ["reset_peak_memory_stats", "synchronize", "memory_allocated", "max_memory_allocated"]
    assert {where for _, where in asked} == {torch.device(device)}


def test_missing_adapters_are_said_before_any_process(mini_world_file, tmp_path):
    (tmp_path / "accelerator.safetensors").unlink()
    done = CliRunner().invoke(app, ["eval", "--suite", "memory", "--world", str(mini_world_file), "--out", str(tmp_path / "o")])
    assert done.exit_code == 2 and "accelerator LoRA not found" in done.stderr


@pytest.mark.parametrize("line", ["steps = 1", "weight = 0.5", "teacher_weight = 0.5"])
def test_measurements_of_other_weights_or_steps_are_other_ones(mini_world_file, line):
    """The world's hash leaves them out, since no picture of other systems depends on them."""
    suite, text = load_memory_suite("memory"), mini_world_file.read_text()
    key = describe(load_world(mini_world_file), suite).key
    assert describe(load_world(mini_world_file), suite).key == key
    mini_world_file.write_text(text.replace("[accelerator]\n", f"[accelerator]\n{line}\n"))
    assert describe(load_world(mini_world_file), suite).key != key


def test_a_file_just_written_is_on_the_disk_before_it_is_forgotten(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda number: done.append("written"))
    monkeypatch.setattr(os, "posix_fadvise", lambda *about: done.append("forgotten"), raising=False)
    (tmp_path / "copy").write_bytes(b"factors")
    drop_cached(tmp_path / "copy")
    assert done == ["written", "forgotten"]


@pytest.mark.slow
def test_eval_measures_resumes_and_foretells(mini_world_file, tmp_path, monkeypatch):
    suite, out = tmp_path / "small.toml", tmp_path / "out"
    suite.write_text(
        'kind = "memory"\nname = "small"\nquestion = "q?"\neffects = [3]\nsystems = ["cascade"]\n'
        'policies = ["all", "disk"]\nslots = 1\nqueries = 8\nrepeats = 1\n'
    )
    command = ["eval", "--suite", str(suite), "--world", str(mini_world_file), "--out", str(out)]
    from clbench.memory import measure as program

    real, asked = program.run_probe, []

    def stopped_at_the_last(request):
        asked.append(request)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(request)

    monkeypatch.setattr(program, "run_probe", stopped_at_the_last)
    assert CliRunner().invoke(app, command).exit_code == 130
    assert read_memory(out).status == "running" and len(read_memory(out).points()) == 2
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.split()[-3:]] == ["memory.json", "report.html", "report.md"]
    found = read_memory(out)
    assert found.status == "complete" and len(asked) == 4 and not list(out.glob(".pool-*"))
    for point in found.points():
        for exact in ("tensor_bytes", "factor_bytes"):
            row = found.find(point, exact)
            assert row.median == row.predicted
    for point in found.points()[1:]:
        assert abs(found.find(point, "peak_bytes").error) <= 0.05
    monkeypatch.setattr(program, "run_probe", lambda request: {"failed": "no memory"})
    done = CliRunner().invoke(app, [*command, "--overwrite"])
    rows = {row.quantity: row for row in read_memory(out).rows if row.system == "cascade"}
    assert rows["peak_bytes"].status == "failed" and rows["peak_bytes"].reason == "no memory"
    assert rows["disk_bytes"].status == "ok"


def test_adapters_that_cannot_be_foretold_are_refused_before_anything_is_measured(mini_world):
    from clbench.memory.measure import describe
    from clbench.memory.suite import load_memory_suite

    file = mini_world.teacher_path("sepia")
    tensors, info = load_tensors(describe_adapter(file)), describe_adapter(file)
    mixed = {name: tensor.half() if ".lora_A." in name else tensor.float() for name, tensor in tensors.items()}
    rank = info.rank
    save_adapter(file, mixed, {"r": rank, "lora_alpha": rank, "target_modules": sorted(info.modules)})
    with pytest.raises(ClbenchError, match=r"sepia.*holds factors of dtype F16, F32"):
        describe(mini_world, load_memory_suite("memory"))


def test_rounded_products_leave_the_bytes_of_adapters_as_they_are(mini_world, tmp_path):
    """Products in bfloat16 are no dtype that factors could have."""
    from clbench.memory.measure import measure as measured
    from clbench.memory.suite import load_memory_suite

    backbone = mini_world.backbone.model_copy(update={"fast_products": True})
    world = type(mini_world)(mini_world.file, mini_world.table.model_copy(update={"backbone": backbone}))
    suite = load_memory_suite("memory").model_copy(update={"effects": (1,), "systems": ("cascade",), "policies": ("all",)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.memory.measure.run_probe", lambda request: {"failed": "not asked for"})
        found = measured(world, suite, tmp_path, lambda *words: None)
    assert found.status == "running" and found.find(Point("cascade", 1), "tensor_bytes").median > 0


def answered(device: str = "cpu", threads: int = 2, peak: int = 100) -> dict:
    """What a process may answer."""
    return {
        "factor_bytes": 1, "resident_bytes": 90, "peak_bytes": peak, "open_seconds": 1.0, "load_seconds": 1.0,
        "first_picture_seconds": 1.0, "edit_seconds": 1.0, "queries": 8, "switches": [0.1], "swaps": [0.2], "device": device,
        "threads": threads, "peak_by": "a meter",
    }  # fmt: skip


@pytest.fixture
def small(mini_world, tmp_path, monkeypatch):
    """Measure base, cascade-1, cascade-3 and the collection, each answered by `answers` of its (system, effects)."""
    from clbench.memory import measure as program
    from clbench.memory.suite import load_memory_suite

    change = {"effects": (1, 3), "systems": ("cascade", "collection"), "policies": ("all",), "repeats": 1}
    suite, asked = load_memory_suite("memory").model_copy(update=change), []

    def run(answers=lambda parts: answered(), **options):
        asked.clear()

        def probe(request):
            asked.append(len(request.parts))
            return answers(len(request.parts))

        monkeypatch.setattr(program, "run_probe", probe)
        return program.measure(mini_world, suite, tmp_path / "out", lambda *words: None, **options), list(asked)

    return run


def test_a_point_that_failed_is_tried_again(small):
    found, _ = small(lambda parts: {"failed": "no memory"} if parts == 3 else answered())
    assert found.status == "running" and found.failed() == [Point("cascade", 3)]
    order = found.points()
    found, asked = small()
    assert asked == [3] and found.status == "complete" and found.points() == order and not found.failed()
    assert found.find(Point("cascade", 3), "peak_bytes").predicted is not None
    assert small()[1] == []


def test_all_is_measured_again_where_the_base_failed(small):
    """What was foretold of memory stands on it."""
    found, _ = small(lambda parts: answered() if parts else {"failed": "killed"})
    assert found.find(Point("cascade", 1), "peak_bytes").predicted is None
    found, asked = small()
    assert asked == [0, 1, 3, 1] and found.find(Point("cascade", 1), "peak_bytes").predicted > 100


@pytest.mark.parametrize(
    ("other", "place"), [({"device": "cuda:0"}, "cuda:0 with 2 threads"), ({"threads": 1}, "cpu with 1 thread")]
)
def test_another_device_or_number_of_threads_is_not_mixed_in(small, tmp_path, other, place):
    small(lambda parts: {"failed": "no memory"} if parts == 3 else answered())
    before = (tmp_path / "out" / "memory.json").read_text()
    with pytest.raises(ClbenchError, match=f"was measured on cpu with 2 threads, and this process works on {place};"):
        small(lambda parts: answered(**other))
    assert (tmp_path / "out" / "memory.json").read_text() == before
    assert small(lambda parts: answered(**other), overwrite=True)[0].status == "complete"


def test_the_collection_stands_at_the_effects_that_it_holds(small, mini_world, tmp_path):
    """Its own, whoever says so; a file of an older clbench has it at the largest pool, and is mended."""
    from clbench.holds import Holds, holds
    from clbench.memory.record import write_memory

    assert holds(mini_world) == Holds(2, "it does not say; the world has so many")
    path = mini_world.candidate().path
    info = describe_adapter(path)
    metadata = {"r": info.rank, "lora_alpha": info.rank, "target_modules": sorted(info.modules)}
    save_adapter(path, load_tensors(info), metadata, {"clbench.effects": "sepia"})
    assert holds(mini_world) == Holds(1, "as its file says")
    told = "a collection adapter holds 1 effect (as its file says); more effects take further ones of its bytes"
    assert told in answer(Options(world=str(mini_world.file))).assumptions
    found, _ = small()
    assert found.holds == "as its file says" and found.points()[-1] == Point("collection", 1)
    old = [row.model_copy(update={"effects": 3}) if row.system == "collection" else row for row in found.rows]
    write_memory(found.model_copy(update={"rows": old, "holds": "", "schema_": 1}), tmp_path / "out")
    again, asked = small()
    assert again.points() == found.points() and asked == [1] and (again.holds, again.schema_) == ("as its file says", 2)
    named = [mini_world.table.candidates[0].model_copy(update={"effects": ("sepia", "upside_down")})]
    said = type(mini_world)(mini_world.file, mini_world.table.model_copy(update={"candidates": tuple(named)}))
    assert holds(said) == Holds(2, "as the world file says")


def test_a_probe_that_fails_says_why(mini_world, tmp_path):
    from clbench.memory.measure import run_probe

    broken = Path(tmp_path / "broken.safetensors")
    broken.write_bytes(b"no")
    files = Files((broken,), ())
    assert "broken.safetensors" in run_probe(request(mini_world, files))["failed"]


def test_other_adapters_are_not_mixed_in(mini_world, tmp_path):
    from clbench.memory.measure import describe
    from clbench.memory.suite import load_memory_suite

    suite = load_memory_suite("memory")
    before = describe(mini_world, suite).key
    file = mini_world.teacher_path("sepia")
    file.write_bytes(mini_world.teacher_path("upside_down").read_bytes())
    assert describe(mini_world, suite).key != before
    poorer = type(mini_world)(mini_world.file, mini_world.table.model_copy(update={"candidates": ()}))
    assert describe(poorer, suite).key != describe(mini_world, suite).key
