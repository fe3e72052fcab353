"""One backbone, many adapters: mixed batches, gradients, and the same numbers as peft and the pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from clbench.registry import ClbenchError

MIX = ["teacher_0001", None, "fake_score", "teacher_0000", None, "teacher_0001"]


@pytest.mark.parametrize("mode", ["merged", "low-rank"])
def test_mixed_batch_equals_single_passes(make_backbone, make_inputs, mode):
    backbone, inputs = make_backbone(mode), make_inputs(len(MIX))
    with torch.no_grad():
        mixed = backbone.predict(inputs, MIX)
        for i, name in enumerate(MIX):
            single = backbone.predict(inputs.take(torch.tensor([i])), name)
            torch.testing.assert_close(mixed[i : i + 1], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["merged", "low-rank"])
@pytest.mark.parametrize("grad", [True, False])
def test_equals_peft_with_one_active_adapter(make_backbone, make_inputs, pipe, mode, grad):
    backbone, inputs = make_backbone(mode), make_inputs(2)
    with torch.set_grad_enabled(grad):
        mine = {name: backbone.predict(inputs, name).detach() for name in ("student", "teacher_0001")}
        base = backbone.predict(inputs, None).detach()
    for name, value in mine.items():
        pipe.transformer.set_adapter(name)
        torch.testing.assert_close(value, stock(pipe, backbone, inputs), rtol=1e-4, atol=1e-5)
        assert (value - base).abs().max() > 1e-3
    pipe.transformer.disable_adapters()
    torch.testing.assert_close(base, stock(pipe, backbone, inputs), rtol=1e-5, atol=1e-6)


def test_equals_peft_adapter_names(make_backbone, make_inputs, pipe):
    """peft's own mixed batch (adapter_names per sample, __base__ for none) is the reference."""
    backbone, inputs = make_backbone(), make_inputs(len(MIX))
    with torch.no_grad():
        mine = backbone.predict(inputs, MIX)
    names = ["__base__" if name is None else name for name in MIX]
    hooks = [
        layer.register_forward_pre_hook(lambda m, a, k: (a, {**k, "adapter_names": names}), with_kwargs=True)
        for layer in pipe.transformer.modules()
        if isinstance(layer, LoraLayer)
    ]
    theirs = stock(pipe, backbone, inputs)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def stock(pipe, backbone, inputs):
    with torch.no_grad():
        out = pipe.transformer(
            hidden_states=torch.cat([inputs.noisy, inputs.source], 1), timestep=inputs.time,
            pooled_projections=inputs.prompts.pooled, encoder_hidden_states=inputs.prompts.tokens,
            txt_ids=backbone.text_ids, img_ids=backbone.image_ids, return_dict=False,
        )[0]  # fmt: skip
    return out[:, : inputs.noisy.shape[1]]


@pytest.mark.parametrize("mode", ["merged", "low-rank"])
def test_gradient_reaches_one_role_only(make_backbone, make_inputs, mode):
    backbone, inputs = make_backbone(mode), make_inputs(2)
    backbone.predict(inputs, "student").square().mean().backward()
    with_gradient = {n for n, p in backbone.transformer.named_parameters() if p.grad is not None}
    assert with_gradient and all(".student." in name for name in with_gradient)
    assert len(with_gradient) == len(backbone.parameters("student"))
    assert not any(p.requires_grad for n, p in backbone.transformer.named_parameters() if "lora" not in n)


