"""Cutting pairs into passes: groups that go through the model together, with no more tokens than a budget allows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ("prompt_ids", "chosen_ids", "rejected_ids")
_OPEN = 16


@dataclass(frozen=True, kw_only=True)
class PairTokens:
    """The numbers of tokens of a pair's prompt and answers."""

    prompt: int
    chosen: int
    rejected: int

    @property
    def longer_row(self) -> int:
        """Tokens of the longer of the two rows that hold the prompt and one answer."""
        return self.prompt + max(self.chosen, self.rejected)


PassTokens = Callable[[Sequence[PairTokens]], int]
"""How many tokens go through the model when these pairs go together: what a forward road makes of them."""


def padded_tokens(pairs: Sequence[PairTokens]) -> int:
    """Tokens of the plain road: two rows a pair, each as long as the longest."""
    return 2 * len(pairs) * max(pair.longer_row for pair in pairs)


def packed_tokens(pairs: Sequence[PairTokens]) -> int:
    """Tokens of a road without padding that runs every prompt once."""
    return sum(pair.prompt + pair.chosen + pair.rejected for pair in pairs)


def tokens_of(record: Mapping[str, Any]) -> PairTokens:
    """The lengths of one tokenized record."""
    prompt, chosen, rejected = (len(record[name]) for name in FIELDS)
    return PairTokens(prompt=prompt, chosen=chosen, rejected=rejected)


def passes_of(pairs: Sequence[PairTokens], budget: int | None, pass_tokens: PassTokens) -> list[list[int]]:
    """Groups of positions in `pairs`, each within the budget: first fit, the largest pair first.

    A pair that is larger than the budget goes alone: `max_length` bounds it already, and leaving it out would change
    what is learned with the machine. The groups are a function of the lengths alone.

    Args:
        pairs: the lengths; may be those of a whole data set (a pair is tried in the last 16 groups only, so the time is
            linear).
        budget: tokens of a pass, at least 1; None for one pass of all pairs.
        pass_tokens: the tokens of a group; adding a pair must not lower them.

    Returns:
        Every position once: the group of the largest pair first, positions ascending within a group.

    Example:
        >>> lengths = [PairTokens(prompt=3, chosen=c, rejected=1) for c in (2, 6, 1, 2)]
        >>> passes_of(lengths, 12, packed_tokens)
        [[1], [0, 2], [3]]
    """
    if not pairs:
        return []
    if budget is None:
        return [list(range(len(pairs)))]
    alone = [pass_tokens([pair]) for pair in pairs]
    groups: list[list[int]] = []
    for position in sorted(range(len(pairs)), key=lambda i: (-alone[i], i)):
        for group in groups[-_OPEN:]:
            if pass_tokens([pairs[i] for i in (*group, position)]) <= budget:
                group.append(position)
                break
        else:
            groups.append([position])
    return [sorted(group) for group in groups]


@dataclass(frozen=True, kw_only=True)
class Oversized:
    """Pairs that are larger than the budget, each a pass of its own.

    Args:
        pairs: how many.
        largest: tokens of the largest.
        budget: tokens that a pass was to have at most.
    """

    pairs: int
    largest: int
    budget: int

    def line(self) -> str:
        """The same in one line."""
        return (
            f"pairs with more tokens than `max_batch_tokens` ({self.budget:,}): {self.pairs:,}, the largest "
            f"{self.largest:,}; each goes through the model alone"
        )


def oversized(pairs: Sequence[PairTokens], budget: int, pass_tokens: PassTokens) -> Oversized | None:
    """The pairs that do not fit into the budget, or None when every one does."""
    above = [tokens for tokens in (pass_tokens([pair]) for pair in pairs) if tokens > budget]
    return Oversized(pairs=len(above), largest=max(above), budget=budget) if above else None


@dataclass(frozen=True, kw_only=True)
class PassCollator:
    """From the records of a micro-batch to its passes, each collated by itself.

    Cutting happens here, where lengths are known without asking the device, and in the data loader's workers.

    Args:
        collate: makes a batch of records.
        budget: tokens of a pass, or None for one pass.
        pass_tokens: the tokens of a group of pairs on the road that reads the batches.

    Returns:
        `passes`, the batches, `pairs`, how many pairs each of them holds, and `places`, which of the records those are.
    """

    collate: Callable[[list[dict[str, Any]]], Mapping[str, Any]]
    budget: int | None
    pass_tokens: PassTokens

    def groups(self, records: Sequence[Mapping[str, Any]]) -> list[list[int]]:
        """Which records go together."""
        if self.budget is None:
            return [list(range(len(records)))]
        return passes_of([tokens_of(record) for record in records], self.budget, self.pass_tokens)

    def __call__(self, records: list[dict[str, Any]]) -> dict[str, list[Any]]:
        """The passes of these records."""
        groups = self.groups(records)
        return {
            "passes": [dict(self.collate([records[i] for i in group])) for group in groups],
            "pairs": [len(group) for group in groups],
            "places": groups,
        }
