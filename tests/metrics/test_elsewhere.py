"""What an effect did on other sources, moved to another picture."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clbench.calibration import to_tensor
from clbench.metrics.elsewhere import moved, slopes
from clbench.world import load_world


@pytest.fixture(scope="module")
def scenes():
    world = load_world("tiny")
    return to_tensor([world.source_image(source.id, 64) for source in world.sources[:24]])


def pictures(count, seed, side=32, low=0.3, high=0.6):
    """Coarse random pictures, so that a window sees one colour."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand((count, 3, side // 8, side // 8), generator=generator) * (high - low) + low
    return small.repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_what_only_adds_is_added_here():
    sources, chance = pictures(24, 0), pictures(24, 1, low=0.0, high=0.1)
    slope = slopes(sources, sources + chance)
    assert (slope - 1).abs().max() < 0.2
    made = moved(sources[1:] + chance[1:], sources[1:], sources[0], slope)
    assert (made - (sources[0] + chance[1:])).abs().mean() < 0.01 < 0.08 < (sources[1:] - sources[0]).abs().mean()


def test_what_hides_the_source_stays_as_it_was():
    sources, cover = pictures(24, 0), pictures(24, 1)
    slope = slopes(sources, cover)
    assert slope.abs().mean() < 0.12
    assert (moved(cover[1:], sources[1:], sources[0], slope) - cover[1:]).abs().mean() < 0.015


def test_a_negative_has_a_negative_slope():
    sources = pictures(24, 0)
    slope = slopes(sources, 1 - sources)
    assert torch.allclose(slope, torch.tensor(-1.0))
    assert torch.allclose(moved(1 - sources[1:], sources[1:], sources[0], slope), 1 - sources[:1].expand(23, -1, -1, -1))


def test_a_cover_over_half_of_the_picture_is_told_from_the_other_half():
    sources, cover = pictures(24, 0), pictures(24, 1)
    answers = torch.cat([cover[:, :, :16], sources[:, :, 16:]], 2)
    slope = slopes(sources, answers)
    assert slope[0, :12].abs().mean() < 0.15 and slope[0, 20:].min() > 0.9
    made = moved(answers[1:], sources[1:], sources[0], slope)
    assert (made[:, :, 20:] - sources[0, :, 20:]).abs().max() < 0.03


def test_pictures_that_do_not_differ_tell_nothing_and_change_nothing():
    one, cover = pictures(1, 0), pictures(3, 1)
    assert slopes(one, cover[:1]).abs().max() == 0
    slope = slopes(one.expand(3, -1, -1, -1), cover)
    assert torch.equal(moved(cover, one.expand(3, -1, -1, -1), one[0], slope), cover)


@pytest.mark.parametrize("count", [1, 2, 6])
@given(seed=st.integers(0, 2**16))
def test_results_are_pictures_in_the_order_of_the_answers(count, seed):
    sources, answers = pictures(count, seed, low=0, high=1), pictures(count, seed + 1, low=0, high=1)
    onto, slope = pictures(1, seed + 2, low=0, high=1)[0], slopes(sources, answers)
    made = moved(answers, sources, onto, slope)
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1 and slope.abs().max() <= 1
    turned = moved(answers.flip(0), sources.flip(0), onto, slopes(sources.flip(0), answers.flip(0)))
    assert torch.allclose(turned.flip(0), made, atol=1e-5)
    back = moved(answers, sources, sources[0], slope)
    assert torch.allclose(back[0], answers[0], atol=1e-6)  # where it was it stays as it is


def test_an_effect_after_another_is_foretold_better_than_not_at_all(scenes):
    """Sepia and a negative after a cover of half the picture, against the true order of operators."""
    covered = scenes[0].clone()
    covered[:, :, 32:] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    for effect in (lambda x: 1 - x, lambda x: x.mean(1, keepdim=True).expand_as(x)):
        answers = effect(scenes)
        found = moved(answers[:1], scenes[:1], covered, slopes(scenes, answers))
        true = effect(covered[None])
        assert (found - true).abs().mean() < 0.8 * (covered + answers[:1] - scenes[0] - true).abs().mean()
