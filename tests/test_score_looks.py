from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
import torch

from clbench import score_memory
from clbench.metrics.similarity import perceptual_distance
from clbench.score_looks import Looks


class Toy:
    """A perceptual network of two layers and a CLIP; counts the pictures that it sees."""

    card = None

    def __init__(self) -> None:
        self.seen = 0

    def features(self, images):
        self.seen += len(images)
        return [images[:, :, ::2], images.mean(1, keepdim=True)]

    def embed_image(self, images):
        self.seen += len(images)
        return torch.nn.functional.normalize(images.flatten(1), dim=1)

    def embed_text(self, texts):
        raise NotImplementedError


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))


def test_distances_are_those_of_the_network():
    network = Toy()
    outputs, others = pictures(37), pictures(3, 1)
    found = Looks(network, None).distances(outputs, others)
    wanted = torch.stack([perceptual_distance(Toy(), outputs, other.expand_as(outputs)) for other in others], 1)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    assert network.seen == len(outputs) + len(others)


def test_each_distinct_picture_is_seen_once_whoever_asks():
    network = Toy()
    looks, outputs, truths = Looks(network, network), pictures(6), pictures(2, 1)
    same = torch.cat([outputs, truths, outputs[:1]])
    looks.prepare([(same, truths[:1]), (outputs[2:], truths), (outputs[:1], outputs[1:2])])
    assert network.seen == 8
    found = looks.distances(same, truths[:1])
    assert network.seen == 8 and found[6] == 0 and found[0] == found[8] and looks.distances(outputs[:1], outputs[1:2]) > 0
    looks.embed(same)
    assert torch.equal(looks.embed(outputs[2:4]), looks.embed(outputs)[2:4]) and network.seen == 16


class Counted(Toy):
    """Remembers how many pictures each call had, and whether the features of the outputs before were still there."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.alive: list[int] = []
        self.made: list[weakref.ref] = []

    def features(self, images):
        self.alive.append(sum(ref() is not None for ref in self.made))
        self.calls.append(len(images))
        layers = super().features(images)
        self.made.append(weakref.ref(layers[1]))
        return layers


def test_pictures_pass_by_and_neither_outputs_nor_second_copies_of_truths_stay():
    outputs, others = pictures(13), pictures(3, 1)
    network = Counted()
    looks = Looks(network, None)
    looks.distances(outputs, others)
    assert network.calls == [8, 8] and network.alive == [0, 0]  # three truths and thirteen outputs fill two passes
    assert sum(layer.nbytes for layers in looks._features.values() for layer in layers) == 3 * 4 * (3 * 4 * 8 + 8 * 8)
    network = Counted()
    Looks(network, None).distances(pictures(1), pictures(19, 1))
    assert network.calls == [8, 8, 4]


def test_large_pictures_pass_by_in_small_numbers_and_nothing_changes():
    large = torch.rand((5, 3, 300, 300), generator=torch.Generator().manual_seed(0))
    network = Counted()
    found = Looks(network, None).distances(large[2:], large[:3])
    assert network.calls == [2, 2, 1]
    alone = [Looks(Toy(), None).distances(one[None], large[:3]) for one in large[2:]]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("free", "workers"), [(10**12, 6), (3.5, 3), (0.2, 1)])
def test_workers_fit_into_the_free_memory(monkeypatch, free, workers):
    each = 512**2 * (27 * 10 + 4 * (1.5 + 1) * (7 + 8 * 1))  # numbers of a picture's features: half of it, and its grey
    monkeypatch.setattr(score_memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=int(free * each)))
    found, there = score_memory.expected(512, 10, 7, Toy()), score_memory.free()
    assert found == each and score_memory.fitting(6, found, there) == workers
    assert score_memory.fitting(1, found, there) == 1
    assert score_memory.fitting(6, score_memory.expected(64, 0, 0, None), there) == 6
    assert bool(score_memory.too_large(512, 10, found, there)) == (free < 1)


def test_a_source_that_does_not_fit_is_told_with_both_numbers():
    told = score_memory.too_large(1024, 2400, 64 * 2**30, 12 * 2**30)
    assert "needs about 64.0 GiB for one source, 12.0 GiB are free" in told and "all 2400 pictures" in told and "1024 px" in told
    assert score_memory.too_large(1024, 2400, 12 * 2**30, 12 * 2**30) == ""


def test_what_was_not_prepared_is_computed():
    looks, outputs = Looks(Toy(), None), pictures(4)
    looks.prepare([(outputs[:2], outputs[2:3])])
    wanted = perceptual_distance(Toy(), outputs[:3], outputs[3:].expand(3, -1, -1, -1))
    torch.testing.assert_close(looks.distances(outputs[:3], outputs[3:])[:, 0], wanted)
