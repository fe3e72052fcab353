"""Sample sheets: small pictures enlarged, large ones reduced."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.images import reduce_to
from reference_trainer.sheets import HEAD, MARGIN, sheet


@pytest.mark.parametrize(("size", "side"), [(32, 64), (64, 128), (128, 256), (192, 192), (256, 256), (257, 256), (1024, 256)])
def test_columns_are_at_most_so_wide(size, side):
    rng = np.random.default_rng(size)
    pictures = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    drawn = sheet([("source", pictures), ("made", pictures[::-1])], ["a", "b"])
    assert drawn.shape == (2 * (side + HEAD) + HEAD + MARGIN, 2 * (side + MARGIN) + MARGIN, 3)
    top, left = HEAD + HEAD, MARGIN + side + MARGIN
    times = np.ones((side // size, side // size, 1), np.uint8)
    shown = reduce_to(pictures[1], side) if side < size else np.kron(pictures[1], times)
    np.testing.assert_array_equal(drawn[top : top + side, left : left + side], shown)
