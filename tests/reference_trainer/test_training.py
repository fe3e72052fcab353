"""All stages on a user's own world: teachers, accelerator, collection, joint; resume, export, errors."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mini_parts import converter_of_width
from mini_training import Stop, changed, interrupted
from safetensors.torch import load_file

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.registry import ClbenchError
from clbench.world import World
from reference_trainer import distill
from reference_trainer.choice import teacher_files
from reference_trainer.config import LoraTable
from reference_trainer.dice import Dice
from reference_trainer.logs import read_log
from reference_trainer.objective import Objective
from reference_trainer.starts import check_sampling, tell_repeated
from reference_trainer.student_config import LossesTable
from reference_trainer.train import Extend, run


@pytest.mark.parametrize("stage", ["teachers", "accelerator", "collection", "joint"])
def test_resumed_run_ends_with_the_same_weights(shop_floor, stage):
    file = "teachers/sepia" if stage == "teachers" else stage
    world, recipe, out = shop_floor
    run(stage, recipe, world, None, out / "whole")
    interrupted(stage, recipe, world, out / "killed", after=3)
    assert not (out / "killed" / f"{file}.safetensors").exists()
    run(stage, recipe, world, None, out / "killed")
    whole, resumed = (load_file(out / name / f"{file}.safetensors") for name in ("whole", "killed"))
    assert set(whole) == set(resumed)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert any(float(t.abs().sum()) > 0 for key, t in whole.items() if "lora_B" in key)


def test_killed_at_any_write_a_collection_ends_with_the_same_weights(shop_floor, monkeypatch):
    """Each attempt dies one write of a file later than the one before it, just before or just after that file is in place.

    So targets, checkpoints and adapter are torn apart at every place, and each attempt starts from what the others left.
    """
    world, recipe, out = shop_floor
    (whole,) = run("collection", recipe, world, None, out / "whole")
    real, attempts, finished = os.replace, 0, []
    while not finished:
        attempts, left = attempts + 1, [attempts + 1]

        def replace(source, target, *, left=left, after=attempts % 2):
            left[0] -= 1
            if left[0] or after:
                real(source, target)
            if not left[0]:
                raise Stop

        monkeypatch.setattr(os, "replace", replace)
        try:
            finished = run("collection", recipe, world, None, out / "killed")
        except Stop:
            assert attempts < 40, "no attempt gets anywhere"
    first, second = load_file(whole), load_file(finished[0])
    assert attempts > 4 and set(first) == set(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_files_of_a_collection_and_what_its_header_says(shop_floor):
    from safetensors import safe_open

    world, recipe, out = shop_floor
    seen = []
    (path,) = run("collection", recipe, world, None, out, report=seen.append)
    work = out / "collection"
    assert [p.name for p in sorted((work / "sheets").iterdir())] == ["000000.png", "000004.png"]
    assert [line["update"] for line in read_log(work / "log.jsonl")] == [0, 1, 2, 3]
    logged = read_log(work / "log.jsonl")[-1]
    assert {"loss/dmd_bs", "loss/fake_score", "grad/student", "score/guidance", "score/matching", "seconds"} <= set(logged)
    assert {p.what for p in seen} == {"teacher outputs", "collection"}
    info = describe_adapter(path)
    assert info.rank == 4 and set(info.alphas.values()) == {8.0}
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["clbench.effects"] == "sepia upside_down" and header["clbench.steps"] == "2"


def test_a_finished_run_does_nothing_and_another_recipe_is_refused(shop_floor):
    world, recipe, out = shop_floor
    (path,) = run("accelerator", recipe, world, None, out)
    before = path.stat().st_mtime_ns
    run("accelerator", recipe, world, None, out)
    assert path.stat().st_mtime_ns == before
    other = changed(recipe, "accelerator", lr=1e-5)
    with pytest.raises(ClbenchError, match="made by another recipe"):
        run("accelerator", other, world, None, out)
    run("accelerator", other, world, None, out, resume=False)
    assert path.stat().st_mtime_ns != before


@pytest.mark.parametrize("stage", ["accelerator", "collection", "extension"])
def test_a_checkpoint_of_another_recipe_is_refused_before_outputs_are_made(shop_floor, monkeypatch, stage):
    from reference_trainer import targets

    world, recipe, out = shop_floor
    extend = None
    if stage == "extension":
        extend = Extend(run("collection", recipe, world, ["sepia"], out / "start")[0])
    asked = ("accelerator" if stage == "accelerator" else "collection", ["upside_down"] if extend else None)
    interrupted(asked[0], recipe, world, out, 3, asked[1], extend)
    other = changed(recipe, stage, target_steps=2, general_targets=True)
    with monkeypatch.context() as patched:
        patched.setattr(targets, "sample_teachers", None)
        with pytest.raises(ClbenchError, match=r"checkpoints.* was made by another recipe"):
            run(asked[0], other, world, asked[1], out, extend=extend)
    run(asked[0], other, world, asked[1], out, resume=False, extend=extend)


def test_stored_targets_are_made_once(shop_floor, monkeypatch):
    world, recipe, out = shop_floor
    run("collection", recipe, world, None, out)
    stored = sorted((out / "targets").iterdir())
    assert len(stored) == 2  # one file per effect
    from reference_trainer import targets

    monkeypatch.setattr(targets, "sample_teachers", None)  # a second making would fail
    run("collection", changed(recipe, "collection", lr=1e-5), world, None, out, resume=False)
    assert sorted((out / "targets").iterdir()) == stored


def stock_pipeline(flux_folder, file, caplog):
    """A stock FluxKontextPipeline with the LoRA file; diffusers must not speak of missing or unexpected keys."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline

    stock = FluxKontextPipeline.from_pretrained(flux_folder, local_files_only=True)
    logging.getLogger("diffusers").propagate = True
    with caplog.at_level(logging.WARNING, logger="diffusers"):
        stock.load_lora_weights(file)
    assert not [r.getMessage() for r in caplog.records if re.search("(unexpected|missing) keys", r.getMessage())]
    stock.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    stock.set_progress_bar_config(disable=True)
    return stock


