"""Laws of the distances between sets."""

from __future__ import annotations

import pytest
import torch

from clbench.metrics.sets import cmmd, kid


def samples(count: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.randn((count, 8), generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("distance", [kid, cmmd])
def test_symmetric_whatever_the_order_and_larger_for_larger_shifts(distance):
    one, near, far = samples(50), samples(40, 0.5, 1), samples(40, 2.0, 1)
    assert distance(one, near) == pytest.approx(distance(near, one))
    assert distance(one.flip(0), near) == pytest.approx(distance(one, near))
    assert 0 < distance(one, near) < distance(one, far)


def test_equal_sources_give_zero_on_average_for_kid_and_zero_for_one_set_for_cmmd():
    found = torch.tensor([kid(samples(30, seed=2 * n), samples(30, seed=2 * n + 1)) for n in range(200)])
    assert abs(found.mean()) < 3 * found.std() / 200**0.5 and (found < 0).any()
    assert cmmd(samples(30), samples(30)) == pytest.approx(0.0, abs=1e-9)


def test_cmmd_does_not_see_lengths():
    assert cmmd(3 * samples(30), samples(20, 1.0, 1)) == pytest.approx(cmmd(samples(30), samples(20, 1.0, 1)))


@pytest.mark.parametrize("shapes", [((1, 4), (5, 4)), ((5, 4), (5, 3)), ((5,), (5, 4))])
def test_wrong_shapes_are_refused(shapes, unchecked):
    with pytest.raises(ValueError, match="expected"):
        kid(*(torch.zeros(shape) for shape in shapes))
