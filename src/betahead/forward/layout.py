"""Who may look at whom in a packed batch: every answer at its prompt and at itself, nobody at anybody else.

The first answer of a prompt goes on where the prompt ends, so both are one ordinary causal sequence. Every further
answer is a sequence of queries whose keys are the prompt's and its own. That is the whole layout; the attention
functions only differ in how they carry it out.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from betahead.types import PackedPairs

Kernel = Literal["auto", "sdpa", "varlen", "flex"]
KERNELS: tuple[Kernel, ...] = ("auto", "sdpa", "varlen", "flex")


class Sequences(NamedTuple):
    """Causal sequences whose queries are the last of their keys, in the order of the packed queries.

    Args:
        cu_queries: where each sequence's queries begin, and where the last one's end.
        cu_keys: the same for the gathered keys.
        key_at: positions of the keys, gathered.
        most_queries: queries of the longest sequence.
        most_keys: its keys.
    """

    cu_queries: Int[Tensor, " sequences+1"]
    cu_keys: Int[Tensor, " sequences+1"]
    key_at: Int[Tensor, " keys"]
    most_queries: int
    most_keys: int


class PaddedRows(NamedTuple):
    """Every prompt with all of its answers as a padded row, for attention with a mask.

    Args:
        token_at: position in the packed batch of each place of a row; padding repeats the row's first token.
        place_of: the place of each packed token in the rows laid end to end.
    """

    token_at: Int[Tensor, "pairs longest"]
    place_of: Int[Tensor, " tokens"]


class TrunkLayout:
    """The spans of a packed batch, and what attention functions need of them, each worked out once a batch.

    Args:
        spans: tokens of prompt and answers, per pair.
        device: where the masks and indices are wanted.
        kernel: what carries the attention out; `auto` leaves it to the device and the model.

    Attributes:
        windows: the windows that layers have asked for so far.
        declined: why the kernel for many sequences did not serve layers whose kernel is `auto`, as words after "it".
    """

    def __init__(self, spans: Sequence[Sequence[int]], device: torch.device, kernel: Kernel = "auto") -> None:
        self.spans = tuple(tuple(span) for span in spans)
        self.device = device
        self.kernel: Kernel = kernel
        self.starts = tuple([0, *accumulate(sum(span) for span in self.spans)][:-1])
        self.tokens = sum(sum(span) for span in self.spans)
        self.block_masks: dict[int | None, Any] = {}
        self.windows: set[int | None] = set()
        self.declined: set[str] = set()
        self._masks: dict[object, Tensor] = {}

    @classmethod
    def of(cls, batch: PackedPairs, kernel: Kernel = "auto") -> "TrunkLayout":
        """The layout of a batch."""
        return cls(batch.spans, batch.input_ids.device, kernel)

    @cached_property
    def sequences(self) -> Sequences:
        """The layout as causal sequences with fewer queries than keys."""
        queries, keys, at = [], [], list[np.ndarray]()
        for start, (prompt, first, *others) in zip(self.starts, self.spans, strict=True):
            queries.append(prompt + first)
            keys.append(prompt + first)
            at.append(start + np.arange(prompt + first))
            begins = start + prompt + first
            for answer in others:
                queries.append(answer)
                keys.append(prompt + answer)
                at.extend([start + np.arange(prompt), begins + np.arange(answer)])
                begins += answer
        cu_queries, cu_keys = (np.cumsum([0, *lengths]).astype(np.int32) for lengths in (queries, keys))
        return Sequences(
            cu_queries=self._moved(cu_queries),
            cu_keys=self._moved(cu_keys),
            key_at=self._moved(np.concatenate(at)),
            most_queries=max(queries),
            most_keys=max(keys),
        )

    @cached_property
    def rows(self) -> PaddedRows:
        """The layout as one padded row per prompt."""
        lengths = np.array([sum(span) for span in self.spans])
        longest = int(lengths.max())
        place = np.arange(longest)
        starts = np.array(self.starts)
        token_at = starts[:, None] + np.where(place < lengths[:, None], place, 0)
        place_of = np.concatenate([row * longest + np.arange(length) for row, length in enumerate(lengths)])
        return PaddedRows(token_at=self._moved(token_at), place_of=self._moved(place_of))

    @cached_property
    def roles(self) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
        """Pair, branch (0 is the prompt) and position of every packed token."""
        pair, branch, position = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
        for number, span in enumerate(self.spans):
            pair.append(np.full(sum(span), number))
            branch.append(np.repeat(np.arange(len(span)), span))
            position.append(np.arange(span[0]))
            position.extend(span[0] + np.arange(answer) for answer in span[1:])
        a, b, c = (self._moved(np.concatenate(one)) for one in (pair, branch, position))
        return a, b, c

    def row_mask(self, window: int | None) -> Bool[Tensor, "pairs 1 longest longest"]:
        """True where the token of a padded row may look; padding looks at itself, so that no softmax is empty.

        Args:
            window: how many tokens back a token may look, itself included; None for all.
        """
        key = ("rows", window)
        if key not in self._masks:
            rows, (_, branch, position) = self.rows, self.roles
            lengths = self._moved(np.array([sum(span) for span in self.spans]))
            padding = torch.arange(rows.token_at.shape[1], device=self.device) >= lengths.unsqueeze(1)
            branch_at = branch[rows.token_at].masked_fill(padding, -1)
            self._masks[key] = _mask_of(branch_at, position[rows.token_at], window).unsqueeze(1)
        return self._masks[key]

    def branch_mask(self, prompt: int, answer: int, window: int | None) -> Bool[Tensor, "queries keys"]:
        """True where a token of an answer may look: at its prompt, then at itself."""
        key = (prompt, answer, window)
        if key not in self._masks:
            query = torch.arange(prompt, prompt + answer, device=self.device).unsqueeze(1)
            back = query - torch.arange(prompt + answer, device=self.device)
            self._masks[key] = (back >= 0) if window is None else (back >= 0) & (back < window)
        return self._masks[key]

    def _moved(self, values: np.ndarray) -> Tensor:
        # Not blocking: the host never waits for the device in a step.
        return torch.from_numpy(values).to(self.device, non_blocking=True)


def _mask_of(
    branch: Int[Tensor, "pairs longest"], position: Int[Tensor, "pairs longest"], window: int | None
) -> Bool[Tensor, "pairs longest longest"]:
    """Branch 0 is the prompt, −1 padding."""
    query, key = branch.unsqueeze(2), branch.unsqueeze(1)
    back = position.unsqueeze(2) - position.unsqueeze(1)
    seen = (query >= 0) & ((key == 0) | (key == query)) & (back >= 0)
    if window is not None:
        seen = seen & (back < window)
    return seen | torch.eye(branch.shape[1], dtype=torch.bool, device=branch.device)