def test_export_gives_the_same_pictures_in_the_stock_pipeline(shop_floor, flux_folder, caplog, monkeypatch, tmp_path):
    """load_lora_weights of stock diffusers, alpha = 2 rank: the same latents as the trainer's own sampler.

    And the pictures that `clbench eval` would judge, from the file as it is and from its exports. diffusers takes
    FLUX.1's width for granted in the original names, so its reader is given the mini model's.
    """
    from diffusers.loaders import lora_pipeline

    from clbench.adapters import describe_adapter
    from clbench.backbones import Job, Sampler, open_backbone
    from clbench.export import export_adapter
    from reference_trainer.rollout import simulate
    from reference_trainer.schedule import student_sigmas
    from reference_trainer.workshop import Workshop

    world, recipe, out = shop_floor
    (path,) = run("collection", changed(recipe, "collection", lr=0.05), world, None, out)
    shop = Workshop(world)
    backbone = shop.backbone("merged")
    backbone.add_frozen("student", path)
    picture = world.source_image("p0", 32)
    prompts = shop.prompts.one("<qx1> make it sepia")
    mine = simulate(
        backbone, student_sigmas(2), shop.space.encode([picture]), prompts, Dice(torch.Generator().manual_seed(3))
    ).predictions[-1]

    stock = stock_pipeline(flux_folder, path, caplog)
    applied = [name for name, _ in stock.transformer.named_parameters() if ".lora_" in name]
    assert len(applied) == len(load_file(path))  # every key applied, none left over
    torch.manual_seed(3)
    noise = torch.randn(1, *shop.space.shape)
    call = {
        "image": torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255, "prompt": "<qx1> make it sepia",
        "num_inference_steps": 2, "height": 32, "width": 32, "max_area": 1024, "_auto_resize": False, "max_sequence_length": 12,
    }  # fmt: skip
    theirs = stock(latents=noise, output_type="latent", **call).images
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

    judge = open_backbone(world)
    judge.use_adapters([(path, 1.0)])
    (judged,) = judge.sample([Job(picture, "<qx1> make it sepia", 7)], Sampler(steps=2, stochastic=True, shift=3.0))
    monkeypatch.setattr(lora_pipeline, "_convert_kohya_flux_lora_to_diffusers", converter_of_width(32))
    for format in ("diffusers", "comfyui", "kohya"):
        file = tmp_path / f"{format}.safetensors"
        export_adapter(describe_adapter(path), file, format)
        again = stock_pipeline(flux_folder, file, caplog)
        torch.manual_seed(7)
        shown = (again(output_type="np", **call).images[0] * 255).round()
        assert np.abs(shown - judged).max() <= 1, format


