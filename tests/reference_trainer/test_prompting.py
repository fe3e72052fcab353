"""Who sees which words, and how orthogonal they are."""

from __future__ import annotations

import json

import pytest
import torch

from clbench.types import Effect
from reference_trainer.prompting import Prompts, coherence, gram, student_prompt, wordings_fact

EFFECT = Effect("fx", "fx", "colour", "make it blue", "the picture in blue", "<q7>")


@pytest.mark.parametrize(
    ("style", "text"),
    [("aop", "<q7> the picture in blue"), ("caption", "the picture in blue"), ("instruction", "make it blue")],
)
def test_student_prompt_styles(style, text):
    assert student_prompt(EFFECT, style) == text


@pytest.mark.parametrize(
    ("style", "text"),
    [("aop", "<q7> now the picture in blue"), ("caption", "now the picture in blue"), ("instruction", "now make it blue")],
)
def test_another_wording_leaves_the_trigger_in_front(style, text):
    assert student_prompt(EFFECT, style, "now {}") == text


def test_a_header_names_wordings_where_there_are_several():
    assert wordings_fact(["{}"]) == {}
    assert json.loads(wordings_fact(["{}", "now {}"])["wordings"]) == ["{}", "now {}"]


def test_embeddings_equal_the_pipeline_and_are_made_once(cache, pipe, monkeypatch):
    tokens, pooled, _ = pipe.encode_prompt("make it blue", max_sequence_length=12)
    got = cache.one("make it blue")
    torch.testing.assert_close((got.tokens, got.pooled), (tokens, pooled))
    monkeypatch.setattr(pipe, "encode_prompt", None)
    assert torch.equal(cache.many(["make it blue"] * 3).tokens[2], got.tokens[0])


def test_gram_of_known_vectors():
    tokens = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[3.0, 0.0]]])
    matrix = gram(Prompts(tokens, tokens[:, 0]))
    expected = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(matrix, expected)
    assert coherence(matrix) == pytest.approx(2 / 6)
    assert coherence(torch.eye(4)) == 0
