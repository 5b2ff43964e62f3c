"""The pairs of a batch in words: what lies in a failure's file beside its numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow.compute
import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

list_lengths: Any = cast("Any", pyarrow.compute).list_value_length

PARTS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, eq=False, kw_only=True)
class SeenPass:
    """A training pass until its step has been taken.

    Args:
        batch: as the collator made it.
        losses: of every pair.
        shown: the detached numbers of every pair that `PreferenceModel` returns.
    """

    batch: Mapping[str, Any]
    losses: Tensor
    shown: Mapping[str, Tensor]


def described(
    passes: Sequence[SeenPass], tokenizer: PreTrainedTokenizerBase, dataset: Dataset | None
) -> list[dict[str, Any]]:
    """Every pair with its numbers, its tokens and texts, and its row of the data set where it is found there.

    Returns:
        JSON values; `offends` says whose loss is not finite.
    """
    rows: list[dict[str, Any]] = []
    for one in passes:
        numbers = {"loss": one.losses, **one.shown}
        columns = {name: plain_numbers(value) for name, value in numbers.items()}
        for place, ids in enumerate(ids_of(one.batch)):
            own = {name: values[place] for name, values in columns.items()}
            found = None if dataset is None else row_of(dataset, ids)
            rows.append(
                {
                    "offends": isinstance(own["loss"], str),
                    **own,
                    **(found or {}),
                    **{part: tokenizer.decode(tokens) for part, tokens in zip(PARTS, ids, strict=True)},
                    **{f"{part}_ids": tokens for part, tokens in zip(PARTS, ids, strict=True)},
                }
            )
    return rows


def plain_numbers(values: Tensor) -> list[float | str]:
    """Numbers as JSON has them: what is not finite becomes the text that Python's `float()` reads back."""
    return [value if math.isfinite(value) else str(value) for value in values.double().flatten().tolist()]


def ids_of(batch: Mapping[str, Any]) -> list[tuple[list[int], list[int], list[int]]]:
    """The tokens of prompt and answers of every pair, of a packed batch or a padded one."""
    if "spans" in batch:
        parts = torch.split(batch["input_ids"].cpu(), [length for span in batch["spans"] for length in span])
        found = [part.tolist() for part in parts]
        return [(found[i], found[i + 1], found[i + 2]) for i in range(0, len(found), 3)]
    ids, answers, prompts = (batch[name].cpu() for name in ("input_ids", "completion_mask", "prompt_mask"))
    pairs = len(prompts)

    def where(row: int, mask: Tensor) -> list[int]:
        return cast("Tensor", ids[row][mask.bool()]).tolist()

    return [(where(i, prompts[i]), where(i, answers[i]), where(i + pairs, answers[i + pairs])) for i in range(pairs)]


def row_of(dataset: Dataset, ids: Sequence[list[int]]) -> dict[str, Any] | None:
    """The first row of tokenized records with these tokens: its number, and its prompt's id."""
    columns = [f"{part}_ids" for part in PARTS]
    if not set(columns) <= set(dataset.column_names):
        return None
    # Lengths first, which Arrow knows without looking at tokens; few rows are left.
    alike = np.ones(len(dataset), dtype=bool)
    for column, tokens in zip(columns, ids, strict=True):
        lengths = list_lengths(dataset.with_format("arrow")[column][:])
        alike &= np.asarray(lengths) == len(tokens)
    for row in np.flatnonzero(alike).tolist():
        record = dataset[row]
        if all(list(record[column]) == tokens for column, tokens in zip(columns, ids, strict=True)):
            return {"row": row} | ({"prompt_id": record["prompt_id"]} if "prompt_id" in record else {})
    return None
