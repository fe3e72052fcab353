"""Gauges: planted doses are read back, and a reading leaves training alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from mini_training import changed
from safetensors.torch import load_file

from reference_trainer import held_out
from reference_trainer.config import HabitsTable
from reference_trainer.gauges import Gauges, contrast, doses, readings
from reference_trainer.logs import read_log
from reference_trainer.prompting import Prompts
from reference_trainer.train import Extend, run


def directions(count: int, alike: float) -> torch.Tensor:
    """Directions of different lengths whose cosines are about `alike`."""
    g = torch.Generator().manual_seed(0)
    own, common = torch.randn(count, 600, generator=g), torch.randn(600, generator=g)
    return (own * (1 - alike) ** 0.5 + common * alike**0.5) * torch.linspace(0.3, 3, count)[:, None]


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.8])
def test_planted_doses_are_read_back(alike):
    d = directions(6, alike)
    planted = torch.eye(6) * 0.7
    planted[2, 4], planted[5, 5], planted[3, 0] = 0.4, 0.0, -0.2
    noise = torch.randn(6, 600, generator=torch.Generator().manual_seed(1)) * 0.01
    assert torch.allclose(doses(planted @ d + noise, d), planted.double(), atol=0.06)


def test_the_source_reads_0_and_the_teacher_reads_1():
    d = directions(4, 0.3)
    assert float(doses(torch.zeros(4, 600), d).abs().max()) == 0
    assert torch.allclose(doses(d, d), torch.eye(4).double(), atol=0.01)


def test_two_effects_that_do_the_same_share_a_dose_and_none_explodes():
    d = directions(3, 0.2)
    d[1] = d[0] + 1e-4 * torch.randn(600, generator=torch.Generator().manual_seed(2))
    found = doses(d, d)
    assert found[0, 0] == pytest.approx(0.5, abs=0.02) and found[0, 1] == pytest.approx(0.5, abs=0.02)
    assert float(found.abs().max()) < 1.1


def test_a_teacher_that_changes_nothing_cannot_be_read():
    d = directions(3, 0.0)
    d[1] = 0
    found = doses(d, d)
    assert found[:, 1].isnan().all() and torch.allclose(found[0, [0, 2]], torch.tensor([1.0, 0.0]).double(), atol=0.01)
    logs = readings(["a", "b", "c"], found)
    assert {name for name in logs if name.endswith("/b")} == set() and logs["gauge/present_share"] == 1


def test_contrast_is_the_spread_within_pictures_over_the_teachers():
    targets = torch.randn(3, 2, 16, 4, generator=torch.Generator().manual_seed(0)) + 5
    mean = targets.mean(2, keepdim=True)
    assert contrast(targets, targets)["gauge/contrast"] == pytest.approx(1)
    assert contrast(mean + 1.2 * (targets - mean) - 3, targets)["gauge/contrast"] == pytest.approx(1.2), "brightness is not part"
    by_effect = torch.tensor([2.0, 0.5, 1.0])[:, None, None, None]
    assert contrast(mean + by_effect * (targets - mean), targets)["gauge/contrast"] == pytest.approx(1)
    flat = torch.cat([torch.full((1, 2, 16, 4), 5.0), targets[1:]])
    assert contrast(targets, flat)["gauge/contrast"] == pytest.approx(1), "a flat target has no contrast to compare with"
    assert contrast(flat[:1], flat[:1]) == {}


def test_what_the_log_says():
    found = torch.tensor([[0.9, 0.1, -0.5], [0.3, 0.5, 0.0], [0.0, 0.25, 0.1]])
    logs = readings(["a", "b", "c"], found)
    assert logs == pytest.approx(
        {
            "gauge/present/a": 0.9, "gauge/present/b": 0.5, "gauge/present/c": 0.1,
            "gauge/bleeding/a": 0.1, "gauge/bleeding/b": 0.3, "gauge/bleeding/c": 0.25,
            "gauge/present_share": 2 / 3, "gauge/bleeding_share": 2 / 3,
        }
    )  # fmt: skip
    assert readings(["a"], torch.tensor([[0.4]])) == pytest.approx({"gauge/present/a": 0.4, "gauge/present_share": 0.0})


def test_planted_pictures_on_several_scenes(monkeypatch):
    """Asked for a: a and a third of b; asked for b: nothing."""
    g = torch.Generator().manual_seed(0)
    scenes = torch.randn(3, 4, 8, generator=g)
    change = torch.randn(2, 3, 4, 8, generator=g)
    empty = Prompts(torch.zeros(2, 1, 1), torch.zeros(2, 1))
    gauges = Gauges(None, ["a", "b"], empty, scenes, scenes + change)  # type: ignore[arg-type]
    made = torch.stack([scenes + change[0] + change[1] / 3, scenes])
    monkeypatch.setattr(Gauges, "_pictures", lambda self: made)
    logs = gauges.read()
    assert logs["gauge/present/a"] == pytest.approx(1, abs=0.01) and logs["gauge/bleeding/a"] == pytest.approx(1 / 3, abs=0.01)
    assert logs["gauge/present/b"] == pytest.approx(0) and logs["gauge/bleeding_share"] == 0.5
    with pytest.raises(RuntimeError):
        replace(gauges, targets=change[:, :2]).read()  # scenes and targets must belong together


def test_a_reading_stands_in_the_log_leaves_training_alone_and_sees_no_evaluation_source(shop_floor, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    world, recipe, out = shop_floor
    habits = HabitsTable(checkpoint_every=2, sheet_every=4, sheet_rows=2, gauge_every=2, gauge_scenes=3)
    held_out.measured_pictures(world)  # training pictures are held against evaluation sources: that once they are opened
    monkeypatch.setattr(type(world), "source_image", lambda *_: pytest.fail("an evaluation source was opened"))
    (quiet,) = run("collection", recipe, world, None, out / "quiet")
    (gauged,) = run("collection", changed(recipe, "collection", habits=habits), world, None, out / "gauged")
    before, after = load_file(quiet), load_file(gauged)
    assert all(torch.equal(before[key], after[key]) for key in before)
    lines = read_log(gauged.with_suffix("") / "log.jsonl")
    names = {f"gauge/{what}/{effect}" for what in ("present", "bleeding") for effect in ("sepia", "upside_down")}
    assert [names <= set(line) for line in lines] == [False, True, False, True]
    assert all(math.isfinite(lines[1][name]) for name in names)
    board = EventAccumulator(str(gauged.with_suffix("") / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("gauge/present/sepia")] == [1, 3]


def test_an_extension_reads_old_and_new_effects(shop_floor):
    world, recipe, out = shop_floor
    (start,) = run("collection", recipe, world, ["sepia"], out / "start")
    habits = HabitsTable(sheet_rows=2, gauge_every=2, tensorboard=False)
    config = changed(recipe, "extension", habits=habits, updates=2, replay=0.0)
    (path,) = run("collection", config, world, ["upside_down"], out, extend=Extend(start))
    assert {"gauge/present/sepia", "gauge/present/upside_down"} <= set(read_log(path.with_suffix("") / "log.jsonl")[1])
