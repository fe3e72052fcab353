"""bfloat16 training: matrix products in bfloat16; what is trained, and everything delicate, in float32.

torch's own bfloat16 attention is slow backwards on a processor and eats most of the gain, so attention is written out as two
products and a softmax here; ``tests/benchmarks/test_precision.py`` measures all three ways in one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


@contextmanager
def training_precision(precision: Precision, device: str = "cpu") -> Iterator[None]:
    """Inside, forward passes run in `precision`; float32 changes nothing."""
    if precision == "float32":
        yield
        return
    kept = F.scaled_dot_product_attention
    if device == "cpu":
        F.scaled_dot_product_attention = plain_attention
    try:
        with torch.autocast(device, torch.bfloat16):
            yield
    finally:
        F.scaled_dot_product_attention = kept


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` for (..., tokens, d); masks are added. What FLUX does not use raises."""
    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("plain attention knows neither dropout nor causal masks nor grouped heads")
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    return torch.softmax(scores if attn_mask is None else scores + attn_mask, dim=-1) @ value
