from __future__ import annotations

import threading
import time
import weakref
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch

from clbench import score_looks, score_memory
from clbench.metrics.similarity import perceptual_distance
from clbench.score_looks import STREAMED, Looks
from clbench.score_order import in_order, one_thread_each


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
    outputs, others = pictures(STREAMED + 5), pictures(3, 1)
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


def test_large_pictures_pass_by_in_small_numbers_and_nothing_changes(monkeypatch):
    outputs, others = pictures(STREAMED + 9), pictures(3, 1)
    whole, few = Counted(), Counted()
    wanted = Looks(whole, None).distances(outputs, others)
    assert whole.calls == [3, STREAMED, 9]
    each = sum(layer.nbytes for layer in Toy().features(outputs[:1]))
    monkeypatch.setattr(score_looks, "STREAMED_BYTES", 5 * each)
    found = Looks(few, None).distances(outputs, others)
    assert torch.equal(found, wanted)
    assert few.calls == [3, *[5] * 8, 1] and few.alive == [0, 1, *[0] * 8]  # neither a second copy of truths nor outputs before
    monkeypatch.setattr(score_looks, "STREAMED_BYTES", 1)
    assert torch.equal(Looks(Toy(), None).distances(outputs, others), wanted)


def test_truths_are_looked_at_pass_by_pass():
    network, large = Counted(), torch.rand((3, 3, 300, 300), generator=torch.Generator().manual_seed(0))
    Looks(network, None).distances(pictures(1), pictures(19, 1))
    assert network.calls == [8, 8, 3, 1]
    network = Counted()
    Looks(network, None).distances(large[:1], large)
    assert network.calls == [2, 1]


@pytest.mark.parametrize(("free", "workers"), [(10**12, 6), (3.5, 3), (0.2, 1)])
def test_workers_fit_into_the_free_memory(monkeypatch, free, workers):
    each = 512**2 * (27 * 10 + 4 * (1.5 + 1) * (7 + 2 * STREAMED))  # numbers of a picture's features: half of it, and its grey
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


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers):
    def slow_first(number):
        time.sleep(0.02 / (1 + number))
        return number, torch.get_num_threads() if workers > 1 else 1

    with one_thread_each():
        assert list(in_order(slow_first, range(7), workers)) == [(number, 1) for number in range(7)]


def test_what_was_not_begun_is_dropped():
    begun: list[int] = []

    def work(number):
        begun.append(number)
        time.sleep(0.02)

    with closing(in_order(work, range(50), 2)) as results:
        next(results)
    assert len(begun) < 10 and not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_an_error_of_a_worker_is_raised():
    def work(number):
        if number == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        list(in_order(work, range(4), 2))
