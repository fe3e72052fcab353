"""Sampling through the stock pipeline: batches, schedules, adapters."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mini_parts import build_flux_pipeline, full_lora, random_lora

from clbench.adapter_writing import save_adapter
from clbench.adapters import describe_adapter, load_tensors
from clbench.attaching import lora_config
from clbench.backbones import Job, Sampler, backbone_folder, open_backbone
from clbench.backbones.common import to_vae
from clbench.backbones.flux import FluxKontextBackbone
from clbench.backbones.noise import CaseNoiseScheduler, check_library, generators
from clbench.backbones.vae import VaeRoundTrip, open_vae
from clbench.registry import ClbenchError

TOLERANCE = 1
"""A case gives the same picture in any batch up to 1/255 (float sums differ with the batch size)."""
FULL = Sampler(steps=3, guidance=2.0)
FEW = Sampler(steps=2, stochastic=True, shift=3.0)


@pytest.fixture
def backbone(mini_world):
    return open_backbone(mini_world)


@pytest.fixture
def apart(mini_world):
    """A backbone that never folds: adapters stay in peft's layers."""
    mini_world.backbone = mini_world.backbone.model_copy(update={"fold": False})
    return open_backbone(mini_world)


def jobs_of(world, prompts=("make it sepia", "turn it upside down")):
    return [
        Job(world.source_image(s.id, 32), p, 1000 + i)
        for i, (s, p) in enumerate((s, p) for s in world.sources for p in prompts)
    ]


def largest_difference(a, b) -> int:
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("sampler", [FULL, FEW])
def test_a_case_gives_the_same_picture_in_any_batch_and_order(backbone, mini_world, sampler):
    jobs = jobs_of(mini_world)
    whole = backbone.sample(jobs, sampler)
    single = [backbone.sample([job], sampler)[0] for job in jobs]
    reverse = backbone.sample(jobs[::-1], sampler)[::-1]
    odd = backbone.sample(jobs[:3], sampler) + backbone.sample(jobs[3:], sampler)
    for other in (single, reverse, odd):
        assert largest_difference(whole, other) <= TOLERANCE
    assert largest_difference(whole[:1], whole[1:2]) > 5


@pytest.mark.parametrize("sampler", [FULL, FEW])
def test_a_stock_pipeline_with_the_global_seed_gives_the_same_picture(
    backbone, mini_world, flux_folder, sampler
):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline
    from PIL import Image

    jobs = jobs_of(mini_world)[:3]
    stock = FluxKontextPipeline.from_pretrained(flux_folder)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        stock.scheduler.config, stochastic_sampling=sampler.stochastic
    )
    expected = []
    for job in jobs:
        torch.manual_seed(job.seed)
        picture = stock(
            image=Image.fromarray(job.picture), prompt=job.prompt, negative_prompt="",
            true_cfg_scale=sampler.guidance, num_inference_steps=sampler.steps, height=32, width=32,
            max_area=1024, _auto_resize=False, max_sequence_length=12, generator=None,
        ).images[0]  # fmt: skip
        expected.append(np.asarray(picture))
    assert largest_difference(backbone.sample(jobs, sampler), expected) <= TOLERANCE


def test_few_step_sigmas_are_those_of_the_method(backbone):
    scheduler = backbone.scheduler(Sampler(8, stochastic=True, shift=3.0), [])
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8).tolist())
    expected = [1, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3, 0]
    np.testing.assert_allclose(scheduler.sigmas.numpy(), expected, atol=5e-5)


