"""Training over a backbone that the world holds in bfloat16: half the memory of what is frozen, nothing trained in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mini_training import changed, interrupted
from PIL import Image
from safetensors.torch import load_file

from clbench.adapters import describe_adapter, load_tensors
from clbench.hashing import tree_digest
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.world import World, load_world
from reference_trainer.ahead import check_ahead
from reference_trainer.logs import read_log
from reference_trainer.networks import Backbone, told_times
from reference_trainer.predicting import STUDENT
from reference_trainer.recipe import load_recipe, with_pairs
from reference_trainer.room import weight_bytes
from reference_trainer.train import Extend, run
from reference_trainer.workshop import Workshop

STAGES = ("teachers", "accelerator", "collection", "joint", "extension")


def held_in(world: World, dtype: str) -> World:
    backbone = world.table.backbone.model_copy(update={"dtype": dtype})
    return World(world.file, world.table.model_copy(update={"backbone": backbone}))


def rounded(recipe):
    """The recipe with matrix products in bfloat16 and adapters apart in every stage."""
    for stage in STAGES:
        recipe = changed(recipe, stage, precision="bfloat16", lora_forward="low-rank")
    return recipe


@pytest.fixture
def half_floor(shop_floor):
    """`shop_floor` whose world holds its weights in bfloat16, and whose recipe multiplies so."""
    world, recipe, out = shop_floor
    return held_in(world, "bfloat16"), rounded(recipe), out


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_near_float32_weights_and_resumes(shop_floor, half_floor, stage):
    world, recipe, out = half_floor
    extend, effects, file, command = None, None, "teachers/sepia" if stage == "teachers" else stage, stage
    if stage == "extension":
        (origin,) = run("collection", recipe, world, ["sepia"], out / "first")
        command, extend, effects = "collection", Extend(origin), ["upside_down"]
    for held, name in ((shop_floor[0], "whole"), (world, "half")):
        run(command, recipe, held, effects, out / name, extend=extend)
    interrupted(command, recipe, world, out / "killed", 3, effects, extend)
    run(command, recipe, world, effects, out / "killed", extend=extend)
    whole, half, killed = (load_file(out / name / f"{file}.safetensors") for name in ("whole", "half", "killed"))
    assert set(half) == set(killed) and all(torch.equal(half[key], killed[key]) for key in half)
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    assert any(not torch.equal(half[key], whole[key]) for key in half), "rounded weights make another training"
    log = "teachers/work/sepia" if stage == "teachers" else stage
    first, near = (read_log(out / name / log / "log.jsonl")[0] for name in ("whole", "half"))
    losses = [key for key in first if key.startswith("loss/")]
    assert losses and all(near[key] == pytest.approx(first[key], rel=0.05, abs=0.01) for key in losses)


def test_what_is_frozen_takes_half_and_what_is_trained_is_whole(half_floor, shop_floor, lora_files):
    shop, whole = Workshop(half_floor[0]), Workshop(shop_floor[0])
    assert weight_bytes(whole.pipe.transformer) == 2 * weight_bytes(shop.pipe.transformer)
    assert shop.digest != whole.digest, "stored outputs of one are not those of the other"
    backbone = shop.backbone("low-rank", "bfloat16")
    backbone.add_new(STUDENT, 2, 4.0, "all", torch.Generator().manual_seed(0))
    backbone.add_frozen("teacher_0000", lora_files["sepia"])
    assert dtypes(backbone, STUDENT) == {torch.float32} and dtypes(backbone, "teacher_0000") == {torch.bfloat16}
    prompt = shop.prompts.one("make it blue")
    latent = shop.space.encode([np.zeros((32, 32, 3), np.uint8)])
    assert {prompt.tokens.dtype, prompt.pooled.dtype} == {torch.bfloat16}, "at rest prompts are as their encoders make them"
    seen = prompt.to("cpu")
    assert {seen.tokens.dtype, seen.pooled.dtype, latent.dtype} == {torch.float32}


def test_times_are_told_as_the_stock_pipeline_tells_them(half_floor):
    """In bfloat16 it rounds 1000 t and then the quotient, so that .9545 becomes .957."""
    shop, seen = Workshop(half_floor[0]), []
    transformer, forward = shop.pipe.transformer, shop.pipe.transformer.forward

    def look(**given):
        seen.append(given["timestep"][0])
        return forward(**given)

    transformer.forward = look
    with torch.inference_mode():
        shop.pipe(
            image=Image.new("RGB", (32, 32)), prompt="make it blue", num_inference_steps=8, height=32,
            width=32, max_area=32 * 32, _auto_resize=False, max_sequence_length=12, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    sigmas = shop.pipe.scheduler.sigmas[:-1]
    assert len(seen) == len(sigmas) == 8
    assert torch.equal(torch.stack(seen), told_times(sigmas, torch.bfloat16)), (seen, sigmas)
    assert torch.equal(told_times(sigmas, torch.float32), sigmas)


def dtypes(backbone: Backbone, name: str) -> set[torch.dtype]:
    return {parameter.dtype for parameter in backbone.parameters(name).values()}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("key", "wrong", "right"), [("precision", "float32", "bfloat16"), ("lora_forward", "merged", "low-rank")]
)
def test_what_loses_the_training_is_refused_before_anything_is_opened(half_floor, monkeypatch, stage, key, wrong, right):
    world, recipe, out = half_floor
    extend = Extend(run("collection", recipe, world, ["sepia"], out / "first")[0]) if stage == "extension" else None
    monkeypatch.setattr("reference_trainer.train.Workshop", None)
    other = changed(recipe, stage, **{key: wrong})
    said = rf"holds weights in bfloat16, but \[{stage}\] {key} of the recipe is '{wrong}': make it '{right}', or dtype"
    with pytest.raises(ClbenchError, match=said):
        run("collection" if extend else stage, other, world, ["upside_down"] if extend else None, out, extend=extend)
    if stage in ("accelerator", "collection"):
        with pytest.raises(ClbenchError, match=said):
            check_ahead(other, world, None, out)


def test_float16_is_refused(shop_floor):
    world, recipe, out = shop_floor
    with pytest.raises(ClbenchError, match=r"world\.toml holds weights in float16, in which training overflows"):
        run("teachers", recipe, held_in(world, "float16"), None, out)


def test_stored_outputs_of_a_float32_world_keep_their_names():
    """They were made before weights could be anything else, so the dtype is no part of what they are known by."""
    shop = Workshop(load_world("tiny"))
    table = shop.world.backbone
    parts = [tree_digest(shop.folder), table.negative_prompt, table.max_sequence_length, table.embedded_guidance]
    assert shop.digest == hash_value(parts)


def test_the_published_recipe_trains_a_world_in_bfloat16(half_floor, tmp_path):
    """Every stage of it, with nothing changed but how much and on what."""
    world, _, out = half_floor
    recipe = with_pairs(load_recipe("paper"), tmp_path / "pairs")
    less = {"updates": 1, "batch": 2, "pictures": str(tmp_path / "distil"), "general_sources": 4}
    effects = less | {"effect_sources": 2, "p_switch": 1.0}  # else one update may draw the general stream alone
    for stage, settings in (("accelerator", less), ("collection", effects), ("extension", effects)):
        recipe = changed(recipe, stage, **settings)
    for stage in ("teachers", "joint"):
        recipe = changed(recipe, stage, updates=1, batch=2)
    for stage in ("teachers", "joint", "accelerator"):
        run(stage, recipe, world, None, out)
    (origin,) = run("collection", recipe, world, ["sepia"], out)
    (made,) = run("collection", recipe, world, ["upside_down"], out, extend=Extend(origin))
    info = describe_adapter(made)
    assert set(info.ranks.values()) == {128} and info.header["clbench.steps"] == "8"
    assert {tensor.dtype for tensor in load_tensors(info).values()} == {torch.bfloat16}
    (logged,) = read_log(out / "collection" / "log.jsonl")
    assert {"loss/ta_fm", "loss/dmd_ts", "loss/dmd_bs"} <= set(logged)


def test_finished_teachers_leave_no_checkpoints(shop_floor):
    world, recipe, out = shop_floor
    run("teachers", recipe, world, ["sepia"], out)
    assert not (out / "teachers" / "work" / "sepia" / "checkpoints").exists()
    assert run("teachers", recipe, world, ["sepia"], out) == [out / "teachers" / "sepia.safetensors"], "it is known as finished"
