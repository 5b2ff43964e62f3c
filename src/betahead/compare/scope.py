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

LEADS: dict[Scope, str] = {
    "configurations": "Every final has a search of its own, which no other shares a point with",
    "pool": "Searches overlap in one pool",
    "search": "Every search saw the whole pool",
}
"""How the searches share the pool, in words."""


def consequence(scope: Scope) -> str:
    """What follows from `LEADS`, for whoever reads a finished comparison; it begins with the colon."""
    warned = {
        "configurations": ".",
        "pool": ", and with others a verdict may turn.",
        "search": ". All finals of a method have the same pick, whose luck is in no interval and no p-value, and a "
        "placebo may have picked another configuration.",
    }[scope]
    return f": intervals and p-values are {HOLDS[scope]}{warned}"


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
