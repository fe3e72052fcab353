"""Matrix products in bfloat16 over float32 weights, for processors that know bfloat16.

Sampling only. Attention stays torch's own here: written out, as the trainer has it for the sake of its backward pass,
it is no faster without one.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch


def round_products(transformer: torch.nn.Module) -> None:
    """From now on the transformer's matrix products are in bfloat16; weights, norms, sums and its output are not.

    The output is float32 because the scheduler keeps its samples in the output's dtype, and would round every step.
    """
    forward, kind = transformer.forward, next(transformer.parameters()).device.type
    # torch says once that a norm of rounded values with float32 weights is not one fused call; that is what is wanted
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")

    @functools.wraps(forward)
    def rounded(*args: Any, **kwargs: Any) -> tuple[torch.Tensor]:
        with torch.autocast(kind, torch.bfloat16):
            (velocity,) = forward(*args, **kwargs)  # the pipelines ask for a tuple
        return (velocity.float(),)

    transformer.forward = rounded  # type: ignore[method-assign]