def test_both_forwards_have_the_same_gradient(make_backbone, make_inputs, pipe):
    backbone, inputs = make_backbone("merged"), make_inputs(3)
    grads = []
    for mode in ("merged", "low-rank"):
        backbone.paths.way = mode
        backbone.predict(inputs, "student").square().mean().backward()
        grads.append({k: p.grad.clone() for k, p in backbone.parameters("student").items()})
        for parameter in backbone.parameters("student").values():
            parameter.grad = None
    for key in grads[0]:
        torch.testing.assert_close(grads[0][key], grads[1][key], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_a_batch_in_several_passes_is_the_batch(make_backbone, make_inputs, rows):
    backbone, inputs = make_backbone(), make_inputs(len(MIX))
    with torch.no_grad():
        for adapters in (MIX, "student"):
            backbone.rows = None
            whole = backbone.predict(inputs, adapters)
            backbone.rows = rows
            torch.testing.assert_close(backbone.predict(inputs, adapters), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["merged", "low-rank"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_blocks_computed_again_give_the_same_gradient(make_backbone, make_inputs, mode, precision):
    """The same kernels on the same values: bit for bit, also with our forward of a layer and written-out attention."""
    backbone, inputs = make_backbone(mode), make_inputs(2)
    backbone.precision = precision
    found = []
    for again in (False, True):
        if again:
            backbone.transformer.enable_gradient_checkpointing(backbone._checkpointed)
        backbone.predict(inputs, "student").square().mean().backward()
        parameters = backbone.parameters("student").values()
        found.append([p.grad.clone() for p in parameters if p.grad is not None])
        for parameter in parameters:
            parameter.grad = None
    kept, anew = found
    assert len(kept) == len(anew) > 0 and all(torch.equal(a, b) for a, b in zip(kept, anew, strict=True))


def test_mixed_batch_with_gradient_is_refused(make_backbone, make_inputs):
    with pytest.raises(ValueError, match="one role"):
        make_backbone().predict(make_inputs(2), ["student", None])


def test_kept_weights_follow_an_update(make_backbone, make_inputs):
    backbone, inputs = make_backbone(), make_inputs(2)
    with torch.no_grad():
        before = backbone.predict(inputs, "student")
    optimizer = torch.optim.AdamW(backbone.parameters("student").values(), lr=0.05, foreach=True)
    backbone.predict(inputs, "student").square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        after = backbone.predict(inputs, "student")
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, backbone.predict(inputs, "student").detach())


def test_adapters_of_another_base_are_refused(make_backbone, tmp_path):
    from clbench.adapter_writing import save_adapter

    backbone = make_backbone()
    path = tmp_path / "other.safetensors"
    name = "transformer_blocks.7.attn.to_q"
    state = {f"{name}.lora_A.weight": torch.zeros(2, 32), f"{name}.lora_B.weight": torch.zeros(32, 2)}
    save_adapter(path, state, {"r": 2, "lora_alpha": 2})
    with pytest.raises(ClbenchError, match="another base"):
        backbone.add_frozen("teacher_0002", path)


def test_an_adapter_of_the_last_layer_alone_is_taken(make_backbone, pipe, tmp_path):
    """Its name, proj_out, is also the end of a module's in every single block, which this file does not adapt."""
    from clbench.adapter_writing import save_adapter

    backbone, path = make_backbone(), tmp_path / "last.safetensors"
    width, out = pipe.transformer.proj_out.in_features, pipe.transformer.proj_out.out_features
    state = {"proj_out.lora_A.weight": torch.ones(2, width), "proj_out.lora_B.weight": torch.ones(out, 2)}
    save_adapter(path, state, {"r": 2, "lora_alpha": 2})
    backbone.add_frozen("teacher_0002", path)
    assert set(backbone.parameters("teacher_0002")) == set(state)


def test_adding_an_adapter_leaves_the_global_generator_alone(make_backbone):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    make_backbone()
    assert torch.equal(before, torch.random.get_rng_state())


def test_inputs_are_what_the_pipeline_feeds(pipe, space, cache, make_backbone, monkeypatch):
    """The first call of the transformer inside FluxKontextPipeline gets our latents, ids, prompts and time."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = {}
    forward = pipe.transformer.forward

    def spy(**kwargs):
        seen.setdefault("kwargs", kwargs)
        return forward(**kwargs)

    monkeypatch.setattr(pipe.transformer, "forward", spy)
    noise = torch.randn(1, *space.shape, generator=torch.Generator().manual_seed(1))
    pipe(
        image=torch.from_numpy(picture).permute(2, 0, 1)[None] / 255, prompt="make it blue", height=32, width=32,
        max_area=1024, _auto_resize=False, max_sequence_length=12, num_inference_steps=1, latents=noise,
    )  # fmt: skip
    got, prompts = seen["kwargs"], cache.one("make it blue")
    backbone = make_backbone()
    torch.testing.assert_close(got["hidden_states"], torch.cat([noise, space.encode([picture])], 1))
    torch.testing.assert_close(got["img_ids"], backbone.image_ids)
    torch.testing.assert_close(got["txt_ids"], backbone.text_ids)
    torch.testing.assert_close(got["encoder_hidden_states"], prompts.tokens)
    torch.testing.assert_close(got["pooled_projections"], prompts.pooled)
    assert float(got["timestep"][0]) == 1.0


def test_bfloat16_is_close_to_float32_alone_and_mixed(make_backbone, make_inputs):
    backbone, inputs = make_backbone(), make_inputs(len(MIX))
    with torch.no_grad():
        exact, alone = backbone.predict(inputs, MIX), backbone.predict(inputs, "student")
        backbone.precision = "bfloat16"
        assert (backbone.predict(inputs, MIX) - exact).abs().mean() < 0.02 * exact.abs().mean()
        assert (backbone.predict(inputs, "student") - alone).abs().mean() < 0.02 * alone.abs().mean()
    out = backbone.predict(inputs, "student")
    assert out.dtype == torch.float32
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in backbone.parameters("student").values())
