"""Readings from inner products are those from the vectors themselves."""

from __future__ import annotations

import torch

from clbench.metrics.readings import inner_products, left_out_products, mixture_of, together
from clbench.metrics.whitening import project_out

WINDOWS = torch.tensor([[0, 3, 5, 7, 9, 20, 21, 22], [1, 2, 4, 6, 8, 23, 24, 25]])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_products_are_those_of_the_picture_and_of_each_window():
    rows = normal(6, 30)
    found = inner_products(rows, WINDOWS)
    assert found.shape == (3, 6, 6)
    torch.testing.assert_close(found[0], rows @ rows.T)
    torch.testing.assert_close(found[2], rows[:, WINDOWS[1]] @ rows[:, WINDOWS[1]].T)


def test_free_vectors_are_projected_out():
    free, directions, outputs = normal(3, 30), normal(4, 30, seed=1), normal(5, 30, seed=2)
    found = mixture_of(inner_products(torch.cat([free, directions, outputs]), WINDOWS), 3, 4)
    filtered = project_out(directions, free)
    lengths = (directions * filtered).sum(1).sqrt()
    torch.testing.assert_close(found.unit[0, 0], 1 / lengths)
    torch.testing.assert_close(found.gram[0], directions @ filtered.T / lengths / lengths[:, None])
    torch.testing.assert_close(found.match[0], outputs @ filtered.T / lengths)
    torch.testing.assert_close(found.energy[0], (outputs * project_out(outputs, free)).sum(1))


def test_a_direction_of_no_length_has_no_dose():
    rows = torch.cat([normal(2, 30), torch.zeros((1, 30), dtype=torch.float64), normal(1, 30, seed=1)])
    rows = torch.cat([rows, 50 * rows[3:]])
    assert mixture_of(inner_products(rows, WINDOWS), 2, 2).doses(30)[0, 0, 0] > 10
    assert mixture_of(inner_products(rows[[0, 1, 2, 2, 4]], WINDOWS), 2, 2).doses(30).abs().max() == 0


def test_a_draw_left_out_is_as_if_it_had_never_been_there():
    draws, rest, outputs = normal(4, 30), normal(3, 30, seed=1), normal(4, 30, seed=2)
    centre = draws.mean(0)
    products = inner_products(torch.cat([draws - centre, rest, outputs - centre]), WINDOWS)
    found = left_out_products(products, 4, slice(1, 4))
    assert found.shape == (3, 3, 7, 7)
    for number, k in enumerate((1, 2, 3)):
        others = torch.cat([draws[:k], draws[k + 1 :]])
        rows = torch.cat([others - others.mean(0), rest, outputs[k : k + 1] - others.mean(0)])
        torch.testing.assert_close(found[number], inner_products(rows, WINDOWS))


def test_problems_side_by_side_are_solved_as_alone():
    parts = [mixture_of(inner_products(normal(9, 30, seed=n), WINDOWS), 2, 4) for n in range(2)]
    alone = torch.cat([part.doses(30) for part in parts])
    torch.testing.assert_close(together(parts).doses(30), alone)