def test_teacher_overfits_its_pairs(shop_floor):
    world, recipe, out = shop_floor
    lively = changed(recipe, "teachers", updates=60, batch=8, lr=2e-2, prompt_dropout=0.0)
    run("teachers", lively, world, ["sepia"], out)
    losses = [line["loss/teacher"] for line in read_log(out / "teachers" / "work" / "sepia" / "log.jsonl")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_joint_learns_all_pairs_and_says_what_it_knows(shop_floor):
    from safetensors import safe_open

    world, recipe, out = shop_floor
    lively = changed(recipe, "joint", updates=60, batch=8, lr=2e-2, prompt_dropout=0.0)
    (path,) = run("joint", lively, world, None, out)
    losses = [line["loss/joint"] for line in read_log(out / "joint" / "log.jsonl")]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    with safe_open(path, "pt") as file:
        header = file.metadata()
    assert header["clbench.stage"] == "joint" and header["clbench.effects"] == "sepia upside_down"
    before = path.stat().st_mtime_ns
    run("joint", lively, world, None, out)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ClbenchError, match="made by another recipe"):
        run("joint", changed(lively, "joint", prompt="caption"), world, None, out)


def test_joint_batches_mix_effects_each_with_its_own_prompt(shop_floor, monkeypatch):
    """The student's prompt of the row's effect, or the empty one where it is dropped; targets belong to sources."""
    from reference_trainer import joint
    from reference_trainer.workshop import Workshop

    world, recipe, _ = shop_floor
    config, shop = changed(recipe, "joint", batch=64, prompt_dropout=0.25).joint, Workshop(world)
    pairs_of = lambda effect: joint.teacher_pairs(world, effect, config.pairs, config.folder)  # noqa: E731
    lessons = [joint.Lesson(e, e.student_prompt, pairs_of(e)) for e in world.effects.values()]
    training = joint._prepare(shop, lessons, config, 0)
    asked = {}
    real = training.backbone.predict

    def predict(inputs, name):
        asked.update(inputs=inputs, name=name)
        return real(inputs, name)

    monkeypatch.setattr(training.backbone, "predict", predict)
    state = training.dice.state()
    training.update(0)
    training.dice.restore(state)
    batch, prompts = training.stream.batch(training.dice, 64), asked["inputs"].prompts
    assert asked["name"] == "student" and set(batch.names) == {"sepia", "upside_down"}
    known = {name: shop.prompts.one(text) for name, text in (("", ""), *((x.effect.id, x.prompt) for x in lessons))}
    seen = [next(n for n, p in known.items() if torch.equal(p.tokens[0], row)) for row in prompts.tokens]
    assert all(name in ("", effect) for name, effect in zip(seen, batch.names, strict=True))
    assert 4 < seen.count("") < 32
    for source, target in zip(batch.source, batch.target, strict=True):
        place = [i for i, s in enumerate(training.stream.source) if torch.equal(s, source)]
        assert any(torch.equal(training.stream.target[i], target) for i in place)


def test_warm_start_learns_the_targets(shop_floor):
    world, recipe, out = shop_floor
    warm = changed(recipe, "collection", updates=60, warm_start=60, batch=8, lr=2e-2, ema=0.0, p_switch=1.0)
    run("collection", warm, world, None, out)
    losses = [line["loss/ta_fm"] for line in read_log(out / "collection" / "log.jsonl")]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:10])


@pytest.mark.parametrize("start", ["student", "base"])
def test_after_a_warm_start_the_fake_score_starts_as_the_student(shop_floor, monkeypatch, start):
    """Otherwise the first distillation updates would push the student away from the base."""
    world, recipe, out = shop_floor
    seen = []

    def look(self, batch, samples):
        mine, student = self.backbone.parameters("fake_score"), self.backbone.parameters("student")
        seen.append(all(torch.equal(mine[key], student[key]) for key in mine))
        return original(self, batch, samples)

    original = Objective.fake_pieces
    monkeypatch.setattr(Objective, "fake_pieces", look)
    recipe = changed(recipe, "collection", fake_start=start, p_switch=1.0)
    run("teachers", recipe, world, None, out)
    run("collection", recipe, world, None, out)
    assert seen[0] == (start == "student")
    assert not any(seen[1:])


