"""What a random effect did on other sources, carried over to this one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clbench.metrics.elsewhere import carried_over, slopes


def pictures(count, seed, side=32, low=0.3, high=0.6):
    """Coarse random pictures, so that a window sees one colour."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand((count, 3, side // 8, side // 8), generator=generator) * (high - low) + low
    return small.repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_what_only_adds_is_added_here():
    sources, chance = pictures(24, 0), pictures(24, 1, low=0.0, high=0.1)
    made = carried_over(sources[0], sources[:1] + chance[:1], sources[1:], sources[1:] + chance[1:])
    assert (slopes(sources, sources + chance) - 1).abs().max() < 0.2
    assert (made - (sources[0] + chance[1:])).abs().mean() < 0.01 < 0.08 < (sources[1:] - sources[0]).abs().mean()


def test_what_hides_the_source_stays_as_it_was():
    sources, cover = pictures(24, 0), pictures(24, 1)
    made = carried_over(sources[0], cover[:1], sources[1:], cover[1:])
    assert slopes(sources, cover).abs().mean() < 0.12 and (made - cover[1:]).abs().mean() < 0.015


def test_a_cover_over_half_of_the_picture_is_told_from_the_other_half():
    sources, cover = pictures(24, 0), pictures(24, 1)
    answers = torch.cat([cover[:, :, :16], sources[:, :, 16:]], 2)
    slope = slopes(sources, answers)[0]
    assert slope[:12].abs().mean() < 0.15 and slope[20:].min() > 0.9
    made = carried_over(sources[0], answers[:1], sources[1:], answers[1:])
    assert (made[:, :, 20:] - sources[0, :, 20:]).abs().max() < 0.03


def test_pictures_that_do_not_differ_tell_nothing_and_change_nothing():
    one, cover = pictures(1, 0), pictures(3, 1)
    made = carried_over(one[0], cover[:1], one.expand(2, -1, -1, -1), cover[1:])
    assert torch.equal(made, cover[1:])


@pytest.mark.parametrize("others", [1, 5])
@given(seed=st.integers(0, 2**16), own=st.integers(1, 3))
def test_results_are_pictures_in_the_order_of_the_others(others, seed, own):
    sources, answers = pictures(others, seed, low=0, high=1), pictures(others, seed + 1, low=0, high=1)
    here, truths = pictures(1, seed + 2, low=0, high=1)[0], pictures(own, seed + 3, low=0, high=1)
    made = carried_over(here, truths, sources, answers)
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1
    turned = carried_over(here, truths, sources.flip(0), answers.flip(0))
    assert torch.allclose(turned.flip(0), made, atol=1e-5)
