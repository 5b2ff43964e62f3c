"""Which batches are measured: a few that stand for the epoch, for a shuffled one and for one grouped by length."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

Row = dict[str, Any]


def longer_row(row: Row) -> int:
    """Tokens of the longer of a pair's two rows."""
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def distinct_tokens(row: Row) -> int:
    """Tokens of a pair's prompt and both answers."""
    return len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def epoch_of_batches(rows: Sequence[Row], size: int, order: str, seed: int) -> list[list[int]]:
    """The full batches of one epoch.

    Args:
        rows: the data set.
        size: pairs a batch.
        order: `random` is a shuffle; `grouped` is the order that `transformers` makes for
            `train_sampling_strategy=group_by_length`.
        seed: of the shuffle, in both.
    """
    rng = torch.Generator().manual_seed(seed)
    lengths = [longer_row(row) for row in rows]
    grouped = order == "grouped"
    index = (
        get_length_grouped_indices(lengths, size, generator=rng)
        if grouped
        else torch.randperm(len(rows), generator=rng).tolist()
    )
    return [index[start : start + size] for start in range(0, len(index) - size + 1, size)]


def chosen_batches(rows: Sequence[Row], size: int, count: int, order: str, seed: int = 0) -> list[list[Row]]:
    """A short batch to warm up on, then `count` batches at evenly spaced quantiles of padded length.

    Few steps can be afforded of an arm that takes half a minute a step, and two random ones may be short or long. A
    quantile's batch is the same for every arm.
    """
    batches = epoch_of_batches(rows, size, order, seed)
    assert len(batches) > count, f"{len(rows)} pairs make {len(batches)} batches, but {count} and one more are needed"
    by_length = sorted(batches, key=lambda batch: max(longer_row(rows[i]) for i in batch))
    warm = by_length.pop(0)
    picked = [by_length[int((number + 0.5) / count * len(by_length))] for number in range(count)]
    return [[rows[i] for i in batch] for batch in (warm, *picked)]
