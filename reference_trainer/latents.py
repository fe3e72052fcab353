"""Pictures to packed latents and back, exactly as FluxKontextPipeline prepares them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from torch import Tensor

from clbench.registry import ClbenchError

PIXELS = 32 * 64 * 64
"""Most pixels of one pass of the autoencoder: 32 pictures of 64 px; of 1024 px one, whose widest layer takes a GB."""


class LatentSpace:
    """Square pictures of `size` pixels and the latents of one pipeline's VAE.

    A packed latent is float32 ``(tokens, channels)`` with ``tokens = (size / (2 f))^2`` and four times the VAE's channels.
    Encoding takes the mode of the posterior, as the pipeline does. `batch` is the number of pictures of one pass. Latents rest on
    the CPU: a training draws a few at a time of what may be thousands.
    """

    def __init__(self, pipeline: FluxKontextPipeline, size: int) -> None:
        multiple = pipeline.vae_scale_factor * 2
        if size % multiple:
            raise ClbenchError(f"the picture size {size} is not a multiple of {multiple}, which this VAE needs")
        self._pipe = pipeline
        self.size = size
        self._side = size // pipeline.vae_scale_factor
        self.batch = min(32, max(1, PIXELS // size**2))
        self.tokens = (self._side // 2) ** 2
        self.channels = int(pipeline.transformer.config.in_channels)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one packed latent."""
        return self.tokens, self.channels

    def pack(self, latents: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, tokens, 4 C)``."""
        n, c, h, w = latents.shape
        return self._pipe._pack_latents(latents, n, c, h, w)

    def ids(self) -> Tensor:
        """Position ids ``(2 tokens, 3)`` of the noisy latents (first column 0) and of the source (1)."""
        half = self._side // 2
        ids = self._pipe._prepare_latent_image_ids(1, half, half, torch.device("cpu"), torch.float32)
        source = ids.clone()
        source[:, 0] = 1
        return torch.cat([ids, source])

    @torch.no_grad()
    def encode(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """uint8 pictures ``(size, size, 3)`` to packed latents ``(N, tokens, channels)`` on the CPU; ClbenchError on size."""
        for index, picture in enumerate(pictures):
            if picture.shape != (self.size, self.size, 3) or picture.dtype != np.uint8:
                raise ClbenchError(
                    f"picture {index} is {picture.dtype} {picture.shape}, expected uint8 {(self.size, self.size, 3)}"
                )
        return torch.cat([self._encode(pictures[i : i + self.batch]) for i in range(0, len(pictures), self.batch)])

    def _encode(self, pictures: Sequence[np.ndarray]) -> Tensor:
        vae = self._pipe.vae
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().to(vae.device) / 255 * 2 - 1
        mode = vae.encode(x.to(vae.dtype)).latent_dist.mode().float()
        return self.pack((mode - vae.config.shift_factor) * vae.config.scaling_factor).cpu()

    @torch.no_grad()
    def decode(self, packed: Tensor) -> np.ndarray:
        """Packed latents ``(N, tokens, channels)`` of any device to uint8 pictures ``(N, size, size, 3)``, N of at least 1."""
        return np.concatenate([self._decode(part) for part in packed.split(self.batch)])

    def _decode(self, packed: Tensor) -> np.ndarray:
        vae = self._pipe.vae
        latents = self._pipe._unpack_latents(packed.to(vae.device), self.size, self.size, self._pipe.vae_scale_factor)
        images = vae.decode((latents / vae.config.scaling_factor + vae.config.shift_factor).to(vae.dtype)).sample
        images = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
        return (images * 255).round().astype(np.uint8)
