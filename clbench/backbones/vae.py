"""The backbone's autoencoder alone: what scoring needs of a model, without its transformer and text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from clbench.backbones import RoundTrip
from clbench.backbones.common import opened, pick_device, set_threads, to_uint8, to_vae
from clbench.world import BackboneTable


class VaeRoundTrip:
    """Pictures through encoder (mode) and decoder; called with uint8 ``(H, W, 3)`` each, `batch` at a time.

    A picture whose values are not finite comes back as None. Several threads may call it: on the CPU they work beside each
    other, on a GPU one after the other, since there each of them would hold a batch of its own in the same memory.
    """

    def __init__(self, vae, video: bool, batch: int) -> None:
        self.vae, self.video, self.batch = vae, video, batch
        self._alone = Lock() if vae.device.type == "cuda" else nullcontext()

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        starts = range(0, len(pictures), self.batch)
        with self._alone:
            return [returned for start in starts for returned in self._returned(pictures[start : start + self.batch])]

    @torch.inference_mode()
    def _returned(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        batch = to_vae(pictures, self.vae.device, self.vae.dtype)
        latents = self.vae.encode(batch.unsqueeze(2) if self.video else batch).latent_dist.mode()
        decoded = self.vae.decode(latents).sample
        decoded = decoded[:, :, 0] if self.video else decoded
        return to_uint8(((decoded + 1) / 2).float().permute(0, 2, 3, 1).cpu().numpy())


def open_vae(folder: Path, table: BackboneTable) -> RoundTrip:
    """The VAE of the pipeline in `folder` as a round trip; ClbenchError if there is none.

    Qwen-Image's is a video model, which sees one frame.
    """
    from diffusers import AutoencoderKL, AutoencoderKLQwenImage

    video = table.kind == "qwen-image-edit"
    set_threads()
    vae = opened(AutoencoderKLQwenImage if video else AutoencoderKL, folder / "vae", table).eval().to(pick_device(table.device))
    if not video and vae.device.type == "cpu" and vae.dtype == torch.float32:
        vae.to(memory_format=torch.channels_last)
    return VaeRoundTrip(vae, video, table.batch)
