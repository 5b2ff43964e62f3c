"""Builds one cache in processes of its own, some of which are killed; run as a script, so that the kills are real.

`python cache_builder.py FOLDER SEED` builds `FOLDER/killed/cache` and `FOLDER/together/cache`, and prints as JSON what
was counted.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny
import torch
from datasets import Dataset

from betahead.data.collate import PairCollator
from betahead.reference.cached import CachedReference
from betahead.reference.columns import ScoringReport, with_reference_columns
from betahead.reference.frozen import FrozenReference

ROWS = 120


def data() -> Dataset:
    return Dataset.from_list(tiny.records(ROWS))


def columns(folder: Path, progress: Path | None = None) -> tuple[Dataset, ScoringReport, int]:
    """The data set with its columns, the report, and the passes of one row that were made."""
    cached = CachedReference(FrozenReference(tiny.qwen2(), wants_log_ppl=True), folder, device=torch.device("cpu"))
    cached.cache.every = 0
    reports: list[ScoringReport] = []
    passes = 0

    def count(pairs: int) -> None:
        nonlocal passes
        passes += pairs
        if progress is not None:
            handle = os.open(progress, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, b"." * pairs)
            os.close(handle)

    scored = with_reference_columns(
        data(),
        cached,
        PairCollator(pad_token_id=0),
        batch_size=1,
        device=torch.device("cpu"),
        progress=count,
        report=reports.append,
    )
    return scored, reports[0], passes


def forked(folder: Path, progress: Path) -> int:
    """A child that builds the cache."""
    child = os.fork()
    if child == 0:
        columns(folder, progress)
        os._exit(0)
    return child


def killed(folder: Path, seed: int, rounds: int = 3) -> list[dict[str, int]]:
    """Builds that are killed at random moments: rows that were there, were finished in the round, and are there."""
    rng = random.Random(seed)
    counts: list[dict[str, int]] = []
    for number in range(rounds):
        progress = folder.parent / f"progress-{number}"
        before = rows_there(folder)
        child = forked(folder, progress)
        while not progress.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        counts.append({"before": before, "finished": progress.stat().st_size, "there": rows_there(folder)})
    return counts


def rows_there(folder: Path) -> int:
    cached = CachedReference(FrozenReference(tiny.qwen2(), wants_log_ppl=True), folder, device=torch.device("cpu"))
    return ROWS - len(cached.cache.missing(cached.keys.of_dataset(data())))


def together(folder: Path) -> list[int]:
    """How two builds at once end."""
    children = [forked(folder, folder.parent / f"progress-{number}") for number in range(2)]
    return [os.waitpid(child, 0)[1] for child in children]


if __name__ == "__main__":
    torch.set_num_threads(1)
    above = Path(sys.argv[1])
    for name in ("killed", "together"):
        (above / name).mkdir()
    rounds = killed(above / "killed" / "cache", int(sys.argv[2]))
    print(json.dumps({"killed": rounds, "together": together(above / "together" / "cache")}))
