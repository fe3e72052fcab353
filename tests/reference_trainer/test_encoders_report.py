"""The report on the metrics' CLIP: what an encoder that always says the first text scores, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clbench.encoders import EncoderCard
from clbench.scenes import load_pool, scene_of
from clbench.world import load_world
from reference_trainer.encoders_report import as_markdown, effect_recall, recall, scene_recall

TINY = Path(__file__).parent.parent.parent / "suites/worlds/tiny"
WIDTH = 400


class AlwaysFirst:
    """Every picture looks like the first text of a list."""

    card = EncoderCard("always first", "")

    def embed_image(self, images: Tensor) -> Tensor:
        return torch.eye(WIDTH)[:1].repeat(len(images), 1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(WIDTH)[: len(texts)]


def test_recall_counts_nearest_texts():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert recall(images, torch.eye(2), [0, 1, 1]) == pytest.approx(2 / 3)


def test_an_encoder_that_says_the_first_text_is_right_by_chance():
    effects = [e for e in load_world("tiny").effects.values() if e.operator in ("sepia", "invert", "rain")]
    pool = load_pool(TINY / "sources", "evaluation")
    scenes = [scene_of(pool, "evaluation", 1_000_000 + index) for index in range(3)]
    assert effect_recall(AlwaysFirst(), effects, scenes, 64) == pytest.approx(1 / (len(effects) + 1))
    first = next(iter(pool.subjects))
    subject, _ = scene_recall(AlwaysFirst(), pool, scenes, 64)
    assert subject == pytest.approx(sum(s.spec.placements[0].subject == first for s in scenes) / 3)


def test_the_table_names_chance():
    row = {"effect": 0.9, "subject": 0.5, "background": 0.4}
    row |= {"effect_chance": 0.01, "subject_chance": 0.02, "background_chance": 0.03}
    table = as_markdown({"base": row, "evaluation": row}, 7, "the command")
    assert "0.900 (0.010)" in table and "7 scenes" in table and "`the command`" in table