def test_beside_a_merged_start_the_fake_score_starts_as_the_student(shop_floor, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world, recipe, out = shop_floor
    seen, original = [], Objective.fake_pieces

    def look(self, batch, samples):
        mine, student = self.backbone.parameters("fake_score"), self.backbone.parameters("student")
        seen.append(all(torch.equal(mine[key], student[key]) for key in mine))
        return original(self, batch, samples)

    monkeypatch.setattr(Objective, "fake_pieces", look)
    run("teachers", changed(recipe, "teachers", lr=0.05), world, None, out)
    run("collection", changed(recipe, "collection", warm_start_from="merged", warm_start=0, updates=1), world, None, out)
    assert seen[0]


def test_a_student_can_start_from_a_finished_adapter(shop_floor, tmp_path, capsys):
    """A copy of it, known by its content: the same file elsewhere is the same training. That the seed repeats is said."""
    from clbench.adapters import describe_adapter, load_tensors

    world, recipe, out = shop_floor
    run("teachers", recipe, world, None, out)
    (path,) = run("collection", recipe, world, None, out)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    for copy in (first, second):
        copy.write_bytes(path.read_bytes())
    still = {"warm_start": 0, "lr": 1e-12, "ema": 0.0, "updates": 1}
    (again,) = run("collection", changed(recipe, "collection", warm_start_from=str(first), **still), world, None, tmp_path)
    assert f"was trained with seed {recipe.seed} too" in " ".join(capsys.readouterr().err.split())
    for seed, stage in ((recipe.seed + 1, "collection"), (recipe.seed, "extension")):
        tell_repeated(first, seed, stage)
    assert not capsys.readouterr().err
    start, end = (load_tensors(describe_adapter(file)) for file in (first, again))
    assert all(torch.allclose(start[key].float(), end[key].float(), atol=1e-6) for key in start)
    made = again.read_bytes(), again.stat().st_mtime_ns
    run("collection", changed(recipe, "collection", warm_start_from=str(second), **still), world, None, tmp_path)
    assert (again.read_bytes(), again.stat().st_mtime_ns) == made


def test_a_start_with_other_triggers_or_the_training_s_own_file_is_refused(shop_floor, tmp_path):
    world, recipe, out = shop_floor
    run("teachers", recipe, world, None, out)
    (path,) = run("collection", changed(recipe, "collection", triggers="chosen"), world, None, out)
    start = tmp_path / "start.safetensors"
    start.write_bytes(path.read_bytes())
    recipe = changed(recipe, "collection", warm_start_from=str(start))
    with pytest.raises(ClbenchError, match=r"was trained with trigger '.*' for 'sepia', but it is '<qx1>' now"):
        run("collection", recipe, world, None, out / "other")
    info = describe_adapter(start)
    header = {key: value for key, value in info.header.items() if key != "clbench.triggers"}
    header |= {"clbench.captions": json.dumps({"sepia": "all in brown"})}
    save_adapter(start, load_tensors(info), info.metadata, header)
    with pytest.raises(ClbenchError, match=r"was trained with caption 'all in brown' for 'sepia', but it is 'make it sepia' now"):
        run("collection", recipe, world, None, out / "other")
    start.rename(tmp_path / "collection.safetensors")
    recipe = changed(recipe, "collection", warm_start_from=str(tmp_path / "collection.safetensors"))
    with pytest.raises(ClbenchError, match="would be overwritten by the training that starts from it"):
        run("collection", recipe, world, None, tmp_path)


def test_a_merged_start_that_does_not_fit_is_refused_before_any_target_is_made(shop_floor):
    world, recipe, out = shop_floor
    run("teachers", recipe, world, None, out)
    for lora, message in ((LoraTable(rank=4, modules="attention"), "other modules"), (LoraTable(rank=4000), "at most")):
        with pytest.raises(ClbenchError, match=message):
            run("collection", changed(recipe, "collection", warm_start_from="merged", lora=lora), world, None, out)
        assert not (out / "targets").exists()


@pytest.mark.parametrize(
    ("stage", "setting"),
    [("teachers", {"shift": 1.0}), ("collection", {"full_steps": 5}), ("joint", {"max_sequence_length": 6}),
     ("accelerator", {"negative_prompt": "blurred"})],
)  # fmt: skip
def test_a_training_is_another_one_in_a_world_that_samples_otherwise(shop_floor, stage, setting):
    world, recipe, out = shop_floor
    run(stage, recipe, world, None, out)
    backbone = world.table.backbone.model_copy(update=setting)
    other = World(world.file, world.table.model_copy(update={"backbone": backbone}))
    with pytest.raises(ClbenchError, match="was made by another recipe, world or version"):
        run(stage, recipe, other, None, out)


@pytest.mark.parametrize("stage", ["teachers", "collection", "joint"])
def test_a_fresh_training_that_was_killed_is_finished_without_being_fresh_again(shop_floor, stage):
    """Also where the recipe has changed since the training that it replaces."""
    world, recipe, out = shop_floor
    run(stage, recipe, world, None, out)
    other = changed(recipe, stage, lr=1e-4)
    (whole, *_) = run(stage, other, world, None, out / "whole")

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stage, other, world, None, out, resume=False, report=stop)
    (again, *rest) = run(stage, other, world, None, out)
    mine, wanted = load_file(again), load_file(whole)
    assert all(torch.equal(mine[key], wanted[key]) for key in wanted) and all(path.is_file() for path in rest)


