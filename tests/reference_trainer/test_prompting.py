"""Who sees which words, and how orthogonal they are."""

from __future__ import annotations

import pytest
import torch

from clbench.registry import ClbenchError
from clbench.types import Effect
from reference_trainer.prompting import Prompts, choose_triggers, coherence, gram, student_prompt

EFFECT = Effect("fx", "fx", "colour", "make it blue", "the picture in blue", "<q7>")


@pytest.mark.parametrize(
    ("style", "text"),
    [("aop", "<q7> the picture in blue"), ("caption", "the picture in blue"), ("instruction", "make it blue")],
)
def test_student_prompt_styles(style, text):
    assert student_prompt(EFFECT, style) == text


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


def test_chosen_triggers_are_unique_and_no_worse_than_the_first_ones(cache):
    captions = ["the picture in blue", "the picture in red", "a cat"]
    pool = ["<a1>", "<a2>", "<b7>", "zzzz", "<qq>", "%%%"]
    chosen = choose_triggers(cache, captions, pool)
    assert len(set(chosen)) == 3 and set(chosen) <= set(pool)
    assert chosen == choose_triggers(cache, captions, pool)

    def worst(triggers):
        matrix = gram(cache.many([f"{t} {c}" for t, c in zip(triggers, captions, strict=True)]))
        return float((matrix - torch.eye(3)).abs().max())

    assert worst(chosen) <= worst(pool[:3]) + 1e-9


def test_too_small_a_pool_of_triggers(cache):
    with pytest.raises(ClbenchError, match="the pool has 1"):
        choose_triggers(cache, ["a", "b"], ["<x>", "<x>"])
