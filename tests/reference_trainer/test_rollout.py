"""Own sampling equals the stock pipeline, for teachers with guidance and for the few-step student."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from reference_trainer.dice import Dice
from reference_trainer.predicting import Inputs
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import sample_teachers, simulate
from reference_trainer.schedule import student_sigmas

PROMPTS = ["make it blue", "turn it upside down"]
CALL = {"height": 32, "width": 32, "max_area": 1024, "_auto_resize": False, "max_sequence_length": 12}


@pytest.fixture
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


def as_batch(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_teachers_equal_the_pipeline(pipe, space, cache, make_backbone, pictures, guidance):
    backbone = make_backbone()
    noise = torch.randn(2, *space.shape, generator=torch.Generator().manual_seed(0))
    mine = sample_teachers(
        backbone, space.encode(pictures), cache.many(PROMPTS), cache.unconditional(),
        ["teacher_0001", None], noise, student_sigmas(4, 3.0), guidance,
    )  # fmt: skip
    for i, name in enumerate(("teacher_0001", None)):
        pipe.transformer.enable_adapters() if name else pipe.transformer.disable_adapters()
        if name:
            pipe.transformer.set_adapter(name)
        theirs = pipe(
            image=as_batch(pictures[i : i + 1]), prompt=PROMPTS[i], negative_prompt="", true_cfg_scale=guidance,
            num_inference_steps=4, latents=noise[i : i + 1], output_type="latent", **CALL,
        ).images  # fmt: skip
        torch.testing.assert_close(mine[i : i + 1], theirs, rtol=1e-3, atol=1e-4)
        pipe.transformer.enable_adapters()


def test_student_equals_the_pipeline_with_stochastic_sampling(pipe, space, cache, make_backbone, pictures):
    backbone = make_backbone()
    done = simulate(
        backbone, student_sigmas(4), space.encode(pictures), cache.many(PROMPTS), Dice(torch.Generator().manual_seed(5))
    )
    pipe.transformer.set_adapter("student")
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    torch.manual_seed(5)  # the stock pipeline re-noises from the global generator
    noise = torch.randn(2, *space.shape)
    theirs = pipe(
        image=as_batch(pictures), prompt=PROMPTS, num_inference_steps=4, latents=noise, output_type="latent", **CALL
    ).images
    assert torch.equal(done.states[0], noise)
    torch.testing.assert_close(done.predictions[-1], theirs, rtol=1e-3, atol=1e-4)


def test_exits_cover_every_step(make_backbone, make_inputs):
    inputs = make_inputs(2)
    path = simulate(make_backbone(), student_sigmas(3), inputs.source, inputs.prompts, Dice.seeded(0))
    dice = Dice.seeded(1)
    seen = torch.cat([path.exits(dice)[0] for _ in range(30)])
    assert set(seen.tolist()) == {0, 1, 2}
    assert path.states.shape == path.predictions.shape == (3, 2, *inputs.source.shape[1:])


def test_a_row_goes_no_further_than_it_is_looked_at(make_backbone, make_inputs, monkeypatch):
    """States and predictions up to there are those of the whole rollout, and only the passes that they need are made."""
    inputs, backbone, rows = make_inputs(4), make_backbone(), []
    until = torch.tensor([0, 2, 1, 0])
    given = backbone, student_sigmas(3), inputs.source, inputs.prompts
    whole = simulate(*given, Dice.seeded(0))
    predict = backbone.predict
    monkeypatch.setattr(backbone, "predict", lambda some, adapter: (rows.append(len(some)), predict(some, adapter))[1])
    dice = Dice.seeded(0)
    part = simulate(*given, dice, until=until)
    assert rows == [4, 2, 1]
    step, row = part.exits(dice)
    assert torch.equal(step, until)
    for name in ("states", "predictions"):
        torch.testing.assert_close(getattr(part, name)[step, row], getattr(whole, name)[step, row], rtol=1e-4, atol=1e-5)
    other = Dice.seeded(0)
    simulate(*given, other)
    assert torch.equal(dice.state(), other.state()), "other processes stay in step"


def test_encode_decode_is_the_pipeline_s(pipe, space, pictures):
    latents = space.encode(pictures)
    vae = pipe.vae
    with torch.no_grad():
        expected = vae.decode(vae.encode(as_batch(pictures) * 2 - 1).latent_dist.mode()).sample
    expected = ((expected / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
    assert np.abs(space.decode(latents).astype(int) - expected).max() <= 1


class Perfect:
    """The best possible network where pictures are standard normal: x0 = E[x0 | x_s], v = (x_s - x0) / s."""

    def predict(self, inputs: Inputs, adapter: object) -> torch.Tensor:
        s = inputs.time.view(-1, 1, 1)
        return (inputs.noisy - (1 - s) * inputs.noisy / ((1 - s) ** 2 + s**2)) / s


@pytest.mark.parametrize(("steps", "stochastic", "euler"), [(8, 0.585, 0.795), (28, 0.654, 0.937), (100, 0.685, 0.982)])
def test_noising_a_mean_again_takes_variety_out(steps, stochastic, euler):
    """A law of the two samplers, exact for normal pictures: why what is random is softer by the student's sampler."""
    source, nothing = torch.zeros(4000, 4, 2), Prompts(torch.zeros(4000, 1, 1), torch.zeros(4000, 1))
    sigmas = student_sigmas(steps)
    done = simulate(Perfect(), sigmas, source, nothing, Dice.seeded(0), None).predictions[-1]
    assert float(done.std()) == pytest.approx(stochastic, rel=0.02)
    noise = Dice.seeded(1).normal(4000, (4, 2))
    done = sample_teachers(Perfect(), source, nothing, nothing, [None] * 4000, noise, sigmas, 1.0)
    assert float((done / noise).mean()) == pytest.approx(euler, abs=0.001)
