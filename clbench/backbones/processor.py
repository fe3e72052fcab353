"""What makes a FLUX pipeline sample faster on a processor in float32, with the same pictures up to rounding."""

from __future__ import annotations

from typing import Any

import torch

from clbench.backbones.gelu import replace_gelu
from clbench.backbones.threads import InPieces
from clbench.world import BackboneTable

TRANSFORMER_ROWS = ("hidden_states", "timestep", "pooled_projections", "guidance", "encoder_hidden_states")
"""Arguments of FLUX's transformer that have the batch as their first dimension; places of tokens are the same for all rows."""


def suit_processor(pipe: Any, table: BackboneTable) -> None:
    """Batches in pieces for all threads of torch, GELU by the logistic function, channels last in the autoencoder.

    Nothing is changed on a GPU, nor where anything is rounded (half precision, `fast_products`): there a picture would depend on
    how many cores there are.
    """
    if pipe.device.type != "cpu" or table.precision != "float32":
        return
    replace_gelu(pipe.transformer)
    pipe.vae.to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    transform, decode = InPieces(pipe.transformer.forward, TRANSFORMER_ROWS, threads), InPieces(pipe.vae.decode, ("z",), threads)
    pipe.transformer.forward = transform
    pipe.vae.decode = lambda z, **options: decode(z=z, **options)
