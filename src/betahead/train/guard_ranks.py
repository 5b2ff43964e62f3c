"""A number that is not finite on one rank is known on all: each says the same of it, and keeps what itself has seen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from betahead.train.ranks import from_all_ranks, own_rank

Write = Callable[[str, dict[str, Any]], Path]
"""Keeps what was seen under a name, and says where."""


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """A number that is not finite somewhere.

    Args:
        name: of the number.
        value: on the first of the ranks.
        ranks: where it is not finite.
        count: of all ranks.
    """

    name: str
    value: float
    ranks: list[int]
    count: int

    @property
    def place(self) -> str:
        """The ranks in words, with a space before; nothing where there is only one."""
        if self.count == 1:
            return ""
        if len(self.ranks) == self.count:
            return " on every rank"
        return f" on rank{'s' if len(self.ranks) > 1 else ''} {', '.join(map(str, self.ranks))}"


def not_finite(name: str, values: Sequence[float]) -> NotFinite | None:
    """What is to be said of a number that every rank has a value of; None where all are finite."""
    ranks = [rank for rank, value in enumerate(values) if not math.isfinite(value)]
    return NotFinite(name=name, value=values[ranks[0]], ranks=ranks, count=len(values)) if ranks else None


def first_of_ranks(mine: tuple[str, float] | None) -> NotFinite | None:
    """What the first rank that has found a number has found, on every rank; each must ask, with its own or None."""
    found = from_all_ranks(mine)
    first = next((one for one in found if one is not None), None)
    if first is None:
        return None
    ranks = [rank for rank, one in enumerate(found) if one is not None and one[0] == first[0]]
    return NotFinite(name=first[0], value=first[1], ranks=ranks, count=len(found))


def written_on_ranks(found: NotFinite, write: Write, seen: dict[str, Any]) -> Path:
    """Keep what every rank has seen in a file of its own, and name that of the first rank with the number.

    It returns once all of them are written: a launcher ends the others as soon as one of them ends.
    """
    rank = own_rank()
    mine = write("not_finite.json" if rank == 0 else f"not_finite.rank{rank}.json", seen)
    return Path(from_all_ranks(str(mine))[found.ranks[0]])
