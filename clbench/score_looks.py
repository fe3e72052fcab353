"""What the encoders see of the pictures of one source: each distinct picture goes through a network once, whoever asks.

Many pictures are equal (the source itself, a truth that a control repeats, one output under several metrics), and networks
run faster on full batches; so what will be asked is prepared for all systems and effects together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from clbench.encoders import ClipEncoder, rows_of_pass
from clbench.metrics.similarity import PerceptualNetwork, feature_distance

Pair = tuple[Tensor, Tensor]
"""Outputs (n, 3, H, W) and what each of them is compared with (K, 3, H, W), in [0, 1]."""

Groups = dict[tuple[bytes, ...], None]
"""What an output is compared with, by digest: the truths of each question."""


class Looks:
    """Perceptual distances and CLIP embeddings, remembered by content; made anew for each source."""

    def __init__(self, perceptual: PerceptualNetwork | None, clip: ClipEncoder | None) -> None:
        self.perceptual, self.clip = perceptual, clip
        self._features: dict[bytes, list[Tensor]] = {}
        self._stacked: dict[tuple[bytes, ...], list[Tensor]] = {}
        self._distances: dict[tuple[bytes, bytes], float] = {}
        self._embedded: dict[bytes, Tensor] = {}

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Compute the perceptual distances of all `pairs` together."""
        assert self.perceptual is not None
        pictures: dict[bytes, Tensor] = {}
        wanted: dict[bytes, Groups] = {}
        for outputs, others in pairs:
            against = tuple(_keys(others))
            pictures |= dict(zip(against, others, strict=True))
            for key, output in zip(_keys(outputs), outputs, strict=True):
                if any((key, other) not in self._distances for other in against):
                    pictures.setdefault(key, output)
                    wanted.setdefault(key, {})[against] = None
        staying = dict.fromkeys(other for groups in wanted.values() for group in groups for other in group)
        self._look(staying, pictures, wanted)
        for key in wanted:
            if key in self._features:
                self._compare(key, self._features[key], wanted[key])

    def distances(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Perceptual distance (n, K) of each of `outputs` (n, 3, H, W) to each of `others` (K, 3, H, W)."""
        keys, against = _keys(outputs), _keys(others)
        if any((key, other) not in self._distances for key in keys for other in against):
            self.prepare([(outputs, others)])
        return torch.tensor([[self._distances[key, other] for other in against] for key in keys])

    def embed(self, images: Tensor) -> Tensor:
        """CLIP's unit vectors (n, D) of `images` (n, 3, H, W)."""
        assert self.clip is not None
        keys = _keys(images)
        fresh = {key: image for key, image in zip(keys, images, strict=True) if key not in self._embedded}
        if fresh:
            self._embedded |= zip(fresh, self.clip.embed_image(torch.stack(list(fresh.values()))), strict=True)
        return torch.stack([self._embedded[key] for key in keys])

    def _look(self, staying: Iterable[bytes], pictures: Mapping[bytes, Tensor], wanted: Mapping[bytes, Groups]) -> None:
        """Pass by pass, so that nothing is put together: features of truths stay, those of outputs are compared and pass by."""
        assert self.perceptual is not None
        first = [key for key in staying if key not in self._features]
        there = {*self._features, *first}
        queue = first + [key for key in wanted if key not in there]
        size = rows_of_pass(pictures[queue[0]]) if queue else 1
        for start in range(0, len(queue), size):
            keys, stay = queue[start : start + size], len(first) - start
            layers = self.perceptual.features(torch.stack([pictures[key] for key in keys]))
            for number, key in enumerate(keys):
                own = [layer[number : number + 1] for layer in layers]
                if number >= stay:
                    self._compare(key, own, wanted[key])
                else:  # what stays must not hold back the outputs of its pass
                    self._features[key] = own if stay >= len(keys) else [layer.clone() for layer in own]
            del layers, own  # before the next ones are made

    def _compare(self, key: bytes, features: list[Tensor], groups: Iterable[tuple[bytes, ...]]) -> None:
        for group in groups:
            if group not in self._stacked:
                columns = zip(*(self._features[other] for other in group), strict=True)
                self._stacked[group] = layers = [torch.cat(column) for column in columns]
                self._features |= {other: [layer[n : n + 1] for layer in layers] for n, other in enumerate(group)}
            found = feature_distance(features, self._stacked[group]).tolist()
            self._distances |= {(key, other): value for other, value in zip(group, found, strict=True)}


def _keys(images: Tensor) -> Sequence[bytes]:
    """A digest of each picture of `images` (n, 3, H, W)."""
    return [hashlib.sha256(image.contiguous().numpy().data).digest() for image in images]
