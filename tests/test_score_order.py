"""Work beside each other, by threads and by copies of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import cv2
import pytest
import torch

from clbench.registry import ClbenchError
from clbench.score_order import ENDED, in_order, may_copy, one_thread_each

BY = pytest.mark.parametrize("copies", [False, pytest.param(True, marks=pytest.mark.skipif(not may_copy(), reason="no fork"))])


@BY
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers, copies):
    def slow_first(number):
        time.sleep(0.02 / (1 + number))
        return number, torch.get_num_threads() if workers > 1 else 1, os.getpid() == here

    here = os.getpid()
    with one_thread_each():
        found = list(in_order(slow_first, range(7), workers, copies))
    assert found == [(number, 1, not copies or workers == 1) for number in range(7)]


@BY
def test_what_was_not_begun_is_dropped(tmp_path, copies):
    def work(number):
        (tmp_path / str(number)).touch()
        time.sleep(0.02)

    threads = cv2.getNumThreads()
    with closing(in_order(work, range(50), 2, copies)) as results:
        next(results)
    assert len(list(tmp_path.iterdir())) < 10
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name or "ExecutorManager" in thread.name]
    assert cv2.getNumThreads() == threads


@BY
def test_an_error_of_a_worker_is_raised(copies):
    def work(number):
        if number == 1:
            raise ClbenchError("one")

    with pytest.raises(ClbenchError, match="one"):
        list(in_order(work, range(4), 2, copies))


def test_a_copy_that_is_killed_is_one_sentence():
    def work(number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(ClbenchError) as caught:
        list(in_order(work, range(8), 2, copies=True))
    assert str(caught.value) == ENDED and "same command" in ENDED


def test_a_gpu_that_is_open_and_other_systems_keep_to_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert not may_copy()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not may_copy()


PARENT = """
import os, time
from contextlib import closing
from pathlib import Path
from clbench.score_order import in_order

def work(number):
    Path(f"{folder}/{os.getpid()}").touch()
    time.sleep(number and 600)

folder = os.environ["FOLDER"]
try:
    with closing(in_order(work, range(3), 2, copies=True)) as results:
        list(results)
except KeyboardInterrupt:
    raise SystemExit(130)
"""


def alive(process: int) -> bool:
    try:
        return "Z" not in open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[:1]
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("number", "times"), [(signal.SIGKILL, 1), (signal.SIGINT, 1), (signal.SIGINT, 4)])
def test_copies_end_with_the_first_process(tmp_path, number, times):
    """Whether it was killed, or somebody pressed Ctrl-C, once or again and again."""
    asked = {"env": {**os.environ, "FOLDER": str(tmp_path)}, "start_new_session": True, "stderr": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], **asked)
    try:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        for _ in range(times):
            (os.kill if number == signal.SIGKILL else os.killpg)(parent.pid, number)
            time.sleep(0.1)
        assert parent.wait(60) != 0
        if number == signal.SIGINT and times == 1:
            assert parent.returncode == 130 and parent.stderr.read() == b""
    finally:
        parent.kill()
        parent.wait()
    copies = [int(file.name) for file in tmp_path.iterdir()]
    wait_until(lambda: not any(map(alive, copies)))


@pytest.mark.skipif(sys.platform != "linux", reason="asks for copies")
def test_ctrl_c_is_for_the_first_process(tmp_path):
    def work(number):
        os.kill(os.getpid(), signal.SIGINT)  # a terminal sends it to all processes
        (tmp_path / str(number)).touch()
        return number

    assert list(in_order(work, range(4), 2, copies=True)) == [0, 1, 2, 3] and len(list(tmp_path.iterdir())) == 4


def wait_until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