def test_euler_with_a_static_shift_is_the_schedule_of_lightning(mini_world):
    """Qwen-Image-Lightning: dynamic shifting with base_shift = max_shift = ln 3 and no terminal shift, in the model's place."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    own = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "shift_terminal": 0.02}
    published = {"use_dynamic_shifting": True, "base_shift": math.log(3), "max_shift": math.log(3), "shift_terminal": None}
    asked = np.linspace(1, 1 / 8, 8).tolist()
    pipe = build_flux_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(**own)  # names no shift, as a scheduler_config.json may
    backbone = FluxKontextBackbone(pipe, mini_world.backbone, 32, "mini")
    ours = backbone.scheduler(Sampler(8, stochastic=False, shift=3.0), [])
    theirs = FlowMatchEulerDiscreteScheduler(**published)
    ours.set_timesteps(sigmas=asked, mu=0.7)
    theirs.set_timesteps(sigmas=asked, mu=math.log(3))
    np.testing.assert_allclose(ours.sigmas.numpy(), theirs.sigmas.numpy(), atol=1e-6)
    np.testing.assert_allclose(ours.sigmas.numpy(), [1, 0.955, 0.9, 0.833, 0.75, 0.643, 0.5, 0.3, 0], atol=6e-4)
    assert not ours.config.stochastic_sampling
    assert backbone.scheduler(Sampler(8, stochastic=True, shift=3.0), []).config.stochastic_sampling


def test_embedded_guidance_reaches_the_transformer(mini_world):
    """That of the sampler, else the world's; and it changes the picture."""
    pipe = build_flux_pipeline(guidance_embeds=True)
    backbone, seen = FluxKontextBackbone(pipe, mini_world.backbone, 32, "guided"), []
    forward = pipe.transformer.forward
    pipe.transformer.forward = lambda *args, **kwargs: (seen.append(kwargs["guidance"]), forward(*args, **kwargs))[1]
    jobs = jobs_of(mini_world)[:1]
    usual, other = (backbone.sample(jobs, Sampler(1, embedded_guidance=value)) for value in (None, 40.0))
    assert [float(value) for value in seen] == [mini_world.backbone.embedded_guidance, 40.0]
    assert largest_difference(usual, other) > 0


def test_few_step_pictures_depend_on_the_seed_of_the_case(backbone, mini_world):
    job = jobs_of(mini_world)[0]
    other = Job(job.picture, job.prompt, job.seed + 1)
    assert largest_difference(backbone.sample([job], FEW), backbone.sample([other], FEW)) > 5


def test_scheduler_refuses_a_batch_without_generators():
    scheduler = CaseNoiseScheduler(stochastic_sampling=True)
    scheduler.set_timesteps(2)
    scheduler.case_generators = generators([1])
    with pytest.raises(ClbenchError, match="one generator for each of 2"):
        scheduler.step(torch.zeros(2, 4), scheduler.timesteps[0], torch.zeros(2, 4))
    check_library()


def test_adapters_switch_on_and_off(backbone, mini_world, lora_files):
    jobs = jobs_of(mini_world)[:2]
    plain = backbone.sample(jobs, FULL)
    backbone.use_adapters([(lora_files["sepia"], 1.0)])
    with_lora = backbone.sample(jobs, FULL)
    assert largest_difference(plain, with_lora) > 5
    backbone.use_adapters([(lora_files["sepia"], 1.0), (lora_files["accelerator"], 0.5)])
    assert largest_difference(with_lora, backbone.sample(jobs, FULL)) > 2
    backbone.use_adapters([(lora_files["sepia"], 1.0)])
    assert largest_difference(with_lora, backbone.sample(jobs, FULL)) == 0
    backbone.use_adapters([])
    assert largest_difference(plain, backbone.sample(jobs, FULL)) == 0


def test_only_the_last_adapters_stay_in_memory(apart, tmp_path):
    backbone = apart
    pipe = build_flux_pipeline()
    for seed in range(6):
        save_adapter(tmp_path / f"{seed}.safetensors", *random_lora(pipe, seed))
        backbone.use_adapters([(tmp_path / f"{seed}.safetensors", 1.0)])
    assert len(backbone._loaded) == 4
    assert len(backbone.pipe.transformer.peft_config) == 4


@pytest.mark.parametrize(("way", "tolerance"), [("apart", 0), ("backbone", TOLERANCE)])
def test_cascade_equals_stock_set_adapters(way, tolerance, mini_world, flux_folder, lora_files, request):
    from diffusers import FluxKontextPipeline

    ours = request.getfixturevalue(way)
    stock = FluxKontextPipeline.from_pretrained(flux_folder)
    stock.load_lora_weights(str(lora_files["sepia"]), adapter_name="first_one")
    stock.load_lora_weights(str(lora_files["accelerator"]), adapter_name="other_two")
    stock.set_adapters(["first_one", "other_two"], adapter_weights=[0.7, 1.0])
    theirs = type(ours)(stock, mini_world.backbone, 32, "stock")
    ours.use_adapters([(lora_files["sepia"], 0.7), (lora_files["accelerator"], 1.0)])
    jobs = jobs_of(mini_world)[:2]
    for sampler in (FULL, FEW):
        assert largest_difference(ours.sample(jobs, sampler), theirs.sample(jobs, sampler)) <= tolerance