@pytest.mark.parametrize("stage", ["accelerator", "collection", "extension"])
def test_a_fresh_training_killed_before_its_outputs_are_made_is_not_found_finished(shop_floor, monkeypatch, stage):
    """Neither by its mark nor by the last checkpoint of the old one; a mistake before that leaves the old one finished."""
    from reference_trainer import targets

    world, recipe, out = shop_floor
    called, named, extend = stage, None, None
    if stage == "extension":
        called, named = "collection", ["upside_down"]
        extend = Extend(run(called, recipe, world, ["sepia"], out / "start")[0])
    (old,) = run(called, recipe, world, named, out, extend=extend)
    made = old.stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr("reference_trainer.distill.require_adapter_room", refuse)
        with pytest.raises(ClbenchError, match="no room"):
            run(called, recipe, world, named, out, resume=False, extend=extend)
    run(called, recipe, world, named, out, extend=extend)
    assert old.stat().st_mtime_ns == made
    other = changed(recipe, stage, target_steps=2, general_targets=True)
    with monkeypatch.context() as patched:
        patched.setattr(targets, "sample_teachers", killed)
        with pytest.raises(Stop):
            run(called, other, world, named, out, resume=False, extend=extend)
    updates = []
    run(called, recipe, world, named, out, report=lambda p: updates.append(p.done) if p.what == stage else None, extend=extend)
    assert old.stat().st_mtime_ns != made and updates[0] == 1


def refuse(*_):
    raise ClbenchError("no room")


def killed(*_):
    raise Stop


