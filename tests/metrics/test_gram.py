"""Coherence of sets of vectors with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.metrics.gram import centred, coherence, cosines


def test_orthogonal_vectors_have_no_coherence_and_full_rank():
    found = coherence(cosines(np.eye(5) * 3.0))
    assert found.mean == found.largest == 0 and found.effective_rank == pytest.approx(5)


def test_equal_vectors_are_one_direction():
    found = coherence(cosines(np.ones((4, 3))))
    assert found.mean == found.largest == pytest.approx(1) and found.effective_rank == pytest.approx(1)


def test_the_nearest_pair_is_named():
    vectors = np.eye(4, 6)
    vectors[3] = vectors[1] + 0.5 * vectors[3]
    found = coherence(cosines(vectors))
    assert found.between == (1, 3) and found.largest == pytest.approx(1 / np.hypot(1, 0.5))


def test_what_all_share_is_taken_out():
    rng = np.random.default_rng(0)
    vectors = 10 + rng.normal(size=(8, 64))
    assert coherence(cosines(vectors)).mean > 0.95 > 0.4 > coherence(cosines(centred(vectors))).mean


def test_no_pair_no_number():
    found = coherence(cosines(np.ones((1, 3))))
    assert np.isnan(found.mean) and found.between is None
    assert cosines(np.zeros((2, 3))).tolist() == [[1, 0], [0, 1]]