def test_adapters_leave_the_reader_silent(backbone, lora_files, caplog, capsys):
    backbone.use_adapters([(lora_files["sepia"], 1.0), (lora_files["upside_down"], 1.0)])
    assert "missing" not in caplog.text + capsys.readouterr().err


def test_a_source_is_encoded_once_for_all_effects_and_samplers(backbone, mini_world, monkeypatch):
    vae, seen = backbone.pipe.vae, []
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda x, *rest: (seen.append(x), encode(x, *rest))[1])
    jobs = jobs_of(mini_world)
    backbone.sample(jobs, FEW)
    backbone.sample(jobs[:3], FULL)
    assert len(seen) == len(mini_world.sources) and all(len(x) == 1 for x in seen)


def test_only_so_many_encoded_sources_are_kept(backbone, mini_world, monkeypatch):
    monkeypatch.setattr("clbench.backbones.flux.KEEP_SOURCES", 2)
    jobs = jobs_of(mini_world)
    first, again = (backbone.sample(jobs, FEW) for _ in range(2))
    assert len(backbone._sources) == 2 and largest_difference(first, again) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_source_reaches_the_vae_as_diffusers_gives_it(dtype):
    """Bit for bit, for every value of a byte."""
    from diffusers.image_processor import VaeImageProcessor
    from PIL import Image

    pictures = [np.arange(256 * 3, dtype=np.uint32).reshape(16, 16, 3).astype(np.uint8) for _ in range(2)]
    theirs = VaeImageProcessor(vae_scale_factor=1).preprocess([Image.fromarray(picture) for picture in pictures])
    assert torch.equal(to_vae(pictures, torch.device("cpu"), dtype), theirs.to(dtype))


def test_the_vae_alone_keeps_shape_and_order(mini_world):
    pictures = [mini_world.source_image(s.id, 32) for s in mini_world.sources]
    round_trip = open_vae(backbone_folder(mini_world), mini_world.backbone)
    back = round_trip(pictures)
    single = [round_trip([p])[0] for p in pictures]
    assert back[0].shape == (32, 32, 3)
    assert largest_difference(back, single) <= TOLERANCE


def test_a_picture_that_is_not_finite_is_none(backbone, mini_world):
    with torch.no_grad():
        backbone.pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    assert backbone.sample(jobs_of(mini_world)[:1], FEW) == [None]


def test_missing_backbone_is_one_sentence(mini_world_file):
    from clbench.world import load_world

    text = mini_world_file.read_text()
    start = text.index('path = "')
    mini_world_file.write_text(text[:start] + 'path = "nowhere"' + text[text.index("\n", start) :])
    with pytest.raises(ClbenchError, match=r"nowhere holds no model_index.json"):
        open_backbone(load_world(mini_world_file))


def test_a_folder_of_another_pipeline_is_one_sentence(mini_world, flux_folder, tmp_path):
    import json
    import shutil

    copy = tmp_path / "broken"
    shutil.copytree(flux_folder, copy)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"transformer": ["diffusers", "NoSuchModel"]}))
    mini_world.__dict__["backbone"] = mini_world.backbone.model_copy(update={"path": str(copy)})
    with pytest.raises(ClbenchError, match="does not open as a FluxKontextPipeline"):
        open_backbone(mini_world)


class TinyQwen:
    """The stock QwenImageEditPipeline around small random parts; numbers stand for the 7B text encoder."""

    def __new__(cls):
        from diffusers import (
            AutoencoderKLQwenImage,
            FlowMatchEulerDiscreteScheduler,
            QwenImageEditPipeline,
            QwenImageTransformer2DModel,
        )

        class Pipeline(QwenImageEditPipeline):
            def encode_prompt(self, prompt, image=None, **_):
                """Embeddings that depend on the prompt and the picture of each case alone."""
                rows = []
                for text, picture in zip(prompt, image, strict=True):
                    seed = sum(text.encode()) + int(np.asarray(picture).astype(int).sum())
                    rows.append(torch.randn(5, 16, generator=torch.Generator().manual_seed(seed)))
                return torch.stack(rows), None

        torch.manual_seed(0)
        transformer = QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
        )  # fmt: skip
        vae = AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            temperal_downsample=[False, True, True], latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        )  # fmt: skip
        return Pipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), vae=vae, text_encoder=None,
            tokenizer=None, processor=None, transformer=transformer,
        )  # fmt: skip