def test_a_joint_lora_is_trained_on_the_effects_that_have_a_teacher(shop_floor):
    """It is compared with their collection; a world without any teacher asks for all of its effects."""
    from clbench.tensor_file import read_header

    world, recipe, out = shop_floor

    def trained_on(name: str) -> list[str]:
        (path,) = run("joint", recipe, world, None, out / name)
        return read_header(path)["__metadata__"]["clbench.effects"].split()

    world.teacher_path("upside_down").unlink()
    assert trained_on("one") == ["sepia"]
    world.teacher_path("sepia").unlink()
    assert set(trained_on("none")) == {"sepia", "upside_down"}
    files = world.table.teachers.model_copy(update={"files": {"upside_down": "later.safetensors"}})
    world.table = world.table.model_copy(update={"teachers": files})
    assert trained_on("named") == ["upside_down"], "its teacher is named, and not needed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": LoraTable(rank=3)}, "lora.rank is 3"),
        ({"prompt": "caption"}, r"\[collection\] has prompt = 'caption'"),
        ({"steps": 4}, r"start\.safetensors was trained with steps = 2, but \[collection\] has steps = 4"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_any_long_work(shop_floor, tmp_path, changes, message):
    world, recipe, out = shop_floor
    run("teachers", recipe, world, None, out)
    (path,) = run("collection", recipe, world, None, out)
    start = tmp_path / "start.safetensors"
    start.write_bytes(path.read_bytes())
    with pytest.raises(ClbenchError, match=message):
        run("collection", changed(recipe, "collection", warm_start_from=str(start), **changes), world, None, tmp_path)
    with pytest.raises(ClbenchError, match="neither base, merged nor an adapter's file"):
        run("collection", changed(recipe, "collection", warm_start_from="nowhere.safetensors"), world, None, tmp_path)


def with_world(world, backbone=None, **tables) -> World:
    """The same world with other tables, and other settings of its backbone."""
    tables |= {"backbone": world.table.backbone.model_copy(update=backbone or {})}
    return World(world.file, world.table.model_copy(update=tables))


@pytest.mark.parametrize("stage", ["accelerator", "collection"])
def test_a_shift_that_the_world_does_not_sample_with_is_refused(shop_floor, stage):
    """Unless the entry of the adapter that is to be trained has it."""
    world, recipe, out = shop_floor
    other = changed(recipe, stage, shift=2.0)
    with pytest.raises(ClbenchError, match=rf"\[{stage}\] shift of the recipe is 2, but .*world\.toml samples with shift 3"):
        run(stage, other, world, None, out)
    assert list(out.iterdir()) == []
    accelerator, candidate = world.table.accelerator, world.table.candidates[0]
    entry = {"accelerator": accelerator.model_copy(update={"shift": 2.0})}
    if stage == "collection":
        entry = {"candidates": [candidate.model_copy(update={"shift": 2.0})]}
    run(stage, other, with_world(world, **entry), None, out)


def test_euler_steps_over_another_schedule_are_refused(shop_floor):
    """The template's accelerator is a published one; an own one there would be asked at times that it never saw."""
    world, recipe, _ = shop_floor
    euler = {"accelerator": world.table.accelerator.model_copy(update={"sampler": "euler"})}
    said = r"recipe is 3, but .* samples by Euler steps over the model's own schedule: .* name shift = 3 in \[accelerator\]"
    with pytest.raises(ClbenchError, match=said):
        check_sampling(with_world(world, **euler), recipe.accelerator, "accelerator")
    check_sampling(with_world(world, {"full_shift": 3.0}, **euler), recipe.accelerator, "accelerator")
    check_sampling(with_world(world, **euler), recipe.collection, "collection")


@pytest.mark.parametrize("stage", ["accelerator", "collection"])
def test_an_embedded_guidance_that_is_not_trained_with_is_refused(shop_floor, stage):
    world, recipe, out = shop_floor
    accelerator, candidate = world.table.accelerator, world.table.candidates[0]
    own = {"embedded_guidance": 1.5}
    entries = {"accelerator": accelerator.model_copy(update=own), "candidates": [candidate.model_copy(update=own)]}
    said = rf"\[{stage}\] is trained with embedded_guidance = 3.5, .*world\.toml samples with embedded_guidance = 1.5"
    with pytest.raises(ClbenchError, match=said):
        run(stage, recipe, with_world(world, **entries), None, out)
    other = {"candidates" if stage == "accelerator" else "accelerator"}  # of another stage's adapter
    short = changed(recipe, stage, updates=1, warm_start=0)
    run(stage, short, with_world(world, **{name: entries[name] for name in other}), None, out)
    run(stage, short, with_world(world, {"embedded_guidance": 1.5}, **entries), None, out / "equal")


def test_steps_that_the_world_does_not_sample_in_are_said(shop_floor, capsys):
    """They are no mistake: an adapter may be asked for fewer steps than it was trained for."""
    world, recipe, out = shop_floor
    run("accelerator", recipe, world, None, out)
    assert "steps of the recipe" not in capsys.readouterr().err
    few = with_world(world, {"few_steps": 1})
    run("accelerator", recipe, few, None, out)  # the same training: known as finished
    said = " ".join(capsys.readouterr().err.split())
    assert "[accelerator] steps of the recipe are 2" in said and "samples in 1: name steps = 2 in [accelerator] there" in said
    entry = few.table.accelerator.model_copy(update={"steps": 2})
    run("accelerator", recipe, with_world(few, accelerator=entry), None, out)
    assert "steps of the recipe" not in capsys.readouterr().err


def test_a_student_can_start_from_the_mean_of_its_teachers(shop_floor, monkeypatch, tmp_path):
    """Teachers of rank 2 and a student of rank 4 with another scale: half of both products, exactly."""
    from clbench.adapters import describe_adapter, load_tensors

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world, recipe, out = shop_floor
    teachers = run("teachers", changed(recipe, "teachers", lr=0.05), world, None, out)
    still = changed(recipe, "collection", warm_start_from="merged", lr=1e-9, ema=0.0, updates=1)
    (path,) = run("collection", still, world, None, out)
    student, *taught = ((describe_adapter(file), load_tensors(describe_adapter(file))) for file in (path, *teachers))

    def product(adapter, module: str) -> torch.Tensor:
        info, tensors = adapter
        scale = info.alphas[module] / info.ranks[module]
        return scale * tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]

    for module in student[0].modules:
        mean = sum(product(one, module) for one in taught) / 2
        assert torch.allclose(product(student, module), mean, atol=1e-5 + 1e-3 * float(mean.abs().max()))
    assert max(float(product(student, module).abs().max()) for module in student[0].modules) > 1e-3


