"""The losses of CollectionLoRA (arXiv 2605.25378) as pure functions of tensors; one value per sample.

Nothing is averaged over the batch here: the objective weighs and reduces.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from clbench.registry import Registry
from reference_trainer.schedule import velocity

Guidance = Callable[[Float[Tensor, " b *rest"], Float[Tensor, " b *rest"], float], Float[Tensor, " b *rest"]]
GUIDANCE: Registry[Guidance] = Registry("guidance convention")


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; training stops instead of going on with zeros."""


def per_sample_mean(x: Float[Tensor, " b *rest"]) -> Float[Tensor, " b"]:
    """Mean over everything but the batch."""
    return x.flatten(1).mean(1)


def require_finite(x: Float[Tensor, " b *rest"], what: str) -> Float[Tensor, " b *rest"]:
    """`x` itself; NonFiniteError naming `what` and the bad samples otherwise."""
    finite = torch.isfinite(x.detach())
    finite = finite.flatten(1).all(1) if x.ndim > 1 else finite
    if not bool(finite.all()):
        bad = (~finite).nonzero().flatten().tolist()
        raise NonFiniteError(f"{what} is not finite for samples {bad} of {len(x)}")
    return x


@GUIDANCE.register("usual")
def usual_guidance(
    cond: Float[Tensor, " b *rest"], uncond: Float[Tensor, " b *rest"], weight: float
) -> Float[Tensor, " b *rest"]:
    """``uncond + w (cond - uncond)`` (Ho and Salimans 2022), as FluxKontextPipeline's true_cfg_scale."""
    return uncond + weight * (cond - uncond)


@GUIDANCE.register("code")
def code_guidance(
    cond: Float[Tensor, " b *rest"], uncond: Float[Tensor, " b *rest"], weight: float
) -> Float[Tensor, " b *rest"]:
    """``cond + w (cond - uncond)``, the public code's convention: w = 4 here is 5 in the usual one."""
    return cond + weight * (cond - uncond)


def flow_matching(
    predicted: Float[Tensor, " b *rest"], x0: Float[Tensor, " b *rest"], eps: Float[Tensor, " b *rest"]
) -> Float[Tensor, " b"]:
    """``L_FM = || v_theta(x_s, s, c) - (eps - x0) ||^2``, mean over elements.

    Used for teachers on their pairs and for the fake score on the student's own detached samples.
    """
    return require_finite(per_sample_mean((predicted - velocity(x0, eps)) ** 2), "flow matching loss")


def ta_fm(
    predicted: Float[Tensor, " b *rest"], target: Float[Tensor, " b *rest"], eps: Float[Tensor, " b *rest"]
) -> Float[Tensor, " b"]:
    """Trajectory anchoring: ``L_TA-FM = || v_student(y_t, t, c) - (eps - y) ||^2``, mean over elements.

    `target` is the stored teacher output y, ``y_t = (1 - t) y + t eps`` with t at the noisy end (C2F-DO, coarse part).
    """
    return flow_matching(predicted, target, eps)


def velocity_matching(predicted: Float[Tensor, " b *rest"], teacher: Float[Tensor, " b *rest"]) -> Float[Tensor, " b"]:
    """``|| v_student(y_t, t, c) - v_teacher(y_t, t, c_teacher) ||^2``, mean over elements.

    What the teacher predicts is asked for directly (Meng et al. 2023, On distillation of guided diffusion models, eq. 5, with the
    velocity in the place of x0); flow matching on stored outputs y asks for it through the noise of eps - y. Both have the same
    minimum only where y was made with the guidance that `teacher` has, and then but for the error of y's steps: exactly without
    guidance, nearly with it (a guided velocity is not the mean of eps - y over what it leads to).
    """
    return require_finite(per_sample_mean((predicted - teacher.detach()) ** 2), "velocity matching loss")


def dmd_gradient(
    x0_gen: Float[Tensor, " b *rest"], x0_fake: Float[Tensor, " b *rest"], x0_real: Float[Tensor, " b *rest"]
) -> Float64[Tensor, " b *rest"]:
    """``g = (x0_fake - x0_real) / mean|x0_gen - x0_real|`` per sample, without gradient.

    `x0_fake` and `x0_real` are what fake score and (guided) teacher predict from the same re-noised `x0_gen`
    (Yin et al. 2024, DMD2, eq. 8 of DMD; CollectionLoRA DMD_BS and DMD_TS). A non-finite value raises.
    """
    gen, fake, real = (t.detach().double() for t in (x0_gen, x0_fake, x0_real))
    norm = per_sample_mean((gen - real).abs()).view(-1, *[1] * (gen.ndim - 1))
    return require_finite((fake - real) / norm, "distribution matching gradient")


def dmd(x0_gen: Float[Tensor, " b *rest"], gradient: Float[Tensor, " b *rest"]) -> Float64[Tensor, " b"]:
    """``0.5 * || x - stopgrad(x - g) ||^2``, mean over elements: its gradient in x is g / numel."""
    x = x0_gen.double()
    return require_finite(0.5 * per_sample_mean((x - (x - gradient).detach()) ** 2), "distribution matching loss")
