"""Tokenized pairs as one padded batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from betahead.data.passes import PairTokens
from betahead.types import PAIR_COLUMNS

_PER_PAIR = (
    "ref_chosen_logps",
    "ref_rejected_logps",
    "ref_log_ppl",
    "ref_chosen_common_logps",
    "ref_rejected_common_logps",
    *PAIR_COLUMNS,
)


@dataclass(frozen=True, kw_only=True)
class PairCollator:
    """Pads tokenized pairs into the dict that `PairBatch.from_dict` reads: all chosen rows, then all rejected rows.

    The reference's columns and `PAIR_COLUMNS` pass through as float32 when every pair has them.

    Args:
        pad_token_id: fills the rows at their right.
        pad_to_multiple_of: round the number of tokens up to a multiple of this.

    Example:
        >>> collate = PairCollator(pad_token_id=0)
        >>> batch = collate([
        ...     {"prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6], "ppl_mask": [False, True, True]},
        ...     {"prompt_ids": [7, 8], "chosen_ids": [9], "rejected_ids": [10, 11], "ppl_mask": [False, True]},
        ... ])
        >>> batch["input_ids"]
        tensor([[ 1,  2,  3,  4,  5],
                [ 7,  8,  9,  0,  0],
                [ 1,  2,  3,  6,  0],
                [ 7,  8, 10, 11,  0]])
        >>> batch["attention_mask"]
        tensor([[1, 1, 1, 1, 1],
                [1, 1, 1, 0, 0],
                [1, 1, 1, 1, 0],
                [1, 1, 1, 1, 0]])
        >>> batch["completion_mask"]
        tensor([[0, 0, 0, 1, 1],
                [0, 0, 1, 0, 0],
                [0, 0, 0, 1, 0],
                [0, 0, 1, 1, 0]])
        >>> batch["prompt_mask"]
        tensor([[1, 1, 1, 0, 0],
                [1, 1, 0, 0, 0]])
        >>> batch["ppl_mask"]
        tensor([[0, 1, 1, 0, 0],
                [0, 1, 0, 0, 0]])
    """

    pad_token_id: int
    pad_to_multiple_of: int = 1

    def pass_tokens(self, pairs: Sequence[PairTokens]) -> int:
        """Tokens that go through the model when these pairs are one batch, padding included."""
        return 2 * len(pairs) * self._rounded(max(pair.longer_row for pair in pairs))

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch of these records."""
        rows = [[*pair["prompt_ids"], *pair[answer]] for answer in ("chosen_ids", "rejected_ids") for pair in pairs]
        prompts = [len(pair["prompt_ids"]) for pair in pairs]
        tokens = self._rounded(max(len(row) for row in rows))
        completions = [
            [0] * prompt + [1] * (len(row) - prompt) for row, prompt in zip(rows, prompts + prompts, strict=True)
        ]
        batch = {
            "input_ids": _padded(rows, tokens, self.pad_token_id),
            "attention_mask": _padded([[1] * len(row) for row in rows], tokens, 0),
            "completion_mask": _padded(completions, tokens, 0),
            "prompt_mask": _padded([[1] * prompt for prompt in prompts], tokens, 0),
            "ppl_mask": _padded([[int(counts) for counts in pair["ppl_mask"]] for pair in pairs], tokens, 0),
        }
        return batch | pair_columns(pairs)

    def _rounded(self, tokens: int) -> int:
        return -(-tokens // self.pad_to_multiple_of) * self.pad_to_multiple_of


def pair_columns(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The columns with a number a pair that every one of these records has, float32: the reference's, and rules'."""
    columns = {name: [pair.get(name) for pair in pairs] for name in _PER_PAIR}
    return {
        name: torch.tensor(values, dtype=torch.float32)
        for name, values in columns.items()
        if all(value is not None for value in values)
    }


def _padded(rows: Sequence[Sequence[int]], tokens: int, fill: int) -> Tensor:
    return torch.tensor([[*row, *([fill] * (tokens - len(row)))] for row in rows], dtype=torch.long)
