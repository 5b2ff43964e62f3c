"""Several ranks build one cache of the reference's scores, each row once, also when one of them was killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import same_numbers
import torch
from together import Ranks
from torch import Tensor

from betahead.reference.frozen import FrozenReference
from betahead.reference.shards import listed_shards, read_shard

ROWS = 32


def scored(folder: str, kill_after: int | None = None) -> dict[str, Tensor]:
    """The columns as a trainer has them on this rank, and how many rows the rank scored itself.

    Args:
        folder: of the cache.
        kill_after: passes after which the second rank is killed.
    """
    passes: list[int] = []
    inner = FrozenReference.scores

    def counted(self: FrozenReference, batch: Any) -> Any:
        if kill_after is not None and len(passes) == kill_after and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        found = inner(self, batch)
        passes.append(len(found.chosen_logps))
        return found

    FrozenReference.scores = counted
    try:
        made = same_numbers.trainer_of(
            Path(folder) / "run",
            "joint",
            batch=4,
            reference_cache=str(Path(folder) / "cache"),
            precompute_ref_batch_size=3,
        )
    finally:
        FrozenReference.scores = inner
    columns = {name: made.train_dataset[name] for name in ("ref_chosen_logps", "ref_rejected_logps")}
    found = {name: torch.tensor(list(values), dtype=torch.float64) for name, values in columns.items()}
    return found | {"scored": torch.tensor(sum(passes))}


def entries(folder: Path) -> list[bytes]:
    """The keys of all shards, as often as they are there."""
    return [key for path in listed_shards(next((folder / "cache").iterdir())) for key in read_shard(path)]


def assert_same(ranks: list[dict[str, Tensor]], wanted: dict[str, Tensor]) -> None:
    for found in ranks:
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-5)


def test_two_ranks_score_every_row_once_and_both_have_all(two_ranks: Ranks, tmp_path: Path) -> None:
    wanted = scored(str(tmp_path / "one"))
    ranks = two_ranks.run(scored, str(tmp_path / "two"))
    assert [int(found["scored"]) for found in ranks] == [17, 15]
    assert_same(ranks, wanted)
    keys = entries(tmp_path / "two")
    assert len(keys) == len(set(keys)) == 2 * ROWS
    again = two_ranks.run(scored, str(tmp_path / "two"))
    assert [int(found["scored"]) for found in again] == [0, 0]
    assert_same(again, wanted)


@pytest.mark.slow
def test_what_a_killed_rank_leaves_is_completed_by_the_next_run(two_ranks: Ranks, tmp_path: Path) -> None:
    doomed = Ranks(2)
    with pytest.raises(AssertionError):
        doomed.run(scored, str(tmp_path / "two"), 2)
    doomed.stop()
    there = len(entries(tmp_path / "two")) // 2
    ranks = two_ranks.run(scored, str(tmp_path / "two"))
    assert 0 < there < ROWS
    assert sum(int(found["scored"]) for found in ranks) == ROWS - there
    assert_same(ranks, scored(str(tmp_path / "one")))
    keys = entries(tmp_path / "two")
    assert len(set(keys)) == 2 * ROWS
