"""Tokenized pairs as trunks and branches, end to end in one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from betahead.data.collate import pair_columns
from betahead.data.passes import PairTokens, packed_tokens

ANSWERS = ("chosen_ids", "rejected_ids")


@dataclass(frozen=True, kw_only=True)
class PackedCollator:
    """Packs tokenized pairs into the dict that `PackedPairs.from_dict` reads: each prompt once, its answers after it.

    Everything that the pass needs to know of lengths is worked out here, on the host, so that nothing has to be read
    back from the device. Columns of one number a pair pass through as float32 when every pair has them.

    Args:
        answers: columns of token ids that follow the prompt, in this order.

    Example:
        >>> batch = PackedCollator()([
        ...     {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6], "ppl_mask": [False, True, True]},
        ...     {"prompt_ids": [7, 8], "chosen_ids": [9], "rejected_ids": [10, 11], "ppl_mask": [False, True]},
        ... ])
        >>> batch["input_ids"]
        tensor([ 1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11])
        >>> batch["position_ids"]
        tensor([0, 1, 2, 3, 4, 3, 0, 1, 2, 2, 3])
        >>> batch["spans"]
        ((3, 2, 1), (2, 1, 2))
        >>> batch["answer_at"]
        tensor([2, 3, 7, 2, 7, 9])
        >>> batch["answer_ids"]
        tensor([ 4,  5,  9,  6, 10, 11])
        >>> batch["answer_row"]
        tensor([0, 0, 1, 2, 3, 3])
        >>> batch["ppl_at"]
        tensor([0, 1, 6])
        >>> batch["ppl_ids"]
        tensor([2, 3, 8])
        >>> batch["prompt_at"]
        tensor([[0, 1, 2],
                [6, 7, 7]])
    """

    answers: tuple[str, ...] = ANSWERS

    def pass_tokens(self, pairs: Sequence[PairTokens]) -> int:
        """Tokens of a batch of pairs of these lengths."""
        return packed_tokens(pairs)

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The batch of these records."""
        parts = [[np.asarray(pair[name]) for name in ("prompt_ids", *self.answers)] for pair in pairs]
        spans = tuple(tuple(len(part) for part in row) for row in parts)
        starts = [0, *accumulate(sum(span) for span in spans)][:-1]
        last = [start + span[0] - 1 for start, span in zip(starts, spans, strict=True)]
        # Answers by kind, as the padded road has its rows: all chosen ones, then all rejected ones.
        at: list[np.ndarray] = []
        for answer in range(1, len(self.answers) + 1):
            for start, span, before in zip(starts, spans, last, strict=True):
                first = start + sum(span[:answer])
                at.append(np.concatenate([[before], np.arange(first, first + span[answer] - 1)]))
        counted = [np.flatnonzero(pair["ppl_mask"]) for pair in pairs]
        longest = max(span[0] for span in spans)
        numbers = {
            "prompt_tokens": np.array([span[0] for span in spans]),
            "input_ids": np.concatenate([part for row in parts for part in row]),
            "position_ids": np.concatenate([_positions(span) for span in spans]),
            "answer_at": np.concatenate(at),
            "answer_ids": np.concatenate([row[answer] for answer in range(1, len(self.answers) + 1) for row in parts]),
            "answer_row": np.repeat(np.arange(len(at)), [len(one) for one in at]),
            "ppl_at": np.concatenate([start + one - 1 for start, one in zip(starts, counted, strict=True)]),
            "ppl_ids": np.concatenate([row[0][one] for row, one in zip(parts, counted, strict=True)]),
            "ppl_row": np.repeat(np.arange(len(pairs)), [len(one) for one in counted]),
            "prompt_at": np.stack(
                [start + np.minimum(np.arange(longest), span[0] - 1) for start, span in zip(starts, spans, strict=True)]
            ),
        }
        batch = {name: torch.from_numpy(value.astype(np.int64)) for name, value in numbers.items()}
        return {**batch, "spans": spans, **pair_columns(pairs)}


def _positions(span: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.arange(span[0]), *(span[0] + np.arange(answer) for answer in span[1:])])
