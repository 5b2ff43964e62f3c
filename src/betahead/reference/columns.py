"""The reference's scores of a whole data set, computed once and kept as columns."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from datasets import Dataset

from betahead.reference.frozen import FrozenReference
from betahead.types import bundled, on_device

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


def row_lengths(dataset: Dataset) -> list[int]:
    """Tokens of the longer of each pair's two rows: pairs of like length, passed together, need little padding."""
    return [
        len(p) + max(len(c), len(r))
        for p, c, r in zip(dataset["prompt_ids"], dataset["chosen_ids"], dataset["rejected_ids"], strict=True)
    ]


def with_reference_columns(
    dataset: Dataset,
    reference: FrozenReference,
    collate: Collate,
    *,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int], None] = lambda _: None,
) -> Dataset:
    """The data set with `ref_chosen_logps`, `ref_rejected_logps` and, if the reference was asked for it, `ref_log_ppl`.

    Rows are scored in order of length, so that little is spent on padding; the columns are in the order of the rows.

    Args:
        dataset: tokenized records.
        reference: the model to score with; it must not have been trained on these pairs.
        collate: makes a batch of records.
        batch_size: pairs per pass.
        device: where the model is.
        progress: called with the number of pairs of each finished pass.
    """
    lengths = row_lengths(dataset)
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    columns: dict[str, list[float]] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = on_device(collate([dataset[i] for i in rows]), device)
        for name, values in reference.scores(bundled(batch)).columns().items():
            column = columns.setdefault(name, [0.0] * len(order))
            for row, value in zip(rows, values.tolist(), strict=True):
                column[row] = value
        progress(len(rows))
    for name, column in columns.items():
        dataset = dataset.add_column(name, column)
    return dataset
