"""What makes sampling faster on a processor gives the same pictures, and is left out where it would not."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_parts import build_flux_pipeline

from clbench.backbones import Job, Sampler
from clbench.backbones.flux import FluxKontextBackbone
from clbench.backbones.gelu import LogisticGelu, gelu_tanh, replace_gelu
from clbench.backbones.processor import suit_processor
from clbench.backbones.threads import InPieces

floats = st.floats(-1e4, 1e4, width=32)


@pytest.fixture(autouse=True)
def threads_of_others():
    """What these tests do to torch's number of threads is nobody else's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(threads_of_others):
    torch.set_num_threads(2)


@given(st.lists(floats, min_size=1, max_size=40))
@settings(deadline=None)
def test_gelu_by_the_logistic_function_is_torchs_own(values):
    x = torch.tensor(values, dtype=torch.float32)
    before = x.clone()
    torch.testing.assert_close(gelu_tanh(x), torch.nn.functional.gelu(x, approximate="tanh"), atol=1e-6, rtol=1e-5)
    assert torch.equal(x, before)


def test_every_gelu_of_the_transformer_is_replaced_and_its_velocities_stay():
    transformer = build_flux_pipeline().transformer.eval()
    inputs = arguments(transformer, 3)
    with torch.inference_mode():
        before = transformer(**inputs)[0]
        assert replace_gelu(transformer) == 3  # picture and text in the double block, one in the single block
        after = transformer(**inputs)[0]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert replace_gelu(torch.nn.Sequential(torch.nn.GELU())) == 0, "the exact one is another function"


@given(st.integers(1, 9), st.integers(1, 5))
@settings(deadline=None, max_examples=30)
def test_pieces_are_the_whole_batch_in_its_order(rows, threads):
    def model(x, bias, place, return_dict):
        assert len(place) == 2 and return_dict is False
        return (x * 2 + place.sum() + (0 if bias is None else bias[:, None]),)

    x, place = torch.arange(rows * 3.0).view(rows, 3), torch.tensor([1.0, 2.0])
    for bias in (None, torch.arange(float(rows))):
        inputs = {"x": x, "bias": bias, "place": place, "return_dict": False}
        (answer,) = InPieces(model, ("x", "bias"), threads)(**inputs)
        assert torch.equal(answer, model(**inputs)[0])


def test_pieces_run_at_once_each_with_its_share_of_the_threads():
    seen, together = [], threading.Barrier(2, timeout=20)
    torch.set_num_threads(4)

    def model(x):
        together.wait()  # would break if one piece waited for the other
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled(), len(x)))
        return (x,)

    def later() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found[0]

    split = InPieces(model, ("x",), 4)
    split(x=torch.zeros(2, 1))
    assert seen == [(2, True, 1)] * 2
    assert torch.get_num_threads() == later() == 4, "threads that come later get all of them"
    torch.set_num_threads(3)  # by somebody else in between
    split(x=torch.zeros(2, 1))
    assert torch.get_num_threads() == later() == 3


def test_an_error_in_one_piece_is_the_batchs_error():
    def model(x):
        if x[0, 0] > 0:
            raise MemoryError("no room")
        time.sleep(0.01)
        return (x,)

    torch.set_num_threads(4)
    with pytest.raises(MemoryError, match="no room"):
        InPieces(model, ("x",), 2)(x=torch.tensor([[0.0], [1.0]]))
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("sampler", [Sampler(steps=3, guidance=2.0), Sampler(steps=2, stochastic=True, shift=3.0)])
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("embedded", [True, False])
def test_a_pipeline_in_pieces_makes_the_pictures_of_single_cases(two_threads, mini_world, lora_files, sampler, fold, embedded):
    table = mini_world.backbone.model_copy(update={"fold": fold})
    pipe = build_flux_pipeline(guidance_embeds=embedded)
    backbone = FluxKontextBackbone(pipe, table, 32, "mini")
    assert pipe.transformer.forward.threads == 2
    backbone.use_adapters([(lora_files["sepia"], 0.7)])
    sources = [mini_world.source_image(source.id, 32) for source in mini_world.sources][:3]
    jobs = [Job(picture, "make it sepia", 7 + i) for i, picture in enumerate(sources)]
    together = backbone.sample(jobs, sampler)
    alone = [backbone.sample([job], sampler)[0] for job in jobs]
    assert max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(together, alone, strict=True)) <= 1


@pytest.mark.parametrize(
    ("dtype", "fast", "pieces", "logistic"),
    [("float32", False, True, 1), ("float32", True, False, 0), ("bfloat16", False, False, 0)],
)
def test_where_anything_is_rounded_all_is_left_as_it_is(mini_world, monkeypatch, dtype, fast, pieces, logistic):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    pipe = build_flux_pipeline()
    suit_processor(pipe, mini_world.backbone.model_copy(update={"dtype": dtype, "fast_products": fast}))
    assert isinstance(pipe.transformer.forward, InPieces) is pieces
    assert sum(isinstance(module, LogisticGelu) for module in pipe.transformer.modules()) == logistic


def test_the_autoencoder_decodes_as_before(two_threads, mini_world):
    pipe, plain = build_flux_pipeline(), build_flux_pipeline()
    suit_processor(pipe, mini_world.backbone)
    latents = torch.randn(5, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made, expected = (each.vae.decode(latents, return_dict=False)[0] for each in (pipe, plain))
    np.testing.assert_allclose(made, expected, atol=1e-4)


def arguments(transformer, rows):
    generator, config = torch.Generator().manual_seed(0), transformer.config
    return {
        "hidden_states": torch.randn(rows, 8, config.in_channels, generator=generator),
        "timestep": torch.full((rows,), 0.5),
        "pooled_projections": torch.randn(rows, config.pooled_projection_dim, generator=generator),
        "encoder_hidden_states": torch.randn(rows, 4, config.joint_attention_dim, generator=generator),
        "txt_ids": torch.zeros(4, 3),
        "img_ids": torch.rand(8, 3, generator=generator),
        "return_dict": False,
    }
