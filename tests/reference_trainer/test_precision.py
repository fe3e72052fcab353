"""bfloat16 training: our attention is torch's, and nothing leaks out of the context."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reference_trainer.precision import plain_attention, training_precision


def test_plain_attention_is_torchs_with_and_without_mask():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8, generator=generator) for _ in range(3))
    mask = torch.randn(7, 7, generator=generator)
    assert torch.allclose(plain_attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6)
    assert torch.allclose(plain_attention(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask), atol=1e-6)


def test_what_is_not_written_out_raises():
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(NotImplementedError):
        plain_attention(q, q, q, is_causal=True)


def test_bfloat16_inside_and_nothing_changed_outside():
    kept, layer = F.scaled_dot_product_attention, torch.nn.Linear(4, 4)
    with training_precision("bfloat16"):
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
        assert F.scaled_dot_product_attention is plain_attention
    assert F.scaled_dot_product_attention is kept
    with training_precision("float32"):
        assert layer(torch.ones(1, 4)).dtype == torch.float32
