from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import torch

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
