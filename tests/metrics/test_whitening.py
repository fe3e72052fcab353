from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_toys import picture
from scipy.optimize import nnls

from clbench.metrics.features import HandMade, hand_features, layout, to_side, window_features
from clbench.metrics.mixture import non_negative_mixture
from clbench.metrics.nuisance import MODEL, Nuisance, apply_nuisance, blur_by, shift_by
from clbench.metrics.whitening import fit_noise, nuisance_residuals, pool_channels, project_out, tangents_of


def batch(count=4):
    return torch.stack([picture(n) for n in range(count)])


def test_features_have_their_layout_and_do_not_depend_on_the_batch():
    features = hand_features(batch(40))
    assert features.shape == (40, layout().size)
    torch.testing.assert_close(hand_features(batch(40)[33:34]), features[33:34], rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="multiples of 32"):
        hand_features(torch.rand(1, 3, 40, 40))


def test_colour_features_are_linear_so_small_doses_add_up():
    a, b = batch(2)[:1], batch(2)[1:]
    linear = layout().channel < 4
    mixed = hand_features(0.8 * a + 0.2 * b)[:, linear]
    torch.testing.assert_close(mixed, 0.8 * hand_features(a)[:, linear] + 0.2 * hand_features(b)[:, linear], atol=1e-6, rtol=0)


def test_windows_hold_local_features_only():
    windows = window_features()
    assert len(windows) == 9
    altered = batch(1).clone()
    altered[:, :, 40:, 40:] = 0
    change = (hand_features(altered) - hand_features(batch(1)))[0].abs()
    assert change[windows[0]].max() < 1e-6 < change[windows[-1]].max()


def test_larger_pictures_are_reduced():
    assert to_side(torch.rand(2, 3, 100, 100), 64).shape == (2, 3, 64, 64)
    same = torch.rand(2, 3, 64, 64)
    assert to_side(same, 64) is same


def test_nuisance_is_seeded_small_and_independent_of_the_batch():
    images = batch()
    once = apply_nuisance(images, [1, 2, 3, 4])
    assert torch.equal(once, apply_nuisance(images, [1, 2, 3, 4]))
    torch.testing.assert_close(apply_nuisance(images[2:3], [3]), once[2:3], rtol=0, atol=1e-6)
    assert not torch.equal(once, apply_nuisance(images, [5, 6, 7, 8]))
    assert 0.01 < (once - images).pow(2).mean().sqrt() < 0.12
    still = apply_nuisance(images, [1, 2, 3, 4], Nuisance((0, 0), 0, 0, 0, 0))
    torch.testing.assert_close(still, images, rtol=0, atol=1e-5)
    assert MODEL.times(2).shift == 1.4
    with pytest.raises(ValueError, match="seeds"):
        apply_nuisance(images, [1])


def test_shift_and_blur_do_what_they_say():
    dot = torch.zeros(1, 3, 33, 33)
    dot[:, :, 16, 16] = 1
    moved = shift_by(dot, torch.tensor([[2.0, -3.0]]))
    assert moved[0, 0].argmax() == (16 - 3) * 33 + 16 + 2
    from scipy.ndimage import gaussian_filter

    blurred = blur_by(dot, torch.tensor([1.3]))
    assert np.abs(blurred[0, 0].numpy() - gaussian_filter(dot[0, 0].numpy(), 1.3, truncate=4)).max() < 2e-3


@pytest.mark.parametrize("shift", [(0.3, -0.7), (2.5, 0.0), (-4.0, 3.2), (-40.0, 55.5)])
def test_a_shift_is_that_of_torch(shift):
    """Its bicubic sampler with a reflected border, also far beyond the border."""
    images = torch.rand((2, 3, 20, 33), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moves = torch.tensor([shift, (0.1, 0.2)], dtype=torch.float64)
    theta = torch.eye(2, 3, dtype=torch.float64).repeat(2, 1, 1)
    theta[:, :, 2] = -2 * moves / torch.tensor([33, 20])
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    wanted = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(shift_by(images, moves), wanted, rtol=0, atol=1e-12)


def test_projection_agrees_with_the_inverse_of_the_covariance():
    g = torch.Generator().manual_seed(0)
    vectors, tangents = (torch.randn(n, 20, generator=g, dtype=torch.float64) for n in (3, 4))
    dense = torch.linalg.inv(torch.eye(20, dtype=torch.float64) + tangents.T @ tangents)
    torch.testing.assert_close(project_out(vectors, tangents), vectors @ dense)


def test_whitened_residuals_of_other_pictures_are_about_white():
    space = HandMade()
    known, new = torch.stack([picture(n) for n in range(100, 116)]), torch.stack([picture(n) for n in range(200, 208)])
    noise = fit_noise(nuisance_residuals(known, space.embed, [[n, n + 50] for n in range(16)]), space.layout)
    found = nuisance_residuals(new, space.embed, [[n + 500] for n in range(8)])
    left = project_out(noise.whiten(found.values), noise.whiten(found.tangents))
    assert 0.4 < left.pow(2).mean() < 2.0
    assert tangents_of(new, space.embed).shape == found.tangents.shape


def test_extra_residuals_widen_the_noise():
    space, images = HandMade(), torch.stack([picture(n) for n in range(12)])
    seeds = [[n] for n in range(12)]
    plain = fit_noise(nuisance_residuals(images, space.embed, seeds), space.layout)
    rough = (images * 16).round() / 16
    extra = fit_noise(nuisance_residuals(images, space.embed, seeds, extra=[rough]), space.layout)
    assert extra.scale.mean() > plain.scale.mean()


def test_channels_are_pooled():
    plan = layout()
    pooled = pool_channels(torch.arange(plan.size, dtype=torch.float64), plan)
    assert torch.unique(pooled).numel() == len(plan.names)
    assert pooled[0] == pytest.approx(127.5)


def test_mixture_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for _ in range(5):
        directions, target = rng.normal(size=(30, 6)), rng.normal(size=(3, 30))
        directions /= np.linalg.norm(directions, axis=0)
        gram, match = directions.T @ directions, target @ directions
        found = non_negative_mixture(torch.tensor(gram)[None], torch.tensor(match)[None])[0].numpy()
        wanted = np.stack([nnls(directions, row)[0] for row in target])
        np.testing.assert_allclose(found, wanted, atol=1e-6)
