"""Options that spare memory: a training in small passes is the same training."""

from __future__ import annotations

import pytest
from mini_training import changed

from reference_trainer.logs import read_log
from reference_trainer.networks import Backbone
from reference_trainer.train import run


def test_a_collection_in_small_passes_is_the_same(shop_floor):
    """Passes of two rows, blocks computed again: logged numbers as in one pass, to 1e-3 (after updates they drift apart)."""
    world, recipe, out = shop_floor
    run("collection", recipe, world, None, out / "whole")
    small = changed(recipe, "collection", rows=2, checkpoint_blocks=True)
    run("collection", small, world, None, out / "small")
    whole, cut = (read_log(out / name / "collection" / "log.jsonl") for name in ("whole", "small"))
    for mine, other in zip(whole, cut, strict=True):
        numbers = {key for key in mine if key.startswith(("loss/", "grad/", "score/"))}
        assert {key: other[key] for key in numbers} == pytest.approx({key: mine[key] for key in numbers}, rel=1e-3)
    before = (out / "whole" / "collection.safetensors").stat().st_mtime_ns
    run("collection", small, world, None, out / "whole")  # finished, whatever its passes
    assert (out / "whole" / "collection.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("stage", ["teachers", "joint"])
def test_pairs_in_small_passes_are_the_same(shop_floor, monkeypatch, stage):
    """Passes of at most two rows of a batch of five, as above; no pass holds more."""
    world, recipe, out = shop_floor
    recipe = changed(recipe, stage, batch=5)
    small, sizes, predict = changed(recipe, stage, rows=2, checkpoint_blocks=True), [], Backbone._forward

    def look(self, inputs, groups):
        sizes.append(len(inputs))
        return predict(self, inputs, groups)

    run(stage, recipe, world, ["sepia"], out / "whole")
    monkeypatch.setattr(Backbone, "_forward", look)
    run(stage, small, world, ["sepia"], out / "small")
    assert set(sizes) == {1, 2}
    log = "joint/log.jsonl" if stage == "joint" else "teachers/work/sepia/log.jsonl"
    whole, cut = (read_log(out / name / log) for name in ("whole", "small"))
    for mine, other in zip(whole, cut, strict=True):
        numbers = {key for key in mine if key.startswith(("loss/", "grad/"))}
        assert len(numbers) == 2
        assert {key: other[key] for key in numbers} == pytest.approx({key: mine[key] for key in numbers}, rel=1e-3)
    run(stage, small, world, ["sepia"], out / "whole")  # finished, whatever its passes
    assert len(read_log(out / "whole" / log)) == 4
