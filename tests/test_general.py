"""General edits: every kind draws, changes what it names, and is none of the catalogue's effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clbench.effects import OPERATORS
from clbench.general import KINDS, draw_edit, instruction_corpus
from clbench.registry import ClbenchError
from clbench.scenes import load_pool, scene_of

SOURCES = Path(__file__).parent.parent / "suites/worlds/tiny/sources"


@pytest.fixture(scope="module")
def pool():
    return load_pool(SOURCES, "teacher")


@pytest.mark.parametrize("kind", KINDS.names())
def test_a_kind_is_deterministic_and_visible(pool, kind):
    scene = scene_of(pool, "teacher", 5)
    edit, again = (draw_edit(scene, pool, np.random.default_rng(4), kind) for _ in range(2))
    assert edit.kind == kind and edit.instruction and edit.target.shape == scene.image.shape
    assert edit.instruction == again.instruction and np.array_equal(edit.target, again.target)
    changed = np.abs(edit.target.astype(int) - scene.image).mean()
    assert changed == 0 if kind == "identity" else changed > 1


def test_one_instruction_of_a_random_kind_has_many_answers(pool):
    scene = scene_of(pool, "teacher", 5)
    answers: dict[str, set[bytes]] = {}
    for seed in range(60):
        edit = draw_edit(scene, pool, np.random.default_rng(seed), "background_any")
        answers.setdefault(edit.instruction, set()).add(edit.target.tobytes())
    assert max(len(found) for found in answers.values()) > 5


def test_no_effect_of_the_catalogue_is_a_general_edit():
    assert not set(KINDS) & set(OPERATORS)


def test_the_corpus_covers_the_instructions(pool):
    words = {word for line in instruction_corpus(pool) for word in line.split()}
    scene = scene_of(pool, "teacher", 9)
    for seed in range(100):
        assert set(draw_edit(scene, pool, np.random.default_rng(seed)).instruction.split()) <= words


def test_unknown_kind_is_one_sentence(pool):
    with pytest.raises(ClbenchError, match=r"unknown general edit 'mirrored'.*'mirror'"):
        draw_edit(scene_of(pool, "teacher", 0), pool, np.random.default_rng(0), "mirrored")