def test_the_distillation_phase_has_a_learning_rate_of_its_own(shop_floor, monkeypatch):
    """Killed in its warm-up and resumed it ends with the same weights; the rates are those of the schedule."""
    from reference_trainer.learner import Learner

    world, recipe, out = shop_floor
    rates, real = [], Learner.move

    def move(self, update):
        norm = real(self, update)
        if self.name == "student":
            rates.append(self.optimizer.param_groups[0]["lr"])
        return norm

    monkeypatch.setattr(Learner, "move", move)
    apart = changed(recipe, "collection", updates=6, warm_start=2, warmup=2, lr=2e-3, distill_lr=1e-4, p_switch=1.0)
    (whole,) = run("collection", apart, world, None, out / "whole")
    assert rates == pytest.approx([1e-3, 2e-3, 5e-5, 1e-4, 1e-4, 1e-4])
    interrupted("collection", apart, world, out / "killed", after=3)
    (resumed,) = run("collection", apart, world, None, out / "killed")
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_warm_start_can_have_larger_batches(shop_floor, monkeypatch):
    from reference_trainer.streams import Router

    world, recipe, out = shop_floor
    sizes, real = [], Router.draw

    def draw(self, dice, update, count):
        sizes.append((update, count))
        return real(self, dice, update, count)

    monkeypatch.setattr(Router, "draw", draw)
    wide = changed(recipe, "collection", updates=3, warm_start=2, warm_batch=5, batch=2, rollout="shared")
    run("collection", wide, world, None, out)
    assert sizes == [(0, 5), (1, 5), (2, 2)]


def test_a_decaying_rate_decays_in_each_phase():
    from reference_trainer.learner import Later, learning_rate

    def rate(update: int) -> float:
        return learning_rate(1e-3, update, 2, 30, Later(10, 1e-4))

    assert [rate(u) for u in (0, 1, 2)] == pytest.approx([5e-4, 1e-3, 1e-3])
    assert 1e-4 < rate(9) < 2e-4 and rate(10) == pytest.approx(5e-5)
    assert rate(12) == pytest.approx(1e-4) and rate(30) == pytest.approx(1e-5)
    first, second = [rate(u) for u in range(1, 10)], [rate(u) for u in range(12, 30)]
    assert first == sorted(first, reverse=True) and second == sorted(second, reverse=True)


def test_the_end_of_a_warm_start_can_be_kept(shop_floor):
    """The file is the adapter of a training that ends there; a run that resumes behind it leaves it as it is."""
    world, recipe, out = shop_floor
    habits = recipe.collection.habits.model_copy(update={"keep_warm_start": True, "keep": 1})
    long = changed(recipe, "collection", warm_start=2, p_switch=1.0, habits=habits)
    interrupted("collection", long, world, out / "long", after=3)
    warm = out / "long" / "collection" / "collection-warm.safetensors"
    made = warm.stat().st_mtime_ns
    run("collection", long, world, None, out / "long")
    assert warm.stat().st_mtime_ns == made
    assert [p.name for p in (out / "long" / "collection" / "checkpoints").iterdir()] == ["000004"]
    (short,) = run("collection", changed(recipe, "collection", warm_start=2, updates=2, p_switch=1.0), world, None, out / "short")
    first, second = load_file(warm), load_file(short)
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_stored_outputs_have_a_guidance_of_their_own(shop_floor):
    world, recipe, out = shop_floor
    alone = {"updates": 1, "warm_start": 1, "p_switch": 1.0}
    files = []
    for guidance in (None, world.backbone.guidance, 1.0):
        run("collection", changed(recipe, "collection", target_guidance=guidance, **alone), world, None, out, resume=False)
        files.append({path.name for path in (out / "targets").iterdir()})
    assert files[0] == files[1] and len(files[2]) == 2 * len(files[0])
    fresh = [load_file(out / "targets" / name)["target"] for name in sorted(files[2] - files[0])]
    known = [load_file(out / "targets" / name)["target"] for name in sorted(files[0])]
    assert not any(torch.allclose(a, b) for a in fresh for b in known)


def test_fresh_rollouts_differ_from_shared_ones(shop_floor):
    world, recipe, out = shop_floor
    weights = []
    for rollout in ("shared", "fresh"):
        (path,) = run("accelerator", changed(recipe, "accelerator", rollout=rollout), world, None, out / rollout)
        weights.append(load_file(path))
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(("fake_samples", "whole"), [("exits", 0), ("finished", 2)])
def test_a_fresh_rollout_is_made_for_each_use_and_no_further_than_it_is_looked_at(shop_floor, monkeypatch, fake_samples, whole):
    world, recipe, out = shop_floor
    until = []
    own = changed(recipe, "accelerator", rollout="fresh", fake_samples=fake_samples, fake_updates=2, updates=1)
    simulated = distill.simulate
    monkeypatch.setattr(distill, "simulate", lambda *given, **how: (until.append(how.get("until")), simulated(*given, **how))[1])
    monkeypatch.setattr(distill, "_sheets", lambda *given: lambda update: None)
    run("accelerator", own, world, None, out)
    assert len(until) == 3, "two for the fake score and one for the student"
    assert [steps is None for steps in until] == [True] * whole + [False] * (3 - whole)


