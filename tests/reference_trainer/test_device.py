"""Training elsewhere than on the CPU: on CUDA where there is one, and always on a pretended device with CUDA's rules."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from mini_training import changed, interrupted
from pretend_device import ELSEWHERE, nothing_pretended, pretended_device
from safetensors.torch import load_file

from clbench.backbones.common import open_pipeline
from clbench.world import load_world
from reference_trainer import lora_forward
from reference_trainer.dice import Dice
from reference_trainer.logs import read_log
from reference_trainer.optim import PretrainLearner
from reference_trainer.prompting import PromptCache, Prompts
from reference_trainer.streams import Replay, Router, Stream, kinds_of
from reference_trainer.train import Extend, run
from reference_trainer.workshop import Workshop

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"))


@pytest.fixture(params=["pretended", CUDA])
def device(request, monkeypatch):
    """A device that is not the CPU, by name."""
    if request.param == "cuda":
        yield "cuda"
        return
    from peft.tuners.lora import LoraLayer

    def beside_its_layer(layer, name, device=None):  # peft's own leaves what is on "meta" where it is, and its neighbours
        for table in (layer.lora_A, layer.lora_B):
            if name in table:
                table[name].to(layer.get_base_layer().weight.device)

    def loaded(*what):
        with nothing_pretended():
            return open_pipeline(*what)

    autocast = torch.autocast
    monkeypatch.setattr(LoraLayer, "_move_adapter_to_device_of_base_layer", beside_its_layer)
    monkeypatch.setattr("reference_trainer.workshop.open_pipeline", loaded)
    monkeypatch.setattr("reference_trainer.workshop.pick_device", lambda written: str(ELSEWHERE))
    monkeypatch.setattr(torch, "autocast", lambda device, **how: nullcontext() if device == "meta" else autocast(device, **how))
    with pretended_device():
        yield str(ELSEWHERE)


@pytest.fixture
def floor_elsewhere(shop_floor, device):
    """`shop_floor` whose world asks for the device, with gauges."""
    world, recipe, out = shop_floor
    if device == "cuda":
        world.file.write_text(world.file.read_text().replace('device = "cpu"', 'device = "cuda"'))
        world = load_world(world.file)
    habits = recipe.collection.habits.model_copy(update={"gauge_every": 2, "gauge_scenes": 1})
    return world, changed(recipe, "collection", habits=habits), out


@pytest.mark.parametrize("stage", ["teachers", "accelerator", "collection", "joint", "extension"])
def test_every_stage_trains_and_resumes(floor_elsewhere, stage):
    """Killed behind the checkpoint of update 2 and finished by the same command, it ends as an uninterrupted run does."""
    world, recipe, out = floor_elsewhere
    extend, effects, file = None, None, "teachers/sepia" if stage == "teachers" else stage
    if stage == "extension":
        (origin,) = run("collection", changed(recipe, "collection", updates=1), world, ["sepia"], out / "first")
        stage, extend, effects = "collection", Extend(origin), ["upside_down"]
    run(stage, recipe, world, effects, out / "whole", extend=extend)
    interrupted(stage, recipe, world, out / "killed", 3, effects, extend)
    run(stage, recipe, world, effects, out / "killed", extend=extend)
    whole, resumed = (load_file(out / name / f"{file}.safetensors") for name in ("whole", "killed"))
    assert any(float(t.abs().sum()) > 0 for key, t in whole.items() if "lora_B" in key)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-3, atol=1e-5)
    if file == "collection":
        last = read_log(out / "whole" / "collection" / "log.jsonl")[-1]
        assert math.isfinite(last["gauge/present_share"]) and math.isfinite(last["gauge/bleeding_share"])


def test_what_a_training_draws_from_rests_on_the_cpu_and_a_batch_does_not(floor_elsewhere, device, monkeypatch):
    """At real size thousands of latents and hundreds of prompts would fill the device."""
    world, recipe, out = floor_elsewhere
    routers = []

    class Watched(Router):
        def __post_init__(self):
            super().__post_init__()
            routers.append(self)

    monkeypatch.setattr("reference_trainer.collection.Router", Watched)
    run("collection", changed(recipe, "collection", updates=1), world, ["sepia"], out / "here")
    (router,) = routers
    for stream in (router.effects, router.general):
        prompts = [p for each in (stream.teacher_prompts, stream.student_prompts) for p in (each.tokens, each.pooled)]
        held = [stream.source, stream.kind, *prompts, *([] if stream.target is None else [stream.target])]
        assert {tensor.device.type for tensor in held} == {"cpu"}
    batch = router.draw(Dice.seeded(0, device), 0, 2)
    prompts = [p for each in (batch.teacher_prompts, batch.student_prompts) for p in (each.tokens, each.pooled)]
    assert {tensor.device.type for tensor in (batch.source, batch.target, batch.has_target, *prompts)} == {device}


@pytest.mark.parametrize("routing", ["sample", "batch", "every-20"])
def test_every_routing_gives_the_batch_of_the_cpu(device, routing):
    def drawn(where):
        source = torch.arange(36.0).view(6, 2, 3).to(where)
        prompts = Prompts(torch.ones(3, 4, 5, device=where), torch.ones(3, 5, device=where))
        kind = kinds_of([1, 2, 3], source.device)
        effects = Stream(source, source + 1, kind, ["a", "b", "c"], ["a", "b", "c"], prompts, prompts)
        general = Stream(-source, None, kind, [None] * 3, ["general"] * 3, prompts, prompts)
        router = Router(Replay(effects, replace(effects, source=source + 9), 0.5), general, 0.5, routing, 0)
        return [router.draw(Dice.seeded(update, where), update, 8) for update in range(0, 60, 20)]

    for here, there in zip(drawn("cpu"), drawn(device), strict=True):
        assert {t.device.type for t in (there.source, there.target, there.has_target)} == {device}
        assert there.names == here.names and torch.equal(there.source.cpu(), here.source)
        assert torch.equal(there.has_target.cpu(), here.has_target)


def test_teachers_that_rest_on_the_cpu_are_fetched_for_each_pass(floor_elsewhere, device, monkeypatch):
    world, recipe, out = floor_elsewhere
    seen, factors = set(), lora_forward._factors

    def look(layer, adapter):
        resting = {table[adapter].weight.device.type for table in (layer.lora_A, layer.lora_B)}
        made = factors(layer, adapter)
        seen.add((adapter[:7], *resting, *{tensor.device.type for tensor in made}))
        return made

    monkeypatch.setattr(lora_forward, "_factors", look)
    made = []
    for where in ("device", "cpu"):
        seen.clear()
        own = changed(recipe, "collection", lora_forward="low-rank", teachers_on=where)
        made.append(load_file(run("collection", own, world, ["sepia"], out / where)[0]))
        resting = set() if where == "device" else {("teacher", "cpu", device)}  # in passes of mixed rows
        at_hand = {("teacher", device, device)}  # while its outputs are stored
        assert seen == resting | at_hand | {("student", device, device), ("fake_sc", device, device)}
    for key, value in made[0].items():
        torch.testing.assert_close(made[1][key], value, rtol=1e-3, atol=1e-5)


def test_pretraining_goes_on_from_tensors_on_the_cpu(device):
    layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)).to(device)
    learner = PretrainLearner({"m": layers}, 0.1, 0.1, ema=0.5)
    moments = {f"adam/{part}/{name}": torch.ones(3) for part in ("exp_avg", "exp_avg_sq") for name in learner.rest}
    steps = {f"adam/step/{name}": torch.tensor(1.0) for name in learner.rest}
    learner.restore({key: value.cpu() for key, value in learner.tensors().items()} | moments | steps)
    assert {value.device.type for value in (*learner.average.values(), *learner.muon.buffers.values())} == {device}
    for parameter in learner.rest.values():
        places = {part: value.device.type for part, value in learner.adam.state[parameter].items()}
        assert places == {"exp_avg": device, "exp_avg_sq": device, "step": "cpu"}


def test_text_encoders_are_on_the_device_only_while_they_work(floor_elsewhere, device, monkeypatch):
    shop, seen = Workshop(floor_elsewhere[0]), []
    encode = PromptCache._encode

    def look(cache, text):
        seen.append((text, shop.pipe.text_encoder.device.type, shop.pipe.text_encoder_2.device.type))
        return encode(cache, text)

    monkeypatch.setattr(PromptCache, "_encode", look)
    prompts = shop.prompts.many(["make it blue", "make it red", "make it blue"])
    assert seen == [("make it blue", device, device), ("make it red", device, device)]
    assert prompts.tokens.device.type == prompts.pooled.device.type == "cpu"
    assert shop.pipe.text_encoder.device.type == shop.pipe.text_encoder_2.device.type == "cpu"
    assert shop.device.type == shop.pipe.vae.device.type == device