def test_qwen_image_edit_is_sampled_in_batches(mini_world, monkeypatch):
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit as stock

    from clbench.backbones.qwen import QwenEditBackbone

    # the pipeline conditions on one megapixel; a test does with less
    monkeypatch.setattr(stock, "calculate_dimensions", lambda area, ratio: (64, 64, None))
    backbone = QwenEditBackbone(TinyQwen(), mini_world.backbone, 32, "tiny qwen")
    jobs = jobs_of(mini_world)[:3]
    for sampler in (Sampler(2, guidance=2.0), FEW):
        whole = backbone.sample(jobs, sampler)
        assert whole[0].shape == (32, 32, 3)
        single = [backbone.sample([job], sampler)[0] for job in jobs]
        assert largest_difference(whole, single) <= TOLERANCE
    round_trip = VaeRoundTrip(backbone.pipe.vae, video=True, batch=2)
    assert [picture.shape for picture in round_trip([job.picture for job in jobs])] == [(32, 32, 3)] * 3


@pytest.mark.parametrize(("device", "together"), [("cuda", 1), ("cpu", 3)])
def test_round_trips_share_a_gpu_one_by_one(monkeypatch, device, together):
    """Each thread would hold a batch in the GPU's memory; on the CPU the threads must go on beside each other."""
    inside, most, met = [0], [0], threading.Barrier(together)

    def returned(self, pictures):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        met.wait(timeout=60)
        time.sleep(0.01)
        inside[0] -= 1
        return list(pictures)

    monkeypatch.setattr(VaeRoundTrip, "_returned", returned)
    round_trip = VaeRoundTrip(SimpleNamespace(device=torch.device(device)), video=False, batch=2)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(round_trip, [[np.zeros((2, 2, 3), np.uint8)] * 2] * 3))
    assert most == [together] and [len(each) for each in found] == [2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [None, "bfloat16"])
@pytest.mark.parametrize("kind", ["flux", "qwen"])
def test_attaching_draws_nothing_and_gives_the_same_adapter(mini_world, tmp_path, monkeypatch, kind, stored, dtype):
    """Weights as peft loads them over random ones, bit for bit, in memory of their own; and so the pictures."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

    from clbench.backbones.qwen import QwenEditBackbone

    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (64, 64, None))
    build, opened = (build_flux_pipeline, FluxKontextBackbone) if kind == "flux" else (TinyQwen, QwenEditBackbone)
    ours, plain = (opened(build(), mini_world.backbone, 32, kind) for _ in range(2))
    lora = full_lora if kind == "flux" else random_lora
    save_adapter(tmp_path / "a.safetensors", *lora(ours.pipe, 0), dtype=stored)
    info = describe_adapter(tmp_path / "a.safetensors")
    tensors = load_tensors(info)
    for backbone in (ours, plain):
        backbone.pipe.transformer.to(dtype)
    drawn = torch.get_rng_state()
    ours.attach("one", info, tensors)
    assert torch.equal(torch.get_rng_state(), drawn)
    state = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    metadata = {f"transformer.{name}": value for name, value in lora_config(info).items()}
    plain.pipe.transformer.load_lora_adapter(state, adapter_name="one", metadata=metadata, low_cpu_mem_usage=False)
    mine, theirs = (dict(backbone.pipe.transformer.named_parameters()) for backbone in (ours, plain))
    assert mine.keys() == theirs.keys() and sum(".lora_" in name for name in mine) == len(tensors)
    for name, value in mine.items():
        assert value.dtype == theirs[name].dtype == dtype and torch.equal(value, theirs[name]), name
    assert not {value.data_ptr() for value in mine.values()} & {value.data_ptr() for value in tensors.values()}
    if dtype == torch.float32:
        jobs, pictures = jobs_of(mini_world)[:2], []
        for backbone in (ours, plain):
            backbone.activate(["one"], [0.8])
            pictures.append(backbone.sample(jobs, FEW))
        assert largest_difference(*pictures) == 0
