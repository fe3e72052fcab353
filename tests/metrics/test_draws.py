"""What a few draws of a right answer say about a new one."""

from __future__ import annotations

import pytest
import torch

from clbench.metrics.draws import candidate_of, judged_by_others, left_variance, shrunk_variance
from clbench.metrics.features import Layout
from clbench.metrics.whitening import project_out

PLAN = Layout(torch.cat([torch.zeros(400), torch.ones(200)]).long(), ("one", "two"))
FREEDOM = 7


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chi_squared(true):
    """Estimates of the variances `true` (D,) with `FREEDOM` degrees of freedom."""
    return (normal(FREEDOM, len(true)) ** 2).mean(0) * true


def test_level_variances_are_levelled_and_a_map_is_kept():
    level = shrunk_variance(chi_squared(torch.ones(600, dtype=torch.float64)), FREEDOM, PLAN)
    assert level.std() < 0.1
    true = torch.ones(600, dtype=torch.float64)
    true[:200] = 0.01  # this effect varies in one half of channel one only
    mapped = shrunk_variance(chi_squared(true), FREEDOM, PLAN)
    assert mapped[:200].mean() < 0.2 < 0.8 < mapped[200:400].mean()
    assert mapped[400:].std() < 0.1


def test_the_level_of_a_level_channel_is_kept():
    true = torch.cat([torch.full((400,), 0.3), torch.full((200,), 5.0)]).double()
    shrunk = shrunk_variance(chi_squared(true), FREEDOM, PLAN)
    assert 0.28 < shrunk[:400].mean() < 0.35 and 4.5 < shrunk[400:].mean() < 5.5


def test_what_draws_have_in_common_is_no_variance():
    directions = 30 * normal(2, 600, seed=1)
    draws = normal(8, 2, seed=2) @ directions + 0.1 * normal(8, 600, seed=3)
    found = left_variance(draws, PLAN)
    assert found.mean() < 0.05 < 100 < draws.var(0).mean()
    noisy = left_variance(normal(8, 600, seed=4), PLAN)
    assert 0.3 < noisy.mean() < 1.5


def test_a_single_draw_is_exact():
    draw, tangents = normal(1, 600), normal(3, 600, seed=1)
    candidate = candidate_of(draw, tangents, PLAN)
    assert torch.equal(candidate.centre, draw[0]) and torch.equal(candidate.tangents, tangents)
    assert candidate.variance.abs().max() == 0


@pytest.mark.parametrize("free", [0, 3])
def test_a_draw_is_judged_as_if_it_had_never_been_seen(free):
    draws, tangents = 5 + normal(4, 600), normal(free, 600, seed=1)
    deviation, across = judged_by_others(draws, tangents)
    for k in range(4):
        others = torch.cat([draws[:k], draws[k + 1 :]])
        centre = others.mean(0)
        torch.testing.assert_close(deviation[k], draws[k] - centre, rtol=0, atol=1e-12)
        wanted = project_out((draws[k] - centre)[None], torch.cat([others - centre, tangents]))[0]
        torch.testing.assert_close(across[k], wanted, rtol=0, atol=1e-12)
