"""`checkpoint_blocks` spares memory only if blocks really are computed again: the numbers are the same without."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from mini_training import Stop, changed

from reference_trainer.networks import Backbone
from reference_trainer.train import Extend, run
from reference_trainer.workshop import Workshop


def counted_calls(backbone: Backbone) -> Counter[str]:
    """How often each block will have been called from now on; before its work, which a second call may cut short."""
    calls: Counter[str] = Counter()
    for kind in ("transformer_blocks", "single_transformer_blocks"):
        for index, block in enumerate(getattr(backbone.transformer, kind)):
            calls[f"{kind}.{index}"] = 0
            block.register_forward_pre_hook(lambda *_, name=f"{kind}.{index}": calls.update([name]))
    assert len(calls) == 2, "the mini model has one block of each kind"
    return calls


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("through", ["backbone", "workshop"])
def test_blocks_are_computed_again_in_the_backward_pass(pipe, space, make_inputs, mini_world, again, through):
    if through == "backbone":
        backbone = Backbone(pipe.transformer, space.ids(), 12, checkpoint_blocks=again)
    else:
        backbone = Workshop(mini_world).backbone("merged", checkpoint=again)
    backbone.add_new("student", 4, 8, "all", torch.Generator().manual_seed(0))
    calls, inputs = counted_calls(backbone), make_inputs(2)
    loss = backbone.predict(inputs, "student").square().mean()
    assert set(calls.values()) == {1}
    loss.backward()
    assert set(calls.values()) == {2 if again else 1}
    with torch.no_grad():  # nothing is kept there, so nothing is to be spared
        backbone.predict(inputs, "student")
    assert set(calls.values()) == {3 if again else 2}


@pytest.mark.parametrize("stage", ["teachers", "accelerator", "collection", "extension", "joint"])
def test_each_stage_hands_its_recipe_s_options_on(shop_floor, monkeypatch, stage):
    """A recipe's four options of how passes compute reach the backbone; logs and weights hardly tell."""
    world, recipe, out = shop_floor
    extend = None
    if stage == "extension":
        short = changed(recipe, "collection", updates=1, warm_start=0)
        extend = Extend(run("collection", short, world, ["sepia"], out / "start")[0])
    asked = []

    def backbone(self, lora_forward, precision="float32", rows=None, checkpoint=False):
        asked.append([lora_forward, precision, rows, checkpoint])
        raise Stop

    monkeypatch.setattr(Workshop, "backbone", backbone)
    options = {"lora_forward": "low-rank", "precision": "bfloat16", "rows": 3, "checkpoint_blocks": True}
    command, effects = ("collection", ["upside_down"]) if stage == "extension" else (stage, None)
    with pytest.raises(Stop):
        run(command, changed(recipe, stage, **options), world, effects, out, extend=extend)
    assert asked == [list(options.values())]
