from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_toys import picture, snow

from clbench.metrics import METRICS
from clbench.metrics.nuisance import apply_nuisance
from clbench.metrics.quality import psnr, ssim
from clbench.metrics.similarity import (
    clip_directional_similarity,
    clip_image_similarity,
    clip_text_similarity,
    feature_distance,
    nearest_draw,
    perceptual_distance,
)
from clbench.metrics.subject import anchors_of_draws, reference, subject_score
from clbench.registry import ClbenchError


def batch(count=5):
    return torch.stack([picture(n) for n in range(count)])


class Plain:
    """A network whose only layer is the picture."""

    def features(self, images):
        return [images]


def test_every_metric_of_the_contract_has_a_card():
    names = {
        "perceptual", "clip_image", "clip_text", "clip_directional", "psnr", "ssim", "subject", "success", "bcr", "vsa",
        "leak_total", "dose", "attribution_distance", "attributed", "leak",
        "neutral_distance", "neutral_leak", "neutral_leak_total",
        "both", "first_shows", "second_shows", "in_order", "order_change",
    }  # fmt: skip
    assert set(METRICS) == names
    for name in METRICS:
        card = METRICS.get(name)
        assert card.name == name and card.about.endswith(".") and card.bounds[0] <= card.bounds[1]
    assert {n for n in METRICS if METRICS.get(n).pairwise} == {"attribution_distance", "attributed", "leak", "neutral_leak"}
    with pytest.raises(ClbenchError, match="perceptual"):
        METRICS.get("perceptuall")


def test_equal_pictures_are_perfect():
    images = batch()
    assert torch.equal(psnr(images, images), torch.full((5,), 100.0))
    torch.testing.assert_close(ssim(images, images), torch.ones(5))
    assert perceptual_distance(Plain(), images, images).abs().max() == 0


def test_values_do_not_depend_on_order_or_batch():
    images, truths = batch(), batch().flip(0)
    order = torch.tensor([3, 0, 4, 1, 2])
    metrics = {"psnr": psnr, "ssim": ssim, "perceptual": lambda a, b: perceptual_distance(Plain(), a, b)}
    for name, metric in metrics.items():
        whole, tolerance = metric(images, truths), METRICS.get(name).tolerance
        torch.testing.assert_close(metric(images[order], truths[order]), whole[order], rtol=0, atol=tolerance)
        torch.testing.assert_close(metric(images[2:3], truths[2:3]), whole[2:3], rtol=0, atol=tolerance)


def test_shapes_are_checked(unchecked):
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(torch.rand(1, 3, 8, 8), torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_clip_similarities_of_known_vectors():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert clip_image_similarity(x, x) == 1 and clip_text_similarity(x, y) == 0
    assert clip_directional_similarity(x, y, x, y) == pytest.approx(1)
    assert clip_directional_similarity(x, y, y, x) == pytest.approx(-1)
    assert clip_directional_similarity(x, x, x, y) == 0


def test_feature_distance_sums_layers():
    a, b = [torch.ones(2, 3, 4, 4), torch.zeros(2, 1, 2, 2)], [torch.zeros(2, 3, 4, 4), torch.ones(2, 1, 2, 2)]
    assert torch.equal(feature_distance(a, b), torch.tensor([4.0, 4.0]))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=4))
def test_nearest_draw_is_the_best_of_the_draws(rows):
    values = torch.tensor(rows)
    assert torch.equal(nearest_draw(values, "lower"), values.min(1).values)
    assert torch.equal(nearest_draw(values, "higher"), values.max(1).values)


def test_nearest_draw_minds_missing_draws():
    values, valid = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[False, True], [False, False]])
    best = nearest_draw(values, "lower", valid)
    assert best[0] == 2 and best[1].isnan()


def emptied(image):
    """`image` with its middle painted over by a gradient."""
    bare = image.clone()
    bare[:, :, 16:48, 16:48] = torch.linspace(0.3, 0.6, 32).view(1, 1, 1, 32)
    return bare


def test_subject_is_five_when_there_and_one_when_gone():
    here = picture(1)[None]
    bare = emptied(here)
    truth = [reference(here, bare)]
    assert subject_score(here, truth) == 5
    assert subject_score(bare, truth) == 1
    assert subject_score(1 - bare, truth) < 2.5
    assert subject_score(picture(9)[None], truth) < 2
    assert subject_score(apply_nuisance(here, [3]), truth) > 4.5


def test_subject_takes_the_best_reference_and_ignores_colour():
    here = picture(2)[None]
    tinted = here * torch.tensor([0.9, 0.7, 0.5]).view(1, 3, 1, 1)
    plain, inverted = reference(here, emptied(here)), reference(1 - here, 1 - emptied(here))
    assert subject_score(tinted, [inverted, plain]) > 4.5
    assert subject_score(tinted, [inverted]) == 1


def test_references_without_a_difference_see_nothing():
    assert subject_score(picture(1)[None], [reference(picture(1)[None], picture(1)[None])]) == 1


def test_anchors_of_random_draws_make_a_new_draw_five():
    here = picture(3)
    bare = emptied(here[None])[0]
    draws, without = (torch.stack([snow(image, k) for k in range(8)]) for image in (here, bare))
    anchors, truth = anchors_of_draws(draws, without), [reference(draws, without)]
    assert anchors.visible
    assert subject_score(snow(here, 9)[None], truth, anchors) > 4.5
    assert subject_score(snow(bare, 9)[None], truth, anchors) < 1.5
    same = torch.stack([picture(n) for n in range(4)])
    assert not anchors_of_draws(same, same).visible
