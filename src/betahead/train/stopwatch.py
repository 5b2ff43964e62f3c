"""Seconds that a device spends on one part of the work, without waiting for it in between."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Adds up the time of the work started inside `running`.

    A CUDA device works through a queue: marks are put into it, and read when the sum is asked for.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._marks: list[tuple[Any, Any]] = []

    @contextmanager
    def running(self) -> Generator[None]:
        """Time what is started inside."""
        if self._device.type != "cuda":
            began = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - began
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record(torch.cuda.current_stream(self._device))
        yield
        last.record(torch.cuda.current_stream(self._device))
        self._marks.append((first, last))

    @property
    def seconds(self) -> float:
        """The sum so far; waits for a CUDA device."""
        for first, last in self._marks:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000.0
        self._marks.clear()
        return self._seconds
