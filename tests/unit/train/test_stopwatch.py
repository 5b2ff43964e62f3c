"""A stopwatch adds up the time of one part of the work."""

import time

import pytest
import torch

from betahead.train.stopwatch import Stopwatch


def test_it_adds_up_what_runs_inside_and_nothing_else() -> None:
    watch = Stopwatch(torch.device("cpu"))
    assert watch.seconds == 0.0
    for _ in range(2):
        with watch.running():
            time.sleep(0.02)
        time.sleep(0.05)
    assert 0.04 <= watch.seconds < 0.09
    assert watch.seconds == watch.seconds


@pytest.mark.gpu
def test_on_a_gpu_it_counts_what_the_device_does_and_not_what_it_is_asked() -> None:
    watch = Stopwatch(torch.device("cuda"))
    square = torch.randn(4096, 4096, device="cuda")
    with watch.running():
        for _ in range(200):
            square = torch.tanh(square @ square)
    began = time.perf_counter()
    torch.cuda.synchronize()
    waited = time.perf_counter() - began
    assert watch.seconds >= 0.5 * waited > 0.0
