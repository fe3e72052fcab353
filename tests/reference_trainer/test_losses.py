"""Losses against a short independent numpy version, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench.registry import ClbenchError
from reference_trainer import losses as L
from reference_trainer.schedule import add_noise, to_x0, velocity

SHAPE = (3, 5, 4)


def draw(seed: int, count: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=g) for _ in range(count)]


def numpy_flow_matching(v, x0, eps):
    return np.array([np.mean((v[i] - (eps[i] - x0[i])) ** 2) for i in range(len(v))])


def numpy_dmd(x, fake, real):
    values, gradients = [], []
    for i in range(len(x)):
        g = (fake[i] - real[i]) / np.mean(np.abs(x[i] - real[i]))
        values.append(0.5 * np.mean(g**2))  # x - (x - g) = g
        gradients.append(g / g.size)
    return np.array(values), np.stack(gradients)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_flow_matching_equals_numpy(seed):
    v, x0, eps = draw(seed, 3)
    expected = numpy_flow_matching(v.numpy(), x0.numpy(), eps.numpy())
    np.testing.assert_allclose(L.flow_matching(v, x0, eps).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(L.ta_fm(v, x0, eps).numpy(), expected, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_dmd_value_and_gradient_equal_numpy(seed):
    x, fake, real = draw(seed, 3)
    x.requires_grad_(True)
    loss = L.dmd(x, L.dmd_gradient(x, fake, real))
    loss.sum().backward()
    value, gradient = numpy_dmd(*(t.detach().double().numpy() for t in (x, fake, real)))
    assert loss.dtype == torch.float64
    np.testing.assert_allclose(loss.detach().numpy(), value, rtol=1e-9)
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-5)


def test_dmd_pulls_towards_the_teacher():
    x, fake, real = (torch.full((1, 4), value) for value in (0.0, 0.0, 1.0))
    x.requires_grad_(True)
    L.dmd(x, L.dmd_gradient(x, fake, real)).sum().backward()
    assert (x.grad < 0).all()  # a step against the gradient raises x towards real = 1


def test_dmd_gradient_does_not_depend_on_the_rest_of_the_batch():
    x, fake, real = draw(0, 3)
    whole = L.dmd_gradient(x, fake, real)
    torch.testing.assert_close(whole[1:2], L.dmd_gradient(x[1:2], fake[1:2], real[1:2]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_gradient_raises_and_names_the_sample(bad):
    x, fake, real = draw(0, 3)
    fake[2, 0, 0] = bad
    with pytest.raises(L.NonFiniteError, match=r"samples \[2\] of 3"):
        L.dmd_gradient(x, fake, real)
    with pytest.raises(L.NonFiniteError):
        L.dmd_gradient(x, x + 1, x)  # 1 / 0, where the public code writes 0


def test_guidance_conventions():
    cond, uncond, _ = draw(1, 3)
    c, u = cond.numpy(), uncond.numpy()
    np.testing.assert_allclose(L.GUIDANCE.get("usual")(cond, uncond, 4.0).numpy(), u + 4 * (c - u), rtol=1e-5)
    np.testing.assert_allclose(L.GUIDANCE.get("code")(cond, uncond, 4.0).numpy(), c + 4 * (c - u), rtol=1e-5)
    torch.testing.assert_close(L.GUIDANCE.get("code")(cond, uncond, 4.0), L.GUIDANCE.get("usual")(cond, uncond, 5.0))
    with pytest.raises(ClbenchError, match="Did you mean 'usual'"):
        L.GUIDANCE.get("usuall")


def test_x0_and_velocity_are_inverse():
    x0, eps, _ = draw(2, 3)
    s = torch.tensor([0.1, 0.5, 1.0])
    torch.testing.assert_close(to_x0(add_noise(x0, eps, s), velocity(x0, eps), s), x0, rtol=1e-5, atol=1e-5)
