"""A cache that is killed, shared or damaged while it is built ends as the one that was not."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cache_builder
import pytest
import tiny
import torch
from datasets import Dataset

from betahead.data.collate import PairCollator
from betahead.reference.cached import CachedReference
from betahead.reference.columns import ScoringReport, Share, with_reference_columns
from betahead.reference.frozen import FrozenReference
from betahead.reference.shards import listed_shards

NAMES = ("ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl")
CPU = torch.device("cpu")
COLLATE = PairCollator(pad_token_id=0)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a cache whose builders were killed and one that two processes filled, and what was counted."""
    folder = tmp_path_factory.mktemp("builds")
    seed = str(time.time_ns() % 2**32)
    words = [sys.executable, cache_builder.__file__, str(folder), seed]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return folder, json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone() -> Dataset:
    """The columns without any cache."""
    reference = FrozenReference(tiny.qwen2(), wants_log_ppl=True)
    return with_reference_columns(cache_builder.data(), reference, COLLATE, batch_size=1, device=CPU)


def assert_same(scored: Dataset, wanted: Dataset) -> None:
    for name in NAMES:
        assert list(scored[name]) == list(wanted[name]), name


def test_a_build_that_is_killed_at_any_moment_goes_on_where_it_was(
    builds: tuple[Path, dict[str, Any]], alone: Dataset
) -> None:
    folder, rounds = builds[0] / "killed" / "cache", builds[1]["killed"]
    for row in rounds:
        assert row["finished"] <= row["there"] - row["before"] <= row["finished"] + 1, rounds
    assert rounds[-1]["there"] > 0, rounds
    scored, report, passes = cache_builder.columns(folder)
    assert passes == cache_builder.ROWS - rounds[-1]["there"]
    assert (report.found, report.skipped) == (rounds[-1]["there"], ())
    assert_same(scored, alone)
    again, report, passes = cache_builder.columns(folder)
    assert (passes, report.found) == (0, cache_builder.ROWS)
    assert_same(again, alone)


def test_two_processes_that_build_at_once_end_with_one_correct_cache(
    builds: tuple[Path, dict[str, Any]], alone: Dataset
) -> None:
    place = builds[0] / "together" / "cache"
    assert builds[1]["together"] == [0, 0]
    scored, report, passes = cache_builder.columns(place)
    assert (passes, report.found, report.skipped) == (0, cache_builder.ROWS, ())
    assert_same(scored, alone)
    (folder,) = place.iterdir()
    assert 1 <= len(listed_shards(folder)) <= 2
    assert not [path for path in folder.iterdir() if path.suffix != ".parquet"]


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "folders of their own"])
def test_ranks_share_the_passes_and_have_the_same_columns(shared: bool, tmp_path: Path) -> None:
    rows = Dataset.from_list(tiny.records(22))
    ranks = 3
    barrier = threading.Barrier(ranks)
    found: dict[int, Dataset] = {}
    counts = [0] * ranks
    reports: list[ScoringReport] = []

    # Made here, because threads share the seed.
    models = [tiny.qwen2() for _ in range(ranks)]

    def work(rank: int) -> None:
        folder = tmp_path / ("cache" if shared else str(rank))
        cached = CachedReference(FrozenReference(models[rank], wants_log_ppl=True), folder, device=CPU)

        def count(pairs: int) -> None:
            counts[rank] += pairs

        found[rank] = with_reference_columns(
            rows,
            cached,
            COLLATE,
            batch_size=2,
            device=CPU,
            progress=count,
            share=Share(rank=rank, ranks=ranks, wait=lambda: barrier.wait() and None),
            report=reports.append,
        )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(counts) == ([6, 8, 8] if shared else [22, 22, 22])
    assert {report.found for report in reports} == {0}
    wanted = with_reference_columns(
        rows, FrozenReference(tiny.qwen2(), wants_log_ppl=True), COLLATE, batch_size=2, device=CPU
    )
    for rank in range(ranks):
        assert_same(found[rank], wanted)


def test_a_damaged_shard_costs_its_rows_and_nothing_else(tmp_path: Path) -> None:
    def columns() -> tuple[Dataset, ScoringReport]:
        cached = CachedReference(FrozenReference(tiny.qwen2(), wants_log_ppl=True), tmp_path, device=CPU)
        reports: list[ScoringReport] = []
        scored = [
            with_reference_columns(part, cached, COLLATE, batch_size=4, device=CPU, report=reports.append)
            for part in parts
        ]
        return scored[0], reports[0]

    rows = Dataset.from_list(tiny.records(20))
    parts = [rows.select(range(12)), rows.select(range(12, 20))]
    wanted, _ = columns()
    (folder,) = tmp_path.iterdir()
    first, _ = listed_shards(folder)
    first.write_bytes(first.read_bytes()[:100])
    scored, report = columns()
    assert_same(scored, wanted)
    assert report.found == 0
    assert len(report.skipped) == 1
    assert str(first) in report.skipped[0]
    assert columns()[1].found == 12
