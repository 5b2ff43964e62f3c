"""What the intervals and p-values of a plan are about: other configurations too, its pool alone, or one search."""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["configurations", "pool", "search"]

HOLDS: dict[Scope, str] = {
    "configurations": "for other configurations, seeds and prompts",
    "pool": "for this pool of configurations only",
    "search": "for this one search only",
}
"""For what the intervals and p-values hold, in words."""


@dataclass(frozen=True, kw_only=True)
class Searches:
    """How the searches behind the finals of a plan share its pool.

    Args:
        configurations: Q of the pool.
        trials: n of them that one search sees.
        finals: each of which follows a search.
    """

    configurations: int
    trials: int
    finals: int

    @property
    def scope(self) -> Scope:
        """Whether every final has a search of its own, searches overlap in one pool, or all of them are one."""
        if self.configurations >= self.trials * self.finals:
            return "configurations"
        return "search" if self.trials == self.configurations else "pool"

    @property
    def seed_sets(self) -> int:
        """How many searches have tuning seeds of their own: all where each has its own configurations, and else none.

        What seeds that all searches shared prefer would be common to all finals, as a pool that they shared is. A
        search of a single trial has nothing to prefer.
        """
        return self.finals if self.scope == "configurations" and self.trials > 1 else 1
