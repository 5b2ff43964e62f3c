"""Lengths of tokenized pairs, read from the columns without making lists of them."""

from typing import Any, cast

from datasets import Dataset
from pyarrow import compute


def spans_of(dataset: Dataset) -> list[tuple[int, int, int]]:
    """Tokens of prompt, chosen and rejected answer of every pair, in the order of the rows."""
    lengths: Any = cast("Any", compute).list_value_length
    columns = (
        lengths(dataset.with_format("arrow")[name][:]).to_pylist()
        for name in ("prompt_ids", "chosen_ids", "rejected_ids")
    )
    return list(zip(*columns, strict=True))