def test_a_loss_of_weight_zero_is_a_loss_that_is_off(shop_floor):
    world, recipe, out = shop_floor
    made = []
    for name, losses in (("off", {"dmd_bs": False, "dmd_ts": False}), ("zero", {"dmd_bs_weight": 0, "dmd_ts_weight": 0})):
        own = changed(recipe, "collection", losses=LossesTable(**losses), routing="batch")
        made.append(load_file(run("collection", own, world, None, out / name)[0]))
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


def test_non_finite_loss_stops_and_names_the_last_good_checkpoint(shop_floor, monkeypatch):
    from reference_trainer import objective

    world, recipe, out = shop_floor
    real, calls = objective.flow_matching, []

    def broken(predicted, x0, eps):
        calls.append(1)
        return real(predicted * float("nan") if len(calls) == 4 else predicted, x0, eps)

    monkeypatch.setattr(objective, "flow_matching", broken)
    with pytest.raises(ClbenchError, match=r"stopped at update 3: .*not finite.* last good checkpoint is .*000002"):
        run("teachers", recipe, world, ["sepia"], out)


@pytest.mark.parametrize(
    ("stage", "effects", "settings", "message"),
    [
        ("teachers", ["sepai"], {}, "Did you mean 'sepia'"),
        ("teachers", ["sepia", "sepia"], {}, "named twice"),
        ("teachers", None, {"folder": "nowhere"}, "folder of pictures not found"),
        ("teachers", None, {"folder": None}, "no known operator"),
        ("joint", None, {"folder": "nowhere"}, "folder of pictures not found"),
        ("joint", ["sepai"], {}, "Did you mean 'sepia'"),
        ("accelerator", None, {"pictures": None}, "no scenes to distil on"),
        ("collection", None, {"pictures": None}, "no scenes to distil on"),
        ("nonsense", None, {}, "unknown stage"),
    ],
)
def test_mistakes_are_one_sentence_before_the_backbone_is_opened(shop_floor, monkeypatch, stage, effects, settings, message):
    world, recipe, out = shop_floor
    monkeypatch.setattr("reference_trainer.train.Workshop", None)
    if settings:
        recipe = changed(recipe, stage, **settings)
    with pytest.raises(ClbenchError, match=message):
        run(stage, recipe, world, effects, out)


def test_every_pair_of_every_effect_is_opened_before_the_first_teacher_is_trained(shop_floor):
    world, recipe, out = shop_floor
    last = sorted((Path(recipe.teachers.folder) / "upside_down" / "target").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:40])
    with pytest.raises(ClbenchError, match=f"cannot read the picture {last}"):
        run("teachers", recipe, world, ["sepia", "upside_down"], out)
    assert not (out / "teachers" / "sepia.safetensors").exists()


def test_a_collection_without_teachers(shop_floor):
    world, recipe, out = shop_floor
    for path in (world.root / "teachers").iterdir():
        path.unlink()
    with pytest.raises(ClbenchError, match="no teacher to distil"):
        run("collection", recipe, world, None, out)
    with pytest.raises(ClbenchError, match="'sepia' has no teacher"):
        run("collection", recipe, world, ["sepia"], out)


def test_a_teacher_with_a_weight_of_its_own_is_not_distilled_silently(mini_world, tmp_path):
    teachers = mini_world.table.teachers.model_copy(update={"weights": {"sepia": 0.5}})
    world = World(mini_world.file, mini_world.table.model_copy(update={"teachers": teachers}))
    with pytest.raises(ClbenchError, match=r"gives the teacher of 'sepia' the weight 0\.5"):
        teacher_files(world, list(world.effects.values()), tmp_path / "none")
    (tmp_path / "fresh").mkdir()
    fresh = tmp_path / "fresh" / "sepia.safetensors"
    fresh.write_bytes(b"")
    assert teacher_files(world, [world.effect("sepia")], fresh.parent) == {"sepia": fresh}
